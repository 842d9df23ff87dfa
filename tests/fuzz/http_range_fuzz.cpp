// Range, Content-Range and what names entity tags: each range that is selected lies inside, in the order that was
// asked, and what is written of it reads back.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "fuzz/expect.hpp"
#include "http/conditional.hpp"
#include "http/range.hpp"
#include "upstream/content.hpp"

using namespace sluice;
using namespace sluice::http;

namespace {

void check_written(const ByteRange& range, std::uint64_t size) {
  const auto back = upstream::parse_content_range(content_range(range, size));
  // Numbers of more than 18 digits are not read: no blob is as long.
  if (size > 1'000'000'000'000'000'000) return;
  SLUICE_EXPECT(back && back->first == range.first && back->last == range.last && back->size == size);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::uint64_t length = 0;
  if (size < sizeof length) return 0;
  std::memcpy(&length, data, sizeof length);
  length >>= data[0] % 64;
  const std::string_view text(reinterpret_cast<const char*>(data) + sizeof length, size - sizeof length);

  const RequestedRanges asked = parse_range(text);
  SLUICE_EXPECT((asked.kind == RequestedRanges::Kind::ranges) == !asked.ranges.empty());
  SLUICE_EXPECT(asked.ranges.size() <= kMaxRanges);
  for (const RequestedRange& range : asked.ranges) {
    SLUICE_EXPECT(range.first.has_value() != range.suffix.has_value());
    SLUICE_EXPECT(!range.last || (range.first && *range.first <= *range.last));
  }
  const RangeSelection selected = select_ranges(asked, length);
  SLUICE_EXPECT((selected.kind == RangeSelection::Kind::partial) == !selected.ranges.empty());
  std::size_t at = 0;
  for (const ByteRange& range : selected.ranges) {
    SLUICE_EXPECT(range.first <= range.last && range.last < length);
    while (at < asked.ranges.size() && asked.ranges[at].resolve(length) != range) ++at;
    SLUICE_EXPECT(at++ < asked.ranges.size());
    check_written(range, length);
  }

  if (const auto told = upstream::parse_content_range(text)) {
    SLUICE_EXPECT(told->first || told->size);
    if (told->first) SLUICE_EXPECT(*told->first <= told->last && (!told->size || told->last < *told->size));
  }
  constexpr std::string_view kTag = "\"sha256:0\"";
  static_cast<void>(if_none_match(text, kTag));
  if (if_range_matches(text, kTag)) SLUICE_EXPECT(if_match(text, kTag) || text.find('"') == std::string_view::npos);
  return 0;
}
