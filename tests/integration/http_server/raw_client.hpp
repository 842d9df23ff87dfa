// A client that does exactly what a test says, on a blocking socket. Every wait ends after ten seconds, so that a hang
// is a failure.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace sluice::test {

struct Answer {
  unsigned status = 0;
  std::string head;  // with the status line and the empty line
  std::string body;

  // The value of a field by its exact name; empty where it is missing.
  [[nodiscard]] std::string field(std::string_view name) const {
    const std::string key = "\r\n" + std::string(name) + ": ";
    const std::size_t at = head.find(key);
    if (at == std::string::npos) return {};
    const std::size_t begin = at + key.size();
    return head.substr(begin, head.find("\r\n", begin) - begin);
  }
};

class RawClient {
 public:
  // How a connection ended.
  enum class End { fin, reset, timeout };

  explicit RawClient(std::uint16_t port, int receive_buffer = 0)
      : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const timeval patience{10, 0};
    (void)::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    (void)::setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (receive_buffer > 0) (void)::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
      ::close(fd_);
      throw std::runtime_error("connect failed");
    }
  }
  RawClient(RawClient&& other) noexcept : fd_(std::exchange(other.fd_, -1)), rest_(std::move(other.rest_)) {}
  RawClient& operator=(RawClient&&) = delete;
  ~RawClient() {
    if (fd_ >= 0) ::close(fd_);
  }

  // False when the server no longer takes bytes.
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(n));
    }
    return true;
  }
  bool get(std::string_view target, std::string_view fields = {}) { return request("GET", target, fields); }
  bool request(std::string_view method, std::string_view target, std::string_view fields = {}) {
    return send(std::string(method) + " " + std::string(target) + " HTTP/1.1\r\nHost: test\r\n" + std::string(fields) +
                "\r\n");
  }

  // At most `n` bytes; fewer at the end.
  std::string read(std::size_t n) {
    while (rest_.size() < n && receive()) {
    }
    std::string taken = rest_.substr(0, n);
    rest_.erase(0, taken.size());
    return taken;
  }

  std::string read_head() {
    std::size_t end = 0;
    while ((end = rest_.find("\r\n\r\n")) == std::string::npos) {
      if (!receive()) return std::exchange(rest_, {});
    }
    return read(end + 4);
  }

  // One answer. Its body ends with its length, its last chunk or the connection.
  Answer answer(bool to_head = false) {
    Answer answer;
    answer.head = read_head();
    if (answer.head.size() > 12) answer.status = static_cast<unsigned>(std::atoi(answer.head.c_str() + 9));
    if (to_head || answer.status == 304) return answer;
    if (answer.field("Transfer-Encoding") == "chunked") {
      answer.body = read_chunks();
    } else if (const std::string length = answer.field("Content-Length"); !length.empty()) {
      answer.body = read(std::stoull(length));
    } else {
      answer.body = read_all();
    }
    return answer;
  }

  // Everything until the connection ends.
  std::string read_all() {
    while (receive()) {
    }
    return std::exchange(rest_, {});
  }

  // Reads and drops until the connection ends.
  End end() {
    while (receive()) rest_.clear();
    return end_;
  }

  [[nodiscard]] int fd() const noexcept { return fd_; }
  void shutdown_send() { ::shutdown(fd_, SHUT_WR); }
  // Closes with an RST.
  void reset() {
    const linger now{1, 0};
    (void)::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    ::close(std::exchange(fd_, -1));
  }

 private:
  bool receive() {
    char buffer[65536];
    const ssize_t n = ::recv(fd_, buffer, sizeof buffer, 0);
    if (n > 0) {
      rest_.append(buffer, static_cast<std::size_t>(n));
      return true;
    }
    end_ = n == 0 ? End::fin : errno == EAGAIN ? End::timeout : End::reset;
    return false;
  }

  std::string read_chunks() {
    std::string body;
    for (;;) {
      std::size_t end = 0;
      while ((end = rest_.find("\r\n")) == std::string::npos) {
        if (!receive()) return body;
      }
      const std::size_t size = std::stoull(read(end + 2), nullptr, 16);
      body += read(size);
      read(2);
      if (size == 0) return body;
    }
  }

  int fd_;
  std::string rest_;
  End end_ = End::timeout;
};

}  // namespace sluice::test
