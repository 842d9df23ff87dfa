#include "streamcache/filestore.hpp"

#include <cerrno>
#include <regex>
#include <set>
#include <thread>

#include "fixture.hpp"

namespace sluice::streamcache {
namespace {

namespace fs = std::filesystem;

struct StoreFixture : Fixture {
  Filestore store{{directory.path(), std::chrono::minutes{5}}, filesystem, clock, metrics};

  std::unique_ptr<Filestore> another() {
    return std::make_unique<Filestore>(Filestore::Params{directory.path(), std::chrono::minutes{5}}, filesystem, clock,
                                       metrics);
  }
  // As if it had been changed last at `age` before the fixture's now.
  void set_age(const fs::path& path, std::chrono::seconds age) {
    fs::last_write_time(path, fs::file_time_type::clock::from_sys(clock.wall() - age));
  }
  void set_age_of_all(std::chrono::seconds age) {
    for (const fs::path& path : directory.files()) set_age(path, age);
  }
};

}  // namespace

TEST_CASE("Filestore: files stand in 256 folders under unique names", "[streamcache]") {
  StoreFixture t;
  const std::regex expected("^[0-9a-f]{2}/[0-9a-f]{20}-[0-9]+$");
  std::set<std::string> names;
  for (int i = 1; i <= 300; ++i) {
    const auto created = t.store.create();
    REQUIRE(created);
    const std::string name = created->path.lexically_relative(t.directory.path()).native();
    CHECK(std::regex_match(name, expected));
    CHECK(name.substr(0, 2) == fmt::format("{:02x}", i & 0xff));
    names.insert(name);
    REQUIRE(t.filesystem.write_at(created->file, 0, bytes_of("x")));
  }
  CHECK(names.size() == 300);
  CHECK(t.directory.files().size() == 300);
  for (const auto& folder : fs::directory_iterator(t.directory.path())) {
    CHECK((folder.status().permissions() & fs::perms::all) == fs::perms::owner_all);
  }
}

TEST_CASE("Filestore: a hundred files made at once", "[streamcache]") {
  StoreFixture t;
  std::vector<Result<Filestore::Created>> created(100);
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < created.size(); ++i) {
    threads.emplace_back([&t, &slot = created[i]] { slot = t.store.create(); });
  }
  for (std::thread& thread : threads) thread.join();
  std::set<std::string> names;
  for (const auto& one : created) {
    REQUIRE(one);
    names.insert(one->path.native());
  }
  CHECK(names.size() == 100);
}

TEST_CASE("Filestore: instances share a directory", "[streamcache]") {
  StoreFixture t;
  std::set<std::string> names;
  for (int i = 0; i < 10; ++i) {
    const auto store = t.another();
    for (int j = 0; j < 10; ++j) names.insert(store->create()->path.native());
  }
  CHECK(names.size() == 100);
  CHECK(t.directory.files().size() == 100);
}

TEST_CASE("Filestore: a folder that somebody removed is made again", "[streamcache]") {
  StoreFixture t;
  REQUIRE(t.store.create());
  fs::remove_all(t.directory.path());
  for (int i = 0; i < 256; ++i) REQUIRE(t.store.create());
  CHECK(t.directory.files().size() == 256);
}

TEST_CASE("Filestore: a walk removes what is older than the limit, and keeps folders", "[streamcache]") {
  StoreFixture t;
  const auto dead = t.another();
  const fs::path old_file = dead->create()->path;
  const fs::path young_file = dead->create()->path;
  const fs::path foreign = old_file.parent_path() / "whatever";
  const fs::path on_top = t.directory.path() / "top";
  for (const fs::path& path : {foreign, on_top}) REQUIRE(t.filesystem.create(path));
  t.set_age(old_file, std::chrono::seconds{301});
  t.set_age(foreign, std::chrono::hours{1});
  t.set_age(on_top, std::chrono::hours{1});
  t.set_age(young_file, std::chrono::seconds{300});  // not older than the limit
  const auto walk = t.store.walk();
  REQUIRE(walk);
  CHECK(walk->removed == 3);
  CHECK(t.directory.files() == std::vector<fs::path>{young_file});
  CHECK(fs::is_directory(old_file.parent_path()));
  CHECK(t.metric("sluice_streamcache_filestore_removed_total") == 3);
}

