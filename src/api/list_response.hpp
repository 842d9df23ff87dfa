// Answers lists: tags, the catalog and referrers, in pages (distribution-spec, "Content Discovery").
//
// Threads: any loop; the tasks are awaited at once by whoever serves the exchange.
#pragma once

#include <memory>
#include <string>

#include "access/cache_result.hpp"
#include "access/repository_rules.hpp"
#include "access/upstreams.hpp"
#include "api/list_memory.hpp"
#include "api/target.hpp"
#include "base/network.hpp"
#include "base/result.hpp"
#include "http/exchange.hpp"
#include "oci/digest.hpp"
#include "pull/listings.hpp"
#include "pull/pages.hpp"
#include "pull/referrers.hpp"
#include "runtime/task.hpp"

namespace sluice::api {

class ListResponder {
 public:
  // What the request says beside what it asks for.
  struct Asked {
    std::string ns;            // as the client gave it: the Link to the next page has it too
    std::string extra_fields;  // of the head: complete lines with CRLF
    pull::PageRequest page = {};
    IpAddress client = {};  // as in IpAddress::client_key
  };

  // Either may be null: then nothing is listed, and its functions must not be called. Both outlive it.
  ListResponder(pull::Listings* listings, pull::Referrers* referrers) : listings_(listings), referrers_(referrers) {}

  [[nodiscard]] bool has_listings() const noexcept { return listings_ != nullptr; }
  [[nodiscard]] bool has_referrers() const noexcept { return referrers_ != nullptr; }

  // Each answers, and says how the cache came by the list. An error means that nothing has been sent yet; `overloaded`
  // is also that too many long lists are being sent.
  // `name`: the repository as the client names it.
  runtime::Task<Result<access::CacheResult>> tags(http::Exchange& exchange, access::Route route, std::string name,
                                                  Asked asked);
  // Repositories of which something is stored: of one upstream, or (null) of all; those that the rules permit.
  runtime::Task<Result<access::CacheResult>> catalog(http::Exchange& exchange,
                                                     std::shared_ptr<const access::Upstreams::Upstream> only,
                                                     const access::RepositoryRules* rules, Asked asked);
  runtime::Task<Result<access::CacheResult>> referrers(http::Exchange& exchange, access::Route route,
                                                       oci::Digest subject, Asked asked);

 private:
  pull::Listings* const listings_;
  pull::Referrers* const referrers_;
  ListMemory memory_;
};

}  // namespace sluice::api
