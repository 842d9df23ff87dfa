#include "admin/verify_options.hpp"

#include <charconv>

#include <fmt/format.h>

#include "base/units.hpp"

namespace sluice::admin {

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
