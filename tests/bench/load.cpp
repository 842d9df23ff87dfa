// The load generator of `./dev bench`: one thread, plain sockets or TLS, as little work for each answer as possible.
//
//   bench_load repeat ADDR:PORT PATH --connections N --seconds S [--method M] [--tls]
//       keeps N keep-alive connections busy for S seconds, each with one request at a time
//   bench_load once ADDR:PORT PATH[,PATH…] --connections N [--range A-B] [--rate BYTES/S] [--digest sha256:HEX]
//       sends one request on each of N connections (the paths in turn) and reads every answer to its end
//
// It prints one line of JSON. `once` reports when the first and the last byte of each answer came and how long it was;
// with --digest the first connection hashes what it reads and the program fails when the digest is another one.
// Status other than 200 or 206, a broken connection or a short body is a failure: exit status 1, the reason on stderr.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <openssl/evp.h>
#include <openssl/ssl.h>

#include <fmt/format.h>

namespace {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

struct Options {
  bool once = false;
  sockaddr_in address{};
  std::string host;
  std::vector<std::string> paths;
  std::string method = "GET";
  std::string range;
  std::string digest;
  std::size_t connections = 64;
  double seconds = 2;
  double rate = 0;  // bytes a second for each connection; 0: as fast as they come
  bool tls = false;
};

[[noreturn]] void fail(const std::string& why) { throw std::runtime_error(why); }

std::uint64_t number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end == text.data()) fail(fmt::format("not a number: {}", text));
  return value;
}

Options parse(int argc, char** argv) {
  if (argc < 4) fail("usage: bench_load repeat|once ADDR:PORT PATH [options]");
  Options out;
  out.once = std::string_view(argv[1]) == "once";
  out.host = argv[2];
  const std::size_t colon = out.host.rfind(':');
  if (colon == std::string::npos) fail("no port in " + out.host);
  out.address.sin_family = AF_INET;
  out.address.sin_port = htons(static_cast<std::uint16_t>(number(std::string_view(out.host).substr(colon + 1))));
  if (::inet_pton(AF_INET, out.host.substr(0, colon).c_str(), &out.address.sin_addr) != 1)
    fail("no address: " + out.host);
  std::string_view paths = argv[3];
  while (!paths.empty()) {
    const std::size_t comma = std::min(paths.find(','), paths.size());
    out.paths.emplace_back(paths.substr(0, comma));
    paths.remove_prefix(std::min(comma + 1, paths.size()));
  }
  for (int i = 4; i < argc; ++i) {
    const std::string_view name = argv[i];
    if (name == "--tls") {
      out.tls = true;
      continue;
    }
    if (i + 1 == argc) fail(fmt::format("{} takes a value", name));
    const char* value = argv[++i];
    if (name == "--method")
      out.method = value;
    else if (name == "--range")
      out.range = value;
    else if (name == "--digest")
      out.digest = value;
    else if (name == "--connections")
      out.connections = number(value);
    else if (name == "--seconds")
      out.seconds = std::atof(value);
    else if (name == "--rate")
      out.rate = std::atof(value);
    else
      fail(fmt::format("no such option: {}", name));
  }
  return out;
}

// --- one connection ---------------------------------------------------------------------------------------------

class Sha256 {
 public:
  Sha256() : context_(EVP_MD_CTX_new(), EVP_MD_CTX_free) { EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr); }
  void update(std::string_view bytes) { EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()); }
  std::string finish() {
    unsigned char sum[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    EVP_DigestFinal_ex(context_.get(), sum, &size);
    std::string out = "sha256:";
    for (unsigned i = 0; i < size; ++i) out += fmt::format("{:02x}", sum[i]);
    return out;
  }

 private:
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context_;
};

struct Connection {
  int fd = -1;
  std::unique_ptr<SSL, decltype(&SSL_free)> ssl{nullptr, SSL_free};
  std::string request;
  std::string head;  // of the answer that is being read, until it is whole
  bool in_body = false;
  std::uint64_t left = 0;  // bytes of the body that are still to come
  std::uint64_t body = 0;  // bytes of bodies that have come
  bool done = false;
  Clock::time_point first{};
  Clock::time_point last{};
  Clock::time_point next{};  // no read before that, under --rate
  Sha256* hash = nullptr;
};

