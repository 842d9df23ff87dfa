// Each fault point by its name: what the caller is told, and what is left on the disk.
#include <cerrno>

#include "unit/store/store_fixture.hpp"

using namespace sluice;
using namespace sluice::test;

namespace {

// Nothing of the blob is in the index, on the disk or, after a restart, in the catalog.
void check_absent(StoreFixture& fixture, const oci::Digest& digest) {
  CHECK_FALSE(fixture.store->find(digest));
  CHECK_FALSE(std::filesystem::exists(fixture.path_of(digest)));
  CHECK(fixture.store->bytes() == 0);
  fixture.heal();
  fixture.reopen();
  CHECK(fixture.store->entries() == 0);
  CHECK(fixture.content(digest) == "not_found");
}

}  // namespace

TEST_CASE("BlobStore faults: ENOSPC while a small object is written", "[store][faults]") {
  StoreFixture fixture;
  fixture.open();
  fixture.fail(Operation::write_at, GENERATE(ENOSPC, EDQUOT));
  CHECK(code_of(fixture.run(fixture.store->put(sha256_of("abc"), "abc", "a/b"))) == "no_space");
  CHECK(files_below(fixture.incoming()) == 0);
  CHECK(fixture.metric("sluice_store_errors_total", "write") == 1);
  check_absent(fixture, sha256_of("abc"));
}

TEST_CASE("BlobStore faults: a small object cannot be created or closed", "[store][faults]") {
  StoreFixture fixture;
  fixture.open();
  SECTION("create") {
    fixture.fail(Operation::create, ENOSPC, "incoming");
    CHECK(code_of(fixture.run(fixture.store->put(sha256_of("abc"), "abc", "a/b"))) == "no_space");
  }
  SECTION("close") {
    fixture.fail(Operation::close, EIO);
    CHECK(code_of(fixture.run(fixture.store->put(sha256_of("abc"), "abc", "a/b"))) == "io");
  }
  CHECK(files_below(fixture.incoming()) == 0);
  check_absent(fixture, sha256_of("abc"));
}

TEST_CASE("BlobStore faults: fsync fails before the name is given", "[store][faults]") {
  StoreFixture fixture;
  fixture.open();
  fixture.fail(Operation::sync, EIO);
  SECTION("a fill keeps its file") {
    CHECK(code_of(fixture.fill("abc")) == "io");
    CHECK(read_file(fixture.incoming() / "part") == "abc");
  }
  SECTION("a small object leaves nothing") {
    CHECK(code_of(fixture.run(fixture.store->put(sha256_of("abc"), "abc", "a/b"))) == "io");
    CHECK(files_below(fixture.incoming()) == 0);
  }
  CHECK(fixture.metric("sluice_store_errors_total", "write") == 1);
  check_absent(fixture, sha256_of("abc"));
}

TEST_CASE("BlobStore faults: fsync is not asked for where it is not wanted", "[store][faults]") {
  StoreFixture fixture;
  fixture.params.durability = store::Durability::none;
  fixture.open();
  fixture.fail(Operation::sync, EIO);
  CHECK(fixture.fill("abc"));
}

TEST_CASE("BlobStore faults: the directory cannot be synced", "[store][faults]") {
  StoreFixture fixture;
  fixture.params.durability = store::Durability::full;
  fixture.open();
  REQUIRE(fixture.fill("abc"));
  // The blob has its name already: it is stored, and the trouble is counted.
  fixture.filesystem.set_rule([&](Operation operation, const runtime::Path& path) {
    return operation == Operation::sync_directory && path == fixture.path_of(sha256_of("abc")).parent_path() ? EIO : 0;
  });
  CHECK(fixture.fill("abc"));
  CHECK(fixture.metric("sluice_store_errors_total", "write") == 1);
  CHECK(fixture.content(sha256_of("abc")) == "abc");
}

