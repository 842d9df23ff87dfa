// Answers that no Redis gives, and keys that hold what they should not.
#include <atomic>
#include <thread>

#include <catch2/catch.hpp>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "redis_server.hpp"
#include "support/catch_result.hpp"
#include "support/code_of.hpp"

using namespace sluice;
using namespace std::chrono_literals;
using test::code_of;
using test::RedisClient;
using test::RedisServer;

namespace {

const oci::Digest kDigest = oci::digest_of(oci::Algorithm::sha256, "blob");
const oci::Descriptor kDescriptor{kDigest, 42, "application/octet-stream"};

// Sends `greeting` to whoever connects, `first` when something is read for the first time, and `then` each further
// time.
class Impostor {
 public:
  struct Lines {
    std::string greeting;
    std::string first;
    std::string then;
    bool hang_up = false;  // after any of them that is not empty
  };

  explicit Impostor(Lines lines) : lines_(std::move(lines)) {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    static_cast<void>(::bind(listener_, reinterpret_cast<const sockaddr*>(&address), length));
    static_cast<void>(::listen(listener_, 16));
    ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &length);
    port = ntohs(address.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
  ~Impostor() {
    stop_ = true;
    ::shutdown(listener_, SHUT_RDWR);
    thread_.join();
    ::close(listener_);
  }
  Impostor(const Impostor&) = delete;
  Impostor& operator=(const Impostor&) = delete;

  std::uint16_t port = 0;

 private:
  void serve() {
    while (!stop_) {
      const int fd = ::accept(listener_, nullptr, nullptr);
      if (fd < 0) return;
      // One client at a time: the next one waits until this one has left.
      talk(fd);
      ::close(fd);
    }
  }
  bool say(int fd, const std::string& text) {
    if (text.empty()) return true;
    return ::send(fd, text.data(), text.size(), MSG_NOSIGNAL) > 0 && !lines_.hang_up;
  }
  void talk(int fd) {
    timeval patience{0, 20'000};
    ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (!say(fd, lines_.greeting)) return;
    bool first = true;
    while (!stop_) {
      char buffer[4096];
      const ssize_t got = ::recv(fd, buffer, sizeof buffer, 0);
      if (got == 0) return;
      if (got < 0) continue;
      if (!say(fd, first ? lines_.first : lines_.then)) return;
      first = false;
    }
  }

  const Lines lines_;
  int listener_ = -1;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

descriptors::RedisParams hasty(std::uint16_t port) {
  descriptors::RedisParams params = test::params_for({"127.0.0.1", port, ""});
  params.command_timeout = 250ms;
  params.connect_timeout = 250ms;
  return params;
}

}  // namespace

TEST_CASE("Redis nonsense: an impostor is found out at the greeting", "[redis]") {
  Impostor::Lines lines;
  SECTION("says nothing") {}
  SECTION("speaks HTTP") { lines.first = "HTTP/1.1 400 Bad Request\r\n\r\n"; }
  SECTION("is loading") { lines.first = "-LOADING Redis is loading the dataset in memory\r\n"; }
  SECTION("answers with a text") { lines.first = "+OK\r\n"; }
  SECTION("hangs up") {
    lines.first = ":";
    lines.hang_up = true;
  }
  SECTION("hangs up before anything was said") {
    lines.greeting = "\r";
    lines.hang_up = true;
  }
  SECTION("has too many clients") {
    lines.greeting = "-ERR max number of clients reached\r\n";
    lines.hang_up = true;
  }
  SECTION("speaks first") { lines.greeting = ":0\r\n:0\r\n"; }
  SECTION("says more than it was asked") {
    lines.first = ":0\r\n+OK\r\n:0\r\n";
    lines.then = ":0\r\n:0\r\n:0\r\n:0\r\n";
  }
  SECTION("claims an endless array") { lines.first = "*100000000\r\n"; }
  SECTION("nests without end") {
    for (int i = 0; i < 100; ++i) lines.first += "*1\r\n";
  }
  SECTION("sends a text without end") {
    lines.first = "$500000000\r\n";
    lines.then = std::string(65536, 'x');
  }
  SECTION("sends bytes") { lines.first = std::string("\0\xff\r\n\0", 5); }
  const Impostor impostor(lines);
  RedisClient client(hasty(impostor.port));
  for (int i = 0; i < 20; ++i) CHECK(code_of(client.run(client.cache->stat(kDigest))) == "overloaded");
  CHECK(client.breaker_open());
}

TEST_CASE("Redis nonsense: an impostor is found out later", "[redis]") {
  Impostor::Lines lines;
  lines.first = ":0\r\n";
  std::string code = "overloaded";
  SECTION("a cut answer") {
    lines.then = "*3\r\n$71\r\nsha256:";
    lines.hang_up = false;
  }
  SECTION("no array") {
    lines.then = ":1\r\n";
    code = "corrupt";
  }
  SECTION("an array of numbers") {
    lines.then = "*3\r\n:1\r\n:2\r\n:3\r\n";
    code = "corrupt";
  }
  SECTION("two answers to one question") {
    lines.then = "*3\r\n$-1\r\n$-1\r\n$-1\r\n:1\r\n";
    code = "blob_unknown";
  }
  SECTION("a protocol error") { lines.then = "nonsense\r\n"; }
  SECTION("no leave") { lines.then = "-NOAUTH Authentication required.\r\n"; }
  const Impostor impostor(lines);
  RedisClient client(hasty(impostor.port));
  CHECK(code_of(client.run(client.cache->stat(kDigest))) == code);
  // Nothing but nonsense ends in doing without.
  if (code == "corrupt") {
    for (int i = 0; i < 10; ++i) static_cast<void>(client.run(client.cache->stat(kDigest)));
  }
  if (code != "blob_unknown") CHECK(code_of(client.run(client.cache->stat(kDigest))) == "overloaded");
}

TEST_CASE("Redis nonsense: a spoilt key is an error of its own", "[redis]") {
  REQUIRE_REDIS();
  RedisServer server;
  RedisClient client(test::params_for(server.tcp()));
  const auto a = client.scoped("docker.io/library/a");
  const auto b = client.scoped("docker.io/library/b");
  REQUIRE(client.run(b->set_descriptor(kDigest, kDescriptor)));
  const oci::Digest spoilt = oci::digest_of(oci::Algorithm::sha256, "spoilt");
  const std::string text = spoilt.to_string();
  const oci::Descriptor descriptor{spoilt, 1, "a/b"};
  SECTION("the set is a text") { server.run({"SET", "repository::library/a::blobs", "x"}); }
  SECTION("the hash is a list") {
    server.run({"SADD", "repository::library/a::blobs", text});
    server.run({"RPUSH", "blobs::" + text, "x"});
  }
  SECTION("the repository's hash is a set") {
    REQUIRE(client.run(a->set_descriptor(spoilt, descriptor)));
    server.run({"DEL", "repository::library/a::blobs::" + text});
    server.run({"SADD", "repository::library/a::blobs::" + text, "x"});
  }
  SECTION("the size is a word") {
    REQUIRE(client.run(a->set_descriptor(spoilt, descriptor)));
    server.run({"HSET", "blobs::" + text, "size", "big"});
  }
  SECTION("the digest is another blob's") {
    REQUIRE(client.run(a->set_descriptor(spoilt, descriptor)));
    server.run({"HSET", "blobs::" + text, "digest", kDigest.to_string()});
  }
  SECTION("the date is a word") {
    REQUIRE(client.run(a->set_descriptor(spoilt, descriptor)));
    server.run({"HSET", "repository::library/a::blobs::" + text, "sluice-checked", "yesterday"});
  }
  SECTION("the media type would be a header of its own") {
    REQUIRE(client.run(a->set_descriptor(spoilt, descriptor)));
    server.run({"HSET", "repository::library/a::blobs::" + text, "mediatype", "a/b\r\nX-Evil: 1"});
  }
  for (int i = 0; i < 50; ++i) {
    CHECK(code_of(client.run(a->stat(spoilt))) == "corrupt");
    CHECK(client.run(b->stat(kDigest)));
  }
  CHECK_FALSE(client.breaker_open());
  CHECK(client.errors("nonsense") == 50);
}

TEST_CASE("Redis nonsense: a Redis that is full is still read", "[redis]") {
  REQUIRE_REDIS();
  RedisServer server;
  RedisClient client(test::params_for(server.tcp()));
  const auto a = client.scoped("docker.io/library/a");
  REQUIRE(client.run(a->set_descriptor(kDigest, kDescriptor)));
  server.run({"CONFIG", "SET", "maxmemory", "1"});
  const oci::Digest other = oci::digest_of(oci::Algorithm::sha256, "other");
  CHECK(code_of(client.run(a->set_descriptor(other, {other, 1, "a/b"}))) == "no_space");
  CHECK(client.run(a->stat(kDigest)).value() == kDescriptor);
  CHECK_FALSE(client.breaker_open());
}
