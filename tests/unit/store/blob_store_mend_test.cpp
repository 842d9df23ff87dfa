// What happens to the directory and to the catalog while the store runs.
#include <sqlite3.h>

#include <cerrno>

#include "unit/store/store_fixture.hpp"

using namespace sluice;
using namespace sluice::test;
using store::Scope;

namespace {

struct Mended : StoreFixture {
  Mended() { params.maintenance_interval = std::chrono::hours{1}; }  // only when the test says so

  store::BlobStore& start() {
    store = std::make_unique<store::BlobStore>(params, filesystem, pool, clock, registry);
    store->set_on_trouble([this](const std::string& why) {
      const std::scoped_lock lock(mutex);
      troubles.push_back(why);
    });
    REQUIRE(store->start());
    store->wait_for_walk();
    return *store;
  }
  std::vector<std::string> told() {
    const std::scoped_lock lock(mutex);
    return troubles;
  }
  [[nodiscard]] runtime::Path catalog_path() const { return store::Layout(params.root).catalog(); }
  int sql(const char* statement) {
    sqlite3* database = nullptr;
    REQUIRE(sqlite3_open(catalog_path().c_str(), &database) == SQLITE_OK);
    int rows = 0;
    const auto count = [](void* to, int, char**, char**) {
      ++*static_cast<int*>(to);
      return 0;
    };
    const int rc = sqlite3_exec(database, statement, count, &rows, nullptr);
    sqlite3_close(database);
    return rc == SQLITE_OK ? rows : -1;
  }
  void learn() {
    REQUIRE(fill("abc"));
    store->catalog().set_membership(scope, sha256_of("abc"), {sha256_of("abc"), 3, "a/b"});
    store->catalog().set_membership(Scope(), sha256_of("abc"), {sha256_of("other"), 3, "a/b"});
    store->catalog().set_tag(scope, "latest", 3, sha256_of("abc"));
    store->catalog().set_meta("scrub_began", "77");
  }
  void check_learnt() {
    CHECK(store->find(sha256_of("abc"))->media_type == "application/x-layer");
    CHECK(store->catalog().membership(scope, sha256_of("abc")));
    CHECK(store->catalog().membership(Scope(), sha256_of("abc"))->descriptor.digest == sha256_of("other"));
    CHECK(store->catalog().tag(scope, "latest", 3)->digest == sha256_of("abc"));
    CHECK_FALSE(store->rebuilding());
  }

  std::mutex mutex;  // guards troubles
  std::vector<std::string> troubles;
  const Scope scope = Scope::repository("docker.io/library/a").value();
};

}  // namespace

TEST_CASE("BlobStore mends: a catalog that was removed is made again from memory", "[store][mend]") {
  Mended t;
  t.start();
  t.learn();
  REQUIRE(t.store->catalog().flush());
  for (const char* suffix : {"", "-wal", "-shm"}) std::filesystem::remove(t.catalog_path().native() + suffix);
  t.store->maintain();
  t.store->catalog().set_tag(t.scope, "later", 3, sha256_of("abc"));
  REQUIRE(t.store->catalog().flush());
  CHECK(t.sql("SELECT 1 FROM blobs") == 1);
  CHECK(t.sql("SELECT 1 FROM meta WHERE key = 'complete' AND value = 1") == 1);
  t.store.reset();
  t.start();
  t.check_learnt();
  CHECK(t.store->catalog().tag(t.scope, "later", 3));
  CHECK(t.told().empty());
}

TEST_CASE("BlobStore mends: another catalog in its place is replaced", "[store][mend]") {
  Mended t;
  t.start();
  t.learn();
  REQUIRE(t.store->catalog().flush());
  for (const char* suffix : {"", "-wal", "-shm"}) std::filesystem::remove(t.catalog_path().native() + suffix);
  write_file(t.catalog_path(), GENERATE(std::string(), std::string(8192, 'x')));
  t.store->maintain();
  REQUIRE(t.store->catalog().flush());
  t.store.reset();
  t.start();
  t.check_learnt();
}

TEST_CASE("BlobStore mends: a catalog that was damaged is moved aside and made again", "[store][mend]") {
  Mended t;
  t.start();
  t.learn();
  REQUIRE(t.store->catalog().flush());
  {
    // Behind SQLite's back, in the same file: every page but the first is garbage.
    sqlite3* database = nullptr;
    REQUIRE(sqlite3_open(t.catalog_path().c_str(), &database) == SQLITE_OK);
    sqlite3_exec(database, "PRAGMA wal_checkpoint(TRUNCATE)", nullptr, nullptr, nullptr);
    sqlite3_close(database);
    runtime::File file = t.posix.open_write(t.catalog_path()).value();
    const std::string garbage(t.posix.size(file).value() - 100, '\xa5');
    REQUIRE(t.posix.write_at(file, 100, std::as_bytes(std::span(garbage))));
  }
  t.store->catalog().set_tag(t.scope, "later", 3, sha256_of("abc"));
  const Result<void> first = t.store->catalog().flush();
  static_cast<void>(first);
  REQUIRE(t.store->catalog().flush());
  CHECK(std::filesystem::exists(t.catalog_path().native() + ".bad-1"));
  t.store.reset();
  t.start();
  t.check_learnt();
  CHECK(t.store->catalog().tag(t.scope, "later", 3));
}

