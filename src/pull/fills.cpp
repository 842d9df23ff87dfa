#include "pull/fills.hpp"

#include <utility>

#include <boost/asio/cancellation_state.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/this_coro.hpp>

#include <fmt/format.h>

#include "base/errc_kind.hpp"
#include "base/log.hpp"
#include "base/units.hpp"
#include "oci/media_type.hpp"
#include "pull/trailing_verifier.hpp"
#include "upstream/urgency.hpp"

namespace sluice::pull {
namespace {

namespace asio = boost::asio;

runtime::Task<void> until_abandoned(streamcache::Writer& writer) {
  const Result<void> abandoned = co_await writer.wait_abandoned();
  static_cast<void>(abandoned);
}

runtime::Task<void> store_outcome(Result<void>* outcome, runtime::Task<Result<void>> task) {
  *outcome = co_await std::move(task);
}

}  // namespace

runtime::Task<std::optional<store::Stored>> look_for_stored(store::BlobStore& store, oci::Digest canonical,
                                                            std::string_view upstream) {
  const Result<store::Stored> stored = co_await store.stat(canonical);
  if (!stored || !store.permits(*stored, upstream)) co_return std::nullopt;
  co_return *stored;
}

Fills::Fills(const TransferParams& params, std::function<void(const oci::Digest&)> forget, FillStorage& storage,
             access::BlobAccess& access, store::BlobStore& store, streamcache::Cache& cache, runtime::DiskPool& pool,
             runtime::Filesystem& filesystem, const Clock& clock, runtime::TaskGroup& group, const Metrics& metrics)
    : forget_(std::move(forget)),
      storage_(storage),
      access_(access),
      store_(store),
      cache_(cache),
      pool_(pool),
      filesystem_(filesystem),
      group_(group),
      metrics_(metrics),
      log_(clock),
      shared_{params, access, storage, urgencies_, told_types_, log_, metrics_} {}

Fills::~Fills() = default;

std::string Fills::key(const access::Route& route, const oci::Digest& digest) const {
  return fill_key(access::origin_name(route), access_.canonical(digest));
}

runtime::Task<Result<streamcache::Lookup>> Fills::join_or_start(access::Route route, oci::Digest digest) {
  const auto part_room = std::make_shared<store::Reservation>();
  // A fill takes as long as it takes.
  access::Route unhurried = route;
  unhurried.answer_by = std::chrono::steady_clock::time_point::max();
  streamcache::Create create = [this, route = std::move(unhurried), digest,
                                part_room](std::shared_ptr<streamcache::Writer> writer) {
    return run(route, digest, std::move(writer), part_room);
  };
  const std::string joined = key(route, digest);
  Result<streamcache::Lookup> lookup = co_await cache_.find_or_create(
      joined, std::move(create), storage_.opener(digest, access::origin_of(route), part_room));
  if (lookup && !lookup->created && !route.urgency) urgencies_.raise(joined);
  co_return lookup;
}

// ------------------------------------------------------------------------------------------------------- the producer

runtime::Task<Result<void>> Fills::run(access::Route route, oci::Digest digest,
                                       std::shared_ptr<streamcache::Writer> writer,
                                       std::shared_ptr<store::Reservation> part_room) {
  // Between the caller's look into the store and this fill another one may have ended.
  if (store_.find(access_.canonical(digest), access::origin_name(route)))
    co_return Error{Errc::superseded, "stored meanwhile"};
  TrailingVerifier verifier(pool_, filesystem_, writer->file(), writer, digest.algorithm(), writer->part_bytes());
  Room room{std::move(*part_room), access_.begin(route)};
  Result<void> received{};
  {
    using namespace asio::experimental::awaitable_operators;
    co_await (store_outcome(&received, download(route, digest, *writer, verifier, room)) || until_abandoned(*writer));
  }
  // What follows takes the disk's time, not upstream's, and is worth it also when the program is about to end.
  co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
  if (!received && writer->given_up()) received = Error{Errc::abandoned, "all readers left before the end"};
  if (received) received = co_await verify(route, digest, *writer, verifier);
  if (!received) {
    told_types_.forget_size(fill_key(access::origin_name(route), digest));
    report_failure(received.error(), route, digest, writer->position());
    const Errc code = received.error().code;
    if (FillMachine::keeps_part(code) && !unwanted(room, route, digest)) {
      co_await storage_.keep_part(digest, *writer, room.reservation);
    }
    // Its size was remembered when upstream began to send, and what upstream sent was something else.
    if (code == Errc::digest_mismatch || code == Errc::size_mismatch) {
      const Result<void> forgotten = co_await access_.forget(route.scope, digest);
      static_cast<void>(forgotten);  // no worse than before: the next whole download corrects it
    }
    co_await storage_.remove(*writer);
    co_return received;
  }
  const oci::Digest canonical = verifier.canonical();
  co_await remember_verified(route.scope, digest, canonical, writer->position(), room.ticket);
  metrics_.fills_completed.add();
  co_await keep_verified(route, digest, canonical, *writer, room);
  co_return Result<void>{};
}

runtime::Task<Result<void>> Fills::download(access::Route route, oci::Digest digest, streamcache::Writer& writer,
                                            TrailingVerifier& verifier, Room& room) {
  Download download(shared_, key(route, digest), route, digest, writer, verifier, room.reservation, room.ticket);
  co_return co_await download.run();
}

void Fills::report_failure(const Error& error, const access::Route& route, const oci::Digest& digest,
                           std::uint64_t bytes) {
  if (is_verdict(error.code)) {
    // An answer like another: any client can make it happen, by asking for what is not there.
    log::debug("fill", fmt::format("{} of {}: {}", digest.to_string(), route.scope.str(), error.message));
    return;
  }
  metrics_.fills_failed.add();
  if (error.code == Errc::abandoned) return;
  const std::string message = fmt::format("{} of {} ended after {}: {}", digest.to_string(), route.scope.str(),
                                          format_bytes(bytes), error.message);
  if (error.code == Errc::cancelled) {
    // To be stopped, with the program, is no fault of anybody's.
    log::info("fill", message);
    return;
  }
  // What an upstream always does wrong is no line for each request.
  const log::Level level = error.code == Errc::digest_mismatch ? log::Level::error : log::Level::warn;
  log_.write(level, "fill", fmt::format("{} {}", origin_name(route), name(error.code)), message);
}

// When all is right the readers have everything: they need not wait for the disk.
runtime::Task<Result<void>> Fills::verify(access::Route route, oci::Digest digest, streamcache::Writer& writer,
                                          TrailingVerifier& verifier) {
  const Result<oci::Digest> computed = co_await verifier.finish(writer.position());
  if (!computed) co_return computed.error();
  if (*computed == digest) co_return writer.complete();
  metrics_.fill_digest_mismatches.add();
  route.registry->note_mismatch(digest);
  co_return Error{Errc::digest_mismatch, fmt::format("upstream sent bytes that do not have the digest {}, but {}",
                                                     digest.to_string(), computed->to_string())};
}

runtime::Task<void> Fills::keep_verified(access::Route route, oci::Digest digest, oci::Digest canonical,
                                         streamcache::Writer& writer, Room& room) {
  if (unwanted(room, route, digest)) {
    co_await storage_.remove(writer);
    co_return;
  }
  if (const auto at_rest = store_.find(canonical); at_rest && at_rest->size == writer.position()) {
    // It is here: under its other name, or through another upstream. This one has now delivered it too. A file of
    // another length is not it, and is replaced.
    co_await store_.add_origin(canonical, access::origin_of(route));
    co_await storage_.remove(writer);
  } else {
    const bool kept = co_await storage_.keep(canonical, digest, writer, room.reservation, told_type(route, digest),
                                             access::origin_of(route));
    if (kept) metrics_.of(route).stored_bytes.add(writer.position());
  }
  // A removal that came in between has looked for the file before it was there.
  if (unwanted(room, route, digest)) {
    const Result<void> removed = co_await store_.remove(canonical);
    static_cast<void>(removed);
    forget_(canonical);
  }
}

// `canonical` is the sha256 of the bytes that have the digest `digest`. Upstream has given them out for this
// repository, so it has them under both names.
runtime::Task<void> Fills::remember_verified(descriptors::Scope scope, oci::Digest digest, oci::Digest canonical,
                                             std::uint64_t size, const access::Revocations::Ticket& ticket) {
  const std::string media_type(oci::media_type::kOctetStream);
  if (canonical != digest) {
    access_.set_canonical(digest, canonical, size);
    if (!access_.revoked(ticket, scope, digest)) {
      co_await access_.remember(scope, oci::Descriptor{canonical, size, media_type}, ticket);
    }
  }
  co_await access_.remember(scope, oci::Descriptor{digest, size, media_type}, ticket);
}

// The blob was taken out of the repository during the download, and no other one has it: its readers get it, and nobody
// else.
bool Fills::unwanted(const Room& room, const access::Route& route, const oci::Digest& digest) const {
  if (!access_.removed(room.ticket, route.scope, digest)) return false;
  const oci::Digest canonical = access_.canonical(digest);
  return store_.catalog().scopes_of(digest).empty() &&
         (canonical == digest || store_.catalog().scopes_of(canonical).empty());
}

// ----------------------------------------------------------------------------------------------- fills without readers

// Upstream has not begun to answer, and a fill without readers may be given up (fill.abandoned): a registry that needs
// longer than clients wait would then be asked anew by each of them, in vain.
void Fills::hold_until_begun(const runtime::Executor& executor, const std::string& key,
                             std::unique_ptr<streamcache::Stream> stream) {
  {
    const std::scoped_lock lock(held_mutex_);
    if (!held_.insert(key).second) return;
  }
  std::shared_ptr<void> place(nullptr, [this, key](void*) {
    const std::scoped_lock lock(held_mutex_);
    held_.erase(key);
  });
  group_.spawn(executor, wait_until_begun(std::move(stream), std::move(place)));
}

runtime::Task<void> Fills::wait_until_begun(std::unique_ptr<streamcache::Stream> stream,
                                            [[maybe_unused]] std::shared_ptr<void> place) {
  const Result<std::optional<std::uint64_t>> size = co_await stream->wait_size();
  static_cast<void>(size);
}

runtime::Task<Result<Fills::Ahead>> Fills::fetch_ahead(access::Route route, oci::Digest digest) {
  const oci::Digest canonical = access_.canonical(digest);
  const std::string_view upstream = access::origin_name(route);
  if (store_.find(canonical, upstream)) co_return Ahead::present;
  if (store_.incomplete() && co_await look_for_stored(store_, canonical, upstream)) co_return Ahead::present;
  if (storage_.in_trouble()) co_return Ahead::no_room;
  if (access_.known_unknown(route.scope, digest)) co_return Error{Errc::blob_unknown, "upstream does not have it"};
  // Before the fill can be joined, so that whoever joins finds whom to hurry. Several may be listed for a blob, of
  // which one has the fill.
  const upstream::Urgencies::Listed listed(urgencies_, fill_key(upstream, canonical), route.urgency);
  Result<streamcache::Lookup> lookup = co_await join_or_start(route, digest);
  if (!lookup) co_return lookup.error();
  if (!lookup->created) co_return Ahead::present;
  streamcache::Stream& stream = *lookup->stream;
  for (std::uint64_t position = 0;;) {
    const Result<std::uint64_t> end = co_await stream.wait_readable(position);
    // Its pace is the client's from now on, and so is its end.
    if (route.urgency->raised()) co_return Ahead::handed_over;
    if (!end) {
      if (end.error().code == Errc::superseded) co_return Ahead::present;
      co_return end.error();
    }
    if (stream.stored_end() != UINT64_MAX) co_return Ahead::no_room;
    if (*end == position) break;
    position = *end;
  }
  const Result<void> stored = co_await stream.wait();
  if (!stored) co_return stored.error();
  co_return Ahead::fetched;
}

}  // namespace sluice::pull
