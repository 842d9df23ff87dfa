#include "store/catalog_file.hpp"

#include <sqlite3.h>

#include <array>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include <fmt/format.h>

namespace sluice::store {
namespace {

// From version n to n + 1 at index n. Only ever appended to.
constexpr std::array<const char*, CatalogFile::kVersion> kMigrations = {
    R"sql(
CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;
INSERT INTO meta VALUES('complete', 0);
CREATE TABLE blobs(
  digest BLOB PRIMARY KEY,       -- raw: 32 bytes are sha256, 48 sha384, 64 sha512
  size INTEGER NOT NULL,
  media_type TEXT NOT NULL,
  created INTEGER NOT NULL,      -- seconds since 1970
  last_used INTEGER NOT NULL     -- seconds since 1970
) WITHOUT ROWID;
CREATE TABLE memberships(
  scope TEXT NOT NULL,           -- upstream/repository; '' is global
  digest BLOB NOT NULL,
  canonical BLOB,                -- NULL: digest itself
  size INTEGER NOT NULL,
  media_type TEXT NOT NULL,
  checked_at INTEGER NOT NULL,   -- seconds since 1970
  PRIMARY KEY(scope, digest)
) WITHOUT ROWID;
CREATE TABLE tags(
  scope TEXT NOT NULL,
  tag TEXT NOT NULL,
  accept_class INTEGER NOT NULL, -- bits, see oci/media_type.hpp
  digest BLOB NOT NULL,
  checked_at INTEGER NOT NULL,   -- milliseconds since 1970
  PRIMARY KEY(scope, tag, accept_class)
) WITHOUT ROWID;
)sql",
    // Version 1 gave a file to every upstream that was said to have it: these keep it. It did not note what only a
    // manifest had vouched for, so all of it counts as such.
    R"sql(
ALTER TABLE blobs ADD COLUMN origins TEXT NOT NULL DEFAULT ''; -- '*': anybody's; else upstreams, by a space; '': unknown
CREATE TEMP TABLE had AS
  SELECT COALESCE(canonical, digest) AS digest,
         REPLACE(GROUP_CONCAT(DISTINCT SUBSTR(scope, 1, INSTR(scope, '/') - 1)), ',', ' ') AS origins
  FROM memberships WHERE INSTR(scope, '/') > 1 GROUP BY 1;
CREATE UNIQUE INDEX temp.had_digest ON had(digest);
UPDATE blobs SET origins = COALESCE((SELECT had.origins FROM temp.had WHERE had.digest = blobs.digest), '');
DROP TABLE temp.had;
UPDATE memberships SET media_type = 'application/vnd.sluice.named-by-manifest'
  WHERE scope != '' AND media_type = 'application/octet-stream';
)sql"};

constexpr int kBusyMilliseconds = 2000;
constexpr int kApplicationId = 0x736c7563;  // "sluc": tells our file from other SQLite files

constexpr std::array<const char*, 12> kStatements = {
    // In the order of Change::Kind. A blob keeps its time of creation.
    "INSERT INTO blobs(digest, size, media_type, created, last_used, origins) VALUES(?1, ?2, ?3, ?4, ?4, ?5) "
    "ON CONFLICT(digest) DO UPDATE SET size = ?2, media_type = ?3, last_used = ?4, origins = ?5",
    "INSERT INTO blobs(digest, size, media_type, created, last_used, origins) VALUES(?1, ?2, ?3, ?4, ?4, ?5) "
    "ON CONFLICT(digest) DO UPDATE SET size = ?2",
    "UPDATE blobs SET last_used = ?2 WHERE digest = ?1",
    "INSERT OR REPLACE INTO memberships(scope, digest, canonical, size, media_type, checked_at) "
    "VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
    "INSERT OR REPLACE INTO tags(scope, tag, accept_class, digest, checked_at) VALUES(?1, ?2, ?3, ?4, ?5)",
    "UPDATE meta SET value = 1 WHERE key = 'complete'",
    "INSERT OR REPLACE INTO meta(key, value) VALUES(?1, ?2)",
    "DELETE FROM blobs WHERE digest = ?1",
    "DELETE FROM memberships WHERE scope = ?1 AND digest = ?2",
    "DELETE FROM tags WHERE scope = ?1 AND tag = ?2",
    "DELETE FROM memberships WHERE scope >= ?1 AND scope < ?2",
    "DELETE FROM tags WHERE scope >= ?1 AND scope < ?2",
};

// Binds parameters in turn and reads columns; finalized with its scope.
class Statement {
 public:
  explicit Statement(sqlite3_stmt* statement) : statement_(statement) {}
  Statement(Statement&& other) noexcept : statement_(std::exchange(other.statement_, nullptr)) {}
  Statement& operator=(Statement&&) = delete;
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;
  ~Statement() { sqlite3_finalize(statement_); }

