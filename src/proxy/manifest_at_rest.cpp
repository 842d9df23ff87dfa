// Manifests that are stored: how ManifestService reads them, and what it answers from what it knows.
#include "oci/manifest.hpp"
#include "oci/media_type.hpp"
#include "oci/signed_manifest.hpp"
#include "proxy/manifest_service.hpp"

namespace sluice::proxy {

// `media_type` is what upstream called it for the repository that asks. The bytes of one manifest can have two types,
// where they do not say themselves, so one repository's word is never another one's answer.
//
// Nor is one upstream's word another one's: what came with a login is given only to those who ask an upstream that has
// sent it itself (store/origin_sets.hpp).
runtime::Task<ManifestService::Object> ManifestService::at_rest(oci::Digest digest, oci::Digest name,
                                                                std::string media_type, std::string upstream) {
  const bool is_signed = name != digest && name.algorithm() == digest.algorithm();
  Object ready = is_signed ? nullptr : objects_.find(digest);
  if (ready && ready->media_type != media_type) ready.reset();
  const oci::Digest& file = is_signed ? name : digest;
  if ((!ready || ready->upstream != upstream) && !store_.find(file, upstream)) {
    if (!store_.incomplete()) co_return nullptr;
    const Result<store::Stored> stored = co_await store_.stat(file);
    if (!stored || !store_.permits(*stored, upstream)) co_return nullptr;
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

runtime::Task<Result<ManifestService::Object>> ManifestService::load(oci::Digest digest, std::string media_type) {
  Result<std::string> body = co_await store_.read_small(digest, oci::kMaxManifestBytes);
  if (!body) co_return body.error();
  co_return objects_.share(digest, ready_manifest(digest, std::move(media_type), std::move(*body)));
}

// The store has held the bytes against their own sha256. Not kept in memory: by this digest another repository may have
// other bytes.
runtime::Task<Result<ManifestService::Object>> ManifestService::load_signed(oci::Digest digest, oci::Digest name,
                                                                            std::string media_type) {
  Result<std::string> body = co_await store_.read_small(name, oci::kMaxManifestBytes);
  if (!body) co_return body.error();
  const std::optional<std::string> payload = oci::signed_payload(*body);
  if (!payload || oci::digest_of(digest.algorithm(), *payload) != digest) {
    co_return Error{Errc::not_found, "what is stored is another manifest"};
  }
  co_return ready_manifest(digest, std::move(media_type), std::move(*body));
}

// From what is here; nothing where the bytes are needed and are not.
runtime::Task<std::optional<ManifestService::Opened>> ManifestService::open_known(Route route, descriptors::Entry known,
                                                                                  oci::Digest digest, bool head_only,
                                                                                  CacheResult result) {
  const std::string media_type(oci::noted_manifest_type(known.media_type));
  Object object =
      co_await at_rest(digest, access_.stored_name(route.scope, digest), media_type, std::string(origin_name(route)));
  // What lies under the digest of a signed manifest may be its payload alone.
  const bool is_payload = object && object->size != known.size && media_type == oci::media_type::kDockerSchema1Signed;
  if (object && !is_payload) co_return Opened{result, std::move(object), digest};
  if (!head_only) co_return std::nullopt;
  co_return Opened{result, ready_manifest_head(digest, media_type, known.size), digest};
}

}  // namespace sluice::proxy
