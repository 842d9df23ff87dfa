#include "proxy/blob_service.hpp"

#include <fmt/format.h>

#include "oci/media_type.hpp"

namespace sluice::proxy {
namespace {

// How often a look-up starts again because what it found was gone a moment later.
constexpr int kMaxRounds = 4;

}  // namespace

BlobService::BlobService(Params params, BlobAccess& access, store::BlobStore& store, store::Parts& parts,
                         streamcache::Cache& fills, runtime::DiskPool& pool, runtime::Filesystem& filesystem,
                         const Metrics& metrics)
    : params_(params),
      access_(access),
      store_(store),
      parts_(parts),
      fills_(fills),
      pool_(pool),
      filesystem_(filesystem),
      metrics_(metrics),
      objects_(params.memory_bytes) {}

runtime::Task<Result<BlobAccess::Known>> BlobService::allowed(Route route, oci::Digest digest) {
  std::optional<oci::Descriptor> peeked = access_.peek(route.scope, digest);
  if (peeked && !oci::is_manifest(peeked->media_type)) co_return BlobAccess::Known{std::move(*peeked), false};
  Result<BlobAccess::Known> known = co_await access_.stat(route, digest);
  if (!known || !oci::is_manifest(known->descriptor.media_type)) co_return known;
  // That the repository has a manifest does not say that upstream gives it out as a blob.
  Result<oci::Descriptor> asked = co_await access_.ask_upstream(std::move(route), digest);
  if (!asked) co_return asked.error();
  co_return BlobAccess::Known{std::move(*asked), true};
}

runtime::Task<Result<BlobService::Stat>> BlobService::stat(Route route, oci::Digest digest) {
  const Result<BlobAccess::Known> known = co_await allowed(std::move(route), digest);
  if (!known) co_return known.error();
  // A manifest may be wrong about the size of what it names; a file at rest is not.
  const std::optional<store::Stored> stored = store_.find(digest);
  co_return Stat{stored ? stored->size : known->descriptor.size,
                 known->asked_upstream ? CacheResult::miss : CacheResult::hit};
}

runtime::Task<Result<std::shared_ptr<const ReadyObject>>> BlobService::at_rest(oci::Digest digest, std::uint64_t size) {
  if (std::shared_ptr<const ReadyObject> ready = objects_.find(digest)) {
    store_.touch(digest);
    co_return ready;
  }
  std::shared_ptr<const ReadyObject> made;
  if (size <= params_.in_memory_bytes) {
    Result<std::string> body = co_await store_.read_small(digest, params_.in_memory_bytes);
    if (!body) co_return body.error();
    made = ready_blob(digest, std::move(*body));
    objects_.insert(digest, made);
  } else {
    std::shared_ptr<const store::OpenBlob> file = store_.peek_open(digest);
    if (!file) {
      Result<std::shared_ptr<const store::OpenBlob>> opened = co_await store_.open(digest);
      if (!opened) co_return opened.error();
      file = std::move(*opened);
    }
    made = ready_blob(digest, std::move(file));
  }
  co_return made;
}

runtime::Task<Result<BlobService::Opened>> BlobService::open(Route route, oci::Digest digest) {
  Error last{Errc::internal};
  for (int round = 0; round < kMaxRounds; ++round) {
    std::optional<store::Stored> stored = store_.find(digest);
    if (!stored && store_.rebuilding()) {
      const Result<store::Stored> looked_up = co_await store_.stat(digest);
      if (looked_up) stored = *looked_up;
    }
    if (stored) {
      const Result<BlobAccess::Known> known = co_await allowed(route, digest);
      if (!known) co_return known.error();
      Result<std::shared_ptr<const ReadyObject>> ready = co_await at_rest(digest, stored->size);
      if (ready) co_return Opened{CacheResult::hit, std::move(*ready), nullptr, std::nullopt};
      // Gone or broken on the disk: the store has dropped it, so the next round fetches it.
      last = ready.error();
      if (last.code != Errc::not_found) co_return last;
      continue;
    }
    Result<Opened> opened = co_await in_flight(route, digest);
    if (opened) co_return opened;
    last = opened.error();
    if (last.code != Errc::superseded) co_return last;
  }
  co_return last;
}

runtime::Task<Result<BlobService::Opened>> BlobService::in_flight(Route route, oci::Digest digest) {
  if (access_.known_unknown(route.scope, digest)) {
    co_return Error{Errc::blob_unknown, "upstream said a moment ago that it does not have " + digest.to_string()};
  }
  const auto part_room = std::make_shared<store::Reservation>();
  streamcache::Create create = [this, route, digest, part_room](std::shared_ptr<streamcache::Writer> writer) {
    return fill(route, digest, std::move(writer), part_room);
  };
  std::string key(route.registry->name());
  key.append(" ").append(digest.to_string());
  streamcache::OpenFile open = [this, digest, part_room]() -> Result<streamcache::OpenedFile> {
    Result<store::Parts::Opened> opened = parts_.open(digest);
    if (!opened) return opened.error();
    *part_room = std::move(opened->room);
    return streamcache::OpenedFile{std::move(opened->file), std::move(opened->path), opened->size_bytes};
  };
  Result<streamcache::Lookup> lookup =
      co_await fills_.find_or_create(std::move(key), std::move(create), std::move(open));
  if (!lookup) co_return lookup.error();
  const Result<std::optional<std::uint64_t>> size = co_await lookup->stream->wait_size();
  if (!size) {
    const Error error = size.error();
    if (!lookup->created && is_verdict(error.code)) {
      // Upstream refused the repository that started the fill. Ours may be another.
      const Result<BlobAccess::Known> known = co_await allowed(route, digest);
      if (!known) co_return known.error();
      co_return Error{Errc::superseded, error.message};
    }
    if (error.code == Errc::blob_unknown) access_.remember_unknown(route.scope, digest);
    co_return error;
  }
  if (!lookup->created) {
    const Result<BlobAccess::Known> known = co_await allowed(route, digest);
    if (!known) co_return known.error();
  }
  co_return Opened{lookup->created ? CacheResult::miss : CacheResult::join, nullptr, std::move(lookup->stream), *size};
}

}  // namespace sluice::proxy
