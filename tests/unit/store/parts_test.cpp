#include <cerrno>
#include <filesystem>
#include <string>

#include <catch2/catch.hpp>

#include "store/parts.hpp"
#include "store_fixture.hpp"

namespace sluice::store {

using test::Operation;
using test::read_file;
using test::sha256_of;
using test::write_file;

namespace {

struct PartsFixture {
  test::TempDirectory directory;
  runtime::PosixFilesystem posix;
  runtime::FaultyFilesystem filesystem{posix};
  ManualClock clock;
  metrics::Registry registry;
  Parts::Params params{directory.path(), std::chrono::hours{24}, 10};
  Layout layout{directory.path()};
  Parts parts{params, filesystem, clock, registry};
  const oci::Digest digest = sha256_of("one");
  const oci::Digest other = sha256_of("two");

  PartsFixture() { std::filesystem::create_directories(layout.incoming()); }

  void start() {
    parts.start([](const oci::Digest&) { return false; });
  }
  Parts::Opened open(const oci::Digest& of) {
    Result<Parts::Opened> opened = parts.open(of);
    REQUIRE(opened);
    return *std::move(opened);
  }
  // A download that wrote `bytes` and broke.
  bool leave(const oci::Digest& of, const std::string& bytes) {
    const Parts::Opened opened = open(of);
    write_file(opened.path, bytes);
    return parts.keep(opened.path, of, bytes.size());
  }
  std::size_t files() const { return test::files_below(layout.incoming()); }
};

}  // namespace

TEST_CASE("Parts: a kept one is handed out once", "[store]") {
  PartsFixture t;
  REQUIRE(t.leave(t.digest, "0123456789"));
  CHECK(t.parts.bytes() == 10);
  const Parts::Opened first = t.open(t.digest);
  CHECK(first.size_bytes == 10);
  CHECK(first.path == t.layout.part(t.digest));
  CHECK(t.parts.bytes() == 0);
  // While that one goes on, another download of the same blob has a file of its own.
  const Parts::Opened second = t.open(t.digest);
  CHECK(second.size_bytes == 0);
  CHECK(second.path != first.path);
  CHECK(Layout::part_digest(second.path.filename().native()) == t.digest);
  CHECK(t.open(t.other).size_bytes == 0);
}

TEST_CASE("Parts: of two of a blob the larger one stays", "[store]") {
  PartsFixture t;
  const Parts::Opened one = t.open(t.digest);
  const Parts::Opened two = t.open(t.digest);
  write_file(one.path, "0123456789");
  write_file(two.path, "0123456789abc");
  const bool larger_first = GENERATE(false, true);
  if (larger_first) {
    CHECK(t.parts.keep(two.path, t.digest, 13));
    CHECK_FALSE(t.parts.keep(one.path, t.digest, 10));
  } else {
    CHECK(t.parts.keep(one.path, t.digest, 10));
    CHECK(t.parts.keep(two.path, t.digest, 13));
    CHECK(t.files() == 1);
  }
  CHECK(t.parts.bytes() == 13);
  CHECK(t.open(t.digest).path == two.path);
}

TEST_CASE("Parts: what is small, or shorter than it should be, is not kept", "[store]") {
  PartsFixture t;
  CHECK_FALSE(t.leave(t.digest, "012345678"));
  const Parts::Opened opened = t.open(t.other);
  write_file(opened.path, "0123456789");
  CHECK_FALSE(t.parts.keep(opened.path, t.other, 11));
  // A write that was cut short is cut off.
  CHECK(t.parts.keep(opened.path, t.other, 10));
  CHECK(t.parts.bytes() == 10);
}

TEST_CASE("Parts: half a write behind the good bytes is cut off", "[store]") {
  PartsFixture t;
  const Parts::Opened opened = t.open(t.digest);
  write_file(opened.path, "0123456789 and more");
  REQUIRE(t.parts.keep(opened.path, t.digest, 10));
  CHECK(read_file(opened.path) == "0123456789");
}

TEST_CASE("Parts: a start finds what dead processes left", "[store]") {
  PartsFixture t;
  write_file(t.layout.part(t.digest), "0123456789");
  write_file(t.layout.part(t.digest, 7), "0123456789abc");
  write_file(t.layout.part(t.other), "012");
  write_file(t.layout.incoming() / "put-1", "0123456789");
  const oci::Digest stored = sha256_of("three");
  write_file(t.layout.part(stored), "0123456789");
  t.parts.start([&](const oci::Digest& digest) { return digest == stored; });
  CHECK(t.parts.bytes() == 13);
  // The store, and not this, removes what is no part.
  CHECK(t.files() == 2);
  CHECK(t.open(t.digest).path == t.layout.part(t.digest, 7));
}

TEST_CASE("Parts: those that nobody asks for expire", "[store]") {
  PartsFixture t;
  REQUIRE(t.leave(t.digest, "0123456789"));
  t.clock.advance(std::chrono::hours{23});
  REQUIRE(t.leave(t.other, "0123456789"));
  CHECK(t.parts.expire() == 0);
  t.clock.advance(std::chrono::hours{1});
  SECTION("by the walk") {
    CHECK(t.parts.expire() == 1);
    CHECK(t.parts.bytes() == 10);
    CHECK(t.files() == 1);
  }
  SECTION("when they are asked for too late") { CHECK(t.open(t.digest).size_bytes == 0); }
  SECTION("all of them, for their space") {
    CHECK(t.parts.clear() == 20);
    CHECK(t.files() == 0);
  }
}

TEST_CASE("Parts: one that has changed or is gone is no part", "[store]") {
  PartsFixture t;
  REQUIRE(t.leave(t.digest, "0123456789"));
  const runtime::Path path = t.layout.part(t.digest);
  SECTION("gone") { std::filesystem::remove(path); }
  SECTION("shorter") { std::filesystem::resize_file(path, 5); }
  SECTION("unreadable") {
    t.filesystem.set_rule(
        [](Operation operation, const runtime::Path&) { return operation == Operation::open_write ? EIO : 0; });
  }
  const Parts::Opened opened = t.open(t.digest);
  CHECK(opened.size_bytes == 0);
  CHECK(t.parts.bytes() == 0);
  CHECK(t.files() == 1);
}

TEST_CASE("Parts: a disk that gives no file says so", "[store]") {
  PartsFixture t;
  const int error = GENERATE(ENOSPC, EIO);
  t.filesystem.set_rule(
      [=](Operation operation, const runtime::Path&) { return operation == Operation::create ? error : 0; });
  const Result<Parts::Opened> opened = t.parts.open(t.digest);
  REQUIRE_FALSE(opened);
  CHECK(opened.error().code == (error == ENOSPC ? Errc::no_space : Errc::io));
  t.filesystem.set_rule({});
  std::filesystem::remove_all(t.layout.incoming());
  CHECK(t.open(t.digest).size_bytes == 0);
}

TEST_CASE("Layout: a part's name tells its digest", "[store]") {
  const Layout layout{"/data"};
  const oci::Digest digest = sha256_of("abc");
  CHECK(Layout::part_digest(layout.part(digest).filename().native()) == digest);
  CHECK(Layout::part_digest(layout.part(digest, 12).filename().native()) == digest);
  for (const char* const name : {"", ".part", "put-1", "sha256-abc.part", "sha256.part", "3f"}) {
    CHECK_FALSE(Layout::part_digest(name).has_value());
  }
  CHECK_FALSE(Layout::part_digest("sha256-" + digest.encoded()).has_value());
  CHECK_FALSE(Layout::part_digest("sha256-" + digest.encoded() + ".x.part").has_value());
}

}  // namespace sluice::store
