#include "pull/resume.hpp"

#include <algorithm>
#include <random>

#include "runtime/every.hpp"

namespace sluice::pull {

runtime::Task<void> back_off(std::chrono::milliseconds backoff, std::size_t failures) {
  thread_local std::minstd_rand random{std::random_device{}()};
  const auto limit = std::chrono::milliseconds(5000);
  auto wait = backoff * (1 << std::min<std::size_t>(failures, 10));
  wait = std::min<std::chrono::milliseconds>(wait, limit);
  const double factor = 0.5 + 0.5 * std::uniform_real_distribution<double>(0, 1)(random);
  co_await runtime::sleep_for(std::chrono::duration_cast<std::chrono::nanoseconds>(wait * factor));
}

}  // namespace sluice::pull
