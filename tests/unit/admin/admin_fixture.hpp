// A store with images in it, as the proxy would have left it.
#pragma once

#include <string>

#include <fmt/format.h>

#include "../store/store_fixture.hpp"
#include "admin/inventory.hpp"
#include "oci/media_type.hpp"
#include "store/parts.hpp"

namespace sluice::test {

struct AdminFixture : StoreFixture {
  AdminFixture() : store_(open()), parts({.root = params.root}, filesystem, clock, registry) {
    parts.start([](const oci::Digest&) { return false; });
  }

  static store::Scope scope(const std::string& repository) { return store::Scope::repository(repository).value(); }

  // Puts it into the store, and says that the repository has it.
  oci::Digest put(const std::string& repository, const std::string& bytes, std::string_view type = "") {
    const std::string media_type(type.empty() ? oci::media_type::kOctetStream : type);
    const oci::Digest digest = sha256_of(bytes);
    REQUIRE(run(store_.put(digest, bytes, media_type)));
    know(repository, digest, bytes.size(), media_type);
    return digest;
  }
  void know(const std::string& repository, const oci::Digest& digest, std::uint64_t size,
            const std::string& media_type) {
    store_.catalog().set_membership(scope(repository), digest, {digest, size, media_type});
  }
  void tag(const std::string& repository, const std::string& name, const oci::Digest& digest,
           oci::ManifestClass accepts = oci::kAllManifests) {
    store_.catalog().set_tag(scope(repository), name, accepts, digest);
  }

  static std::string descriptor(std::string_view type, const std::string& bytes) {
    return fmt::format(R"({{"mediaType":"{}","size":{},"digest":"{}"}})", type, bytes.size(),
                       sha256_of(bytes).to_string());
  }
  // The text of an image of one layer, which need not be there.
  static std::string manifest(const std::string& config, const std::string& layer) {
    return fmt::format(R"({{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[{}]}})",
                       oci::media_type::kOciManifest, descriptor(oci::media_type::kOciConfig, config),
                       descriptor(oci::media_type::kOciLayer, layer));
  }
  static std::string index(const std::string& manifest) {
    return fmt::format(R"({{"schemaVersion":2,"mediaType":"{}","manifests":[{}]}})", oci::media_type::kOciIndex,
                       descriptor(oci::media_type::kOciManifest, manifest));
  }
  // All of it; the manifest's digest.
  oci::Digest image(const std::string& repository, const std::string& config, const std::string& layer) {
    put(repository, config);
    put(repository, layer);
    return put(repository, manifest(config, layer), oci::media_type::kOciManifest);
  }

  static admin::ImageName name(const std::string& text) { return admin::ImageName::parse(text).value(); }

  store::BlobStore& store_;
  store::Parts parts;
  admin::Inventory inventory{{}, store_, parts, filesystem};
};

}  // namespace sluice::test