TEST_CASE("BlobStore faults: the rename fails", "[store][faults]") {
  StoreFixture fixture;
  fixture.open();
  const int error = GENERATE(EIO, ENOSPC, EROFS);
  fixture.fail(Operation::rename, error, "blobs");
  CHECK(code_of(fixture.fill("abc")) == (error == ENOSPC ? "no_space" : "io"));
  CHECK(read_file(fixture.incoming() / "part") == "abc");
  // The same file can be adopted when the disk is well again.
  fixture.heal();
  REQUIRE(fixture.run(fixture.store->adopt(fixture.incoming() / "part", sha256_of("abc"), 3, "application/x-layer")));
  CHECK(fixture.content(sha256_of("abc")) == "abc");
}

TEST_CASE("BlobStore faults: the shelf cannot be made", "[store][faults]") {
  StoreFixture fixture;
  fixture.open();
  fixture.fail(Operation::create_directories, ENOSPC, "blobs");
  CHECK(code_of(fixture.fill("abc")) == "no_space");
  check_absent(fixture, sha256_of("abc"));
}

TEST_CASE("BlobStore faults: crash before the rename leaves a file that the next start removes", "[store][faults]") {
  StoreFixture fixture;
  fixture.open();
  fixture.store.reset();
  write_file(fixture.incoming() / "sha256-abc.part", "half of it");
  write_file(fixture.incoming() / "put-0", "a manifest");
  write_file(fixture.incoming() / "3f" / "deep", "a fill in a folder of its own");
  fixture.open();
  CHECK(files_below(fixture.incoming()) == 0);
  CHECK(fixture.store->entries() == 0);
}

TEST_CASE("BlobStore faults: a leftover that cannot be removed does not stop the start", "[store][faults]") {
  StoreFixture fixture;
  write_file(fixture.incoming() / "leftover", "x");
  fixture.fail(Operation::remove, EIO);
  fixture.open();
  // Nor does it stand in the way of anything.
  CHECK(fixture.run(fixture.store->put(sha256_of("abc"), "abc", "a/b")));
}

TEST_CASE("BlobStore faults: crash after the rename and before the catalog", "[store][faults]") {
  StoreFixture fixture;
  fixture.open();
  REQUIRE(fixture.fill("known"));
  fixture.reopen();
  fixture.store.reset();
  write_file(fixture.path_of(sha256_of("renamed")), "renamed");
  fixture.open();  // waits for the walk
  CHECK_FALSE(fixture.store->rebuilding());
  CHECK(fixture.store->entries() == 2);
  CHECK(fixture.content(sha256_of("renamed")) == "renamed");
  // And it is in the catalog from now on.
  fixture.reopen();
  CHECK(fixture.store->find(sha256_of("renamed")));
}

TEST_CASE("BlobStore faults: a file that is missing is dropped when it is opened", "[store][faults]") {
  StoreFixture fixture;
  fixture.open();
  REQUIRE(fixture.fill("abc"));
  std::filesystem::remove(fixture.path_of(sha256_of("abc")));
  SECTION("opened") { CHECK(fixture.content(sha256_of("abc")) == "not_found"); }
  SECTION("read") { CHECK(code_of(fixture.run(fixture.store->read_small(sha256_of("abc"), 10))) == "not_found"); }
  CHECK(fixture.metric("sluice_store_dropped_total") == 1);
  check_absent(fixture, sha256_of("abc"));
}

TEST_CASE("BlobStore faults: a file of another length is dropped when it is opened", "[store][faults]") {
  StoreFixture fixture;
  fixture.open();
  REQUIRE(fixture.fill("abcdef"));
  write_file(fixture.path_of(sha256_of("abcdef")), GENERATE("abc", "", "abcdefg"));
  SECTION("opened") { CHECK(fixture.content(sha256_of("abcdef")) == "not_found"); }
  SECTION("read") { CHECK(code_of(fixture.run(fixture.store->read_small(sha256_of("abcdef"), 10))) == "not_found"); }
  SECTION("and it can be fetched again at once") {
    CHECK(fixture.content(sha256_of("abcdef")) == "not_found");
    REQUIRE(fixture.fill("abcdef"));
    CHECK(fixture.content(sha256_of("abcdef")) == "abcdef");
    REQUIRE(fixture.run(fixture.store->remove(sha256_of("abcdef"))));
  }
  CHECK(fixture.metric("sluice_store_dropped_total") == 1);
  check_absent(fixture, sha256_of("abcdef"));
}

