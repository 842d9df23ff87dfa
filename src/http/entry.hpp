// Who may come in to a server, by address: lists, the proxies whose word about their clients is taken, and what one
// client may have at a time.
//
// Entry is a value that is exchanged as a whole while the server runs (Server::set_entry). ClientTable is the server's:
// it counts what each client has, and outlives every exchange.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <utility>

#include "base/network.hpp"

namespace sluice::http {

class TlsServerContext;

struct Entry {
  NetworkList allow;  // empty: everybody
  NetworkList deny;   // stands above `allow`
  // Whose X-Forwarded-For is believed, and with `proxy_protocol` the header at the head of each of their connections,
  // which is then required. What the lists and limits look at is the client behind them.
  NetworkList trusted_proxies;
  bool proxy_protocol = false;
  std::size_t client_max_connections = 0;      // 0: no limit
  std::size_t client_requests_per_second = 0;  // with a second's worth at once; 0: no limit
  // Null: plain HTTP.
  std::shared_ptr<const TlsServerContext> tls;

  [[nodiscard]] bool admits(const IpAddress& address) const noexcept {
    return !deny.contains(address) && (allow.empty() || allow.contains(address));
  }
  // Whether there is anything to look at in a connection, and in a request.
  [[nodiscard]] bool looks_at_connections() const noexcept {
    return !allow.empty() || !deny.empty() || !trusted_proxies.empty() || client_max_connections != 0;
  }
  [[nodiscard]] bool looks_at_requests() const noexcept {
    return client_requests_per_second != 0 || !trusted_proxies.empty();
  }
};

// One client: its connections, and how far it is ahead of its rate. Thread-safe without a lock.
class ClientAccount {
 public:
  using Nanoseconds = std::chrono::nanoseconds;

  // Takes a place among `most` connections; false: there is none.
  [[nodiscard]] bool connect(std::size_t most) noexcept;
  void disconnect() noexcept { connections_.fetch_sub(1, std::memory_order_relaxed); }

  // One request at `now`, any monotonic time, and how long it has to wait for its turn: zero within the rate and its
  // burst of one second. Nothing, and it does not count, when it would wait longer than `patience` (GCRA: ITU-T I.371).
  [[nodiscard]] std::optional<Nanoseconds> request(Nanoseconds now, std::size_t per_second,
                                                   Nanoseconds patience) noexcept;

  // Nobody would notice if it were forgotten.
  [[nodiscard]] bool is_idle(Nanoseconds now) const noexcept {
    return connections_.load(std::memory_order_relaxed) == 0 && until_.load(std::memory_order_relaxed) <= now.count();
  }

 private:
  std::atomic<std::size_t> connections_{0};
  std::atomic<std::int64_t> until_{0};  // the theoretical arrival time of its next request
};

// The clients of a server. Bounded by its connections and kMaxResting more, which are kept for their rates.
// Threads: all functions are thread-safe.
class ClientTable {
 public:
  static constexpr std::size_t kMaxResting = std::size_t{1} << 16;

  // Never null. An IPv6 client is its /64.
  std::shared_ptr<ClientAccount> find(const IpAddress& address, ClientAccount::Nanoseconds now);
  [[nodiscard]] std::size_t size() const;

 private:
  static constexpr std::size_t kShards = 16;
  struct Shard {
    mutable std::mutex mutex;  // guards what follows
    std::unordered_map<IpAddress, std::shared_ptr<ClientAccount>, IpAddressHash> clients;
    std::size_t sweep_at = kMaxResting / kShards;
  };
  static void sweep(Shard& shard, ClientAccount::Nanoseconds now);

  std::array<Shard, kShards> shards_;
};

// A connection's place with its client, as long as it lives.
class ClientPlace {
 public:
  ClientPlace() = default;
  // Nothing when the client has `most` connections already; 0: no limit.
  static std::optional<ClientPlace> take(std::shared_ptr<ClientAccount> client, std::size_t most) {
    if (!client->connect(most)) return std::nullopt;
    return ClientPlace(std::move(client));
  }
  ClientPlace(ClientPlace&&) noexcept = default;
  ClientPlace& operator=(ClientPlace&& other) noexcept {
    std::swap(client_, other.client_);
    return *this;
  }
  ~ClientPlace() {
    if (client_) client_->disconnect();
  }

  // Null where nobody counts.
  [[nodiscard]] ClientAccount* client() const noexcept { return client_.get(); }

 private:
  explicit ClientPlace(std::shared_ptr<ClientAccount> client) : client_(std::move(client)) {}
  std::shared_ptr<ClientAccount> client_;
};

}  // namespace sluice::http
