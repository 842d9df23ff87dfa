// Which manifests refer to another one (signatures, SBOMs): from upstream's referrers API, or, where it has none, from
// the tag that stands in for it ("sha256-<hex>"; distribution-spec, "Unavailable Referrers API").
//
//   asked less than tag_ttl ago    ──▶ the same list; an empty one for empty_ttl, since people verify, sign and verify
//   else upstream's answer, all its pages, one question for all who ask
//     it has no such API           ──▶ the tag, where it is an index: those of its manifests whose subject this is
//     it is out, or throttles      ──▶ what is kept, the API's answer or the tag's, for at most `stale_for`; else 503,
//                                      because an empty list would say "unsigned"
//     it answers with no list      ──▶ the same; also the tag's, where it is not empty
//     404, and it has listed before ─▶ the last list, for an hour, where that is not empty; else the tag
//
// Of an index under the tag upstream is asked for a hundred manifests at most per request, and where it does not have
// one of them, not again for empty_ttl, and each time twice as long.
//
// A list is parsed once and then one shared object. An answer of the API is stored like a manifest, and stands in the
// tag table under a name that no tag can have; an empty one, which clients can ask for without end, only where the
// repository is known to have the subject, and is remembered in memory alone otherwise.
//
// Threads: all functions may be called from any loop. The task group must be empty before this is destroyed.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "base/recurring_log.hpp"
#include "base/shared_cache.hpp"
#include "base/sieve_map.hpp"
#include "pull/list_json.hpp"
#include "pull/manifest_service.hpp"
#include "pull/referrer_list.hpp"

namespace sluice::pull {

class Referrers {
 public:
  using List = std::shared_ptr<const ReferrerList>;
  struct Params {
    std::chrono::milliseconds tag_ttl{60'000};
    std::chrono::milliseconds empty_ttl{5'000};  // of a list that is empty
    std::chrono::milliseconds stale_for{0};      // 0: for ever
    std::size_t max_pages = 100;
    std::uint64_t memory_bytes = 32 * 1024 * 1024;  // of lists that are kept ready
    // How long it is believed that a repository's upstream has no referrers API.
    access::NegativeCache::Params missing{.ttl = std::chrono::minutes(10), .max_entries = 10'000};
    // How long it is believed that an upstream that has listed referrers has the API, also when it answers 404.
    access::NegativeCache::Params with_api{.ttl = std::chrono::hours(24), .max_entries = 1'000};
    // How long a list counts that such an upstream has given before it answered 404.
    std::chrono::milliseconds trusted_despite_404{std::chrono::hours(1)};
    // Manifests that nothing refers to and that are remembered in memory.
    std::size_t max_empty = 10'000;
  };
  struct Found {
    access::CacheResult result = access::CacheResult::none;  // hit, miss or stale
    List list;                                               // not null
  };

  // Long answers are read on `pool`.
  Referrers(Params params, ManifestService& manifests, store::BlobStore& store, runtime::DiskPool& pool,
            const Clock& clock, runtime::TaskGroup& group);

  // Errors: those of upstream::Registry::list, an outage as `overloaded` or `throttled`. A manifest that nothing refers
  // to, or that is not there, has an empty list.
  runtime::Task<Result<Found>> find(access::Route route, oci::Digest subject);

  // The tag that stands in for the API.
  static std::string tag_of(const oci::Digest& subject);

 private:
  runtime::Task<Result<List>> ask(access::Route route, oci::Digest subject);
  struct Look;
  struct Listed {
    std::string ready_key;  // in ready_
    Clock::Monotonic at;
  };

  runtime::Task<Result<std::vector<Referrer>>> read(std::string_view upstream,
                                                    std::shared_ptr<const std::string> index);
  runtime::Task<Result<List>> keep(access::Route route, oci::Digest subject, std::vector<Referrer> referrers);
  runtime::Task<Result<List>> stored(oci::Digest index);
  runtime::Task<Result<List>> parse_stored(oci::Digest index);
  // What it means that there is no such tag.
  enum class Absent : std::uint8_t { is_empty, is_no_answer };
  runtime::Task<Result<Found>> by_tag(access::Route route, oci::Digest subject, Absent absent);
  runtime::Task<Result<Found>> look_by_tag(access::Route route, oci::Tag tag, oci::Digest subject, Absent absent);
  runtime::Task<Result<List>> check_tag(access::Route route, oci::Digest subject,
                                        std::shared_ptr<const ReadyObject> index, std::shared_ptr<Look> look);
  runtime::Task<Result<void>> look_on(access::Route route, oci::Digest subject, const std::vector<Referrer>& listed,
                                      Look& look);
  std::shared_ptr<Look> look_at(const std::string& key);
  std::optional<Found> last_listed(const access::Route& route, const oci::Digest& subject);
  [[nodiscard]] std::chrono::milliseconds stale_within() const;
  runtime::Task<bool> refers_to(std::shared_ptr<const ReadyObject> manifest, oci::Digest subject);
  runtime::Task<Result<Found>> by_tag_or_kept(access::Route route, oci::Digest subject);
  runtime::Task<std::optional<Found>> kept(const access::Route& route, const oci::Digest& subject,
                                           std::chrono::milliseconds within);
  runtime::Task<void> note_empty(access::Route route, oci::Digest subject);
  void forget_empty(const access::Route& route, const oci::Digest& subject);
  [[nodiscard]] bool is_fresh(const store::TagRecord& record) const;
  [[nodiscard]] bool was_empty(const std::string& key, std::chrono::milliseconds within);

  const Params params_;
  ManifestService& manifests_;
  store::BlobStore& store_;
  runtime::DiskPool& pool_;
  const Clock& clock_;
  const List none_ = std::make_shared<const ReferrerList>();
  const oci::Digest empty_index_;
  access::NegativeCache missing_;   // repositories whose upstream has no referrers API
  access::NegativeCache with_api_;  // upstreams that have it
  RecurringLog log_;
  std::mutex mutex_;                               // guards the next three
  SieveMap<std::string, Clock::Monotonic> empty_;  // when upstream said so
  SieveMap<std::string, Listed> listed_{10'000};   // what tags have said
  // How far indexes under tags have been looked at that name what upstream does not have.
  SieveMap<std::string, std::shared_ptr<Look>> looks_{1'000};
  SharedCache<std::string, ReferrerList> ready_;  // by the digest of the index; of a tag's with the subject
  runtime::SingleFlight<std::string, List> flights_;
};

}  // namespace sluice::pull
