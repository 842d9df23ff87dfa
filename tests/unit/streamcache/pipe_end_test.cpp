// How a pipe begins and ends: holding back, failures, cancellations, sizes, parts.
#include <cerrno>

#include "pipe_fixture.hpp"
#include "streamcache/pipe.hpp"

namespace sluice::streamcache {

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

TEST_CASE("Pipe: readers have everything once it is complete, before it is stored", "[streamcache]") {
  for (const bool known : {true, false}) {
    for (const bool stored : {true, false}) {
      PipeFixture t;
      PipeParams params = with_window(1);
      params.hold_back_bytes = 1;
      const auto pipe = t.pipe(params);
      const auto writer = std::make_shared<Writer>(pipe);
      auto stream = t.reader(pipe);
      if (known) writer->set_size(3);
      const auto read = t.start(read_all(*stream));
      const auto ended = t.start(stream->wait());
      const auto sized = t.start(stream->wait_size());
      const auto writing = t.start(write_pieces(writer, "abc", 1));
      t.settle();
      REQUIRE(writing->done);
      CHECK_FALSE(read->done);
      CHECK(sized->done == known);
      REQUIRE(writer->complete());
      t.settle();
      CHECK(read->result->value() == "abc");
      CHECK(sized->result->value() == std::optional<std::uint64_t>(3));
      CHECK_FALSE(ended->done);
      CHECK_FALSE(pipe->ended());
      // Who comes now has it as well, and nobody's leaving is a loss.
      auto late = t.reader(pipe);
      CHECK(t.run(read_all(*late)).value() == "abc");
      auto later = t.reader(pipe);
      stream->close();
      late->close();
      CHECK_FALSE(writer->given_up());
      CHECK(t.run(writer->write(bytes_of("d"))).error().code == Errc::closed);
      CHECK(writer->complete().error().code == Errc::closed);
      (void)pipe->finish(stored ? Result<void>{} : Result<void>(Error(Errc::io, "rename")));
      t.settle();
      CHECK(ended->result->has_value() == stored);
      CHECK(t.run(read_all(*later)).value() == "abc");
    }
  }
}

TEST_CASE("Pipe: what is not whole is not complete", "[streamcache]") {
  PipeFixture t;
  const auto pipe = t.pipe(with_window(std::nullopt));
  const auto writer = std::make_shared<Writer>(pipe);
  auto stream = t.reader(pipe);
  writer->set_size(4);
  REQUIRE(t.run(write_pieces(writer, "abc", 3)));
  CHECK(writer->complete().error().code == Errc::size_mismatch);
  REQUIRE(t.run(write_pieces(writer, "d", 1)));
  CHECK(writer->complete());
  REQUIRE(pipe->finish({}));
}

TEST_CASE("Pipe: a fill that waits elsewhere hears that it is given up", "[streamcache]") {
  PipeFixture t;
  SECTION("by its last reader") {
    const auto pipe = t.pipe(with_window(1));
    const auto writer = std::make_shared<Writer>(pipe);
    auto one = t.reader(pipe);
    auto two = t.reader(pipe);
    const auto waiting = t.start(writer->wait_abandoned());
    one->close();
    t.settle();
    CHECK_FALSE(waiting->done);
    CHECK_FALSE(writer->given_up());
    two->close();
    t.settle();
    CHECK(waiting->done);
    CHECK(writer->given_up());
    (void)pipe->finish(Error(Errc::abandoned));
  }
  SECTION("not where it is to finish") {
    const auto pipe = t.pipe(with_window(1, Abandoned::finish));
    const auto writer = std::make_shared<Writer>(pipe);
    auto one = t.reader(pipe);
    const auto waiting = t.start(writer->wait_abandoned());
    one->close();
    t.settle();
    CHECK_FALSE(waiting->done);
    REQUIRE(pipe->finish({}));
    t.settle();
    CHECK(waiting->done);
    CHECK_FALSE(writer->given_up());
  }
  SECTION("or is cancelled") {
    const auto pipe = t.pipe(with_window(1));
    const auto writer = std::make_shared<Writer>(pipe);
    auto one = t.reader(pipe);
    const auto waiting = t.start(writer->wait_abandoned());
    t.settle();
    waiting->cancel();
    t.settle();
    CHECK(waiting->result->error().code == Errc::cancelled);
  }
}

TEST_CASE("Pipe: a disk without space fails the write, and the fill with it", "[streamcache]") {
  using Operation = runtime::FaultyFilesystem::Operation;
  PipeFixture t;
  const auto pipe = t.pipe(with_window(std::nullopt));
  const auto writer = std::make_shared<Writer>(pipe);
  auto stream = t.reader(pipe);
  REQUIRE(t.run(write_pieces(writer, "abc", 3)));
  t.filesystem.set_rule(
      [](Operation operation, const runtime::Path&) { return operation == Operation::write_at ? ENOSPC : 0; });
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
