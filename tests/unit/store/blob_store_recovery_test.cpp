// The catalog is gone, damaged or not ours: the blobs are found by walking, and served meanwhile.
#include <sqlite3.h>

#include <condition_variable>
#include <mutex>

#include "unit/store/store_fixture.hpp"

using namespace sluice;
using namespace sluice::test;

namespace {

runtime::Path catalog_of(const StoreFixture& fixture) { return fixture.params.root / "catalog.db"; }

void sql(const runtime::Path& file, const char* statement) {
  sqlite3* database = nullptr;
  REQUIRE(sqlite3_open(file.c_str(), &database) == SQLITE_OK);
  const int rc = sqlite3_exec(database, statement, nullptr, nullptr, nullptr);
  sqlite3_close(database);
  REQUIRE(rc == SQLITE_OK);
}

// A store with two blobs, a membership and a tag, stopped.
void prepare(StoreFixture& fixture) {
  fixture.open();
  REQUIRE(fixture.fill("abc", "application/json"));
  REQUIRE(fixture.fill("defg"));
  const store::Scope scope = store::Scope::repository("docker.io/a").value();
  fixture.store->catalog().set_membership(scope, sha256_of("abc"), {sha256_of("abc"), 3, "application/json"});
  fixture.store->catalog().set_tag(scope, "latest", oci::kAllManifests, sha256_of("abc"));
  fixture.store.reset();
}

// Lets the walk go on when it is told to: it waits in its first listing of blobs/sha256.
class Gate {
 public:
  explicit Gate(StoreFixture& fixture) {
    fixture.filesystem.set_rule([this](Operation operation, const runtime::Path& path) {
      if (operation == Operation::list && path.filename() == "sha256") wait();
      return 0;
    });
  }
  void open() {
    {
      const std::scoped_lock lock(mutex_);
      open_ = true;
    }
    changed_.notify_all();
  }

 private:
  void wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return open_; });
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
};

}  // namespace

