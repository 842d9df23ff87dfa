// One accepted connection: its socket, its one deadline, and sending on it without Beast. And what the connections of
// a loop share. Internal to the server.
//
// Everything here lives on one loop's thread, but for Server::State, whose members say so themselves.
#pragma once

#include <sys/uio.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <boost/asio/basic_stream_socket.hpp>
#include <boost/asio/ip/tcp.hpp>

#include "base/result.hpp"
#include "http/exchange.hpp"
#include "http/ready.hpp"
#include "http/server.hpp"
#include "http/tls_server.hpp"
#include "runtime/deadline.hpp"
#include "runtime/loop.hpp"
#include "runtime/task.hpp"
#include "runtime/task_group.hpp"

namespace sluice::http {

class Listener;
class Session;

using Socket = runtime::asio::basic_stream_socket<runtime::asio::ip::tcp, runtime::Executor>;

struct Server::State {
  State(runtime::LoopPool& pool, Handler& request_handler, Params parameters, metrics::Registry& registry);

  void accept_with(std::vector<std::shared_ptr<Listener>> with);

  runtime::LoopPool& loops;
  Handler& handler;
  const Params params;
  Metrics metrics;
  runtime::TaskGroup tasks;  // accepting and sessions
  std::atomic<std::size_t> connections{0};
  std::atomic<std::uint16_t> port{0};
  std::atomic<bool> stopped{false};
  std::vector<std::shared_ptr<Listener>> listeners;  // set by listen(), then constant
  ClientTable clients;
  std::mutex entry_mutex;              // guards entry
  std::shared_ptr<const Entry> entry;  // the last one; each loop has its own pointer to it
};

// What stands between a ready head and the body: Date, Connection and the empty line, made once in a second.
class HeadTail {
 public:
  enum class Connection : std::uint8_t { implied, keep_alive, close };
  // A copy, because it may wait for a full socket into the next second.
  struct Text {
    std::array<char, 80> bytes;
    std::size_t size = 0;
    [[nodiscard]] std::string_view view() const noexcept { return {bytes.data(), size}; }
  };
  Text get(Connection connection);

 private:
  std::time_t second_ = 0;
  std::array<Text, 3> texts_;

  void set(Connection connection, std::string_view date, std::string_view field) noexcept;
};

// What the sessions of one loop share.
struct LoopContext {
  LoopContext(Server::State& server_state, runtime::Loop& on) : server(server_state), loop(on) {}

  Server::State& server;
  runtime::Loop& loop;
  HeadTail tail;
  Session* sessions = nullptr;       // intrusive list
  std::size_t sending_files = 0;     // connections in send_file
  std::int64_t last_request_ms = 0;  // coarse, monotonic
  bool stopping = false;
  std::shared_ptr<const Entry> entry;  // never null
  // kTlsPieceBytes, and kReadBytes for what is received; made when they are needed. Nothing stays in them over a
  // suspension.
  std::unique_ptr<char[]> tls_scratch;
  std::unique_ptr<char[]> read_scratch;
  ReadyAnswers ready;
};

// Buffers for one gathered write, sent from the front.
class Gather {
 public:
  void add(std::string_view bytes) noexcept {
    if (bytes.empty()) return;
    parts_[count_++] = iovec{const_cast<char*>(bytes.data()), bytes.size()};
    remaining_ += bytes.size();
  }
  void consume(std::size_t bytes) noexcept;
  [[nodiscard]] std::size_t remaining() const noexcept { return remaining_; }
  [[nodiscard]] iovec* parts() noexcept { return &parts_[first_]; }
  [[nodiscard]] std::size_t count() const noexcept { return count_ - first_; }

 private:
  static constexpr std::size_t kMaxParts = 6;
  std::array<iovec, kMaxParts> parts_;
  std::size_t first_ = 0;
  std::size_t count_ = 0;
  std::size_t remaining_ = 0;
};

// Counts a connection for as long as it lives.
class ConnectionCount {
 public:
  explicit ConnectionCount(Server::State& server) : server_(&server), gauge_(server.metrics.connections) {
    server_->connections.fetch_add(1, std::memory_order_relaxed);
  }
  ConnectionCount(ConnectionCount&& other) noexcept
      : server_(std::exchange(other.server_, nullptr)), gauge_(std::move(other.gauge_)) {}
  ConnectionCount& operator=(ConnectionCount&&) = delete;
  ~ConnectionCount() {
    if (server_ != nullptr) server_->connections.fetch_sub(1, std::memory_order_relaxed);
  }

 private:
  Server::State* server_;
  metrics::GaugeGuard gauge_;
};

class Connection {
 public:
  // Bytes that may be sent, and pipelined requests answered, before others on the loop get their turn. sendfile over
  // loopback never says EAGAIN: without a bound it would hold the loop for a whole blob.
  static constexpr std::size_t kTurnBytes = std::size_t{256} << 10;
  static constexpr unsigned kTurnRequests = 16;
  // The bytes of a file in one turn: as many as pays, because each turn costs system calls. Where requests come in,
  // which wait for a round of turns, at most kFileRoundBytes for all of them together.
  static constexpr std::size_t kFileTurnBytes = std::size_t{1} << 20;
  static constexpr std::size_t kFileRoundBytes = std::size_t{8} << 20;

