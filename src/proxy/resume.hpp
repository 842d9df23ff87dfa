// How a download that broke is taken up again, and how much of what comes from behind a redirect is held back.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

#include "base/errc_kind.hpp"
#include "runtime/task.hpp"

namespace sluice::proxy {

// Up to this size a blob from behind a redirect is given out when its digest is right, and not before.
inline constexpr std::uint64_t kHeldWholeBytes = 1024 * 1024;

// Upstream may give another answer, or the rest of this one, when it is asked again.
constexpr bool is_resumable(Errc code) noexcept { return is_outage(code) || code == Errc::overloaded; }

struct ResumeParams {
  // How often in a row a broken download is taken up again without a byte in between.
  std::size_t attempts = 5;
  // The first wait before that; doubled each time, with jitter, up to 5 s.
  std::chrono::milliseconds backoff{200};
};

// Waits after that many failures in a row before this one. Throws when the task is cancelled.
runtime::Task<void> back_off(ResumeParams params, std::size_t failures);

}  // namespace sluice::proxy