  // What is bound must live until step(): nothing is copied.
  Statement& bind(std::string_view text) {
    sqlite3_bind_text(statement_, ++bound_, text.data(), static_cast<int>(text.size()), SQLITE_STATIC);
    return *this;
  }
  Statement& bind(const oci::Digest& digest) {
    const auto raw = digest.raw();
    sqlite3_bind_blob(statement_, ++bound_, raw.data(), static_cast<int>(raw.size()), SQLITE_STATIC);
    return *this;
  }
  Statement& bind(std::int64_t number) {
    sqlite3_bind_int64(statement_, ++bound_, number);
    return *this;
  }
  Statement& bind_null() {
    sqlite3_bind_null(statement_, ++bound_);
    return *this;
  }

  int step() { return sqlite3_step(statement_); }
  int reset() {
    bound_ = 0;
    const int rc = sqlite3_reset(statement_);
    sqlite3_clear_bindings(statement_);
    return rc;
  }

  [[nodiscard]] std::int64_t number(int column) const { return sqlite3_column_int64(statement_, column); }
  [[nodiscard]] bool is_null(int column) const { return sqlite3_column_type(statement_, column) == SQLITE_NULL; }
  [[nodiscard]] std::string_view text(int column) const {
    const unsigned char* bytes = sqlite3_column_text(statement_, column);
    if (bytes == nullptr) return {};
    // SQLite hands text out as unsigned char.
    return {reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(sqlite3_column_bytes(statement_, column))};
  }
  [[nodiscard]] std::optional<oci::Digest> digest(int column) const {
    const auto* bytes = static_cast<const std::byte*>(sqlite3_column_blob(statement_, column));
    const auto size = static_cast<std::size_t>(sqlite3_column_bytes(statement_, column));
    for (const oci::Algorithm algorithm : {oci::Algorithm::sha256, oci::Algorithm::sha384, oci::Algorithm::sha512}) {
      if (bytes != nullptr && size == oci::digest_bytes(algorithm)) {
        return oci::Digest::from_raw(algorithm, std::span(bytes, size));
      }
    }
    return std::nullopt;
  }

 private:
  sqlite3_stmt* statement_;
  int bound_ = 0;
};

}  // namespace

class CatalogFile::Database {
 public:
  explicit Database(sqlite3* handle) : handle_(handle) {}
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;
  ~Database() {
    statements.clear();
    sqlite3_close(handle_);
  }

  [[nodiscard]] int code() const { return sqlite3_errcode(handle_) & 0xff; }
  [[nodiscard]] Error error(std::string_view doing) const {
    const int code = this->code();
    Errc errc = Errc::io;
    if (code == SQLITE_CORRUPT || code == SQLITE_NOTADB) errc = Errc::corrupt;
    if (code == SQLITE_FULL) errc = Errc::no_space;
    return {errc, fmt::format("{}: {}", doing, sqlite3_errmsg(handle_))};
  }

  Result<void> run(const char* sql, std::string_view doing) {
    if (sqlite3_exec(handle_, sql, nullptr, nullptr, nullptr) != SQLITE_OK) return error(doing);
    return {};
  }

  Result<Statement> prepare(const char* sql) {
    sqlite3_stmt* statement = nullptr;
    if (sqlite3_prepare_v2(handle_, sql, -1, &statement, nullptr) != SQLITE_OK) return error("prepare");
    return Statement(statement);
  }

  Result<std::int64_t> number(const char* sql) {
    Result<Statement> statement = prepare(sql);
    if (!statement) return statement.error();
    if (statement->step() != SQLITE_ROW) return error(sql);
    return statement->number(0);
  }

  Result<std::string> text(const char* sql) {
    Result<Statement> statement = prepare(sql);
    if (!statement) return statement.error();
    if (statement->step() != SQLITE_ROW) return error(sql);
    return std::string(statement->text(0));
  }

  // The version of the schema, 0 where there is none yet.
  Result<std::int64_t> version();
  Result<void> migrate(std::int64_t from_version);

  std::vector<Statement> statements;  // by Change::Kind

 private:
  sqlite3* handle_;
};

