#include "test_handler.hpp"

#include <fcntl.h>

#include <stdexcept>
#include <vector>

#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>

#include <fmt/format.h>

#include "http/response_head.hpp"

namespace sluice::test {

using http::Exchange;
using http::ResponseHead;
using runtime::Task;
namespace asio = runtime::asio;

namespace {

using Timer = asio::basic_waitable_timer<std::chrono::steady_clock, asio::wait_traits<std::chrono::steady_clock>,
                                         runtime::Executor>;

std::span<const std::byte> bytes(const std::string& text) { return std::as_bytes(std::span(text)); }

Task<void> send(Exchange& exchange, const std::string& body) {
  ResponseHead head(200);
  head.content_length(body.size());
  (void)co_await exchange.send(head.str(), body);
}

}  // namespace

Task<void> TestHandler::serve(Exchange& exchange) {
  const std::string path(exchange.request().path());
  if (path == "/hello") {
    co_await send(exchange, small_body);
  } else if (path == "/echo") {
    const http::Request& request = exchange.request();
    const std::string text =
        fmt::format("{} {} {} {}", request.method(), request.target(), request.host(), request.peer());
    co_await send(exchange, text);
  } else if (path == "/peer") {
    const std::string peer(exchange.request().peer());
    co_await send(exchange, peer);
  } else if (path == "/no-length") {
    (void)co_await exchange.send(ResponseHead(200).str(), "unmeasured");
  } else if (path == "/not-modified") {
    (void)co_await exchange.send(ResponseHead(304).add("ETag", "\"a\"").str());
  } else if (path == "/file") {
    co_await send_file(exchange);
  } else if (path == "/chunks" || path == "/chunks-file") {
    co_await chunks(exchange);
  } else if (path == "/flood") {
    co_await flood(exchange);
  } else if (path == "/hold") {
    co_await hold(exchange);
  } else if (path == "/throw") {
    throw std::runtime_error("as the test wants it");
  } else if (path != "/silent") {
    co_await misuse(exchange);
  }
}

Task<void> TestHandler::misuse(Exchange& exchange) {
  const std::string path(exchange.request().path());
  const std::string ten = "0123456789";
  ResponseHead head(200);
  head.content_length(100);
  if (path == "/wrong-length") {
    (void)co_await exchange.send(head.str(), ten);
    co_return;
  }
  (void)co_await exchange.begin(head.str());
  (void)co_await exchange.write(bytes(ten));
  if (path == "/break") exchange.break_off();
  if (path == "/short") (void)co_await exchange.end();
  if (path == "/throw-begun") throw std::runtime_error("as the test wants it");
  if (path == "/too-long") {
    const std::string many(91, 'x');
    (void)co_await exchange.write(bytes(many));
  }
}

Task<void> TestHandler::send_file(Exchange& exchange) {
  const bool part = exchange.request().query() == "part";
  const std::uint64_t first = part ? 1000 : 0;
  const std::uint64_t length = part ? 1000 : file_bytes;
  const bool beyond = exchange.request().query() == "beyond";
  ResponseHead head(200);
  head.content_length(length + (beyond ? 10 : 0));
  auto result = co_await exchange.begin(head.str());
  if (result) result = co_await exchange.send_file(file, first, length + (beyond ? 10 : 0), http::Pages::unknown);
  if (result) result = co_await exchange.end();
  sent = exchange.body_bytes_sent();
  if (!result) last_error = static_cast<int>(result.error().code);
}

Task<void> TestHandler::chunks(Exchange& exchange) {
  ResponseHead head(200);
  head.chunked();
  (void)co_await exchange.begin(head.str());
  const std::string one = "one,";
  const std::string two(20, 'x');
  (void)co_await exchange.write(bytes(one));
  (void)co_await exchange.write({});
  (void)co_await exchange.write(bytes(two));
  if (exchange.request().path() == "/chunks-file")
    (void)co_await exchange.send_file(file, 0, file_bytes, http::Pages::unknown);
  (void)co_await exchange.end();
}

// Writes until it fails.
Task<void> TestHandler::flood(Exchange& exchange) {
  const std::string piece(64 << 10, 'x');
  ResponseHead head(exchange.request().has_header("Range") ? 206 : 200);
  head.content_length(std::uint64_t{1} << 40);
  auto result = co_await exchange.begin(head.str());
  while (result) result = co_await exchange.write(bytes(piece));
  sent = exchange.body_bytes_sent();
  last_error = static_cast<int>(result.error().code);
}

Task<void> TestHandler::hold(Exchange& exchange) {
  Timer timer(co_await asio::this_coro::executor);
  holding.fetch_add(1);
  while (!open && !exchange.peer_gone()) {
    timer.expires_after(std::chrono::milliseconds(2));
    co_await timer.async_wait(runtime::kAwait);
  }
  if (exchange.peer_gone()) {
    gone.fetch_add(1);
    co_return;
  }
  const std::string body = "held";
  co_await send(exchange, body);
}

TestServer::TestServer(http::Server::Params params) : server(loops, handler, std::move(params), registry) {
  char name[] = "/tmp/sluice-http-XXXXXX";
  directory = ::mkdtemp(name);
  loops.start();
  const auto listening = server.listen("127.0.0.1:0");
  if (!listening) throw std::runtime_error(listening.error().message);
}

TestServer::~TestServer() {
  handler.open = true;
  server.cancel();
  const bool drained = server.drain(std::chrono::seconds(10));
  std::filesystem::remove_all(directory);
  if (!drained) std::abort();
}

std::string TestServer::content(std::size_t size) {
  std::string text(size, '\0');
  for (std::size_t i = 0; i < size; ++i) text[i] = static_cast<char>((i * 31 + i / 256 * 7 + i / 65536) & 0xff);
  return text;
}

void TestServer::make_file(std::size_t size) {
  const std::filesystem::path path = directory / "file";
  std::ofstream(path, std::ios::binary) << content(size);
  handler.file = runtime::File(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  handler.file_bytes = size;
}

double TestServer::metric(const std::string& name, const std::string& kind) const {
  for (const metrics::Family& family : registry.collect()) {
    if (family.name != name) continue;
    for (const metrics::Sample& sample : family.samples) {
      if (kind.empty()) return sample.value;
      for (const auto& [key, value] : sample.labels) {
        if ((key == "kind" || key == "reason" || key == "result") && value == kind) return sample.value;
      }
    }
  }
  return -1;
}

}  // namespace sluice::test