TEST_CASE("BlobStore faults: a small object with a changed byte is dropped when it is read", "[store][faults]") {
  StoreFixture fixture;
  fixture.open();
  REQUIRE(fixture.run(fixture.store->put(sha256_of("abc"), "abc", "a/b")));
  write_file(fixture.path_of(sha256_of("abc")), "abd");
  CHECK(code_of(fixture.run(fixture.store->read_small(sha256_of("abc"), 10))) == "not_found");
  check_absent(fixture, sha256_of("abc"));
}

TEST_CASE("BlobStore faults: what cannot be read is dropped, and can be fetched again", "[store][faults]") {
  StoreFixture fixture;
  fixture.open();
  REQUIRE(fixture.fill("abc"));
  SECTION("open") {
    fixture.fail(Operation::open_read, GENERATE(EIO, EACCES));
    CHECK(fixture.content(sha256_of("abc")) == "not_found");
    CHECK(fixture.metric("sluice_store_errors_total", "open") == 1);
  }
  SECTION("size") {
    fixture.fail(Operation::status, EIO);
    CHECK(fixture.content(sha256_of("abc")) == "not_found");
  }
  SECTION("read") {
    fixture.fail(Operation::read_at, EIO);
    CHECK(code_of(fixture.run(fixture.store->read_small(sha256_of("abc"), 10))) == "not_found");
    CHECK(fixture.metric("sluice_store_errors_total", "read") == 1);
  }
  CHECK(fixture.metric("sluice_store_dropped_total") == 1);
  CHECK_FALSE(fixture.store->find(sha256_of("abc")));
  fixture.heal();
  REQUIRE(fixture.fill("abc"));
  CHECK(fixture.content(sha256_of("abc")) == "abc");
}

TEST_CASE("BlobStore faults: too many open files cost no blob", "[store][faults]") {
  StoreFixture fixture;
  fixture.open();
  REQUIRE(fixture.fill("abc"));
  fixture.fail(Operation::open_read, GENERATE(EMFILE, ENFILE, ENOMEM));
  CHECK(fixture.content(sha256_of("abc")) == "overloaded");
  CHECK(code_of(fixture.run(fixture.store->read_small(sha256_of("abc"), 10))) == "overloaded");
  fixture.heal();
  CHECK(fixture.content(sha256_of("abc")) == "abc");
}

TEST_CASE("BlobStore faults: a blob that cannot be removed is still counted", "[store][faults]") {
  StoreFixture fixture;
  fixture.open();
  REQUIRE(fixture.fill("abc"));
  fixture.fail(Operation::remove, EIO);
  CHECK(code_of(fixture.run(fixture.store->remove(sha256_of("abc")))) == "io");
  CHECK(fixture.store->bytes() == 3);
  CHECK(fixture.metric("sluice_store_errors_total", "remove") == 1);
  fixture.heal();
  CHECK(fixture.content(sha256_of("abc")) == "abc");
  CHECK(fixture.run(fixture.store->remove(sha256_of("abc"))));
}

TEST_CASE("BlobStore faults: the start fails where the disk does not let it begin", "[store][faults]") {
  StoreFixture fixture;
  const Operation operation = GENERATE(Operation::create_directories, Operation::create);
  fixture.fail(operation, EROFS);
  store::BlobStore store(fixture.params, fixture.filesystem, fixture.pool, fixture.clock, fixture.registry);
  CHECK(code_of(store.start()) == "io");
}
