#include <optional>

#include <catch2/catch.hpp>

#include "http/client_framing.hpp"
#include "support/catch_result.hpp"

namespace sluice::http {
namespace {

using namespace std::string_view_literals;

ReceivedHead head_of(const std::string& text) {
  const auto head = parse_received_head(text);
  return head ? *head : ReceivedHead{};
}

BodyFraming::Kind kind(const std::string& text, std::string_view method = "GET") {
  const auto framing = body_framing(head_of(text), method);
  REQUIRE(framing);
  return framing->kind;
}

TEST_CASE("ReceivedHead: a usual one", "[http]") {
  const auto head = parse_received_head("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Empty:\r\nx-two:  a b\t\r\n\r\n");
  REQUIRE(head);
  CHECK(head->status == 200);
  CHECK(head->minor_version == 1);
  REQUIRE(head->find("content-length") != nullptr);
  CHECK(*head->find("CONTENT-LENGTH") == "5");
  CHECK(head->find("X-Empty")->empty());
  CHECK(*head->find("X-Two") == "a b");
  CHECK(head->find("X-Three") == nullptr);
}

TEST_CASE("ReceivedHead: a status line without a reason", "[http]") {
  CHECK(parse_received_head("HTTP/1.1 204\r\n\r\n"));
  CHECK(parse_received_head("HTTP/1.1 204 \r\n\r\n"));
  CHECK(parse_received_head("HTTP/1.0 404 Not Found\r\n\r\n")->minor_version == 0);
}

TEST_CASE("ReceivedHead: refuses what can be read in two ways", "[http]") {
  for (const std::string text : {
           "",
           "\r\n",
           "HTTP/1.1 200 OK\r\n",
           "HTTP/1.1 200 OK\n\n",
           "HTTP/2 200 OK\r\n\r\n",
           "HTTP/1.2 200 OK\r\n\r\n",
           "HTTP/1.1 20 OK\r\n\r\n",
           "HTTP/1.1 2000\r\n\r\n",
           "HTTP/1.1 099 X\r\n\r\n",
           "HTTP/1.1  200 OK\r\n\r\n",
           "http/1.1 200 OK\r\n\r\n",
           "ICY 200 OK\r\n\r\n",
           "HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n",
           "HTTP/1.1 200 OK\r\nA: b\r\n\tfolded\r\n\r\n",
           "HTTP/1.1 200 OK\r\n A: b\r\n\r\n",
           "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
           "HTTP/1.1 200 OK\r\n: b\r\n\r\n",
           "HTTP/1.1 200 OK\r\nAb\r\n\r\n",
           "HTTP/1.1 200 OK\r\nA: b\nC: d\r\n\r\n",
           "HTTP/1.1 200 OK\r\nA: b\rC: d\r\n\r\n",
           "HTTP/1.1 200 OK\r\nA: \x01\r\n\r\n",
           "HTTP/1.1 200 O\x7fK\r\n\r\n",
           "HTTP/1.1 200 OK\r\nA(: b\r\n\r\n",
           "HTTP/1.1 200 OK\r\n\r\nmore",
       }) {
    INFO(text);
    const auto head = parse_received_head(text);
    REQUIRE_FALSE(head);
    CHECK(head.error().code == Errc::upstream_protocol);
  }
  CHECK_FALSE(parse_received_head("HTTP/1.1 200 OK\r\nA: \0b\r\n\r\n"sv));
}

TEST_CASE("ReceivedHead: bounded", "[http]") {
  const std::string status = "HTTP/1.1 200 OK\r\n";
  std::string fields;
  for (std::size_t i = 0; i < kMaxFields; ++i) fields += "a: b\r\n";
  CHECK(parse_received_head(status + fields + "\r\n"));
  CHECK_FALSE(parse_received_head(status + fields + "a: b\r\n\r\n"));
  CHECK_FALSE(parse_received_head(status + "a: " + std::string(kMaxHeadBytes, 'x') + "\r\n\r\n"));
}

TEST_CASE("BodyFraming: how the end is known", "[http]") {
  using Kind = BodyFraming::Kind;
  CHECK(kind("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") == Kind::length);
  CHECK(kind("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n") == Kind::chunked);
  CHECK(kind("HTTP/1.1 200 OK\r\n\r\n") == Kind::until_close);
  CHECK(kind("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", "HEAD") == Kind::none);
  CHECK(kind("HTTP/1.1 204 No Content\r\n\r\n") == Kind::none);
  CHECK(kind("HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n") == Kind::none);
  CHECK(body_framing(head_of("HTTP/1.1 200 OK\r\nContent-Length: 123\r\n\r\n"), "GET")->length == 123);
}

TEST_CASE("BodyFraming: whether the connection stays", "[http]") {
  const auto stays = [](const std::string& text) { return body_framing(head_of(text), "GET")->keep_alive; };
  CHECK(stays("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
  CHECK_FALSE(stays("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"));
  CHECK_FALSE(stays("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: a, Close\r\n\r\n"));
  CHECK_FALSE(stays("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: a\r\nConnection: close\r\n\r\n"));
  CHECK_FALSE(stays("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"));
  CHECK_FALSE(stays("HTTP/1.1 200 OK\r\n\r\n"));
}

TEST_CASE("BodyFraming: the same length given several times is one", "[http]") {
  for (const std::string fields : {"Content-Length: 5\r\nContent-Length: 5\r\n", "Content-Length: 5, 5\r\n",
                                   "Content-Length: 5 ,5,\t5\r\ncontent-length: 05\r\n"}) {
    INFO(fields);
    const auto framing = body_framing(head_of("HTTP/1.1 200 OK\r\n" + fields + "\r\n"), "GET");
    REQUIRE(framing);
    CHECK(framing->kind == BodyFraming::Kind::length);
    CHECK(framing->length == 5);
    CHECK(body_framing(head_of("HTTP/1.1 200 OK\r\n" + fields + "\r\n"), "HEAD")->announced == 5U);
  }
  CHECK_FALSE(body_framing(head_of("HTTP/1.1 200 OK\r\n\r\n"), "HEAD")->announced);
}

TEST_CASE("BodyFraming: refuses ambiguous lengths", "[http]") {
  for (const std::string fields : {
           "Content-Length: 5\r\nContent-Length: 6\r\n",
           "Content-Length: 5, 6\r\n",
           "Content-Length: 5, 5\r\nContent-Length: 6\r\n",
           "Content-Length: 5,\r\n",
           "Content-Length: -1\r\n",
           "Content-Length: +5\r\n",
           "Content-Length: 0x5\r\n",
           "Content-Length: 5 \r\nTransfer-Encoding: chunked\r\n",
           "Content-Length:\r\n",
           "Content-Length: 99999999999999999999\r\n",
           "Transfer-Encoding: gzip\r\n",
           "Transfer-Encoding: gzip, chunked\r\n",
           "Transfer-Encoding: chunked, identity\r\n",
           "Transfer-Encoding: xchunked\r\n",
           "Transfer-Encoding:\r\n",
           "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
       }) {
    INFO(fields);
    CHECK_FALSE(body_framing(head_of("HTTP/1.1 200 OK\r\n" + fields + "\r\n"), "GET"));
    CHECK_FALSE(body_framing(head_of("HTTP/1.1 200 OK\r\n" + fields + "\r\n"), "HEAD"));
  }
  CHECK_FALSE(body_framing(head_of("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), "GET"));
}

// Everything that a chunked body carries, fed in pieces of `step` bytes; nothing when it is refused.
std::optional<std::string> decode(std::string_view in, std::size_t step, bool& done) {
  ChunkParser chunks;
  std::string out;
  done = false;
  while (!in.empty() && !chunks.done()) {
    std::string_view piece = in.substr(0, step);
    while (!piece.empty() && !chunks.done()) {
      if (chunks.data() > 0) {
        const auto n = static_cast<std::size_t>(std::min<std::uint64_t>(piece.size(), chunks.data()));
        out += piece.substr(0, n);
        chunks.took(n);
        piece.remove_prefix(n);
        in.remove_prefix(n);
        continue;
      }
      const auto used = chunks.feed(piece);
      if (!used) return std::nullopt;
      piece.remove_prefix(*used);
      in.remove_prefix(*used);
    }
  }
  done = chunks.done();
  return out;
}

TEST_CASE("ChunkParser: any split of the bytes", "[http]") {
  const std::string body =
      "4\r\nWiki\r\n6;ext=\"1\"\r\npedia \r\nE \r\nin \r\n\r\nchunks.\r\n0\r\nTrailer: x\r\nOther: y\r\n\r\n";
  for (const std::size_t step : {1U, 2U, 3U, 7U, 1000U}) {
    bool done = false;
    const auto out = decode(body, step, done);
    REQUIRE(out);
    CHECK(*out == "Wikipedia in \r\n\r\nchunks.");
    CHECK(done);
  }
}

TEST_CASE("ChunkParser: what is not ended is not done", "[http]") {
  for (const std::string body :
       {"", "4", "4\r\n", "4\r\nWik", "4\r\nWiki\r\n", "4\r\nWiki\r\n0\r\n", "0\r\nT: x\r\n"}) {
    INFO(body);
    bool done = true;
    CHECK(decode(body, 100, done));
    CHECK_FALSE(done);
  }
}

TEST_CASE("ChunkParser: refuses broken framing", "[http]") {
  for (const std::string body :
       {"\r\n", "x\r\n", "-1\r\n", "0x4\r\n", "4\nWiki", "4\r\nWikiX", "4\r\nWiki\n", "4\r\nWiki\r\n\r\n", "0\r\n\n",
        "0\r\nT: x\n\r\n", "4 x\x01\r\n", ";a\r\n", "1000000000000000\r\n", "4\rX"}) {
    INFO(body);
    bool done = false;
    CHECK_FALSE(decode(body, 100, done));
  }
  bool done = false;
  CHECK_FALSE(decode("1;" + std::string(100'000, 'x') + "\r\na\r\n0\r\n\r\n", 4096, done));
  CHECK_FALSE(decode("0\r\nT: " + std::string(100'000, 'x') + "\r\n\r\n", 4096, done));
}

}  // namespace
}  // namespace sluice::http
