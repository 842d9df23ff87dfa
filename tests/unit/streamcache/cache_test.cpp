#include "streamcache/cache.hpp"

#include <cerrno>

#include "cache_fixture.hpp"
#include "support/logging_cache.hpp"

namespace sluice::streamcache {

TEST_CASE("Cache: one fill serves everybody", "[streamcache]") {
  for (const auto& window : kWindows) {
    CacheFixture t(cache_params(window));
    const auto gate = std::make_shared<Gate>();
    std::vector<Lookup> lookups;
    std::vector<std::shared_ptr<Running<Result<std::string>>>> reads;
    for (int i = 0; i < 10; ++i) {
      lookups.push_back(t.look_up("key", i == 0 ? gated(gate, "some ", "bytes") : must_not_run()));
      CHECK(lookups.back().created == (i == 0));
      reads.push_back(t.start(read_all(*lookups.back().stream)));
    }
    CHECK(t.metric("sluice_fills_in_flight") == 1);
    CHECK(t.metric("sluice_fill_readers") == 10);
    CHECK(t.file_count() == 1);
    gate->open();
    t.settle();
    for (const auto& read : reads) CHECK(read->result->value() == "some bytes");
    for (const Lookup& lookup : lookups) CHECK(t.outcome(*lookup.stream));
    CHECK(t.file_count() == 1);
    CHECK(t.metric("sluice_fills_in_flight") == 0);
    CHECK(t.metric("sluice_streamcache_index_entries") == 1);
    // And it stays.
    const Lookup again = t.look_up("key", must_not_run());
    CHECK_FALSE(again.created);
    CHECK(t.read(*again.stream) == "some bytes");
  }
}

TEST_CASE("Cache: keys have entries of their own", "[streamcache]") {
  CacheFixture t;
  const Lookup a = t.look_up("a", text("of a"));
  const Lookup b = t.look_up("b", text("of b"));
  CHECK(b.created);
  CHECK(t.read(*a.stream) == "of a");
  CHECK(t.read(*b.stream) == "of b");
  CHECK(t.cache->size() == 2);
  CHECK(t.file_count() == 2);
}

TEST_CASE("Cache: find joins, and creates nothing", "[streamcache]") {
  CacheFixture t;
  CHECK(t.cache->find("key").error().code == Errc::not_found);
  const auto gate = std::make_shared<Gate>();
  const Lookup created = t.look_up("key", gated(gate, "abc", "def"));
  const auto running = t.cache->find("key");
  REQUIRE(running);
  t.settle();
  CHECK(t.metric("sluice_fill_readers") == 2);
  CHECK(t.cache->readable("key") == 3);
  CHECK(t.cache->readable("other") == std::nullopt);
  CHECK(t.metric("sluice_fill_readers") == 2);
  gate->open();
  CHECK(t.read(**running) == "abcdef");
  CHECK(t.cache->readable("key") == 6);
  CHECK(t.read(**t.cache->find("key")) == "abcdef");
}

TEST_CASE("Cache: what is in flight, its readers, and whether it waits for them", "[streamcache]") {
  CacheFixture t(cache_params(4));
  CHECK(t.cache->in_flight(9).empty());
  const auto gate = std::make_shared<Gate>();
  const Lookup first = t.look_up("first", gated(gate, "abc", "def"));
  t.clock.advance(std::chrono::seconds{3});
  const auto joined = t.cache->find("first");
  REQUIRE(joined);
  const Lookup second = t.look_up("second", text("more than a window"));
  t.settle();
  const std::vector<FileCache::InFlight> fills = t.cache->in_flight(9);
  REQUIRE(fills.size() == 2);
  CHECK(fills[0].key == "first");
  CHECK(fills[0].readers == 2);
  CHECK(fills[0].written_bytes == 3);
  CHECK(fills[0].age == std::chrono::seconds{3});
  CHECK_FALSE(fills[0].size_bytes);
  CHECK_FALSE(fills[0].waits_for_readers);
  CHECK_FALSE(fills[0].unstored);
  CHECK(fills[1].key == "second");
  CHECK(fills[1].waits_for_readers);
  CHECK(t.cache->in_flight(1).size() == 1);
  gate->open();
  CHECK(t.read(*first.stream) == "abcdef");
  CHECK(t.read(**joined) == "abcdef");
  CHECK(t.read(*second.stream) == "more than a window");
  t.settle();
  CHECK(t.cache->in_flight(9).empty());
}

TEST_CASE("Cache: a file that was deleted is made anew", "[streamcache]") {
  for (const auto& window : kWindows) {
    CacheFixture t(cache_params(window));
    const Lookup before = t.look_up("key", text("before"));
    const auto draining = t.start(read_all(*before.stream));
    t.settle();
    const auto second = t.cache->find("key");
    t.directory.wipe();
    const Lookup after = t.look_up("key", text("after"));
    CHECK(after.created);
    CHECK(t.read(*after.stream) == "after");
    // The old one is still there for those who have it.
    CHECK(draining->result->value() == "before");
    CHECK(t.read(**second) == "before");
    CHECK(t.cache->size() == 1);
    t.directory.wipe();
    CHECK(t.cache->find("key").error().code == Errc::not_found);
    CHECK(t.cache->size() == 0);
  }
}

TEST_CASE("Cache: a hundred caches share a directory", "[streamcache]") {
  CacheFixture t;
  std::vector<std::unique_ptr<FileCache>> caches;
  std::vector<Lookup> lookups;
  for (int i = 0; i < 100; ++i) {
    FileCache::Params params;
    params.directory = t.directory.path();
    caches.push_back(std::make_unique<FileCache>(params, t.filesystem, t.disk, t.clock, t.fills, t.registry));
    Result<Lookup> lookup = t.run(caches.back()->find_or_create("the same key", text(fmt::format("cache {}", i))));
    REQUIRE(lookup);
    CHECK(lookup->created);
    lookups.push_back(*std::move(lookup));
  }
  CHECK(t.file_count() == 100);
  for (std::size_t i = 0; i < 100; ++i) CHECK(t.read(*lookups[i].stream) == fmt::format("cache {}", i));
  CHECK(t.metric("sluice_streamcache_index_entries") == 100);
  caches.clear();
  CHECK(t.metric("sluice_streamcache_index_entries") == 0);
}

TEST_CASE("Cache: a fill that fails is told to its readers, and forgotten", "[streamcache]") {
  for (const auto& window : kWindows) {
    for (const bool exception : {false, true}) {
      CacheFixture t(cache_params(window));
      const Lookup failed =
          t.look_up("key", exception ? throwing("abc") : failing("abc", Error(Errc::upstream_failed)));
      const Drained got = t.run(drain(*failed.stream));
      CHECK(got.text == "abc");
      const Result<void> outcome = t.outcome(*failed.stream);
      REQUIRE_FALSE(outcome);
      CHECK(outcome.error().code == (exception ? Errc::internal : Errc::upstream_failed));
      if (exception) CHECK(outcome.error().message.find("out of order") != std::string::npos);
      t.settle();
      CHECK(t.file_count() == 0);
      CHECK(t.cache->size() == 0);
      const Lookup next = t.look_up("key", text("well"));
      CHECK(next.created);
      CHECK(t.read(*next.stream) == "well");
      CHECK(t.outcome(*next.stream));
    }
  }
}

namespace {

Task<bool> found_after_failure(Cache& cache, Stream& stream) {
  (void)co_await stream.wait();
  co_return cache.find("key").has_value();
}

Task<Result<void>> fail_at_once(std::shared_ptr<Writer>) { throw 1; }

}  // namespace

TEST_CASE("Cache: an entry is forgotten before its failure is told", "[streamcache]") {
  CacheFixture t;
  const auto gate = std::make_shared<Gate>();
  const Lookup lookup = t.look_up("key", gated(gate, "", "", Error(Errc::io)));
  const auto found = t.start(found_after_failure(*t.cache, *lookup.stream));
  t.settle();
  gate->open();
  t.settle();
  CHECK(found->result == false);
}

TEST_CASE("Cache: whatever a producer throws is an error", "[streamcache]") {
  CacheFixture t;
  const Lookup lookup = t.look_up("key", &fail_at_once);
  CHECK(t.outcome(*lookup.stream).error().code == Errc::internal);
  const Lookup empty = t.look_up("other", Create{});
  CHECK(t.outcome(*empty.stream).error().code == Errc::internal);
}

TEST_CASE("Cache: no file, no fill", "[streamcache]") {
  CacheFixture t;
  t.fail(CacheFixture::Operation::create, ENOSPC);
  const Result<Lookup> lookup = t.run(t.cache->find_or_create("key", must_not_run()));
  REQUIRE_FALSE(lookup);
  CHECK(lookup.error().code == Errc::no_space);
  CHECK(t.cache->size() == 0);
  t.filesystem.set_rule({});
  CHECK(t.look_up("key", text("now")).created);
}

TEST_CASE("Cache: who joins while the file is made gets the same stream, or the same failure", "[streamcache]") {
  for (const bool fails : {false, true}) {
    CacheFixture t;
    if (fails) t.fail(CacheFixture::Operation::create, EIO);
    // Keeps the pool's only thread, so that the creation stays where it is.
    std::promise<void> go_on;
    t.disk.post(runtime::Lane::fast, [&go_on] { go_on.get_future().wait(); });
    const auto creating = t.start(t.cache->find_or_create("key", text("abc")));
    t.loop.poll();
    CHECK_FALSE(creating->done);
    t.loop.restart();
    const auto joining = t.start(t.cache->find_or_create("key", must_not_run()));
    t.loop.poll();
    REQUIRE(joining->result);
    REQUIRE(*joining->result);
    CHECK_FALSE((*joining->result)->created);
    const auto stream = std::move((*joining->result)->stream);
    t.loop.restart();
    const auto reading = t.start(read_all(*stream));
    t.loop.poll();
    CHECK_FALSE(reading->done);
    go_on.set_value();
    t.settle();
    REQUIRE(creating->result);
    CHECK(creating->result->has_value() == !fails);
    REQUIRE(reading->result);
    if (fails) {
      CHECK(creating->result->error().code == Errc::io);
      CHECK(reading->result->error().code == Errc::io);
      CHECK(t.cache->size() == 0);
    } else {
      CHECK(reading->result->value() == "abc");
    }
  }
}

TEST_CASE("Cache: errors of writing and of closing are the fill's", "[streamcache]") {
  for (const auto& [operation, error, expected] :
       {std::tuple{CacheFixture::Operation::write_at, ENOSPC, Errc::no_space},
        std::tuple{CacheFixture::Operation::close, EIO, Errc::io}}) {
    CacheFixture t;
    t.fail(operation, error);
    const Lookup lookup = t.look_up("key", text("abc"));
    CHECK(t.outcome(*lookup.stream).error().code == expected);
    t.settle();
    CHECK(t.cache->size() == 0);
    CHECK(t.file_count() == 0);
  }
}

TEST_CASE("Cache: the first caller may leave, before and after it has its stream", "[streamcache]") {
  for (const bool early : {false, true}) {
    CacheFixture t(cache_params(std::nullopt));
    const auto gate = std::make_shared<Gate>();
    const auto creating = t.start(t.cache->find_or_create("key", gated(gate, "abc", "def")));
    if (early) {
      t.loop.poll();
      t.loop.restart();
    } else {
      t.settle();
    }
    const auto joined = t.cache->find("key");
    REQUIRE(joined);
    creating->cancel();
    t.settle();
    if (!early) (*creating->result)->stream.reset();
    gate->open();
    CHECK(t.read(**joined) == "abcdef");
  }
}

TEST_CASE("Cache: an old fill that fails late leaves its successor alone", "[streamcache]") {
  CacheFixture t(cache_params(std::nullopt));
  const auto gate = std::make_shared<Gate>();
  Lookup old = t.look_up("key", gated(gate, "old", "", Error(Errc::io)));
  old.stream.reset();  // abandoned, but still running
  const Lookup successor = t.look_up("key", text("new"));
  CHECK(successor.created);
  gate->open();
  t.settle();
  const Lookup found = t.look_up("key", must_not_run());
  CHECK_FALSE(found.created);
  CHECK(t.read(*found.stream) == "new");
  CHECK(t.file_count() == 1);
}

TEST_CASE("Cache: an abandoned fill that finishes can be joined", "[streamcache]") {
  CacheFixture t(cache_params(1, true, Abandoned::finish));
  const auto gate = std::make_shared<Gate>();
  Lookup first = t.look_up("key", gated(gate, "abc", "def"));
  first.stream.reset();
  t.settle();
  const Lookup joined = t.look_up("key", must_not_run());
  CHECK_FALSE(joined.created);
  gate->open();
  CHECK(t.read(*joined.stream) == "abcdef");
  CHECK(t.outcome(*joined.stream));
}

TEST_CASE("Cache: closing after the full length keeps the entry", "[streamcache]") {
  CacheFixture t(cache_params(1));
  const auto gate = std::make_shared<Gate>();
  Lookup first = t.look_up("key", gated(gate, "abc", ""));
  CHECK(t.run(read_some(*first.stream, 3)).value() == "abc");
  first.stream.reset();
  gate->open();
  t.settle();
  REQUIRE(t.cache->find("key"));
  CHECK(t.read(**t.cache->find("key")) == "abc");
}

namespace {

Task<Result<void>> take_over(std::shared_ptr<Writer> writer, runtime::Filesystem& filesystem, runtime::Path to,
                             std::optional<Error> error) {
  if (Result<void> written = co_await writer->write(bytes_of("abc")); !written) co_return written;
  if (Result<void> renamed = filesystem.rename(writer->path(), to); !renamed) co_return renamed;
  writer->release_file();
  if (error) co_return *error;
  co_return Result<void>{};
}

}  // namespace

TEST_CASE("Cache: without retaining, an entry ends with its fill", "[streamcache]") {
  CacheFixture t(cache_params(std::nullopt, false));
  const auto gate = std::make_shared<Gate>();
  const Lookup lookup = t.look_up("key", gated(gate, "abc", "def"));
  t.clock.advance(std::chrono::hours{1});
  t.cache->sweep();
  CHECK(t.cache->size() == 1);  // a fill in flight is never fetched twice
  gate->open();
  t.settle();
  CHECK(t.cache->size() == 0);
  CHECK(t.file_count() == 0);
  CHECK(t.read(*lookup.stream) == "abcdef");
}

TEST_CASE("Cache: a file that the producer took over is not removed", "[streamcache]") {
  const auto outcome = GENERATE(as<std::optional<Error>>{}, std::nullopt, Error(Errc::upstream_timeout));
  CacheFixture t(cache_params(std::nullopt, false));
  const runtime::Path kept = t.directory.path() / "kept";
  const Lookup lookup = t.look_up(
      "key", [&](std::shared_ptr<Writer> writer) { return take_over(std::move(writer), t.filesystem, kept, outcome); });
  CHECK(t.outcome(*lookup.stream).has_value() == !outcome.has_value());
  t.settle();
  CHECK(t.directory.files() == std::vector<std::filesystem::path>{kept});
}

TEST_CASE("Cache: cancelling the fills fails what is left", "[streamcache]") {
  CacheFixture t;
  const auto gate = std::make_shared<Gate>();
  const Lookup lookup = t.look_up("key", gated(gate, "abc", "def"));
  const auto reading = t.start(drain(*lookup.stream));
  t.settle();
  t.fills.cancel();
  t.settle();
  CHECK(t.fills.size() == 0);
  CHECK(reading->result->text == "abc");
  CHECK(reading->result->error->code == Errc::cancelled);
  CHECK(t.cache->size() == 0);
  CHECK(t.file_count() == 0);
  const Result<Lookup> late = t.run(t.cache->find_or_create("other", must_not_run()));
  REQUIRE_FALSE(late);
  CHECK(late.error().code == Errc::shutting_down);
  CHECK(t.metric("sluice_fills_in_flight") == 0);
}

TEST_CASE("Cache: a fill that is cancelled before it began ends its entry", "[streamcache]") {
  CacheFixture t;
  const auto creating = t.start(t.cache->find_or_create("key", must_not_run()));
  t.loop.poll_one();
  const auto joined = t.cache->find("key");
  REQUIRE(joined);
  t.fills.cancel();
  t.settle();
  CHECK(creating->done);
  CHECK(t.outcome(**joined).error().code == Errc::cancelled);
  CHECK(t.cache->size() == 0);
  CHECK(t.file_count() == 0);
}

TEST_CASE("Cache: the log of look-ups", "[streamcache]") {
  CacheFixture t;
  LoggingCache log(*t.cache);
  CHECK(t.run(log.find_or_create("a", text("abc")))->created);
  REQUIRE(t.run(log.find_or_create("a", text("abc"))));
  t.fail(CacheFixture::Operation::create, ENOSPC);
  CHECK_FALSE(t.run(log.find_or_create("b", text("abc"))));
  const auto entries = log.entries();
  REQUIRE(entries.size() == 3);
  CHECK((entries[0].key == "a" && entries[0].created && !entries[0].error));
  CHECK((entries[1].key == "a" && !entries[1].error));
  CHECK((entries[2].key == "b" && !entries[2].created && entries[2].error->code == Errc::no_space));
  log.stop();
}

}  // namespace sluice::streamcache
