// The registry API: /v2/ and everything below it, as an http::Handler.
//
// It finds out what a request means, hands it to who answers it, turns an error into an answer, and writes the access
// log. Threads: serve runs on every loop at the same time; what it holds is thread-safe.
#pragma once

#include <atomic>
#include <optional>
#include <string>

#include "access/access_gate.hpp"
#include "access/login_gate.hpp"
#include "access/repository_rules.hpp"
#include "access/upstreams.hpp"
#include "api/access_log.hpp"
#include "api/blob_response.hpp"
#include "api/list_response.hpp"
#include "api/ready_way.hpp"
#include "api/target.hpp"
#include "base/clock.hpp"
#include "http/exchange.hpp"
#include "pull/listings.hpp"
#include "pull/manifest_service.hpp"
#include "pull/metrics.hpp"
#include "pull/prefetcher.hpp"
#include "pull/referrers.hpp"
#include "pull/removal.hpp"

namespace sluice::api {

class Api final : public http::Handler {
 public:
  // All must outlive it.
  struct Parts {
    const access::Upstreams& upstreams;
    pull::BlobService& blobs;
    pull::ManifestService& manifests;
    AccessLog& access_log;
    const Clock& clock;
    pull::Removal* removal = nullptr;                // answers DELETE; none: it is refused
    pull::Listings* listings = nullptr;              // answers tags/list and _catalog; none: they are refused
    pull::Referrers* referrers = nullptr;            // likewise
    access::LoginGate* logins = nullptr;             // none: nobody needs a login
    const access::RepositoryRules* rules = nullptr;  // none: all repositories are there
    access::AccessGate* gate = nullptr;              // none: nobody may pull from an upstream with access: passthrough
    pull::Prefetcher* prefetcher = nullptr;          // told of the manifests that clients get
    std::string pseudonym = {};                      // what Via calls us: who brings it is in a loop; empty: nobody is
  };

  Api(const Parts& parts, const pull::Metrics& metrics);

  runtime::Task<void> serve(http::Exchange& exchange) override;

 private:
  // What the access log wants to know, as it becomes known.
  struct Answered {
    std::string request_id;
    bool own_id = false;  // it is the client's
    Target target;
    std::optional<access::Route> route;
    bool asked = false;  // the request was understood, and put to the cache
    access::CacheResult cache = access::CacheResult::none;
    std::chrono::nanoseconds upstream_wait{0};  // while the body was being sent
  };

  runtime::Task<Result<void>> dispatch(http::Exchange& exchange, Answered& answered);
  runtime::Task<Result<void>> serve_blob(http::Exchange& exchange, Answered& answered, std::string reference,
                                         std::string extra_fields);
  runtime::Task<Result<void>> serve_manifest(http::Exchange& exchange, Answered& answered, std::string reference,
                                             std::string extra_fields);
  // A 200 whose body is the file of a manifest.
  runtime::Task<void> send_manifest_file(http::Exchange& exchange, std::string_view head,
                                         const pull::ReadyObject& object, const oci::Digest& stored_as);
  runtime::Task<Result<void>> serve_removal(http::Exchange& exchange, Answered& answered);
  runtime::Task<Result<void>> serve_ping(http::Exchange& exchange, access::Named named);
  // Replaces the route by one that asks for the client.
  runtime::Task<Result<void>> admit(http::Exchange& exchange, Answered& answered, bool pulls);
  runtime::Task<Result<void>> serve_tags(http::Exchange& exchange, Answered& answered, std::string ns,
                                         std::string extra_fields);
  runtime::Task<Result<void>> serve_catalog(http::Exchange& exchange, Answered& answered, access::Named named);
  runtime::Task<Result<void>> serve_referrers(http::Exchange& exchange, Answered& answered, std::string ns,
                                              std::string extra_fields);
  runtime::Task<void> serve_loop(http::Exchange& exchange, std::string via);
  void account(http::Exchange& exchange, const Answered& answered, Clock::Monotonic started);
  void make_ready(http::Exchange& exchange, const Answered& answered) const;

  const Parts parts_;
  const pull::Metrics metrics_;
  BlobResponder blob_responder_;
  ListResponder list_responder_;
  RequestIds request_ids_;
  const ReadyWay ready_way_;
  std::atomic<Clock::Monotonic> next_loop_warning_{Clock::Monotonic{}};
};

}  // namespace sluice::api
