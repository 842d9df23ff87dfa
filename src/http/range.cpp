#include "http/range.hpp"

#include <algorithm>
#include <charconv>
#include <limits>

#include "base/ascii.hpp"

namespace sluice::http {
namespace {

constexpr std::uint64_t kMax = std::numeric_limits<std::uint64_t>::max();

// 1*DIGIT. A number beyond 64 bits lies beyond every representation, and so does the largest that fits.
std::optional<std::uint64_t> parse_number(std::string_view text) noexcept {
  std::uint64_t value = 0;
  const char* const last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, value);
  if (end != last || text.empty() || error == std::errc::invalid_argument) return std::nullopt;
  return error == std::errc::result_out_of_range ? kMax : value;
}

std::optional<RequestedRange> parse_one(std::string_view text) noexcept {
  const std::size_t dash = text.find('-');
  if (dash == std::string_view::npos) return std::nullopt;
  RequestedRange range;
  if (dash == 0) {
    range.suffix = parse_number(text.substr(1));
    if (!range.suffix) return std::nullopt;
    return range;
  }
  range.first = parse_number(text.substr(0, dash));
  if (!range.first) return std::nullopt;
  if (dash + 1 == text.size()) return range;
  range.last = parse_number(text.substr(dash + 1));
  if (!range.last) return std::nullopt;
  return range;
}

bool is_bytes_unit(std::string_view text) noexcept {
  constexpr std::string_view kUnit = "bytes";
  return std::equal(text.begin(), text.end(), kUnit.begin(), kUnit.end(),
                    [](char a, char b) { return a == b || a + ('a' - 'A') == b; });
}

}  // namespace

std::optional<ByteRange> RequestedRange::resolve(std::uint64_t size) const noexcept {
  if (size == 0) return std::nullopt;
  if (!first) {
    const std::uint64_t count = std::min(suffix.value_or(0), size);
    if (count == 0) return std::nullopt;
    return ByteRange{size - count, size - 1};
  }
  if (*first >= size) return std::nullopt;
  return ByteRange{*first, std::min(last.value_or(kMax), size - 1)};
}

RequestedRanges parse_range(std::string_view header) {
  using Kind = RequestedRanges::Kind;
  const std::size_t equals = header.find('=');
  if (equals == std::string_view::npos || !is_bytes_unit(trim(header.substr(0, equals)))) return {};
  std::string_view list = header.substr(equals + 1);
  RequestedRanges result;
  bool backwards = false;
  for (bool more = true; more;) {
    const std::size_t comma = list.find(',');
    const std::string_view text = trim(list.substr(0, comma));
    more = comma != std::string_view::npos;
    if (more) list.remove_prefix(comma + 1);
    if (text.empty()) continue;  // RFC 9110 §5.6.1.2
    const std::optional<RequestedRange> range = parse_one(text);
    if (!range) return {};
    if (result.ranges.size() == kMaxRanges) return {Kind::too_many, {}};
    backwards = backwards || (range->last && *range->last < *range->first);
    result.ranges.push_back(*range);
  }
  if (result.ranges.empty()) return {};
  // For a list the RFC's "ignore it" stands: clients that send lists take a 200 but not a 416.
  if (backwards) return {result.ranges.size() == 1 ? Kind::refused : Kind::whole, {}};
  result.kind = Kind::ranges;
  return result;
}

RangeSelection select_ranges(const RequestedRanges& asked, std::uint64_t size) {
  using Kind = RangeSelection::Kind;
  if (asked.kind == RequestedRanges::Kind::whole) return {};
  if (asked.kind == RequestedRanges::Kind::refused) return {Kind::unsatisfiable, {}};
  if (asked.kind == RequestedRanges::Kind::too_many) return {Kind::too_many, {}};
  // No range fits an empty representation, but clients that put `bytes=0-` on every request want it all the same.
  if (size == 0) return {};
  RangeSelection selection;
  for (const RequestedRange& range : asked.ranges) {
    if (const std::optional<ByteRange> bytes = range.resolve(size)) selection.ranges.push_back(*bytes);
  }
  if (selection.ranges.empty()) return {Kind::unsatisfiable, {}};
  selection.kind = Kind::partial;
  return selection;
}

RangeSelection parse_range(std::string_view header, std::uint64_t size) {
  return select_ranges(parse_range(header), size);
}

std::string content_range(const ByteRange& range, std::uint64_t size) {
  return "bytes " + std::to_string(range.first) + "-" + std::to_string(range.last) + "/" + std::to_string(size);
}

std::string unsatisfied_range(std::uint64_t size) { return "bytes */" + std::to_string(size); }

bool if_range_matches(std::string_view if_range, std::string_view etag) noexcept {
  const std::string_view tag = trim(if_range);
  if (tag.empty()) return true;
  const bool bare = etag.size() == tag.size() + 2 && etag.substr(1, tag.size()) == tag;
  return (tag == etag || bare) && !tag.starts_with("W/");
}

}  // namespace sluice::http
