#include "proxy/direct_ranges.hpp"

#include <algorithm>
#include <utility>

#include <boost/asio/this_coro.hpp>

#include <fmt/format.h>

#include "base/errc_kind.hpp"
#include "base/log.hpp"
#include "oci/media_type.hpp"
#include "proxy/blob_service.hpp"
#include "proxy/patience.hpp"
#include "runtime/loop.hpp"
#include "upstream/urgency.hpp"

namespace sluice::proxy {
namespace {

namespace asio = boost::asio;

// What lies between two ranges is fetched with them and thrown away where it is no more than this: a request costs
// more.
constexpr std::uint64_t kBridgeBytes = 16 * 1024;
// So many questions one after another, each of which takes a round trip, are slower than the whole blob, which then is
// there for the next client too.
constexpr std::size_t kMostQuestions = 64;
// Up to this an answer is short: a footer, a table of contents, a chunk of a small file.
constexpr std::uint64_t kShortBytes = upstream::kShortRangeBytes;
// What a client of a longer one holds in memory, also when it reads nothing.
constexpr std::size_t kBufferBytes = 4 * 1024;
constexpr int kShortTries = 3;
// A range that is larger than fill.range_limit must save the wait for so many times its own length.
constexpr std::uint64_t kWorthIt = 8;
// Downloads of the whole, behind ranges, at a time. The next range of a blob that was left out starts one.
constexpr std::size_t kMostBehind = 16;

std::uint64_t minus(std::uint64_t from, std::uint64_t what) noexcept { return from - std::min(from, what); }

std::uint64_t sum(const std::vector<http::ByteRange>& ranges) {
  std::uint64_t bytes = 0;
  for (const http::ByteRange& range : ranges) bytes += range.size();
  return bytes;
}

// Every one has an end. `N-` is how a client takes up a download that broke, and how containerd fetches in pieces, each
// of which it breaks off: what it wants is the blob.
bool are_bounded(const http::RequestedRanges& asked) {
  return asked.kind == http::RequestedRanges::Kind::ranges &&
         std::all_of(asked.ranges.begin(), asked.ranges.end(),
                     [](const http::RequestedRange& range) { return range.suffix || range.last; });
}

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

// Upstream may give another answer, or the rest of this one, when it is asked again.
bool may_pass(Errc code) { return is_outage(code) || code == Errc::overloaded; }

// The answer is no use, whatever it is: what upstream has is found out by a download of the whole.
bool is_no_range(Errc code) {
  return code == Errc::unsupported || code == Errc::range_invalid || code == Errc::size_mismatch ||
         code == Errc::upstream_protocol;
}

Result<void> check_size(const upstream::BlobBody& body, std::uint64_t size) {
  // No byte of a range can be verified: what a registry only refers us to must say whose it is, and is no small answer
  // of something else (BlobService::hold_back).
  if (body.is_redirected() && (!body.size() || size <= kHeldWholeBytes)) {
    return Error{Errc::unsupported, "a range from behind a redirect that cannot be verified"};
  }
  if (!body.size() || *body.size() == size) return {};
  return Error{Errc::size_mismatch, fmt::format("upstream's blob has {} bytes, not {}", *body.size(), size)};
}

Error ended_early() { return {Errc::upstream_unreachable, "upstream's range ended early"}; }

// A short answer as a whole. Where the connection breaks it goes on.
runtime::Task<Result<std::shared_ptr<const std::string>>> fetch_short(Route route, oci::Digest digest,
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
    if (!may_pass(broken.code) || tries == kShortTries) co_return broken;
  }
}

}  // namespace

DirectRanges::DirectRanges(BlobService& service, Route route, oci::Digest digest, std::uint64_t size,
                           std::vector<http::ByteRange> ranges)
    : service_(service),
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
  co_return co_await ask_long(question, position);
}

runtime::Task<Result<void>> DirectRanges::ask_short(http::ByteRange question, Until until) {
  const std::string key =
      fmt::format("{} {} {}-{}", route_.registry->name(), digest_.to_string(), question.first, question.last);
  auto work = [route = route_, digest = digest_, question, size = size_, metrics = service_.metrics_] {
    return fetch_short(route, digest, question, size, metrics);
  };
  using Fetched = runtime::SingleFlight<std::string, std::shared_ptr<const std::string>>::Outcome;
  std::optional<Fetched> fetched = co_await runtime::within(service_.short_ranges_.run(key, work), until);
  if (!fetched) co_return not_in_time(route_);
  // What upstream said to another one, who may have come from another repository or with another login, or who has
  // left, is not said to us.
  if (!fetched->result && fetched->joined) fetched->result = co_await in_time(route_, work(), until);
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
  if (buffer_.empty()) buffer_.resize(std::min(service_.params_.read_bytes, kBufferBytes));
  body_ = std::move(*body);
  body_at_ = position;
  body_end_ = question.last + 1;
  co_return Result<void>{};
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
    service_.metrics_.of(route_).received_range_bytes.add(*n);
    service_.metrics_.of(route_).range_bytes.add(*n);
    if (wanted) co_return *n;
  }
}

runtime::Task<Result<std::span<const std::byte>>> DirectRanges::read(std::uint64_t position, std::uint64_t end) {
  idle_->disarm();
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
          idle_->arm(service_.params_.window_patience);
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
    if (!may_pass(broken.code) || failures_ >= service_.params_.resume_attempts) co_return broken;
    log::info("range", fmt::format("{} of {}: {}; going on from byte {}", digest_.to_string(), route_.scope.str(),
                                   broken.message, position));
    service_.metrics_.fills_resumed.add();
    co_await service_.back_off(failures_);
    ++failures_;
  }
}

