// OpenFiles: a bounded cache of open descriptors of blobs at rest, so that a hot hit opens nothing.
//
// Thread-safe; one short lock of a shard, no I/O under it. A file that falls out of the cache stays open for those who
// hold it. Owned by the BlobStore.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string_view>
#include <vector>

#include "oci/digest.hpp"
#include "runtime/filesystem.hpp"

namespace sluice::store {

// A blob at rest, open for reading. Immutable: any number of threads may read from it (pread, sendfile with an offset)
// as long as they hold it; a blob that is evicted meanwhile keeps its bytes for them.
struct OpenBlob {
  runtime::File file;
  std::uint64_t size = 0;       // bytes; the file's length when it was opened
  std::string_view media_type;  // lives as long as the store
};

class OpenFiles {
 public:
  // `capacity` of 0 keeps nothing.
  explicit OpenFiles(std::size_t capacity);
  OpenFiles(const OpenFiles&) = delete;
  OpenFiles& operator=(const OpenFiles&) = delete;
  ~OpenFiles();

  // Null when it is not there.
  [[nodiscard]] std::shared_ptr<const OpenBlob> find(const oci::Digest& digest);
  void insert(const oci::Digest& digest, std::shared_ptr<const OpenBlob> blob);
  void erase(const oci::Digest& digest);
  void clear();
  [[nodiscard]] std::size_t size() const;

 private:
  struct Shard;
  [[nodiscard]] Shard& shard(const oci::Digest& digest) const noexcept;

  const std::size_t capacity_;
  std::vector<std::unique_ptr<Shard>> shards_;
};

}  // namespace sluice::store
