// What a well-behaved client gets.
#include <regex>
#include <set>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>

#include "base/errc.hpp"
#include "test_handler.hpp"

using namespace sluice;
using namespace sluice::test;

TEST_CASE("Server: an answer has Date and its body, and the connection stays", "[http]") {
  TestServer test;
  RawClient client = test.connect();
  for (int i = 0; i < 3; ++i) {
    client.get("/hello");
    const Answer answer = client.answer();
    CHECK(answer.status == 200);
    CHECK(answer.body == "hello");
    CHECK(answer.field("Connection").empty());
    CHECK(std::regex_match(answer.field("Date"),
                           std::regex("[A-Z][a-z]{2}, \\d\\d [A-Z][a-z]{2} \\d{4} \\d\\d:\\d\\d:\\d\\d GMT")));
  }
  CHECK(test.metric("sluice_http_requests_total") == 3);
  CHECK(test.metric("sluice_http_connections") == 1);
  CHECK(test.metric("sluice_http_connections_accepted_total") == 1);
  CHECK(test.metric("sluice_http_sent_bytes_total") > 15);
}

TEST_CASE("Server: requests that arrive together are answered in order", "[http]") {
  TestServer test;
  RawClient client = test.connect();
  std::string many;
  for (int i = 0; i < 100; ++i) many += "GET /echo?" + std::to_string(i) + " HTTP/1.1\r\nHost: a\r\n\r\n";
  client.send(many);
  for (int i = 0; i < 100; ++i) {
    const Answer answer = client.answer();
    REQUIRE(answer.body.find("/echo?" + std::to_string(i) + " ") != std::string::npos);
  }
}

TEST_CASE("Server: a request that arrives byte by byte", "[http]") {
  TestServer test;
  RawClient client = test.connect();
  for (const char c : std::string("\r\nGET /echo HTTP/1.1\r\nHost: a\r\n\r\n")) client.send({&c, 1});
  CHECK(client.answer().body.starts_with("GET /echo a 127.0.0.1:"));
}

TEST_CASE("Server: a long head fits, and the next one is still found", "[http]") {
  TestServer test;
  RawClient client = test.connect();
  const std::string fields = "A: " + std::string(8000, 'a') + "\r\nB: " + std::string(6000, 'b') + "\r\n";
  client.send("GET /echo?1 HTTP/1.1\r\nHost: a\r\n" + fields + "\r\nGET /echo?2 HTTP/1.1\r\nHost: a\r\n\r\n");
  CHECK(client.answer().body.starts_with("GET /echo?1 "));
  CHECK(client.answer().body.starts_with("GET /echo?2 "));
  client.get("/hello", fields);
  CHECK(client.answer().status == 200);
}