  Connection(LoopContext& context, Socket socket);
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  // Closes: with FIN, unless the client keeps sending.
  ~Connection();

  [[nodiscard]] LoopContext& context() noexcept { return context_; }
  [[nodiscard]] Server::Metrics& metrics() noexcept { return context_.server.metrics; }
  [[nodiscard]] const Server::Params& params() const noexcept { return context_.server.params; }
  [[nodiscard]] Socket& socket() noexcept { return socket_; }
  [[nodiscard]] runtime::Deadline& deadline() noexcept { return deadline_; }

  // Sends as much of `gather` as the socket takes now. All of it: true. False: would block. Else the error.
  Result<bool> send_now(Gather& gather, int flags);
  // Sends the rest, waiting where it must; the send time-out starts anew whenever bytes have moved.
  runtime::Task<Result<void>> send_rest(Gather& gather, int flags);
  struct FilePart {
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
    Pages pages = Pages::unknown;
  };
  // Sends as much of the file, and of a turn, as the socket takes now, from memory or not. The results as send_now;
  // `sent` grows by what has gone out. For plain connections.
  Result<bool> send_file_now(int fd, std::uint64_t offset, std::uint64_t length, std::uint64_t& sent) noexcept;
  // Adds to `sent` what has gone out, also when it fails.
  runtime::Task<Result<void>> send_file(int fd, FilePart part, std::uint64_t& sent);

  // Lets the others on the loop run.
  runtime::Task<void> yield();
  [[nodiscard]] bool turn_is_over() const noexcept {
    return turn_bytes_ >= kTurnBytes || turn_requests_ >= kTurnRequests;
  }
  void new_turn() noexcept { turn_bytes_ = 0, turn_requests_ = 0; }
  void count_request() noexcept;

  // From now on little lies unsent in the kernel (Params::unsent_bytes), for an answer that a client may break off.
  void bound_unsent() noexcept;

  // At most that many bytes are received at once.
  static constexpr std::size_t kReadBytes = std::size_t{64} << 10;
  struct Received {
    boost::system::error_code error;
    std::size_t bytes = 0;
  };
  // At most `size` bytes, and kReadBytes, that are there now, into received(). 0 without an error: nothing is there
  // yet. For plain connections.
  Received receive_now(std::size_t size);
  // The bytes of the last receive_now or receive_tls, until the next suspension.
  [[nodiscard]] char* received();

  // FIN, then reads and drops until the client's FIN, within the bounds of the parameters: closing a socket with unread
  // input sends an RST, which takes the end of the answer with it (RFC 9112 §9.6).
  runtime::Task<void> finish();
  // The client's end has been seen, or there is no use in waiting for it.
  void skip_linger() noexcept { linger_ = false; }

  [[nodiscard]] bool peer_gone() noexcept;

  // Plaintext at most, of which a record holds 16 KiB, that is encrypted before it is sent.
  static constexpr std::size_t kTlsPieceBytes = std::size_t{64} << 10;

  enum class Handshake : std::uint8_t { done, plain_http, closed, failed, timed_out };
  // Speaks TLS from now on. `early`: what has been received behind a PROXY header.
  runtime::Task<Handshake> start_tls(std::shared_ptr<const TlsServerContext> context, std::string early,
                                     std::chrono::milliseconds timeout);
  [[nodiscard]] bool is_tls() const noexcept { return tls_ != nullptr; }
  // Why the handshake came to nothing; for logs.
  [[nodiscard]] std::string tls_failure() const;
  // Whether the first and the last byte are in the page cache, so that nobody waits for the disk.
  [[nodiscard]] bool is_resident(int fd, std::uint64_t offset, std::size_t length) const noexcept;
  // At least a byte, decrypted, into received(). Precondition: is_tls().
  runtime::Task<Received> receive_tls(std::size_t size);
  // The answer is cut short: the end of the connection must not look like its end.
  void no_close_notify() noexcept { close_notify_ = false; }

 private:
  class SendingFile;
  [[nodiscard]] std::size_t file_turn_bytes() const noexcept;
  Result<bool> send_tls_now(Gather& gather, int flags);
  Result<bool> flush_tls(int flags) noexcept;
  bool encrypt_some(Gather& gather);
  runtime::Task<Result<void>> send_file_tls(int fd, FilePart part, std::uint64_t& sent);
  [[nodiscard]] char* tls_scratch();
  std::size_t feed_tls(boost::system::error_code& end);
  [[nodiscard]] bool must_be_looked_at(const FilePart& part) const noexcept;
  // Where the page cache has them; else they are read once on the disk pool.
  runtime::Task<Result<void>> ensure_resident(int fd, std::uint64_t offset, std::size_t length);
  runtime::Task<Result<void>> wait_writable();
  Result<void> send_error(int error) noexcept;
  runtime::Task<Result<void>> warm(int fd, std::uint64_t offset, std::size_t length);
  void drop_input(std::size_t at_most) noexcept;

  LoopContext& context_;
  Socket socket_;
  runtime::Deadline deadline_;
  std::size_t turn_bytes_ = 0;
  unsigned turn_requests_ = 0;
  bool linger_ = true;
  bool finished_ = false;
  bool close_notify_ = true;
  bool unsent_bounded_ = false;
  std::unique_ptr<TlsStream> tls_;  // null: plain
};

}  // namespace sluice::http
