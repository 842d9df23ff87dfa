// What a request costs the HTTP server: requests a second and CPU time of its one loop.
//
//   bench_http [seconds for each figure]
//
// The load comes from a thread of this process over loopback, as fast as the server answers; what counts is the CPU
// time of the server's thread, which with loopback holds the kernel's work for both sides of the send. Beside it stands
// a bare epoll loop that parses nothing and sends the same bytes: the ratio of the two says more than either figure.
#include <arpa/inet.h>
#include <malloc.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <future>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <boost/asio/post.hpp>

#include <fmt/format.h>

#include "http/response_head.hpp"
#include "http/server.hpp"
#include "runtime/filesystem.hpp"
#include "runtime/loop.hpp"

namespace {

using namespace sluice;
using runtime::Task;

class BenchHandler final : public http::Handler {
 public:
  BenchHandler() {
    http::ResponseHead head(200);
    head.add("Content-Type", "application/vnd.oci.image.manifest.v1+json");
    head.add("Docker-Content-Digest", "sha256:" + std::string(64, 'a'))
        .add("ETag", "\"sha256:" + std::string(64, 'a') + "\"");
    small_head_ = head.content_length(body_.size()).str();
  }

  Task<void> serve(http::Exchange& exchange) override {
    if (exchange.request().path() == "/file") {
      http::ResponseHead head(200);
      head.content_length(file_bytes);
      auto result = co_await exchange.begin(head.str());
      if (result) result = co_await exchange.send_file(file, 0, file_bytes, http::Pages::unknown);
      if (result) result = co_await exchange.end();
      co_return;
    }
    (void)co_await exchange.send(small_head_, exchange.request().is_head() ? std::string_view{} : body_);
  }

  runtime::File file;
  std::uint64_t file_bytes = 0;

 private:
  const std::string body_ = std::string(528, 'x');
  std::string small_head_;
};

void pin(int processor) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<std::size_t>(processor), &set);
  (void)::sched_setaffinity(0, sizeof set, &set);
}

// The least that a server can do: wait, receive, send.
class BareServer {
 public:
  explicit BareServer(std::string answer) : answer_(std::move(answer)), thread_([this] { run(); }) {}
  ~BareServer() {
    stop_ = true;
    thread_.join();
    ::close(listener_);
  }
  [[nodiscard]] std::uint16_t port() { return port_.get_future().get(); }
  // Of the thread; from any other thread.
  [[nodiscard]] double cpu_seconds() {
    clockid_t clock{};
    timespec now{};
    if (::pthread_getcpuclockid(thread_.native_handle(), &clock) != 0) return 0;
    clock_gettime(clock, &now);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
  }

 private:
  void run() {
    pin(0);
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    if (::bind(listener_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) std::abort();
    if (::listen(listener_, 1024) != 0) std::abort();
    ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
    const int epoll = ::epoll_create1(EPOLL_CLOEXEC);
    epoll_event event{EPOLLIN, {}};
    event.data.fd = listener_;
    ::epoll_ctl(epoll, EPOLL_CTL_ADD, listener_, &event);
    port_.set_value(ntohs(address.sin_port));
    std::vector<epoll_event> events(128);
    char buffer[2048];
    while (!stop_) {
      const int ready = ::epoll_wait(epoll, events.data(), 128, 100);
      for (int i = 0; i < ready; ++i) {
        const int fd = events[static_cast<std::size_t>(i)].data.fd;
        if (fd == listener_) {
          event.data.fd = ::accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
          event.events = EPOLLIN | EPOLLET;
          if (event.data.fd >= 0) ::epoll_ctl(epoll, EPOLL_CTL_ADD, event.data.fd, &event);
        } else if (::recv(fd, buffer, sizeof buffer, 0) <= 0) {
          ::close(fd);
        } else if (::send(fd, answer_.data(), answer_.size(), MSG_NOSIGNAL) < 0) {
          std::abort();
        }
      }
    }
    ::close(epoll);
  }

  const std::string answer_;
  std::promise<std::uint16_t> port_;
  std::atomic<bool> stop_{false};
  int listener_ = -1;
  std::thread thread_;
};

double cpu_seconds(runtime::Loop& loop) {
  std::promise<double> answer;
  runtime::asio::post(loop.get_executor(), [&answer] {
    timespec now{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    answer.set_value(static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec));
  });
  return answer.get_future().get();
}

int connect_to(std::uint16_t port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) std::abort();
  return fd;
}

