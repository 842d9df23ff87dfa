#include "api/blob_response.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "api/cache_status.hpp"
#include "api/multipart.hpp"
#include "base/log.hpp"
#include "http/conditional.hpp"
#include "oci/error_code.hpp"
#include "pull/blob_head.hpp"
#include "runtime/within.hpp"
#include "streamcache/memory_budget.hpp"

namespace sluice::api {
namespace {

// One step of an answer from a fill in flight: after each the reader's mark moves on, which lets the fill go on.
constexpr std::uint64_t kStepBytes = 1 << 20;
// The buffer of a reader whose bytes are in no file.
constexpr std::uint64_t kMemoryStepBytes = 4 << 10;
// A range of what passes through memory is waited for up to this size: the writer comes to its end before the window is
// full, and who waits for it is no laggard.
constexpr std::uint64_t kPassedRangeBytes = streamcache::MemoryBudget::kLeastWindow / 2;

// A blob that is a manifest has its type; others have none in particular.
std::string_view or_octets(std::string_view manifest_type) {
  return manifest_type.empty() ? oci::media_type::kOctetStream : manifest_type;
}

std::string etag_of(const oci::Digest& digest) { return '"' + digest.to_string() + '"'; }

// The ranges that count for this request (RFC 9110 section 13.2.2: If-Range decides whether Range is looked at).
http::RequestedRanges requested_ranges(const http::Request& request, const BlobResponder::Names& names) {
  const std::string_view header = request.header("Range");
  if (header.empty()) return {};
  const std::string_view if_range = request.header("If-Range");
  const bool matches = http::if_range_matches(if_range, etag_of(names.asked)) ||
                       (names.are_two() && http::if_range_matches(if_range, etag_of(names.canonical)));
  return matches ? http::parse_range(header) : http::RequestedRanges{};
}

std::string not_modified(const oci::Digest& digest, std::string_view extra_fields) {
  std::string head = pull::blob_head(304, digest).str();
  return head.append(extra_fields);
}

runtime::Task<void> send_unsatisfiable(http::Exchange& exchange, std::uint64_t size, std::string_view extra_fields) {
  const std::string body = oci::error_body(oci::ErrorCode::range_invalid, "no byte of the blob lies in that range");
  http::ResponseHead head(416);
  head.add("Content-Type", "application/json").add("Content-Range", http::unsatisfied_range(size));
  head.content_length(body.size());
  const std::string text = head.str() + std::string(extra_fields);
  const Result<void> sent = co_await exchange.send(text, body);
  static_cast<void>(sent);
}

runtime::Task<void> send_too_many(http::Exchange& exchange, std::string_view extra_fields) {
  const std::string body = oci::error_body(oci::ErrorCode::range_invalid,
                                           fmt::format("more than {} ranges in one request", http::kMaxRanges));
  http::ResponseHead head(400);
  head.add("Content-Type", "application/json").content_length(body.size());
  const std::string text = head.str() + std::string(extra_fields);
  const Result<void> sent = co_await exchange.send(text, body);
  static_cast<void>(sent);
}

// A reader that keeps up with a fill reads what was written a moment ago.
constexpr std::uint64_t kKeepsUpBytes = 8 << 20;

// The bytes of one step of a fill in flight.
runtime::Task<Result<void>> send_step(http::Exchange& exchange, streamcache::Stream& stream, std::uint64_t at,
                                      std::uint64_t until) {
  const std::uint64_t in_file = std::min(until, std::max(at, stream.stored_end()));
  if (in_file > at) {
    const bool keeps_up = stream.readable() - at <= kKeepsUpBytes;
    const http::Pages pages = keeps_up ? http::Pages::written : http::Pages::unknown;
    if (Result<void> sent = co_await exchange.send_file(stream.file(), at, in_file - at, pages); !sent) co_return sent;
  }
  if (in_file == until) co_return Result<void>{};
  // Where the disk has refused the fill its bytes pass through memory.
  std::vector<std::byte> buffer(static_cast<std::size_t>(std::min(until - in_file, kMemoryStepBytes)));
  for (std::uint64_t from = in_file; from < until;) {
    const auto want = static_cast<std::size_t>(std::min<std::uint64_t>(until - from, buffer.size()));
    const Result<std::size_t> n = co_await stream.read_at(from, std::span(buffer).first(want));
    if (!n) co_return n.error();
    if (Result<void> sent = co_await exchange.write(std::span<const std::byte>(buffer).first(*n)); !sent) {
      co_return sent;
    }
    from += *n;
  }
  co_return Result<void>{};
}

// Waits until the bytes before `end` are here, or all that there are, which are right then. How many are; nothing where
// the disk has refused some: to wait for more would be to lose what passes through memory.
runtime::Task<Result<std::optional<std::uint64_t>>> wait_stored(streamcache::Stream& stream, std::uint64_t end) {
  for (std::uint64_t have = 0;;) {
    const Result<std::uint64_t> readable = co_await stream.wait_readable(have);
    if (!readable) co_return readable.error();
    if (*readable == have || *readable >= end) co_return std::optional(*readable);
    if (stream.stored_end() != UINT64_MAX) co_return std::optional<std::uint64_t>();
    have = *readable;
  }
}

// The one range that the request is for, where it says both of its ends.
std::optional<http::ByteRange> closed_range(const http::RequestedRanges& asked) {
  if (asked.kind != http::RequestedRanges::Kind::ranges || asked.ranges.size() != 1) return std::nullopt;
  const http::RequestedRange& range = asked.ranges.front();
  if (!range.first || !range.last || *range.last == UINT64_MAX) return std::nullopt;
  return http::ByteRange{*range.first, *range.last};
}

Error not_here_in_time() {
  return {Errc::upstream_timeout, "upstream has not sent this range in time; the download goes on, so try again"};
}

// Of what is arriving and has no known length: waits for that range, else for all of it, until the client needs an
// answer. How many bytes are here, from the beginning of the range on; nothing where that cannot be waited for. Who
// asks for a range gets that range or an error (nydus takes a 200 for the 206); who asks for all from some byte on can
// skip what comes before it (containerd does).
runtime::Task<Result<std::optional<std::uint64_t>>> wait_for_range(streamcache::Stream& stream,
                                                                   std::optional<http::ByteRange> range,
                                                                   std::chrono::steady_clock::time_point until) {
  using Have = Result<std::optional<std::uint64_t>>;
  std::optional<Have> have = co_await runtime::within(wait_stored(stream, range ? range->last + 1 : UINT64_MAX), until);
  if (!have && range) co_return not_here_in_time();
  if (!have) co_return std::optional<std::uint64_t>();
  if (!*have || **have || !range || range->size() > kPassedRangeBytes) co_return *have;
  stream.advance(range->first);
  const std::optional<Result<std::uint64_t>> passed = co_await runtime::within(stream.wait_beyond(range->last), until);
  if (!passed) co_return not_here_in_time();
  if (!*passed) co_return passed->error();
  co_return std::optional(**passed);
}

// Adds the time that it lives to `to`.
class Waiting {
 public:
  explicit Waiting(std::chrono::nanoseconds& to) : to_(to) {}
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;
  ~Waiting() { to_ += std::chrono::steady_clock::now() - since_; }

