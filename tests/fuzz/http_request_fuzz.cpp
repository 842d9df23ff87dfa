// The way of a request head from the socket to the handler: scanned in pieces, parsed, and asked about.
//
// Whatever the bytes are, scanning them in two pieces must end as scanning them at once does, and what is accepted must
// keep the promises that handlers rely on.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "fuzz/expect.hpp"
#include "http/conditional.hpp"
#include "http/framing.hpp"
#include "http/range.hpp"

using namespace sluice::http;
using State = HeadScanner::State;

namespace {

void check_accepted(const Request& request) {
  SLUICE_EXPECT(!request.method().empty());
  SLUICE_EXPECT(request.target().starts_with('/') || (request.target() == "*" && request.method() == "OPTIONS"));
  for (const char c : request.target()) SLUICE_EXPECT(c > 0x20 && c < 0x7f);
  SLUICE_EXPECT(request.path().size() + request.query().size() <= request.target().size());
  SLUICE_EXPECT(request.version() == 10 || request.version() == 11);
  SLUICE_EXPECT(request.version() == 10 || !request.host().empty());
  SLUICE_EXPECT(request.host().empty() || valid_host(request.host()));
  SLUICE_EXPECT(request.body() == RequestBody::none || !request.keep_alive());
  SLUICE_EXPECT(!(request.has_header("Content-Length") && request.has_header("Transfer-Encoding")));
  for (const Field& field : request.fields()) {
    SLUICE_EXPECT(!field.name.empty());
    SLUICE_EXPECT(field.value.find_first_of(std::string_view("\r\n\0", 3)) == std::string_view::npos);
  }
}

void check_ranges(std::string_view header, std::uint64_t size) {
  const RangeSelection selection = parse_range(header, size);
  SLUICE_EXPECT((selection.kind == RangeSelection::Kind::partial) == !selection.ranges.empty());
  std::uint64_t total = 0;
  for (const ByteRange& range : selection.ranges) {
    SLUICE_EXPECT(range.first <= range.last && range.last < size);
    total += range.size();
  }
  SLUICE_EXPECT(total <= size);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const HeadLimits limits;
  HeadScanner whole(limits);
  const State state = whole.scan(bytes);
  HeadScanner pieces(limits);
  State last = State::need_more;
  for (std::size_t n = 0; last == State::need_more && n < size; n += 1 + n / 3) last = pieces.scan(bytes.substr(0, n));
  if (last == State::need_more) last = pieces.scan(bytes);
  SLUICE_EXPECT((state == State::complete) == (last == State::complete));
  if (state != State::complete) return 0;
  SLUICE_EXPECT(whole.begin() == pieces.begin() && whole.end() == pieces.end());

  // A copy of exactly that size, so that reading past its end is seen.
  const std::string head(bytes.substr(whole.begin(), whole.end() - whole.begin()));
  Request request;
  if (parse_request(head, request)) return 0;
  check_accepted(request);
  check_ranges(request.header("Range"), size);
  check_ranges(request.joined("Range"), UINT64_MAX);
  (void)if_none_match(request.joined("If-None-Match"), "\"a\"");
  (void)if_match(request.joined("If-Match"), "\"a\"");
  (void)if_range_matches(request.header("If-Range"), "\"a\"");
  return 0;
}
