#include <cerrno>

#include "cache_fixture.hpp"

namespace sluice::streamcache {
namespace {

namespace fs = std::filesystem;

std::size_t open_descriptors() {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator()));
}

Task<bool> keep_up(FileCache& cache) {
  co_await cache.maintain();
  co_return true;
}

}  // namespace

TEST_CASE("FileCache: what is too old goes, file and all", "[streamcache]") {
  for (const auto& window : kWindows) {
    CacheFixture t(cache_params(window));
    const Lookup old = t.look_up("key", text("old"));
    const auto reading = t.start(read_all(*old.stream));
    t.settle();
    const auto open = t.cache->find("key");
    t.clock.advance(std::chrono::minutes{5});
    t.cache->sweep();
    CHECK(t.cache->size() == 1);  // exactly as old as is allowed
    t.clock.advance(std::chrono::nanoseconds{1});
    t.cache->sweep();
    t.settle();
    CHECK(t.cache->size() == 0);
    CHECK(t.file_count() == 0);
    CHECK(t.metric("sluice_streamcache_index_entries") == 0);
    CHECK(t.read(**open) == "old");
    // No stale value.
    const Lookup next = t.look_up("key", text("new"));
    CHECK(next.created);
    CHECK(t.read(*next.stream) == "new");
  }
}

TEST_CASE("FileCache: an entry that is evicted while it is filled goes on for its readers", "[streamcache]") {
  CacheFixture t;
  const auto gate = std::make_shared<Gate>();
  const Lookup old = t.look_up("key", gated(gate, "abc", "def"));
  t.clock.advance(std::chrono::minutes{6});
  t.cache->sweep();
  t.settle();
  CHECK(t.file_count() == 0);
  const Lookup next = t.look_up("key", text("new"));
  CHECK(next.created);
  gate->open();
  t.settle();
  CHECK(t.read(*old.stream) == "abcdef");
  CHECK(t.outcome(*old.stream));
  // Its end did not touch its successor.
  CHECK_FALSE(t.look_up("key", must_not_run()).created);
  CHECK(t.file_count() == 1);
}

TEST_CASE("FileCache: an entry that is evicted while its file is made leaves no file", "[streamcache]") {
  CacheFixture t;
  std::promise<void> go_on;
  t.disk.post(runtime::Lane::fast, [&go_on] { go_on.get_future().wait(); });
  const auto creating = t.start(t.cache->find_or_create("key", text("abc")));
  t.loop.poll();
  t.clock.advance(std::chrono::minutes{6});
  t.cache->sweep();
  CHECK(t.cache->size() == 0);
  go_on.set_value();
  t.settle();
  REQUIRE(creating->result);
  CHECK(t.read(*(*creating->result)->stream) == "abc");
  t.settle();
  CHECK(t.file_count() == 0);
}

TEST_CASE("FileCache: an unlink that fails is not the cache's end", "[streamcache]") {
  CacheFixture t;
  CHECK(t.read(*t.look_up("key", text("old")).stream) == "old");
  t.fail(CacheFixture::Operation::remove, EACCES);
  t.clock.advance(std::chrono::minutes{6});
  t.cache->sweep();
  t.settle();
  CHECK(t.cache->size() == 0);
  CHECK(t.file_count() == 1);
  // Left to a later walk.
  t.filesystem.set_rule({});
  const fs::path left = t.directory.files().at(0);
  fs::last_write_time(left, fs::file_time_type::clock::from_sys(t.clock.wall() - std::chrono::hours{1}));
  CHECK(t.cache->filestore().walk()->removed == 1);
}

TEST_CASE("FileCache: a walk leaves the files of entries alone", "[streamcache]") {
  CacheFixture t;
  const Lookup lookup = t.look_up("key", text("abc"));
  CHECK(t.read(*lookup.stream) == "abc");
  const fs::path path = t.directory.files().at(0);
  fs::last_write_time(path, fs::file_time_type::clock::from_sys(t.clock.wall() - std::chrono::hours{1}));
  CHECK(t.cache->filestore().walk()->removed == 0);
  CHECK(fs::exists(path));
}

TEST_CASE("FileCache: no descriptor outlives its readers", "[streamcache]") {
  CacheFixture t;
  // The first use of a loop opens descriptors of its own.
  t.settle();
  const std::size_t before = open_descriptors();
  for (int i = 0; i < 10; ++i) {
    const std::string key = fmt::format("key {}", i);
    const Lookup lookup = t.look_up(key, i % 2 == 0 ? text("abc") : failing("abc", Error(Errc::io)));
    CHECK(t.run(drain(*lookup.stream)).text == "abc");
    if (i % 3 == 0) (void)t.run(t.cache->find_or_create(key, throwing("")));
  }
  CHECK(open_descriptors() > before);
  t.clock.advance(std::chrono::minutes{6});
  t.cache->sweep();
  t.settle();
  CHECK(open_descriptors() == before);
}

TEST_CASE("FileCache: upkeep ends with stop, and entries stay", "[streamcache]") {
  CacheFixture t;
  const Lookup lookup = t.look_up("key", text("abc"));
  const auto upkeep = t.start(keep_up(*t.cache));
  t.settle();
  CHECK_FALSE(upkeep->done);
  t.cache->stop();
  t.cache->stop();
  t.settle();
  CHECK(upkeep->done);
  CHECK(t.read(*lookup.stream) == "abc");
  CHECK_FALSE(t.look_up("key", must_not_run()).created);
  CHECK(t.read(*t.look_up("other", text("def")).stream) == "def");
  // Nothing to keep up any more.
  const auto again = t.start(keep_up(*t.cache));
  t.settle();
  CHECK(again->done);
}

TEST_CASE("FileCache: upkeep ends when it is cancelled", "[streamcache]") {
  CacheFixture t;
  const auto upkeep = t.start(keep_up(*t.cache));
  t.settle();
  upkeep->cancel();
  t.settle();
  CHECK(upkeep->done);
}

}  // namespace sluice::streamcache
