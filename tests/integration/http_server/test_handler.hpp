// A server on two loops with a handler that does what the path says.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include "base/metrics.hpp"
#include "http/server.hpp"
#include "raw_client.hpp"
#include "runtime/filesystem.hpp"
#include "runtime/loop.hpp"

namespace sluice::test {

// Polls, for what another thread is about to do; false after ten seconds.
template <class F>
bool eventually(F condition) {
  for (int i = 0; i < 5000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return condition();
}

class TestHandler final : public http::Handler {
 public:
  runtime::Task<void> serve(http::Exchange& exchange) override;

  runtime::File file;  // /file: all of it; /file?part: bytes 1000 to 1999
  std::uint64_t file_bytes = 0;
  std::string small_body = "hello";    // /hello
  std::atomic<bool> open{false};       // /hold answers once it is true
  std::atomic<int> holding{0};         // requests in /hold
  std::atomic<int> gone{0};            // requests in /hold whose client went away
  std::atomic<std::uint64_t> sent{0};  // of the last /file, /flood
  std::atomic<int> last_error{-1};     // Errc of the last failed send

 private:
  runtime::Task<void> hold(http::Exchange& exchange);
  runtime::Task<void> send_file(http::Exchange& exchange);
  runtime::Task<void> chunks(http::Exchange& exchange);
  runtime::Task<void> flood(http::Exchange& exchange);
  runtime::Task<void> misuse(http::Exchange& exchange);
};

// Everything a test needs; stopped and checked for leftovers by the destructor.
struct TestServer {
  explicit TestServer(http::Server::Params params = {});
  ~TestServer();

  // A file of that many bytes, whose content depends on the position.
  void make_file(std::size_t bytes);
  static std::string content(std::size_t bytes);

  [[nodiscard]] RawClient connect(int receive_buffer = 0) const { return RawClient(server.port(), receive_buffer); }
  // The value of a counter or gauge; `kind` is the label kind, reason or result.
  [[nodiscard]] double metric(const std::string& name, const std::string& kind = {}) const;

  metrics::Registry registry;
  TestHandler handler;
  runtime::LoopPool loops{2, std::chrono::milliseconds(5)};
  http::Server server;
  std::filesystem::path directory;
};

}  // namespace sluice::test
