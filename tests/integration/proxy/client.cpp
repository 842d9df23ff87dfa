#include "client.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <cstdlib>
#include <stdexcept>

namespace sluice::test {
namespace {

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

}  // namespace

std::string Response::field(std::string_view name) const {
  std::string out;
  for (const auto& [key, value] : fields) {
    if (key != name) continue;
    if (!out.empty()) out += ", ";
    out += value;
  }
  return out;
}

Client::Client(std::uint16_t port, int receive_buffer, std::uint8_t host)
    : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  if (fd_ < 0) throw std::runtime_error("socket");
  const timeval patience{20, 0};
  ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  ::setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  if (receive_buffer != 0) ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl((INADDR_LOOPBACK & 0xFFFFFF00U) | host);
  if (host != 1 && ::bind(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    ::close(fd_);
    throw std::runtime_error("bind");
  }
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  if (::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    ::close(fd_);
    throw std::runtime_error("connect");
  }
}

Client::Client(Client&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), buffer_(std::move(other.buffer_)), reset_(other.reset_) {}

Client::~Client() { close(); }

void Client::close() {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

void Client::send(std::string_view method, std::string_view target, const Fields& fields, std::string_view version) {
  std::string text;
  text.append(method).append(" ").append(target).append(" ").append(version).append("\r\n");
  if (fields.empty() || fields.front().first != "Host") text.append("Host: cache\r\n");
  for (const auto& [name, value] : fields) text.append(name).append(": ").append(value).append("\r\n");
  send_raw(text.append("\r\n"));
}

void Client::send_raw(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) return;  // The answer, or its absence, tells.
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
}

bool Client::receive() {
  std::array<char, 64 * 1024> piece;
  for (;;) {
    const ssize_t n = ::recv(fd_, piece.data(), piece.size(), 0);
    if (n > 0) {
      buffer_.append(piece.data(), static_cast<std::size_t>(n));
      return true;
    }
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) reset_ = true;  // also a time-out: both are what must not happen
    return false;
  }
}

bool Client::take_line(std::string& line) {
  for (;;) {
    const std::size_t end = buffer_.find("\r\n");
    if (end != std::string::npos) {
      line = buffer_.substr(0, end);
      buffer_.erase(0, end + 2);
      return true;
    }
    if (!receive()) return false;
  }
}

Response Client::read_head() {
  Response response;
  std::string line;
  if (!take_line(line) || line.size() < 12) return response;
  const auto status = static_cast<unsigned>(std::atoi(line.c_str() + 9));
  while (take_line(line)) {
    if (line.empty()) {
      response.status = status;
      return response;
    }
    const std::size_t colon = line.find(": ");
    if (colon == std::string::npos) return response;
    response.fields.emplace_back(lower(line.substr(0, colon)), line.substr(colon + 2));
  }
  return response;
}

std::string Client::read_bytes(std::size_t count) {
  while (buffer_.size() < count && receive()) {
  }
  std::string out = buffer_.substr(0, count);
  buffer_.erase(0, out.size());
  return out;
}

void Client::read_chunks(Response& response) {
  std::string line;
  while (take_line(line)) {
    const std::size_t size = std::strtoull(line.c_str(), nullptr, 16);
    if (size == 0) {
      response.complete = take_line(line) && line.empty();
      return;
    }
    const std::string piece = read_bytes(size);
    response.body += piece;
    if (piece.size() != size || !take_line(line)) return;
  }
}

void Client::read_rest(Response& response, bool to_head) {
  const std::string length = response.field("content-length");
  if (response.status == 0) {
    // Nothing came, so nothing is complete.
  } else if (to_head || response.status == 304 || response.status == 204) {
    response.complete = true;
  } else if (lower(response.field("transfer-encoding")) == "chunked") {
    read_chunks(response);
  } else if (!length.empty()) {
    const std::size_t size = std::strtoull(length.c_str(), nullptr, 10);
    response.body += read_bytes(size - response.body.size());
    response.complete = response.body.size() == size;
  } else {
    while (receive()) {
    }
    response.body += std::exchange(buffer_, {});
    response.complete = !reset_;
  }
  response.reset = reset_;
}

Response Client::read_response(bool to_head) {
  Response response = read_head();
  read_rest(response, to_head);
  return response;
}

Response fetch(std::uint16_t port, std::string_view method, std::string_view target, const Fields& fields,
               std::string_view version) {
  Client client(port);
  client.send(method, target, fields, version);
  return client.read_response(method == "HEAD");
}

}  // namespace sluice::test
