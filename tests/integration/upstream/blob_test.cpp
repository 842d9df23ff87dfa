#include "bench.hpp"

namespace sluice::upstream {
namespace {

TEST_CASE("open_blob: streams a blob", "[upstream]") {
  Bench bench;
  const std::string content = content_of(3 << 20);
  const std::string name = bench.origin.add_blob("app", content);
  const Download got = bench.get(name, 0, 256 << 10);
  REQUIRE_FALSE(got.opening);
  CHECK_FALSE(got.error);
  CHECK(got.bytes == content);
  CHECK(got.size == content.size());
  CHECK(got.offset == 0);
  CHECK(got.media_type == "application/octet-stream");

  const auto requests = bench.origin.requests();
  REQUIRE(requests.size() == 1);
  CHECK(requests[0].method == "GET");
  CHECK(requests[0].field("Accept-Encoding") == "identity");
  CHECK(requests[0].field("Range").empty());
  CHECK(requests[0].field("User-Agent") == "sluice/0.1.0");
  CHECK(requests[0].field("Host") == bench.origin.authority());
  CHECK(bench.metric("sluice_upstream_requests_total", "2xx") == 1);
  CHECK(bench.metric("sluice_upstream_received_bytes_total") == static_cast<double>(content.size()));
  CHECK(bench.metric("sluice_upstream_request_seconds") == 1);
  CHECK(bench.metric("sluice_upstream_connections") == 1);
}

TEST_CASE("open_blob: a 203, and a 206 that nobody asked for, are the whole where they have it", "[upstream]") {
  Bench bench;
  const std::string content = content_of(5000);
  const std::string name = bench.origin.add_blob("app", content);
  Reply reply;
  reply.body = content;
  reply.ranges = false;
  reply.status = 203;
  bench.origin.respond(Bench::blob(name), [&reply](const Request&) { return reply; });
  Download got = bench.get(name);
  CHECK_FALSE(got.opening);
  CHECK(got.bytes == content);
  CHECK(got.size == 5000U);
  CHECK(bench.stat(name)->size == 5000);

  reply.status = 206;
  reply.fields = {{"Content-Range", "bytes 0-4999/5000"}};
  got = bench.get(name);
  CHECK_FALSE(got.opening);
  CHECK_FALSE(got.error);
  CHECK(got.bytes == content);
  CHECK(got.size == 5000U);

  reply.fields = {{"Content-Range", "bytes 0-4999/9000"}};
  got = bench.get(name);
  REQUIRE(got.opening);
  CHECK(got.opening->code == Errc::upstream_protocol);
}

TEST_CASE("open_blob: the first bytes come before the last are there", "[upstream]") {
  Bench bench;
  const std::string content = content_of(1000);
  const std::string name = bench.origin.add_blob("app", content);
  Reply slow;
  slow.body = content;
  slow.gate = std::make_shared<Gate>(10);
  bench.origin.script(Bench::blob(name), slow);
  auto body = bench.loops.run(bench.registry().open_blob(repository("app"), digest(name), 0));
  REQUIRE(body);
  std::vector<std::byte> buffer(4096);
  const auto first = bench.loops.run((*body)->read(buffer));
  REQUIRE(first);
  CHECK(*first == 10);
  slow.gate->open();
  std::size_t total = *first;
  while (true) {
    const auto n = bench.loops.run((*body)->read(buffer));
    REQUIRE(n);
    if (*n == 0) break;
    total += *n;
  }
  CHECK(total == content.size());
  bench.loops.stop();  // before the body goes, which belongs to the loop
}

TEST_CASE("open_blob: resumes with a Range", "[upstream]") {
  Bench bench;
  const std::string content = content_of(10'000);
  const std::string name = bench.origin.add_blob("app", content);
  const Download got = bench.get(name, 4000);
  CHECK_FALSE(got.error);
  CHECK(got.offset == 4000);
  CHECK(got.size == content.size());
  CHECK(got.bytes == content.substr(4000));
  CHECK(bench.origin.requests().at(0).field("Range") == "bytes=4000-");
}

TEST_CASE("open_blob: upstream ignores the Range", "[upstream]") {
  Bench bench;
  const std::string content = content_of(10'000);
  const std::string name = bench.origin.add_blob("app", content);
  Reply whole;
  whole.body = content;
  whole.ranges = false;
  bench.origin.script(Bench::blob(name), whole);
  const Download got = bench.get(name, 4000);
  CHECK(got.offset == 0);
  CHECK(got.size == content.size());
  CHECK(got.bytes == content);
}

TEST_CASE("open_blob: no byte at that offset", "[upstream]") {
  Bench bench;
  const std::string name = bench.origin.add_blob("app", "short");
  const Download got = bench.get(name, 5);
  REQUIRE(got.opening);
  CHECK(got.opening->code == Errc::range_invalid);
}

TEST_CASE("open_blob: a 206 that does not fit", "[upstream]") {
  Bench bench;
  const std::string content = content_of(1000);
  const std::string name = bench.origin.add_blob("app", content);
  for (const char* range : {"bytes 0-899/1000", "bytes 101-999/1000", "bytes 100-998/1000", "bytes 100-999/900", "x"}) {
    INFO(range);
    Reply reply;
    reply.body = content;
    reply.content_range = range;
    bench.origin.script(Bench::blob(name), reply);
    const Download got = bench.get(name, 100);
    REQUIRE(got.opening);
    CHECK(got.opening->code == Errc::upstream_protocol);
  }
  Reply unasked;
  unasked.status = 206;
  unasked.body = content;
  unasked.content_range = "bytes 0-999/2000";
  bench.origin.script(Bench::blob(name), unasked);
  const Download got = bench.get(name);
  REQUIRE(got.opening);
  CHECK(got.opening->code == Errc::upstream_protocol);
}

TEST_CASE("open_blob: chunked and endless bodies", "[upstream]") {
  Bench bench;
  const std::string content = content_of(200'000);
  const std::string name = bench.origin.add_blob("app", content);
  for (const Framing framing : {Framing::chunked, Framing::until_close}) {
    Reply reply;
    reply.body = content;
    reply.framing = framing;
    bench.origin.script(Bench::blob(name), 2, reply);
    for (const std::size_t piece : {1000U, 262144U}) {
      const Download got = bench.get(name, 0, piece);
      CHECK_FALSE(got.error);
      CHECK_FALSE(got.size);
      CHECK(got.bytes == content);
    }
  }
  // Chunked connections are used again, those that end with the body are not.
  CHECK(bench.origin.seen().connections == 2);
}

TEST_CASE("open_blob: a chunked 206 is held against its Content-Range", "[upstream]") {
  Bench bench;
  const std::string content = content_of(1000);
  const std::string name = bench.origin.add_blob("app", content);
  Reply reply;
  reply.status = 206;
  reply.framing = Framing::chunked;
  reply.content_range = "bytes 100-999/1000";
  reply.body = content.substr(100, 800);
  bench.origin.script(Bench::blob(name), reply);
  Download got = bench.get(name, 100);
  REQUIRE(got.error);
  CHECK(got.error->code == Errc::size_mismatch);
  reply.body = content + content;
  bench.origin.script(Bench::blob(name), reply);
  got = bench.get(name, 100);
  REQUIRE(got.error);
  CHECK(got.error->code == Errc::size_mismatch);
}

TEST_CASE("open_blob: the connection breaks under the body", "[upstream]") {
  Bench bench;
  const std::string content = content_of(100'000);
  const std::string name = bench.origin.add_blob("app", content);
  for (const Framing framing : {Framing::content_length, Framing::chunked}) {
    for (const bool reset : {false, true}) {
      Reply cut;
      cut.body = content;
      cut.framing = framing;
      cut.cut_after = 40'000;
      cut.cut_with_reset = reset;
      bench.origin.script(Bench::blob(name), cut);
      const Download got = bench.get(name);
      CHECK_FALSE(got.opening);
      REQUIRE(got.error);
      CHECK(got.error->code == Errc::upstream_unreachable);
      if (!reset) CHECK(got.bytes == content.substr(0, 40'000));
    }
  }
}

TEST_CASE("open_blob: the announced length is a lie", "[upstream]") {
  Bench bench;
  const std::string content = content_of(1000);
  const std::string name = bench.origin.add_blob("app", content);
  SECTION("too long: the connection ends before it") {
    Reply reply;
    reply.body = content;
    reply.announced = 2000;
    reply.close_unannounced = true;
    bench.origin.script(Bench::blob(name), reply);
    const Download got = bench.get(name);
    REQUIRE(got.error);
    CHECK(got.error->code == Errc::upstream_unreachable);
    CHECK(got.size == 2000U);
    CHECK(got.bytes == content);
  }
  SECTION("too short: there is more behind it") {
    Reply reply;
    reply.body = content;
    reply.announced = 600;
    bench.origin.script(Bench::blob(name), reply);
    auto body = bench.loops.run(bench.registry().open_blob(repository("app"), digest(name), 0));
    REQUIRE(body);
    REQUIRE(bench.origin.wait_until([](const auto& seen) { return seen.body_bytes == 1000; }));
    std::vector<std::byte> buffer(1000);
    const auto got = bench.loops.run((*body)->read(buffer));
    const auto end = bench.loops.run((*body)->read(buffer));
    bench.loops.stop();
    // What the length says has come; whether that is the blob is for the digest to say.
    REQUIRE(got);
    CHECK(*got == 600);
    REQUIRE(end);
    CHECK(*end == 0);
  }
  SECTION("and such a connection is not used again") {
    Reply reply;
    reply.body = content;
    reply.behind_body = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    bench.origin.script(Bench::blob(name), reply);
    const Download whole = bench.get(name);
    CHECK_FALSE(whole.error);
    CHECK(whole.bytes == content);
    // What comes after the next request has been sent cannot be told from its answer; by then it has to be there.
    REQUIRE(bench.origin.wait_until([&](const auto& seen) { return seen.behind_bytes == reply.behind_body.size(); }));
    const Download next = bench.get(name);
    CHECK_FALSE(next.error);
    CHECK(next.bytes == content);
    CHECK(bench.origin.seen().connections == 2);
  }
}

TEST_CASE("open_blob: a corrupted byte is delivered, not noticed", "[upstream]") {
  Bench bench;
  const std::string content = content_of(1000);
  const std::string name = bench.origin.add_blob("app", content);
  Reply reply;
  reply.body = content;
  reply.corrupt_at = 500;
  bench.origin.script(Bench::blob(name), reply);
  const Download got = bench.get(name);
  CHECK_FALSE(got.error);
  CHECK(got.bytes.size() == content.size());
  CHECK(got.bytes != content);
}

TEST_CASE("open_blob: not a blob at all", "[upstream]") {
  Bench bench;
  const std::string name = bench.origin.add_blob("app", "content");
  std::vector<Reply> replies(2);
  replies[0].body = "";
  replies[1].status = 204;
  for (std::size_t i = 0; i < replies.size(); ++i) {
    INFO(i);
    bench.origin.script(Bench::blob(name), replies[i]);
    const Download got = bench.get(name);
    REQUIRE(got.opening);
    CHECK(got.opening->code == Errc::upstream_protocol);
  }
  const std::string empty = bench.origin.add_blob("app", "");
  const Download got = bench.get(empty);
  CHECK_FALSE(got.opening);
  CHECK_FALSE(got.error);
  CHECK(got.size == 0U);
}

TEST_CASE("open_blob: no field of an answer disqualifies its bytes", "[upstream]") {
  Bench bench;
  const std::string content = content_of(1000);
  const std::string name = bench.origin.add_blob("app", content);
  std::vector<Reply> replies(4);
  replies[0].fields = {{"Content-Type", "text/html; charset=utf-8"}};
  replies[1].fields = {{"Content-Encoding", "aws-chunked"}};
  replies[2].fields = {{"Docker-Content-Digest", ScriptedOrigin::digest_of("other")}};
  replies[3].fields = {{"Content-Length", "1000"}};  // a second time
  for (Reply& reply : replies) {
    INFO(reply.fields[0].second);
    reply.body = content;
    for (const std::uint64_t offset : {0U, 300U}) {
      // A 206 states its own length, from which a second one of the whole would differ.
      if (offset != 0 && &reply == &replies[3]) continue;
      bench.origin.script(Bench::blob(name), reply);
      const Download got = bench.get(name, offset);
      CHECK_FALSE(got.opening);
      CHECK_FALSE(got.error);
      CHECK(got.size == content.size());
      CHECK(got.bytes == content.substr(offset));
    }
  }
  CHECK(bench.metric("sluice_upstream_odd_answers_total") == 6);
  Reply list;
  list.raw = "HTTP/1.1 200 OK\r\nContent-Length: 1000, 1000\r\n\r\n" + content;
  bench.origin.script(Bench::blob(name), list);
  CHECK(bench.get(name).bytes == content);
  CHECK(bench.origin.requests().back().field("Accept-Encoding") == "identity");
}

TEST_CASE("open_blob: broken framing never becomes a blob", "[upstream]") {
  Bench bench;
  bench.params.retries = 0;
  const std::string name = bench.origin.add_blob("app", "content");
  for (const char* raw :
       {"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nContent-Length: 8\r\n\r\ncontent!",
        "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n7\r\ncontent\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 7\r\n\r\ncontent",
        "HTTP/1.1 200 OK\nContent-Length: 7\r\n\r\ncontent", "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n\r\n"}) {
    INFO(raw);
    Reply reply;
    reply.raw = raw;
    bench.origin.script(Bench::blob(name), reply);
    const Download got = bench.get(name);
    REQUIRE(got.opening);
    CHECK(got.opening->code == Errc::upstream_protocol);
  }
  Reply endless;
  endless.raw = "HTTP/1.1 200 OK\r\nX: " + std::string(100'000, 'x');
  bench.origin.script(Bench::blob(name), endless);
  CHECK(bench.get(name).opening->code == Errc::upstream_protocol);

  Reply chunk;
  chunk.raw = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ncon\r\nnonsense";
  bench.origin.script(Bench::blob(name), chunk);
  const Download got = bench.get(name);
  REQUIRE(got.error);
  CHECK(got.error->code == Errc::upstream_protocol);
}

TEST_CASE("open_blob: the body stalls", "[upstream]") {
  Bench bench;
  bench.params.stall_timeout = std::chrono::milliseconds(20);
  const std::string content = content_of(1000);
  const std::string name = bench.origin.add_blob("app", content);
  Reply reply;
  reply.body = content;
  reply.gate = std::make_shared<Gate>(100);
  bench.origin.script(Bench::blob(name), reply);
  const Download got = bench.get(name);
  REQUIRE(got.error);
  CHECK(got.error->code == Errc::upstream_timeout);
  CHECK(got.bytes == content.substr(0, 100));
  CHECK(bench.origin.wait_until([](const auto& seen) { return seen.open == 0; }));
}

Task<bool> open_and_drop(Registry& registry, oci::Digest wanted) {
  const auto body = co_await registry.open_blob(repository("app"), wanted, 0);
  co_return body.has_value();
}

TEST_CASE("open_blob: letting a download go closes its connection", "[upstream]") {
  Bench bench;
  const std::string content = content_of(8 << 20);
  const std::string name = bench.origin.add_blob("app", content);
  SECTION("by destroying the body") { CHECK(bench.loops.run(open_and_drop(bench.registry(), digest(name)))); }
  SECTION("by cancelling the task") {
    Reply reply;
    reply.body = content;
    reply.gate = std::make_shared<Gate>(100);
    bench.origin.script(Bench::blob(name), reply);
    runtime::TaskGroup group("one");
    auto running = bench.loops.start_in(group, download(bench.registry(), repository("app"), digest(name), 0, 4096));
    REQUIRE(bench.origin.wait_until([](const auto& seen) { return seen.body_bytes == 100; }));
    group.cancel();
    CHECK(group.wait_for(std::chrono::seconds(20)));
  }
  CHECK(bench.origin.wait_until([](const auto& seen) { return seen.open == 0; }));
  CHECK(bench.metric("sluice_upstream_connections") == 0);
}

TEST_CASE("open_blob: one-part names of Docker Hub live under library/", "[upstream]") {
  Bench bench;
  bench.params.docker_hub_library_prefix = true;
  const std::string one = bench.origin.add_blob("library/app", "one");
  const std::string two = bench.origin.add_blob("org/app", "two");
  CHECK(bench.get(one).bytes == "one");
  const Download got = bench.loops.run(download(bench.registry(), repository("org/app"), digest(two), 0, 100));
  CHECK(got.bytes == "two");
}

TEST_CASE("open_blob_range: those bytes alone", "[upstream]") {
  Bench bench;
  const std::string content = content_of(100'000);
  const std::string name = bench.origin.add_blob("app", content);
  const auto get = [&](std::uint64_t first, std::uint64_t last) {
    return bench.loops.run(download_range(bench.registry(), repository("app"), digest(name), first, last));
  };
  for (const auto& [first, last] : {std::pair{0, 0}, {0, 99}, {5000, 80'000}, {99'900, 99'999}}) {
    const Download got = get(static_cast<std::uint64_t>(first), static_cast<std::uint64_t>(last));
    REQUIRE_FALSE(got.opening);
    CHECK_FALSE(got.error);
    CHECK(got.offset == static_cast<std::uint64_t>(first));
    CHECK(got.size == content.size());
    CHECK(got.bytes == content.substr(static_cast<std::size_t>(first), static_cast<std::size_t>(last - first + 1)));
    CHECK(bench.origin.requests().back().field("Range") ==
          "bytes=" + std::to_string(first) + "-" + std::to_string(last));
  }
  // The connection is as good as new after each.
  CHECK(bench.origin.seen().connections == 1);
  CHECK(get(100'000, 100'001).opening->code == Errc::range_invalid);

  Reply reply;
  reply.body = content;
  reply.ranges = false;
  bench.origin.script(Bench::blob(name), reply);
  CHECK(get(10, 19).opening->code == Errc::unsupported);
  reply.ranges = true;
  reply.content_range = "bytes 10-20/100000";
  bench.origin.script(Bench::blob(name), reply);
  CHECK(get(10, 19).opening->code == Errc::upstream_protocol);
  reply.content_range.reset();
  reply.cut_after = 5;
  bench.origin.script(Bench::blob(name), reply);
  const Download cut = get(10, 19);
  REQUIRE(cut.error);
  CHECK(cut.error->code == Errc::upstream_unreachable);
  CHECK(cut.bytes == content.substr(10, 5));
}

TEST_CASE("open_blob: a base with a path", "[upstream]") {
  Bench bench;
  bench.params.base = *http::Url::parse(bench.origin.url("/mirror/hub/"));
  Reply reply;
  reply.body = "content";
  const std::string name = ScriptedOrigin::digest_of("content");
  bench.origin.script("/mirror/hub" + Bench::blob(name), reply);
  CHECK(bench.get(name).bytes == "content");
}

}  // namespace
}  // namespace sluice::upstream
