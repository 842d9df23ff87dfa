// Time-outs and bounds.
#include <fcntl.h>
#include <malloc.h>

#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include <catch2/catch.hpp>

#include "base/errc.hpp"
#include "runtime/disk_pool.hpp"
#include "test_handler.hpp"

using namespace sluice;
using namespace sluice::test;
using namespace std::chrono_literals;

namespace {

// Of this process, in all arenas; 0 where another allocator than glibc's counts (sanitizers).
double heap_bytes() {
  char* text = nullptr;
  std::size_t size = 0;
  FILE* const out = ::open_memstream(&text, &size);
  ::malloc_info(0, out);
  std::fclose(out);
  const std::string info(text, size);
  std::free(text);
  // The totals stand behind those of the arenas.
  const auto total = [&info](const std::string& name) {
    const std::size_t at = info.rfind(name);
    if (at == std::string::npos) return 0.0;
    return std::atof(info.c_str() + info.find("size=\"", at) + 6);
  };
  return total("<system type=\"current\"") - total("<total type=\"fast\"") - total("<total type=\"rest\"");
}

}  // namespace

TEST_CASE("Server: an idle connection holds at most 4 KiB, whatever it has asked", "[http]") {
  constexpr std::size_t kConnections = 400;
  TestServer test;
  std::string fields;
  SECTION("a short head") { fields = "Accept: application/vnd.oci.image.manifest.v1+json, */*\r\n"; }
  SECTION("a long head") { fields = "Range: bytes=" + std::string(15'000, '1') + "-\r\n"; }
  SECTION("many fields") {
    for (int i = 0; i < 100; ++i) fields += "A: b\r\n";
  }
  {
    // What the server makes once, buffers for such a head included.
    RawClient first = test.connect();
    first.get("/hello", fields);
    REQUIRE(first.answer().status == 200);
  }
  std::vector<RawClient> clients;
  clients.reserve(kConnections);
  const double before = heap_bytes();
  if (before <= 0) return;
  const auto each = [&] { return (heap_bytes() - before) / kConnections; };
  for (std::size_t i = 0; i < kConnections; ++i) clients.push_back(test.connect());
  REQUIRE(eventually([&] { return test.server.connections() == kConnections; }));
  CHECK(each() <= 4096);
  for (RawClient& client : clients) {
    client.get("/hello", fields);
    // Into no memory of the client's own, which would be counted too.
    char answer[1024];
    std::size_t size = 0;
    while (!std::string_view(answer, size).ends_with("\r\n\r\nhello")) {
      const ssize_t n = ::recv(client.fd(), answer + size, sizeof answer - size, 0);
      REQUIRE(n > 0);
      size += static_cast<std::size_t>(n);
    }
  }
  // The answer arrives before the connection is idle again.
  CHECK(eventually([&] { return each() <= 4096; }));
  INFO(each() << " bytes");
  CHECK(each() <= 4096);
}

TEST_CASE("Server: little of an answer lies unsent in the kernel", "[http]") {
  // A client that takes nothing: beyond what its own buffer holds the kernel takes no more than the bound.
  http::Server::Params params;
  params.send_timeout = 300ms;
  double taken[2] = {};
  for (const bool bounded : {true, false}) {
    params.unsent_bytes = bounded ? 128 << 10 : 0;
    TestServer test(params);
    RawClient stalled = test.connect(64 << 10);
    stalled.get("/flood", "Range: bytes=0-\r\n");
    REQUIRE(eventually([&] { return test.handler.last_error >= 0; }));
    taken[bounded ? 0 : 1] = static_cast<double>(test.handler.sent);
  }
  CHECK(taken[0] <= 512 << 10);
  CHECK(taken[1] > taken[0]);
}

TEST_CASE("Server: a head that does not arrive is answered 408", "[http]") {
  http::Server::Params params;
  params.header_timeout = 50ms;
  TestServer test(params);
  RawClient client = test.connect();
  client.send("GET /hello HT");
  CHECK(client.answer().status == 408);
  CHECK(client.end() == RawClient::End::fin);
  CHECK(test.metric("sluice_http_timeouts_total", "header") == 1);
}

TEST_CASE("Server: idle connections are closed without a word", "[http]") {
  http::Server::Params params;
  params.idle_timeout = 50ms;
  TestServer test(params);
  RawClient fresh = test.connect();
  CHECK(fresh.read_all().empty());
  RawClient used = test.connect();
  used.get("/hello");
  CHECK(used.answer().status == 200);
  CHECK(used.end() == RawClient::End::fin);
  CHECK(test.metric("sluice_http_timeouts_total", "idle") == 2);
}

TEST_CASE("Server: a client that takes no bytes is given up, and holds up nobody", "[http]") {
  http::Server::Params params;
  params.send_timeout = 100ms;
  TestServer test(params);
  RawClient stalled = test.connect(4096);
  stalled.get("/flood");
  RawClient other = test.connect();
  while (test.handler.last_error < 0) {
    other.get("/hello");
    REQUIRE(other.answer().body == "hello");
  }
  CHECK(test.handler.last_error == static_cast<int>(Errc::timeout));
  CHECK(test.metric("sluice_http_timeouts_total", "send") == 1);
  CHECK(eventually([&] { return test.server.connections() == 1; }));
  CHECK(stalled.end() == RawClient::End::fin);
}

TEST_CASE("Server: a slow client that takes bytes is not given up", "[http]") {
  http::Server::Params params;
  params.send_timeout = 2s;
  params.send_buffer_bytes = 4096;
  TestServer test(params);
  test.make_file(200'000);
  RawClient client = test.connect(4096);
  client.get("/file");
  const std::string head = client.read_head();
  std::string body;
  while (body.size() < 200'000) {
    const std::string piece = client.read(1000);
    REQUIRE_FALSE(piece.empty());
    body += piece;
  }
  CHECK(body == TestServer::content(200'000));
  CHECK(test.metric("sluice_http_timeouts_total", "send") == 0);
}

TEST_CASE("Server: connections beyond the limit are told to come back", "[http]") {
  http::Server::Params params;
  params.max_connections = 4;
  TestServer test(params);
  std::vector<RawClient> clients;
  for (int i = 0; i < 4; ++i) {
    clients.push_back(test.connect());
    clients.back().get("/hello");
    CHECK(clients.back().answer().status == 200);
  }
  RawClient over = test.connect();
  over.get("/hello");
  const Answer answer = over.answer();
  CHECK(answer.status == 503);
  CHECK(answer.field("Retry-After") == "5");
  CHECK(answer.field("Connection") == "close");
  CHECK(answer.body.find("UNAVAILABLE") != std::string::npos);
  CHECK(over.end() == RawClient::End::fin);
  CHECK(test.metric("sluice_http_connections_refused_total") == 1);

  clients.pop_back();
  REQUIRE(eventually([&] { return test.server.connections() <= 3; }));
  RawClient again = test.connect();
  again.get("/hello");
  CHECK(again.answer().status == 200);
}

TEST_CASE("Server: a client that keeps sending after our FIN is cut", "[http]") {
  http::Server::Params params;
  params.linger_timeout = 100ms;
  params.linger_bytes = 100'000;
  TestServer test(params);
  RawClient client = test.connect();
  client.request("PUT", "/hello", "Content-Length: 1000000000\r\n");
  const std::string piece(10'000, 'x');
  while (client.send(piece)) {
  }
  CHECK(eventually([&] { return test.server.connections() == 0; }));
}

TEST_CASE("Server: a client that never closes is cut after the linger time-out", "[http]") {
  http::Server::Params params;
  params.linger_timeout = 50ms;
  TestServer test(params);
  RawClient client = test.connect();
  client.get("/hello", "Connection: close\r\n");
  CHECK(client.answer().status == 200);
  CHECK(eventually([&] { return test.server.connections() == 0; }));
}

TEST_CASE("Server: a file is sent with a disk pool at hand", "[http]") {
  runtime::DiskPool pool(1);
  {
    http::Server::Params params;
    params.disk_pool = &pool;
    TestServer test(params);
    test.make_file(1'000'003);
    // Not in memory any more, where the file system lets that be asked.
    (void)::fdatasync(test.handler.file.fd());
    (void)::posix_fadvise(test.handler.file.fd(), 0, 0, POSIX_FADV_DONTNEED);
    RawClient client = test.connect();
    client.get("/file");
    CHECK(client.answer().body == TestServer::content(1'000'003));
    client.get("/file");
    CHECK(client.answer().body == TestServer::content(1'000'003));
  }
  pool.stop();
}
