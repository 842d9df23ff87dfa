// The registry API: /v2/ and everything below it, as an http::Handler.
//
// It finds out what a request means, hands it to who answers it, turns an error into an answer, and writes the access
// log. Threads: serve runs on every loop at the same time; what it holds is thread-safe.
#pragma once

#include <atomic>
#include <optional>
#include <string>

#include "base/clock.hpp"
#include "http/exchange.hpp"
#include "proxy/access_gate.hpp"
#include "proxy/access_log.hpp"
#include "proxy/blob_response.hpp"
#include "proxy/listings.hpp"
#include "proxy/login_gate.hpp"
#include "proxy/manifest_service.hpp"
#include "proxy/metrics.hpp"
#include "proxy/prefetcher.hpp"
#include "proxy/ready_way.hpp"
#include "proxy/referrers.hpp"
#include "proxy/removal.hpp"
#include "proxy/repository_rules.hpp"
#include "proxy/target.hpp"
#include "proxy/upstreams.hpp"

namespace sluice::proxy {

class Api final : public http::Handler {
 public:
  // All must outlive it.
  struct Parts {
    const Upstreams& upstreams;
    BlobService& blobs;
    ManifestService& manifests;
    AccessLog& access_log;
    const Clock& clock;
    Removal* removal = nullptr;              // answers DELETE; none: it is refused
    Listings* listings = nullptr;            // answers tags/list and _catalog; none: they are refused
    Referrers* referrers = nullptr;          // likewise
    LoginGate* logins = nullptr;             // none: nobody needs a login
    const RepositoryRules* rules = nullptr;  // none: all repositories are there
    AccessGate* gate = nullptr;              // none: nobody may pull from an upstream with access: passthrough
    Prefetcher* prefetcher = nullptr;        // told of the manifests that clients get
    std::string pseudonym = {};              // what Via calls us: who brings it is in a loop; empty: nobody is
  };

  Api(const Parts& parts, const Metrics& metrics);

  runtime::Task<void> serve(http::Exchange& exchange) override;

 private:
  // What the access log wants to know, as it becomes known.
  struct Answered {
    std::string request_id;
    bool own_id = false;  // it is the client's
    Target target;
    std::optional<Route> route;
    bool asked = false;  // the request was understood, and put to the cache
    CacheResult cache = CacheResult::none;
  };

  runtime::Task<Result<void>> dispatch(http::Exchange& exchange, Answered& answered);
  runtime::Task<Result<void>> serve_blob(http::Exchange& exchange, Answered& answered, std::string reference,
                                         std::string extra_fields);
  runtime::Task<Result<void>> serve_manifest(http::Exchange& exchange, Answered& answered, std::string reference,
                                             std::string extra_fields);
  runtime::Task<Result<void>> serve_removal(http::Exchange& exchange, Answered& answered);
  runtime::Task<Result<void>> serve_ping(http::Exchange& exchange, Named named);
  // Replaces the route by one that asks for the client.
  runtime::Task<Result<void>> admit(http::Exchange& exchange, Answered& answered, bool pulls);
  // api_lists.cpp
  runtime::Task<Result<void>> serve_tags(http::Exchange& exchange, Answered& answered, std::string ns,
                                         std::string extra_fields);
  runtime::Task<Result<void>> serve_catalog(http::Exchange& exchange, Answered& answered, Named named);
  runtime::Task<Result<void>> serve_referrers(http::Exchange& exchange, Answered& answered, std::string ns,
                                              std::string extra_fields);
  runtime::Task<void> serve_loop(http::Exchange& exchange, std::string via);
  void account(http::Exchange& exchange, const Answered& answered, Clock::Monotonic started);
  void make_ready(http::Exchange& exchange, const Answered& answered) const;

  const Parts parts_;
  const Metrics metrics_;
  BlobResponder blob_responder_;
  RequestIds request_ids_;
  const ReadyWay ready_way_;
  std::atomic<Clock::Monotonic> next_loop_warning_{Clock::Monotonic{}};
};

}  // namespace sluice::proxy
