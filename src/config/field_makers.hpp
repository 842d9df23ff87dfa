// What makes a Field of each kind: a text, a number, a size, a duration, a word of a few, a list. Each takes the key,
// the bounds, and `get`, which gives a reference into the owner. Internal to fields.cpp.
#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/units.hpp"
#include "config/fields.hpp"
#include "config/values.hpp"

namespace sluice::config::fields {

using namespace std::chrono_literals;

constexpr std::uint64_t kKiB = 1024;
constexpr std::uint64_t kMiB = 1024 * kKiB;
constexpr std::uint64_t kGiB = 1024 * kMiB;

// The largest unit that divides the number, so that nothing is rounded.
inline std::string exact_bytes(std::uint64_t bytes) {
  if (bytes != 0 && bytes % kGiB == 0) return fmt::format("{}GiB", bytes / kGiB);
  if (bytes != 0 && bytes % kMiB == 0) return fmt::format("{}MiB", bytes / kMiB);
  if (bytes != 0 && bytes % kKiB == 0) return fmt::format("{}KiB", bytes / kKiB);
  return fmt::format("{}", bytes);
}

inline std::string exact_duration(Duration duration) {
  if (duration == 0ms) return "0s";
  std::string out;
  const auto part = [&](auto unit, const char* name) {
    const auto n = std::chrono::duration_cast<decltype(unit)>(duration);
    if (n.count() != 0) out += fmt::format("{}{}", n.count(), name);
    duration -= n;
  };
  part(std::chrono::hours{}, "h");
  part(std::chrono::minutes{}, "m");
  part(std::chrono::seconds{}, "s");
  part(std::chrono::milliseconds{}, "ms");
  return out;
}

// Compares values that are printed masked: two different passwords look the same.
template <class Owner, class Get>
std::function<bool(const Owner&, const Owner&)> same_by(Get get) {
  return [get](const Owner& a, const Owner& b) { return get(a) == get(b); };
}

template <class Owner, class Get>
Field<Owner> text(std::string_view key, std::string expected, Get get) {
  return {key,
          std::move(expected),
          [get](Owner& owner, std::string_view value) {
            if (value.empty() || value.find('\0') != std::string_view::npos) return false;
            get(owner) = std::string(value);
            return true;
          },
          [get](const Owner& owner) { return in_quotes_masked(std::string(get(owner))); },
          false,
          false,
          same_by<Owner>(get)};
}

template <class Owner, class Get>
Field<Owner> number(std::string_view key, std::size_t low, std::size_t high, Get get, std::string_view note = "") {
  return {key, fmt::format("a number from {} to {}{}", low, high, note),
          [get, low, high](Owner& owner, std::string_view value) {
            std::size_t parsed = 0;
            const auto [end, ec] = std::from_chars(value.data(), value.data() + value.size(), parsed);
            if (ec != std::errc{} || end != value.data() + value.size() || parsed < low || parsed > high) return false;
            get(owner) = parsed;
            return true;
          },
          [get](const Owner& owner) { return fmt::format("{}", get(owner)); }};
}

template <class Owner, class Get>
Field<Owner> flag(std::string_view key, Get get) {
  return {key, "true or false",
          [get](Owner& owner, std::string_view value) {
            if (value != "true" && value != "false") return false;
            get(owner) = value == "true";
            return true;
          },
          [get](const Owner& owner) -> std::string { return get(owner) ? "true" : "false"; }};
}

template <class Owner, class Get>
Field<Owner> duration(std::string_view key, Duration low, Duration high, Get get, std::string_view note = "") {
  return {key, fmt::format("a duration from {} to {}{}", exact_duration(low), exact_duration(high), note),
          [get, low, high](Owner& owner, std::string_view value) {
            const Result<std::chrono::nanoseconds> parsed = parse_duration(value);
            if (!parsed || *parsed < low || *parsed > high) return false;
            if (*parsed > 0ns && *parsed < 1ms) return false;
            get(owner) = std::chrono::duration_cast<Duration>(*parsed);
            return true;
          },
          [get](const Owner& owner) { return exact_duration(get(owner)); }};
}

template <class Owner, class Get>
Field<Owner> bytes(std::string_view key, std::uint64_t low, std::uint64_t high, Get get, std::string_view note = "") {
  return {key, fmt::format("a size from {} to {}{}", exact_bytes(low), exact_bytes(high), note),
          [get, low, high](Owner& owner, std::string_view value) {
            const Result<std::uint64_t> parsed = parse_bytes(value);
            if (!parsed || *parsed < low || *parsed > high) return false;
            get(owner) = *parsed;
            return true;
          },
          [get](const Owner& owner) { return exact_bytes(get(owner)); }};
}

template <class Owner, class E, std::size_t N, class Get>
Field<Owner> choice(std::string_view key, const std::array<std::pair<std::string_view, E>, N>& words, Get get) {
  std::string expected;
  for (std::size_t i = 0; i < N; ++i) {
    expected += fmt::format("{}{}", i == 0 ? "" : i + 1 == N ? " or " : ", ", words[i].first);
  }
  return {key, std::move(expected),
          [get, words](Owner& owner, std::string_view value) {
            for (const auto& [word, meaning] : words) {
              if (word != value) continue;
              get(owner) = meaning;
              return true;
            }
            return false;
          },
          [get, words](const Owner& owner) {
            const auto at =
                std::find_if(words.begin(), words.end(), [&](const auto& word) { return word.second == get(owner); });
            return std::string(at == words.end() ? "" : at->first);
          }};
}

template <class Get>
Field<Settings> endpoint(std::string_view key, Get get) {
  return {key, "ADDRESS:PORT, for example 127.0.0.1:5000, [::1]:5000 or :5000",
          [get](Settings& settings, std::string_view value) {
            const std::optional<Endpoint> parsed = Endpoint::parse(value);
            if (!parsed) return false;
            get(settings) = *parsed;
            return true;
          },
          [get](const Settings& settings) { return in_quotes(get(settings).to_string()); }};
}

// A size or a percentage of the file system, or off.
template <class Get>
Field<Settings> size_limit(std::string_view key, std::uint64_t low, Get get) {
  return {key, fmt::format("a size from {}, a percentage of the file system from 1% to 100%, or off", exact_bytes(low)),
          [get, low](Settings& settings, std::string_view value) {
            if (value == "off") {
              get(settings) = SizeLimit{};
              return true;
            }
            if (value.ends_with('%')) {
              unsigned percent = 0;
              const char* const last = value.data() + value.size() - 1;
              const auto [end, ec] = std::from_chars(value.data(), last, percent);
              if (ec != std::errc{} || end != last || percent < 1 || percent > 100) return false;
              get(settings) = SizeLimit{0, percent};
              return true;
            }
            const Result<std::uint64_t> parsed = parse_bytes(value);
            if (!parsed || *parsed < low || *parsed > (std::uint64_t{1} << 60)) return false;
            get(settings) = SizeLimit{*parsed, 0};
            return true;
          },
          [get](const Settings& settings) {
            const SizeLimit& limit = get(settings);
            if (limit.off()) return std::string("off");
            return limit.percent != 0 ? fmt::format("{}%", limit.percent) : exact_bytes(limit.bytes);
          }};
}

// A proxy's URL; `off` is a value of its own.
template <class Owner, class Get>
Field<Owner> proxy(std::string_view key, Get get) {
  return {key,
          "a proxy such as http://proxy.example.com:3128, or off",
          [get](Owner& owner, std::string_view value) {
            const std::optional<std::string> parsed =
                value == "off" ? std::optional<std::string>(value) : parse_proxy_url(value);
            if (!parsed) return false;
            get(owner) = *parsed;
            return true;
          },
          [get](const Owner& owner) {
            const std::string& url = get(owner);
            return url == "off" ? url : in_quotes_masked(url);
          },
          true,
          false,
          same_by<Owner>(get)};
}

// `is_item` says whether a text may stand in the list.
template <class Owner, class Get>
Field<Owner> list(std::string_view key, std::string expected, bool (*is_item)(std::string_view), Get get) {
  return {key,
          std::move(expected),
          [get, is_item](Owner& owner, std::string_view value) {
            std::vector<std::string> items;
            while (!value.empty()) {
              const std::size_t comma = std::min(value.find(','), value.size());
              const std::string_view item = value.substr(0, comma);
              if (!is_item(item)) return false;
              items.emplace_back(item);
              value.remove_prefix(std::min(comma + 1, value.size()));
            }
            get(owner) = std::move(items);
            return true;
          },
          [get](const Owner& owner) {
            std::string items;
            for (const std::string& item : get(owner)) {
              items += (items.empty() ? "" : ", ") + in_quotes_masked(item);
            }
            return "[" + items + "]";
          },
          false,
          true,
          same_by<Owner>(get)};
}

}  // namespace sluice::config::fields
