// FillStorage: the disk of fills. It makes room in the store, opens the file that a fill writes to, and makes it a
// blob, a part for the next fill, or nothing. It knows whether blobs can be stored at all.
//
// Threads: all functions may be called from any loop; the disk's work is done on the disk pool.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/result.hpp"
#include "oci/digest.hpp"
#include "pull/metrics.hpp"
#include "runtime/disk_pool.hpp"
#include "runtime/filesystem.hpp"
#include "runtime/task.hpp"
#include "store/blob_store.hpp"
#include "store/origin.hpp"
#include "store/parts.hpp"
#include "streamcache/cache.hpp"

namespace sluice::pull {

class FillStorage {
 public:
  // `on_trouble` is told, on some thread, when new blobs cannot be stored any more: why; and "" when they can be again.
  FillStorage(std::function<void(const std::string& why)> on_trouble, store::BlobStore& store, store::Parts& parts,
              runtime::DiskPool& pool, runtime::Filesystem& filesystem, const Metrics& metrics);

  // Opens the file of a fill, with the part of an earlier one in it where there is one, whose room goes to `room`.
  [[nodiscard]] streamcache::OpenFile opener(const oci::Digest& digest, const store::Origin& origin,
                                             std::shared_ptr<store::Reservation> room);

  // Before bytes up to `end` are written: makes room for these and about as many more, not for all that upstream has
  // announced, which may never come and would have made others go. Errors: there is no room, or for a blob of `size`
  // there can never be.
  runtime::Task<Result<void>> make_room(store::Reservation& room, std::uint64_t end, std::optional<std::uint64_t> size);

  // Makes the file, which is whole and right, the blob `digest`; of what is passed on without being stored, and where
  // the disk refuses, it removes the file. `asked`: the name of the fill. True: it is in the store now.
  runtime::Task<bool> keep(oci::Digest digest, oci::Digest asked, streamcache::Writer& writer, store::Reservation& room,
                           std::string media_type, store::Origin origin);
  // Keeps what is there for the next fill.
  runtime::Task<void> keep_part(oci::Digest digest, streamcache::Writer& writer, store::Reservation& room);
  // To be awaited before the file's room is given back, where nobody has taken it over. Readers have the file open.
  runtime::Task<void> remove(streamcache::Writer& writer);
  // Empties it. Errors: io.
  runtime::Task<Result<void>> drop_part(streamcache::Writer& writer);

  // What became of the last attempt to store something; nothing: it was stored.
  void note(const std::optional<Error>& trouble);
  [[nodiscard]] bool in_trouble() const noexcept { return trouble_.load() != Errc::internal; }
  // While blobs cannot be stored: looks whether they can be again, which else nothing would show before the next blob
  // is fetched. To be called now and then.
  runtime::Task<void> try_again();

 private:
  const std::function<void(const std::string& why)> on_trouble_;
  store::BlobStore& store_;
  store::Parts& parts_;
  runtime::DiskPool& pool_;
  runtime::Filesystem& filesystem_;
  const Metrics metrics_;
  std::atomic<Errc> trouble_{Errc::internal};  // no_space or io; internal: none
};

}  // namespace sluice::pull
