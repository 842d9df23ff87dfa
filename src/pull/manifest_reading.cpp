#include "pull/manifest_reading.hpp"

#include <utility>

#include "oci/signed_manifest.hpp"

namespace sluice::pull {
namespace {

// Parsing takes some 8 ms a MiB: up to this size on the loop, beyond it on the pool.
constexpr std::size_t kParsedInPlace = 64 * 1024;

ManifestReading read_in_place(const std::string& body, const std::string& content_type) {
  ManifestReading out{oci::served_type(body, content_type), oci::parse_manifest(body, content_type)};
  if (oci::signed_payload(body)) out.stored_as = oci::digest_of(oci::Algorithm::sha256, body);
  return out;
}

}  // namespace

runtime::Task<ManifestReading> read_manifest(runtime::DiskPool& pool, std::string body, std::string content_type) {
  if (body.size() <= kParsedInPlace) co_return read_in_place(body, content_type);
  co_return co_await runtime::offload(pool, [body = std::move(body), content_type = std::move(content_type)] {
    return read_in_place(body, content_type);
  });
}

}  // namespace sluice::pull
