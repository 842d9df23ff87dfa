// Accept fields and media types.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "fuzz/expect.hpp"
#include "oci/media_type.hpp"

using namespace sluice::oci;

namespace {

constexpr std::string_view kTypes[] = {media_type::kDockerSchema1, media_type::kDockerSchema1Signed,
                                       media_type::kDockerSchema2, media_type::kDockerList,
                                       media_type::kOciManifest,   media_type::kOciIndex};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const Accept accept = Accept::parse(text);
  SLUICE_EXPECT((accept.manifest_class() & ~kAllManifests) == 0);
  for (const std::string_view type : kTypes) {
    SLUICE_EXPECT(accept.accepts(type) == ((accept.manifest_class() & manifest_bit(type)) != 0));
    SLUICE_EXPECT(accept.accepts(std::string(type) + "; charset=utf-8") == accept.accepts(type));
  }
  (void)accept.accepts(text);

  // Empty elements change nothing (RFC 9110 section 5.6.1).
  SLUICE_EXPECT(Accept::parse("," + std::string(text)).manifest_class() == accept.manifest_class());

  const std::string_view bare = strip_parameters(text);
  SLUICE_EXPECT(strip_parameters(bare) == bare);
  SLUICE_EXPECT(is_manifest(text) == is_manifest(bare));
  SLUICE_EXPECT(!is_index(text) || is_manifest(text));
  SLUICE_EXPECT(is_manifest(text) == (manifest_bit(text) != 0));
  return 0;
}
