// An HTTP/1.1 server: one listener and any number of sessions on each loop of a pool.
//
//   made ──listen() or listen_on()──▶ listening ──stop_accepting()──▶ draining ──(answers finish | cancel())──▶ empty
//
// stop_accepting closes listeners and idle connections, and lets answers in flight finish with `Connection: close`;
// drain waits for them; cancel cuts what is left.
//
// Threads: all functions may be called from any thread but the loops'. The pool must be started, and outlive the
// server; so must the handler and the registry. The destructor stops, cancels and waits.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/metrics.hpp"
#include "base/result.hpp"
#include "http/entry.hpp"
#include "http/exchange.hpp"
#include "http/own_listeners.hpp"

namespace sluice::runtime {
class DiskPool;
class LoopPool;
}  // namespace sluice::runtime

namespace sluice::http {

class Server {
 public:
  struct Params {
    // The `listener` label of its metrics, and its name in log lines.
    std::string name = "registry";
    // From the first byte of a request to the end of its head. 408 beyond.
    std::chrono::milliseconds header_timeout{10'000};
    // Between requests, and before the first one.
    std::chrono::milliseconds idle_timeout{75'000};
    // Without a byte taken by the client while there is something to send.
    std::chrono::milliseconds send_timeout{60'000};
    // After our FIN: how long, and for how many bytes, to wait for the client's.
    std::chrono::milliseconds linger_timeout{1'000};
    std::size_t linger_bytes = std::size_t{256} << 10;
    // Request line and fields; the request line alone.
    std::size_t max_header_bytes = std::size_t{64} << 10;
    std::size_t max_line_bytes = std::size_t{8} << 10;
    // Open at the same time; 0 is unlimited. Some more are accepted to be told 503; beyond those, connections wait in
    // the kernel's queue.
    std::size_t max_connections = 20'000;
    // The `Retry-After` of that 503.
    std::chrono::seconds retry_after{5};
    int backlog = 1024;
    // So much is read of a connection at first; a head that goes on is read in larger pieces. Memory for it is taken
    // when something has been read, and given back while the connection waits for its next request.
    std::size_t read_bytes = 2048;
    // So much of a long 206 may lie in the kernel without being sent (TCP_NOTSENT_LOWAT); 0 leaves it to the kernel.
    // Clients that break off are sent no more than that in vain, beyond what is on its way.
    int unsent_bytes = 128 << 10;
    // SO_SNDBUF of connections; 0 leaves it to the kernel. For tests.
    int send_buffer_bytes = 0;
    // Whether a request that has come before may be answered without the handler (ready.hpp). Off in tests that
    // compare.
    bool ready_answers = true;
    // A request above its client's rate waits so long for its turn at most; beyond that it is answered 503.
    std::chrono::milliseconds rate_patience{2'000};
    // Where send_file reads pages that are not in memory, so that the loop does not wait for the disk. Without one it
    // does.
    runtime::DiskPool* disk_pool = nullptr;
    // Gets to know where it listens; may be null.
    std::shared_ptr<OwnListeners> own_listeners = nullptr;
  };

  // All labelled with the listener's name.
  struct Metrics {
    Metrics(metrics::Registry& registry, const std::string& listener);
    metrics::Gauge& connections;         // sluice_http_connections
    metrics::Counter& accepted;          // sluice_http_connections_accepted_total
    metrics::Counter& refused;           // sluice_http_connections_refused_total
    metrics::Counter& accept_errors;     // sluice_http_accept_errors_total
    metrics::Counter& requests;          // sluice_http_requests_total
    metrics::Counter& ready;             // sluice_http_ready_answers_total
    metrics::Counter& sent_bytes;        // sluice_http_sent_bytes_total
    metrics::Counter& parse_errors;      // sluice_http_parse_errors_total
    metrics::Counter& handler_failures;  // sluice_http_handler_failures_total
    metrics::Counter& broken_off;        // sluice_http_broken_off_total
    metrics::Counter& header_timeouts;   // sluice_http_timeouts_total{kind="header"}
    metrics::Counter& idle_timeouts;     // sluice_http_timeouts_total{kind="idle"}
    metrics::Counter& send_timeouts;     // sluice_http_timeouts_total{kind="send"}
    metrics::Counter& cold_reads;        // sluice_http_cold_reads_total
    metrics::Counter& denied;            // sluice_http_denied_total{reason="address"}
    metrics::Counter& crowded;           // sluice_http_denied_total{reason="connections"}
    metrics::Counter& bad_proxy;         // sluice_http_denied_total{reason="proxy_header"}
    metrics::Counter& over_rate;         // sluice_http_denied_total{reason="rate"}
    metrics::Counter& delayed;           // sluice_http_delayed_requests_total
    metrics::Counter& tls_accepted;      // sluice_http_tls_handshakes_total{result="accepted"}
    metrics::Counter& tls_failed;        // sluice_http_tls_handshakes_total{result="failed"}
    metrics::Counter& tls_plain;         // sluice_http_tls_handshakes_total{result="plain_http"}
  };

  Server(runtime::LoopPool& loops, Handler& handler, Params params, metrics::Registry& registry);
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  ~Server();

  // "127.0.0.1:5000", "[::]:5000", ":5000" (all addresses, IPv6 with IPv4), "localhost:5000"; port 0 takes a free one.
  // Once. Errors: exists (in use), config_invalid (not an address, not permitted), with the address and why.
  Result<void> listen(std::string_view address);

  // Accepts on sockets that listen already, given by a supervisor (systemd's socket activation) and taken over. Once,
  // instead of listen(). Errors: config_invalid (one is no listening stream socket).
  Result<void> listen_on(const std::vector<int>& sockets);

  // What counts from now on, also for requests on connections that are open; TLS, and the PROXY protocol, for new
  // connections alone. Until it is called everybody may come in, by plain HTTP.
  void set_entry(std::shared_ptr<const Entry> entry);
  // The same, at once. Only while the loops are paused (runtime::while_paused).
  void exchange_entry(std::shared_ptr<const Entry> entry);

  // The port that is listened on, 0 before.
  [[nodiscard]] std::uint16_t port() const noexcept;
  // Connections that are open, those included that are being refused.
  [[nodiscard]] std::size_t connections() const noexcept;

  // Idempotent, returns at once.
  void stop_accepting();
  // Blocks until no connection is left, at most `timeout`; whether none is left.
  bool drain(std::chrono::nanoseconds timeout);
  // Closes everything. Idempotent, returns at once; drain() tells when it is done.
  void cancel();

  struct State;  // server.cpp, session.cpp

 private:
  std::unique_ptr<State> state_;
};

}  // namespace sluice::http