TEST_CASE("BlobStore recovery: without its catalog it walks", "[store][recovery]") {
  StoreFixture fixture;
  prepare(fixture);
  bool aside = true;
  SECTION("deleted") {
    std::filesystem::remove(catalog_of(fixture));
    aside = false;
  }
  SECTION("empty") {
    write_file(catalog_of(fixture), "");
    aside = false;
  }
  SECTION("not a database") { write_file(catalog_of(fixture), std::string(10'000, 'x')); }
  SECTION("cut short") {
    std::filesystem::resize_file(catalog_of(fixture), std::filesystem::file_size(catalog_of(fixture)) / 2);
  }
  SECTION("damaged in the middle") {
    std::string bytes = read_file(catalog_of(fixture));
    REQUIRE(bytes.size() > 8192);
    for (std::size_t i = 4096; i < bytes.size(); ++i) bytes[i] = '\x5a';
    write_file(catalog_of(fixture), bytes);
  }
  SECTION("of a newer version") { sql(catalog_of(fixture), "PRAGMA user_version = 99"); }
  SECTION("of another program") {
    std::filesystem::remove(catalog_of(fixture));
    sql(catalog_of(fixture), "CREATE TABLE stuff(x)");
  }
  SECTION("without one of its tables") { sql(catalog_of(fixture), "DROP TABLE tags"); }
  SECTION("a directory") {
    std::filesystem::remove(catalog_of(fixture));
    std::filesystem::create_directory(catalog_of(fixture));
  }

  fixture.open();
  CHECK_FALSE(fixture.store->rebuilding());
  CHECK(fixture.metric("sluice_store_rebuilding") == 0);
  CHECK(std::filesystem::exists(catalog_of(fixture).native() + ".bad-1") == aside);
  CHECK(fixture.store->entries() == 2);
  CHECK(fixture.store->bytes() == 7);
  CHECK(fixture.content(sha256_of("abc")) == "abc");
  CHECK(fixture.content(sha256_of("defg")) == "defg");
  CHECK(fixture.store->find(sha256_of("abc"))->media_type == "application/octet-stream");
  CHECK(fixture.store->catalog().repositories().empty());

  // The new catalog is a whole one.
  fixture.reopen();
  CHECK(fixture.store->entries() == 2);
  CHECK(std::filesystem::exists(catalog_of(fixture).native() + ".bad-1") == aside);
}

TEST_CASE("BlobStore recovery: a huge file in the catalog's place takes no room in memory", "[store][recovery]") {
  StoreFixture fixture;
  prepare(fixture);
  write_file(catalog_of(fixture), "no database");
  std::error_code none;  // where the file system has no room for the length, it is tried with less
  for (const std::uintmax_t size : {1ULL << 62, 1ULL << 55, 1ULL << 43, 1ULL << 41}) {
    std::filesystem::resize_file(catalog_of(fixture), size, none);
    if (!none) break;
  }
  REQUIRE_FALSE(none);
  fixture.open();
  CHECK(fixture.store->entries() == 2);
  CHECK(fixture.content(sha256_of("abc")) == "abc");
}

TEST_CASE("BlobStore recovery: a catalog that was moved aside is not overwritten by the next", "[store][recovery]") {
  StoreFixture fixture;
  prepare(fixture);
  for (int n = 1; n <= 3; ++n) {
    fixture.store.reset();
    write_file(catalog_of(fixture), "garbage " + std::to_string(n) + std::string(2000, 'x'));
    fixture.open();
    CHECK(read_file(catalog_of(fixture).native() + ".bad-" + std::to_string(n)).substr(0, 9) ==
          "garbage " + std::to_string(n));
  }
}

TEST_CASE("BlobStore recovery: a row whose file was removed just before a crash is dropped when it is opened",
          "[store][recovery]") {
  StoreFixture fixture;
  prepare(fixture);
  fixture.open();
  // The batch with the removal is never written.
  sql(catalog_of(fixture), "ALTER TABLE blobs RENAME TO hidden");
  REQUIRE(fixture.run(fixture.store->remove(sha256_of("abc"))));
  fixture.store.reset();
  sql(catalog_of(fixture), "ALTER TABLE hidden RENAME TO blobs");
  fixture.open();
  CHECK(fixture.store->find(sha256_of("abc")));
  CHECK(fixture.content(sha256_of("abc")) == "not_found");
  CHECK_FALSE(fixture.store->find(sha256_of("abc")));
  CHECK(fixture.content(sha256_of("defg")) == "defg");
}

TEST_CASE("BlobStore recovery: what was stored just before a crash is found before the walk comes to it",
          "[store][recovery]") {
  StoreFixture fixture;
  prepare(fixture);
  write_file(fixture.path_of(sha256_of("late")), "late");
  Gate gate(fixture);
  fixture.store = std::make_unique<store::BlobStore>(fixture.params, fixture.filesystem, fixture.pool, fixture.clock,
                                                     fixture.registry);
  REQUIRE(fixture.store->start());
  CHECK_FALSE(fixture.store->rebuilding());
  CHECK(fixture.store->incomplete());
  CHECK_FALSE(fixture.store->find(sha256_of("late")));
  gate.open();
  CHECK(fixture.content(sha256_of("late")) == "late");
  fixture.store->wait_for_walk();
  CHECK_FALSE(fixture.store->incomplete());
}

TEST_CASE("BlobStore recovery: it serves while it walks", "[store][recovery]") {
  StoreFixture fixture;
  prepare(fixture);
  std::filesystem::remove(catalog_of(fixture));
  Gate gate(fixture);
  fixture.store = std::make_unique<store::BlobStore>(fixture.params, fixture.filesystem, fixture.pool, fixture.clock,
                                                     fixture.registry);
  REQUIRE(fixture.store->start());
  CHECK(fixture.store->rebuilding());
  CHECK(fixture.metric("sluice_store_rebuilding") == 1);
  CHECK_FALSE(fixture.store->find(sha256_of("abc")));
  gate.open();  // the rule holds a lock while it waits, and the probes below need it
  CHECK(fixture.run(fixture.store->stat(sha256_of("abc"))).value().size == 3);
  CHECK(fixture.content(sha256_of("defg")) == "defg");
  CHECK(fixture.content(sha256_of("unknown")) == "not_found");
  fixture.store->wait_for_walk();
  CHECK(fixture.store->entries() == 2);
}

TEST_CASE("BlobStore recovery: a rebuild that was cut short is taken up again", "[store][recovery]") {
  StoreFixture fixture;
  prepare(fixture);
  std::filesystem::remove(catalog_of(fixture));
  SECTION("by a stop") {
    Gate gate(fixture);
    store::BlobStore store(fixture.params, fixture.filesystem, fixture.pool, fixture.clock, fixture.registry);
    REQUIRE(store.start());
    std::thread opener([&gate] { gate.open(); });
    store.stop();
    opener.join();
  }
  SECTION("by a directory that cannot be read") {
    const std::string shelf = fixture.path_of(sha256_of("abc")).parent_path().filename();
    fixture.filesystem.set_rule([&](Operation operation, const runtime::Path& path) {
      return operation == Operation::list && path.filename() == shelf ? EIO : 0;
    });
    fixture.open();
    CHECK(fixture.store->entries() == 1);
    CHECK(fixture.metric("sluice_store_errors_total", "walk") == 1);
    fixture.store.reset();
  }
  fixture.heal();
  fixture.open();
  CHECK(fixture.store->entries() == 2);
}

TEST_CASE("BlobStore recovery: strange files are left alone", "[store][recovery]") {
  StoreFixture fixture;
  prepare(fixture);
  std::filesystem::remove(catalog_of(fixture));
  const runtime::Path blobs = fixture.params.root / "blobs";
  write_file(blobs / "README", "x");
  write_file(blobs / "sha256" / "notes.txt", "x");
  write_file(blobs / "sha256" / "ab" / "not-a-digest", "x");
  // A digest on the wrong shelf, and a directory with a digest's name.
  write_file(blobs / "sha256" / "00" / sha256_of("abc").encoded(), "abc");
  std::filesystem::create_directories(fixture.path_of(sha256_of("dir")));
  fixture.open();
  CHECK(fixture.store->entries() == 2);
  CHECK(std::filesystem::exists(blobs / "sha256" / "ab" / "not-a-digest"));
  CHECK(fixture.content(sha256_of("dir")) == "not_found");
}

TEST_CASE("BlobStore recovery: no catalog can be written, and the blobs are served", "[store][recovery]") {
  StoreFixture fixture;
  prepare(fixture);
  // Neither can be opened as a database, nor moved out of the way.
  std::filesystem::remove(catalog_of(fixture));
  std::filesystem::create_directory(catalog_of(fixture));
  fixture.fail(Operation::rename, EROFS, "catalog");
  fixture.open();
  CHECK(fixture.store->entries() == 2);
  CHECK(fixture.content(sha256_of("abc")) == "abc");
  CHECK(fixture.fill("new"));
  // What is learnt waits for a catalog that can be written.
  CHECK_FALSE(fixture.store->catalog().flush());
  CHECK(fixture.store->catalog().pending() > 0);
  fixture.heal();
  std::filesystem::remove(catalog_of(fixture));
  CHECK(fixture.store->catalog().flush());
}
