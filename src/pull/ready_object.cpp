#include "pull/ready_object.hpp"

#include "http/response_head.hpp"
#include "oci/media_type.hpp"
#include "pull/blob_head.hpp"

namespace sluice::pull {

void ObjectCache::insert(const oci::Digest& digest, Object object) {
  const std::uint64_t cost = sizeof(ReadyObject) + object->head.size() + object->body.size() + 128;
  objects_.insert(digest, std::move(object), cost);
}

ObjectCache::Object ObjectCache::share(const oci::Digest& digest, Object object) {
  Object known = objects_.find(digest);
  if (known && known->media_type == object->media_type && known->in_memory == object->in_memory &&
      known->upstream == object->upstream) {
    return known;
  }
  insert(digest, object);
  return object;
}

namespace {

std::string manifest_head(const oci::Digest& digest, std::string_view media_type, std::uint64_t size) {
  http::ResponseHead head(200);
  const std::string text = digest.to_string();
  head.add("Content-Type", media_type).content_length(size);
  head.add("Docker-Content-Digest", text).add("ETag", '"' + text + '"');
  head.add("Docker-Distribution-Api-Version", "registry/2.0");
  return head.str();
}

std::shared_ptr<ReadyObject> manifest_object(const oci::Digest& digest, std::string media_type, std::uint64_t size) {
  auto object = std::make_shared<ReadyObject>();
  object->head = manifest_head(digest, media_type, size);
  object->etag = '"' + digest.to_string() + '"';
  object->media_type = std::move(media_type);
  object->size = size;
  return object;
}

std::shared_ptr<ReadyObject> blob_object(const oci::Digest& digest, std::uint64_t size,
                                         std::string_view media_type = oci::media_type::kOctetStream) {
  auto object = std::make_shared<ReadyObject>();
  object->head = whole_blob_head(digest, size, media_type).str();
  object->etag = '"' + digest.to_string() + '"';
  object->media_type = media_type;
  object->size = size;
  return object;
}

}  // namespace

std::shared_ptr<const ReadyObject> ready_manifest(const oci::Digest& digest, std::string media_type, std::string body,
                                                  std::string upstream) {
  auto object = manifest_object(digest, std::move(media_type), body.size());
  object->body = std::move(body);
  object->in_memory = true;
  object->upstream = std::move(upstream);
  return object;
}

std::shared_ptr<const ReadyObject> ready_manifest(const oci::Digest& digest, std::string media_type,
                                                  std::shared_ptr<const store::OpenBlob> file) {
  auto object = manifest_object(digest, std::move(media_type), file->size);
  object->file = std::move(file);
  return object;
}

std::shared_ptr<const ReadyObject> ready_manifest_head(const oci::Digest& digest, std::string media_type,
                                                       std::uint64_t size) {
  return manifest_object(digest, std::move(media_type), size);
}

std::shared_ptr<const ReadyObject> ready_blob(const oci::Digest& digest, std::string body,
                                              std::string_view media_type) {
  auto object = blob_object(digest, body.size(), media_type);
  object->body = std::move(body);
  object->in_memory = true;
  return object;
}

std::shared_ptr<const ReadyObject> ready_blob(const oci::Digest& digest, std::shared_ptr<const store::OpenBlob> file,
                                              std::string_view media_type) {
  auto object = blob_object(digest, file->size, media_type);
  object->file = std::move(file);
  return object;
}

std::shared_ptr<const ReadyObject> ready_blob_head(const oci::Digest& digest, std::uint64_t size) {
  return blob_object(digest, size);
}

}  // namespace sluice::pull
