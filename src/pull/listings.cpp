#include "pull/listings.hpp"

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "access/patience.hpp"
#include "base/errc_kind.hpp"
#include "base/log.hpp"
#include "pull/list_json.hpp"

namespace sluice::pull {
namespace {

// As many as registries of distribution give at once; more is an error there.
constexpr std::string_view kLargePages = "tags/list?n=1000";
constexpr std::string_view kAnyPages = "tags/list";
constexpr std::size_t kReadInPlace = 64 * 1024;

std::uint64_t cost_of(const std::string& key, const NameList& names) { return key.size() + 256 + names.bytes(); }

// Whether the same may do better without a number of tags for a page: what upstream says of the repository or of a
// login stays as it is, and one that is out has to be left alone.
bool may_be_the_number(Errc code, bool first_page) {
  switch (code) {
    case Errc::upstream_protocol:
    case Errc::upstream_failed:
    case Errc::manifest_unknown: return true;
    case Errc::unauthorized:
    case Errc::denied:
    case Errc::name_unknown: return !first_page;
    default: return false;
  }
}

// What was listed before the upstream's rights have changed is another one's list.
std::string key_of(const access::Route& route) {
  return fmt::format("{} {}", route.scope.str(), access::term_number(route));
}

Error too_long(const access::Route& route) {
  return {Errc::upstream_protocol,
          fmt::format("{}: {} has more tags than can be listed here", route.registry->name(), route.repository.str())};
}

}  // namespace

Listings::Listings(Params params, const access::Upstreams& upstreams, store::BlobStore& store, runtime::DiskPool& pool,
                   const Clock& clock, runtime::TaskGroup& group)
    : params_(params),
      upstreams_(upstreams),
      store_(store),
      pool_(pool),
      clock_(clock),
      kept_(params.memory_bytes == 0 ? 1 : params.memory_bytes),
      unknown_(params.negative, clock),
      too_long_(params.negative, clock),
      flights_(group),
      walks_(group) {}

std::optional<Listings::Listed> Listings::fresh(const std::string& key) {
  const std::scoped_lock lock(mutex_);
  const Kept* kept = kept_.find(key);
  if (kept == nullptr || clock_.now() >= kept->until) return std::nullopt;
  return Listed{kept->whole ? access::CacheResult::hit : access::CacheResult::stale, kept->names};
}

void Listings::keep(const std::string& key, const Asked& asked) {
  const std::uint64_t cost = cost_of(key, *asked.names);
  const Clock::Monotonic until = clock_.now() + (asked.whole ? params_.tag_ttl : params_.negative.ttl);
  std::vector<Kept> gone;  // destroyed after the lock
  const std::scoped_lock lock(mutex_);
  gone = kept_.insert(key, Kept{asked.names, asked.whole, until}, cost);
}

// Long pages are read on the pool; `into` stays where it is until then, because the caller waits.
runtime::Task<void> Listings::read_page(std::string body, Pages& into) {
  const auto read = [](const std::string& page, Pages& pages) {
    const Result<void> parsed = parse_tags(page, pages.names);
    if (!parsed) pages.broken = parsed.error();
  };
  if (body.size() <= kReadInPlace) {
    read(body, into);
  } else {
    const auto shared = std::make_shared<const std::string>(std::move(body));
    co_await runtime::offload(pool_, [read, shared, pages = &into] { read(*shared, *pages); });
  }
  if (!into.broken) ++into.good;
}

NameList Listings::known_here(const descriptors::Scope& scope) const {
  const bool for_ever = params_.stale_for.count() == 0;
  const Clock::Wall now = clock_.wall();
  NameList::Builder out;
  for (const store::NamedTag& tag : store_.catalog().tag_records(scope)) {
    if (!for_ever && now - tag.record.checked_at > params_.tag_ttl + params_.stale_for) continue;
    if (oci::Tag::parse(tag.name)) out.add(tag.name);
  }
  return out.sorted();
}

runtime::Task<Listings::Pages> Listings::ask_pages(access::Route route, std::string what) {
  Pages pages;
  std::set<std::string> asked;  // pages that lead to one another would be followed for ever
  while (!what.empty() && asked.insert(what).second) {
    Result<upstream::ListAnswer> answer = co_await access::in_time(route, route.registry->list(route.repository, what));
    if (!answer) {
      pages.broken = answer.error();
      break;
    }
    what = std::move(answer->next);
    const bool lost = answer->next_is_unusable;
    co_await read_page(std::move(answer->body), pages);
    if (lost && !pages.broken) pages.broken = Error{Errc::upstream_protocol, "its next page has no usable address"};
    // Other errors say already who was asked for what.
    if (pages.broken) pages.broken = pages.broken->in(route.registry->name());
    const bool more = !what.empty() && asked.size() >= params_.max_pages;
    pages.too_many = more || pages.names.count() > params_.max_tags || pages.names.bytes() > params_.max_bytes;
    if (pages.broken || pages.too_many) break;
  }
  co_return pages;
}

runtime::Task<Result<Listings::Asked>> Listings::ask(access::Route route) {
  Pages pages = co_await ask_pages(route, std::string(kLargePages));
  if (pages.broken && may_be_the_number(pages.broken->code, pages.good == 0)) {
    Pages plain = co_await ask_pages(route, std::string(kAnyPages));
    // What came before the broken page, whichever way brought more.
    if (!plain.broken || plain.names.count() >= pages.names.count()) pages = std::move(plain);
  }
  if (pages.broken && pages.good == 0) co_return *pages.broken;
  if (pages.too_many) {
    too_long_.add(key_of(route));
    co_return too_long(route);
  }
  const bool whole = !pages.broken;
  if (!whole) {
    log::debug("lists", fmt::format("{}: the list of tags ends early, upstream's next page is broken: {}",
                                    route.scope.str(), pages.broken->message));
  }
  const auto unsorted = std::make_shared<const NameList::Builder>(std::move(pages.names));
  Names names = co_await runtime::offload(
      pool_, [unsorted]() -> Names { return std::make_shared<const NameList>(unsorted->sorted()); });
  co_return Asked{std::move(names), whole};
}

runtime::Task<Result<Listings::Listed>> Listings::tags(access::Route route) {
  const std::string key = key_of(route);
  if (std::optional<Listed> known = fresh(key)) co_return std::move(*known);
  if (unknown_.contains(key)) {
    co_return Error{Errc::name_unknown, "upstream said a moment ago that it does not have " + route.scope.str()};
  }
  if (too_long_.contains(key)) co_return too_long(route);
  const runtime::SingleFlight<std::string, Asked>::Work work = [this, all = access::for_all(route)] {
    return ask(all);
  };
  auto outcome = co_await access::wait_for(route, flights_.run(key, work));
  const bool others = outcome.joined && route.on_behalf != nullptr;
  if (others && !outcome.result && is_about_login(outcome.result.error().code))
    outcome.result = co_await access::in_time(route, work());
  if (outcome.result) {
    const Asked& asked = *outcome.result;
    keep(key, asked);
    co_return Listed{asked.whole ? access::CacheResult::miss : access::CacheResult::stale, asked.names};
  }
  Error error = outcome.result.error();
  if (is_unknown(error.code)) {
    unknown_.add(key);
    error.code = Errc::name_unknown;
    co_return error;
  }
  if (!is_no_answer(error.code) && error.code != Errc::unsupported) co_return error;
  NameList here = access::is_over(route) ? NameList{} : known_here(route.scope);
  if (here.empty()) co_return error;
  co_return Listed{access::CacheResult::stale, std::make_shared<const NameList>(std::move(here))};
}

bool Listings::Repositories::unchanged() const noexcept {
  return std::all_of(of.begin(), of.end(), [](const Version::Watch& watch) { return watch.unchanged(); });
}

// Walks all there is, which can be much.
Listings::Repositories Listings::list_repositories(std::string_view only, const access::RepositoryRules* rules) const {
  Repositories listed;
  listed.of = {upstreams_.watch(), rules == nullptr ? Version::Watch() : rules->watch(),
               store_.catalog().watch_repositories()};
  NameList::Builder out;
  for (const std::string& scope : store_.catalog().repositories()) {
    const std::size_t slash = scope.find('/');
    if (slash == std::string::npos) continue;
    const std::string_view name = std::string_view(scope).substr(0, slash);
    const std::shared_ptr<const access::Upstreams::Upstream> upstream = upstreams_.upstream(name);
    if (upstream == nullptr || upstream->options.passthrough) continue;
    if (!only.empty() && only != name) continue;
    if (rules != nullptr && !rules->permits(scope)) continue;
    const bool plain = !only.empty() || name == upstreams_.default_name();
    out.add(plain ? std::string_view(scope).substr(slash + 1) : std::string_view(scope));
  }
  listed.names = std::make_shared<const NameList>(out.sorted());
  return listed;
}

runtime::Task<Result<Listings::Repositories>> Listings::walk(std::string only, const access::RepositoryRules* rules) {
  co_return co_await runtime::offload(
      pool_, [this, only, rules]() -> Result<Repositories> { return list_repositories(only, rules); });
}

runtime::Task<Result<Listings::Listed>> Listings::repositories(std::shared_ptr<const access::Upstreams::Upstream> only,
                                                               const access::RepositoryRules* rules) {
  const std::string key(only == nullptr ? std::string_view() : only->registry->name());
  {
    const std::scoped_lock lock(mutex_);
    const Repositories* kept = repositories_.find(key);
    if (kept != nullptr && kept->unchanged()) co_return Listed{access::CacheResult::hit, kept->names};
  }
  const runtime::SingleFlight<std::string, Repositories>::Work work = [this, key, rules] { return walk(key, rules); };
  auto outcome = co_await walks_.run(key, work);
  // It may have begun before what the client knows of came.
  if (outcome.result && outcome.joined && !outcome.result->unchanged()) outcome = co_await walks_.run(key, work);
  if (!outcome.result) co_return outcome.result.error();
  Names names = outcome.result->names;
  std::vector<Repositories> gone;  // destroyed after the lock
  const std::scoped_lock lock(mutex_);
  if (!outcome.joined) gone = repositories_.insert(key, std::move(*outcome.result));
  co_return Listed{access::CacheResult::hit, std::move(names)};
}

}  // namespace sluice::pull
