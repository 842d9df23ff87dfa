#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <stdexcept>

#include <openssl/ssl.h>

#include "support/scripted_origin_state.hpp"

namespace sluice::test {

// --------------------------------------------------------------------------------------------------------------- Wire

Wire::Wire(int fd, ssl_ctx_st* tls) : fd_(fd), tls_context_(tls) {
  const int on = 1;
  setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

Wire::~Wire() {
  if (tls_ != nullptr) {
    SSL_shutdown(tls_);
    SSL_free(tls_);
  }
}

bool Wire::accept_tls() {
  if (tls_context_ == nullptr) return true;
  // OpenSSL writes with write(2), which kills a process whose peer has gone; as the daemon, the tests do without that.
  std::signal(SIGPIPE, SIG_IGN);
  tls_ = SSL_new(tls_context_);
  SSL_set_fd(tls_, fd_);
  return SSL_accept(tls_) == 1;
}

std::size_t Wire::read(char* into, std::size_t size) {
  const auto n = tls_ != nullptr ? SSL_read(tls_, into, static_cast<int>(size)) : ::recv(fd_, into, size, 0);
  return n > 0 ? static_cast<std::size_t>(n) : 0;
}

bool Wire::write(std::string_view bytes) {
  while (!bytes.empty()) {
    const std::size_t piece = std::min<std::size_t>(bytes.size(), 64 << 10);
    const auto n = tls_ != nullptr ? SSL_write(tls_, bytes.data(), static_cast<int>(piece))
                                   : ::send(fd_, bytes.data(), piece, MSG_NOSIGNAL);
    if (n <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

bool Wire::peer_gone() const {
  char byte = 0;
  const ssize_t n = ::recv(fd_, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  return n == 0 || (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}

void Wire::reset_on_close() {
  const linger hard{1, 0};
  setsockopt(fd_, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
}

// -------------------------------------------------------------------------------------------------------- connections

ScriptedOrigin::State::State(Params settings) : params(std::move(settings)) {
  listen();
  acceptor = std::thread([this] { accept_all(); });
}

ScriptedOrigin::State::~State() {
  stopping = true;
  ::shutdown(listener, SHUT_RDWR);
  acceptor.join();
  ::close(listener);
  std::map<std::size_t, Connection> left;
  {
    const std::scoped_lock lock(mutex);
    for (auto& [number, connection] : connections) {
      if (!connection.finished) ::shutdown(connection.fd, SHUT_RDWR);
    }
    left.swap(connections);
  }
  for (auto& [number, connection] : left) connection.thread.join();
}

void ScriptedOrigin::State::listen() {
  listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  if (::bind(listener, generic, size) != 0 || ::listen(listener, 256) != 0 ||
      ::getsockname(listener, generic, &size) != 0) {
    throw std::runtime_error("scripted origin: cannot listen");
  }
  port = ntohs(address.sin_port);
}

void ScriptedOrigin::State::accept_all() {
  while (!stopping) {
    const int fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      return;
    }
    const std::scoped_lock lock(mutex);
    if (stopping) {
      ::close(fd);
      return;
    }
    const std::size_t number = seen.connections++;
    ++seen.open;
    Connection& connection = connections[number];
    connection.fd = fd;
    connection.thread = std::thread([this, number, fd] { serve(number, fd); });
    changed.notify_all();
  }
}

namespace {

// Nothing when the client has gone. `buffer` keeps what came behind the head.
std::optional<Request> read_request(Wire& wire, std::string& buffer) {
  std::size_t end = 0;
  while ((end = buffer.find("\r\n\r\n")) == std::string::npos) {
    char bytes[8192];
    const std::size_t n = wire.read(bytes, sizeof bytes);
    if (n == 0 || buffer.size() > (1 << 20)) return std::nullopt;
    buffer.append(bytes, n);
  }
  std::string_view head = std::string_view(buffer).substr(0, end + 2);
  Request request;
  for (bool first = true; !head.empty(); first = false) {
    const std::size_t line_end = head.find("\r\n");
    const std::string_view line = head.substr(0, line_end);
    head.remove_prefix(line_end + 2);
    if (first) {
      const std::size_t space = std::min(line.find(' '), line.size());
      const std::size_t last = line.rfind(' ');
      request.method = line.substr(0, space);
      if (last != std::string_view::npos && last > space) request.target = line.substr(space + 1, last - space - 1);
      continue;
    }
    const std::size_t colon = std::min(line.find(':'), line.size());
    std::string_view value = line.substr(std::min(colon + 1, line.size()));
    while (!value.empty() && value.front() == ' ') value.remove_prefix(1);
    request.fields.emplace_back(line.substr(0, colon), value);
  }
  buffer.erase(0, end + 4);
  const std::string length = request.field("Content-Length");
  while (!length.empty() && buffer.size() < std::stoull(length)) {
    char bytes[8192];
    const std::size_t n = wire.read(bytes, sizeof bytes);
    if (n == 0) return std::nullopt;
    buffer.append(bytes, n);
  }
  if (!length.empty()) {
    request.body = buffer.substr(0, std::stoull(length));
    buffer.erase(0, request.body.size());
  }
  return request;
}

}  // namespace

void ScriptedOrigin::State::serve(std::size_t number, int fd) {
  {
    Wire wire(fd, params.tls.get());
    std::string buffer;
    bool more = wire.accept_tls();
    while (more && !stopping) {
      std::optional<Request> request = read_request(wire, buffer);
      if (!request) break;
      request->connection = number;
      {
        const std::scoped_lock lock(mutex);
        seen.requests.push_back(*request);
        changed.notify_all();
      }
      more = answer(wire, *request);
    }
  }
  const std::scoped_lock lock(mutex);
  ::close(fd);
  --seen.open;
  if (const auto at = connections.find(number); at != connections.end()) at->second.finished = true;
  changed.notify_all();
}

void ScriptedOrigin::State::count_body(std::size_t bytes) {
  const std::scoped_lock lock(mutex);
  seen.body_bytes += bytes;
  changed.notify_all();
}

// ------------------------------------------------------------------------------------------------------------ answers

Reply ScriptedOrigin::State::from_table(const Request& request) const {
  Reply reply;
  const std::string path = request.path();
  const std::scoped_lock lock(mutex);
  const auto at = items.find(path);
  if (at != items.end()) {
    reply.body = at->second.content;
    reply.fields = {{"Content-Type", at->second.media_type}, {"Docker-Content-Digest", at->second.digest}};
    return reply;
  }
  reply.fields = {{"Content-Type", "application/json"}};
  if (path == "/v2/") {
    reply.body = "{}";
    return reply;
  }
  const bool blob = path.find("/blobs/") != std::string::npos;
  reply.status = 404;
  reply.ranges = false;
  reply.body = std::string(R"({"errors":[{"code":")") + (blob ? "BLOB_UNKNOWN" : "MANIFEST_UNKNOWN") +
               R"(","message":"not in the table"}]})";
  return reply;
}

Reply ScriptedOrigin::State::token(const Request& request) {
  Reply reply;
  reply.fields = {{"Content-Type", "application/json"}};
  if (!token_authorization.empty() && request.field("Authorization") != token_authorization) {
    reply.status = 401;
    reply.body = R"({"errors":[{"code":"UNAUTHORIZED","message":"wrong credentials"}]})";
    return reply;
  }
  const std::string text = "token-" + std::to_string(++tokens);
  valid_tokens.insert(request.query("scope") + " " + text);
  reply.body = R"({"token":")" + text + R"(","expires_in":300})";
  return reply;
}

// What stands between a request and the table.
std::optional<Reply> ScriptedOrigin::State::refuse(const Request& request) {
  const std::string authorization = request.field("Authorization");
  Reply reply;
  if (params.refuse_authorization && !authorization.empty()) {
    reply.status = 400;
    return reply;
  }
  if (!request.target.starts_with("/v2/")) return std::nullopt;
  reply.status = 401;
  reply.ranges = false;
  reply.body = R"({"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]})";
  if (!basic_authorization.empty()) {
    if (authorization == basic_authorization) return std::nullopt;
    reply.fields = {{"WWW-Authenticate", R"(Basic realm="test")"}};
    return reply;
  }
  if (realm.empty()) return std::nullopt;
  std::string scope;
  const std::string path = request.path();
  const std::size_t end = std::max(path.rfind("/blobs/") == std::string::npos ? 0 : path.rfind("/blobs/"),
                                   path.rfind("/manifests/") == std::string::npos ? 0 : path.rfind("/manifests/"));
  if (end > 4) scope = "repository:" + path.substr(4, end - 4) + ":pull";
  if (authorization.starts_with("Bearer ") && valid_tokens.contains(scope + " " + authorization.substr(7))) {
    return std::nullopt;
  }
  std::string challenge = R"(Bearer realm=")" + realm + R"(",service=")" + service + "\"";
  if (!scope.empty()) challenge += R"(,scope=")" + scope + "\"";
  reply.fields = {{"WWW-Authenticate", challenge}};
  return reply;
}

