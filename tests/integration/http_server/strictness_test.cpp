// What is refused. The table of what is malformed is in tests/unit/http/framing_test.cpp; here is what the client sees.
#include <vector>

#include <catch2/catch.hpp>

#include "test_handler.hpp"

using namespace sluice;
using namespace sluice::test;

TEST_CASE("Server: a malformed request gets an error and the connection ends with FIN", "[http]") {
  TestServer test;
  struct Row {
    std::string bytes;
    unsigned status;
  };
  const std::vector<Row> rows = {
      {"GET /hello HTTP/1.1\r\n\r\n", 400},
      {"GET /hello HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400},
      {"GET /hello HTTP/1.1\r\nHost: a, b\r\n\r\n", 400},
      {"GET /hello HTTP/1.1\r\nHost: u@a\r\n\r\n", 400},
      // Refused as soon as the head is complete, or cannot become one: the body and the rest are not waited for.
      {"POST /hello HTTP/1.1\r\nContent-Length: 10\r\n\r\n", 400},
      {"POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
      {"POST /hello HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n", 400},
      {"GET /hello HTTP/1.1\nHost: a\n\n", 400},
      {"GET /hello HTTP/1.1\r\nHost: a\r\n folded", 400},
      {"GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
      {"GET /" + std::string(20'000, 'a'), 414},
      {"GET / HTTP/1.1\r\nHost: a\r\nA: " + std::string(70'000, 'a') + "\r\n\r\n", 431},
  };
  for (const Row& row : rows) {
    INFO(row.bytes.substr(0, 100));
    RawClient client = test.connect();
    client.send(row.bytes);
    const Answer answer = client.answer();
    CHECK(answer.status == row.status);
    CHECK(answer.field("Content-Type") == "application/json");
    CHECK(answer.field("Connection") == "close");
    CHECK(answer.body.starts_with("{\"errors\":[{\"code\":"));
    CHECK(client.end() == RawClient::End::fin);
  }
  CHECK(test.metric("sluice_http_parse_errors_total") == static_cast<double>(rows.size()));
  CHECK(test.metric("sluice_http_requests_total") == 0);
}

TEST_CASE("Server: nothing behind a refused request is answered", "[http]") {
  TestServer test;
  RawClient client = test.connect();
  client.send(
      "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n"
      "POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
      "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n");
  CHECK(client.answer().status == 200);
  CHECK(client.answer().status == 400);
  CHECK(client.read_all().empty());
}

TEST_CASE("Server: a body is not taken for the next request", "[http]") {
  TestServer test;
  const std::string smuggled = "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n";
  RawClient client = test.connect();
  client.request("GET", "/echo", "Content-Length: " + std::to_string(smuggled.size()) + "\r\n");
  client.send(smuggled);
  CHECK(client.answer().status == 200);
  CHECK(client.read_all().empty());
}

TEST_CASE("Server: a TLS hello on a plain port is answered in HTTP at once, and the connection ends", "[http]") {
  const std::string hello = std::string("\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03", 11) + std::string(150, 'x');
  // The first byte alone says what it is.
  for (const std::size_t bytes : {hello.size(), std::size_t{1}}) {
    TestServer test;
    RawClient client = test.connect();
    client.send(hello.substr(0, bytes));
    const Answer answer = client.answer();
    CHECK(answer.head.starts_with("HTTP/1.1 400 Bad Request\r\n"));
    CHECK(answer.field("Connection") == "close");
    CHECK(answer.field("Content-Type") == "text/plain");
    CHECK(answer.body.find("plain HTTP") != std::string::npos);
    // What arrives of the hello after the answer makes no RST of the end.
    client.send(hello.substr(bytes));
    CHECK(client.end() == RawClient::End::fin);
    CHECK(test.metric("sluice_http_parse_errors_total") == 0);
    CHECK(test.metric("sluice_http_requests_total") == 0);
  }
}
