// What the Redis provider is told: where Redis is, who we are to it, and how long we wait.
//
// Values, read from any thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::descriptors {

struct RedisAddress {
  std::string host;  // a name or an IP address, without brackets
  std::uint16_t port = 6379;
  std::string path;  // of a Unix socket; then host and port mean nothing

  // "redis.example.com", "10.0.0.1:6379", "[::1]:6379", "unix:/run/redis.sock". Nothing for anything else.
  static std::optional<RedisAddress> parse(std::string_view text);
  [[nodiscard]] std::string to_string() const;

  friend bool operator==(const RedisAddress&, const RedisAddress&) = default;
};

struct RedisParams {
  // Tried in turn; the first that takes writes is stayed with until it fails. Not empty.
  std::vector<RedisAddress> addresses;
  // Without a password nothing is said; with a password alone it is that of the default user.
  std::string username;
  std::string password;
  unsigned database = 0;

  // For each address: name resolution, connecting, and again for the greeting (AUTH, SELECT).
  std::chrono::milliseconds connect_timeout{1000};
  // For one request, the wait for a connection included: what Redis costs a pull at most. A request of two round trips
  // (clear) may take it twice.
  std::chrono::milliseconds command_timeout{500};
  // Connections of each event loop. They are pipelined; further ones are opened while one has many commands in flight.
  std::size_t pool_size = 2;

  // Back-off of the breaker: the first pause, doubled by each failure up to the last one, each with a jitter of 25 %.
  std::chrono::milliseconds first_pause{250};
  std::chrono::milliseconds last_pause{5000};

  // distribution, as a proxy of docker.io, writes "library/busybox" where our scope is "docker.io/library/busybox".
  // To share a Redis with it this is the name of the default upstream with a slash ("docker.io/"), which its scopes
  // lose in keys; those of other upstreams stay as they are. Empty: nothing is taken off.
  std::string strip_prefix;
  // The names of all upstreams. A scope keeps its prefix where what is left would begin with one of them: else
  // "ghcr.io/a" of docker.io and "a" of ghcr.io would be one key, and the one could read what the other may.
  std::vector<std::string> upstreams;
};

}  // namespace sluice::descriptors