Reply ScriptedOrigin::State::decide(const Request& request) {
  const std::string path = request.path();
  Responder responder;
  {
    const std::scoped_lock lock(mutex);
    if (const auto at = scripts.find(path); at != scripts.end() && !at->second.empty()) {
      Reply reply = std::move(at->second.front());
      at->second.pop_front();
      return reply;
    }
    if (const auto at = responders.find(path); at != responders.end()) responder = at->second;
    if (!responder) responder = everywhere;
  }
  if (responder) return responder(request);
  {
    const std::scoped_lock lock(mutex);
    if (std::optional<Reply> refused = refuse(request)) return *refused;
    if (path == "/token") return token(request);
  }
  return from_table(request);
}

namespace {

struct Wanted {
  std::uint64_t first = 0;
  std::uint64_t last = 0;  // inclusive
};

// "bytes=a-b" and "bytes=a-". Nothing for what cannot be satisfied.
std::optional<Wanted> parse_range(std::string_view value, std::uint64_t size) {
  Wanted out;
  if (!value.starts_with("bytes=")) return std::nullopt;
  value.remove_prefix(6);
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), out.first);
  if (error != std::errc{} || end == value.data() + value.size() || *end != '-' || out.first >= size)
    return std::nullopt;
  out.last = size - 1;
  if (end + 1 != value.data() + value.size()) std::from_chars(end + 1, value.data() + value.size(), out.last);
  out.last = std::min(out.last, size - 1);
  return out;
}

}  // namespace

