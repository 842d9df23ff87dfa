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
constexpr std::array<Unit, 18> kByteUnits{{{"B", 1},
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
                                           {"g", kKi* kKi* kKi},
                                           {"t", kKi* kKi* kKi* kKi}}};
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
  const Error bad{Errc::config_invalid,
                  fmt::format("\"{}\" is not a size; expected for example 512MiB or 20GiB", text)};
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

namespace {

// With so many decimals, without zeros at the end.
std::string decimal(double value, int decimals) {
  std::string out = fmt::format("{:.{}f}", value, decimals);
  if (decimals == 0) return out;
  out.erase(out.find_last_not_of('0') + 1);
  if (out.back() == '.') out.pop_back();
  return out;
}

// Three digits that count; all of them before the point.
std::string three_digits(double value) { return decimal(value, value < 9.995 ? 2 : value < 99.95 ? 1 : 0); }

}  // namespace

std::string format_bytes(std::uint64_t bytes) {
  constexpr std::array<std::string_view, 5> kNames{"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  // Rounded as it will be printed, so that no "1024 KiB" comes out.
  while (std::round(value) >= kKi && unit + 1 < kNames.size()) {
    value /= kKi;
    ++unit;
  }
  return fmt::format("{} {}", three_digits(value), kNames[unit]);
}

std::string format_duration(std::chrono::nanoseconds duration) {
  using namespace std::chrono;
  if (duration == 0ns) return "0s";
  const auto ns = static_cast<double>(duration.count());
  if (duration < 1us) return fmt::format("{}ns", duration.count());
  if (ns < 999.5e3) return three_digits(ns / 1e3) + "us";
  if (ns < 999.5e6) return three_digits(ns / 1e6) + "ms";
  const auto rounded = round<milliseconds>(duration);
  const auto h = duration_cast<hours>(rounded);
  const auto m = duration_cast<minutes>(rounded - h);
  const auto ms = rounded - h - m;
  std::string out;
  if (h.count() != 0) out += fmt::format("{}h", h.count());
  if (m.count() != 0) out += fmt::format("{}m", m.count());
  if (ms.count() != 0) out += decimal(static_cast<double>(ms.count()) / 1e3, 3) + "s";
  return out;
}

}  // namespace sluice