Result<std::int64_t> CatalogFile::Database::version() {
  const Result<std::int64_t> version = number("PRAGMA user_version");
  if (!version) return version.error();
  const Result<std::int64_t> application = number("PRAGMA application_id");
  if (!application) return application.error();
  const Result<std::int64_t> tables = number("SELECT count(*) FROM sqlite_master");
  if (!tables) return tables.error();
  if (*tables != 0 && *application != kApplicationId) return Error(Errc::corrupt, "not a catalog of sluice");
  if (*version > kVersion) {
    return Error(Errc::corrupt,
                 fmt::format("written by a newer version (schema {}, this one knows up to {})", *version, kVersion));
  }
  if (*version < 0 || (*tables == 0 && *version != 0)) return Error(Errc::corrupt, "its schema is missing");
  return *version;
}

Result<void> CatalogFile::Database::migrate(std::int64_t from_version) {
  for (std::int64_t from = from_version; from < kVersion; ++from) {
    const std::string script =
        fmt::format("BEGIN IMMEDIATE;{}PRAGMA application_id = {};PRAGMA user_version = {};COMMIT;",
                    kMigrations[static_cast<std::size_t>(from)], kApplicationId, from + 1);
    if (Result<void> done = run(script.c_str(), "migrate"); !done) {
      (void)run("ROLLBACK", "roll back");
      return done;
    }
  }
  return {};
}

CatalogFile::CatalogFile(runtime::Path path, std::unique_ptr<Database> database, MediaTypes& media_types)
    : path_(std::move(path)), database_(std::move(database)), media_types_(media_types) {}

CatalogFile::~CatalogFile() = default;

Result<std::unique_ptr<CatalogFile>> CatalogFile::open(const runtime::Path& path, MediaTypes& media_types) {
  sqlite3* handle = nullptr;
  const int rc =
      sqlite3_open_v2(path.c_str(), &handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, nullptr);
  if (handle == nullptr) return Error(Errc::io, "SQLite is out of memory");
  auto database = std::make_unique<Database>(handle);
  if (rc != SQLITE_OK) return database->error("open");
  // An offline reader (the command line, sqlite3) may hold the file for a moment.
  sqlite3_busy_timeout(handle, kBusyMilliseconds);

  // The version is looked at before anything is changed: a newer file is left as it was.
  const Result<std::int64_t> version = database->version();
  if (!version) return version.error();
  if (Result<void> migrated = database->migrate(*version); !migrated) return migrated.error();
  // It answers with the mode that there is, and that is no error: file systems without shared memory have no WAL.
  const Result<std::string> mode = database->text("PRAGMA journal_mode = WAL");
  if (!mode) return mode.error();
  const bool has_wal = *mode == "wal";
  // NORMAL: a power failure may cost the last transactions, never the consistency of the file. That holds for a WAL.
  if (Result<void> set = database->run(has_wal ? "PRAGMA synchronous = NORMAL" : "PRAGMA synchronous = FULL", "open");
      !set) {
    return set.error();
  }
  for (const char* sql : kStatements) {
    Result<Statement> statement = database->prepare(sql);
    // A table or column is missing; or the disk failed, which says nothing about the file.
    if (!statement && database->code() != SQLITE_ERROR) return statement.error();
    if (!statement) return Error(Errc::corrupt, statement.error().message);
    database->statements.push_back(std::move(*statement));
  }
  auto file = std::unique_ptr<CatalogFile>(new CatalogFile(path, std::move(database), media_types));
  file->made_ = *version == 0;
  file->has_wal_ = has_wal;
  return file;
}

