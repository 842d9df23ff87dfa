// What an upstream says of its quota (Docker Hub: `ratelimit-limit: 100;w=21600`, `ratelimit-remaining: 76;w=21600`,
// `docker-ratelimit-source: 203.0.113.7`), as metrics.
//
// Threads: thread-safe. Owned by an Exchange.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "base/metrics.hpp"
#include "http/client_framing.hpp"

namespace sluice::upstream {

// The number in front of the parameters; nothing for anything else.
std::optional<std::uint64_t> parse_rate_limit(std::string_view value);

class RateLimit {
 public:
  RateLimit(metrics::Registry& registry, std::string upstream);

  // Looks at an answer of the registry itself. Cheap where it says nothing of a quota.
  void observe(const http::ReceivedHead& head);

 private:
  // Upstream chooses them: an address or an account. More than so many are counted as one.
  static constexpr std::size_t kMaxSources = 8;
  struct Gauges {
    metrics::Gauge* limit = nullptr;
    metrics::Gauge* remaining = nullptr;
  };

  metrics::Registry& registry_;
  const std::string upstream_;
  std::mutex mutex_;  // guards sources_
  std::map<std::string, Gauges, std::less<>> sources_;
};

}  // namespace sluice::upstream
