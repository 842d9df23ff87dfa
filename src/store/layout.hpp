// Where things lie under the store's root (docs/disk-format.md). The only place that makes paths from digests.
//
//   <root>/lock                                   held by the process that owns the root
//   <root>/catalog.db                             sizes, media types, memberships, tags (SQLite)
//   <root>/blobs/<algorithm>/<2 hex>/<hex>        whole, verified content
//   <root>/incoming/                              what is being written, and what is left of broken downloads
//   <root>/boot                                   which run of the machine incoming/ was written in
//   <root>/quarantine/<algorithm>-<hex>[.<n>]     blobs that turned out to be damaged
//
// Pure functions of a value; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "oci/digest.hpp"
#include "runtime/filesystem.hpp"
#include "store/origin.hpp"

namespace sluice::store {

class Layout {
 public:
  explicit Layout(runtime::Path root) : root_(std::move(root)) {}

  [[nodiscard]] const runtime::Path& root() const noexcept { return root_; }
  [[nodiscard]] runtime::Path lock() const { return root_ / "lock"; }
  [[nodiscard]] runtime::Path catalog() const { return root_ / "catalog.db"; }
  [[nodiscard]] runtime::Path blobs() const { return root_ / "blobs"; }
  [[nodiscard]] runtime::Path incoming() const { return root_ / "incoming"; }

  [[nodiscard]] runtime::Path boot() const { return root_ / "boot"; }
  [[nodiscard]] runtime::Path quarantine() const { return root_ / "quarantine"; }

  // The directory of all blobs of that algorithm, and the one of a blob.
  [[nodiscard]] runtime::Path blobs(oci::Algorithm algorithm) const;
  [[nodiscard]] runtime::Path shelf(const oci::Digest& digest) const;
  [[nodiscard]] runtime::Path blob(const oci::Digest& digest) const;
  // A blob that is being fetched: its usual name, and with a `number` one for when that is taken. `tag` says through
  // which upstream it comes, and with whose rights (part_tag).
  [[nodiscard]] runtime::Path part(const oci::Digest& digest, std::string_view tag) const;
  [[nodiscard]] runtime::Path part(const oci::Digest& digest, std::string_view tag, std::uint64_t number) const;
  // "u" and 16 hexadecimal digits, the same for the same origin.
  [[nodiscard]] static std::string part_tag(const Origin& origin);

  // The reverse of part(), for a name under incoming(); nothing for any other file.
  struct PartName {
    oci::Digest digest;
    std::string tag;  // empty: written by a version that did not note it
  };
  static std::optional<PartName> part_name(std::string_view name);

  // The reverse of blob(): the digest whose file `name` is in the shelf `shelf`; nothing for any other file.
  static std::optional<oci::Digest> digest_of(oci::Algorithm algorithm, std::string_view shelf, std::string_view name);

 private:
  runtime::Path root_;
};

}  // namespace sluice::store
