// The catalog's SQLite file. Internal to the catalog.
//
// One thread at a time: load() uses it, then the writer's thread alone. Errors: corrupt (not a catalog, a damaged one,
// or one of a newer version), no_space, io; the message holds SQLite's words.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>

#include "base/result.hpp"
#include "runtime/filesystem.hpp"
#include "store/catalog_change.hpp"
#include "store/media_types.hpp"

namespace sluice::store {

class CatalogFile {
 public:
  // The version of the schema that this program writes; older ones are migrated when they are opened.
  static constexpr int kVersion = 2;

  // Makes the file where it is not there.
  static Result<std::unique_ptr<CatalogFile>> open(const runtime::Path& path, MediaTypes& media_types);
  // To read one that cannot be opened like that, because the disk is full or nothing may be written: for load alone.
  // The file and its WAL stay as they are.
  static Result<std::unique_ptr<CatalogFile>> open_to_read(const runtime::Path& path, MediaTypes& media_types);
  CatalogFile(const CatalogFile&) = delete;
  CatalogFile& operator=(const CatalogFile&) = delete;
  ~CatalogFile();

  // Whether it is in WAL mode. Where not, every change is durable when apply has returned.
  [[nodiscard]] bool has_wal() const noexcept { return has_wal_; }
  // Whether there was none, or an empty one, before it was opened.
  [[nodiscard]] bool made() const noexcept { return made_; }

  struct Summary {
    bool complete = false;
    std::size_t skipped = 0;                  // rows that make no sense
    std::map<std::string, std::string> meta;  // but for `complete`
  };
  // Calls `on_row` with a put_blob, put_membership or put_tag for each row: with blobs on this thread, with others on
  // another one at the same time. `on_blobs` is called when all blobs were given, while others may still come.
  Result<Summary> load(const std::function<void(const Change&)>& on_row, const std::function<void()>& on_blobs = {});

  // Forgets all blobs, memberships and tags, and is not complete any more.
  Result<void> clear();
  // All of them, or on an error none.
  Result<void> apply(std::span<const Change> changes);

 private:
  class Database;
  class Reader;
  enum class Way : std::uint8_t { alone, read_only, immutable };
  static Result<std::unique_ptr<Database>> open_in(Way way, const runtime::Path& path);
  CatalogFile(runtime::Path path, std::unique_ptr<Database> database, MediaTypes& media_types);

  const runtime::Path path_;
  std::unique_ptr<Database> database_;
  MediaTypes& media_types_;
  bool made_ = false;
  bool has_wal_ = true;
  bool one_connection_ = false;  // another one would be kept out, or see less
};

}  // namespace sluice::store
