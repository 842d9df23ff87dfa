#include "proxy/blob_service.hpp"

#include <fmt/format.h>

#include "base/errc_kind.hpp"
#include "oci/media_type.hpp"
#include "proxy/patience.hpp"
#include "store/media_types.hpp"
#include "upstream/urgency.hpp"

namespace sluice::proxy {
namespace {

// How often a look-up starts again because what it found was gone a moment later.
constexpr int kMaxRounds = 4;

// The type of a manifest, which the store or upstream's word tells; empty for what is none. Lives as long as `known`
// and the store.
std::string_view manifest_type(const store::Stored* stored, const oci::Descriptor& known) {
  const std::string_view type = stored != nullptr ? oci::noted_manifest_type(stored->media_type) : std::string_view();
  return type.empty() ? oci::noted_manifest_type(known.media_type) : type;
}

std::string_view or_octets(std::string_view type) { return type.empty() ? oci::media_type::kOctetStream : type; }

CacheResult result_of(const BlobAccess::Known& known) { return known.stale ? CacheResult::stale : CacheResult::hit; }

}  // namespace

BlobService::BlobService(Params params, BlobAccess& access, store::BlobStore& store, store::Parts& parts,
                         streamcache::Cache& fills, runtime::DiskPool& pool, runtime::Filesystem& filesystem,
                         const Clock& clock, runtime::TaskGroup& group, const Metrics& metrics)
    : params_(params),
      access_(access),
      store_(store),
      parts_(parts),
      fills_(fills),
      pool_(pool),
      filesystem_(filesystem),
      group_(group),
      metrics_(metrics),
      objects_(params.memory_bytes),
      names_(access, store, pool, filesystem, clock, group, metrics),
      short_ranges_(group) {}

std::string BlobService::fill_key(std::string_view upstream, const oci::Digest& digest) {
  std::string key(upstream);
  return key.append(" ").append(digest.to_string());
}

// One fill for all names that are known.
std::string BlobService::key_of(const Route& route, const oci::Digest& digest) const {
  return fill_key(route.registry->name(), access_.canonical(digest));
}

runtime::Task<Result<BlobAccess::Known>> BlobService::allowed(Route route, oci::Digest digest) {
  Result<BlobAccess::Known> known = co_await ask_allowed(route, digest);
  if (!known && is_outage(known.error().code)) co_return unanswered(route.scope, known.error());
  co_return known;
}

runtime::Task<Result<BlobAccess::Known>> BlobService::ask_allowed(Route route, oci::Digest digest) {
  std::optional<descriptors::Entry> peeked = access_.peek(route.scope, digest);
  if (peeked && oci::noted_manifest_type(peeked->media_type).empty() && BlobAccess::believes(route, *peeked))
    co_return BlobAccess::Known{std::move(*peeked)};
  Result<BlobAccess::Known> known = co_await access_.stat(route, digest);
  if (!known || oci::noted_manifest_type(known->descriptor.media_type).empty()) co_return known;
  // That the repository has a manifest does not say that upstream gives it out as a blob.
  Result<oci::Descriptor> asked = co_await access_.ask_upstream(std::move(route), digest);
  if (!asked) co_return asked.error();
  if (oci::noted_manifest_type(asked->media_type).empty()) asked->media_type = known->descriptor.media_type;
  co_return BlobAccess::Known{std::move(*asked), true};
}

runtime::Task<Result<BlobAccess::Known>> BlobService::allowed_at_rest(Route route, oci::Digest digest,
                                                                      std::uint64_t size) {
  Result<BlobAccess::Known> known = co_await allowed(route, digest);
  if (known || !is_odd_answer(known.error().code)) co_return known;
  const Revocations::Ticket ticket = access_.revocations().begin();
  if (!co_await gives_out(route, digest)) co_return known;
  BlobAccess::Known out{{digest, size, std::string(oci::media_type::kOctetStream)}, true};
  co_await access_.remember(route.scope, out.descriptor, ticket);
  co_return out;
}

runtime::Task<Result<BlobAccess::Known>> BlobService::with_size(Route route, oci::Digest digest,
                                                                BlobAccess::Known known) {
  if (known.descriptor.media_type != store::MediaTypes::kNamedByManifest) co_return known;
  Result<BlobAccess::Known> asked = co_await access_.ask_first(route, digest);
  if (!asked && is_outage(asked.error().code)) co_return unanswered(route.scope, asked.error());
  co_return asked;
}

runtime::Task<void> BlobService::ask_ahead(Route route, oci::Digest digest) {
  if (!store_.find(access_.canonical(digest), route.registry->name())) co_return;
  const Result<BlobAccess::Known> known = co_await ask_allowed(std::move(route), digest);
  static_cast<void>(known);  // remembered, or asked for again by whoever wants it
}

runtime::Task<Result<BlobService::Stat>> BlobService::stat(Route route, oci::Digest digest) {
  // A manifest may be wrong about the size of what it names; a file at rest is not.
  const oci::Digest canonical = access_.canonical(digest);
  std::optional<store::Stored> stored = store_.find(canonical, route.registry->name());
  if (!stored && store_.incomplete()) stored = co_await look_for_stored(canonical, route.registry->name());
  Result<BlobAccess::Known> known{Errc::internal};
  if (stored) {
    known = co_await allowed_at_rest(route, digest, stored->size);
  } else {
    known = co_await allowed(route, digest);
  }
  if (!known) co_return known.error();
  if (!stored) {
    Result<BlobAccess::Known> sized = co_await with_size(std::move(route), digest, *known);
    // Upstream has it, and does not tell how long it is: then the claim is all there is.
    if (sized || !is_odd_answer(sized.error().code)) known = std::move(sized);
  }
  if (!known) co_return known.error();
  co_return Stat{stored ? stored->size : known->descriptor.size,
                 known->asked_upstream ? CacheResult::miss : result_of(*known), canonical,
                 std::string(manifest_type(stored ? &*stored : nullptr, known->descriptor))};
}

// As BlobStore::find, with a look at the disk. The name lives as long as the caller's route.
runtime::Task<std::optional<store::Stored>> BlobService::look_for_stored(oci::Digest canonical,
                                                                         std::string_view upstream) {
  const Result<store::Stored> stored = co_await store_.stat(canonical);
  if (!stored || !store_.permits(*stored, upstream)) co_return std::nullopt;
  co_return *stored;
}

runtime::Task<Result<std::shared_ptr<const ReadyObject>>> BlobService::at_rest(oci::Digest digest, std::uint64_t size,
                                                                               std::string_view media_type) {
  if (std::shared_ptr<const ReadyObject> ready = objects_.find(digest); ready && ready->media_type == media_type) {
    store_.touch(digest);
    co_return ready;
  }
  std::shared_ptr<const ReadyObject> made;
  if (size <= params_.in_memory_bytes) {
    Result<std::string> body = co_await store_.read_small(digest, params_.in_memory_bytes);
    if (!body) co_return body.error();
    made = ready_blob(digest, std::move(*body), media_type);
    objects_.insert(digest, made);
  } else {
    std::shared_ptr<const store::OpenBlob> file = store_.peek_open(digest);
    if (!file) {
      Result<std::shared_ptr<const store::OpenBlob>> opened = co_await store_.open(digest);
      if (!opened) co_return opened.error();
      file = std::move(*opened);
    }
    made = ready_blob(digest, std::move(file), media_type);
  }
  co_return made;
}

std::optional<ReadyHit> BlobService::peek(const Route& route, const oci::Digest& digest, bool head_only) {
  // Others may lie under another name.
  if (digest.algorithm() != oci::Algorithm::sha256) return std::nullopt;
  const std::optional<BlobAccess::Lasting> known = access_.peek_lasting(route.scope, digest);
  if (!known || !BlobAccess::believes(route, known->entry)) return std::nullopt;
  ReadyHit hit;
  hit.until = known->until;
  hit.watches[0] = known->watch;
  hit.watches[1] = store_.watch(digest);
  const std::optional<store::Stored> stored = store_.find(digest, route.registry->name());
  // Of a manifest that is asked for as a blob there is more to look at.
  if (!stored || !manifest_type(&*stored, known->entry).empty()) return std::nullopt;
  if (head_only) {
    hit.object = ready_blob_head(digest, stored->size);
  } else if (stored->size <= params_.in_memory_bytes) {
    hit.object = objects_.find(digest);
  } else if (std::shared_ptr<const store::OpenBlob> file = store_.peek_open(digest)) {
    hit.object = ready_blob(digest, std::move(file));
  }
  const bool fits = hit.object && hit.object->size == stored->size && hit.object->media_type == or_octets({});
  return fits ? std::optional(hit) : std::nullopt;
}

runtime::Task<Result<BlobService::Opened>> BlobService::open(Route route, oci::Digest digest,
                                                             http::RequestedRanges asked) {
  Error last{Errc::internal};
  for (int round = 0; round < kMaxRounds; ++round) {
    const oci::Digest canonical = access_.canonical(digest);
    std::optional<store::Stored> stored = store_.find(canonical, route.registry->name());
    if (!stored && store_.incomplete()) stored = co_await look_for_stored(canonical, route.registry->name());
    if (stored) {
      const Result<BlobAccess::Known> known = co_await allowed_at_rest(route, digest, stored->size);
      if (!known) co_return known.error();
      Result<std::shared_ptr<const ReadyObject>> ready =
          co_await at_rest(canonical, stored->size, or_octets(manifest_type(&*stored, known->descriptor)));
      if (ready) co_return Opened{result_of(*known), std::move(*ready), nullptr, std::nullopt, canonical, nullptr};
      // Gone or broken on the disk: the store has dropped it, so the next round fetches it.
      last = ready.error();
      if (last.code != Errc::not_found) co_return last;
      continue;
    }
    if (canonical == digest && digest.algorithm() != oci::Algorithm::sha256) {
      // It may be here under another name. Asking which costs one HEAD, not asking perhaps a download.
      const Result<BlobAccess::Known> known = co_await allowed(route, digest);
      if (!known) co_return known.error();
      const std::optional<oci::Digest> claimed = known->claimed ? known->claimed : access_.claimed(digest);
      if (claimed && store_.find(*claimed, route.registry->name()) && co_await names_.verify(digest, *claimed))
        continue;
    }
    Result<std::optional<Opened>> direct_opened = co_await direct(route, digest, asked);
    if (!direct_opened) co_return direct_opened.error();
    if (*direct_opened) co_return std::move(**direct_opened);
    Result<Opened> opened = co_await in_flight(route, digest);
    if (opened) co_return opened;
    last = opened.error();
    if (last.code != Errc::superseded) co_return last;
  }
  co_return last;
}

// Joins the fill of that blob, or starts one.
runtime::Task<Result<streamcache::Lookup>> BlobService::look_up(Route route, oci::Digest digest) {
  const auto part_room = std::make_shared<store::Reservation>();
  // A fill takes as long as it takes.
  Route unhurried = route;
  unhurried.answer_by = std::chrono::steady_clock::time_point::max();
  streamcache::Create create = [this, route = std::move(unhurried), digest,
                                part_room](std::shared_ptr<streamcache::Writer> writer) {
    return fill(route, digest, std::move(writer), part_room);
  };
  const std::string key = key_of(route, digest);
  streamcache::OpenFile open = [this, digest, origin = origin_of(route),
                                part_room]() -> Result<streamcache::OpenedFile> {
    Result<store::Parts::Opened> opened = parts_.open(digest, origin);
    if (!opened) return opened.error();
    *part_room = std::move(opened->room);
    // Of a fill that ends before it begins, the part waits for the next one.
    auto give_back = [this, digest, part_room](const streamcache::OpenedFile& file) {
      if (!parts_.keep(file.path, digest, file.part_bytes, *part_room)) return false;
      runtime::unlock(file.file);
      return true;
    };
    return streamcache::OpenedFile{std::move(opened->file), std::move(opened->path), opened->size_bytes,
                                   std::move(give_back)};
  };
  Result<streamcache::Lookup> lookup = co_await fills_.find_or_create(key, std::move(create), std::move(open));
  if (lookup && !lookup->created && !route.urgency) raise(key);
  co_return lookup;
}

void BlobService::raise(const std::string& key) {
  std::vector<std::shared_ptr<upstream::Urgency>> waiting;
  {
    const std::scoped_lock lock(urgencies_mutex_);
    for (auto [at, end] = urgencies_.equal_range(key); at != end; ++at) waiting.push_back(at->second);
  }
  for (const auto& urgency : waiting) urgency->raise();
}

BlobService::ListedUrgency::ListedUrgency(BlobService& owner, std::string key,
                                          std::shared_ptr<upstream::Urgency> urgency)
    : owner_(owner), key_(std::move(key)), urgency_(std::move(urgency)) {
  const std::scoped_lock lock(owner_.urgencies_mutex_);
  owner_.urgencies_.emplace(key_, urgency_);
}

BlobService::ListedUrgency::~ListedUrgency() {
  const std::scoped_lock lock(owner_.urgencies_mutex_);
  auto [at, end] = owner_.urgencies_.equal_range(key_);
  while (at != end) at = at->second == urgency_ ? owner_.urgencies_.erase(at) : std::next(at);
}

// Takes the place of a client whose time is up. Upstream has not begun to answer, and a fill without readers may be
// given up (fill.abandoned): a registry that needs longer than clients wait would then be asked anew by each of them,
// in vain.
void BlobService::hold_until_begun(const runtime::Executor& executor, const std::string& key,
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

runtime::Task<void> BlobService::wait_until_begun(std::unique_ptr<streamcache::Stream> stream,
                                                  [[maybe_unused]] std::shared_ptr<void> place) {
  const Result<std::optional<std::uint64_t>> size = co_await stream->wait_size();
  static_cast<void>(size);
}

// Whether upstream begins to send the blob to who asks with that route. The connection is closed at once.
runtime::Task<bool> BlobService::gives_out(Route route, oci::Digest digest) {
  const Result<std::unique_ptr<upstream::BlobBody>> body =
      co_await route.registry->open_blob(route.repository, digest, 0);
  co_return body.has_value();
}

runtime::Task<Result<BlobService::Opened>> BlobService::in_flight(Route route, oci::Digest digest) {
  if (access_.known_unknown(route.scope, digest)) {
    co_return Error{Errc::blob_unknown, "upstream said a moment ago that it does not have " + digest.to_string()};
  }
  Result<streamcache::Lookup> lookup = co_await look_up(route, digest);
  if (!lookup) co_return lookup.error();
  const auto waited = co_await runtime::within(lookup->stream->wait_size(), route.answer_by);
  if (!waited) {
    // The fill goes on: who comes again joins it.
    hold_until_begun(co_await runtime::asio::this_coro::executor, key_of(route, digest), std::move(lookup->stream));
    co_return unanswered(route.scope, not_in_time(route));
  }
  const Result<std::optional<std::uint64_t>>& size = *waited;
  if (!size) {
    const Error error = size.error();
    if (!lookup->created && is_verdict(error.code)) {
      // Upstream refused the repository that started the fill. Ours may be another.
      const Result<BlobAccess::Known> known = co_await allowed(route, digest);
      if (!known) co_return known.error();
      co_return Error{Errc::superseded, error.message};
    }
    if (error.code == Errc::blob_unknown) access_.remember_unknown(route.scope, digest);
    if (is_outage(error.code)) co_return unanswered(route.scope, error);
    co_return error;
  }
  if (!lookup->created) {
    const Result<BlobAccess::Known> known = co_await allowed(route, digest);
    // A size is not needed here, and upstream may tell none.
    const bool let_in = known || (is_odd_answer(known.error().code) && co_await gives_out(route, digest));
    if (!let_in) co_return known.error();
  }
  co_return Opened{lookup->created ? CacheResult::miss : CacheResult::join,
                   nullptr,
                   std::move(lookup->stream),
                   *size,
                   access_.canonical(digest),
                   nullptr,
                   told_type(fill_key(route.registry->name(), digest))};
}

// Upstream says so in the answer that a fill reads. What else it calls its blobs is nothing to anybody.
void BlobService::note_type(const std::string& key, std::string_view media_type) {
  const std::string_view type = oci::canonical_manifest_type(media_type);
  const std::scoped_lock lock(types_mutex_);
  if (!type.empty()) types_.insert(key, std::string(type));
}

std::string BlobService::told_type(const std::string& key) {
  const std::scoped_lock lock(types_mutex_);
  const std::string* type = types_.find(key);
  return type == nullptr ? std::string() : *type;
}

}  // namespace sluice::proxy