bool ScriptedOrigin::State::answer(Wire& wire, const Request& request) {
  const Reply reply = decide(request);
  const auto give_up = [this, &wire] { return stopping.load() || wire.peer_gone(); };
  if (reply.head_gate && reply.head_gate->wait_beyond(0, give_up) == 0) return false;
  if (reply.raw) {
    const std::string_view bytes = std::string_view(*reply.raw).substr(0, reply.cut_after.value_or(reply.raw->size()));
    const bool sent = wire.write(bytes);
    if (reply.cut_after && reply.cut_with_reset) wire.reset_on_close();
    return sent && !reply.cut_after && !reply.close && !reply.close_unannounced;
  }
  return send_reply(wire, request, reply);
}

bool ScriptedOrigin::State::send_reply(Wire& wire, const Request& request, const Reply& reply) {
  std::string_view body = reply.body;
  int status = reply.status;
  std::uint64_t first = 0;
  std::string fields;
  for (const auto& [name, value] : reply.fields) fields += name + ": " + value + "\r\n";

  const std::string range = request.field("Range");
  if (reply.ranges && status == 200 && !range.empty() && request.method == "GET") {
    const auto wanted = parse_range(range, body.size());
    const std::string all = "/" + std::to_string(body.size());
    std::string content_range = "bytes */" + std::to_string(body.size());
    if (wanted) {
      status = 206;
      first = wanted->first;
      content_range = "bytes " + std::to_string(wanted->first) + "-" + std::to_string(wanted->last) + all;
      body = body.substr(wanted->first, wanted->last - wanted->first + 1);
    } else {
      status = 416;
      body = {};
    }
    fields += "Content-Range: " + reply.content_range.value_or(content_range) + "\r\n";
  } else if (reply.content_range) {
    fields += "Content-Range: " + *reply.content_range + "\r\n";
  }

  const bool has_body = status != 204 && status != 304;
  if (has_body && reply.framing == Framing::content_length) {
    fields += "Content-Length: " + std::to_string(reply.announced.value_or(body.size())) + "\r\n";
  }
  if (has_body && reply.framing == Framing::chunked) fields += "Transfer-Encoding: chunked\r\n";
  if (reply.close) fields += "Connection: close\r\n";
  if (!wire.write("HTTP/1.1 " + std::to_string(status) + " Scripted\r\n" + fields + "\r\n")) return false;

  const bool sends_body = request.method != "HEAD" || reply.body_on_head;
  if (sends_body && !send_body(wire, reply, body, first)) return false;
  if (!reply.behind_body.empty()) {
    if (!wire.write(reply.behind_body)) return false;
    const std::scoped_lock lock(mutex);
    seen.behind_bytes += reply.behind_body.size();
    changed.notify_all();
  }
  return !reply.close && !reply.close_unannounced && reply.framing != Framing::until_close;
}

bool ScriptedOrigin::State::send_body(Wire& wire, const Reply& reply, std::string_view body, std::uint64_t first) {
  const auto give_up = [this, &wire] { return stopping.load() || wire.peer_gone(); };
  const std::uint64_t end = std::min<std::uint64_t>(body.size(), reply.cut_after.value_or(body.size()));
  std::uint64_t sent = 0;
  while (sent < end) {
    std::uint64_t until = end;
    if (reply.gate) {
      const std::uint64_t allowed = reply.gate->wait_beyond(sent, give_up);
      if (allowed == 0) return false;
      until = std::min(end, allowed);
    }
    std::string piece(body.substr(sent, std::min<std::uint64_t>(until - sent, 64 << 10)));
    if (reply.corrupt_at && *reply.corrupt_at >= first + sent && *reply.corrupt_at < first + sent + piece.size()) {
      piece[*reply.corrupt_at - first - sent] ^= 1;
    }
    const std::size_t size = piece.size();
    if (reply.framing == Framing::chunked) {
      char hex[16];
      const auto [hex_end, error] = std::to_chars(hex, hex + sizeof hex, size, 16);
      piece = std::string(hex, hex_end) + "\r\n" + piece + "\r\n";
    }
    if (!wire.write(piece)) return false;
    sent += size;
    count_body(size);
  }
  if (reply.cut_after) {
    if (reply.cut_with_reset) wire.reset_on_close();
    return false;
  }
  return reply.framing != Framing::chunked || wire.write("0\r\n\r\n");
}

}  // namespace sluice::test
