#include <string>

#include <catch2/catch.hpp>

#include "store/layout.hpp"
#include "store/media_types.hpp"

using namespace sluice;
using store::Layout;

TEST_CASE("Layout: paths of a digest", "[store]") {
  const Layout layout("/data");
  const oci::Digest digest =
      oci::Digest::parse("sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855").value();
  CHECK(layout.blob(digest) ==
        "/data/blobs/sha256/e3/e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(
      layout.part(digest, "u0123456789abcdef") ==
      "/data/incoming/sha256-e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855.u0123456789abcdef.part");
  CHECK(layout.catalog() == "/data/catalog.db");
}

TEST_CASE("Layout: a name is turned back into its digest, and only such a name", "[store]") {
  for (const oci::Algorithm algorithm : {oci::Algorithm::sha256, oci::Algorithm::sha384, oci::Algorithm::sha512}) {
    const oci::Digest digest = oci::digest_of(algorithm, std::string_view("x"));
    const std::string hex = digest.encoded();
    CHECK(Layout::digest_of(algorithm, hex.substr(0, 2), hex) == digest);
    CHECK_FALSE(Layout::digest_of(algorithm, "zz", hex));
    CHECK_FALSE(Layout::digest_of(algorithm, hex.substr(0, 2), hex + "0"));
    CHECK_FALSE(Layout::digest_of(algorithm, hex.substr(0, 2), hex.substr(0, 10)));
  }
  const std::string hex = oci::digest_of(oci::Algorithm::sha256, std::string_view("x")).encoded();
  CHECK_FALSE(Layout::digest_of(oci::Algorithm::sha512, hex.substr(0, 2), hex));
  CHECK_FALSE(Layout::digest_of(oci::Algorithm::sha256, "", ""));
  CHECK_FALSE(Layout::digest_of(oci::Algorithm::sha256, "..", ".."));
}

TEST_CASE("MediaTypes: one number for each text, and a bound", "[store]") {
  store::MediaTypes types;
  CHECK(types.text(store::MediaTypes::kOctetStream) == "application/octet-stream");
  CHECK(types.intern("") == store::MediaTypes::kOctetStream);
  CHECK(types.intern("application/octet-stream") == store::MediaTypes::kOctetStream);
  CHECK(types.intern(std::string(1000, 'a')) == store::MediaTypes::kOctetStream);
  const store::MediaTypes::Id id = types.intern("application/json");
  CHECK(types.intern("application/json") == id);
  for (int i = 0; i < 5000; ++i) types.intern("type/" + std::to_string(i));
  CHECK(types.text(id) == "application/json");
  CHECK(types.intern("type/4999") == store::MediaTypes::kOctetStream);
  CHECK(types.text(60'000) == "application/octet-stream");
}
