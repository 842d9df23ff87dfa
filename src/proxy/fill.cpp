// The producer of a fill: one download from upstream into the streaming cache, and from there into the store.
#include <algorithm>
#include <exception>
#include <random>
#include <utility>
#include <vector>

#include <boost/asio/cancellation_state.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/system/system_error.hpp>

#include <fmt/format.h>

#include "base/errc_kind.hpp"
#include "base/log.hpp"
#include "base/units.hpp"
#include "oci/media_type.hpp"
#include "proxy/blob_service.hpp"
#include "proxy/trailing_verifier.hpp"
#include "runtime/deadline.hpp"
#include "runtime/loop.hpp"
#include "store/media_types.hpp"
#include "upstream/urgency.hpp"

namespace sluice::proxy {
namespace {

namespace asio = boost::asio;
// How much room a blob of unknown length is given at a time.
constexpr std::uint64_t kRoomStep = 1024 * 1024;

// What may be mended by taking the download up again.
bool is_resumable(Errc code) { return is_outage(code) || code == Errc::overloaded; }

// Reads and drops the first `count` bytes, where upstream answered a Range with the whole.
runtime::Task<Result<void>> skip(upstream::BlobBody& body, std::uint64_t count, std::span<std::byte> buffer) {
  while (count > 0) {
    const std::size_t want = static_cast<std::size_t>(std::min<std::uint64_t>(count, buffer.size()));
    const Result<std::size_t> n = co_await body.read(buffer.first(want));
    if (!n) co_return n.error();
    if (*n == 0) co_return Error{Errc::size_mismatch, "upstream's blob has become shorter"};
    count -= *n;
  }
  co_return Result<void>{};
}

// Whether what has arrived says nothing against itself, and the disk took it.
bool is_worth_keeping(Errc code) {
  return is_resumable(code) || is_verdict(code) || code == Errc::abandoned || code == Errc::cancelled;
}

runtime::Task<void> until_abandoned(streamcache::Writer& writer) {
  const Result<void> abandoned = co_await writer.wait_abandoned();
  static_cast<void>(abandoned);
}

}  // namespace

runtime::Task<void> BlobService::back_off(std::size_t failures) {
  thread_local std::minstd_rand random{std::random_device{}()};
  const auto limit = std::chrono::milliseconds(5000);
  auto wait = params_.resume_backoff * (1 << std::min<std::size_t>(failures, 10));
  wait = std::min<std::chrono::milliseconds>(wait, limit);
  const double factor = 0.5 + 0.5 * std::uniform_real_distribution<double>(0, 1)(random);
  const runtime::Executor executor = co_await asio::this_coro::executor;
  asio::basic_waitable_timer<std::chrono::steady_clock, asio::wait_traits<std::chrono::steady_clock>, runtime::Executor>
      timer(executor);
  timer.expires_after(std::chrono::duration_cast<std::chrono::steady_clock::duration>(wait * factor));
  co_await timer.async_wait(runtime::kAwait);
}

// The state of one download from upstream, which may take several requests.
struct BlobService::Download {
  const Route& route;
  const oci::Digest& digest;
  streamcache::Writer& writer;
  TrailingVerifier& verifier;
  Room& room;
  std::vector<std::byte> buffer;
  std::optional<std::uint64_t> size = std::nullopt;
  std::size_t failures = 0;   // in a row, without a byte in between
  bool begun = false;         // upstream has answered once
  bool let_go = false;        // the connection was given up: the readers took nothing, or others waited for it
  bool repeats = false;       // upstream began anew, so another pause would cost all of it again
  bool drops_behind = false;  // somebody has asked for it: when all have left, it comes behind others
  bool limited = false;       // it has no place within the limits of the store, and passes through memory
};

runtime::Task<Result<void>> BlobService::receive(Route route, oci::Digest digest, streamcache::Writer& writer,
                                                 TrailingVerifier& verifier, Room& room) {
  Download download{route, digest, writer, verifier, room, std::vector<std::byte>(params_.read_bytes)};
  const std::string key = fill_key(route.registry->name(), access_.canonical(digest));
  std::optional<ListedUrgency> listed;
  if (!route.urgency) {
    route.urgency = std::make_shared<upstream::Urgency>();
    route.urgency->raise();
    if (auto behind = route.registry->behind_others(route.urgency)) {
      route.behind = std::move(behind);
      route.registry = route.behind.get();
    }
    download.drops_behind = true;
    listed.emplace(*this, key, route.urgency);
  }
  if (const auto known = access_.peek(route.scope, digest);
      known && known->media_type == store::MediaTypes::kNamedByManifest) {
    route.registry->note_claimed_size(digest, known->size);
  }
  for (;;) {
    Error broken{Errc::internal};
    Result<std::unique_ptr<upstream::BlobBody>> body =
        co_await route.registry->open_blob(route.repository, digest, writer.position() + writer.part_bytes());
    if (body) hold_back(download, **body);
    if (writer.part_bytes() != 0) {
      const Result<bool> whole = co_await settle_part(download, body);
      if (!whole) co_return whole.error();
      if (*whole) co_return Result<void>{};
      if (!body) continue;
    }
    if (body) {
      if (Result<void> begun = co_await begin(download, **body); !begun) co_return begun;
      const Result<void> moved = co_await move(download, *body);
      writer.show();
      if (moved || download.size == writer.position()) co_return Result<void>{};
      if (std::exchange(download.let_go, false)) continue;
      broken = moved.error();
    } else {
      broken = body.error();
      // Nothing lies behind what is here: the connection broke between the last byte and the end. The digest decides.
      if (download.begun && !download.size && broken.code == Errc::range_invalid) co_return Result<void>{};
      // The registry has its own retries for the first request.
      if (!download.begun) co_return broken;
    }
    if (!is_resumable(broken.code) || download.failures >= params_.resume_attempts) co_return broken;
    log::info("fill", fmt::format("{} of {}: {}; going on from byte {}", digest.to_string(), route.scope.str(),
                                  broken.message, writer.position()));
    metrics_.fills_resumed.add();
    co_await back_off(download.failures);
    ++download.failures;
  }
}

// A registry may redirect to what is nobody's blob, so that an accomplice reads it here. Of what comes from behind a
// redirect no client gets a byte before its digest is right where it is small, as answers of other services are, or
// where its length is not the one that was expected.
void BlobService::hold_back(Download& download, const upstream::BlobBody& body) {
  if (!body.is_redirected()) return;
  bool sure = body.size() && *body.size() > kHeldWholeBytes;
  if (sure && !download.begun) {
    const auto known = access_.peek(download.route.scope, download.digest);
    sure = !known || known->size == *body.size();
  }
  if (!sure) download.writer.hold_whole();
}

// Decides, with the first answer of upstream, whether the fill's file goes on from the part in it. True: the part is
// already the whole blob. `body` is an error where upstream has to be asked again.
runtime::Task<Result<bool>> BlobService::settle_part(Download& download,
                                                     Result<std::unique_ptr<upstream::BlobBody>>& body) {
  streamcache::Writer& writer = download.writer;
  const std::uint64_t part = writer.part_bytes();
  std::optional<std::uint64_t> size;
  if (body) {
    size = (*body)->size();
  } else {
    if (body.error().code != Errc::range_invalid) co_return body.error();
    // Upstream has no byte behind the part: it may be all there is. Asking also says whether we may have it.
    const Result<oci::Descriptor> asked =
        co_await download.route.registry->stat_blob(download.route.repository, download.digest);
    if (!asked) co_return asked.error();
    size = asked->size;
  }
  const bool whole = !body && size == part;
  // Nothing has to be waited for but the hashing, so nobody sees a byte of it before it is known to be right.
  const bool wrong = whole && !co_await is_right(download, part);
  if (wrong || (!whole && (!body || (size && *size < part)))) {
    log::warn("fill", fmt::format("{}: the part of {} is {}; fetched whole", download.digest.to_string(),
                                  format_bytes(part), wrong ? "damaged" : "longer than the blob"));
    if (wrong) metrics_.fill_digest_mismatches.add();
    if (const Result<void> dropped = co_await drop_part(writer); !dropped) co_return dropped.error();
    if (body && (*body)->offset() != 0) body = Error{Errc::range_invalid, "the part was too long"};
    co_return false;
  }
  metrics_.parts_adopted.add();
  metrics_.parts_bytes_saved.add(body ? (*body)->offset() : part);
  if (whole) {
    co_await access_.remember(download.route.scope, {download.digest, part, std::string(oci::media_type::kOctetStream)},
                              download.room.ticket);
    writer.set_size(part);
  }
  writer.take_part();
  co_await download.verifier.advance(writer.position());
  co_return whole;
}

// Whether the part, which is as long as the blob, has its digest.
runtime::Task<bool> BlobService::is_right(Download& download, std::uint64_t part) {
  const Result<oci::Digest> computed = co_await download.verifier.finish(part);
  download.verifier.restart();
  co_return computed && *computed == download.digest;
}

runtime::Task<Result<void>> BlobService::drop_part(streamcache::Writer& writer) {
  writer.drop_part();
  co_return co_await runtime::offload(pool_, [this, &writer] { return filesystem_.truncate(writer.file(), 0); });
}

// What an answer says of the blob before its bytes come.
runtime::Task<Result<void>> BlobService::begin(Download& download, upstream::BlobBody& body) {
  if (download.begun) {
    if (download.size && body.size() && *body.size() != *download.size) {
      co_return Error{Errc::size_mismatch, "upstream's blob has changed its length during the download"};
    }
    co_return Result<void>{};
  }
  download.begun = true;
  download.size = body.size();
  note_type(fill_key(download.route.registry->name(), download.digest), body.media_type());
  // Before the size is told: whoever joins for the same repository then finds that it may.
  if (download.size) {
    co_await access_.remember(download.route.scope,
                              {download.digest, *download.size, std::string(oci::media_type::kOctetStream)},
                              download.room.ticket);
  }
  download.writer.set_size(download.size);
  co_return Result<void>{};
}

// Whether somebody who is waited for needs the download's connection. While nobody reads it, it comes behind them.
bool BlobService::must_yield(Download& download) {
  upstream::Urgency* const urgency = download.route.urgency.get();
  if (urgency == nullptr) return false;
  if (download.drops_behind && download.writer.abandoned()) {
    urgency->lower();
    // Who has joined in between has raised it in vain.
    if (!download.writer.abandoned()) urgency->raise();
  }
  return urgency->must_yield();
}

// To the end of the answer. Errors of the writer are final, those of upstream may be mended.
runtime::Task<Result<void>> BlobService::move(Download& download, std::unique_ptr<upstream::BlobBody>& body) {
  streamcache::Writer& writer = download.writer;
  if (body->offset() < writer.position()) {
    download.repeats = true;
    Result<void> skipped = co_await skip(*body, writer.position() - body->offset(), download.buffer);
    if (!skipped) co_return skipped;
  }
  // Clients that stop reading must not keep others from upstream. What has no known length could not be taken up again.
  const auto patience = download.size ? params_.window_patience : std::chrono::milliseconds{0};
  runtime::Loop& loop = runtime::Loop::of(co_await asio::this_coro::executor);
  runtime::Deadline idle(loop, [&body, &download] {
    body.reset();
    download.let_go = true;
  });
  runtime::Deadline pauses(loop, [&writer] { writer.show(); });  // of upstream: readers get what there is
  for (;;) {
    idle.arm(patience);
    if (Result<void> room = co_await writer.wait_window(); !room) co_return room;
    idle.disarm();
    if (!body) co_return Error{Errc::upstream_unreachable, "the connection was given up while nobody read"};
    const Result<std::size_t> n = co_await body->read(download.buffer);
    if (!n) co_return n.error();
    if (*n == 0) co_return Result<void>{};
    download.failures = 0;
    metrics_.of(download.route).received_blob_bytes.add(*n);
    if (download.size && *n > *download.size - writer.position()) {
      // Readers see nothing beyond the size, so a writer that went on would wait for them for ever.
      co_return Error{Errc::size_mismatch, "upstream sent more than it had announced"};
    }
    const auto bytes = std::span<const std::byte>(download.buffer).first(*n);
    if (Result<void> made = co_await make_room(download, writer.position() + *n); !made) co_return made;
    using enum streamcache::Writer::Next;
    const Result<void> written = co_await writer.write(bytes, *n == download.buffer.size() ? is_there : may_take_long);
    if (!written) co_return written;
    pauses.arm(std::chrono::milliseconds(1));
    if (const std::optional<Error> trouble = writer.unstored()) {
      if (!download.limited) note_store(trouble);
      co_await download.verifier.append(bytes);
    } else {
      download.room.reservation.wrote(writer.position());
      co_await download.verifier.advance(writer.position());
    }
    if (must_yield(download)) {
      // What has no known length could not be taken up again.
      const bool resumable = download.size && !download.repeats;
      if (resumable && *download.size > writer.position()) {
        body.reset();
        download.let_go = true;
        co_return Error{Errc::upstream_unreachable, "the connection was given up for others"};
      }
      if (!resumable && writer.abandoned()) {
        co_return Error{Errc::abandoned, "all readers left, and others wait for the connection"};
      }
    }
  }
}

// As receive, but never throws: a cancellation is an outcome.
runtime::Task<void> BlobService::receive_into(Result<void>* outcome, Route route, oci::Digest digest,
                                              streamcache::Writer& writer, TrailingVerifier& verifier, Room& room) {
  try {
    *outcome = co_await receive(std::move(route), digest, writer, verifier, room);
  } catch (const boost::system::system_error& error) {
    const bool cancelled = error.code() == asio::error::operation_aborted;
    *outcome = Error{cancelled ? Errc::cancelled : Errc::internal, error.what()};
  } catch (const std::exception& error) {
    *outcome = Error{Errc::internal, error.what()};
  }
}

runtime::Task<Result<void>> BlobService::fill(Route route, oci::Digest digest,
                                              std::shared_ptr<streamcache::Writer> writer,
                                              std::shared_ptr<store::Reservation> part_room) {
  // Between the caller's look into the store and this fill another one may have ended.
  if (store_.find(access_.canonical(digest), route.registry->name()))
    co_return Error{Errc::superseded, "stored meanwhile"};
  TrailingVerifier verifier(pool_, filesystem_, writer->file(), writer, digest.algorithm(), writer->part_bytes());
  Room room{std::move(*part_room), access_.revocations().begin()};
  Result<void> received{};
  {
    using namespace asio::experimental::awaitable_operators;
    co_await (receive_into(&received, route, digest, *writer, verifier, room) || until_abandoned(*writer));
  }
  // What follows takes the disk's time, not upstream's, and is worth it also when the program is about to end.
  co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
  if (!received && writer->given_up()) received = Error{Errc::abandoned, "all readers left before the end"};
  if (received) received = co_await verify(route, digest, *writer, verifier);
  if (!received && is_verdict(received.error().code)) {
    // An answer like another: any client can make it happen, by asking for what is not there.
    log::debug("fill", fmt::format("{} of {}: {}", digest.to_string(), route.scope.str(), received.error().message));
  } else if (!received) {
    metrics_.fills_failed.add();
    if (received.error().code != Errc::abandoned) {
      // To be stopped, with the program, is no fault of anybody's.
      const log::Level level = received.error().code == Errc::cancelled ? log::Level::info : log::Level::warn;
      log::write(level, "fill",
                 fmt::format("{} of {} ended after {}: {}", digest.to_string(), route.scope.str(),
                             format_bytes(writer->position()), received.error().message));
    }
  }
  if (!received) {
    if (is_worth_keeping(received.error().code) && !unwanted(room, route, digest)) {
      co_await keep_part(digest, *writer, room);
    }
    co_await remove_file(*writer);
    co_return received;
  }
  const oci::Digest canonical = verifier.canonical();
  co_await remember_verified(route.scope, digest, canonical, writer->position(), room.ticket);
  metrics_.fills_completed.add();
  if (unwanted(room, route, digest)) {
    co_await remove_file(*writer);
    co_return Result<void>{};
  }
  if (const auto at_rest = store_.find(canonical); at_rest && at_rest->size == writer->position()) {
    // It is here: under its other name, or through another upstream. This one has now delivered it too. A file of
    // another length is not it, and is replaced.
    co_await store_.add_origin(canonical, origin_of(route));
    co_await remove_file(*writer);
  } else {
    const bool kept = co_await keep(canonical, digest, *writer, room,
                                    told_type(fill_key(route.registry->name(), digest)), origin_of(route));
    if (kept) metrics_.of(route).stored_bytes.add(writer->position());
  }
  // A removal that came in between has looked for the file before it was there.
  if (unwanted(room, route, digest)) {
    const Result<void> removed = co_await store_.remove(canonical);
    static_cast<void>(removed);
    forget(canonical);
  }
  co_return Result<void>{};
}

// `canonical` is the sha256 of the bytes that have the digest `digest`. Upstream has given them out for this
// repository, so it has them under both names.
runtime::Task<void> BlobService::remember_verified(descriptors::Scope scope, oci::Digest digest, oci::Digest canonical,
                                                   std::uint64_t size, const Revocations::Ticket& ticket) {
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
bool BlobService::unwanted(const Room& room, const Route& route, const oci::Digest& digest) const {
  if (!access_.revoked(room.ticket, route.scope, digest)) return false;
  const oci::Digest canonical = access_.canonical(digest);
  return store_.catalog().scopes_of(digest).empty() &&
         (canonical == digest || store_.catalog().scopes_of(canonical).empty());
}

// When all is right the readers have everything: they need not wait for the disk.
runtime::Task<Result<void>> BlobService::verify(Route route, oci::Digest digest, streamcache::Writer& writer,
                                                TrailingVerifier& verifier) {
  const Result<oci::Digest> computed = co_await verifier.finish(writer.position());
  if (!computed) co_return computed.error();
  if (*computed == digest) co_return writer.complete();
  metrics_.fill_digest_mismatches.add();
  route.registry->note_mismatch(digest);
  log::error("fill",
             fmt::format("{} of {}: upstream sent {} with the digest {}; nothing of it is kept", digest.to_string(),
                         route.scope.str(), format_bytes(writer.position()), computed->to_string()));
  co_return Error{Errc::digest_mismatch,
                  fmt::format("upstream sent bytes that do not have the digest {}", digest.to_string())};
}

runtime::Task<void> BlobService::keep_part(oci::Digest digest, streamcache::Writer& writer, Room& room) {
  if (writer.unstored()) co_return;
  // A part that was not looked at is still all there.
  const std::uint64_t bytes = writer.position() + writer.part_bytes();
  const bool kept = co_await runtime::offload(pool_, [this, &writer, &room, digest, bytes] {
    return parts_.keep(writer.path(), digest, bytes, room.reservation);
  });
  if (!kept) co_return;
  writer.release_file();
  // Readers may still have the file open; the next download may write to it.
  runtime::unlock(writer.file());
}

// Before bytes up to `end` are written. Of a known size all room is made at once, of an unknown one step by step.
runtime::Task<Result<void>> BlobService::make_room(Download& download, std::uint64_t end) {
  if (end <= download.room.reservation.bytes() || download.writer.unstored()) co_return Result<void>{};
  const Result<void> reserved =
      co_await store_.reserve(download.room.reservation, download.size ? *download.size : end + kRoomStep);
  if (reserved) co_return Result<void>{};
  // The program is ending and the account of space is closed. What arrives still goes into the part, for the next
  // process.
  if (reserved.error().code == Errc::shutting_down) co_return Result<void>{};
  log::warn("fill", fmt::format("{} of {} is passed on without being stored: {}", download.digest.to_string(),
                                download.route.scope.str(), reserved.error().message));
  download.limited = true;
  co_return download.writer.unstore(reserved.error());
}

// Before its room is given back, where nobody has taken it over. Readers have the file open.
runtime::Task<void> BlobService::remove_file(streamcache::Writer& writer) {
  if (writer.released() || writer.path().empty()) co_return;
  const Result<void> removed =
      co_await runtime::offload(pool_, [this, &writer] { return filesystem_.remove(writer.path()); });
  // Nor does the cache remove it once more, later: by then the next download may have made a file of that name.
  if (removed) writer.release_file();
}

runtime::Task<bool> BlobService::keep(oci::Digest digest, oci::Digest asked, streamcache::Writer& writer, Room& room,
                                      std::string media_type, store::Origin origin) {
  if (writer.unstored()) {
    metrics_.fills_unstored.add();
    co_await remove_file(writer);
    co_return false;
  }
  const Result<void> adopted = co_await store_.adopt(writer.path(), digest, writer.position(), std::move(media_type),
                                                     room.reservation, std::move(origin));
  if (adopted) {
    writer.release_file();
    note_store(std::nullopt);
    co_return true;
  }
  // The program ends, and another one may have the store by now: it finds a part that is whole.
  if (adopted.error().code == Errc::shutting_down) {
    co_await keep_part(asked, writer, room);
    co_return false;
  }
  // The readers have their bytes all the same; the next request fetches it again.
  log::error("fill",
             fmt::format("{} was received but cannot be stored: {}", digest.to_string(), adopted.error().message));
  note_store(adopted.error());
  co_await remove_file(writer);
  co_return false;
}

// Without it nothing would show that the disk is well again before the next blob is fetched.
runtime::Task<void> BlobService::try_store() {
  if (trouble_.load() == Errc::internal) co_return;
  const Result<void> written = co_await runtime::offload(pool_, [this] { return store_.try_write(); });
  if (written) note_store(std::nullopt);
}

void BlobService::note_store(const std::optional<Error>& trouble) {
  Errc now = Errc::internal;
  if (trouble) now = trouble->code == Errc::no_space ? Errc::no_space : Errc::io;
  if (trouble_.exchange(now) == now) return;
  metrics_.degraded_no_space.set(now == Errc::no_space ? 1 : 0);
  metrics_.degraded_io.set(now == Errc::io ? 1 : 0);
  if (trouble) {
    log::error("fill", fmt::format("new blobs are passed on without being stored: {}", trouble->message));
  } else {
    log::info("fill", "new blobs are stored again");
  }
  if (params_.on_store_trouble) params_.on_store_trouble(trouble ? trouble->message : std::string());
}

}  // namespace sluice::proxy
