// gc: evicts down to the limits now, and drops what leads nowhere: rows of blobs whose file is gone, memberships and
// tags of blobs that are not here, parts that nobody has asked for in time.
//
// None of it costs more than a question to upstream, when somebody asks for it again.
// Threads: collect blocks, for a walk of the index; on the disk pool or any thread, while the store runs.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

#include "base/clock.hpp"
#include "runtime/filesystem.hpp"
#include "store/blob_store.hpp"
#include "store/parts.hpp"

namespace sluice::admin {

struct CollectOptions {
  // Memberships and tags that upstream has confirmed since are left alone: a pull that runs is about to need them.
  std::chrono::seconds min_age{600};
};

struct Collected {
  std::size_t evicted = 0;  // blobs, down to the limits
  std::uint64_t evicted_bytes = 0;
  std::size_t missing_files = 0;  // rows of blobs without a file, or with one of another length
  std::size_t memberships = 0;
  std::size_t tags = 0;
  std::size_t parts = 0;
  std::uint64_t parts_bytes = 0;
  std::uint64_t store_bytes = 0;  // what is left
  std::size_t store_blobs = 0;
};

Collected collect(store::BlobStore& store, store::Parts& parts, runtime::Filesystem& filesystem, const Clock& clock,
                  const CollectOptions& options);

}  // namespace sluice::admin