struct Load {
  std::uint64_t requests = 0;
  std::uint64_t bytes = 0;
  double seconds = 0;
};

// Sends `request` on each connection again and again, whenever `answer_bytes` have come back.
Load load(std::uint16_t port, const std::string& request, std::uint64_t answer_bytes, int connections, double seconds) {
  struct Peer {
    int fd;
    std::uint64_t left;
  };
  std::vector<Peer> peers;
  const int epoll = ::epoll_create1(EPOLL_CLOEXEC);
  for (int i = 0; i < connections; ++i) peers.push_back({connect_to(port), answer_bytes});
  for (Peer& peer : peers) {
    epoll_event event{EPOLLIN, {&peer}};
    ::epoll_ctl(epoll, EPOLL_CTL_ADD, peer.fd, &event);
    if (::send(peer.fd, request.data(), request.size(), MSG_NOSIGNAL) < 0) std::abort();
  }
  Load done;
  const auto start = std::chrono::steady_clock::now();
  const auto elapsed = [start] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  std::vector<epoll_event> events(static_cast<std::size_t>(connections));
  while ((done.seconds = elapsed()) < seconds) {
    const int ready = ::epoll_wait(epoll, events.data(), connections, 100);
    for (int i = 0; i < ready; ++i) {
      Peer& peer = *static_cast<Peer*>(events[static_cast<std::size_t>(i)].data.ptr);
      // Thrown away in the kernel: the load is not to be what is measured.
      const ssize_t n = ::recv(peer.fd, nullptr, std::size_t{1} << 20, MSG_DONTWAIT | MSG_TRUNC);
      if (n <= 0) std::abort();
      done.bytes += static_cast<std::uint64_t>(n);
      peer.left -= std::min(peer.left, static_cast<std::uint64_t>(n));
      if (peer.left > 0) continue;
      ++done.requests;
      peer.left = answer_bytes;
      if (::send(peer.fd, request.data(), request.size(), MSG_NOSIGNAL) < 0) std::abort();
    }
  }
  for (const Peer& peer : peers) ::close(peer.fd);
  ::close(epoll);
  return done;
}

// How long an answer is, head included.
std::uint64_t measure_answer(std::uint16_t port, const std::string& request, std::uint64_t body_bytes) {
  const int fd = connect_to(port);
  if (::send(fd, request.data(), request.size(), MSG_NOSIGNAL) < 0) std::abort();
  std::string text;
  char buffer[65536];
  std::size_t end = std::string::npos;
  while ((end = text.find("\r\n\r\n")) == std::string::npos) {
    const ssize_t n = ::recv(fd, buffer, sizeof buffer, 0);
    if (n <= 0) std::abort();
    text.append(buffer, static_cast<std::size_t>(n));
  }
  ::close(fd);
  return end + 4 + body_bytes;
}

// Heap of this process that idle connections hold, kernel memory not counted.
double idle_bytes(std::uint16_t port, const std::string& text) {
  constexpr int kConnections = 400;
  const auto heap = [] { return static_cast<double>(::mallinfo2().uordblks); };
  const double before = heap();
  std::vector<int> fds;
  char buffer[4096];
  for (int i = 0; i < kConnections; ++i) {
    fds.push_back(connect_to(port));
    if (::send(fds.back(), text.data(), text.size(), MSG_NOSIGNAL) < 0) std::abort();
    if (::recv(fds.back(), buffer, sizeof buffer, 0) <= 0) std::abort();
  }
  const double used = heap() - before;
  for (const int fd : fds) ::close(fd);
  return used / kConnections;
}

