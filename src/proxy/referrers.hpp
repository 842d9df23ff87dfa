// Which manifests refer to another one (signatures, SBOMs): from upstream's referrers API, or, where it has none, from
// the tag that stands in for it ("sha256-<hex>"; distribution-spec, "Unavailable Referrers API"). Kept, compared and
// served stale as tags are.
//
//   asked less than tag_ttl ago  ──▶ the same answer
//   else upstream's answer, all its pages, one question for all who ask
//     it has no such API         ──▶ the tag
//     it is out                  ──▶ what is stored, the API's answer or the tag's, for at most `stale_for`
//
// An answer of the API is stored like a manifest, and stands in the tag table under a name that no tag can have; an
// empty one, which clients can ask for without end, is remembered in memory alone.
//
// Threads: all functions may be called from any loop. The task group must be empty before this is destroyed.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "proxy/list_json.hpp"
#include "proxy/manifest_service.hpp"

namespace sluice::proxy {

class Referrers {
 public:
  struct Params {
    std::chrono::milliseconds tag_ttl{60'000};
    std::chrono::milliseconds stale_for{0};  // 0: for ever
    std::size_t max_pages = 100;
    // How long it is believed that a repository's upstream has no referrers API.
    NegativeCache::Params missing{.ttl = std::chrono::minutes(10), .max_entries = 10'000};
    // Manifests that nothing refers to, each remembered for tag_ttl.
    std::size_t max_empty = 10'000;
  };
  struct Found {
    CacheResult result = CacheResult::none;  // hit, miss or stale
    std::vector<Referrer> referrers;
  };

  // Long answers are read on `pool`.
  Referrers(Params params, ManifestService& manifests, store::BlobStore& store, runtime::DiskPool& pool,
            const Clock& clock, runtime::TaskGroup& group);

  // Errors: those of upstream::Registry::list. A manifest that nothing refers to, or that is not there, has none.
  runtime::Task<Result<Found>> find(Route route, oci::Digest subject);

  // The tag that stands in for the API.
  static std::string tag_of(const oci::Digest& subject);

 private:
  using Body = std::shared_ptr<const std::string>;  // an image index

  runtime::Task<Result<Body>> ask(Route route, oci::Digest subject);
  runtime::Task<Result<std::vector<Referrer>>> read(std::string index);
  runtime::Task<Result<Found>> found(CacheResult result, std::string index);
  runtime::Task<Result<Body>> stored(const store::TagRecord& record);
  runtime::Task<Result<Found>> by_tag(Route route, oci::Digest subject);
  runtime::Task<Result<Found>> stand_in(Route route, oci::Digest subject, Error error);
  [[nodiscard]] bool is_fresh(const store::TagRecord& record) const;

  const Params params_;
  ManifestService& manifests_;
  store::BlobStore& store_;
  runtime::DiskPool& pool_;
  const Clock& clock_;
  NegativeCache missing_;
  NegativeCache none_;
  runtime::SingleFlight<std::string, Body> flights_;
};

}  // namespace sluice::proxy
