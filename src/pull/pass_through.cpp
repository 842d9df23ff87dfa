#include "pull/pass_through.hpp"

#include <algorithm>
#include <utility>

#include <boost/asio/this_coro.hpp>

#include <fmt/format.h>

#include "access/patience.hpp"
#include "base/errc_kind.hpp"
#include "base/log.hpp"
#include "oci/media_type.hpp"
#include "upstream/urgency.hpp"

namespace sluice::pull {
namespace {

namespace asio = boost::asio;

// So many questions one after another, each of which takes a round trip, are slower than the whole blob, which then is
// there for the next client too.
constexpr std::size_t kMostQuestions = 64;
// A range that is larger than fill.range_limit must save the wait for so many times its own length.
constexpr std::uint64_t kWorthIt = 8;
// Fills that nobody waits for, at a time. The next range of a blob that was left out starts one.
constexpr std::size_t kMostUnasked = 16;
// How long an upstream that has told no size of a blob is not asked for one.
constexpr std::chrono::minutes kUntoldFor{10};

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

// The answer is no use, whatever it is: what upstream has is found out by a download of the whole. Some registries
// answer a Range with 500 or 501.
bool is_no_range(Errc code) {
  return code == Errc::unsupported || code == Errc::range_invalid || code == Errc::size_mismatch ||
         code == Errc::upstream_protocol || code == Errc::upstream_failed || code == Errc::upstream_loop;
}

}  // namespace

PassThrough::PassThrough(const Params& params, const TransferParams& transfer, access::BlobAccess& access,
                         access::MembershipCheck& membership, Fills& fills, const Clock& clock,
                         runtime::TaskGroup& group, const Metrics& metrics)
    : params_(params),
      access_(access),
      membership_(membership),
      fills_(fills),
      group_(group),
      shared_{transfer, metrics, runtime::SingleFlight<std::string, std::shared_ptr<const std::string>>(group)},
      untold_({.ttl = kUntoldFor, .max_entries = 1'000}, clock) {}

PassThrough::~PassThrough() = default;

runtime::Task<Result<std::optional<PassThrough::Opened>>> PassThrough::open(access::Route route, oci::Digest digest,
                                                                            http::RequestedRanges asked) {
  std::optional<Opened> out;
  if (!params_.enabled || !are_bounded(asked) || access_.known_unknown(route.scope, digest)) co_return out;
  const std::string key = fills_.key(route, digest);
  if (is_refused(key)) co_return out;
  const std::string name(access::origin_name(route));
  if (untold_.contains(name) && !access_.peek(route, digest)) co_return out;
  Result<access::BlobAccess::Known> known = co_await membership_.of(route, digest);
  if (known) known = co_await membership_.with_size(route, digest, *known);
  // Upstream has answered, but does not tell the length: a download of the whole finds out what there is.
  if (!known && has_without_size(known.error().code)) untold_.add(name);
  if (!known && (is_odd_answer(known.error().code) || has_without_size(known.error().code))) co_return out;
  if (!known) co_return known.error();
  std::uint64_t size = known->descriptor.size;
  http::RangeSelection selected = http::select_ranges(asked, size);
  if (selected.kind == http::RangeSelection::Kind::unsatisfiable) {
    const access::Revocations::Ticket ticket = access_.begin(route);
    const Result<std::optional<std::uint64_t>> told = co_await ask_size(route, digest);
    if (!told) co_return told.error();
    if (!*told) co_return out;
    if (**told != size) {
      known->descriptor.size = size = **told;
      co_await access_.remember(route.scope, known->descriptor, ticket);
      selected = http::select_ranges(asked, size);
    }
  }
  if (selected.kind == http::RangeSelection::Kind::whole) co_return out;
  auto ranges = std::make_unique<DirectRanges>(shared_, route, digest, size, selected.ranges);
  if (selected.kind == http::RangeSelection::Kind::partial) {
    const Way way = way_of(key, selected.ranges, size, fills_.readable(key));
    if (way == Way::fill) co_return out;
    const Result<void> opened = co_await ranges->open();
    if (!opened) {
      const Errc code = opened.error().code;
      if (code == Errc::blob_unknown) {
        // To forget the blob would take it from under a download that upstream is sending.
        if (fills_.readable(key))
          access_.remember_unknown(route, digest);
        else
          co_await membership_.note_unknown(route, digest);
      }
      if (code == Errc::unsupported) {
        const std::scoped_lock lock(passed_mutex_);
        passed_.insert(key, Passed{0, true});
      }
      // A fill that runs has another connection, and its own patience.
      if (is_no_range(code) || (is_resumable(code) && fills_.readable(key))) co_return out;
      co_return opened.error();
    }
    if (way == Way::direct_and_fill) fill_too(co_await asio::this_coro::executor, route, digest);
  }
  out.emplace();
  out->ranges = std::move(ranges);
  out->manifest_type = oci::noted_manifest_type(known->descriptor.media_type);
  co_return out;
}

runtime::Task<Result<std::optional<std::uint64_t>>> PassThrough::ask_size(access::Route route, oci::Digest digest) {
  const Result<std::unique_ptr<upstream::BlobBody>> body =
      co_await access::in_time(route, route.registry->open_blob_range(route.repository, digest, 0, 0));
  if (!body && is_no_range(body.error().code)) co_return std::optional<std::uint64_t>();
  if (!body) co_return body.error();
  co_return (*body)->size();
}

bool PassThrough::is_refused(const std::string& key) {
  const std::scoped_lock lock(passed_mutex_);
  const Passed* const passed = passed_.find(key);
  return passed != nullptr && passed->refused;
}

PassThrough::Way PassThrough::way_of(const std::string& key, const std::vector<http::ByteRange>& ranges,
                                     std::uint64_t size, std::optional<std::uint64_t> have) {
  const std::uint64_t bytes = sum(ranges);
  std::uint64_t furthest = 0;
  for (const http::ByteRange& range : ranges) furthest = std::max(furthest, range.first);
  const std::uint64_t before = minus(furthest, have.value_or(0));
  const bool far = before > params_.ahead_bytes && (bytes <= params_.limit_bytes || before / kWorthIt >= bytes);
  if (join_neighbours(ranges).size() > kMostQuestions) return Way::fill;
  if (have) return far ? Way::direct : Way::fill;
  // It would be fetched nearly whole.
  if (!far && bytes >= minus(size, bytes)) return Way::fill;
  const std::scoped_lock lock(passed_mutex_);
  const Passed* const before_now = passed_.find(key);
  const std::uint64_t passed = bytes + (before_now != nullptr ? before_now->bytes : 0);
  if (passed <= params_.limit_bytes) {
    passed_.insert(key, Passed{passed, false});
    return Way::direct;
  }
  passed_.erase(key);
  return far ? Way::direct_and_fill : Way::fill;
}

// Behind all that somebody waits for, the rest of these ranges included.
void PassThrough::fill_too(const runtime::Executor& executor, access::Route route, const oci::Digest& digest) {
  // A client's login is for what the client asks.
  if (route.on_behalf) return;
  route.urgency = std::make_shared<upstream::Urgency>();
  route.behind = route.registry->behind_others(route.urgency);
  if (!route.behind) return;
  route.registry = route.behind.get();
  route.answer_by = std::chrono::steady_clock::time_point::max();
  std::shared_ptr<void> place(unasked_.get(), [count = unasked_](void*) { count->fetch_sub(1); });
  if (unasked_->fetch_add(1) >= kMostUnasked) return;
  group_.spawn(executor, fetch_unasked(std::move(route), digest, std::move(place)));
}

runtime::Task<void> PassThrough::fetch_unasked(access::Route route, oci::Digest digest,
                                               [[maybe_unused]] std::shared_ptr<void> place) {
  const Result<Fills::Ahead> fetched = co_await fills_.fetch_ahead(route, digest);
  if (!fetched && fetched.error().code != Errc::cancelled) {
    log::debug("range", fmt::format("{} of {}: {}", digest.to_string(), route.scope.str(), fetched.error().message));
  }
}

}  // namespace sluice::pull
