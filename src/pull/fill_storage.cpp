#include "pull/fill_storage.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/log.hpp"

namespace sluice::pull {
namespace {

// How much room a blob of unknown length is given at a time, and the least that one of known length is.
constexpr std::uint64_t kRoomStep = 1024 * 1024;

}  // namespace

FillStorage::FillStorage(std::function<void(const std::string& why)> on_trouble, store::BlobStore& store,
                         store::Parts& parts, runtime::DiskPool& pool, runtime::Filesystem& filesystem,
                         const Metrics& metrics)
    : on_trouble_(std::move(on_trouble)),
      store_(store),
      parts_(parts),
      pool_(pool),
      filesystem_(filesystem),
      metrics_(metrics) {}

streamcache::OpenFile FillStorage::opener(const oci::Digest& digest, const store::Origin& origin,
                                          std::shared_ptr<store::Reservation> room) {
  return [this, digest, origin, room = std::move(room)]() -> Result<streamcache::OpenedFile> {
    Result<store::Parts::Opened> opened = parts_.open(digest, origin);
    if (!opened) return opened.error();
    *room = std::move(opened->room);
    // Of a fill that ends before it begins, the part waits for the next one.
    auto give_back = [this, digest, room](const streamcache::OpenedFile& file) {
      if (!parts_.keep(file.path, digest, file.part_bytes, *room)) return false;
      runtime::unlock(file.file);
      return true;
    };
    return streamcache::OpenedFile{std::move(opened->file), std::move(opened->path), opened->size_bytes,
                                   std::move(give_back)};
  };
}

runtime::Task<Result<void>> FillStorage::make_room(store::Reservation& room, std::uint64_t end,
                                                   std::optional<std::uint64_t> size) {
  if (end <= room.bytes()) co_return Result<void>{};
  std::uint64_t wanted = end + kRoomStep;
  if (size) {
    // What can never be stored makes nobody else go.
    if (room.bytes() < *size && !store_.ledger().can_hold(*size - room.bytes()))
      co_return store::Ledger::no_room_for(*size);
    wanted = std::min(*size, std::max(wanted, 2 * end));
  }
  Result<void> reserved = co_await store_.reserve(room, wanted);
  // The program is ending and the account of space is closed. What arrives still goes into the part, for the next
  // process.
  if (!reserved && reserved.error().code == Errc::shutting_down) co_return Result<void>{};
  co_return reserved;
}

runtime::Task<bool> FillStorage::keep(oci::Digest digest, oci::Digest asked, streamcache::Writer& writer,
                                      store::Reservation& room, std::string media_type, store::Origin origin) {
  if (writer.unstored()) {
    metrics_.fills_unstored.add();
    co_await remove(writer);
    co_return false;
  }
  const Result<void> adopted =
      co_await store_.adopt(writer.path(), digest, writer.position(), std::move(media_type), room, std::move(origin));
  if (adopted) {
    writer.release_file();
    note(std::nullopt);
    co_return true;
  }
  // The program ends, and another one may have the store by now: it finds a part that is whole.
  if (adopted.error().code == Errc::shutting_down) {
    co_await keep_part(asked, writer, room);
    co_return false;
  }
  // The readers have their bytes all the same; the next request fetches it again.
  log::error("fill",
             fmt::format("{} was received but cannot be stored: {}", digest.to_string(), adopted.error().message));
  note(adopted.error());
  co_await remove(writer);
  co_return false;
}

runtime::Task<void> FillStorage::keep_part(oci::Digest digest, streamcache::Writer& writer, store::Reservation& room) {
  if (writer.unstored()) co_return;
  // A part that was not looked at is still all there.
  const std::uint64_t bytes = writer.position() + writer.part_bytes();
  const bool kept = co_await runtime::offload(
      pool_, [this, &writer, &room, digest, bytes] { return parts_.keep(writer.path(), digest, bytes, room); });
  if (!kept) co_return;
  writer.release_file();
  // Readers may still have the file open; the next download may write to it.
  runtime::unlock(writer.file());
}

runtime::Task<void> FillStorage::remove(streamcache::Writer& writer) {
  if (writer.released() || writer.path().empty()) co_return;
  const Result<void> removed =
      co_await runtime::offload(pool_, [this, &writer] { return filesystem_.remove(writer.path()); });
  // Nor does the cache remove it once more, later: by then the next download may have made a file of that name.
  if (removed) writer.release_file();
}

runtime::Task<Result<void>> FillStorage::drop_part(streamcache::Writer& writer) {
  writer.drop_part();
  co_return co_await runtime::offload(pool_, [this, &writer] { return filesystem_.truncate(writer.file(), 0); });
}

runtime::Task<void> FillStorage::try_again() {
  if (!in_trouble()) co_return;
  const Result<void> written = co_await runtime::offload(pool_, [this] { return store_.try_write(); });
  if (written) note(std::nullopt);
}

void FillStorage::note(const std::optional<Error>& trouble) {
  Errc now = Errc::internal;
  if (trouble) now = trouble->code == Errc::no_space ? Errc::no_space : Errc::io;
  if (trouble_.exchange(now) == now) return;
  metrics_.degraded_no_space.set(now == Errc::no_space ? 1 : 0);
  metrics_.degraded_io.set(now == Errc::io ? 1 : 0);
  if (trouble) {
    log::error("fill", fmt::format("new blobs are passed on without being stored: {}", trouble->message));
  } else {
    log::info("fill", "new blobs are stored again");
  }
  if (on_trouble_) on_trouble_(trouble ? trouble->message : std::string());
}

}  // namespace sluice::pull
