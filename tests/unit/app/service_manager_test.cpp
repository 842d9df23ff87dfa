#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstring>
#include <string>
#include <thread>

#include <catch2/catch.hpp>

#include <boost/asio/post.hpp>

#include "app/loop_watch.hpp"
#include "app/service_manager.hpp"
#include "support/temp_directory.hpp"

using namespace sluice;
using namespace sluice::app;
using namespace std::chrono_literals;

namespace {

// systemd's end of the socket.
class Listener {
 public:
  explicit Listener(const std::string& name) : fd_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un at{};
    at.sun_family = AF_UNIX;
    std::memcpy(at.sun_path, name.data(), name.size());
    if (name.front() == '@') at.sun_path[0] = '\0';
    const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
    bound_ = ::bind(fd_, reinterpret_cast<const sockaddr*>(&at), length) == 0;
  }
  ~Listener() { ::close(fd_); }
  [[nodiscard]] bool bound() const { return bound_; }
  // Empty when nothing comes within a second.
  [[nodiscard]] std::string receive(std::chrono::milliseconds patience = 1000ms) const {
    const timeval wait{patience.count() / 1000, (patience.count() % 1000) * 1000};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    std::array<char, 512> buffer{};
    const ssize_t n = ::recv(fd_, buffer.data(), buffer.size(), 0);
    return n < 0 ? std::string() : std::string(buffer.data(), static_cast<std::size_t>(n));
  }

 private:
  int fd_;
  bool bound_ = false;
};

}  // namespace

TEST_CASE("ServiceManager: tells what systemd expects, in one datagram each", "[app]") {
  const test::TempDirectory folder;
  const bool is_abstract = GENERATE(false, true);
  const std::string path =
      is_abstract ? "@sluice-test-" + std::to_string(::getpid()) : (folder.path() / "notify").string();
  const Listener listener(path);
  REQUIRE(listener.bound());
  const ServiceManager manager({{"NOTIFY_SOCKET", path}});
  manager.ready("serving on :5000,\n7 blobs");
  CHECK(listener.receive() == "READY=1\nSTATUS=serving on :5000, 7 blobs");
  manager.status("degraded");
  CHECK(listener.receive() == "STATUS=degraded");
  manager.alive();
  CHECK(listener.receive() == "WATCHDOG=1");
  manager.stopping(30s);
  CHECK(listener.receive() == "STOPPING=1\nSTATUS=Waiting for running requests to end\nEXTEND_TIMEOUT_USEC=30000000");
}

TEST_CASE("ServiceManager: without a service manager, or with a socket that is of no use, nothing happens", "[app]") {
  for (const char* address : {"", "relative", "/no/such/folder/notify"}) {
    const ServiceManager manager({{"NOTIFY_SOCKET", address}, {"WATCHDOG_USEC", "1000"}});
    manager.ready("x");
    manager.alive();
  }
  CHECK_FALSE(ServiceManager({}).watchdog());
}

TEST_CASE("ServiceManager: the watchdog is ours where WATCHDOG_PID names us", "[app]") {
  using Environment = ServiceManager::Environment;
  const auto watchdog = [](Environment environment) {
    environment["NOTIFY_SOCKET"] = "@nobody";
    return ServiceManager(environment).watchdog();
  };
  CHECK(watchdog({{"WATCHDOG_USEC", "30000000"}}) == 30s);
  CHECK(watchdog({{"WATCHDOG_USEC", "30000000"}, {"WATCHDOG_PID", std::to_string(::getpid())}}) == 30s);
  CHECK_FALSE(watchdog({{"WATCHDOG_USEC", "30000000"}, {"WATCHDOG_PID", "1"}}));
  CHECK_FALSE(watchdog({{"WATCHDOG_USEC", "x"}}));
  CHECK_FALSE(watchdog({}));
}

TEST_CASE("LoopWatch: the service manager hears nothing while a loop hangs", "[app]") {
  const test::TempDirectory folder;
  const std::string path = folder.path() / "notify";
  const Listener listener(path);
  REQUIRE(listener.bound());
  const ServiceManager manager({{"NOTIFY_SOCKET", path}, {"WATCHDOG_USEC", "300000"}});
  metrics::Registry registry;
  runtime::LoopPool loops(2);
  runtime::LoopPool watcher(1);
  runtime::TaskGroup tasks("watch");
  LoopWatch watch(manager, loops.size(), registry);
  loops.start();
  watcher.start();
  watch.start(loops, watcher.at(0), tasks);
  CHECK(listener.receive(5s) == "WATCHDOG=1");

  std::atomic<bool> hangs{true};
  std::atomic<bool> began{false};
  runtime::asio::post(loops.at(1).get_executor(), [&] {
    began = true;
    while (hangs) std::this_thread::sleep_for(1ms);
  });
  while (!began) std::this_thread::yield();
  // What was on its way when it began to hang, and at most one look that still saw a beat of before.
  while (!listener.receive(400ms).empty()) {
  }
  CHECK(listener.receive(400ms).empty());
  hangs = false;
  CHECK(listener.receive(5s) == "WATCHDOG=1");
  // It was late by as much as it hung.
  CHECK(registry.collect().front().samples.front().histogram.sum > 0.3);

  tasks.cancel();
  CHECK(tasks.wait_for(5s));
  loops.stop();
  watcher.stop();
}
