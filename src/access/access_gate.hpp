// Who may pull from an upstream with `access: passthrough`: upstream is asked with the Authorization that the client
// has sent, for the very thing that it wants, before anything is answered, cached or not.
//
//   granted lately ──▶ admitted
//   else upstream is asked by HEAD: yes            ──▶ admitted, and granted for this repository for `grant_ttl`
//                                   401, 403, 404  ──▶ upstream's answer, with its challenges
//                                   no answer      ──▶ 503: nobody is let in on a guess
//
// A grant is for one Authorization (or for having none), one upstream as long as its address and access do not change,
// one repository, and either pulling or listing,
// which some registries tell apart. It is kept under a KeyedHash; the Authorization itself is kept no longer than the
// request, and the download that it has started.
//
// Threads: all functions may be called from any loop. Upstream is asked in `group`, once for all who wait with the same
// Authorization for the same thing. The group must be empty before this is destroyed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "access/keyed_hash.hpp"
#include "access/upstreams.hpp"
#include "base/clock.hpp"
#include "base/metrics.hpp"
#include "base/sieve_map.hpp"
#include "runtime/single_flight.hpp"

namespace sluice::access {

class AccessGate {
 public:
  struct Params {
    std::size_t max_grants = 100'000;
  };
  enum class Wants : std::uint8_t { manifest, blob, list };

  // Throws std::runtime_error when no key can be drawn.
  AccessGate(Params params, const Clock& clock, runtime::TaskGroup& group, metrics::Registry& registry);

  // The route with which the client goes on: it asks upstream with the client's own Authorization. `reference` is that
  // of the path. Precondition: route.passthrough.
  // Errors: those of the path (digest_invalid …); upstream's refusal with its challenges; overloaded, for an upstream
  // that cannot be asked.
  runtime::Task<Result<Route>> admit(Route route, std::string authorization, Wants wants, std::string reference);

  // What `GET /v2/` says to that client: nothing, or unauthorized with upstream's challenges. An upstream that is out
  // is no reason to refuse; its last challenges are. `asker`: what upstream is told of where the request has come
  // through; may be empty.
  runtime::Task<Result<void>> ping(const Upstreams::Upstream& upstream, std::string authorization,
                                   upstream::Asker asker);

  // Grants that are kept, expired ones included; for tests.
  [[nodiscard]] std::size_t grants() const;

 private:
  struct Yes {};
  struct Counters {
    explicit Counters(metrics::Registry& registry);
    metrics::Counter& remembered;
    metrics::Counter& granted;
    metrics::Counter& refused;
    metrics::Counter& failed;
  };

  [[nodiscard]] bool is_granted(const std::string& key);
  void grant(const std::string& key, std::chrono::milliseconds ttl);
  runtime::Task<Result<Yes>> ask_once(Route route, Wants wants, std::string reference, std::string key);
  static runtime::Task<Result<Yes>> ask(Route route, Wants wants, std::string reference);
  Result<void> ping_in_vain(const std::string& upstream, const std::string& term, bool anonymous, const Error& error);

  const Clock& clock_;
  const Counters counters_;
  const KeyedHash hash_;
  mutable std::mutex mutex_;  // guards what follows
  SieveMap<std::string, Clock::Monotonic> grants_;
  struct Challenges {
    std::string term;  // in which they came; those of another address lead elsewhere
    std::vector<std::string> fields;
  };
  std::map<std::string, Challenges> challenges_;  // the last ones of each upstream
  runtime::SingleFlight<std::string, Yes> flights_;
};

}  // namespace sluice::access
