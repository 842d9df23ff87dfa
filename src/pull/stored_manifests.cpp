#include "pull/stored_manifests.hpp"

#include <optional>

#include "oci/manifest.hpp"
#include "oci/signed_manifest.hpp"

namespace sluice::pull {
namespace {

// A docker schema 1 manifest with signatures has the digest of its payload, and lies under that of all its bytes.
bool is_signed(const oci::Digest& digest, const oci::Digest& name) {
  return name != digest && name.algorithm() == digest.algorithm();
}

const oci::Digest& file_of(const oci::Digest& digest, const oci::Digest& name) {
  return is_signed(digest, name) ? name : digest;
}

}  // namespace

std::string StoredManifests::check_key(const oci::Digest& digest, const oci::Digest& file) {
  std::string key = digest.to_string();
  return key.append(" ").append(file.to_string());
}

runtime::Task<StoredManifests::Object> StoredManifests::read(oci::Digest digest, oci::Digest name,
                                                             std::string media_type, std::string origin) {
  Object ready = is_signed(digest, name) ? nullptr : objects_.find(digest);
  if (ready && ready->media_type != media_type) ready.reset();
  const oci::Digest file = file_of(digest, name);
  const bool is_ours = ready && ready->upstream == origin;
  std::optional<store::Stored> stored = is_ours ? std::nullopt : store_.find(file, origin);
  if (!is_ours && !stored) {
    if (!store_.incomplete()) co_return nullptr;
    const Result<store::Stored> looked_up = co_await store_.stat(file);
    if (!looked_up || !store_.permits(*looked_up, origin)) co_return nullptr;
    stored = *looked_up;
  }
  if (ready) {
    store_.touch(digest);
    co_return ready;
  }
  co_return co_await load_shared(std::move(digest), file, std::move(media_type), stored->size > kMaxInMemory);
}

// Once for all who wait: a large one that does not fit the cache is no copy for each of them.
runtime::Task<StoredManifests::Object> StoredManifests::load_shared(oci::Digest digest, oci::Digest file,
                                                                    std::string media_type, bool as_file) {
  const runtime::SingleFlight<std::string, Object>::Work work = [this, digest, file, media_type, as_file] {
    if (as_file) return load_file(digest, file, media_type);
    return file != digest ? load_signed(digest, file, media_type) : load(digest, media_type);
  };
  std::string key = check_key(digest, file);
  key.append(as_file ? " file " : " ").append(media_type);
  auto outcome = co_await loads_.run(std::move(key), work);
  co_return outcome.result ? *outcome.result : nullptr;
}

runtime::Task<StoredManifests::Object> StoredManifests::in_memory(oci::Digest digest, oci::Digest name, Object object) {
  if (object->in_memory) co_return object;
  const oci::Digest file = file_of(digest, name);
  co_return co_await load_shared(std::move(digest), file, object->media_type, false);
}

runtime::Task<StoredManifests::Object> StoredManifests::to_send(oci::Digest digest, oci::Digest name, Object object) {
  if (!object->in_memory || object->size <= kMaxInMemory) co_return object;
  // Who was given the bytes may have them from the file too, through whichever upstream it came.
  const oci::Digest file = file_of(digest, name);
  const std::optional<store::Stored> stored = store_.find(file);
  if (!stored || stored->size != object->size) co_return object;
  Object opened = co_await load_shared(std::move(digest), file, object->media_type, true);
  co_return opened ? opened : object;
}

StoredManifests::Object StoredManifests::peek(const oci::Digest& digest, std::string_view media_type,
                                              std::uint64_t size) {
  if (size <= kMaxInMemory) {
    Object ready = objects_.find(digest);
    return ready && ready->media_type == media_type ? ready : nullptr;
  }
  if (!checked_.contains(check_key(digest, digest))) return nullptr;
  std::shared_ptr<const store::OpenBlob> file = store_.peek_open(digest);
  return file ? ready_manifest(digest, std::string(media_type), std::move(file)) : nullptr;
}

runtime::Task<Result<StoredManifests::Object>> StoredManifests::load(oci::Digest digest, std::string media_type) {
  Result<std::string> body = co_await store_.read_small(digest, oci::kMaxManifestBytes);
  if (!body) co_return body.error();
  checked_.add(check_key(digest, digest));
  co_return objects_.share(digest, ready_manifest(digest, std::move(media_type), std::move(*body)));
}

// The store has held the bytes against their own sha256. Not kept in memory: by this digest another repository may have
// other bytes.
runtime::Task<Result<StoredManifests::Object>> StoredManifests::load_signed(oci::Digest digest, oci::Digest name,
                                                                            std::string media_type) {
  Result<std::string> body = co_await store_.read_small(name, oci::kMaxManifestBytes);
  if (!body) co_return body.error();
  const std::optional<std::string> payload = oci::signed_payload(*body);
  if (!payload || oci::digest_of(digest.algorithm(), *payload) != digest) {
    co_return Error{Errc::not_found, "what is stored is another manifest"};
  }
  co_return ready_manifest(digest, std::move(media_type), std::move(*body));
}

runtime::Task<Result<StoredManifests::Object>> StoredManifests::load_file(oci::Digest digest, oci::Digest file,
                                                                          std::string media_type) {
  const Result<void> checked = co_await check(digest, file);
  if (!checked) co_return checked.error();
  std::shared_ptr<const store::OpenBlob> open = store_.peek_open(file);
  if (!open || !store_.is_whole(*open)) {
    Result<std::shared_ptr<const store::OpenBlob>> opened = co_await store_.open(file);
    if (!opened) co_return opened.error();
    open = std::move(*opened);
  }
  co_return ready_manifest(digest, std::move(media_type), std::move(open));
}

// Whether the file holds the manifest; one that is damaged leaves the store. It is read on the disk pool a piece at a
// time, so however many are asked for at once, each thread of the pool holds one piece.
runtime::Task<Result<void>> StoredManifests::check(oci::Digest digest, oci::Digest file) {
  const std::string key = check_key(digest, file);
  if (checked_.contains(key)) co_return Result<void>{};
  if (file != digest) {
    // What it is signed for cannot be told from its own digest.
    const Result<Object> loaded = co_await load_signed(digest, file, {});
    if (!loaded) co_return loaded.error();
  } else {
    const store::BlobStore::Checked found = co_await runtime::offload(
        pool_, [this, file] { return store_.check(file, [](std::uint64_t) { return true; }); }, runtime::Lane::fast);
    if (found.state != store::BlobStore::Checked::State::sound) {
      co_return Error{Errc::not_found, "the stored manifest cannot be read: " + found.reason};
    }
  }
  checked_.add(key);
  co_return Result<void>{};
}

bool StoredManifests::is_here(const oci::Digest& digest, const oci::Digest& name, std::string_view origin) {
  if (store_.incomplete() || store_.find(name, origin)) return true;
  const Object ready = objects_.find(digest);
  return ready && ready->upstream == origin;
}

}  // namespace sluice::pull
