// How a pipe flows: back-pressure, joining, leaving.
#include "streamcache/pipe.hpp"

#include <thread>

#include "pipe_fixture.hpp"

namespace sluice::streamcache {

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

TEST_CASE("Pipe: many readers are woken for larger steps while more comes", "[streamcache]") {
  constexpr std::uint64_t kMiB = 1 << 20;
  PipeFixture t;
  const std::string quarter = pattern(kMiB / 4);
  const auto pipe = t.pipe(with_window(8 * kMiB));
  const auto writer = std::make_shared<Writer>(pipe);
  std::vector<std::unique_ptr<Stream>> readers;
  for (int i = 0; i < 8; ++i) readers.push_back(t.reader(pipe));
  const auto write = [&](Writer::Next next) { return t.run(writer->write(bytes_of(quarter), next)).has_value(); };
  const auto readable = [&] { return readers.front()->readable(); };
  // The first ones of a blob come at once.
  for (std::uint64_t i = 1; i <= 4; ++i) {
    REQUIRE(write(Writer::Next::is_there));
    CHECK(readable() == i * kMiB / 4);
  }
  for (int i = 0; i < 3; ++i) REQUIRE(write(Writer::Next::is_there));
  CHECK(readable() == kMiB);
  CHECK(pipe->written() == 7 * kMiB / 4);
  REQUIRE(write(Writer::Next::is_there));
  CHECK(readable() == 2 * kMiB);

  SECTION("a pause") {
    REQUIRE(write(Writer::Next::is_there));
    writer->show();
    CHECK(readable() == pipe->written());
    REQUIRE(write(Writer::Next::may_take_long));
    CHECK(readable() == pipe->written());
  }
  SECTION("a full window") {
    for (int i = 0; i < 23; ++i) REQUIRE(write(Writer::Next::is_there));
    CHECK(readable() < pipe->written());
    REQUIRE(write(Writer::Next::is_there));
    const auto waits = t.start(writer->wait_window());
    t.settle();
    CHECK_FALSE(waits->done);
    CHECK(readable() == pipe->written());
    readers.clear();
    t.settle();
  }
  SECTION("a failure") {
    REQUIRE(write(Writer::Next::is_there));
    CHECK_FALSE(pipe->finish(Error(Errc::upstream_failed, "gone")));
    CHECK(readable() == pipe->written());
  }
  SECTION("few readers") {
    readers.pop_back();
    REQUIRE(write(Writer::Next::is_there));
    CHECK(readable() == pipe->written());
  }
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

}  // namespace sluice::streamcache
