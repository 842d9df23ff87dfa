// Blobs whose answer names a Content-Encoding, though `identity` was asked for: are the bytes the blob, or are they the
// blob in that coding? Only the digest can tell, and only at the end.
//
//   does not begin as that coding does          the blob itself; it streams
//   ends within kMaxHeldBytes                   held in memory; what has the digest is the blob, decoded or not
//   is longer, its length is not the one that   the blob in that coding; it is decoded as it comes, its size is not
//   known a manifest has told no manifest has told a length, and it is    the same: nobody keeps a blob that is
//   compressed twice compressed once it is decoded too else                                        taken for the blob
//   itself; it streams
//
// The last three are guesses. When the digest shows that one was wrong, the next download takes the other.
//
// What is held counts by its bytes, as they are sent, and all of an upstream's together are bounded by kMaxHeldInAll
// beyond the kPeekBytes that each download looks at. One that finds no room is taken for what a longer one would be.
//
// Threads: as BlobBody.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "base/sieve_map.hpp"
#include "oci/digest.hpp"
#include "runtime/task.hpp"
#include "upstream/coding.hpp"
#include "upstream/registry.hpp"

namespace sluice::upstream {

// What has been found out about such blobs, and how much of them is held. Thread-safe.
class EncodedBlobs {
 public:
  // Enough to see how it begins, also once it is decoded; this much is always read.
  static constexpr std::size_t kPeekBytes = std::size_t{64} << 10;
  static constexpr std::size_t kMaxHeldBytes = std::size_t{16} << 20;   // of one blob, as it is sent
  static constexpr std::size_t kMaxHeldInAll = std::size_t{128} << 20;  // of all
  // What a held body may decode to. Layers are compressed already, so one that gets many times as long is a bomb.
  static constexpr std::uint64_t kMaxDecodedBytes = std::uint64_t{1} << 30;
  static constexpr std::uint64_t kAlwaysDecodedBytes = std::uint64_t{16} << 20;
  static constexpr std::uint64_t kMaxTimesDecoded = 100;

  struct Known {
    bool encoded = false;               // the bytes that upstream sends are not the blob's
    std::optional<std::uint64_t> size;  // of the blob
  };
  [[nodiscard]] std::optional<Known> find(const oci::Digest& digest);
  void note(const oci::Digest& digest, Known known);

  // A manifest has named it with that size.
  void note_claimed_size(const oci::Digest& digest, std::uint64_t size_bytes);
  [[nodiscard]] std::optional<std::uint64_t> claimed_size(const oci::Digest& digest);
  // A whole download did not have the digest: what was guessed of it is taken for wrong.
  void note_mismatch(const oci::Digest& digest);

  // Room to hold one of them, given back at the end.
  class Room {
   public:
    explicit Room(EncodedBlobs& blobs) : held_(blobs.held_) {}
    Room(Room&& other) noexcept : held_(std::move(other.held_)), bytes_(std::exchange(other.bytes_, 0)) {}
    Room& operator=(Room&&) = delete;
    Room(const Room&) = delete;
    Room& operator=(const Room&) = delete;
    ~Room() { give_back(); }

    // For `bytes` in all, at most kMaxHeldBytes; false, and as before, where there is no more.
    [[nodiscard]] bool grow_to(std::size_t bytes);
    void give_back();

   private:
    std::shared_ptr<std::atomic<std::size_t>> held_;
    std::size_t bytes_ = 0;
  };
  [[nodiscard]] std::size_t held_bytes() const noexcept { return *held_; }

  // How many are being decoded to be judged, each on a thread of its own.
  static constexpr int kMostJudged = 4;
  std::atomic<int> judged{0};

 private:
  std::mutex mutex_;  // guards known_ and claimed_
  SieveMap<oci::Digest, Known> known_{10'000};
  SieveMap<oci::Digest, std::uint64_t> claimed_{10'000};
  const std::shared_ptr<std::atomic<std::size_t>> held_ = std::make_shared<std::atomic<std::size_t>>(0);
};

// Finds out which it is, and gives the blob. `body` begins at the first byte. `blobs` is used until this returns.
// Errors: those of reading `body`; digest_mismatch, for one that is held and is not the blob either way; overloaded,
// when too many are being decoded.
runtime::Task<Result<std::unique_ptr<BlobBody>>> open_encoded(std::unique_ptr<BlobBody> body, Coding coding,
                                                              oci::Digest digest, EncodedBlobs& blobs);

}  // namespace sluice::upstream
