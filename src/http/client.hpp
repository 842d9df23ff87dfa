// Client: HTTP/1.1 requests with small bodies or none, over kept-alive connections, plain or TLS; bodies of answers are
// streamed.
//
// One for the program. Inside it has one pool of connections for each loop, so that nothing is shared between threads:
// a request, its connection and its response stay on the loop of the task that sends it. Answers are read strictly
// (client_framing.hpp). No redirects, no authentication, no retries beyond a kept connection that proves dead.
//
// Threads: send() from tasks on any loop. Destroyed when no task uses it any more, while the loops still exist but no
// longer run, or never ran.
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

#include "base/metrics.hpp"
#include "base/result.hpp"
#include "http/address_policy.hpp"
#include "http/client_framing.hpp"
#include "http/proxy.hpp"
#include "http/url.hpp"
#include "runtime/task.hpp"

namespace sluice::runtime {
class Loop;
}

namespace sluice::http {

// What servers must prove: a certificate for the host name (or IP address) they are called by, from an authority that
// the system or `ca_file` knows, over TLS 1.2 or later. Immutable; any thread.
class TlsContext {
 public:
  // `ca_file`: PEM certificates to trust besides the system's; empty for none. `cert_file` and `key_file`, in PEM: what
  // to show to a server that asks who we are; both or neither. Errors: config_invalid.
  static Result<std::shared_ptr<const TlsContext>> load(const std::string& ca_file, const std::string& cert_file = {},
                                                        const std::string& key_file = {});

  ~TlsContext();
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;

  struct Native;
  [[nodiscard]] Native& native() const noexcept { return *native_; }

