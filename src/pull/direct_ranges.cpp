#include "pull/direct_ranges.hpp"

#include <algorithm>
#include <utility>

#include <boost/asio/this_coro.hpp>

#include <fmt/format.h>

#include "access/patience.hpp"
#include "base/log.hpp"
#include "runtime/loop.hpp"

namespace sluice::pull {
namespace {

namespace asio = boost::asio;

// What lies between two ranges is fetched with them and thrown away where it is no more than this: a request costs
// more.
constexpr std::uint64_t kBridgeBytes = 16 * 1024;
// Up to this an answer is short: a footer, a table of contents, a chunk of a small file.
constexpr std::uint64_t kShortBytes = upstream::kShortRangeBytes;
// What a client of a longer one holds in memory, also when it reads nothing.
constexpr std::size_t kBufferBytes = 4 * 1024;
constexpr int kShortTries = 3;

Result<void> check_size(const upstream::BlobBody& body, std::uint64_t size) {
  // No byte of a range can be verified: what a registry only refers us to must say whose it is, and is no small answer
  // of something else (Download::hold_back).
  if (body.is_redirected() && (!body.size() || size <= kHeldWholeBytes)) {
    return Error{Errc::unsupported, "a range from behind a redirect that cannot be verified"};
  }
  if (!body.size() || *body.size() == size) return {};
  return Error{Errc::size_mismatch, fmt::format("upstream's blob has {} bytes, not {}", *body.size(), size)};
}

Error ended_early() { return {Errc::upstream_unreachable, "upstream's range ended early"}; }

// A short answer as a whole. Where the connection breaks it goes on.
runtime::Task<Result<std::shared_ptr<const std::string>>> fetch_short(access::Route route, oci::Digest digest,
                                                                      http::ByteRange range, std::uint64_t size,
                                                                      Metrics metrics) {
  const auto bytes = std::make_shared<std::string>(static_cast<std::size_t>(range.size()), '\0');
  std::size_t at = 0;
  for (int tries = 1;; ++tries) {
    Result<std::unique_ptr<upstream::BlobBody>> body =
        co_await route.registry->open_blob_range(route.repository, digest, range.first + at, range.last);
    if (!body) co_return body.error();
    if (const Result<void> fits = check_size(**body, size); !fits) co_return fits.error();
    Error broken{Errc::internal};
    while (at < bytes->size()) {
      const Result<std::size_t> n =
          co_await (*body)->read(std::as_writable_bytes(std::span(bytes->data() + at, bytes->size() - at)));
      if (!n || *n == 0) {
        broken = n ? ended_early() : n.error();
        break;
      }
      at += *n;
      metrics.of(route).received_range_bytes.add(*n);
      metrics.of(route).range_bytes.add(*n);
    }
    if (at == bytes->size()) co_return bytes;
    if (!is_resumable(broken.code) || tries == kShortTries) co_return broken;
  }
}

}  // namespace

std::vector<http::ByteRange> join_neighbours(const std::vector<http::ByteRange>& ranges) {
  std::vector<http::ByteRange> out;
  for (const http::ByteRange& range : ranges) {
    if (!out.empty() && range.first > out.back().last && range.first - out.back().last <= kBridgeBytes) {
      out.back().last = range.last;
    } else {
      out.push_back(range);
    }
  }
  return out;
}

DirectRanges::DirectRanges(Shared& shared, access::Route route, oci::Digest digest, std::uint64_t size,
                           std::vector<http::ByteRange> ranges)
    : shared_(shared),
      route_(std::move(route)),
      digest_(digest),
      size_(size),
      ranges_(std::move(ranges)),
      questions_(join_neighbours(ranges_)) {}

DirectRanges::~DirectRanges() = default;

runtime::Task<Result<void>> DirectRanges::open() {
  const runtime::Executor executor = co_await asio::this_coro::executor;
  idle_.emplace(runtime::Loop::of(executor), [this] { body_.reset(); });
  co_return co_await ask(questions_.front(), questions_.front().first, route_.answer_by);
}

// Ranges may overlap, so the question has to hold all that is left of the range.
const http::ByteRange& DirectRanges::question_for(std::uint64_t position, std::uint64_t end) const {
  return *std::find_if(questions_.begin(), questions_.end(), [position, end](const http::ByteRange& question) {
    return question.first <= position && end - 1 <= question.last;
  });
}

runtime::Task<Result<void>> DirectRanges::ask(http::ByteRange question, std::uint64_t position, Until until) {
  if (question.size() <= kShortBytes) co_return co_await ask_short(question, until);
  co_return co_await access::in_time(route_, ask_long(question, position), until);
}

runtime::Task<Result<void>> DirectRanges::ask_short(http::ByteRange question, Until until) {
  const std::string key =
      fmt::format("{} {} {}-{}", access::origin_name(route_), digest_.to_string(), question.first, question.last);
  auto work = [route = route_, digest = digest_, question, size = size_, metrics = shared_.metrics] {
    return fetch_short(route, digest, question, size, metrics);
  };
  using Fetched = runtime::SingleFlight<std::string, std::shared_ptr<const std::string>>::Outcome;
  std::optional<Fetched> fetched = co_await runtime::within(shared_.short_ranges.run(key, work), until);
  if (!fetched) co_return access::not_in_time(route_);
  // What upstream said to another one, who may have come from another repository or with another login, or who has
  // left, is not said to us.
  if (!fetched->result && fetched->joined) fetched->result = co_await access::in_time(route_, work(), until);
  if (!fetched->result) co_return fetched->result.error();
  short_ = *fetched->result;
  held_ = question;
  body_.reset();
  co_return Result<void>{};
}

runtime::Task<Result<void>> DirectRanges::ask_long(http::ByteRange question, std::uint64_t position) {
  held_.reset();
  body_.reset();
  Result<std::unique_ptr<upstream::BlobBody>> body =
      co_await route_.registry->open_blob_range(route_.repository, digest_, position, question.last);
  if (!body) co_return body.error();
  if (const Result<void> fits = check_size(**body, size_); !fits) co_return fits.error();
  if (buffer_.empty()) buffer_.resize(std::min(shared_.params.read_bytes, kBufferBytes));
  body_ = std::move(*body);
  taking_ = std::chrono::nanoseconds(0);
  given_at_ = std::chrono::steady_clock::now();
  body_at_ = position;
  body_end_ = question.last + 1;
  co_return Result<void>{};
}

// Who takes little at a time keeps a connection that others wait for as one does who takes nothing.
bool DirectRanges::is_too_slow() const {
  return shared_.params.patience.count() > 0 && taking_ >= shared_.params.patience && body_->is_wanted();
}

// What stands at `position` of the running answer, at the front of the buffer.
runtime::Task<Result<std::size_t>> DirectRanges::receive(std::uint64_t position, std::uint64_t end) {
  for (;;) {
    const std::uint64_t until = body_at_ < position ? position : end;
    const auto want = static_cast<std::size_t>(std::min<std::uint64_t>(buffer_.size(), until - body_at_));
    const Result<std::size_t> n = co_await body_->read(std::span(buffer_).first(want));
    if (!n) co_return n.error();
    if (*n == 0) co_return ended_early();
    const bool wanted = body_at_ == position;
    body_at_ += *n;
    failures_ = 0;
    shared_.metrics.of(route_).received_range_bytes.add(*n);
    shared_.metrics.of(route_).range_bytes.add(*n);
    if (wanted) co_return *n;
  }
}

runtime::Task<Result<std::span<const std::byte>>> DirectRanges::read(std::uint64_t position, std::uint64_t end) {
  idle_->disarm();
  if (body_) taking_ += std::chrono::steady_clock::now() - given_at_;
  if (body_ && is_too_slow()) body_.reset();
  const http::ByteRange question = question_for(position, end);
  for (;;) {
    Error broken{Errc::internal};
    if (held_ == question) {
      co_return std::as_bytes(std::span(*short_))
          .subspan(static_cast<std::size_t>(position - question.first), static_cast<std::size_t>(end - position));
    }
    const bool runs = body_ && body_at_ <= position && body_end_ == question.last + 1;
    if (runs) {
      const Result<std::size_t> n = co_await receive(position, end);
      if (n) {
        // From here on it is the client's turn.
        if (body_at_ == body_end_) {
          body_.reset();
        } else {
          idle_->arm(shared_.params.patience);
          given_at_ = std::chrono::steady_clock::now();
        }
        co_return std::span<const std::byte>(buffer_).first(*n);
      }
      broken = n.error();
      body_.reset();
    } else {
      // The answer has begun: from here on the client decides how long it waits.
      const Result<void> asked = co_await ask(question, position, Until::max());
      if (asked) continue;
      broken = asked.error();
    }
    if (!is_resumable(broken.code) || failures_ >= shared_.params.attempts) co_return broken;
    log::info("range", fmt::format("{} of {}: {}; going on from byte {}", digest_.to_string(), route_.scope.str(),
                                   broken.message, position));
    shared_.metrics.fills_resumed.add();
    co_await back_off(shared_.params.backoff, failures_);
    ++failures_;
  }
}

}  // namespace sluice::pull
