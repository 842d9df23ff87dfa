// One change of the catalog on its way to SQLite. A value, internal to the catalog.
#pragma once

#include <cstdint>
#include <string>

#include "oci/digest.hpp"
#include "oci/media_type.hpp"
#include "store/media_types.hpp"

namespace sluice::store {

struct Change {
  // What takes something away comes last.
  enum class Kind : std::uint8_t {
    put_blob,        // digest, size, media_type, time; tag: the origins
    found_blob,      // the same, for what was found on the disk: the row keeps a type and a time that it has
    touch_blob,      // digest, time
    put_membership,  // scope, digest, canonical, size, media_type, time
    put_tag,         // scope, tag, accept_class, digest, time
    set_complete,
    set_meta,                    // tag: the key, scope: the value
    remove_blob,                 // digest
    remove_membership,           // scope, digest
    remove_tag,                  // scope, tag
    remove_memberships_between,  // scope: the first scope, tag: the one behind the last
    remove_tags_between,         // the same
  };

  Kind kind = Kind::put_blob;
  oci::ManifestClass accept_class = 0;
  MediaTypes::Id media_type = MediaTypes::kOctetStream;
  oci::Digest digest;
  oci::Digest canonical;
  std::uint64_t size = 0;  // bytes
  std::int64_t time = 0;   // since 1970: milliseconds for tags, seconds for all others
  std::string scope;
  std::string tag;

  [[nodiscard]] bool removes() const noexcept { return kind >= Kind::remove_blob; }
};

}  // namespace sluice::store