TEST_CASE("Server: HEAD gets the head alone", "[http]") {
  TestServer test;
  test.make_file(100'000);
  RawClient client = test.connect();
  client.request("HEAD", "/hello");
  CHECK(client.answer(true).field("Content-Length") == "5");
  client.request("HEAD", "/file");
  CHECK(client.answer(true).field("Content-Length") == "100000");
  client.request("HEAD", "/chunks");
  CHECK(client.answer(true).status == 200);
  client.get("/not-modified");
  CHECK(client.answer().status == 304);
  client.get("/hello");
  CHECK(client.answer().body == "hello");
}

TEST_CASE("Server: HTTP/1.0 closes unless it is asked not to", "[http]") {
  TestServer test;
  RawClient once = test.connect();
  once.send("GET /hello HTTP/1.0\r\n\r\n");
  const Answer answer = once.answer();
  CHECK(answer.body == "hello");
  CHECK(answer.field("Connection") == "close");
  CHECK(once.end() == RawClient::End::fin);

  RawClient kept = test.connect();
  for (int i = 0; i < 2; ++i) {
    kept.send("GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    CHECK(kept.answer().field("Connection") == "keep-alive");
  }
}

TEST_CASE("Server: Connection: close is obeyed", "[http]") {
  TestServer test;
  RawClient client = test.connect();
  client.get("/hello", "Connection: close\r\n");
  CHECK(client.answer().field("Connection") == "close");
  CHECK(client.end() == RawClient::End::fin);
  CHECK(eventually([&] { return test.server.connections() == 0; }));
}

TEST_CASE("Server: an absolute-form target", "[http]") {
  TestServer test;
  RawClient client = test.connect();
  client.get("http://b:5000/echo?x");
  CHECK(client.answer().body.starts_with("GET /echo?x b:5000 "));
}

TEST_CASE("Server: a head without a length gets one", "[http]") {
  TestServer test;
  RawClient client = test.connect();
  client.get("/no-length");
  const Answer answer = client.answer();
  CHECK(answer.field("Content-Length") == "10");
  CHECK(answer.body == "unmeasured");
}

TEST_CASE("Server: a body too large for the socket's buffer arrives whole", "[http]") {
  http::Server::Params params;
  params.send_buffer_bytes = 4096;
  TestServer test(params);
  test.handler.small_body = TestServer::content(3'000'000);
  RawClient client = test.connect(4096);
  client.get("/hello");
  client.get("/echo");
  CHECK(client.answer().body == test.handler.small_body);
  CHECK(client.answer().status == 200);
}

TEST_CASE("Server: a file is sent whole, in turns, through small buffers", "[http]") {
  http::Server::Params params;
  params.send_buffer_bytes = GENERATE(0, 4096);
  TestServer test(params);
  test.make_file(2'000'003);
  RawClient client = test.connect(params.send_buffer_bytes);
  client.get("/file");
  client.get("/file?part");
  const std::string content = TestServer::content(2'000'003);
  CHECK(client.answer().body == content);
  CHECK(client.answer().body == content.substr(1000, 1000));
  client.get("/hello");
  CHECK(client.answer().body == "hello");
}

TEST_CASE("Server: chunks, from memory and from a file", "[http]") {
  TestServer test;
  test.make_file(700'000);
  RawClient client = test.connect();
  client.get("/chunks");
  CHECK(client.answer().body == "one," + std::string(20, 'x'));
  client.get("/chunks-file");
  CHECK(client.answer().body == "one," + std::string(20, 'x') + TestServer::content(700'000));
  client.get("/hello");
  CHECK(client.answer().body == "hello");
}

TEST_CASE("Server: to HTTP/1.0 a chunked answer ends with the connection", "[http]") {
  TestServer test;
  RawClient client = test.connect();
  client.send("GET /chunks HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  const Answer answer = client.answer();
  CHECK(answer.field("Transfer-Encoding").empty());
  CHECK(answer.field("Connection") == "close");
  CHECK(answer.body == "one," + std::string(20, 'x'));
}

TEST_CASE("Server: an answer that is broken off ends with FIN, never RST", "[http]") {
  TestServer test;
  RawClient client = test.connect();
  // Unread bytes on the server's side, which an ordinary close would answer with an RST.
  client.send("GET /break HTTP/1.1\r\nHost: a\r\n\r\n" + std::string(1000, 'x'));
  const Answer answer = client.answer();
  CHECK(answer.status == 200);
  CHECK(answer.body == "0123456789");
  CHECK(client.end() == RawClient::End::fin);
  CHECK(test.metric("sluice_http_broken_off_total") == 1);
}

TEST_CASE("Server: a handler that throws or does not answer is a 500", "[http]") {
  TestServer test;
  for (const char* path : {"/throw", "/silent", "/wrong-length"}) {
    INFO(path);
    RawClient client = test.connect();
    client.get(path);
    const Answer answer = client.answer();
    CHECK(answer.status == 500);
    CHECK(answer.field("Content-Type") == "application/json");
    CHECK(answer.field("Connection") == "close");
    CHECK(answer.body.find("\"UNKNOWN\"") != std::string::npos);
    CHECK(client.end() == RawClient::End::fin);
  }
  CHECK(test.metric("sluice_http_handler_failures_total") == 3);
}

TEST_CASE("Server: a handler that leaves a begun answer breaks it off", "[http]") {
  TestServer test;
  for (const char* path : {"/short", "/throw-begun", "/begun", "/too-long"}) {
    INFO(path);
    RawClient client = test.connect();
    client.get(path);
    const Answer answer = client.answer();
    CHECK(answer.status == 200);
    CHECK(answer.body == "0123456789");
    CHECK(client.end() == RawClient::End::fin);
  }
}

TEST_CASE("Server: a file that ends too soon breaks the answer off", "[http]") {
  TestServer test;
  test.make_file(1000);
  RawClient client = test.connect();
  client.get("/file?beyond");
  CHECK(client.answer().body == TestServer::content(1000));
  CHECK(client.end() == RawClient::End::fin);
  CHECK(eventually([&] { return test.handler.last_error == static_cast<int>(Errc::corrupt); }));
}

TEST_CASE("Server: a request with a body is answered at once, and the connection ends in order", "[http]") {
  TestServer test;
  struct Row {
    std::string fields;
    std::string body;
  };
  const std::vector<Row> rows = {
      {"Content-Length: 100000\r\n", std::string(100'000, 'x')},
      {"Content-Length: 100000\r\n", ""},
      {"Content-Length: 5\r\nExpect: 100-continue\r\n", ""},
      {"Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"},
  };
  for (const Row& row : rows) {
    for (const char* method : {"POST", "GET"}) {
      RawClient client = test.connect();
      client.request(method, "/echo", row.fields);
      client.send(row.body);
      const Answer answer = client.answer();
      CHECK(answer.status == 200);
      CHECK(answer.field("Connection") == "close");
      CHECK(client.end() == RawClient::End::fin);
    }
    RawClient client = test.connect();
    client.request("HEAD", "/echo", row.fields);
    client.send(row.body);
    CHECK(client.read_all().ends_with("\r\n\r\n"));
  }
}

TEST_CASE("Server: two hundred connections on two loops", "[http]") {
  TestServer test;
  test.make_file(300'000);
  const std::string content = TestServer::content(300'000);
  std::vector<RawClient> clients;
  for (int i = 0; i < 200; ++i) clients.push_back(test.connect());
  for (int round = 0; round < 3; ++round) {
    for (RawClient& client : clients) client.get(round == 1 ? "/file" : "/hello");
    int right = 0;
    for (RawClient& client : clients) right += client.answer().body == (round == 1 ? content : "hello") ? 1 : 0;
    CHECK(right == 200);
  }
  CHECK(test.server.connections() == 200);
  clients.clear();
  CHECK(eventually([&] { return test.server.connections() == 0; }));
  CHECK(eventually([&] { return test.metric("sluice_http_connections") == 0; }));
}

TEST_CASE("Server: a client that leaves while it is being answered", "[http]") {
  TestServer test;
  {
    RawClient client = test.connect();
    client.get("/flood");
    CHECK(client.read_head().starts_with("HTTP/1.1 200"));
    client.reset();
  }
  CHECK(eventually([&] { return test.handler.last_error == static_cast<int>(Errc::cancelled); }));
  CHECK(test.handler.sent > 0);
  {
    RawClient client = test.connect();
    client.get("/hold");
    CHECK(eventually([&] { return test.handler.holding == 1; }));
  }
  CHECK(eventually([&] { return test.handler.gone == 1; }));
}
