// Hashes a file behind whoever writes it.
//
// Hashing in line with receiving costs twice the time of either; here the loop receives and writes, and the disk pool
// reads the written pieces back from the page cache and hashes them (docs/architecture.md has the figures).
//
// Threads: the functions are called from one task; the hashing runs on the pool. Destroying the verifier while a piece
// is being hashed is safe: `keep_alive` holds the file until then.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "base/result.hpp"
#include "oci/digest.hpp"
#include "runtime/disk_pool.hpp"
#include "runtime/filesystem.hpp"

namespace sluice::pull {

class TrailingVerifier {
 public:
  // `file` belongs to `keep_alive`. `at_hand` bytes are there already, from an earlier download: that much the hashing
  // may be behind without anybody having to wait for it.
  TrailingVerifier(runtime::DiskPool& pool, runtime::Filesystem& filesystem, const runtime::File& file,
                   std::shared_ptr<const void> keep_alive, oci::Algorithm algorithm, std::uint64_t at_hand = 0);
  TrailingVerifier(const TrailingVerifier&) = delete;
  TrailingVerifier& operator=(const TrailingVerifier&) = delete;
  ~TrailingVerifier();

  // The first `written_bytes` of the file are there and will not change. Never suspends, except when the hashing is so
  // far behind that the pieces would have left the page cache: then until it has caught up.
  runtime::Task<void> advance(std::uint64_t written_bytes);

  // `bytes` follow what was written, and are in no file. Suspends until all before them and they are hashed; they must
  // live that long. From now on there is no advance().
  runtime::Task<void> append(std::span<const std::byte> bytes);

  // The digest of the first `total_bytes`, which are all written. Once. Errors: those of reading the file.
  runtime::Task<Result<oci::Digest>> finish(std::uint64_t total_bytes);

  // The sha256 of what finish() has given the digest of. Where that was asked for by another algorithm, both were
  // computed of the same bytes. Precondition: finish() was a success.
  [[nodiscard]] oci::Digest canonical() const;

  // From the first byte again, after finish(), with nothing at hand.
  void restart();

 private:
  struct State;
  runtime::DiskPool& pool_;
  std::shared_ptr<State> state_;
};

}  // namespace sluice::pull
