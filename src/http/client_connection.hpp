// ClientConnection: one TCP connection of the client, plain or TLS, with its deadline and its read buffer. Used by
// client.cpp alone.
//
// Owned by a pool or a lease, on the loop's thread alone. All tasks must be awaited at once, one at a time.
//
//   new ──connect()──▶ open ──close()──▶ closed; an expired deadline closes it too
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>

#include "base/metrics.hpp"
#include "base/result.hpp"
#include "http/client.hpp"
#include "http/connect_race.hpp"
#include "runtime/deadline.hpp"
#include "runtime/loop.hpp"
#include "runtime/resolver.hpp"
#include "runtime/task.hpp"

namespace sluice::http {

namespace asio = boost::asio;
using runtime::Task;

struct TlsContext::Native {
  asio::ssl::context context{asio::ssl::context::tls_client};
};

class ClientConnection {
 public:
  using Duration = std::chrono::milliseconds;

  // How an operation ended. `timed_out` when the deadline closed the connection under it.
  struct Outcome {
    boost::system::error_code error;
    std::size_t bytes = 0;
    bool timed_out = false;
  };
  // What lies behind the last answer, without waiting. `unknown`: the end of the connection, or TLS records that have
  // not been opened.
  enum class Pending : std::uint8_t { nothing, bytes, unknown };

  // `resolver` outlives it.
  ClientConnection(runtime::Loop& loop, runtime::Resolver& resolver, std::shared_ptr<const Channel> channel);
  ClientConnection(const ClientConnection&) = delete;
  ClientConnection& operator=(const ClientConnection&) = delete;
  ~ClientConnection();

  // Name resolution, TCP to the first address that answers, the tunnel through a proxy, and TLS, all within `timeout`.
  // Only addresses that `referral` permits are dialled; what a proxy dials is the caller's to check. The arguments stay
  // until then.
  Task<Result<void>> connect(const Url& url, Duration timeout, const std::optional<Referral>& referral);

  // Who is at the other end; nothing where that is a proxy.
  [[nodiscard]] const std::optional<IpAddress>& peer() const noexcept { return peer_; }
  // Whether connect() would have dialled this peer with that referral.
  [[nodiscard]] bool is_permitted(const std::optional<Referral>& referral) const;

  // Covers the operations from now on, until it is armed again or disarmed.
  void arm(Duration duration) { deadline_.arm(duration); }
  void disarm() noexcept { deadline_.disarm(); }

  Task<Outcome> write_all(std::string_view bytes);
  // At least one byte, or an error. Over TLS it gathers records that are there already, up to kGatherBytes.
  Task<Outcome> read_some(std::span<std::byte> into);

  // Received, not yet consumed.
  [[nodiscard]] std::string_view buffered() const noexcept {
    return std::string_view(buffer_).substr(consumed_, end_ - consumed_);
  }
  void consume(std::size_t n) noexcept;
  // Reads once, behind what is buffered.
  Task<Outcome> fill();

  [[nodiscard]] Pending pending();
  // Gives memory back before the connection idles.
  void trim();
  void close() noexcept;

  [[nodiscard]] const std::shared_ptr<const Channel>& channel() const noexcept { return channel_; }

  // For the pool.
  std::chrono::steady_clock::time_point idle_since;
  bool used = false;  // at least one answer came over it

 private:
  using Socket = TcpSocket;
  using Endpoints = TcpEndpoints;
  static constexpr std::size_t kGatherBytes = std::size_t{128} << 10;

  Task<Result<Endpoints>> resolve(std::string host, std::uint16_t port, std::chrono::steady_clock::time_point until);
  // Not the host that the channel is for.
  [[nodiscard]] bool is_foreign(const Url& url) const;
  Task<Result<void>> connect_tcp(std::string authority, Endpoints endpoints,
                                 std::chrono::steady_clock::time_point until);
  // Through a proxy to which there is a connection (RFC 9110 section 9.3.6).
  Task<Result<void>> tunnel(const Url& url, const ProxyServer& proxy, std::chrono::steady_clock::time_point until);
  void note_peer();
  Task<Result<void>> handshake(const Url& url, std::chrono::steady_clock::time_point until);
  Task<Outcome> read_record(std::span<std::byte> into);
  [[nodiscard]] Outcome outcome(boost::system::error_code error, std::size_t bytes) const;

  runtime::Resolver& resolver_;
  const std::shared_ptr<const Channel> channel_;
  Socket socket_;
  std::optional<asio::ssl::stream<Socket&>> tls_;
  runtime::Deadline deadline_;
  std::optional<IpAddress> peer_;
  std::uint16_t peer_port_ = 0;
  std::optional<metrics::GaugeGuard> counted_;
  std::optional<Outcome> held_back_;  // an error behind bytes that have been returned first
  std::string buffer_;
  std::size_t consumed_ = 0;
  std::size_t end_ = 0;
};

// No address of the host is one that the request may be sent to.
Error not_permitted(const Url& url);

// As an Error: upstream_timeout, cancelled or upstream_unreachable; "`what` `authority`: why".
Error connection_error(const ClientConnection::Outcome& outcome, std::string_view what, std::string_view authority);

}  // namespace sluice::http
