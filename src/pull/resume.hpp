// What fills and ranges that are passed through have in common: how they are read, taken up again, and held back.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

#include "base/errc_kind.hpp"
#include "runtime/task.hpp"

namespace sluice::pull {

// Up to this size a blob from behind a redirect is given out when its digest is right, and not before.
inline constexpr std::uint64_t kHeldWholeBytes = 1024 * 1024;

// Upstream may give another answer, or the rest of this one, when it is asked again.
constexpr bool is_resumable(Errc code) noexcept { return is_outage(code) || code == Errc::overloaded; }

struct TransferParams {
  // One read from upstream, one step of what readers see.
  std::size_t read_bytes = 256 * 1024;
  // How often in a row a broken download is taken up again without a byte in between.
  std::size_t attempts = 5;
  // The first wait before that; doubled each time, with jitter, up to 5 s.
  std::chrono::milliseconds backoff{200};
  // How long clients that take nothing keep a connection to upstream, of which there are few; and how long in all,
  // while others wait for one, those that take little. When they go on, upstream is asked for the rest. 0: for ever.
  std::chrono::milliseconds patience{10'000};
};

// Waits `backoff`, which that many failures in a row before this one have doubled. Throws when the task is cancelled.
runtime::Task<void> back_off(std::chrono::milliseconds backoff, std::size_t failures);

}  // namespace sluice::pull
