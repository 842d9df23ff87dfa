#include "admin/query.hpp"

#include <charconv>
#include <optional>

#include <fmt/format.h>

#include "base/units.hpp"

namespace sluice::admin {
namespace {

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// RFC 3986 section 2.1. Nothing for a broken escape.
std::optional<std::string> percent_decode(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    if (i + 2 >= text.size()) return std::nullopt;
    const int high = hex_value(text[i + 1]);
    const int low = hex_value(text[i + 2]);
    if (high < 0 || low < 0) return std::nullopt;
    out += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return out;
}

}  // namespace

std::string query_parameter(std::string_view query, std::string_view name) {
  while (!query.empty()) {
    const std::size_t end = query.find('&');
    const std::string_view pair = query.substr(0, end);
    query = end == std::string_view::npos ? std::string_view{} : query.substr(end + 1);
    const std::size_t equals = pair.find('=');
    if (pair.substr(0, equals) != name || equals == std::string_view::npos) continue;
    return percent_decode(pair.substr(equals + 1)).value_or(std::string{});
  }
  return {};
}

Result<double> parse_sample(std::string_view text) {
  const Error wrong{Errc::config_invalid,
                    fmt::format("sample: found \"{}\", expected a share such as 5% or 0.05", text)};
  std::string_view digits = text;
  const bool percent = digits.ends_with('%');
  if (percent) digits.remove_suffix(1);
  double value = 0;
  const auto [end, ec] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (ec != std::errc{} || end != digits.data() + digits.size() || digits.empty()) return wrong;
  if (percent) value /= 100;
  if (!(value > 0) || value > 1) return wrong;
  return value;
}

Result<store::VerifyOptions> verify_options(std::string_view sample, std::string_view rate, std::string_view seed) {
  store::VerifyOptions out;
  if (!sample.empty()) {
    const Result<double> share = parse_sample(sample);
    if (!share) return share.error();
    out.sample = *share;
  }
  if (!rate.empty()) {
    const Result<std::uint64_t> bytes = parse_bytes(rate);
    if (!bytes || *bytes == 0) {
      return Error{Errc::config_invalid,
                   fmt::format("rate: found \"{}\", expected bytes in a second such as 50MiB", rate)};
    }
    out.bytes_per_second = *bytes;
  }
  if (!seed.empty()) {
    const auto [end, ec] = std::from_chars(seed.data(), seed.data() + seed.size(), out.seed);
    if (ec != std::errc{} || end != seed.data() + seed.size()) {
      return Error{Errc::config_invalid, fmt::format("seed: found \"{}\", expected a number", seed)};
    }
  }
  return out;
}

}  // namespace sluice::admin
