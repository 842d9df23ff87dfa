#include "pull/blob_head.hpp"

namespace sluice::pull {

http::ResponseHead blob_head(unsigned status, const oci::Digest& digest, std::string_view media_type) {
  http::ResponseHead head(status);
  const std::string text = digest.to_string();
  head.add("Content-Type", media_type);
  head.add("Docker-Content-Digest", text).add("ETag", '"' + text + '"');
  head.add("Accept-Ranges", "bytes").add("Cache-Control", "max-age=31536000");
  head.add("Docker-Distribution-Api-Version", "registry/2.0");
  return head;
}

http::ResponseHead whole_blob_head(const oci::Digest& digest, std::uint64_t size, std::string_view media_type) {
  return blob_head(200, digest, media_type).content_length(size);
}

http::ResponseHead partial_blob_head(const oci::Digest& digest, const http::ByteRange& range, std::uint64_t size,
                                     std::string_view media_type) {
  http::ResponseHead head = blob_head(206, digest, media_type);
  return head.content_length(range.size()).add("Content-Range", http::content_range(range, size));
}

}  // namespace sluice::pull