TEST_CASE("BlobStore mends: trouble with the catalog is told, and its end", "[store][mend]") {
  Mended t;
  t.start();
  REQUIRE(t.store->catalog().flush());
  REQUIRE(t.sql("ALTER TABLE blobs RENAME TO hidden") == 0);
  REQUIRE(t.fill("abc"));
  CHECK_FALSE(t.store->catalog().flush());
  CHECK_FALSE(t.store->catalog().flush());
  CHECK(t.metric("sluice_store_degraded", "catalog") == 1);
  REQUIRE(t.told().size() == 1);
  CHECK(t.told()[0].find("no such table") != std::string::npos);
  REQUIRE(t.sql("ALTER TABLE hidden RENAME TO blobs") == 0);
  REQUIRE(t.store->catalog().flush());
  CHECK(t.told() == std::vector<std::string>{t.told()[0], ""});
  CHECK(t.metric("sluice_store_degraded", "catalog") == 0);
  CHECK(t.sql("SELECT 1 FROM blobs") == 1);
}

TEST_CASE("BlobStore mends: a catalog that cannot be made at the start is made later", "[store][mend]") {
  Mended t;
  std::filesystem::create_directories(t.catalog_path() / "in the way");
  t.fail(Operation::rename, EIO, "catalog");
  t.start();
  t.learn();
  CHECK_FALSE(t.store->catalog().flush());
  CHECK(t.told().size() == 1);
  CHECK(t.metric("sluice_store_degraded", "catalog") == 1);
  t.heal();
  std::filesystem::remove_all(t.catalog_path());
  REQUIRE(t.store->catalog().flush());
  CHECK(t.told().size() == 2);
  t.store.reset();
  t.start();
  t.check_learnt();
}

TEST_CASE("BlobStore mends: changes that were given up are written from memory in the end", "[store][mend]") {
  Mended t;
  t.start();
  REQUIRE(t.store->catalog().flush());
  REQUIRE(t.sql("ALTER TABLE memberships RENAME TO hidden") == 0);
  t.learn();
  CHECK_FALSE(t.store->catalog().flush());
  for (int n = 0; n < 100'001; ++n) t.store->catalog().touch_blob(sha256_of("abc"), 5);
  CHECK(t.metric("sluice_catalog_dropped_total") > 0);
  REQUIRE(t.sql("ALTER TABLE hidden RENAME TO memberships") == 0);
  REQUIRE(t.store->catalog().flush());
  t.store.reset();
  t.start();
  t.check_learnt();
}

TEST_CASE("BlobStore mends: a data directory that was removed is made again", "[store][mend]") {
  Mended t;
  t.start();
  t.learn();
  REQUIRE(t.store->catalog().flush());
  const bool move = GENERATE(false, true);
  if (move) {
    std::filesystem::rename(t.params.root, t.directory.path() / "elsewhere");
  } else {
    std::filesystem::remove_all(t.params.root);
  }
  t.store->maintain();
  REQUIRE(t.store->catalog().flush());
  CHECK(t.content(sha256_of("abc")) == "not_found");
  REQUIRE(t.fill("abc"));
  CHECK(t.content(sha256_of("abc")) == "abc");
  // The lock is ours again.
  metrics::Registry registry;
  store::BlobStore second(t.params, t.filesystem, t.pool, t.clock, registry);
  CHECK(code_of(second.start()) == "exists");
  t.store.reset();
  t.start();
  t.check_learnt();
  CHECK(t.content(sha256_of("abc")) == "abc");
}

TEST_CASE("BlobStore mends: a directory that cannot be made again is told once, and its return", "[store][mend]") {
  Mended t;
  t.start();
  std::filesystem::remove_all(t.params.root);
  t.fail(Operation::create_directories, EROFS);
  t.store->maintain();
  t.store->maintain();
  REQUIRE(t.told().size() == 1);
  CHECK_FALSE(t.told()[0].empty());
  t.heal();
  t.store->maintain();
  CHECK(t.told() == std::vector<std::string>{t.told()[0], ""});
  REQUIRE(t.fill("abc"));
}

TEST_CASE("BlobStore mends: a directory that comes back by itself is taken as it is", "[store][mend]") {
  Mended t;
  t.start();
  REQUIRE(t.fill("abc"));
  std::filesystem::rename(t.params.root, t.directory.path() / "elsewhere");
  t.fail(Operation::create_directories, EROFS);
  t.store->maintain();
  CHECK(t.told().size() == 1);
  t.heal();
  std::filesystem::rename(t.directory.path() / "elsewhere", t.params.root);
  t.store->maintain();
  CHECK(t.told() == std::vector<std::string>{t.told()[0], ""});
  CHECK(t.content(sha256_of("abc")) == "abc");
}

TEST_CASE("BlobStore mends: a disk that does not answer is no directory that is gone", "[store][mend]") {
  Mended t;
  t.start();
  REQUIRE(t.fill("abc"));
  t.fail(Operation::is_at, EIO);
  t.store->maintain();
  CHECK(t.told().empty());
  t.heal();
  CHECK(t.content(sha256_of("abc")) == "abc");
}

TEST_CASE("BlobStore: whether it can be written to is tried", "[store][mend]") {
  Mended t;
  t.start();
  CHECK(t.store->try_write());
  t.fail(GENERATE(Operation::create, Operation::write_at, Operation::sync), EROFS);
  CHECK(code_of(t.store->try_write()) == "io");
  t.fail(Operation::write_at, ENOSPC);
  CHECK(code_of(t.store->try_write()) == "no_space");
  t.heal();
  CHECK(files_below(t.incoming()) == 0);
}