 private:
  std::chrono::nanoseconds& to_;
  const std::chrono::steady_clock::time_point since_ = std::chrono::steady_clock::now();
};

// As wait_readable.
runtime::Task<Result<std::uint64_t>> wait_readable(streamcache::Stream& stream, std::uint64_t at,
                                                   std::chrono::nanoseconds& upstream_wait) {
  const Waiting waiting(upstream_wait);
  co_return co_await stream.wait_readable(at);
}

// What is arriving, from `at` to `end` or, where that is not known, to its end. Errors: the exchange's, and the fill's,
// whose reason is in its own log line.
runtime::Task<Result<void>> send_arriving(http::Exchange& exchange, streamcache::Stream& stream, std::uint64_t at,
                                          std::optional<std::uint64_t> end, std::chrono::nanoseconds& upstream_wait) {
  while (!end || at < *end) {
    const Result<std::uint64_t> readable = co_await wait_readable(stream, at, upstream_wait);
    if (!readable) co_return readable.error();
    if (*readable <= at) {
      if (!end) break;
      co_return Error{Errc::size_mismatch, "the blob ended before the range"};
    }
    const std::uint64_t until = std::min({end.value_or(*readable), *readable, at + kStepBytes});
    if (Result<void> sent = co_await send_step(exchange, stream, at, until); !sent) co_return sent;
    at = until;
    stream.advance(at);
  }
  co_return Result<void>{};
}

class AtRest final : public RangeSource {
 public:
  explicit AtRest(const pull::ReadyObject& object) : object_(object) {}
  runtime::Task<Result<void>> send(http::Exchange& exchange, http::ByteRange range) override {
    if (object_.in_memory) {
      const std::string_view piece = std::string_view(object_.body).substr(range.first, range.size());
      co_return co_await exchange.write(std::as_bytes(std::span(piece)));
    }
    co_return co_await exchange.send_file(object_.file->file, range.first, range.size(), http::Pages::unknown);
  }

