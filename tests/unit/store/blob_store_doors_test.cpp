// What the store does about files that are not what they should be, about who else may use the directory, and about a
// disk that takes its time.
#include <sys/stat.h>

#include <condition_variable>
#include <mutex>
#include <set>
#include <thread>

#include <boost/asio/co_spawn.hpp>

#include "unit/store/store_fixture.hpp"

using namespace sluice;
using namespace sluice::test;

namespace {

unsigned mode_of(const runtime::Path& path) {
  struct stat st{};
  REQUIRE(::lstat(path.c_str(), &st) == 0);
  return st.st_mode & 0777U;
}

// Holds every sync until it is let go.
class SlowSync {
 public:
  explicit SlowSync(StoreFixture& fixture) {
    fixture.filesystem.set_stall([this](Operation operation, const runtime::Path&) {
      if (operation == Operation::sync) wait();
    });
  }
  void wait_for(int syncs) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return waiting_ >= syncs; });
  }
  void let_go() {
    const std::scoped_lock lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }

 private:
  void wait() {
    std::unique_lock lock(mutex_);
    ++waiting_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return open_; });
  }

  std::mutex mutex_;  // guards everything below
  std::condition_variable changed_;
  int waiting_ = 0;
  bool open_ = false;
};

}  // namespace

TEST_CASE("BlobStore: large blobs that are being synced do not hold up the opening of another one", "[store]") {
  StoreFixture fixture;
  fixture.params.open_files = 0;
  store::BlobStore& store = fixture.open();
  REQUIRE(fixture.fill("cold"));
  SlowSync disk(fixture);
  // More than the lane of such work has threads.
  std::vector<std::thread> storing;
  std::vector<std::string> layers;
  for (int i = 0; i < 4; ++i) layers.push_back("layer " + std::to_string(i));
  for (const std::string& layer : layers) {
    write_file(fixture.incoming() / layer, layer);
    storing.emplace_back([&fixture, &store, layer] {
      RunTask run;
      (void)run(store.adopt(fixture.incoming() / layer, sha256_of(layer), layer.size(), "a/b"));
    });
  }
  disk.wait_for(2);
  CHECK(fixture.content(sha256_of("cold")) == "cold");
  CHECK(fixture.run(store.read_small(sha256_of("cold"), 10)).value() == "cold");
  CHECK(store.entries() == 1);
  disk.let_go();
  for (std::thread& thread : storing) thread.join();
  CHECK(store.entries() == 5);
}

TEST_CASE("BlobStore: what stands in a blob's place and is no regular file is refused and left alone", "[store]") {
  StoreFixture fixture;
  fixture.params.open_files = 0;
  store::BlobStore& store = fixture.open();
  const oci::Digest digest = sha256_of("abc");
  REQUIRE(fixture.fill("abc"));
  const runtime::Path path = fixture.path_of(digest);
  std::filesystem::remove(path);
  const bool fifo = GENERATE(true, false);
  if (fifo) {
    REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
  } else {
    write_file(fixture.directory.path() / "secret", "abc");
    std::filesystem::create_symlink(fixture.directory.path() / "secret", path);
  }
  CHECK(fixture.content(digest) == "not_found");
  CHECK_FALSE(store.find(digest));
  CHECK(std::filesystem::symlink_status(path).type() ==
        (fifo ? std::filesystem::file_type::fifo : std::filesystem::file_type::symlink));
  CHECK_FALSE(std::filesystem::exists(store::Layout(fixture.params.root).quarantine()));
  // Stored again, it takes the name over.
  REQUIRE(fixture.fill("abc"));
  CHECK(fixture.content(digest) == "abc");
}