// A WAL needs an index in shared memory beside it, a file as well, which a full disk or a read-only mount refuses. A
// connection that has the file to itself keeps the index in its own memory. Where not even the lock for that can be had
// there is SQLite's read-only mode, and without a WAL the mode that touches nothing else.
Result<std::unique_ptr<CatalogFile::Database>> CatalogFile::open_in(Way way, const runtime::Path& path) {
  std::string name = path.native();
  int flags = SQLITE_OPEN_NOMUTEX | (way == Way::alone ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READONLY);
  if (way == Way::immutable) {
    std::error_code none;
    const runtime::Path wal(path.native() + "-wal");
    if (std::filesystem::is_regular_file(wal, none) && std::filesystem::file_size(wal, none) != 0) {
      return Error(Errc::io, "there is a WAL that cannot be read");
    }
    name = "file:";
    for (const char c : path.native())
      name += c == '?' || c == '#' || c == '%' ? fmt::format("%{:02x}", c) : fmt::format("{}", c);
    name += "?immutable=1";
    flags |= SQLITE_OPEN_URI;
  }
  sqlite3* handle = nullptr;
  const int rc = sqlite3_open_v2(name.c_str(), &handle, flags, nullptr);
  if (handle == nullptr) return Error(Errc::io, "SQLite is out of memory");
  auto database = std::make_unique<Database>(handle);
  if (rc != SQLITE_OK) return database->error("open");
  sqlite3_busy_timeout(handle, kBusyMilliseconds);
  sqlite3_db_config(handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
  if (way == Way::alone) {
    if (Result<void> set = database->run("PRAGMA locking_mode = EXCLUSIVE", "open"); !set) return set.error();
  }
  const Result<std::int64_t> version = database->version();
  if (!version) return version.error();
  if (*version != kVersion) return Error(Errc::io, fmt::format("its schema is {}, not {}", *version, kVersion));
  return database;
}

Result<std::unique_ptr<CatalogFile>> CatalogFile::open_to_read(const runtime::Path& path, MediaTypes& media_types) {
  Error problem;
  for (const Way way : {Way::alone, Way::read_only, Way::immutable}) {
    Result<std::unique_ptr<Database>> database = open_in(way, path);
    if (database) {
      auto file = std::unique_ptr<CatalogFile>(new CatalogFile(path, std::move(*database), media_types));
      file->one_connection_ = true;
      return file;
    }
    problem = database.error();
  }
  return problem;
}

// Reads the rows of one connection.
class CatalogFile::Reader {
 public:
  Reader(Database& database, MediaTypes& media_types, const std::function<void(const Change&)>& on_row)
      : database_(database), media_types_(media_types), on_row_(on_row) {}

  Result<void> blobs() {
    return each("SELECT digest, size, media_type, last_used, origins FROM blobs", Change::Kind::put_blob,
                [this](const Statement& from) {
                  row_.media_type = media_type(from.text(2));
                  row_.time = from.number(3);
                  row_.tag = from.text(4);
                  return digest_into(row_.digest, from, 0) && size_into(from, 1);
                });
  }
  Result<void> memberships() {
    return each("SELECT scope, digest, canonical, size, media_type, checked_at FROM memberships",
                Change::Kind::put_membership, [this](const Statement& from) {
                  row_.scope = from.text(0);
                  row_.media_type = media_type(from.text(4));
                  row_.time = from.number(5);
                  if (!digest_into(row_.digest, from, 1) || !size_into(from, 3)) return false;
                  row_.canonical = row_.digest;
                  return from.is_null(2) || digest_into(row_.canonical, from, 2);
                });
  }
  Result<void> tags() {
    return each("SELECT scope, tag, accept_class, digest, checked_at FROM tags", Change::Kind::put_tag,
                [this](const Statement& from) {
                  row_.scope = from.text(0);
                  row_.tag = from.text(1);
                  row_.accept_class = static_cast<oci::ManifestClass>(from.number(2));
                  row_.time = from.number(4);
                  return digest_into(row_.digest, from, 3);
                });
  }
  [[nodiscard]] std::size_t skipped() const noexcept { return skipped_; }

 private:
  // Calls `read` for each row; it returns false for one that makes no sense.
  template <class Read>
  Result<void> each(const char* sql, Change::Kind kind, Read read) {
    Result<Statement> statement = database_.prepare(sql);
    if (!statement) return statement.error();
    row_.kind = kind;
    int rc = statement->step();
    for (; rc == SQLITE_ROW; rc = statement->step()) {
      if (read(*statement)) {
        on_row_(row_);
      } else {
        ++skipped_;
      }
    }
    if (rc != SQLITE_DONE) return database_.error("load");
    return {};
  }
  static bool digest_into(oci::Digest& out, const Statement& from, int column) {
    const std::optional<oci::Digest> digest = from.digest(column);
    if (digest) out = *digest;
    return digest.has_value();
  }
  bool size_into(const Statement& from, int column) {
    const std::int64_t size = from.number(column);
    row_.size = static_cast<std::uint64_t>(size);
    return size >= 0;
  }
  // Most rows have the type of the one before.
  MediaTypes::Id media_type(std::string_view text) {
    if (text != last_text_) {
      last_text_ = text;
      last_id_ = media_types_.intern(text);
    }
    return last_id_;
  }

  Database& database_;
  MediaTypes& media_types_;
  const std::function<void(const Change&)>& on_row_;
  Change row_;
  std::size_t skipped_ = 0;
  std::string last_text_;
  MediaTypes::Id last_id_ = MediaTypes::kOctetStream;
};

Result<CatalogFile::Summary> CatalogFile::load(const std::function<void(const Change&)>& on_row,
                                               const std::function<void()>& on_blobs) {
  // Memberships are as many as blobs: they are read beside them, through a connection of their own.
  sqlite3* handle = nullptr;
  const bool two =
      !one_connection_ &&
      sqlite3_open_v2(path_.c_str(), &handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, nullptr) == SQLITE_OK;
  Database second(handle);  // closes what could not be opened too
  if (two) sqlite3_busy_timeout(handle, kBusyMilliseconds);
  Reader first_rows(*database_, media_types_, on_row);
  Reader second_rows(two ? second : *database_, media_types_, on_row);
  Result<void> beside{};
  const auto read_second = [&] {
    beside = second_rows.memberships();
    if (beside) beside = second_rows.tags();
  };
  std::thread thread = two ? std::thread(read_second) : std::thread();
  const Result<void> done = first_rows.blobs();
  if (done && on_blobs) on_blobs();
  if (thread.joinable()) thread.join();
  if (!done) return done.error();
  if (!two) read_second();
  if (!beside) return beside.error();
  Summary summary;
  summary.skipped = first_rows.skipped() + second_rows.skipped();
  Result<Statement> meta = database_->prepare("SELECT key, value FROM meta WHERE key != 'complete'");
  if (!meta) return meta.error();
  while (meta->step() == SQLITE_ROW) summary.meta.emplace(meta->text(0), meta->text(1));
  const Result<std::int64_t> complete = database_->number("SELECT value FROM meta WHERE key = 'complete'");
  summary.complete = complete && *complete == 1;
  return summary;
}

namespace {

void bind_change(Statement& to, const Change& change, const MediaTypes& media_types) {
  const auto size = static_cast<std::int64_t>(change.size);
  switch (change.kind) {
    case Change::Kind::put_blob:
    case Change::Kind::found_blob:
      to.bind(change.digest).bind(size).bind(media_types.text(change.media_type)).bind(change.time);
      to.bind(change.tag);
      break;
    case Change::Kind::touch_blob: to.bind(change.digest).bind(change.time); break;
    case Change::Kind::put_membership:
      to.bind(change.scope).bind(change.digest);
      if (change.canonical == change.digest) {
        to.bind_null();
      } else {
        to.bind(change.canonical);
      }
      to.bind(size).bind(media_types.text(change.media_type)).bind(change.time);
      break;
    case Change::Kind::put_tag:
      to.bind(change.scope).bind(change.tag).bind(std::int64_t{change.accept_class});
      to.bind(change.digest).bind(change.time);
      break;
    case Change::Kind::set_complete: break;
    case Change::Kind::set_meta: to.bind(change.tag).bind(change.scope); break;
    case Change::Kind::remove_blob: to.bind(change.digest); break;
    case Change::Kind::remove_membership: to.bind(change.scope).bind(change.digest); break;
    case Change::Kind::remove_tag:
    case Change::Kind::remove_memberships_between:
    case Change::Kind::remove_tags_between: to.bind(change.scope).bind(change.tag); break;
  }
}

}  // namespace

Result<void> CatalogFile::clear() {
  Result<void> cleared = database_->run(
      "BEGIN IMMEDIATE; DELETE FROM blobs; DELETE FROM memberships; DELETE FROM tags;"
      "UPDATE meta SET value = 0 WHERE key = 'complete'; COMMIT",
      "clear");
  if (!cleared) (void)database_->run("ROLLBACK", "roll back");
  return cleared;
}

Result<void> CatalogFile::apply(std::span<const Change> changes) {
  if (Result<void> begun = database_->run("BEGIN IMMEDIATE", "begin"); !begun) return begun;
  for (const Change& change : changes) {
    Statement& statement = database_->statements[static_cast<std::size_t>(change.kind)];
    bind_change(statement, change, media_types_);
    const bool done = statement.step() == SQLITE_DONE;
    const std::optional<Error> failed = done ? std::nullopt : std::optional(database_->error("write"));
    statement.reset();
    if (failed) {
      (void)database_->run("ROLLBACK", "roll back");
      return *failed;
    }
  }
  Result<void> committed = database_->run("COMMIT", "commit");
  if (!committed) (void)database_->run("ROLLBACK", "roll back");
  return committed;
}

}  // namespace sluice::store