std::string request(const char* method, const char* path) {
  return fmt::format(
      "{} {} HTTP/1.1\r\nHost: cache.example:5000\r\nUser-Agent: containerd/2.1.9+unknown\r\nAccept: "
      "application/vnd.oci.image.manifest.v1+json, */*\r\nAccept-Encoding: gzip\r\n\r\n",
      method, path);
}

}  // namespace

int main(int argc, char** argv) {
  const double seconds = argc > 1 ? std::atof(argv[1]) : 2;
  metrics::Registry registry;
  BenchHandler handler;
  runtime::LoopPool loops(1);
  loops.start();
  {
    http::Server server(loops, handler, {}, registry);
    if (const auto listening = server.listen("127.0.0.1:0"); !listening) {
      fmt::print(stderr, "{}\n", listening.error().message);
      return 1;
    }
    runtime::asio::post(loops.at(0).get_executor(), [] { pin(0); });
    pin(1);

    const std::string filler = "HTTP/1.1 200 OK\r\nContent-Length: 528\r\nA: " + std::string(250, 'x') + "\r\n\r\n";
    const std::string bare_answer = filler + std::string(528, 'x');
    BareServer bare(bare_answer);
    const std::uint16_t bare_port = bare.port();
    for (const char* method : {"GET", "HEAD", "GET", "HEAD"}) {
      const double bare_before = bare.cpu_seconds();
      const Load raw = load(bare_port, request(method, "/small"), bare_answer.size(), 64, seconds);
      fmt::print("{:4} bare epoll: {:8.0f} requests/s, {:5.2f} us CPU each\n", method,
                 static_cast<double>(raw.requests) / raw.seconds,
                 1e6 * (bare.cpu_seconds() - bare_before) / static_cast<double>(raw.requests));
      const std::string text = request(method, "/small");
      const std::uint64_t answer = measure_answer(server.port(), text, std::string(method) == "GET" ? 528 : 0);
      (void)load(server.port(), text, answer, 64, seconds / 4);
      const double before = cpu_seconds(loops.at(0));
      const Load done = load(server.port(), text, answer, 64, seconds);
      const double cpu = cpu_seconds(loops.at(0)) - before;
      fmt::print("{:4} 528 bytes: {:8.0f} requests/s, {:5.2f} us CPU each\n", method,
                 static_cast<double>(done.requests) / done.seconds, 1e6 * cpu / static_cast<double>(done.requests));
    }
    fmt::print("an idle connection holds {:.0f} bytes of heap\n", idle_bytes(server.port(), request("GET", "/small")));
    char name[] = "/tmp/bench-http-XXXXXX";
    const int fd = ::mkstemp(name);
    ::unlink(name);
    handler.file = runtime::File(fd);
    for (const std::uint64_t size : {64ULL << 10, 1ULL << 20, 100ULL << 20}) {
      if (::ftruncate(fd, 0) != 0) return 1;
      const std::string piece(64 << 10, 'x');
      for (std::uint64_t at = 0; at < size; at += piece.size()) {
        if (::pwrite(fd, piece.data(), piece.size(), static_cast<off_t>(at)) < 0) return 1;
      }
      handler.file_bytes = size;
      const std::string text = request("GET", "/file");
      const std::uint64_t answer = measure_answer(server.port(), text, size);
      const double before = cpu_seconds(loops.at(0));
      const Load done = load(server.port(), text, answer, 8, seconds);
      const double cpu = cpu_seconds(loops.at(0)) - before;
      const double gib = static_cast<double>(done.bytes) / static_cast<double>(1ULL << 30);
      fmt::print("sendfile {:6} KiB: {:6.2f} GiB/s, {:.3f} s CPU for a GiB\n", size >> 10, gib / done.seconds,
                 cpu / gib);
    }
  }
  return 0;
}
