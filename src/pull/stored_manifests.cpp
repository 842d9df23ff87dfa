#include "pull/stored_manifests.hpp"

#include <optional>

#include "oci/manifest.hpp"
#include "oci/signed_manifest.hpp"

namespace sluice::pull {

runtime::Task<StoredManifests::Object> StoredManifests::read(oci::Digest digest, oci::Digest name,
                                                             std::string media_type, std::string origin) {
  const bool is_signed = name != digest && name.algorithm() == digest.algorithm();
  Object ready = is_signed ? nullptr : objects_.find(digest);
  if (ready && ready->media_type != media_type) ready.reset();
  const oci::Digest& file = is_signed ? name : digest;
  if ((!ready || ready->upstream != origin) && !store_.find(file, origin)) {
    if (!store_.incomplete()) co_return nullptr;
    const Result<store::Stored> stored = co_await store_.stat(file);
    if (!stored || !store_.permits(*stored, origin)) co_return nullptr;
  }
  if (ready) {
    store_.touch(digest);
    co_return ready;
  }
  // Read once for all who wait: a large one that does not fit the cache is no copy for each of them.
  const runtime::SingleFlight<std::string, Object>::Work work = [this, digest, file, is_signed, media_type] {
    return is_signed ? load_signed(digest, file, media_type) : load(digest, media_type);
  };
  std::string key = digest.to_string();
  key.append(" ").append(file.to_string()).append(" ").append(media_type);
  auto outcome = co_await loads_.run(std::move(key), work);
  co_return outcome.result ? *outcome.result : nullptr;
}

runtime::Task<Result<StoredManifests::Object>> StoredManifests::load(oci::Digest digest, std::string media_type) {
  Result<std::string> body = co_await store_.read_small(digest, oci::kMaxManifestBytes);
  if (!body) co_return body.error();
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

bool StoredManifests::is_here(const oci::Digest& digest, const oci::Digest& name, std::string_view origin) {
  if (store_.incomplete() || store_.find(name, origin)) return true;
  const Object ready = objects_.find(digest);
  return ready && ready->upstream == origin;
}

}  // namespace sluice::pull
