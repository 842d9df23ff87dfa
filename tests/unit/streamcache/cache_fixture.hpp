// What the tests of whole caches share: producers, and a cache on a temporary directory.
#pragma once

#include <stdexcept>

#include "fixture.hpp"

namespace sluice::streamcache {

// Lets a test hold a producer where it wants: open() lets it through.
struct Gate {
  Gate() { cursor.attach(); }
  void open() { cursor.advance(1); }
  Cursor cursor;
};

inline Task<Result<void>> produce_text(std::shared_ptr<Writer> writer, std::string text) {
  co_return co_await write_pieces(std::move(writer), std::move(text), 3);
}

inline Create text(std::string what) {
  return [what = std::move(what)](std::shared_ptr<Writer> writer) { return produce_text(std::move(writer), what); };
}

inline Task<Result<void>> produce_gated(std::shared_ptr<Writer> writer, std::shared_ptr<Gate> gate, std::string before,
                                        std::string after, std::optional<Error> error) {
  if (Result<void> written = co_await write_pieces(writer, std::move(before), 3); !written) co_return written;
  const Result<std::uint64_t> passed = co_await gate->cursor.wait_past(0);
  if (!passed) co_return passed.error();
  if (error) co_return *error;
  co_return co_await write_pieces(std::move(writer), std::move(after), 3);
}

// Writes `before`, waits for the gate, then fails, or writes `after`.
inline Create gated(std::shared_ptr<Gate> gate, std::string before, std::string after,
                    std::optional<Error> error = std::nullopt) {
  return [=](std::shared_ptr<Writer> writer) { return produce_gated(std::move(writer), gate, before, after, error); };
}

inline Task<Result<void>> produce_error(std::shared_ptr<Writer> writer, std::string before, Error error) {
  if (Result<void> written = co_await write_pieces(std::move(writer), std::move(before), 3); !written)
    co_return written;
  co_return error;
}

inline Create failing(std::string before, Error error) {
  return [=](std::shared_ptr<Writer> writer) { return produce_error(std::move(writer), before, error); };
}

inline Task<Result<void>> produce_exception(std::shared_ptr<Writer> writer, std::string before) {
  (void)co_await write_pieces(std::move(writer), std::move(before), 3);
  throw std::runtime_error("out of order");
}

inline Create throwing(std::string before) {
  return [=](std::shared_ptr<Writer> writer) { return produce_exception(std::move(writer), before); };
}

inline Create must_not_run() {
  return
      [](std::shared_ptr<Writer> writer) { return produce_error(std::move(writer), "", Error(Errc::internal, "ran")); };
}

struct CacheFixture : Fixture {
  using Operation = runtime::FaultyFilesystem::Operation;

  std::unique_ptr<FileCache> cache;

  explicit CacheFixture(FileCache::Params params = {}) {
    params.directory = directory.path();
    cache = std::make_unique<FileCache>(params, filesystem, disk, clock, fills, registry);
  }
  ~CacheFixture() {
    // Before the cache.
    fills.cancel();
    settle();
  }

  Lookup look_up(const std::string& key, Create create) {
    Result<Lookup> found = run(cache->find_or_create(key, std::move(create)));
    REQUIRE(found);
    return *std::move(found);
  }
  std::string read(Stream& stream) { return run(read_all(stream)).value(); }
  Result<void> outcome(Stream& stream) { return run(stream.wait()); }
  std::size_t file_count() const { return directory.files().size(); }
  void fail(Operation failing, int error) {
    filesystem.set_rule([=](Operation operation, const runtime::Path&) { return operation == failing ? error : 0; });
  }
};

inline FileCache::Params cache_params(std::optional<std::uint64_t> window, bool retain = true,
                                      Abandoned abandoned = Abandoned::fail) {
  FileCache::Params params;
  params.pipe.window_bytes = window;
  params.pipe.abandoned = abandoned;
  params.retain = retain;
  return params;
}

}  // namespace sluice::streamcache
