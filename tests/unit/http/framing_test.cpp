#include "http/framing.hpp"

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

using namespace sluice::http;
using State = HeadScanner::State;

namespace {

// What a session does with the bytes of one head: 0 for accepted, else the status it is refused with.
unsigned status_of(const std::string& bytes, Request& request) {
  HeadScanner scanner(HeadLimits{});
  const State state = scanner.scan(bytes);
  if (state == State::need_more) return 1;
  if (state == State::refused) return scanner.refusal().status;
  const auto refusal =
      parse_request(std::string_view(bytes).substr(scanner.begin(), scanner.end() - scanner.begin()), request);
  return refusal ? refusal->status : 0;
}

unsigned status_of(const std::string& bytes) {
  Request request;
  return status_of(bytes, request);
}

std::string get(const std::string& fields) { return "GET /v2/ HTTP/1.1\r\n" + fields + "\r\n"; }

}  // namespace

TEST_CASE("Framing: what is accepted and what is refused", "[http]") {
  struct Row {
    std::string name;
    std::string bytes;
    unsigned status;
  };
  const std::string host = "Host: a\r\n";
  const std::vector<Row> rows = {
      {"plain", get(host), 0},
      {"unknown method", "FROB /v2/ HTTP/1.1\r\n" + host + "\r\n", 0},
      {"empty line before", "\r\n\r\n" + get(host), 0},
      {"host with port", get("Host: cache.example:5000\r\n"), 0},
      {"host ipv6", get("Host: [::1]:5000\r\n"), 0},
      {"host with empty port", get("Host: a:\r\n"), 0},
      {"1.0 without host", "GET / HTTP/1.0\r\n\r\n", 0},
      {"options star", "OPTIONS * HTTP/1.1\r\n" + host + "\r\n", 0},
      {"absolute form", "GET http://b/v2/ HTTP/1.1\r\n" + host + "\r\n", 0},
      {"length", "POST / HTTP/1.1\r\n" + host + "Content-Length: 5\r\n\r\n", 0},
      {"chunked", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: Chunked\r\n\r\n", 0},

      {"no host", get(""), 400},
      {"two hosts", get(host + "hOST: a\r\n"), 400},
      {"empty host", get("Host:\r\n"), 400},
      {"blank host", get("Host:   \r\n"), 400},
      {"host list", get("Host: a, b\r\n"), 400},
      {"host list without space", get("Host: a,b\r\n"), 400},
      {"host with blank", get("Host: a b\r\n"), 400},
      {"host with userinfo", get("Host: user@a\r\n"), 400},
      {"host with path", get("Host: a/b\r\n"), 400},
      {"host with query", get("Host: a?b\r\n"), 400},
      {"host with scheme", get("Host: http://a\r\n"), 400},
      {"host with bad port", get("Host: a:x\r\n"), 400},
      {"host with large port", get("Host: a:65536\r\n"), 400},
      {"host with two ports", get("Host: a:1:2\r\n"), 400},
      {"host with bad escape", get("Host: a%2\r\n"), 400},
      {"host beyond ASCII", get("Host: a\xc3\xa9\r\n"), 400},
      {"host ipv6 unclosed", get("Host: [::1\r\n"), 400},
      {"host ipv6 junk", get("Host: [::1]x\r\n"), 400},
      {"host ipv6 name", get("Host: [abc]\r\n"), 400},
      {"1.0 with two hosts", "GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", 400},

      {"folded", get(host + "A: b\r\n c\r\n"), 400},
      {"folded by tab", get(host + "A: b\r\n\tc\r\n"), 400},
      {"first field indented", get(" " + host), 400},
      {"bare LF", "GET / HTTP/1.1\nHost: a\n\n", 400},
      {"bare LF in fields", "GET / HTTP/1.1\r\nHost: a\nB: c\r\n\r\n", 400},
      {"bare CR in a value", get(host + "A: b\rc\r\n"), 400},
      {"bare CR in the line", "GET /\r HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"NUL", get(host + std::string("A: b\0c\r\n", 8)), 400},
      {"control character", get(host + "A: b\x01\r\n"), 400},
      {"blank before colon", get(host + "A : b\r\n"), 400},
      {"no colon", get(host + "A\r\n"), 400},
      {"empty name", get(host + ": b\r\n"), 400},
      {"bad name", get(host + "A(b: c\r\n"), 400},

      {"both lengths", "POST / HTTP/1.1\r\n" + host + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
      {"both, reversed", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", 400},
      {"two lengths", "POST / HTTP/1.1\r\n" + host + "Content-Length: 5\r\nContent-Length: 6\r\n\r\n", 400},
      {"same length twice", "POST / HTTP/1.1\r\n" + host + "Content-Length: 5\r\nContent-Length: 5\r\n\r\n", 400},
      {"length list", "POST / HTTP/1.1\r\n" + host + "Content-Length: 5, 5\r\n\r\n", 400},
      {"signed length", "POST / HTTP/1.1\r\n" + host + "Content-Length: +5\r\n\r\n", 400},
      {"negative length", "POST / HTTP/1.1\r\n" + host + "Content-Length: -1\r\n\r\n", 400},
      {"hex length", "POST / HTTP/1.1\r\n" + host + "Content-Length: 0x5\r\n\r\n", 400},
      {"empty length", "POST / HTTP/1.1\r\n" + host + "Content-Length: \r\n\r\n", 400},
      {"huge length", "POST / HTTP/1.1\r\n" + host + "Content-Length: 99999999999999999999\r\n\r\n", 400},
      {"xchunked", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: xchunked\r\n\r\n", 400},
      {"identity", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: identity\r\n\r\n", 400},
      {"empty coding", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: \r\n\r\n", 400},
      {"chunked not last", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked, gzip\r\n\r\n", 400},
      {"chunked twice", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked, chunked\r\n\r\n", 400},
      {"two codings", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n",
       400},
      {"quoted coding", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: \"chunked\"\r\n\r\n", 400},
      {"coding in 1.0", "POST / HTTP/1.0\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n", 400},
      {"gzip, chunked", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: gzip, chunked\r\n\r\n", 501},

      {"get star", "GET * HTTP/1.1\r\n" + host + "\r\n", 400},
      {"connect", "CONNECT a:443 HTTP/1.1\r\n" + host + "\r\n", 400},
      {"authority form", "GET a:443 HTTP/1.1\r\n" + host + "\r\n", 400},
      {"no slash", "GET v2/ HTTP/1.1\r\n" + host + "\r\n", 400},
      {"fragment", "GET /v2/#a HTTP/1.1\r\n" + host + "\r\n", 400},
      {"beyond ASCII", "GET /caf\xc3\xa9 HTTP/1.1\r\n" + host + "\r\n", 400},
      {"overlong UTF-8", "GET /\xc0\xaf HTTP/1.1\r\n" + host + "\r\n", 400},
      {"DEL", "GET /\x7f HTTP/1.1\r\n" + host + "\r\n", 400},
      {"absolute with userinfo", "GET http://u@b/ HTTP/1.1\r\n" + host + "\r\n", 400},
      {"absolute without host", "GET http:///x HTTP/1.1\r\n" + host + "\r\n", 400},
      {"absolute, other scheme", "GET ftp://b/x HTTP/1.1\r\n" + host + "\r\n", 400},
      {"absolute without Host", "GET http://b/ HTTP/1.1\r\n\r\n", 400},
      {"no target", "GET HTTP/1.1\r\n" + host + "\r\n", 400},
      {"two blanks", "GET  / HTTP/1.1\r\n" + host + "\r\n", 400},
      {"no version", "GET /\r\n" + host + "\r\n", 400},
      {"bad version", "GET / HTTP/1\r\n" + host + "\r\n", 400},
      {"lower-case version", "GET / http/1.1\r\n" + host + "\r\n", 400},
      {"HTTP/2", "PRI * HTTP/2.0\r\n\r\n", 505},
      {"HTTP/0.9 by name", "GET / HTTP/0.9\r\n" + host + "\r\n", 505},

      {"long line", "GET /" + std::string(9000, 'a') + " HTTP/1.1\r\n" + host + "\r\n", 414},
      {"long line, unfinished", "GET /" + std::string(9000, 'a'), 414},
      {"large head", get(host + "A: " + std::string(66000, 'a') + "\r\n"), 431},
      {"large head, unfinished", "GET / HTTP/1.1\r\nA: " + std::string(66000, 'a'), 431},
      {"bare CR, unfinished", "GET /\rx", 400},
      {"folded, unfinished", "GET / HTTP/1.1\r\n ", 400},
      {"nothing yet", "GET / HT", 1},
  };
  for (const Row& row : rows) {
    INFO(row.name);
    CHECK(status_of(row.bytes) == row.status);
  }
}

TEST_CASE("Framing: too many fields", "[http]") {
  std::string fields = "Host: a\r\n";
  for (int i = 0; i < 128; ++i) fields += "A: b\r\n";
  CHECK(status_of(get(fields)) == 431);
}

TEST_CASE("HeadScanner: a head in any pieces ends at the same byte", "[http]") {
  const std::string head = "\r\n" + get("Host: a\r\nB: c\r\n");
  const std::string bytes = head + "GET / HTTP/1.1\r\n";
  HeadScanner scanner(HeadLimits{});
  for (std::size_t n = 0; n < head.size(); ++n) {
    INFO(n);
    REQUIRE(scanner.scan(std::string_view(bytes).substr(0, n)) == State::need_more);
  }
  REQUIRE(scanner.scan(bytes) == State::complete);
  CHECK(scanner.begin() == 2);
  CHECK(scanner.end() == head.size());
}

TEST_CASE("Request: the parts of a head", "[http]") {
  const std::string head =
      "GET /v2/a/manifests/b?ns=docker.io&x=?y HTTP/1.1\r\nhost: cache:5000\r\nAccept:  a \r\nACCEPT: "
      "b\r\nEmpty:\r\n\r\n";
  Request request;
  REQUIRE(status_of(head, request) == 0);
  CHECK(request.method() == "GET");
  CHECK(request.is_get());
  CHECK_FALSE(request.is_head());
  CHECK(request.target() == "/v2/a/manifests/b?ns=docker.io&x=?y");
  CHECK(request.path() == "/v2/a/manifests/b");
  CHECK(request.query() == "ns=docker.io&x=?y");
  CHECK(request.host() == "cache:5000");
  CHECK(request.header("accept") == "a");
  CHECK(request.joined("Accept") == "a, b");
  CHECK(request.has_header("EMPTY"));
  CHECK(request.header("Empty").empty());
  CHECK_FALSE(request.has_header("Missing"));
  CHECK(request.joined("Missing").empty());
  CHECK(request.fields().size() == 4);
  CHECK(request.version() == 11);
  CHECK(request.keep_alive());
  CHECK(request.body() == RequestBody::none);
}

TEST_CASE("Request: one object parses head after head", "[http]") {
  Request request;
  REQUIRE(status_of("POST /a?b HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\n", request) == 0);
  CHECK(request.body() == RequestBody::content_length);
  CHECK(request.body_length() == 7);
  CHECK_FALSE(request.keep_alive());
  const std::string second = get("Host: b\r\n");
  REQUIRE(status_of(second, request) == 0);
  CHECK(request.body() == RequestBody::none);
  CHECK(request.keep_alive());
  CHECK(request.query().empty());
  CHECK(request.path() == "/v2/");
  CHECK(request.host() == "b");
}

TEST_CASE("Request: an absolute-form target is reduced, and its host counts", "[http]") {
  Request request;
  const std::string with_path = "GET HTTP://B:80/v2/?a HTTP/1.1\r\nHost: a\r\n\r\n";
  REQUIRE(status_of(with_path, request) == 0);
  CHECK(request.target() == "/v2/?a");
  CHECK(request.host() == "B:80");
  const std::string bare = "GET https://b HTTP/1.1\r\nHost: a\r\n\r\n";
  REQUIRE(status_of(bare, request) == 0);
  CHECK(request.target() == "/");
  const std::string query = "GET http://b?c HTTP/1.1\r\nHost: a\r\n\r\n";
  REQUIRE(status_of(query, request) == 0);
  CHECK(request.path() == "/");
  CHECK(request.query() == "c");
}

TEST_CASE("Request: whether the connection may stay open", "[http]") {
  struct Row {
    std::string bytes;
    bool keep;
  };
  const std::vector<Row> rows = {
      {get("Host: a\r\n"), true},
      {get("Host: a\r\nConnection: close\r\n"), false},
      {get("Host: a\r\nConnection: x, CLOSE\r\n"), false},
      {get("Host: a\r\nConnection: keep-alive\r\n"), true},
      {"GET / HTTP/1.0\r\n\r\n", false},
      {"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true},
      {"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", true},
      {"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n", false},
      {"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", false},
  };
  for (const Row& row : rows) {
    INFO(row.bytes);
    Request request;
    REQUIRE(status_of(row.bytes, request) == 0);
    CHECK(request.keep_alive() == row.keep);
  }
}

TEST_CASE("Framing: a head may have 64 KiB, however its bytes arrive", "[http]") {
  std::string head = get("Host: a\r\nRange: bytes=" + std::string(60'000, '1') + "-\r\n");
  const std::size_t step = GENERATE(std::size_t{1}, std::size_t{3}, std::size_t{1448}, std::size_t{100'000});
  HeadScanner scanner(HeadLimits{});
  for (std::size_t n = step; n < head.size(); n += step) REQUIRE(scanner.scan({head.data(), n}) == State::need_more);
  CHECK(scanner.scan(head) == State::complete);
  CHECK(scanner.end() == head.size());

  // What is wrong is found wherever the bytes are cut.
  for (const std::string& bad :
       {std::string("A: b\rc"), std::string("A: b\n"), std::string("A: \0", 4), std::string("A: b\r\n c")}) {
    const std::string bytes = get("Host: a\r\n" + bad);
    HeadScanner cut(HeadLimits{});
    State state = State::need_more;
    for (std::size_t n = step; state == State::need_more && n < bytes.size() + step; n += step) {
      state = cut.scan({bytes.data(), std::min(n, bytes.size())});
    }
    CHECK(state == State::refused);
    CHECK(cut.refusal().status == 400);
  }
  HeadScanner large(HeadLimits{});
  CHECK(large.scan(get("Host: a\r\nA: " + std::string(66'000, 'a') + "\r\n")) == State::refused);
  CHECK(large.refusal().status == 431);
}
