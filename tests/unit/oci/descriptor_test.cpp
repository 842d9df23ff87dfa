#include "oci/descriptor.hpp"

#include <catch2/catch.hpp>
#include <limits>

#include "support/catch_result.hpp"

using namespace sluice;
using namespace sluice::oci;

TEST_CASE("Descriptor: one with a media type and a size of the image-spec is valid", "[oci]") {
  const Digest digest = digest_of(Algorithm::sha256, "x");
  CHECK(validate(Descriptor{digest, 0, "a/b"}));
  CHECK(validate(Descriptor{digest, std::numeric_limits<std::int64_t>::max(), "a/b"}));
}

TEST_CASE("Descriptor: without a media type or beyond int64 it is not", "[oci]") {
  const Digest digest = digest_of(Algorithm::sha256, "x");
  CHECK_FALSE(validate(Descriptor{digest, 1, ""}));
  CHECK_FALSE(validate(Descriptor{digest, std::uint64_t{1} << 63, "a/b"}));
  CHECK(validate(Descriptor{}).error().code == Errc::internal);
}

TEST_CASE("Descriptor: all three parts count in a comparison", "[oci]") {
  const Descriptor one{digest_of(Algorithm::sha256, "x"), 1, "a/b"};
  Descriptor other = one;
  CHECK(one == other);
  other.size = 2;
  CHECK(one != other);
  other = one;
  other.media_type = "a/c";
  CHECK(one != other);
  other = one;
  other.digest = digest_of(Algorithm::sha256, "y");
  CHECK(one != other);
}