 private:
  const pull::ReadyObject& object_;
};

class InFlight final : public RangeSource {
 public:
  InFlight(streamcache::Stream& stream, std::chrono::nanoseconds& upstream_wait)
      : stream_(stream), upstream_wait_(upstream_wait) {}
  runtime::Task<Result<void>> send(http::Exchange& exchange, http::ByteRange range) override {
    co_return co_await send_arriving(exchange, stream_, range.first, range.last + 1, upstream_wait_);
  }

 private:
  streamcache::Stream& stream_;
  std::chrono::nanoseconds& upstream_wait_;
};

class Direct final : public RangeSource {
 public:
  Direct(pull::DirectRanges& ranges, std::chrono::nanoseconds& upstream_wait)
      : ranges_(ranges), upstream_wait_(upstream_wait) {}
  runtime::Task<Result<void>> send(http::Exchange& exchange, http::ByteRange range) override {
    for (std::uint64_t at = range.first; at <= range.last;) {
      const Result<std::span<const std::byte>> bytes = co_await read(at, range.last + 1);
      if (!bytes) co_return bytes.error();
      if (Result<void> sent = co_await exchange.write(*bytes); !sent) co_return sent;
      at += bytes->size();
    }
    co_return Result<void>{};
  }

 private:
  runtime::Task<Result<std::span<const std::byte>>> read(std::uint64_t at, std::uint64_t end) {
    const Waiting waiting(upstream_wait_);
    co_return co_await ranges_.read(at, end);
  }

