// The upstreams that the configuration names, and which of them a request means.
//
// A closed world: a name in `ns`, in front of the path or in Host is looked up here and never dialled.
// It can be exchanged as a whole while requests are served: what was resolved before goes on with the upstreams of
// before, which live as long as somebody uses them. Threads: all functions are thread-safe.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "access/rights_term.hpp"
#include "base/result.hpp"
#include "base/version.hpp"
#include "descriptors/scope.hpp"
#include "oci/name.hpp"
#include "store/origin.hpp"
#include "upstream/registry.hpp"

namespace sluice::access {

// Upstream says, for each client's own Authorization, who may pull (access_gate.hpp).
struct Passthrough {
  std::chrono::milliseconds grant_ttl{60'000};  // how long its yes is believed; 0: not at all
};

// What is fetched of an image before its clients ask for it (prefetcher.hpp).
enum class Prefetch : std::uint8_t {
  none,
  config,  // its configuration
  layers,  // and its layers
};

struct UpstreamMetrics;

// Where one request goes.
struct Route {
  upstream::Registry* registry;  // never null; lives as long as `upstream`, or as `on_behalf`
  oci::Repository repository;    // as upstream knows it
  descriptors::Scope scope;      // "docker.io/library/busybox": what keeps two upstreams' names apart in the cache
  // Null: whoever reaches the cache may pull. Lives as long as `upstream`.
  const Passthrough* passthrough = nullptr;
  // `registry`, where it asks with one client's Authorization.
  std::shared_ptr<upstream::Registry> on_behalf = nullptr;
  // Tells the clients of `on_behalf` apart: the same for the same Authorization and repository.
  std::string client = {};
  Prefetch prefetch = Prefetch::none;
  // Every client of the cache may read all that the cache may read of that upstream: it is open, and no rule keeps
  // repositories apart.
  bool equal_rights = false;
  // Of a download, or a question about a blob, that nobody has asked for: `registry` is `behind`, which it keeps, and
  // asks behind all others. Null: somebody has.
  std::shared_ptr<upstream::Urgency> urgency = nullptr;
  std::shared_ptr<upstream::Registry> behind = nullptr;
  // What `registry` belongs to (an Upstreams::Upstream); null where it lives for ever, in tests.
  std::shared_ptr<const void> upstream = nullptr;
  // In which the route was found; lives as long as `upstream`. Null in tests where the upstreams never change.
  const RightsTerm* term = nullptr;
  // Of that upstream; lives as long as `upstream`. Null in tests that count nothing by upstream.
  const UpstreamMetrics* metrics = nullptr;
  // `registry`, where it knows for which client it asks.
  std::shared_ptr<upstream::Registry> asking_for = nullptr;
  // When whoever waits for upstream's word must have an answer, be it an error; what has been asked goes on.
  std::chrono::steady_clock::time_point answer_by = std::chrono::steady_clock::time_point::max();
  // Of the upstream; 0: there is no such time.
  std::chrono::milliseconds request_timeout{0};
};

// What store::Origin calls the upstream of that route; lives as long as the route.
inline std::string_view origin_name(const Route& route) {
  return route.term == nullptr ? route.registry->name() : std::string_view(route.term->origin);
}
// Tells what is kept in memory of one term from what belongs to another.
inline std::uint64_t term_number(const Route& route) { return route.term == nullptr ? 0 : route.term->number; }
// The upstream's rights have changed since: nothing that is learnt with that route is remembered, and nothing that is
// remembered was learnt with its rights.
inline bool is_over(const Route& route) { return route.term != nullptr && route.term->is_over; }

// Of what is fetched with that route.
store::Origin origin_of(const Route& route);

// What of a request says which upstream it means.
struct Named {
  std::string_view ns;    // the query parameter that containerd sends; empty where there is none
  std::string_view host;  // Host, with its port
};

class Upstreams {
 public:
  struct Params {
    // The upstream for requests that name none. Must be added before the first resolve().
    std::string default_name = "docker.io";
    // A host name with one `*` for the upstream's name: "*.cache.example". Empty: hosts mean nothing.
    std::string host_pattern = {};
  };
  struct Options {
    bool library_prefix = false;             // one-part names live under library/, as on Docker Hub
    std::optional<Passthrough> passthrough;  // nothing: open
    Prefetch prefetch = Prefetch::none;
    // How long a request may wait for this upstream before it is answered. 0: as long as it takes.
    std::chrono::milliseconds request_timeout{0};
  };
  struct Upstream {
    std::shared_ptr<upstream::Registry> registry;  // never null
    Options options;
    std::shared_ptr<const UpstreamMetrics> metrics = nullptr;
    std::shared_ptr<const RightsTerm> term = nullptr;
  };
  // By their canonical names.
  using Table = std::map<std::string, std::shared_ptr<const Upstream>, std::less<>>;

  explicit Upstreams(Params params);

  void add(std::unique_ptr<upstream::Registry> registry, Options options,
           std::shared_ptr<const UpstreamMetrics> metrics = nullptr);
  void add(std::unique_ptr<upstream::Registry> registry, bool library_prefix) {
    Options options;
    options.library_prefix = library_prefix;
    add(std::move(registry), options);
  }

  // All of them, from now on.
  void replace(Table table);
  // The terms of the upstreams that are named, from now on.
  void set_terms(const RightsTerms& terms);
  // Over when they are replaced.
  [[nodiscard]] Version::Watch watch() const noexcept { return version_.watch(); }
  // The name under which an upstream stands in a Table.
  [[nodiscard]] static std::string key(std::string_view name);

  // `name` is the repository in the path. The first of these that is there counts: `ns`; a first part of `name` that is
  // a configured upstream, as in ghcr.io/owner/app; the host; the default. A first part that names the same upstream as
  // `ns` is taken off. Its time to answer counts from now. Suspends never, allocates only the names.
  // Errors: name_invalid; name_unknown for an upstream that is not configured.
  [[nodiscard]] Result<Route> resolve(const Named& named, std::string_view name) const;
  [[nodiscard]] Result<Route> resolve(std::string_view ns, std::string_view name) const {
    return resolve(Named{ns, {}}, name);
  }

  // The upstream of a request that has no repository: by `ns`, host, or the default one. Errors: name_unknown.
  [[nodiscard]] Result<std::shared_ptr<const Upstream>> resolve(const Named& named) const;
  // Whether `ns` or the host names one, so that names in answers need no upstream in front.
  [[nodiscard]] bool names_one(const Named& named) const;

  // Null where it is not configured.
  [[nodiscard]] std::shared_ptr<upstream::Registry> find(std::string_view name) const;
  [[nodiscard]] std::shared_ptr<const Upstream> upstream(std::string_view name) const;
  [[nodiscard]] std::vector<std::string> names() const;
  // As origin_name().
  [[nodiscard]] std::vector<std::string> origin_names() const;
  [[nodiscard]] const std::string& default_name() const noexcept { return params_.default_name; }

 private:
  // The upstream's name in a host that fits the pattern; nothing for any other.
  [[nodiscard]] std::optional<std::string> name_in(std::string_view host) const;

  const Params params_;
  std::string host_prefix_;
  std::string host_suffix_;
  [[nodiscard]] std::shared_ptr<const Table> table() const;
  static const std::shared_ptr<const Upstream>* look_up(const Table& table, std::string_view name);

  mutable std::mutex mutex_;  // guards table_, the pointer
  std::shared_ptr<const Table> table_ = std::make_shared<const Table>();
  Version version_;
};

}  // namespace sluice::access
