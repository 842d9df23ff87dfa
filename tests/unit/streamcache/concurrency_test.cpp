// A thousand callers on several loops.
#include <set>

#include "cache_fixture.hpp"

namespace sluice::streamcache {
namespace {

struct Outcome {
  std::atomic<int> created{0};
  std::atomic<int> right{0};
  std::atomic<int> failed{0};
};

Task<Result<void>> produce_counted(std::shared_ptr<Writer> writer, std::string data, std::atomic<int>& fills) {
  ++fills;
  writer->set_size(data.size());
  co_return co_await write_pieces(std::move(writer), std::move(data), 1024);
}

Task<void> call(Cache& cache, std::string key, Create create, const std::string& expected, Outcome& outcome) {
  Result<Lookup> lookup = co_await cache.find_or_create(std::move(key), std::move(create));
  if (!lookup) {
    ++outcome.failed;
    co_return;
  }
  if (lookup->created) ++outcome.created;
  const Result<std::string> got = co_await read_all(*lookup->stream, 4096);
  if (got && *got == expected) ++outcome.right;
  const Result<void> ended = co_await lookup->stream->wait();
  if (!ended) ++outcome.failed;
}

}  // namespace

TEST_CASE("Cache: a thousand callers on several loops get the same bytes from one file", "[streamcache]") {
  constexpr int kCallers = 1000;
  for (const std::optional<std::uint64_t> window : {std::optional<std::uint64_t>(1), std::optional<std::uint64_t>()}) {
    CacheFixture t(cache_params(window));
    const std::string data = pattern(20000);
    std::atomic<int> fills{0};
    Outcome outcome;
    runtime::LoopPool loops(4);
    runtime::TaskGroup callers("callers");
    loops.start();
    for (std::size_t i = 0; i < kCallers; ++i) {
      const Create create = [&](std::shared_ptr<Writer> writer) {
        return produce_counted(std::move(writer), data, fills);
      };
      callers.spawn(loops.at(i % loops.size()).get_executor(), call(*t.cache, "key", create, data, outcome));
    }
    REQUIRE(callers.wait_for(std::chrono::seconds{110}));
    REQUIRE(t.fills.wait_for(std::chrono::seconds{10}));
    CHECK(outcome.right == kCallers);
    CHECK(outcome.failed == 0);
    // One at a time: callers that have read everything may leave, and the entry stays for the next.
    CHECK(outcome.created == 1);
    CHECK(fills == 1);
    CHECK(t.file_count() == 1);
  }
}

TEST_CASE("NullCache: a thousand callers get a fill each, and no file", "[streamcache]") {
  constexpr int kCallers = 1000;
  CacheFixture t;
  PipeParams params;
  params.window_bytes = 2000;
  NullCache cache(params, t.clock, t.fills, t.registry);
  const std::string data = pattern(5000);
  std::atomic<int> fills{0};
  Outcome outcome;
  runtime::LoopPool loops(4);
  runtime::TaskGroup callers("callers");
  loops.start();
  for (std::size_t i = 0; i < kCallers; ++i) {
    const Create create = [&](std::shared_ptr<Writer> writer) {
      return produce_counted(std::move(writer), data, fills);
    };
    callers.spawn(loops.at(i % loops.size()).get_executor(), call(cache, "key", create, data, outcome));
  }
  REQUIRE(callers.wait_for(std::chrono::seconds{110}));
  REQUIRE(t.fills.wait_for(std::chrono::seconds{10}));
  CHECK(outcome.right == kCallers);
  CHECK(outcome.created == kCallers);
  CHECK(fills == kCallers);
  CHECK(t.file_count() == 0);
}

TEST_CASE("NullCache: memory is bounded by the window", "[streamcache]") {
  CacheFixture t;
  PipeParams params;
  params.window_bytes = 6;
  NullCache cache(params, t.clock, t.fills, t.registry);
  CHECK(cache.find("key").error().code == Errc::not_found);
  const auto writer = std::make_shared<std::shared_ptr<Writer>>();
  Result<Lookup> lookup = t.run(cache.find_or_create("key", [writer](std::shared_ptr<Writer> given) {
    *writer = given;
    return produce_text(std::move(given), "abcdefghijkl");
  }));
  REQUIRE(lookup);
  t.settle();
  CHECK((*writer)->position() == 6);
  CHECK_FALSE((*writer)->file().is_open());
  CHECK(t.run(read_some(*lookup->stream, 4)).value() == "abcd");
  t.settle();
  CHECK((*writer)->position() == 12);
  CHECK(t.read(*lookup->stream) == "efghijkl");
  CHECK(t.outcome(*lookup->stream));
  writer->reset();
}

TEST_CASE("NullCache: errors, exceptions and closing", "[streamcache]") {
  CacheFixture t;
  NullCache cache(PipeParams{1, 0, Abandoned::finish}, t.clock, t.fills, t.registry);
  Result<Lookup> lookup = t.run(cache.find_or_create("key", failing("abc", Error(Errc::upstream_failed))));
  const Drained got = t.run(drain(*lookup->stream));
  CHECK(got.text == "abc");
  CHECK(got.error->code == Errc::upstream_failed);
  lookup = t.run(cache.find_or_create("key", throwing("")));
  CHECK(t.outcome(*lookup->stream).error().code == Errc::internal);
  lookup = t.run(cache.find_or_create("key", text("abcdef")));
  lookup->stream->close();
  CHECK(t.outcome(*lookup->stream).error().code == Errc::abandoned);
  t.fills.cancel();
  CHECK(t.run(cache.find_or_create("key", must_not_run())).error().code == Errc::shutting_down);
  cache.stop();
}

TEST_CASE("Cache: callers, failures and departures at random", "[streamcache]") {
  CacheFixture t(cache_params(64, false));
  struct Caller {
    static Task<Result<void>> produce(std::shared_ptr<Writer> writer, std::string data, int n) {
      if (n % 3 == 0) writer->set_size(data.size());
      if (Result<void> written = co_await write_pieces(writer, std::move(data), 50); !written) co_return written;
      if (n % 5 == 0) co_return Error(Errc::digest_mismatch);
      co_return Result<void>{};
    }
    static Task<void> call(Cache& cache, std::string data, int n, std::atomic<int>& wrong) {
      Result<Lookup> lookup = co_await cache.find_or_create(
          fmt::format("key-{}", n % 4),
          [data, n](std::shared_ptr<Writer> writer) { return produce(std::move(writer), data, n); });
      if (!lookup) co_return;
      if (n % 7 == 0) co_return;
      const Result<std::string> got =
          n % 2 == 0 ? co_await read_some(*lookup->stream, 100) : co_await read_all(*lookup->stream, 100);
      if (got && data.compare(0, got->size(), *got) != 0) ++wrong;
      if (got && n % 2 == 1 && *got != data) ++wrong;
    }
  };
  const std::string data = pattern(2000);
  runtime::LoopPool loops(4);
  loops.start();
  std::atomic<int> wrong{0};
  for (int round = 0; round < 5; ++round) {
    runtime::TaskGroup callers("callers");
    for (int i = 0; i < 200; ++i) {
      callers.spawn(loops.at(static_cast<std::size_t>(i) % loops.size()).get_executor(),
                    Caller::call(*t.cache, data, i, wrong));
    }
    if (round == 4) callers.cancel();
    REQUIRE(callers.wait_for(std::chrono::seconds{110}));
  }
  REQUIRE(t.fills.wait_for(std::chrono::seconds{110}));
  CHECK(wrong == 0);
  CHECK(t.cache->size() == 0);
  t.settle();
  CHECK(t.file_count() == 0);
  CHECK(t.metric("sluice_fill_readers") == 0);
}

}  // namespace sluice::streamcache