  pull::DirectRanges& ranges_;
  std::chrono::nanoseconds& upstream_wait_;
};

// A 206 with one range or several, of a blob of `size` bytes. After an error it has been begun and cannot be completed.
runtime::Task<Result<void>> send_ranges(http::Exchange& exchange, RangeSource& source, BlobResponder::Names names,
                                        std::vector<http::ByteRange> ranges, std::uint64_t size,
                                        std::string extra_fields) {
  if (ranges.size() > 1) {
    co_return co_await send_multipart(exchange, source, names.asked, std::move(ranges), size, std::move(extra_fields));
  }
  const std::string head =
      pull::partial_blob_head(names.asked, ranges.front(), size, names.media_type).str() + extra_fields;
  Result<void> sent = co_await exchange.begin(head);
  if (sent) sent = co_await source.send(exchange, ranges.front());
  if (sent) sent = co_await exchange.end();
  co_return sent;
}

// A 200, with the head that is ready where that has the name that was asked for.
runtime::Task<Result<void>> send_whole(http::Exchange& exchange, RangeSource& source, const pull::ReadyObject& object,
                                       BlobResponder::Names names, std::string extra_fields) {
  std::string head =
      names.are_two() ? pull::whole_blob_head(names.asked, object.size, object.media_type).str() : object.head;
  head += extra_fields;
  if (object.in_memory) co_return co_await exchange.send(head, object.body);
  Result<void> sent = co_await exchange.begin(head);
  if (sent && object.size != 0) sent = co_await source.send(exchange, {0, object.size - 1});
  if (sent) sent = co_await exchange.end();
  co_return sent;
}

// A 206 of what is arriving and has no known length (RFC 9110 section 14.4: `*`). All of the range is here.
runtime::Task<Result<void>> send_from_unknown(http::Exchange& exchange, streamcache::Stream& stream,
                                              BlobResponder::Names names, http::ByteRange range,
                                              std::string extra_fields, std::chrono::nanoseconds& upstream_wait) {
  http::ResponseHead head = pull::blob_head(206, names.asked, names.media_type);
  head.content_length(range.size());
  head.add("Content-Range", fmt::format("bytes {}-{}/*", range.first, range.last));
  const std::string text = head.str() + extra_fields;
  InFlight source(stream, upstream_wait);
  Result<void> sent = co_await exchange.begin(text);
  if (sent) sent = co_await source.send(exchange, range);
  if (sent) sent = co_await exchange.end();
  co_return sent;
}

std::uint64_t lowest(const std::vector<http::ByteRange>& ranges) {
  std::uint64_t first = UINT64_MAX;
  for (const http::ByteRange& range : ranges) first = std::min(first, range.first);
  return first;
}

bool go_forward(const std::vector<http::ByteRange>& ranges) {
  return std::adjacent_find(ranges.begin(), ranges.end(), [](const auto& left, const auto& right) {
           return right.first <= left.last;
         }) == ranges.end();
}

}  // namespace

bool BlobResponder::Names::matched_by(std::string_view if_none_match) const {
  return http::if_none_match(if_none_match, etag_of(asked)) ||
         (are_two() && http::if_none_match(if_none_match, etag_of(canonical)));
}

runtime::Task<Result<access::CacheResult>> BlobResponder::respond(http::Exchange& exchange, access::Route route,
                                                                  oci::Digest digest, std::string extra_fields,
                                                                  std::chrono::nanoseconds& upstream_wait) {
  const http::Request& request = exchange.request();
  const Names names{digest, service_.canonical(digest)};
  if (request.is_head() || names.matched_by(request.joined("If-None-Match"))) {
    co_return co_await respond_stat(exchange, std::move(route), digest, std::move(extra_fields));
  }
  http::RequestedRanges asked = requested_ranges(request, names);
  if (asked.kind == http::RequestedRanges::Kind::too_many) {
    co_await send_too_many(exchange, extra_fields);
    co_return access::CacheResult::none;
  }
  const std::chrono::steady_clock::time_point until = route.answer_by;
  Result<pull::BlobService::Opened> opened = co_await service_.open(route, digest, std::move(asked));
  if (!opened) co_return opened.error();
  const access::CacheResult result = opened->result;
  extra_fields += cache_fields(result);
  if (opened->direct) {
    co_await respond_direct(exchange, *opened->direct, {digest, digest, or_octets(opened->manifest_type)},
                            std::move(extra_fields), upstream_wait);
  } else if (opened->object) {
    co_await respond_at_rest(exchange, *opened->object, {digest, opened->canonical, opened->object->media_type},
                             std::move(extra_fields));
    metrics_.of(route).cache_bytes.add(exchange.body_bytes_sent());
  } else {
    const Result<void> responded = co_await respond_in_flight(
        exchange, *opened->stream, opened->size, {digest, opened->canonical, or_octets(opened->manifest_type)}, until,
        std::move(extra_fields), upstream_wait);
    if (!responded) co_return responded.error();
  }
  co_return result;
}

runtime::Task<Result<access::CacheResult>> BlobResponder::respond_stat(http::Exchange& exchange, access::Route route,
                                                                       oci::Digest digest, std::string extra_fields) {
  const Result<pull::BlobService::Stat> stat = co_await service_.stat(std::move(route), digest);
  if (!stat) co_return stat.error();
  extra_fields += stat->asked_for_access ? access_fields() : cache_fields(stat->result);
  std::string head;
  const Names names{digest, stat->canonical};
  if (!exchange.request().is_head() || names.matched_by(exchange.request().joined("If-None-Match"))) {
    head = not_modified(digest, extra_fields);
  } else {
    http::ResponseHead fields = pull::blob_head(200, digest, or_octets(stat->manifest_type));
    if (stat->size) fields.content_length(*stat->size);
    head = fields.str() + extra_fields;
  }
  const Result<void> sent = co_await exchange.send(head);
  static_cast<void>(sent);
  co_return stat->result;
}

runtime::Task<void> BlobResponder::respond_at_rest(http::Exchange& exchange, const pull::ReadyObject& object,
                                                   Names names, std::string extra_fields) {
  const http::Request& request = exchange.request();
  // Its canonical name may have been found out while it was opened.
  if (names.are_two() && names.matched_by(request.joined("If-None-Match"))) {
    const std::string head = not_modified(names.asked, extra_fields);
    const Result<void> sent = co_await exchange.send(head);
    static_cast<void>(sent);
    co_return;
  }
  const http::RangeSelection selected = http::select_ranges(requested_ranges(request, names), object.size);
  if (selected.kind == http::RangeSelection::Kind::unsatisfiable) {
    co_await send_unsatisfiable(exchange, object.size, extra_fields);
    co_return;
  }
  AtRest source(object);
  Result<void> sent{};
  if (selected.kind == http::RangeSelection::Kind::partial) {
    sent = co_await send_ranges(exchange, source, names, selected.ranges, object.size, std::move(extra_fields));
  } else {
    sent = co_await send_whole(exchange, source, object, names, std::move(extra_fields));
  }
  // The client sees a body that ends early. Whether the file is to blame is looked at, or the next one would too.
  if (!sent && (sent.error().code == Errc::io || sent.error().code == Errc::corrupt)) {
    service_.suspect(names.canonical);
  }
}

runtime::Task<Result<void>> BlobResponder::respond_in_flight(http::Exchange& exchange, streamcache::Stream& stream,
                                                             std::optional<std::uint64_t> size, Names names,
                                                             std::chrono::steady_clock::time_point until,
                                                             std::string extra_fields,
                                                             std::chrono::nanoseconds& upstream_wait) {
  const http::Request& request = exchange.request();
  const oci::Digest& digest = names.asked;
  if (size == 0) {
    // No last byte can be held back, so the head is: an empty body is complete as soon as its length is told.
    const Result<void> verified = co_await stream.wait();
    if (!verified) co_return verified.error();
  }
  const http::RequestedRanges asked = requested_ranges(request, names);
  if (!size && (request.version() < 11 || asked.kind != http::RequestedRanges::Kind::whole)) {
    const std::optional<http::ByteRange> range = closed_range(asked);
    const Result<std::optional<std::uint64_t>> have = co_await wait_for_range(stream, range, until);
    if (!have) co_return have.error();
    if (*have && range && **have > range->last) {
      const Result<void> sent =
          co_await send_from_unknown(exchange, stream, names, *range, std::move(extra_fields), upstream_wait);
      if (!sent) exchange.break_off();
      co_return Result<void>{};
    }
    size = *have;  // it has ended, so its length is known now
    // HTTP/1.0 knows no chunks: a body without a length is complete when the connection ends, however it ends.
    if (!size && request.version() < 11) {
      if (std::chrono::steady_clock::now() >= until) co_return not_here_in_time();
      co_return Error(Errc::no_space, "no room to hold the blob until its length is known");
    }
    // Else nobody can say where the range ends, so it is ignored (RFC 9110 section 14.2).
  }
  Result<void> sent{};
  http::RangeSelection selected;
  if (size) selected = http::select_ranges(asked, *size);
  if (selected.kind == http::RangeSelection::Kind::unsatisfiable) {
    co_await send_unsatisfiable(exchange, *size, extra_fields);
    co_return Result<void>{};
  }
  // A head that no byte follows would say that the client has something.
  if (stream.cut_off() || stream.finished() || stream.stored_end() != UINT64_MAX) {
    const bool is_part = selected.kind == http::RangeSelection::Kind::partial;
    const Result<std::uint64_t> first = co_await stream.wait_readable(is_part ? lowest(selected.ranges) : 0);
    if (!first) co_return first.error();
  }
  // What passes through memory cannot be gone back in, and the whole is a right answer to several ranges too (RFC 9110
  // section 14.2).
  const bool in_order = stream.stored_end() == UINT64_MAX || go_forward(selected.ranges);
  if (selected.kind == http::RangeSelection::Kind::partial && in_order) {
    InFlight source(stream, upstream_wait);
    sent = co_await send_ranges(exchange, source, names, selected.ranges, *size, std::move(extra_fields));
  } else {
    // An end that is not known yet is told by the last chunk.
    std::string head = size ? pull::whole_blob_head(digest, *size, names.media_type).str()
                            : pull::blob_head(200, digest, names.media_type).chunked().str();
    head += extra_fields;
    sent = co_await exchange.begin(head);
    if (sent) sent = co_await send_arriving(exchange, stream, 0, size, upstream_wait);
    if (sent) sent = co_await exchange.end();
  }
  // The client sees a body that ends early, and asks again.
  if (!sent) exchange.break_off();
  co_return Result<void>{};
}

runtime::Task<void> BlobResponder::respond_direct(http::Exchange& exchange, pull::DirectRanges& direct, Names names,
                                                  std::string extra_fields, std::chrono::nanoseconds& upstream_wait) {
  if (direct.ranges().empty()) {
    co_await send_unsatisfiable(exchange, direct.size(), extra_fields);
    co_return;
  }
  Direct source(direct, upstream_wait);
  const Result<void> sent =
      co_await send_ranges(exchange, source, names, direct.ranges(), direct.size(), std::move(extra_fields));
  if (!sent) exchange.break_off();
}

}  // namespace sluice::api