 private:
  explicit TlsContext(std::unique_ptr<Native> native);
  std::unique_ptr<Native> native_;
};

// How to talk to one upstream and the hosts it refers to. Connections are shared within a channel, never across.
// Immutable while in use; any thread. What it points to outlives the Client.
struct Channel {
  std::shared_ptr<const TlsContext> tls;      // null: https is refused
  std::shared_ptr<const TlsContext> own_tls;  // for own_host, where it differs; may be null
  std::shared_ptr<const ProxyRules> proxies;  // null: everything is reached directly
  std::chrono::milliseconds connect_timeout{10'000};
  std::chrono::milliseconds headers_timeout{30'000};
  std::chrono::milliseconds stall_timeout{30'000};
  // To one host, on each loop. Who comes too late waits its turn, at most for the headers time-out.
  std::size_t max_connections_per_host = 64;
  // SO_RCVBUF of its connections; 0 leaves it to the kernel, which grows it as far as net.ipv4.tcp_rmem lets it.
  std::size_t receive_buffer_bytes = 0;
  std::string user_agent;
  // The host that the configuration names; empty: any. No other is shown own_tls.
  std::string own_host;
  metrics::Gauge* connections = nullptr;       // open ones, idle or not
  metrics::Counter* received_bytes = nullptr;  // of bodies
};

struct ClientRequest {
  std::string method = "GET";  // GET, HEAD or POST
  Url url;
  std::vector<HeaderField> fields;  // besides Host and User-Agent
  // Instead of the channel's headers time-out.
  std::optional<std::chrono::milliseconds> headers_timeout = std::nullopt;
  // Instead of the channel's connect time-out.
  std::optional<std::chrono::milliseconds> connect_timeout = std::nullopt;
  // Of a POST. It may be sent a second time when a kept connection proves dead.
  std::string body = {};
  // Where a server has sent us to `url`: which addresses of it may be dialled. Nothing: all.
  std::optional<Referral> referral = std::nullopt;
  // When the head must be there, the waits for a connection included; the other time-outs count besides.
  std::optional<std::chrono::steady_clock::time_point> until = std::nullopt;
  // Not over a kept connection: one that has died in silence looks like a slow server.
  bool fresh_connection = false;
  // Set to false, and to true once there is a connection; may be null. Lives until send() returns.
  bool* connected = nullptr;
};

// An answer whose head has been read, and the connection that its body comes over.
//
//   state   | read    | status, find | destroy
//   running | yes     | yes          | closes the connection
//   ended   | 0 again | yes          | the connection is in the pool already
//   failed  | error   | yes          | closes the connection
//
// Threads: the loop it came from; destroyed there, or after that loop has stopped.
class ClientResponse {
 public:
  ~ClientResponse();
  ClientResponse(const ClientResponse&) = delete;
  ClientResponse& operator=(const ClientResponse&) = delete;

  [[nodiscard]] int status() const noexcept { return head_.status; }
  // The first field of that name, or nothing at all. Lives as long as this object.
  [[nodiscard]] const std::string* find(std::string_view name) const noexcept { return head_.find(name); }
  [[nodiscard]] const ReceivedHead& head() const noexcept { return head_; }
  // As announced, also in the answer to a HEAD.
  [[nodiscard]] std::optional<std::uint64_t> content_length() const noexcept { return content_length_; }
  // Who gave it; nothing where it came through a proxy.
  [[nodiscard]] const std::optional<IpAddress>& peer() const noexcept { return peer_; }

  // Suspends until there are bytes; 0 at the proper end. `into` is not empty and stays until then.
  // Errors: upstream_unreachable, broken or closed before the announced length; upstream_timeout, nothing for the stall
  // time-out; upstream_protocol, a broken chunk; cancelled. Bytes behind the stated end are no error: the body is
  // whole, and the connection is closed.
  runtime::Task<Result<std::size_t>> read(std::span<std::byte> into);

  // By when all of the body must have come, as slowly as it does: from then on read() says upstream_timeout. Without it
  // only the stall time-out counts.
  void end_by(std::chrono::steady_clock::time_point until) noexcept { ends_by_ = until; }

  // The whole rest. Errors: those of read; upstream_protocol when it is more than `limit` bytes.
  runtime::Task<Result<std::string>> read_all(std::size_t limit);

  // Makes the connection reusable where that is cheap: reads away a short body that is there already or comes at once.
  runtime::Task<void> drain();

 private:
  friend class Client;
  struct Source;
  ClientResponse(ReceivedHead head, BodyFraming framing, std::unique_ptr<Source> source);

  runtime::Task<Result<std::size_t>> read_piece(std::span<std::byte> into);
  runtime::Task<Result<std::size_t>> read_chunked(std::span<std::byte> into);
  runtime::Task<Result<std::size_t>> read_until_close(std::span<std::byte> into);
  runtime::Task<Result<std::size_t>> read_some(std::span<std::byte> into);
  Error cut_short() const;
  [[nodiscard]] std::chrono::milliseconds time_left() const;
  void finish();

  ReceivedHead head_;
  BodyFraming framing_;
  std::optional<std::uint64_t> content_length_;
  std::optional<IpAddress> peer_;
  ChunkParser chunks_;
  std::uint64_t received_ = 0;
  std::chrono::milliseconds stall_timeout_;
  std::chrono::steady_clock::time_point ends_by_ = std::chrono::steady_clock::time_point::max();
  bool ended_ = false;
  std::optional<Error> failure_;
  std::unique_ptr<Source> source_;  // null once the connection has been given back
};

class Client {
 public:
  struct Params {
    // How many loops send through it: one more than the highest Loop::index().
    std::size_t loops = 1;
    // Kept connections, for one host on one loop.
    std::size_t idle_limit_per_host = 32;
    // A connection that nobody used for that long is closed.
    std::chrono::milliseconds idle_age{30'000};
  };

  explicit Client(const Params& params);
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  ~Client();

  // Sends `request` and reads the head of the answer (interim 1xx answers are skipped). A kept connection over which no
  // head comes in time takes all others that are kept to that host with it: what ended one in silence ended them too.
  // Errors: upstream_unreachable, no connection, or it broke; upstream_timeout; upstream_protocol; overloaded, no
  // connection to that host became free; cancelled. Messages name the host, never the target.
  // With a referral whose policy permits none of the host's addresses: upstream_protocol; nothing is sent.
  runtime::Task<Result<std::unique_ptr<ClientResponse>>> send(ClientRequest request,
                                                              std::shared_ptr<const Channel> channel);

  // Kept connections on one loop, and hosts that it knows; from that loop's thread, for tests.
  [[nodiscard]] std::size_t idle_connections(std::size_t loop) const;
  [[nodiscard]] std::size_t hosts(std::size_t loop) const;

 private:
  friend class ClientResponse;
  class Pool;   // of one loop
  class Lease;  // a connection on loan
  Pool& pool_of(runtime::Loop& loop);

  const Params params_;
  std::vector<std::unique_ptr<Pool>> pools_;  // by Loop::index(); each made and used by its loop's thread alone
};

}  // namespace sluice::http
