// The way of a request head from the socket to the handler: scanned in pieces, parsed, and asked about.
//
// Whatever the bytes are, scanning them in two pieces must end as scanning them at once does, and what is accepted must
// keep the promises that handlers rely on.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "http/conditional.hpp"
#include "http/framing.hpp"
#include "http/range.hpp"

using namespace sluice::http;
using State = HeadScanner::State;

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

void check_accepted(const Request& request) {
  require(!request.method().empty());
  require(request.target().starts_with('/') || (request.target() == "*" && request.method() == "OPTIONS"));
  for (const char c : request.target()) require(c > 0x20 && c < 0x7f);
  require(request.path().size() + request.query().size() <= request.target().size());
  require(request.version() == 10 || request.version() == 11);
  require(request.version() == 10 || !request.host().empty());
  require(request.host().empty() || valid_host(request.host()));
  require(request.body() == RequestBody::none || !request.keep_alive());
  require(!(request.has_header("Content-Length") && request.has_header("Transfer-Encoding")));
  for (const Field& field : request.fields()) {
    require(!field.name.empty());
    require(field.value.find_first_of(std::string_view("\r\n\0", 3)) == std::string_view::npos);
  }
}

void check_ranges(std::string_view header, std::uint64_t size) {
  const RangeSelection selection = parse_range(header, size);
  require((selection.kind == RangeSelection::Kind::partial) == !selection.ranges.empty());
  std::uint64_t total = 0;
  for (const ByteRange& range : selection.ranges) {
    require(range.first <= range.last && range.last < size);
    total += range.size();
  }
  require(total <= size);
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
  require((state == State::complete) == (last == State::complete));
  if (state != State::complete) return 0;
  require(whole.begin() == pieces.begin() && whole.end() == pieces.end());

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
