#include "proxy/listings.hpp"

#include <iterator>

#include <fmt/format.h>

#include "base/errc_kind.hpp"
#include "proxy/list_json.hpp"
#include "proxy/pages.hpp"

namespace sluice::proxy {
namespace {

// As many as registries of distribution give at once; more is an error there.
constexpr std::string_view kLargePages = "tags/list?n=1000";
constexpr std::string_view kAnyPages = "tags/list";
constexpr std::size_t kReadInPlace = 64 * 1024;

std::uint64_t cost_of(const std::string& scope, const std::vector<std::string>& names) {
  std::uint64_t cost = scope.size() + 256;
  for (const std::string& name : names) cost += sizeof(std::string) + name.size();
  return cost;
}

}  // namespace

Listings::Listings(Params params, const Upstreams& upstreams, store::BlobStore& store, runtime::DiskPool& pool,
                   const Clock& clock, runtime::TaskGroup& group)
    : params_(params),
      upstreams_(upstreams),
      store_(store),
      pool_(pool),
      clock_(clock),
      kept_(params.memory_bytes == 0 ? 1 : params.memory_bytes),
      unknown_(params.negative, clock),
      flights_(group) {}

Listings::Names Listings::fresh(const std::string& scope) {
  const std::scoped_lock lock(mutex_);
  const Kept* kept = kept_.find(scope);
  return kept != nullptr && clock_.now() - kept->listed_at < params_.tag_ttl ? kept->names : nullptr;
}

runtime::Task<Result<std::vector<std::string>>> Listings::read_page(std::string body) {
  if (body.size() <= kReadInPlace) co_return parse_tags(body);
  co_return co_await runtime::offload(
      pool_, [body = std::move(body)]() -> Result<std::vector<std::string>> { return parse_tags(body); });
}

std::vector<std::string> Listings::known_here(const descriptors::Scope& scope) const {
  const bool for_ever = params_.stale_for.count() == 0;
  const Clock::Wall now = clock_.wall();
  std::vector<std::string> out;
  for (store::NamedTag& tag : store_.catalog().tag_records(scope)) {
    if (!for_ever && now - tag.record.checked_at > params_.tag_ttl + params_.stale_for) continue;
    // One record for each of the types that clients accept, side by side.
    const bool is_known = !out.empty() && out.back() == tag.name;
    if (!is_known && oci::Tag::parse(tag.name)) out.push_back(std::move(tag.name));
  }
  return out;
}

runtime::Task<Result<Listings::Names>> Listings::ask(Route route) {
  std::vector<std::string> names;
  std::string what(kLargePages);
  for (std::size_t page = 0; !what.empty(); ++page) {
    if (page == params_.max_pages || names.size() > params_.max_tags) {
      co_return Error{Errc::upstream_protocol,
                      fmt::format("{} has more tags than can be listed here", route.repository.str())};
    }
    Result<upstream::ListAnswer> answer = co_await route.registry->list(route.repository, what);
    if (!answer && answer.error().code == Errc::upstream_protocol && what == kLargePages) {
      // Perhaps it was the number.
      answer = co_await route.registry->list(route.repository, std::string(kAnyPages));
    }
    if (!answer) co_return answer.error();
    // A page that leads to itself would be followed for ever.
    const bool moves = answer->next != what;
    what = moves ? std::move(answer->next) : std::string();
    Result<std::vector<std::string>> read = co_await read_page(std::move(answer->body));
    if (!read) co_return read.error();
    names.insert(names.end(), std::make_move_iterator(read->begin()), std::make_move_iterator(read->end()));
  }
  auto listed = co_await runtime::offload(pool_, [names = std::move(names)]() mutable -> Names {
    sort_names(names);
    return std::make_shared<const std::vector<std::string>>(std::move(names));
  });
  co_return listed;
}

runtime::Task<Result<Listings::Listed>> Listings::tags(Route route) {
  const std::string scope = route.scope.str();
  if (Names known = fresh(scope)) co_return Listed{CacheResult::hit, std::move(known)};
  if (unknown_.contains(scope)) {
    co_return Error{Errc::name_unknown, "upstream said a moment ago that it does not have " + scope};
  }
  const runtime::SingleFlight<std::string, Names>::Work work = [this, route] { return ask(route); };
  auto outcome = co_await flights_.run(scope, work);
  const bool others = outcome.joined && route.on_behalf != nullptr;
  if (others && !outcome.result && is_about_login(outcome.result.error().code)) outcome.result = co_await work();
  if (outcome.result) {
    Names listed = *outcome.result;
    const std::uint64_t cost = cost_of(scope, *listed);
    const std::scoped_lock lock(mutex_);
    kept_.insert(scope, Kept{listed, clock_.now()}, cost);
    co_return Listed{CacheResult::miss, std::move(listed)};
  }
  Error error = outcome.result.error();
  if (error.code == Errc::manifest_unknown || error.code == Errc::name_unknown) {
    unknown_.add(scope);
    error.code = Errc::name_unknown;
    co_return error;
  }
  if (!is_no_answer(error.code) && error.code != Errc::unsupported) co_return error;
  std::vector<std::string> here = known_here(route.scope);
  if (here.empty()) co_return error;
  sort_names(here);
  co_return Listed{CacheResult::stale, std::make_shared<const std::vector<std::string>>(std::move(here))};
}

runtime::Task<Listings::Listed> Listings::repositories(std::shared_ptr<const Upstreams::Upstream> only,
                                                       const RepositoryRules* rules) {
  // Walks all there is, which can be much.
  Names names = co_await runtime::offload(pool_, [this, only, rules]() -> Names {
    std::vector<std::string> out;
    for (std::string& scope : store_.catalog().repositories()) {
      const std::size_t slash = scope.find('/');
      if (slash == std::string::npos) continue;
      const std::string_view name = std::string_view(scope).substr(0, slash);
      const std::shared_ptr<const Upstreams::Upstream> upstream = upstreams_.upstream(name);
      if (upstream == nullptr || upstream->options.passthrough) continue;
      if (only != nullptr && only != upstream) continue;
      if (rules != nullptr && !rules->permits(scope)) continue;
      const bool plain = only != nullptr || name == upstreams_.default_name();
      out.push_back(plain ? scope.substr(slash + 1) : std::move(scope));
    }
    sort_names(out);
    return std::make_shared<const std::vector<std::string>>(std::move(out));
  });
  co_return Listed{CacheResult::hit, std::move(names)};
}

}  // namespace sluice::proxy
