#include "streamcache/pipe.hpp"

#include <cerrno>
#include <thread>

#include "fixture.hpp"

namespace sluice::streamcache {
namespace {

struct PipeFixture : Fixture {
  int files = 0;

  std::unique_ptr<Storage> storage() {
    const runtime::Path path = directory.path() / fmt::format("file-{}", ++files);
    return make_file_storage(*filesystem.create(path), path, filesystem, disk);
  }
  std::shared_ptr<Pipe> pipe(const PipeParams& params) {
    auto made = std::make_shared<Pipe>(params, clock, metrics);
    made->open(storage());
    return made;
  }
  std::unique_ptr<Stream> reader(const std::shared_ptr<Pipe>& from) { return from->open_reader().value(); }
  auto produce(const std::shared_ptr<Pipe>& into, std::string data, std::size_t piece = 1) {
    return start(write_pieces(std::make_shared<Writer>(into), std::move(data), piece));
  }
};

PipeParams with_window(std::optional<std::uint64_t> window, Abandoned abandoned = Abandoned::fail) {
  PipeParams params;
  params.window_bytes = window;
  params.abandoned = abandoned;
  return params;
}

const std::vector<std::optional<std::uint64_t>> kWindows{std::optional<std::uint64_t>(1), std::nullopt};

}  // namespace

TEST_CASE("Pipe: ten readers get 4096 single bytes alike", "[streamcache]") {
  for (const auto& window : kWindows) {
    PipeFixture t;
    const auto pipe = t.pipe(with_window(window));
    const std::string data = pattern(4096);
    std::vector<std::unique_ptr<Stream>> streams;
    std::vector<std::shared_ptr<Running<Result<std::string>>>> reads;
    for (int i = 0; i < 10; ++i) {
      streams.push_back(t.reader(pipe));
      reads.push_back(t.start(read_all(*streams.back(), 7)));
    }
    const auto writing = t.produce(pipe, data);
    t.settle();
    REQUIRE(writing->done);
    REQUIRE(pipe->finish(*writing->result));
    t.settle();
    for (const auto& read : reads) {
      REQUIRE(read->result);
      CHECK(read->result->value() == data);
    }
  }
}

TEST_CASE("Pipe: whoever opens it after the end gets everything", "[streamcache]") {
  for (const auto& window : kWindows) {
    PipeFixture t;
    const auto pipe = t.pipe(with_window(window));
    auto first = t.reader(pipe);
    const auto read = t.start(read_all(*first));
    const auto writing = t.produce(pipe, "some data", 4);
    t.settle();
    REQUIRE(pipe->finish({}));
    t.settle();
    CHECK(read->result->value() == "some data");
    first->close();
    for (int i = 0; i < 3; ++i) {
      auto again = t.reader(pipe);
      CHECK(t.run(read_all(*again)).value() == "some data");
      CHECK(t.run(again->wait()));
    }
    // The writer cannot go on after the end.
    const Result<void> late = t.run(write_pieces(std::make_shared<Writer>(pipe), "x", 1));
    REQUIRE_FALSE(late);
    CHECK(late.error().code == Errc::closed);
    CHECK(pipe->written() == 9);
    // The first end counts.
    CHECK(pipe->finish(Error(Errc::io)));
  }
}

TEST_CASE("Pipe: the writer waits beyond the window", "[streamcache]") {
  PipeFixture t;
  const auto pipe = t.pipe(with_window(1));
  auto stream = t.reader(pipe);
  const auto writing = t.produce(pipe, "abcdef");
  t.settle();
  CHECK(pipe->written() == 1);
  CHECK(t.run(read_some(*stream, 1)).value() == "a");
  t.settle();
  CHECK(pipe->written() == 2);
  t.settle();
  CHECK(pipe->written() == 2);
  CHECK(t.run(read_some(*stream, 1)).value() == "b");
  t.settle();
  CHECK(pipe->written() == 3);
  CHECK_FALSE(writing->done);
  stream->close();
  t.settle();
  CHECK(writing->done);
}

TEST_CASE("Pipe: without a window the writer finishes unread", "[streamcache]") {
  PipeFixture t;
  const auto pipe = t.pipe(with_window(std::nullopt));
  auto stream = t.reader(pipe);
  const auto writing = t.produce(pipe, pattern(1000));
  t.settle();
  REQUIRE(writing->result);
  CHECK(*writing->result);
  CHECK(pipe->written() == 1000);
}

TEST_CASE("Pipe: a window of several writes is used in full", "[streamcache]") {
  PipeFixture t;
  const auto pipe = t.pipe(with_window(10));
  auto stream = t.reader(pipe);
  const auto writing = t.produce(pipe, pattern(100), 4);
  t.settle();
  CHECK(pipe->written() == 12);  // begun below 10, never split
  stream->advance(2);
  t.settle();
  CHECK(pipe->written() == 12);
  stream->advance(3);
  t.settle();
  CHECK(pipe->written() == 16);
  // A mark does not go back.
  stream->advance(1);
  t.settle();
  CHECK(pipe->mark().position() == 3);
  stream->advance(1000);
  t.settle();
  CHECK(writing->done);
}

TEST_CASE("Pipe: a zero window is one of a byte", "[streamcache]") {
  PipeFixture t;
  const auto pipe = t.pipe(with_window(0));
  auto stream = t.reader(pipe);
  const auto writing = t.produce(pipe, "ab");
  t.settle();
  CHECK(pipe->written() == 1);
  stream->close();
  t.settle();
}

TEST_CASE("Pipe: it survives its first reader, not its last", "[streamcache]") {
  for (const auto& window : kWindows) {
    PipeFixture t;
    const auto pipe = t.pipe(with_window(window));
    const auto writer = std::make_shared<Writer>(pipe);
    auto first = t.reader(pipe);
    auto second = t.reader(pipe);
    CHECK(pipe->readers() == 2);
    REQUIRE(t.run(write_pieces(writer, "a", 1)));
    CHECK(t.run(read_some(*first, 1)).value() == "a");
    first->close();
    first->close();
    CHECK(pipe->readers() == 1);
    CHECK_FALSE(writer->abandoned());
    REQUIRE(t.run(write_pieces(writer, "b", 1)));
    CHECK(t.run(read_some(*second, 5)).value() == "ab");
    second.reset();
    CHECK(writer->abandoned());
    const Result<void> late = t.run(write_pieces(writer, "c", 1));
    REQUIRE_FALSE(late);
    CHECK(late.error().code == Errc::abandoned);
    CHECK(pipe->written() == 2);
    // Nobody may join what is being given up.
    const auto joined = pipe->open_reader();
    REQUIRE_FALSE(joined);
    CHECK(joined.error().code == Errc::abandoned);
    // A producer that overlooks the error has not written everything.
    const Result<void> end = pipe->finish({});
    REQUIRE_FALSE(end);
    CHECK(end.error().code == Errc::abandoned);
    CHECK_FALSE(pipe->open_reader());
  }
}

TEST_CASE("Pipe: a waiting writer fails when the last reader leaves", "[streamcache]") {
  PipeFixture t;
  const auto pipe = t.pipe(with_window(1));
  auto first = t.reader(pipe);
  auto second = t.reader(pipe);
  const auto writing = t.produce(pipe, "abc");
  t.settle();
  CHECK_FALSE(writing->done);
  first.reset();
  t.settle();
  CHECK_FALSE(writing->done);
  second.reset();
  t.settle();
  REQUIRE(writing->result);
  CHECK(writing->result->error().code == Errc::abandoned);
}

TEST_CASE("Pipe: an empty one is read like any other", "[streamcache]") {
  for (const auto& window : kWindows) {
    PipeFixture t;
    const auto pipe = t.pipe(with_window(window));
    auto stream = t.reader(pipe);
    const auto read = t.start(read_all(*stream));
    const auto size = t.start(stream->wait_size());
    t.settle();
    CHECK_FALSE(read->done);
    REQUIRE(pipe->finish({}));
    t.settle();
    CHECK(read->result->value().empty());
    CHECK(size->result->value() == std::optional<std::uint64_t>(0));
    CHECK(t.run(read_all(*t.reader(pipe))).value().empty());
  }
}

TEST_CASE("Pipe: a hundred openings race with the end of both sides", "[streamcache]") {
  PipeFixture t;
  runtime::LoopPool loops(3);
  loops.start();
  struct Racer {
    static Task<void> open(std::shared_ptr<Pipe> pipe, std::string expected, std::atomic<int>& wrong) {
      auto stream = pipe->open_reader();
      if (!stream) co_return;  // lost the race against the last reader
      const Result<std::string> got = co_await read_all(**stream);
      if (!got || *got != expected) ++wrong;
    }
    static Task<void> write(std::shared_ptr<Pipe> pipe, std::string data) {
      const Result<void> written = co_await write_pieces(std::make_shared<Writer>(pipe), std::move(data), 3);
      (void)pipe->finish(written);
    }
  };
  for (int round = 0; round < 20; ++round) {
    runtime::TaskGroup group("racers");
    std::atomic<int> wrong{0};
    const auto pipe = t.pipe(with_window(round % 2 == 0 ? std::optional<std::uint64_t>(1) : std::nullopt));
    const std::string data = pattern(30);
    auto first = t.reader(pipe);
    group.spawn(loops.at(0).get_executor(), Racer::write(pipe, data));
    for (std::size_t i = 0; i < 100; ++i) {
      group.spawn(loops.at(i % 3).get_executor(), Racer::open(pipe, data, wrong));
    }
    first.reset();
    REQUIRE(group.wait_for(std::chrono::seconds{100}));
    // Whoever got in had the data, or was in a fill that ended well without more writes.
    if (pipe->open_reader()) CHECK(wrong == 0);
    CHECK(pipe->readers() == 0);
  }
}

TEST_CASE("Pipe: when the front-runner leaves, a survivor has to catch up", "[streamcache]") {
  PipeFixture t;
  const auto pipe = t.pipe(with_window(4));
  auto fast = t.reader(pipe);
  auto slow = t.reader(pipe);
  const auto writing = t.produce(pipe, pattern(100));
  t.settle();
  fast->advance(20);
  t.settle();
  CHECK(pipe->written() == 24);
  fast->close();
  t.settle();
  CHECK(pipe->written() == 24);
  slow->advance(20);
  t.settle();
  CHECK(pipe->written() == 24);
  slow->advance(21);
  t.settle();
  CHECK(pipe->written() == 25);
  slow->close();
  t.settle();
  CHECK(writing->done);
}

TEST_CASE("Pipe: a stalled reader holds up nobody", "[streamcache]") {
  PipeFixture t;
  const auto pipe = t.pipe(with_window(1));
  auto stalled = t.reader(pipe);
  auto reading = t.reader(pipe);
  const std::string data = pattern(500);
  const auto writing = t.produce(pipe, data);
  const auto read = t.start(read_all(*reading));
  t.settle();
  REQUIRE(writing->done);
  REQUIRE(pipe->finish(*writing->result));
  t.settle();
  CHECK(read->result->value() == data);
  CHECK(t.run(read_all(*stalled)).value() == data);
}

TEST_CASE("Pipe: a reader that starts in the middle pulls the writer there", "[streamcache]") {
  PipeFixture t;
  const auto pipe = t.pipe(with_window(4));
  auto stream = t.reader(pipe);
  const auto writing = t.produce(pipe, pattern(100));
  const auto wait = t.start(stream->wait_readable(50));
  t.settle();
  REQUIRE(wait->result);
  CHECK(wait->result->value() > 50);
  CHECK(pipe->written() == 54);
  stream->close();
  t.settle();
}

TEST_CASE("Pipe: whoever has read the known size may leave", "[streamcache]") {
  for (const std::uint64_t hold_back : {std::uint64_t{0}, std::uint64_t{1}}) {
    PipeFixture t;
    PipeParams params = with_window(8);
    params.hold_back_bytes = hold_back;
    const auto pipe = t.pipe(params);
    const auto writer = std::make_shared<Writer>(pipe);
    auto stream = t.reader(pipe);
    writer->set_size(4);
    REQUIRE(t.run(write_pieces(writer, "abc", 3)));
    if (hold_back == 0) REQUIRE(t.run(write_pieces(writer, "d", 1)));
    CHECK(t.run(read_some(*stream, 10)).value() == (hold_back == 0 ? "abcd" : "abc"));
    stream.reset();
    // Even the byte that nobody saw may still come.
    if (hold_back == 1) REQUIRE(t.run(write_pieces(writer, "d", 1)));
    REQUIRE(pipe->finish({}));
    CHECK(t.run(read_all(*t.reader(pipe))).value() == "abcd");
  }
}

TEST_CASE("Pipe: leaving after the last write fails nobody, also where the size is unknown", "[streamcache]") {
  PipeFixture t;
  const auto pipe = t.pipe(with_window(1));
  auto stream = t.reader(pipe);
  REQUIRE(t.run(write_pieces(std::make_shared<Writer>(pipe), "abcd", 4)));
  CHECK(t.run(read_some(*stream, 10)).value() == "abcd");
  stream.reset();
  REQUIRE(pipe->finish({}));
  CHECK(t.run(read_all(*t.reader(pipe))).value() == "abcd");
}

TEST_CASE("Pipe: leaving short of the known size fails the fill", "[streamcache]") {
  PipeFixture t;
  const auto pipe = t.pipe(with_window(8));
  const auto writer = std::make_shared<Writer>(pipe);
  auto stream = t.reader(pipe);
  writer->set_size(4);
  REQUIRE(t.run(write_pieces(writer, "abc", 3)));
  CHECK(t.run(read_some(*stream, 10)).value() == "abc");
  stream.reset();
  CHECK(t.run(write_pieces(writer, "d", 1)).error().code == Errc::abandoned);
}

TEST_CASE("Pipe: what is held back shows only after success", "[streamcache]") {
  PipeFixture t;
  PipeParams params = with_window(std::nullopt);
  params.hold_back_bytes = 1;
  const auto pipe = t.pipe(params);
  const auto writer = std::make_shared<Writer>(pipe);
  auto stream = t.reader(pipe);
  REQUIRE(t.run(write_pieces(writer, "abc", 3)));
  CHECK(stream->readable() == 2);
  // With the size known, it is the end of the whole that is held back.
  writer->set_size(5);
  CHECK(stream->readable() == 3);
  REQUIRE(t.run(write_pieces(writer, "de", 2)));
  CHECK(stream->readable() == 4);
  const auto read = t.start(read_all(*stream));
  t.settle();
  CHECK_FALSE(read->done);
  REQUIRE(pipe->finish({}));
  t.settle();
  CHECK(read->result->value() == "abcde");
}

TEST_CASE("Pipe: what is held back is never shown after a failure", "[streamcache]") {
  for (const bool known : {true, false}) {
    PipeFixture t;
    PipeParams params = with_window(std::nullopt);
    params.hold_back_bytes = 2;
    const auto pipe = t.pipe(params);
    const auto writer = std::make_shared<Writer>(pipe);
    auto stream = t.reader(pipe);
    if (known) writer->set_size(5);
    REQUIRE(t.run(write_pieces(writer, "abcde", 5)));
    (void)pipe->finish(Error(Errc::digest_mismatch));
    const Drained got = t.run(drain(*stream));
    CHECK(got.text == "abc");
    REQUIRE(got.error);
    CHECK(got.error->code == Errc::digest_mismatch);
  }
}

TEST_CASE("Pipe: holding back does not lock up a small window", "[streamcache]") {
  for (const std::uint64_t hold_back : {1, 2, 10}) {
    for (const bool known : {true, false}) {
      PipeFixture t;
      PipeParams params = with_window(1);
      params.hold_back_bytes = hold_back;
      const auto pipe = t.pipe(params);
      auto stream = t.reader(pipe);
      const std::string data = pattern(50);
      if (known) Writer(pipe).set_size(50);
      const auto read = t.start(read_all(*stream));
      const auto writing = t.produce(pipe, data);
      t.settle();
      REQUIRE(writing->done);
      REQUIRE(pipe->finish(*writing->result));
      t.settle();
      CHECK(read->result->value() == data);
    }
  }
}

TEST_CASE("Pipe: on failure readers get what there is, then the error", "[streamcache]") {
  for (const auto& window : kWindows) {
    PipeFixture t;
    const auto pipe = t.pipe(with_window(window));
    auto reading = t.reader(pipe);
    auto late = t.reader(pipe);
    const auto read = t.start(drain(*reading));
    const auto waiting = t.start(reading->wait());
    const auto sizing = t.start(reading->wait_size());
    const auto writing = t.produce(pipe, "abc");
    t.settle();
    CHECK_FALSE(waiting->done);
    CHECK_FALSE(sizing->done);
    (void)pipe->finish(Error(Errc::upstream_failed, "502"));
    t.settle();
    CHECK(read->result->text == "abc");
    CHECK(read->result->error->code == Errc::upstream_failed);
    CHECK(waiting->result->error().code == Errc::upstream_failed);
    CHECK(sizing->result->error().code == Errc::upstream_failed);
    CHECK(t.run(drain(*late)).text == "abc");
    // The result outlives the reading.
    late->close();
    CHECK(t.run(late->wait()).error().message == "502");
    CHECK(t.run(late->wait_readable(0)).error().code == Errc::closed);
    CHECK(pipe->open_reader().error().code == Errc::upstream_failed);
  }
}

TEST_CASE("Pipe: a disk without space fails the write, and the fill with it", "[streamcache]") {
  using Operation = runtime::FaultyFilesystem::Operation;
  PipeFixture t;
  const auto pipe = t.pipe(with_window(std::nullopt));
  const auto writer = std::make_shared<Writer>(pipe);
  auto stream = t.reader(pipe);
  REQUIRE(t.run(write_pieces(writer, "abc", 3)));
  t.filesystem.set_rule([](Operation operation, const runtime::Path&) { return operation == Operation::write_at ? ENOSPC : 0; });
  const Result<void> full = t.run(write_pieces(writer, "def", 3));
  REQUIRE_FALSE(full);
  CHECK(full.error().code == Errc::no_space);
  CHECK(pipe->written() == 3);
  t.filesystem.set_rule({});
  // There is a hole now, so no later write is taken and no success believed.
  CHECK(t.run(write_pieces(writer, "ghi", 3)).error().code == Errc::no_space);
  CHECK(pipe->finish({}).error().code == Errc::no_space);
  const Drained got = t.run(drain(*stream));
  CHECK(got.text == "abc");
  CHECK(got.error->code == Errc::no_space);
}

TEST_CASE("Pipe: a wrong size is no success", "[streamcache]") {
  PipeFixture t;
  const auto pipe = t.pipe(with_window(std::nullopt));
  const auto writer = std::make_shared<Writer>(pipe);
  auto stream = t.reader(pipe);
  writer->set_size(4);
  REQUIRE(t.run(write_pieces(writer, "abc", 3)));
  CHECK(pipe->finish({}).error().code == Errc::size_mismatch);
}

TEST_CASE("Pipe: the size is told when it is known", "[streamcache]") {
  PipeFixture t;
  SECTION("announced") {
    const auto pipe = t.pipe(with_window(std::nullopt));
    auto stream = t.reader(pipe);
    const auto wait = t.start(stream->wait_size());
    t.settle();
    CHECK_FALSE(wait->done);
    Writer(pipe).set_size(12);
    Writer(pipe).set_size(13);
    t.settle();
    CHECK(wait->result->value() == std::optional<std::uint64_t>(12));
  }
  SECTION("known to be unknown, until the end") {
    const auto pipe = t.pipe(with_window(std::nullopt));
    auto stream = t.reader(pipe);
    const auto wait = t.start(stream->wait_size());
    t.settle();
    Writer(pipe).set_size(std::nullopt);
    t.settle();
    CHECK(wait->result->value() == std::nullopt);
    REQUIRE(t.run(write_pieces(std::make_shared<Writer>(pipe), "abc", 3)));
    REQUIRE(pipe->finish({}));
    CHECK(t.run(stream->wait_size()).value() == std::optional<std::uint64_t>(3));
  }
}

TEST_CASE("Pipe: every wait of a reader can be cancelled", "[streamcache]") {
  PipeFixture t;
  const auto pipe = t.pipe(with_window(1));
  auto stream = t.reader(pipe);
  auto other = t.reader(pipe);
  const auto reading = t.start(read_some(*stream, 1));
  const auto readable = t.start(stream->wait_readable(0));
  const auto sizing = t.start(stream->wait_size());
  const auto waiting = t.start(stream->wait());
  const auto unaffected = t.start(read_some(*other, 1));
  t.settle();
  reading->cancel();
  readable->cancel();
  sizing->cancel();
  waiting->cancel();
  t.settle();
  CHECK(reading->result->error().code == Errc::cancelled);
  CHECK(readable->result->error().code == Errc::cancelled);
  CHECK(sizing->result->error().code == Errc::cancelled);
  CHECK(waiting->result->error().code == Errc::cancelled);
  CHECK_FALSE(unaffected->done);
  REQUIRE(t.run(write_pieces(std::make_shared<Writer>(pipe), "a", 1)));
  t.settle();
  CHECK(unaffected->result->value() == "a");
  // The stream can still be used.
  CHECK(t.run(read_some(*stream, 1)).value() == "a");
}

TEST_CASE("Pipe: a waiting writer can be cancelled", "[streamcache]") {
  PipeFixture t;
  const auto pipe = t.pipe(with_window(1));
  auto stream = t.reader(pipe);
  const auto writing = t.produce(pipe, "abc");
  t.settle();
  CHECK_FALSE(writing->done);
  writing->cancel();
  t.settle();
  CHECK(writing->result->error().code == Errc::cancelled);
  CHECK(pipe->finish({}).error().code == Errc::cancelled);
}

TEST_CASE("Pipe: an abandoned one runs free where it is told to finish", "[streamcache]") {
  PipeFixture t;
  const auto pipe = t.pipe(with_window(1, Abandoned::finish));
  auto first = t.reader(pipe);
  const std::string data = pattern(100);
  const auto writing = t.produce(pipe, data);
  t.settle();
  CHECK(pipe->written() == 1);
  first.reset();
  t.settle();
  REQUIRE(writing->result);
  CHECK(*writing->result);
  REQUIRE(pipe->finish({}));
  CHECK(t.run(read_all(*t.reader(pipe))).value() == data);
}

TEST_CASE("Pipe: one that finishes for nobody can be joined again, and waits again", "[streamcache]") {
  PipeFixture t;
  const auto pipe = t.pipe(with_window(2, Abandoned::finish));
  const auto writer = std::make_shared<Writer>(pipe);
  t.reader(pipe).reset();
  CHECK(writer->abandoned());
  REQUIRE(t.run(write_pieces(writer, "abcdef", 1)));
  auto joined = t.reader(pipe);
  const auto waiting = t.start(writer->wait_window());
  t.settle();
  CHECK_FALSE(waiting->done);
  joined->advance(5);
  t.settle();
  CHECK(waiting->done);
  REQUIRE(pipe->finish({}));
  CHECK(t.run(read_all(*joined)).value() == "abcdef");
}

TEST_CASE("Pipe: how long the writer waited is counted", "[streamcache]") {
  PipeFixture t;
  const auto pipe = t.pipe(with_window(1));
  auto stream = t.reader(pipe);
  const auto writing = t.produce(pipe, "ab");
  t.settle();
  t.clock.advance(std::chrono::milliseconds{1500});
  CHECK(t.run(read_some(*stream, 1)).value() == "a");
  t.settle();
  CHECK(writing->done);
  CHECK(t.metric("sluice_fill_backpressure_wait_seconds_total") == Approx(1.5));
  CHECK(t.metric("sluice_fill_readers") == 1);
  stream.reset();
  CHECK(t.metric("sluice_fill_readers") == 0);
}

TEST_CASE("Pipe: readers who join before it is open wait for it", "[streamcache]") {
  PipeFixture t;
  const auto pipe = std::make_shared<Pipe>(with_window(1), t.clock, t.metrics);
  auto stream = t.reader(pipe);
  const auto opened = t.start(stream->wait_open());
  const auto read = t.start(read_all(*stream));
  t.settle();
  CHECK_FALSE(opened->done);
  CHECK_FALSE(stream->file().is_open());
  pipe->open(t.storage());
  t.settle();
  CHECK(*opened->result);
  CHECK_FALSE(read->done);
  CHECK(stream->file().is_open());
  const auto writing = t.produce(pipe, "abc");
  t.settle();
  REQUIRE(pipe->finish({}));
  t.settle();
  CHECK(read->result->value() == "abc");
}

TEST_CASE("Pipe: one that never opens tells why", "[streamcache]") {
  PipeFixture t;
  const auto pipe = std::make_shared<Pipe>(with_window(1), t.clock, t.metrics);
  auto stream = t.reader(pipe);
  const auto opened = t.start(stream->wait_open());
  const auto read = t.start(read_all(*stream));
  t.settle();
  (void)pipe->finish(Error(Errc::no_space));
  t.settle();
  CHECK(opened->result->error().code == Errc::no_space);
  CHECK(read->result->error().code == Errc::no_space);
}

TEST_CASE("Pipe: a fill goes on from a part", "[streamcache]") {
  PipeFixture t;
  const auto pipe = t.pipe(with_window(2));
  const auto writer = std::make_shared<Writer>(pipe);
  auto stream = t.reader(pipe);
  const runtime::Path path = t.directory.path() / "part";
  runtime::File part = *t.filesystem.create(path);
  REQUIRE(t.filesystem.write_at(part, 0, bytes_of("abcde")));
  REQUIRE(writer->adopt(std::move(part), path, 5));
  CHECK(writer->path() == path);
  CHECK(writer->position() == 5);
  CHECK(stream->readable() == 5);
  const auto writing = t.start(write_pieces(writer, "fgh", 1));
  t.settle();
  CHECK_FALSE(writing->done);
  const auto read = t.start(read_all(*stream));
  t.settle();
  REQUIRE(pipe->finish({}));
  t.settle();
  CHECK(read->result->value() == "abcdefgh");
  CHECK(pipe->take_replaced() != nullptr);
  CHECK(pipe->take_replaced() == nullptr);
  CHECK(writer->adopt(runtime::File(), path, 1).error().code == Errc::closed);
}

TEST_CASE("Pipe: a file that lost its bytes is an error, not an end", "[streamcache]") {
  PipeFixture t;
  const auto pipe = t.pipe(with_window(std::nullopt));
  auto stream = t.reader(pipe);
  REQUIRE(t.run(write_pieces(std::make_shared<Writer>(pipe), "abc", 3)));
  REQUIRE(t.filesystem.truncate(pipe->file(), 1));
  CHECK(t.run(read_some(*stream, 3)).value() == "a");
  CHECK(t.run(read_some(*stream, 3)).error().code == Errc::io);
}

TEST_CASE("Pipe: readers on other loops than the writer's", "[streamcache]") {
  PipeFixture t;
  struct Reader {
    static Task<void> read(std::unique_ptr<Stream> stream, std::string expected, std::atomic<int>& right) {
      const Result<std::string> got = co_await read_all(*stream, 1024);
      if (got && *got == expected) ++right;
    }
    static Task<void> write(std::shared_ptr<Pipe> pipe, std::string data) {
      auto writer = std::make_shared<Writer>(pipe);
      writer->set_size(data.size());
      const Result<void> written = co_await write_pieces(std::move(writer), std::move(data), 512);
      (void)pipe->finish(written);
    }
  };
  for (const std::uint64_t window : {1, 2000, 100000}) {
    runtime::LoopPool loops(4);
    runtime::TaskGroup group("readers");
    loops.start();
    PipeParams params = with_window(window);
    params.hold_back_bytes = 1;
    const auto pipe = t.pipe(params);
    const std::string data = pattern(60000);
    std::atomic<int> right{0};
    for (std::size_t i = 0; i < 40; ++i) {
      group.spawn(loops.at(1 + i % 3).get_executor(), Reader::read(t.reader(pipe), data, right));
    }
    group.spawn(loops.at(0).get_executor(), Reader::write(pipe, data));
    REQUIRE(group.wait_for(std::chrono::seconds{100}));
    CHECK(right == 40);
  }
}

}  // namespace sluice::streamcache
