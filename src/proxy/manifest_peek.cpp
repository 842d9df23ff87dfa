// What ManifestService answers from memory, without a coroutine: for ready answers (ready_way.hpp).
#include <algorithm>

#include "oci/media_type.hpp"
#include "proxy/manifest_service.hpp"

namespace sluice::proxy {

bool ManifestService::peek_digest(const Route& route, const oci::Digest& digest, ReadyHit& hit) {
  const std::optional<BlobAccess::Lasting> known = access_.peek_lasting(route.scope, digest);
  if (!known) return false;
  const std::string_view media_type = oci::noted_manifest_type(known->entry.media_type);
  // What lies under another name is this repository's own, and not in memory.
  if (media_type.empty() || access_.stored_name(route.scope, digest) != digest) return false;
  hit.watches[0] = known->watch;
  hit.watches[1] = store_.watch(digest);
  hit.until = std::min(hit.until, known->until);
  hit.object = objects_.find(digest);
  return hit.object && hit.object->media_type == media_type && store_.find(digest, origin_name(route));
}

bool ManifestService::peek_tag(const Route& route, const oci::Tag& tag, oci::ManifestClass accept_class,
                               ReadyHit& hit) {
  const std::optional<store::TagRecord> record = known_tag(route, tag, accept_class);
  if (!record || !is_fresh(*record)) return false;
  hit.until = std::min(hit.until, record->checked_at + params_.tag_ttl);
  return peek_digest(route, record->digest, hit);
}

std::optional<ReadyHit> ManifestService::peek(const Route& route, const oci::Reference& reference,
                                              const oci::Accept& accept) {
  ReadyHit hit;
  if (reference.is_digest()) return peek_digest(route, reference.digest(), hit) ? std::optional(hit) : std::nullopt;
  const oci::Tag& tag = reference.tag();
  hit.watches[2] = store_.catalog().watch_tag(route.scope, tag.str());
  if (!peek_tag(route, tag, oci::kAllManifests, hit)) return std::nullopt;
  const oci::ManifestClass accepted = accept.manifest_class();
  // A client that gets another form of the tag is answered the long way.
  if (accepted != 0 && !accept.accepts(hit.object->media_type)) return std::nullopt;
  return hit;
}

}  // namespace sluice::proxy
