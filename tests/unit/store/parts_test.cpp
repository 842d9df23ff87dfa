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
  Parts::Params params{.root = directory.path(), .min_bytes = 10, .boot_id = "this run"};
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
  bool keep(const Parts::Opened& opened, const oci::Digest& of, std::uint64_t bytes) {
    Reservation room;
    return parts.keep(opened.path, of, bytes, room);
  }
  // A download that wrote `bytes` and broke.
  bool leave(const oci::Digest& of, const std::string& bytes) {
    const Parts::Opened opened = open(of);
    write_file(opened.path, bytes);
    return keep(opened, of, bytes.size());
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
    CHECK(t.keep(two, t.digest, 13));
    CHECK_FALSE(t.keep(one, t.digest, 10));
  } else {
    CHECK(t.keep(one, t.digest, 10));
    CHECK(t.keep(two, t.digest, 13));
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
  CHECK_FALSE(t.keep(opened, t.other, 11));
  // A write that was cut short is cut off.
  CHECK(t.keep(opened, t.other, 10));
  CHECK(t.parts.bytes() == 10);
}

TEST_CASE("Parts: half a write behind the good bytes is cut off", "[store]") {
  PartsFixture t;
  const Parts::Opened opened = t.open(t.digest);
  write_file(opened.path, "0123456789 and more");
  REQUIRE(t.keep(opened, t.digest, 10));
  CHECK(read_file(opened.path) == "0123456789");
}

TEST_CASE("Parts: a start finds what dead processes left", "[store]") {
  PartsFixture t;
  write_file(t.layout.boot(), t.params.boot_id);
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
    CHECK(t.parts.give_up(UINT64_MAX, std::chrono::seconds{0}) == 2 * kBlockBytes);
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

TEST_CASE("Parts: after the machine has stopped, only what was forced to the disk counts", "[store]") {
  PartsFixture t;
  t.start();
  REQUIRE(t.leave(t.digest, "0123456789"));
  const Parts::Opened growing = t.open(t.other);
  write_file(growing.path, "0123456789");
  const bool same = GENERATE(true, false);
  Parts::Params params = t.params;
  if (!same) params.boot_id = GENERATE("another", "");
  metrics::Registry registry;
  Parts after(params, t.filesystem, t.clock, registry);
  after.start([](const oci::Digest&) { return false; });
  CHECK(after.find(t.digest) == 10);
  CHECK(after.find(t.other).has_value() == same);
  CHECK(std::filesystem::exists(growing.path) == same);
  // One that is gone on with is no more than a growing one.
  const Result<Parts::Opened> again = after.open(t.digest);
  REQUIRE(again);
  params.boot_id = "a third";
  metrics::Registry another_registry;
  Parts later(params, t.filesystem, t.clock, another_registry);
  later.start([](const oci::Digest&) { return false; });
  CHECK(later.bytes() == 0);
}

TEST_CASE("Parts: what could not be forced to the disk is trusted for this run of the machine", "[store][faults]") {
  PartsFixture t;
  t.start();
  const Operation operation = GENERATE(Operation::sync, Operation::set_mode);
  t.filesystem.set_rule([=](Operation asked, const runtime::Path&) { return asked == operation ? EIO : 0; });
  REQUIRE(t.leave(t.digest, "0123456789"));
  t.filesystem.set_rule({});
  const bool same = GENERATE(true, false);
  Parts::Params params = t.params;
  if (!same) params.boot_id = "another";
  metrics::Registry registry;
  Parts after(params, t.filesystem, t.clock, registry);
  after.start([](const oci::Digest&) { return false; });
  CHECK(after.find(t.digest).has_value() == same);
}

TEST_CASE("Parts: they count as idle, as running once they are taken, and make room, the oldest first", "[store]") {
  PartsFixture t;
  metrics::Registry registry;
  Ledger ledger([] {}, registry.gauge("reserved", ""));
  Parts::Params params = t.params;
  params.ledger = &ledger;
  Parts parts(params, t.filesystem, t.clock, registry);
  const auto leave = [&](const oci::Digest& of) {
    Result<Parts::Opened> opened = parts.open(of);
    REQUIRE(opened);
    write_file(opened->path, "0123456789");
    REQUIRE(parts.keep(opened->path, of, 10, opened->room));
  };
  leave(t.digest);
  t.clock.advance(std::chrono::minutes{20});
  leave(t.other);
  CHECK(ledger.idle() == 2 * kBlockBytes);
  CHECK(ledger.reserved() == 0);
  SECTION("taken") {
    Result<Parts::Opened> taken = parts.open(t.digest);
    REQUIRE(taken);
    CHECK(ledger.idle() == kBlockBytes);
    CHECK(ledger.reserved() == kBlockBytes);
    CHECK(parts.keep(taken->path, t.digest, 10, taken->room));
    CHECK(ledger.idle() == 2 * kBlockBytes);
    CHECK(ledger.reserved() == 0);
  }
  SECTION("a smaller one gives its room back") {
    Result<Parts::Opened> second = parts.open(t.digest);
    REQUIRE(second);
    Result<Parts::Opened> third = parts.open(t.digest);
    REQUIRE(third);
    write_file(third->path, "0123456789");
    REQUIRE(parts.keep(second->path, t.digest, 10, second->room));
    third->room = ledger.hold(10);
    CHECK_FALSE(parts.keep(third->path, t.digest, 10, third->room));
    CHECK(third->room.bytes() == kBlockBytes);
  }
  SECTION("the oldest goes, when it has waited for long enough") {
    CHECK(parts.give_up(1, std::chrono::minutes{30}) == 0);
    CHECK(parts.give_up(UINT64_MAX, std::chrono::minutes{10}) == kBlockBytes);
    CHECK_FALSE(parts.find(t.digest));
    CHECK(parts.find(t.other));
    CHECK(ledger.idle() == kBlockBytes);
    CHECK(parts.give_up(1, std::chrono::seconds{0}) == kBlockBytes);
    CHECK(ledger.idle() == 0);
    CHECK(t.files() == 0);
  }
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
