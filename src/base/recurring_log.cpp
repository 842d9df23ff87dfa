#include "base/recurring_log.hpp"

#include <utility>

#include <fmt/format.h>

namespace sluice {

std::optional<std::size_t> RecurringLog::due(const std::string& kind) {
  const std::scoped_lock lock(mutex_);
  const Clock::Monotonic now = clock_.now();
  Told* const told = told_.find(kind);
  if (told == nullptr) {
    told_.insert(kind, Told{now, 0});
    return 0;
  }
  if (now - told->at < kQuiet) {
    ++told->left_out;
    return std::nullopt;
  }
  return std::exchange(*told, Told{now, 0}).left_out;
}

void RecurringLog::write(log::Level level, std::string_view component, const std::string& kind,
                         std::string_view message) {
  const std::optional<std::size_t> left_out = due(kind);
  if (!left_out) {
    log::debug(component, message);
  } else if (*left_out == 0) {
    log::write(level, component, message);
  } else {
    log::write(level, component, fmt::format("{} ({} more like it since the last such line)", message, *left_out));
  }
}

}  // namespace sluice