// --------------------------------------------------------------------------------- which ranges go this way

// Ranges of a blob of which `have` bytes can be read by now; nothing where it is not on its way.
//
//   too many to be asked for one by one                           starts a fill, or waits for it
//   is on its way   far ahead of what has arrived                 direct
//                   else                                          waits for the fill
//   is not          little of the blob has been passed through    direct
//                   far from its beginning                        direct, and a fill is started
//                   else                                          starts a fill and waits for it
BlobService::RangeWay BlobService::way_of(const std::string& key, const std::vector<http::ByteRange>& ranges,
                                          std::uint64_t size, std::optional<std::uint64_t> have) {
  const std::uint64_t bytes = sum(ranges);
  std::uint64_t furthest = 0;
  for (const http::ByteRange& range : ranges) furthest = std::max(furthest, range.first);
  const std::uint64_t before = minus(furthest, have.value_or(0));
  const bool far =
      before > params_.range_ahead_bytes && (bytes <= params_.range_limit_bytes || before / kWorthIt >= bytes);
  if (join_neighbours(ranges).size() > kMostQuestions) return RangeWay::fill;
  if (have) return far ? RangeWay::direct : RangeWay::fill;
  // It would be fetched nearly whole.
  if (!far && bytes >= minus(size, bytes)) return RangeWay::fill;
  const std::scoped_lock lock(passed_mutex_);
  const Passed* const before_now = passed_.find(key);
  const std::uint64_t passed = bytes + (before_now != nullptr ? before_now->bytes : 0);
  if (passed <= params_.range_limit_bytes) {
    passed_.insert(key, Passed{passed, false});
    return RangeWay::direct;
  }
  passed_.erase(key);
  return far ? RangeWay::direct_and_fill : RangeWay::fill;
}

// Fetches the whole behind all that somebody waits for, the rest of these ranges included.
void BlobService::fetch_behind(const runtime::Executor& executor, Route route, const oci::Digest& digest) {
  // A client's login is for what the client asks.
  if (route.on_behalf) return;
  route.urgency = std::make_shared<upstream::Urgency>();
  route.behind = route.registry->behind_others(route.urgency);
  if (!route.behind) return;
  route.registry = route.behind.get();
  route.answer_by = std::chrono::steady_clock::time_point::max();
  std::shared_ptr<void> place(behind_.get(), [count = behind_](void*) { count->fetch_sub(1); });
  if (behind_->fetch_add(1) >= kMostBehind) return;
  group_.spawn(executor, fetch_unasked(std::move(route), digest, std::move(place)));
}

runtime::Task<void> BlobService::fetch_unasked(Route route, oci::Digest digest,
                                               [[maybe_unused]] std::shared_ptr<void> place) {
  const Result<Ahead> fetched = co_await fetch_ahead(route, digest);
  if (!fetched && fetched.error().code != Errc::cancelled) {
    log::debug("range", fmt::format("{} of {}: {}", digest.to_string(), route.scope.str(), fetched.error().message));
  }
}

// Nothing: these are not for this way.
runtime::Task<Result<std::optional<BlobService::Opened>>> BlobService::direct(Route route, oci::Digest digest,
                                                                              http::RequestedRanges asked) {
  std::optional<Opened> out;
  if (!params_.direct_ranges || !are_bounded(asked) || access_.known_unknown(route.scope, digest)) co_return out;
  const std::string key = fill_key(route.registry->name(), access_.canonical(digest));
  {
    const std::scoped_lock lock(passed_mutex_);
    const Passed* const passed = passed_.find(key);
    if (passed != nullptr && passed->refused) co_return out;
  }
  Result<BlobAccess::Known> known = co_await allowed(route, digest);
  if (known) known = co_await with_size(route, digest, *known);
  // Upstream has answered, but does not tell the length: a download of the whole finds out what there is.
  if (!known && is_odd_answer(known.error().code)) co_return out;
  if (!known) co_return known.error();
  const std::uint64_t size = known->descriptor.size;
  const http::RangeSelection selected = http::select_ranges(asked, size);
  if (selected.kind == http::RangeSelection::Kind::whole) co_return out;
  auto ranges = std::make_unique<DirectRanges>(*this, route, digest, size, selected.ranges);
  if (selected.kind == http::RangeSelection::Kind::partial) {
    const RangeWay way = way_of(key, selected.ranges, size, fills_.readable(key));
    if (way == RangeWay::fill) co_return out;
    const Result<void> opened = co_await ranges->open();
    if (!opened) {
      const Errc code = opened.error().code;
      if (code == Errc::blob_unknown) access_.remember_unknown(route.scope, digest);
      if (code == Errc::unsupported) {
        const std::scoped_lock lock(passed_mutex_);
        passed_.insert(key, Passed{0, true});
      }
      // A fill that runs has another connection, and its own patience.
      if (is_no_range(code) || (may_pass(code) && fills_.readable(key))) co_return out;
      co_return opened.error();
    }
    if (way == RangeWay::direct_and_fill) fetch_behind(co_await asio::this_coro::executor, route, digest);
  }
  out.emplace();
  out->result = CacheResult::range;
  out->size = size;
  out->canonical = access_.canonical(digest);
  out->direct = std::move(ranges);
  out->manifest_type = oci::noted_manifest_type(known->descriptor.media_type);
  co_return out;
}

}  // namespace sluice::proxy