class Load {
 public:
  explicit Load(Options options) : options_(std::move(options)), epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
    if (options_.tls) {
      context_.reset(SSL_CTX_new(TLS_client_method()));
      SSL_CTX_set_verify(context_.get(), SSL_VERIFY_NONE, nullptr);
      SSL_CTX_set_mode(context_.get(), SSL_MODE_ENABLE_PARTIAL_WRITE);
    }
  }
  ~Load() {
    for (Connection& connection : connections_) ::close(connection.fd);
    ::close(epoll_);
  }
  Load(const Load&) = delete;
  Load& operator=(const Load&) = delete;

  void run() {
    for (std::size_t i = 0; i < options_.connections; ++i)
      connections_.push_back(open(options_.paths[i % options_.paths.size()]));
    if (!options_.digest.empty()) connections_.front().hash = &hash_;
    start_ = Clock::now();
    for (Connection& connection : connections_) {
      epoll_event event{EPOLLIN, {}};
      event.data.ptr = &connection;
      ::epoll_ctl(epoll_, EPOLL_CTL_ADD, connection.fd, &event);
      send(connection);
    }
    options_.once ? read_all() : keep_busy();
    elapsed_ = Seconds(Clock::now() - start_).count();
    if (!options_.digest.empty() && options_.once && options_.range.empty()) {
      if (const std::string computed = hash_.finish(); computed != options_.digest)
        fail("the digest of what came is " + computed);
    }
  }

  void print() {
    std::uint64_t bytes = 0;
    std::vector<double> firsts;
    std::vector<double> lasts;
    for (const Connection& connection : connections_) {
      bytes += connection.body;
      firsts.push_back(Seconds(connection.first - start_).count());
      lasts.push_back(Seconds(connection.last - start_).count());
    }
    std::sort(firsts.begin(), firsts.end());
    std::sort(lasts.begin(), lasts.end());
    fmt::print("{{\"requests\":{},\"seconds\":{:.6f},\"body_bytes\":{}", requests_, elapsed_, bytes);
    if (options_.once) {
      fmt::print(",\"first_byte_median\":{:.6f},\"first_byte_worst\":{:.6f},\"slowest\":{:.6f}",
                 firsts[firsts.size() / 2], firsts.back(), lasts.back());
    } else {
      std::sort(latencies_.begin(), latencies_.end());
      const auto at = [this](double share) {
        return latencies_.empty()
                   ? 0.0
                   : latencies_[static_cast<std::size_t>(share * static_cast<double>(latencies_.size() - 1))];
      };
      fmt::print(",\"p50\":{:.6f},\"p99\":{:.6f}", at(0.5), at(0.99));
    }
    fmt::print("}}\n");
  }

 private:
  Connection open(const std::string& path) {
    Connection out;
    out.fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (::connect(out.fd, reinterpret_cast<const sockaddr*>(&options_.address), sizeof options_.address) != 0) {
      fail(fmt::format("cannot connect to {}: {}", options_.host, std::strerror(errno)));
    }
    const int on = 1;
    ::setsockopt(out.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (context_) {
      out.ssl.reset(SSL_new(context_.get()));
      SSL_set_fd(out.ssl.get(), out.fd);
      if (SSL_connect(out.ssl.get()) != 1) fail("TLS handshake failed");
    }
    out.request = fmt::format(
        "{} {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: containerd/2.1.9+unknown\r\n"
        "Accept: application/vnd.oci.image.manifest.v1+json, */*\r\nAccept-Encoding: identity\r\n{}\r\n",
        options_.method, path, options_.host,
        options_.range.empty() ? std::string() : fmt::format("Range: bytes={}\r\n", options_.range));
    return out;
  }

  void send(Connection& connection) {
    const std::string& text = connection.request;
    const auto sent = connection.ssl ? SSL_write(connection.ssl.get(), text.data(), static_cast<int>(text.size()))
                                     : ::send(connection.fd, text.data(), text.size(), MSG_NOSIGNAL);
    if (std::cmp_not_equal(sent, text.size())) fail("a request could not be sent");
    if (!options_.once) connection.first = Clock::now();
  }

  // What is there now, at most `limit` bytes; 0 when nothing is. Bytes of a body that nobody looks at stay in the
  // kernel.
  std::size_t receive(Connection& connection, std::size_t limit, std::string_view& bytes) {
    limit = std::min(limit, buffer_.size());
    if (connection.ssl) {
      const int n = SSL_read(connection.ssl.get(), buffer_.data(), static_cast<int>(limit));
      if (n <= 0) {
        if (SSL_get_error(connection.ssl.get(), n) == SSL_ERROR_WANT_READ) return 0;
        fail("the connection ended before the answer did");
      }
      bytes = {buffer_.data(), static_cast<std::size_t>(n)};
      return bytes.size();
    }
    const bool discard = connection.in_body && connection.hash == nullptr;
    const ssize_t n =
        ::recv(connection.fd, discard ? nullptr : buffer_.data(), limit, MSG_DONTWAIT | (discard ? MSG_TRUNC : 0));
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
    if (n <= 0) fail("the connection ended before the answer did");
    bytes = {discard ? nullptr : buffer_.data(), static_cast<std::size_t>(n)};
    return bytes.size();
  }

  // The head is whole: how long is the body?
  void begin_body(Connection& connection, std::size_t head_size) {
    const std::string_view head = std::string_view(connection.head).substr(0, head_size);
    const std::string_view status = head.substr(9, 3);
    if (status != "200" && status != "206")
      fail(fmt::format("status {} of {}", status, connection.request.substr(0, 120)));
    std::string lower(head);
    std::transform(lower.begin(), lower.end(), lower.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    const std::size_t field = lower.find("\r\ncontent-length:");
    if (field == std::string::npos) fail("an answer without Content-Length");
    const std::size_t value = lower.find_first_not_of(' ', field + 17);
    connection.left = options_.method == "HEAD" ? 0 : number(std::string_view(lower).substr(value));
    connection.in_body = true;
  }

  void take(Connection& connection, std::string_view bytes, std::size_t size) {
    if (!connection.in_body) {
      connection.head.append(bytes);
      const std::size_t end = connection.head.find("\r\n\r\n");
      if (end == std::string::npos) return;
      begin_body(connection, end);
      const std::string rest = connection.head.substr(end + 4);
      connection.head.clear();
      if (!rest.empty()) take(connection, rest, rest.size());
    } else {
      if (options_.once && connection.body == 0) connection.first = Clock::now();
      if (size > connection.left) fail("more bytes than Content-Length says");
      if (connection.hash != nullptr) connection.hash->update(bytes);
      connection.left -= size;
      connection.body += size;
    }
    if (connection.in_body && connection.left == 0) finish(connection);
  }

  void finish(Connection& connection) {
    connection.in_body = false;
    connection.last = Clock::now();
    ++requests_;
    if (options_.once) {
      connection.done = true;
      ++finished_;
      ::epoll_ctl(epoll_, EPOLL_CTL_DEL, connection.fd, nullptr);
      return;
    }
    // One of 16 is enough for percentiles.
    if (requests_ % 16 == 0) latencies_.push_back(Seconds(connection.last - connection.first).count());
    send(connection);
  }

  void turn(int timeout_ms, std::size_t limit) {
    epoll_event events[256];
    const int ready = ::epoll_wait(epoll_, events, 256, timeout_ms);
    for (int i = 0; i < ready; ++i) {
      Connection& connection = *static_cast<Connection*>(events[i].data.ptr);
      const bool paced = options_.rate > 0;
      if (paced && connection.next > Clock::now()) continue;
      std::size_t size = 0;
      do {
        std::string_view bytes;
        size = receive(connection, limit, bytes);
        if (size > 0) take(connection, bytes, size);
      } while (connection.ssl && !connection.done && SSL_pending(connection.ssl.get()) > 0);
      if (paced) {
        connection.next =
            std::max(connection.next, Clock::now()) +
            std::chrono::duration_cast<Clock::duration>(Seconds(static_cast<double>(size) / options_.rate));
      }
    }
    if (options_.rate > 0) ::usleep(1000);
  }

  void keep_busy() {
    // At least one answer, however slow the server is; `elapsed_` says how long that took.
    while (requests_ == 0 || Seconds(Clock::now() - start_).count() < options_.seconds) turn(100, std::size_t{1} << 20);
  }

  void read_all() {
    const std::size_t limit = options_.rate > 0 ? std::size_t{64} << 10 : std::size_t{1} << 20;
    while (finished_ < connections_.size()) turn(1000, limit);
  }

  const Options options_;
  const int epoll_;
  std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context_{nullptr, SSL_CTX_free};
  std::vector<Connection> connections_;
  std::vector<char> buffer_ = std::vector<char>(std::size_t{1} << 20);
  Sha256 hash_;
  Clock::time_point start_{};
  double elapsed_ = 0;
  std::uint64_t requests_ = 0;
  std::size_t finished_ = 0;
  std::vector<double> latencies_;
};

}  // namespace

int main(int argc, char** argv) {
  try {
    Load load(parse(argc, argv));
    load.run();
    load.print();
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "bench_load: {}\n", error.what());
    return 1;
  }
}
