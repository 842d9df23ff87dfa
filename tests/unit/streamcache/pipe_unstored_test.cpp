// Pipes that go on where the disk refuses them, and files that have a part in them.
#include <atomic>
#include <cerrno>
#include <fstream>
#include <thread>
#include <utility>

#include "cache_fixture.hpp"
#include "pipe_fixture.hpp"

namespace sluice::streamcache {
namespace {

using Operation = runtime::FaultyFilesystem::Operation;

PipeParams unstored_params(std::uint64_t window, Abandoned abandoned = Abandoned::finish) {
  PipeParams params = with_window(window, abandoned);
  params.hold_back_bytes = 1;
  params.unstored = true;
  params.join_pause = std::chrono::milliseconds{0};
  return params;
}

// A pipe that has no file from the start.
std::pair<std::shared_ptr<Pipe>, std::shared_ptr<Writer>> without_file(PipeFixture& t, const PipeParams& params) {
  auto pipe = std::make_shared<Pipe>(params, t.clock, t.metrics);
  pipe->open_unstored(Error(Errc::no_space));
  return {pipe, std::make_shared<Writer>(pipe)};
}

void refuse_writes(Fixture& t, int error = ENOSPC) {
  t.filesystem.set_rule(
      [=](Operation operation, const runtime::Path&) { return operation == Operation::write_at ? error : 0; });
}

}  // namespace

TEST_CASE("Pipe: a disk that refuses a write hands over to memory", "[streamcache]") {
  for (const int error : {ENOSPC, EDQUOT, EIO, EROFS}) {
    PipeFixture t;
    const auto pipe = t.pipe(unstored_params(10));
    const auto writer = std::make_shared<Writer>(pipe);
    auto one = t.reader(pipe);
    auto two = t.reader(pipe);
    const std::string data = pattern(100);
    REQUIRE(t.run(write_pieces(writer, data.substr(0, 7), 7)));
    CHECK(one->stored_end() == UINT64_MAX);
    refuse_writes(t, error);
    const auto writing = t.start(write_pieces(writer, data.substr(7), 3));
    const auto first = t.start(read_all(*one, 5));
    t.settle();
    // The slowest reader paces it now.
    CHECK_FALSE(writing->done);
    CHECK(writer->unstored());
    CHECK(one->stored_end() == 7);
    CHECK(pipe->written() <= 7 + 10 + 1 + 3);
    // Nothing of it has gone yet, so somebody may still join; who does paces it too.
    CHECK(pipe->open_reader().has_value());
    const auto second = t.start(read_all(*two, 1));
    t.settle();
    REQUIRE(writing->done);
    REQUIRE(*writing->result);
    CHECK(pipe->open_reader().error().code == Errc::unsupported);
    REQUIRE(writer->complete());
    t.settle();
    CHECK(first->result->value() == data);
    CHECK(second->result->value() == data);
    REQUIRE(pipe->finish({}));
  }
}

TEST_CASE("Pipe: a slow reader that leaves sets an unstored writer free", "[streamcache]") {
  PipeFixture t;
  const auto pipe = t.pipe(unstored_params(10));
  const auto writer = std::make_shared<Writer>(pipe);
  auto fast = t.reader(pipe);
  auto slow = t.reader(pipe);
  refuse_writes(t);
  const std::string data = pattern(100);
  const auto writing = t.start(write_pieces(writer, data, 3));
  const auto read = t.start(read_all(*fast, 5));
  t.settle();
  CHECK_FALSE(writing->done);
  slow->close();
  t.settle();
  REQUIRE(writing->done);
  REQUIRE(writer->complete());
  t.settle();
  CHECK(read->result->value() == data);
  REQUIRE(pipe->finish({}));
}

TEST_CASE("Pipe: an unstored one is given up with its last reader", "[streamcache]") {
  PipeFixture t;
  const auto pipe = t.pipe(unstored_params(10));
  const auto writer = std::make_shared<Writer>(pipe);
  auto only = t.reader(pipe);
  refuse_writes(t);
  const auto writing = t.start(write_pieces(writer, pattern(100), 3));
  t.settle();
  CHECK_FALSE(writing->done);
  only->close();
  t.settle();
  CHECK(writing->result->error().code == Errc::abandoned);
  CHECK(writer->given_up());
}

TEST_CASE("Pipe: a disk that refuses a write that nobody waits for ends the fill", "[streamcache]") {
  PipeFixture t;
  const auto pipe = t.pipe(unstored_params(10));
  refuse_writes(t);
  CHECK(t.run(write_pieces(std::make_shared<Writer>(pipe), "abc", 3)).error().code == Errc::no_space);
}

TEST_CASE("Pipe: a reader that waits ahead does not hold up an unstored writer", "[streamcache]") {
  PipeFixture t;
  const auto pipe = t.pipe(unstored_params(10));
  const auto writer = std::make_shared<Writer>(pipe);
  auto ahead = t.reader(pipe);
  writer->set_size(100);
  refuse_writes(t);
  const auto waiting = t.start(ahead->wait_readable(80));
  const std::string data = pattern(100);
  const auto writing = t.start(write_pieces(writer, data, 3));
  t.settle();
  REQUIRE(waiting->done);
  std::string some(5, '\0');
  CHECK(t.run(ahead->read_at(80, std::as_writable_bytes(std::span<char>(some)))).value() > 0);
  CHECK(some.front() == data[80]);
}

TEST_CASE("Pipe: a part counts once it is taken", "[streamcache]") {
  PipeFixture t;
  auto pipe = std::make_shared<Pipe>(with_window(std::nullopt), t.clock, t.metrics);
  auto storage = t.storage();
  REQUIRE(storage->write(0, bytes_of("abc")));
  pipe->open(std::move(storage), 3);
  Writer writer(pipe);
  auto stream = t.reader(pipe);
  CHECK(writer.part_bytes() == 3);
  CHECK(writer.position() == 0);
  CHECK(stream->readable() == 0);
  SECTION("taken") {
    writer.take_part();
    CHECK(writer.part_bytes() == 0);
    CHECK(writer.position() == 3);
    REQUIRE(t.run(writer.write(bytes_of("def"))));
    REQUIRE(pipe->finish({}));
    CHECK(t.run(read_all(*stream)).value() == "abcdef");
  }
  SECTION("dropped") {
    writer.drop_part();
    writer.take_part();
    CHECK(writer.position() == 0);
    REQUIRE(t.run(writer.write(bytes_of("xyzuv"))));
    REQUIRE(pipe->finish({}));
    CHECK(t.run(read_all(*stream)).value() == "xyzuv");
  }
}

TEST_CASE("FileCache: where no file can be made the entry passes through memory", "[streamcache]") {
  FileCache::Params params = cache_params(4, false, Abandoned::finish);
  params.pipe.unstored = true;
  CacheFixture t(params);
  t.fail(CacheFixture::Operation::create, ENOSPC);
  const std::string data = pattern(50);
  Lookup first = t.look_up("key", text(data));
  // Once something has passed that nobody can come back for, the second one has its own.
  std::string head = t.run(read_some(*first.stream, 4)).value();
  head += t.run(read_some(*first.stream, 4)).value();
  t.settle();
  Lookup second = t.look_up("key", text(data));
  CHECK(second.created);
  CHECK(head + t.read(*first.stream) == data);
  CHECK(t.read(*second.stream) == data);
  t.settle();
  CHECK(t.cache->size() == 0);
  CHECK(t.file_count() == 0);
}

TEST_CASE("FileCache: fifty readers share one fill that cannot be stored", "[streamcache]") {
  FileCache::Params params = cache_params(16, false, Abandoned::finish);
  params.pipe.unstored = true;
  params.pipe.hold_back_bytes = 1;
  params.pipe.memory = std::make_shared<MemoryBudget>(1000);
  params.pipe.join_pause = std::chrono::milliseconds{0};
  CacheFixture t(params);
  t.fail(CacheFixture::Operation::create, ENOSPC);
  const std::string data = pattern(5000);
  std::vector<Lookup> lookups;
  std::vector<std::shared_ptr<Running<Result<std::string>>>> readers;
  lookups.push_back(t.look_up("key", text(data)));
  for (int i = 1; i < 50; ++i) lookups.push_back(t.look_up("key", must_not_run()));
  for (std::size_t i = 0; i < lookups.size(); ++i) {
    CHECK(lookups[i].created == (i == 0));
    readers.push_back(t.start(read_all(*lookups[i].stream, 1 + i)));
  }
  t.settle();
  for (const auto& reader : readers) {
    REQUIRE(reader->done);
    CHECK(reader->result->value() == data);
  }
  lookups.clear();
  t.settle();
  CHECK(params.pipe.memory->used() == 0);
}

TEST_CASE("Pipe: what all unstored ones hold is bounded together", "[streamcache]") {
  constexpr std::uint64_t kWindow = 1 << 20;
  PipeParams params = unstored_params(kWindow);
  params.memory = std::make_shared<MemoryBudget>(2 * kWindow);
  PipeFixture t;
  std::vector<std::shared_ptr<Pipe>> pipes;
  std::vector<std::unique_ptr<Stream>> readers;
  std::vector<std::shared_ptr<Running<Result<void>>>> writers;
  const std::string data = pattern(2 * kWindow);
  for (int i = 0; i < 10; ++i) {
    pipes.push_back(std::make_shared<Pipe>(params, t.clock, t.metrics));
    pipes.back()->open_unstored(Error(Errc::no_space));
    readers.push_back(t.reader(pipes.back()));
    writers.push_back(t.produce(pipes.back(), data, 64 * 1024));
  }
  t.settle();
  // None has a reader that takes anything: two windows, and the least for each of the others.
  CHECK(params.memory->used() <= 2 * kWindow + 10 * (MemoryBudget::kLeastWindow + 64 * 1024));
  for (std::size_t i = 0; i < pipes.size(); ++i) {
    const auto reading = t.start(read_all(*readers[i]));
    t.settle();
    REQUIRE(writers[i]->done);
    REQUIRE(pipes[i]->finish({}));
    t.settle();
    CHECK(reading->result->value() == data);
  }
  readers.clear();
  writers.clear();
  pipes.clear();
  CHECK(params.memory->used() == 0);
}

TEST_CASE("Pipe: an unstored one is joined while half of the memory holds its beginning", "[streamcache][joining]") {
  PipeParams params = unstored_params(10);
  params.memory = std::make_shared<MemoryBudget>(200);
  // A writer that waited for others would never end.
  params.join_pause = std::chrono::hours{1};
  params.join_time = std::chrono::hours{2};
  PipeFixture t;
  const auto [pipe, writer] = without_file(t, params);
  auto first = t.reader(pipe);
  const std::string data = pattern(300);
  const auto reading = t.start(read_all(*first));
  REQUIRE(t.run(write_pieces(writer, data.substr(0, 90), 3)));
  t.settle();
  CHECK(params.memory->used() == 90);
  // Nine windows after the first byte.
  auto second = t.reader(pipe);
  std::string joined = t.run(read_some(*second, 80)).value();
  second->close();
  CHECK(joined == data.substr(0, 80));
  // One reader alone is not made to wait, and once the beginning is gone only what it needs is kept.
  const auto writing = t.start(write_pieces(writer, data.substr(90), 3));
  t.settle();
  REQUIRE(writing->done);
  CHECK(params.memory->used() <= 10 + 3 + 1);
  CHECK(pipe->open_reader().error().code == Errc::unsupported);
  REQUIRE(writer->complete());
  t.settle();
  CHECK(reading->result->value() == data);
  REQUIRE(pipe->finish({}));
}

TEST_CASE("Pipe: the writer of an unstored one waits for those who join", "[streamcache][joining]") {
  PipeParams params = unstored_params(10);
  params.memory = std::make_shared<MemoryBudget>(200);
  params.join_pause = std::chrono::milliseconds{20};
  params.join_time = std::chrono::milliseconds{200};
  PipeFixture t;
  const auto [pipe, writer] = without_file(t, params);
  const std::string data = pattern(300);
  std::vector<std::unique_ptr<Stream>> readers;
  std::vector<std::shared_ptr<Running<Result<std::string>>>> reading;
  const auto join = [&] {
    readers.push_back(t.reader(pipe));
    reading.push_back(t.start(read_all(*readers.back())));
    t.settle();
  };
  join();
  join();
  const auto writing = t.start(write_pieces(writer, data, 3));
  t.settle();
  // Nothing runs until the next call of settle(), so the third reader comes in time.
  CHECK_FALSE(writing->done);
  CHECK(pipe->written() >= 100);
  CHECK(pipe->written() <= 100 + 3);
  join();
  // In the end it goes on without more of them.
  while (!writing->done) {
    std::this_thread::sleep_for(std::chrono::milliseconds{1});
    t.settle();
  }
  REQUIRE(*writing->result);
  CHECK(pipe->open_reader().error().code == Errc::unsupported);
  REQUIRE(writer->complete());
  t.settle();
  for (const auto& read : reading) CHECK(read->result->value() == data);
  REQUIRE(pipe->finish({}));
}

TEST_CASE("Pipe: a reader that holds up the others of an unstored one is cut off", "[streamcache]") {
  PipeParams params = unstored_params(16);
  params.unstored_patience = std::chrono::milliseconds{1};
  PipeFixture t;
  const auto [pipe, writer] = without_file(t, params);
  auto fast = t.reader(pipe);
  auto slow = t.reader(pipe);
  const std::string data = pattern(200);
  const auto writing = t.start(write_pieces(writer, data, 3));
  const auto reading = t.start(read_all(*fast));
  while (!writing->done) {
    std::this_thread::sleep_for(std::chrono::milliseconds{1});
    t.settle();
  }
  REQUIRE(*writing->result);
  REQUIRE(writer->complete());
  REQUIRE(pipe->finish({}));
  t.settle();
  CHECK(reading->result->value() == data);
  const Drained cut = t.run(drain(*slow));
  REQUIRE(cut.error);
  CHECK(cut.error->code == Errc::overloaded);
}

TEST_CASE("Pipe: an unstored one whose readers are all cut off is given up", "[streamcache][doors]") {
  PipeParams params = unstored_params(16);
  params.unstored_patience = std::chrono::milliseconds{1};
  PipeFixture t;
  const auto [pipe, writer] = without_file(t, params);
  auto fast = t.reader(pipe);
  auto slow = t.reader(pipe);
  const auto writing = t.start(write_pieces(writer, pattern(1000), 3));
  // Far more than the window, so the other one is cut off.
  for (std::size_t had = 0; had < 200;) {
    const auto reading = t.start(read_some(*fast, 200));
    while (!reading->done) {
      std::this_thread::sleep_for(std::chrono::milliseconds{1});
      t.settle();
    }
    REQUIRE(*reading->result);
    had += reading->result->value().size();
  }
  CHECK_FALSE(writing->done);
  // The other one was cut off, and has not noticed it: its client takes nothing.
  fast->close();
  // The writer notices when its patience is over.
  while (!writing->done) {
    std::this_thread::sleep_for(std::chrono::milliseconds{1});
    t.settle();
  }
  CHECK(writing->result->error().code == Errc::abandoned);
  CHECK(writer->given_up());
  CHECK(pipe->written() < 1000);
  const Drained cut = t.run(drain(*slow));
  REQUIRE(cut.error);
  CHECK(cut.error->code == Errc::overloaded);
}

TEST_CASE("FileCache: a file that was brought for a fill that is cancelled is given back", "[streamcache]") {
  CacheFixture t(cache_params(std::nullopt, false));
  const runtime::Path path = t.directory.path() / "part";
  {
    std::ofstream(path) << "part";
  }
  std::atomic<int> given_back{0};
  const auto open = [&]() -> Result<OpenedFile> {
    // The program is asked to end while the disk opens it.
    t.fills.cancel();
    return OpenedFile{*t.posix.open_write(path), path, 4, [&](const OpenedFile& file) {
                        given_back += file.part_bytes == 4 ? 1 : 0;
                        return true;
                      }};
  };
  const auto looking = t.start(t.cache->find_or_create("key", must_not_run(), open));
  t.settle();
  REQUIRE(looking->done);
  CHECK(looking->result->error().code == Errc::cancelled);
  CHECK(given_back == 1);
  CHECK(t.file_count() == 1);
}

TEST_CASE("FileCache: a look-up brings the file", "[streamcache]") {
  CacheFixture t(cache_params(std::nullopt, false));
  const runtime::Path path = t.directory.path() / "brought";
  const auto open = [&]() -> Result<OpenedFile> {
    Result<runtime::File> file = t.filesystem.create(path);
    if (!file) return file.error();
    return OpenedFile{*std::move(file), path, 0, {}};
  };
  Result<Lookup> found = t.run(t.cache->find_or_create("key", text("abc"), open));
  REQUIRE(found);
  CHECK(t.read(*found->stream) == "abc");
  t.settle();
  // Nobody has released it, so it is removed like the cache's own.
  CHECK(t.file_count() == 0);
}

}  // namespace sluice::streamcache
