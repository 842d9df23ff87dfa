#include "oci/descriptor.hpp"

#include <limits>

namespace sluice::oci {

Result<void> validate(const Descriptor& descriptor) {
  if (descriptor.media_type.empty()) return Error(Errc::internal, "a descriptor without a media type");
  if (descriptor.size > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
    return Error(Errc::internal, "a descriptor with a size beyond int64");
  }
  return {};
}

}  // namespace sluice::oci