TEST_CASE("Filestore: a walk repairs folders that cannot be read", "[streamcache]") {
  StoreFixture t;
  const fs::path path = t.another()->create()->path;
  t.set_age(path, std::chrono::hours{1});
  fs::permissions(path.parent_path(), fs::perms::none);
  REQUIRE(t.store.walk());
  CHECK(fs::is_directory(path.parent_path()));
  CHECK((fs::status(path.parent_path()).permissions() & fs::perms::owner_all) == fs::perms::owner_all);
  CHECK_FALSE(fs::exists(path));
}

TEST_CASE("Filestore: a file in use is safe from its own walk", "[streamcache]") {
  StoreFixture t;
  const fs::path path = t.store.create()->path;
  t.set_age(path, std::chrono::hours{1});
  CHECK(t.store.walk()->removed == 0);
  CHECK(fs::exists(path));
  t.store.forget(path);
  CHECK(t.store.walk()->removed == 1);
  CHECK_FALSE(fs::exists(path));
}

TEST_CASE("Filestore: removing what is gone is no error", "[streamcache]") {
  StoreFixture t;
  const fs::path path = t.store.create()->path;
  CHECK(t.store.remove(path));
  CHECK_FALSE(fs::exists(path));
  CHECK(t.store.remove(path));
}

TEST_CASE("Filestore: a walk tells how much is stored", "[streamcache]") {
  StoreFixture t;
  CHECK(t.store.walk()->usage_bytes == 0);
  const auto created = t.store.create();
  REQUIRE(t.filesystem.write_at(created->file, 0, bytes_of(pattern(10000))));
  t.set_age(created->path, std::chrono::seconds{0});
  const auto walk = t.store.walk();
  CHECK(walk->usage_bytes == 10000 + t.filesystem.status(created->path.parent_path())->size_bytes);
  CHECK(t.metric("sluice_streamcache_filestore_disk_usage_bytes") == static_cast<double>(walk->usage_bytes));
}

TEST_CASE("Filestore: a walk goes on past what it cannot do", "[streamcache]") {
  using Operation = runtime::FaultyFilesystem::Operation;
  StoreFixture t;
  const auto dead = t.another();
  const fs::path stubborn = dead->create()->path;
  const fs::path vanishing = dead->create()->path;
  const fs::path easy = dead->create()->path;
  t.set_age_of_all(std::chrono::hours{1});
  t.filesystem.set_rule([&](Operation operation, const runtime::Path& path) {
    if (operation == Operation::remove && path == stubborn) return EACCES;
    if (operation == Operation::status && path == vanishing) return ENOENT;
    return 0;
  });
  const auto walk = t.store.walk();
  REQUIRE(walk);
  CHECK(walk->removed == 1);
  CHECK_FALSE(fs::exists(easy));
  CHECK(t.metric("sluice_streamcache_filestore_removed_total") == 1);
  // The directory itself is another matter.
  t.filesystem.set_rule(
      [](Operation operation, const runtime::Path&) { return operation == Operation::list ? EIO : 0; });
  CHECK(t.store.walk().error().code == Errc::io);
}

TEST_CASE("Filestore: what cannot be created is an error", "[streamcache]") {
  using Operation = runtime::FaultyFilesystem::Operation;
  StoreFixture t;
  t.filesystem.set_rule(
      [](Operation operation, const runtime::Path&) { return operation == Operation::create ? ENOSPC : 0; });
  CHECK(t.store.create().error().code == Errc::no_space);
  t.filesystem.set_rule([](Operation operation, const runtime::Path&) {
    return operation == Operation::create_directories ? EACCES : 0;
  });
  CHECK(t.store.create().error().code == Errc::io);
}

}  // namespace sluice::streamcache