TEST_CASE("BlobStore: a file with other names is hashed before it is served", "[store]") {
  StoreFixture fixture;
  fixture.params.open_files = 0;
  store::BlobStore& store = fixture.open();
  const std::string content(100'000, 'x');
  const oci::Digest digest = sha256_of(content);
  REQUIRE(fixture.fill(content));
  const runtime::Path other = fixture.directory.path() / "other";
  SECTION("right") {
    std::filesystem::create_hard_link(fixture.path_of(digest), other);
    CHECK(fixture.content(digest) == content);
    CHECK(fixture.content(digest) == content);
    // Written through its other name: noticed, because it has changed.
    write_file(other, std::string(100'000, 'y'));
    CHECK(fixture.content(digest) == "not_found");
  }
  SECTION("wrong") {
    std::filesystem::remove(fixture.path_of(digest));
    write_file(other, std::string(100'000, 'y'));
    std::filesystem::create_hard_link(other, fixture.path_of(digest));
    CHECK(fixture.content(digest) == "not_found");
    CHECK_FALSE(store.find(digest));
  }
}

TEST_CASE("BlobStore: a file with other names is hashed once for all who ask", "[store][doors]") {
  StoreFixture fixture;
  fixture.params.open_files = 0;
  store::BlobStore& store = fixture.open();
  const std::string content(1'000'000, 'x');
  const oci::Digest digest = sha256_of(content);
  REQUIRE(fixture.fill(content));
  std::filesystem::create_hard_link(fixture.path_of(digest), fixture.directory.path() / "other");
  std::atomic<std::size_t> reads{0};
  fixture.filesystem.set_stall([&reads](Operation operation, const runtime::Path&) {
    if (operation == Operation::read_at) ++reads;
  });
  CHECK_FALSE(fixture.run(store.read_small(digest, 10)));  // too long, but hashed
  const std::size_t once = reads;
  CHECK(once >= 4);
  // Its other name is changed, so that it is in doubt again.
  std::filesystem::create_hard_link(fixture.path_of(digest), fixture.directory.path() / "third");
  reads = 0;
  std::vector<std::thread> clients;
  std::atomic<int> opened{0};
  for (int i = 0; i < 8; ++i) {
    clients.emplace_back([&] {
      RunTask run;
      if (run(store.open(digest))) ++opened;
    });
  }
  for (std::thread& client : clients) client.join();
  CHECK(opened == 8);
  CHECK(reads == once);
}

TEST_CASE("BlobStore: a size on record that is wrong is corrected, and the whole file stays", "[store]") {
  StoreFixture fixture;
  fixture.params.open_files = 0;
  const std::string content(100'000, 'x');
  const oci::Digest digest = sha256_of(content);
  fixture.open();
  REQUIRE(fixture.fill(content));
  // Another length first, as a catalog that was written to by somebody else would say.
  std::filesystem::resize_file(fixture.path_of(digest), 50'000);
  std::filesystem::remove(store::Layout(fixture.params.root).catalog());
  fixture.reopen();
  REQUIRE(fixture.store->find(digest)->size == 50'000);
  write_file(fixture.path_of(digest), content);
  SECTION("found by an open") { CHECK(fixture.content(digest) == content); }
  SECTION("found by a small read") {
    CHECK(fixture.run(fixture.store->read_small(digest, 1'000'000)).value() == content);
  }
  SECTION("found by the scrub") {
    CHECK(fixture.store->check(digest, [](std::uint64_t) { return true; }).state ==
          store::BlobStore::Checked::State::sound);
  }
  CHECK(fixture.store->find(digest)->size == content.size());
  CHECK(fixture.store->bytes() == content.size());
  CHECK(fixture.metric("sluice_store_dropped_total") <= 0);
  fixture.reopen();
  CHECK(fixture.store->find(digest)->size == content.size());
}

TEST_CASE("BlobStore: a removal is on the disk before it is reported", "[store]") {
  StoreFixture fixture;
  store::BlobStore& store = fixture.open();
  REQUIRE(fixture.fill("abc"));
  std::vector<runtime::Path> synced;
  std::mutex mutex;
  fixture.filesystem.set_stall([&](Operation operation, const runtime::Path& path) {
    const std::scoped_lock lock(mutex);
    if (operation == Operation::sync_directory) synced.push_back(path);
  });
  REQUIRE(fixture.run(store.remove(sha256_of("abc"))));
  CHECK(synced == std::vector{fixture.path_of(sha256_of("abc")).parent_path()});
  REQUIRE(fixture.fill("abc"));
  fixture.fail(Operation::sync_directory, EIO);
  CHECK(code_of(fixture.run(store.remove(sha256_of("abc")))) == "io");
  fixture.heal();
}

TEST_CASE("BlobStore: what was flushed to the catalog is forced to the disk", "[store]") {
  StoreFixture fixture;
  store::BlobStore& store = fixture.open();
  REQUIRE(fixture.fill("abc"));
  std::atomic<int> syncs{0};
  std::atomic<int> directories{0};
  fixture.filesystem.set_stall([&](Operation operation, const runtime::Path&) {
    if (operation == Operation::sync) ++syncs;
    if (operation == Operation::sync_directory) ++directories;
  });
  REQUIRE(store.catalog().flush());
  CHECK(syncs == 1);
  CHECK(directories == 1);
  // There is nothing new, and nothing that could be lost.
  REQUIRE(store.catalog().flush());
  CHECK(syncs == 1);
  fixture.fail(Operation::sync, EIO);
  store.touch(sha256_of("abc"));
  store.catalog().set_meta("a", "b");
  CHECK_FALSE(store.catalog().flush());
  fixture.heal();
  CHECK(store.catalog().flush());
}

TEST_CASE("BlobStore: closed for writes, it serves what is there and leaves the directory to a successor", "[store]") {
  StoreFixture fixture;
  fixture.params.open_files = 0;
  store::BlobStore& old = fixture.open();
  REQUIRE(fixture.fill("abc"));
  REQUIRE(fixture.fill("defg"));
  const auto reader = fixture.run(old.open(sha256_of("abc")));
  REQUIRE(reader);
  old.close_for_writes();
  metrics::Registry registry;
  store::BlobStore successor(fixture.params, fixture.filesystem, fixture.pool, fixture.clock, registry);
  REQUIRE(successor.start());
  successor.wait_for_walk();
  CHECK(successor.entries() == 2);
  REQUIRE(fixture.run(successor.remove(sha256_of("abc"))));
  REQUIRE(fixture.run(successor.put(sha256_of("new"), "new", "a/b")));
  // The old one goes on with what it has, and changes nothing.
  CHECK(fixture.content(sha256_of("defg")) == "defg");
  CHECK(fixture.content(sha256_of("abc")) == "not_found");
  std::array<std::byte, 3> bytes{};
  CHECK(fixture.posix.read_at((*reader)->file, 0, bytes).value() == 3);
  CHECK(code_of(fixture.run(old.put(sha256_of("x"), "x", "a/b"))) == "shutting_down");
  CHECK(code_of(fixture.fill("late")) == "shutting_down");
  CHECK(std::filesystem::exists(fixture.incoming() / "part"));
  CHECK(code_of(fixture.run(old.remove(sha256_of("defg")))) == "shutting_down");
  fixture.store.reset();
  CHECK(fixture.run(successor.read_small(sha256_of("defg"), 10)).value() == "defg");
  CHECK(fixture.run(successor.read_small(sha256_of("new"), 10)).value() == "new");
}

TEST_CASE("BlobStore: nobody else may read the data directory, however it was made", "[store]") {
  StoreFixture fixture;
  std::filesystem::create_directories(fixture.params.root / "blobs" / "sha256" / "ab");
  for (const char* name : {"", "blobs", "blobs/sha256", "blobs/sha256/ab"}) {
    std::filesystem::permissions(fixture.params.root / name, std::filesystem::perms(0755));
  }
  const mode_t before = ::umask(0);
  fixture.open();
  REQUIRE(fixture.fill("abc"));
  REQUIRE(fixture.run(fixture.store->put(sha256_of("put"), "put", "a/b")));
  REQUIRE(fixture.store->catalog().flush());
  ::umask(before);
  for (const char* name : {"", "blobs", "blobs/sha256", "blobs/sha256/ab", "incoming"}) {
    INFO(name);
    CHECK(mode_of(fixture.params.root / name) == 0700);
  }
  for (const char* name : {"lock", "catalog.db", "catalog.db-wal", "catalog.db-shm"}) {
    INFO(name);
    CHECK(mode_of(fixture.params.root / name) == 0600);
  }
  CHECK(mode_of(fixture.path_of(sha256_of("put"))) == 0600);
  CHECK(mode_of(fixture.path_of(sha256_of("put")).parent_path()) == 0700);

  // Who needs else says so.
  fixture.store.reset();
  fixture.params.file_mode = 0640;
  fixture.open();
  CHECK(mode_of(fixture.params.root) == 0750);
  CHECK(mode_of(fixture.params.root / "blobs/sha256/ab") == 0750);
  CHECK(mode_of(fixture.params.root / "catalog.db") == 0640);
}

TEST_CASE("BlobStore: a file is marked as anybody's when it has its name, and not before", "[store][doors]") {
  StoreFixture fixture;
  store::BlobStore& store = fixture.open();
  const auto is_marked = [](const runtime::Path& path) {
    struct stat st{};
    REQUIRE(::lstat(path.c_str(), &st) == 0);
    return (st.st_mode & S_ISVTX) != 0;
  };
  const runtime::Path part = fixture.incoming() / "part";
  const oci::Digest digest = sha256_of("public");
  write_file(part, "public");
  SlowSync disk(fixture);
  std::thread storing([&] {
    RunTask run;
    store::Reservation room;
    (void)run(store.adopt(part, digest, 6, "a/b", room, {"docker.io", Rights::anonymous}));
  });
  disk.wait_for(1);
  // Here the mark says that all of a part was forced to the disk, which is yet to be done.
  const bool marked = is_marked(part);
  disk.let_go();
  storing.join();
  CHECK_FALSE(marked);
  CHECK(is_marked(fixture.path_of(digest)));
  // Nor is what came with a login marked where the part was.
  write_file(part, "private");
  REQUIRE(::chmod(part.c_str(), 01600) == 0);
  store::Reservation room;
  REQUIRE(fixture.run(store.adopt(part, sha256_of("private"), 7, "a/b", room, {"quay.io", Rights::own_login})));
  CHECK_FALSE(is_marked(fixture.path_of(sha256_of("private"))));
}
