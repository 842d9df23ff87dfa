#include <sys/stat.h>

#include <cerrno>
#include <filesystem>
#include <optional>
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

const Origin kHub{"docker.io", Rights::anonymous};

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
  const std::string tag = Layout::part_tag(kHub);

  PartsFixture() { std::filesystem::create_directories(layout.incoming()); }

  void start() {
    parts.start([](const oci::Digest&) { return false; });
  }
  Parts::Opened open(const oci::Digest& of) {
    Result<Parts::Opened> opened = parts.open(of, kHub);
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
  CHECK(first.path == t.layout.part(t.digest, t.tag));
  CHECK(t.parts.bytes() == 0);
  // While that one goes on, another download of the same blob has a file of its own.
  const Parts::Opened second = t.open(t.digest);
  CHECK(second.size_bytes == 0);
  CHECK(second.path != first.path);
  CHECK(Layout::part_name(second.path.filename().native())->digest == t.digest);
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
    runtime::unlock(one.file);  // as who has kept it does next
    CHECK(t.keep(two, t.digest, 13));
    CHECK(t.files() == 1);
  }
  CHECK(t.parts.bytes() == 13);
  runtime::unlock(two.file);
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
  write_file(t.layout.part(t.digest, t.tag), "0123456789");
  write_file(t.layout.part(t.digest, t.tag, 7), "0123456789abc");
  write_file(t.layout.part(t.other, t.tag), "012");
  write_file(t.layout.incoming() / "put-1", "0123456789");
  const oci::Digest stored = sha256_of("three");
  write_file(t.layout.part(stored, t.tag), "0123456789");
  t.parts.start([&](const oci::Digest& digest) { return digest == stored; });
  CHECK(t.parts.bytes() == 13);
  // The store, and not this, removes what is no part.
  CHECK(t.files() == 2);
  CHECK(t.open(t.digest).path == t.layout.part(t.digest, t.tag, 7));
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
  const runtime::Path path = t.layout.part(t.digest, t.tag);
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
  const Result<Parts::Opened> opened = t.parts.open(t.digest, kHub);
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
  runtime::unlock(growing.file);  // as the death of its process does
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
  const Result<Parts::Opened> again = after.open(t.digest, kHub);
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
    Result<Parts::Opened> opened = parts.open(of, kHub);
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
    Result<Parts::Opened> taken = parts.open(t.digest, kHub);
    REQUIRE(taken);
    CHECK(ledger.idle() == kBlockBytes);
    CHECK(ledger.reserved() == kBlockBytes);
    CHECK(parts.keep(taken->path, t.digest, 10, taken->room));
    CHECK(ledger.idle() == 2 * kBlockBytes);
    CHECK(ledger.reserved() == 0);
  }
  SECTION("a smaller one gives its room back") {
    Result<Parts::Opened> second = parts.open(t.digest, kHub);
    REQUIRE(second);
    Result<Parts::Opened> third = parts.open(t.digest, kHub);
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

TEST_CASE("Parts: one that came through an upstream is for that upstream and those rights", "[store]") {
  PartsFixture t;
  REQUIRE(t.leave(t.digest, "0123456789"));
  const Origin other_upstream{"quay.io", Rights::anonymous};
  const Origin other_rights{"docker.io", Rights::own_login};
  for (const Origin& origin : {other_upstream, other_rights}) {
    const Result<Parts::Opened> opened = t.parts.open(t.digest, origin);
    REQUIRE(opened);
    CHECK(opened->size_bytes == 0);
    Reservation room;
    write_file(opened->path, "something else, and longer");
    REQUIRE(t.parts.keep(opened->path, t.digest, 20, room));
  }
  CHECK(t.files() == 3);
  CHECK(t.parts.find(t.digest) == 20);
  CHECK(t.open(t.digest).size_bytes == 10);
  CHECK(t.parts.drop(t.digest) == 40);
  CHECK(t.parts.bytes() == 0);
}

TEST_CASE("Parts: one whose name does not tell its upstream is removed at the start", "[store]") {
  PartsFixture t;
  const std::string stem = "sha256-" + t.digest.encoded();
  write_file(t.layout.incoming() / (stem + ".part"), "0123456789");
  write_file(t.layout.incoming() / (stem + ".7.part"), "0123456789");
  write_file(t.layout.boot(), "this run");
  t.start();
  CHECK(t.files() == 0);
  CHECK_FALSE(t.parts.find(t.digest));
  CHECK(t.open(t.digest).size_bytes == 0);
}

TEST_CASE("Layout: a part's name tells its digest and its origin", "[store]") {
  const Layout layout{"/data"};
  const oci::Digest digest = sha256_of("abc");
  const std::string tag = Layout::part_tag({"docker.io", Rights::anonymous});
  CHECK(tag != Layout::part_tag({"docker.io", Rights::client_login}));
  CHECK(tag != Layout::part_tag({"quay.io", Rights::anonymous}));
  for (const runtime::Path& path : {layout.part(digest, tag), layout.part(digest, tag, 12)}) {
    const auto name = Layout::part_name(path.filename().native());
    REQUIRE(name);
    CHECK(name->digest == digest);
    CHECK(name->tag == tag);
  }
  const std::string stem = "sha256-" + digest.encoded();
  for (const std::string& old : {stem + ".part", stem + ".12.part"}) {
    const auto name = Layout::part_name(old);
    REQUIRE(name);
    CHECK(name->digest == digest);
    CHECK(name->tag.empty());
  }
  for (const std::string& name :
       {std::string(), std::string(".part"), std::string("put-1"), std::string("sha256-abc.part"),
        std::string("sha256.part"), std::string("3f"), stem, stem + ".x.part", stem + "..part",
        stem + "." + tag + "..part", stem + "." + tag + ".x.part", stem + "." + tag + "0.part"}) {
    INFO(name);
    CHECK_FALSE(Layout::part_name(name).has_value());
  }
}

TEST_CASE("Parts: what stands in a part's place and is no regular file of one name is left alone", "[store]") {
  PartsFixture t;
  const runtime::Path precious = t.directory.path() / "precious";
  write_file(precious, "0123456789abcdef");
  std::filesystem::create_hard_link(precious, t.layout.part(t.digest, t.tag));
  REQUIRE(::mkfifo(t.layout.part(t.other, t.tag).c_str(), 0600) == 0);
  t.start();
  CHECK(t.parts.bytes() == 0);
  for (const oci::Digest& digest : {t.digest, t.other}) {
    const Parts::Opened opened = t.open(digest);
    CHECK(opened.size_bytes == 0);
    CHECK(opened.path != t.layout.part(digest, t.tag));
    REQUIRE(t.posix.write_at(opened.file, 0, std::as_bytes(std::span("overwritten"))));
  }
  CHECK(read_file(precious) == "0123456789abcdef");
  CHECK(std::filesystem::exists(t.layout.part(t.other, t.tag)));
}

TEST_CASE("Parts: one that another process still writes is taken over when that has let go of it", "[store]") {
  PartsFixture old;
  std::optional<Parts::Opened> writing = old.open(old.digest);
  REQUIRE(old.posix.write_at(writing->file, 0, std::as_bytes(std::span("0123456789", 10))));
  metrics::Registry registry;
  Parts parts{old.params, old.filesystem, old.clock, registry};
  parts.start([](const oci::Digest&) { return false; });
  CHECK(parts.bytes() == 0);
  {
    const Result<Parts::Opened> beside = parts.open(old.digest, kHub);
    REQUIRE(beside);
    CHECK(beside->path != writing->path);
    CHECK(beside->size_bytes == 0);
  }
  REQUIRE(old.posix.write_at(writing->file, 10, std::as_bytes(std::span("abcdef", 6))));
  REQUIRE(old.keep(*writing, old.digest, 16));
  const runtime::Path path = writing->path;
  SECTION("by the next download") {
    writing.reset();
    const Result<Parts::Opened> taken = parts.open(old.digest, kHub);
    REQUIRE(taken);
    CHECK(taken->path == path);
    CHECK(taken->size_bytes == 16);
  }
  SECTION("by upkeep") {
    parts.expire();
    CHECK(parts.bytes() == 0);
    writing.reset();
    parts.expire();
    CHECK(parts.bytes() == 16);
  }
}

TEST_CASE("Parts: what the next process writes already is not removed by the one before", "[store][doors]") {
  PartsFixture old;
  REQUIRE(old.leave(old.digest, "0123456789"));
  metrics::Registry registry;
  Parts next{old.params, old.posix, old.clock, registry};
  next.start([](const oci::Digest&) { return false; });
  std::optional<Parts::Opened> writing = next.open(old.digest, kHub).value();
  REQUIRE(writing->size_bytes == 10);
  SECTION("when it expires") {
    old.clock.advance(std::chrono::hours{25});
    CHECK(old.parts.expire() == 0);
  }
  SECTION("to make room") { CHECK(old.parts.give_up(1, std::chrono::seconds{0}) == 0); }
  SECTION("with its blob") { CHECK(old.parts.drop(old.digest) == 0); }
  SECTION("for one of its own") {
    old.clock.advance(std::chrono::hours{25});
    const Parts::Opened beside = old.open(old.digest);
    CHECK(beside.path != writing->path);
  }
  CHECK(read_file(writing->path) == "0123456789");
  CHECK(old.parts.bytes() == 0);
}

TEST_CASE("Parts: the mark of what was forced to the disk is taken off what was not", "[store][doors]") {
  PartsFixture t;
  const Parts::Opened opened = t.open(t.digest);
  write_file(opened.path, "0123456789");
  REQUIRE(::chmod(opened.path.c_str(), 01600) == 0);
  Parts::Params params = t.params;
  params.sync = false;
  metrics::Registry registry;
  Parts parts{params, t.filesystem, t.clock, registry};
  Reservation room;
  REQUIRE(parts.keep(opened.path, t.digest, 10, room));
  CHECK((std::filesystem::status(opened.path).permissions() & std::filesystem::perms::sticky_bit) ==
        std::filesystem::perms::none);
}

TEST_CASE("Parts: the age of a part begins anew when it is asked for", "[store]") {
  PartsFixture t;
  REQUIRE(t.leave(t.digest, "0123456789"));
  const runtime::Path path = t.layout.part(t.digest, t.tag);
  const auto long_ago = std::filesystem::file_time_type::clock::now() - std::chrono::hours{100};
  std::filesystem::last_write_time(path, long_ago);
  // Taken, and kept without another byte.
  REQUIRE(t.keep(t.open(t.digest), t.digest, 10));
  CHECK(std::filesystem::last_write_time(path) > long_ago + std::chrono::hours{99});
}

}  // namespace sluice::store
