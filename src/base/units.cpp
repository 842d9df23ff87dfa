#include "base/units.hpp"

#include <array>
#include <charconv>
#include <cmath>
#include <limits>

#include <fmt/format.h>

namespace sluice {
namespace {

struct Unit {
  std::string_view name;
  double factor;
};

constexpr double kKi = 1024.0;
constexpr std::array<Unit, 17> kByteUnits{{{"B", 1},
                                           {"kB", 1e3},
                                           {"KB", 1e3},
                                           {"MB", 1e6},
                                           {"GB", 1e9},
                                           {"TB", 1e12},
                                           {"K", kKi},
                                           {"M", kKi* kKi},
                                           {"G", kKi* kKi* kKi},
                                           {"T", kKi* kKi* kKi* kKi},
                                           {"KiB", kKi},
                                           {"MiB", kKi* kKi},
                                           {"GiB", kKi* kKi* kKi},
                                           {"TiB", kKi* kKi* kKi* kKi},
                                           {"k", kKi},
                                           {"m", kKi* kKi},
                                           {"g", kKi* kKi* kKi}}};
constexpr std::array<Unit, 8> kTimeUnits{
    {{"ns", 1}, {"us", 1e3}, {"µs", 1e3}, {"ms", 1e6}, {"s", 1e9}, {"m", 60e9}, {"h", 3600e9}, {"d", 86400e9}}};

// Takes a decimal number off the front of `text`.
bool take_number(std::string_view& text, double& number) {
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  if (ec != std::errc{} || number < 0 || !std::isfinite(number)) return false;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return true;
}

// Takes everything up to the next digit off the front of `text`.
std::string_view take_unit(std::string_view& text) {
  std::size_t n = 0;
  while (n < text.size() && !(text[n] >= '0' && text[n] <= '9')) ++n;
  std::string_view unit = text.substr(0, n);
  text.remove_prefix(n);
  while (!unit.empty() && unit.front() == ' ') unit.remove_prefix(1);
  while (!unit.empty() && unit.back() == ' ') unit.remove_suffix(1);
  return unit;
}

template <std::size_t N>
const Unit* find_unit(const std::array<Unit, N>& units, std::string_view name) {
  for (const Unit& unit : units) {
    if (unit.name == name) return &unit;
  }
  return nullptr;
}

}  // namespace

Result<std::uint64_t> parse_bytes(std::string_view text) {
  const Error bad{Errc::config_invalid, fmt::format("\"{}\" is not a size; expected for example 512MiB or 20GiB", text)};
  double number = 0;
  std::string_view rest = text;
  if (!take_number(rest, number)) return bad;
  const std::string_view unit_name = take_unit(rest);
  if (!rest.empty()) return bad;
  const Unit* unit = find_unit(kByteUnits, unit_name.empty() ? "B" : unit_name);
  if (unit == nullptr) return bad;
  const double bytes = number * unit->factor;
  if (bytes >= static_cast<double>(std::numeric_limits<std::int64_t>::max())) return bad;
  return static_cast<std::uint64_t>(std::llround(bytes));
}

Result<std::chrono::nanoseconds> parse_duration(std::string_view text) {
  const Error bad{Errc::config_invalid,
                  fmt::format("\"{}\" is not a duration; expected for example 500ms, 30s or 1h30m", text)};
  if (text == "0") return std::chrono::nanoseconds{0};
  if (text.empty()) return bad;
  double total = 0;
  std::string_view rest = text;
  while (!rest.empty()) {
    double number = 0;
    if (!take_number(rest, number)) return bad;
    const Unit* unit = find_unit(kTimeUnits, take_unit(rest));
    if (unit == nullptr) return bad;
    total += number * unit->factor;
  }
  if (total >= static_cast<double>(std::numeric_limits<std::int64_t>::max())) return bad;
  return std::chrono::nanoseconds{std::llround(total)};
}

std::string format_bytes(std::uint64_t bytes) {
  constexpr std::array<std::string_view, 5> kNames{"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= kKi && unit + 1 < kNames.size()) {
    value /= kKi;
    ++unit;
  }
  if (value == std::floor(value)) return fmt::format("{:.0f} {}", value, kNames[unit]);
  return fmt::format("{:.3g} {}", value, kNames[unit]);
}

std::string format_duration(std::chrono::nanoseconds duration) {
  using namespace std::chrono;
  if (duration < 1s) {
    if (duration == 0ns) return "0s";
    if (duration < 1us) return fmt::format("{}ns", duration.count());
    if (duration < 1ms) return fmt::format("{:.3g}us", static_cast<double>(duration.count()) / 1e3);
    return fmt::format("{:.3g}ms", static_cast<double>(duration.count()) / 1e6);
  }
  std::string out;
  const auto h = duration_cast<hours>(duration);
  const auto m = duration_cast<minutes>(duration - h);
  const double s = static_cast<double>((duration - h - m).count()) / 1e9;
  if (h.count() != 0) out += fmt::format("{}h", h.count());
  if (m.count() != 0) out += fmt::format("{}m", m.count());
  if (s != 0) out += fmt::format("{:.4g}s", s);
  return out;
}

}  // namespace sluice
