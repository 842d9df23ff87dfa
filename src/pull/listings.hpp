// What can be listed: the tags of a repository, and the repositories of the cache.
//
//   tags    listed less than tag_ttl ago  ──▶ the same list
//           else upstream's list, all its pages; one question for all who ask
//           a page is no good             ──▶ the list without a page size; else what came before that page, said to be
//                                             stale, and for negative.ttl alone
//           upstream is out               ──▶ the tags that could be pulled from here, said to be stale
//
// A list is one shared object: what is handed out points into it.
//
// Repositories are those that the cache knows something of. Upstream is not asked: nobody could tell its answer from
// ours, and public registries give none.
//
// Threads: all functions may be called from any loop. The task group must be empty before this is destroyed.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "access/cache_result.hpp"
#include "access/negative_cache.hpp"
#include "access/repository_rules.hpp"
#include "access/upstreams.hpp"
#include "base/clock.hpp"
#include "base/sieve_map.hpp"
#include "base/version.hpp"
#include "pull/name_list.hpp"
#include "runtime/disk_pool.hpp"
#include "runtime/single_flight.hpp"
#include "store/blob_store.hpp"

namespace sluice::pull {

class Listings {
 public:
  struct Params {
    std::chrono::milliseconds tag_ttl{60'000};
    std::chrono::milliseconds stale_for{0};  // 0: for ever
    // Of lists that are kept for that time. The largest one has to fit, or each request would ask for it again.
    std::uint64_t memory_bytes = 96 * 1024 * 1024;
    // A list beyond these is not handed on: half of one would look like the whole.
    std::size_t max_pages = 1'000;
    std::size_t max_tags = 1'000'000;
    std::size_t max_bytes = 64 * 1024 * 1024;  // of its names
    access::NegativeCache::Params negative;
  };
  using Names = std::shared_ptr<const NameList>;
  struct Listed {
    access::CacheResult result = access::CacheResult::none;  // hit, miss or stale
    Names names;
  };

  // Long answers are read on `pool`.
  Listings(Params params, const access::Upstreams& upstreams, store::BlobStore& store, runtime::DiskPool& pool,
           const Clock& clock, runtime::TaskGroup& group);

  // Errors: those of upstream::Registry::list; name_unknown for a repository that upstream does not have.
  runtime::Task<Result<Listed>> tags(access::Route route);

  // As a client would pull them here: with the upstream's name in front, unless it is the default one. With `only`
  // those of that upstream, without its name. Those of upstreams with access: passthrough are left out: who may see
  // them is not known; so are those that `rules`, which may be null, do not permit.
  // A list serves everybody until there is another repository, upstream or rule; the last two are kept. `rules` are the
  // same ones each time. Errors: shutting_down.
  runtime::Task<Result<Listed>> repositories(std::shared_ptr<const access::Upstreams::Upstream> only,
                                             const access::RepositoryRules* rules = nullptr);

 private:
  static constexpr std::size_t kKeptRepositories = 2;  // lists; of half a million repositories each takes 26 MB

  struct Kept {
    Names names;
    bool whole = true;  // no page of it was broken
    Clock::Monotonic until;
  };
  struct Asked {
    Names names;
    bool whole = true;
  };
  struct Repositories {
    Names names;
    std::array<Version::Watch, 3> of = {};  // upstreams, rules, repositories
    [[nodiscard]] bool unchanged() const noexcept;
  };
  // What the pages of a list gave, up to the first one that is no good.
  struct Pages {
    NameList::Builder names;
    std::size_t good = 0;
    std::optional<Error> broken;  // why the page behind them is no good
    bool too_many = false;        // there are more than can be listed
  };

  [[nodiscard]] std::optional<Listed> fresh(const std::string& key);
  void keep(const std::string& key, const Asked& asked);
  // The tags that are served while upstream is out.
  [[nodiscard]] NameList known_here(const descriptors::Scope& scope) const;
  runtime::Task<Result<Asked>> ask(access::Route route);
  runtime::Task<Pages> ask_pages(access::Route route, std::string what);
  runtime::Task<void> read_page(std::string body, Pages& into);
  // `only`: an upstream's name; empty: all.
  [[nodiscard]] Repositories list_repositories(std::string_view only, const access::RepositoryRules* rules) const;
  runtime::Task<Result<Repositories>> walk(std::string only, const access::RepositoryRules* rules);

  const Params params_;
  const access::Upstreams& upstreams_;
  store::BlobStore& store_;
  runtime::DiskPool& pool_;
  const Clock& clock_;
  std::mutex mutex_;  // guards kept_ and repositories_
  SieveMap<std::string, Kept> kept_;
  SieveMap<std::string, Repositories> repositories_{kKeptRepositories};
  access::NegativeCache unknown_;
  access::NegativeCache too_long_;  // whose walk upstream has just gone in vain
  runtime::SingleFlight<std::string, Asked> flights_;
  runtime::SingleFlight<std::string, Repositories> walks_;
};

}  // namespace sluice::pull
