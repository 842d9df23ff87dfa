#include "proxy/referrers.hpp"

#include <algorithm>
#include <iterator>

#include <fmt/format.h>

#include "base/errc_kind.hpp"
#include "base/log.hpp"

namespace sluice::proxy {
namespace {

// A tag cannot hold a slash, so no client can ask for this one.
std::string record_name(const oci::Digest& subject) { return "referrers/" + subject.to_string(); }

std::string key_of(const Route& route, const oci::Digest& subject) {
  return route.scope.str() + "@" + subject.to_string();
}

constexpr std::size_t kReadInPlace = 64 * 1024;

// A registry without the API: what is at its path is nothing, or not for GET.
bool has_no_api(Errc code) {
  return code == Errc::manifest_unknown || code == Errc::name_unknown || code == Errc::unsupported ||
         code == Errc::upstream_protocol;
}

}  // namespace

Referrers::Referrers(Params params, ManifestService& manifests, store::BlobStore& store, runtime::DiskPool& pool,
                     const Clock& clock, runtime::TaskGroup& group)
    : params_(params),
      manifests_(manifests),
      store_(store),
      pool_(pool),
      clock_(clock),
      missing_(params.missing, clock),
      none_({.ttl = params.tag_ttl, .max_entries = params.max_empty}, clock),
      flights_(group) {}

std::string Referrers::tag_of(const oci::Digest& subject) {
  // Truncated as the spec says, so that the long ones are tags too.
  const std::string text = subject.to_string();
  const std::size_t colon = text.find(':');
  return text.substr(0, std::min<std::size_t>(colon, 32)) + "-" + text.substr(colon + 1, 64);
}

bool Referrers::is_fresh(const store::TagRecord& record) const {
  const auto age = clock_.wall() - record.checked_at;
  return age >= Clock::Wall::duration::zero() && age < params_.tag_ttl;
}

runtime::Task<Result<std::vector<Referrer>>> Referrers::read(std::string index) {
  if (index.size() <= kReadInPlace) co_return parse_referrers(index);
  co_return co_await runtime::offload(
      pool_, [index = std::move(index)]() -> Result<std::vector<Referrer>> { return parse_referrers(index); });
}

runtime::Task<Result<Referrers::Found>> Referrers::found(CacheResult result, std::string index) {
  Result<std::vector<Referrer>> referrers = co_await read(std::move(index));
  if (!referrers) co_return referrers.error();
  co_return Found{result, std::move(*referrers)};
}

runtime::Task<Result<Referrers::Body>> Referrers::stored(const store::TagRecord& record) {
  Result<std::string> body = co_await store_.read_small(record.digest, oci::kMaxManifestBytes);
  if (!body) co_return body.error();
  co_return std::make_shared<const std::string>(std::move(*body));
}

runtime::Task<Result<Referrers::Body>> Referrers::ask(Route route, oci::Digest subject) {
  std::vector<Referrer> all;
  std::string what = "referrers/" + subject.to_string();
  std::size_t bytes = 0;
  for (std::size_t page = 0; !what.empty(); ++page) {
    Result<upstream::ListAnswer> answer = co_await route.registry->list(route.repository, what);
    if (!answer) co_return answer.error();
    bytes += answer->body.size();
    if (page == params_.max_pages || bytes > oci::kMaxManifestBytes) {
      co_return Error{Errc::upstream_failed, "upstream lists more referrers than can be handed on"};
    }
    const bool moves = answer->next != what;
    what = moves ? std::move(answer->next) : std::string();
    Result<std::vector<Referrer>> some = co_await read(std::move(answer->body));
    if (!some) co_return some.error();
    all.insert(all.end(), std::make_move_iterator(some->begin()), std::make_move_iterator(some->end()));
  }
  auto body = std::make_shared<const std::string>(referrers_body(all, {}));
  if (all.empty() && !store_.catalog().tag(route.scope, record_name(subject), oci::kAllManifests)) {
    // Clients choose the subjects, so that what nothing refers to gets no record for good.
    none_.add(key_of(route, subject));
    co_return body;
  }
  const oci::Digest digest = oci::digest_of(oci::Algorithm::sha256, *body);
  // No repository is said to have it: it is nobody's manifest.
  const Result<void> kept =
      co_await store_.put(digest, *body, std::string(oci::media_type::kOciIndex), origin_of(route));
  if (kept) {
    store_.catalog().set_tag(route.scope, record_name(subject), oci::kAllManifests, digest);
  } else {
    log::debug("referrers", fmt::format("an answer is not stored: {}", kept.error().message));
  }
  co_return body;
}

runtime::Task<Result<Referrers::Found>> Referrers::by_tag(Route route, oci::Digest subject) {
  Result<oci::Tag> tag = oci::Tag::parse(tag_of(subject));
  if (!tag) co_return tag.error();
  const Result<ManifestService::Opened> opened =
      co_await manifests_.open(std::move(route), oci::Reference(std::move(*tag)), {}, false);
  if (!opened) {
    if (opened.error().code == Errc::manifest_unknown) co_return Found{CacheResult::miss, {}};
    co_return opened.error();
  }
  // Something else under that tag is no list of referrers.
  if (!oci::is_index(opened->object->media_type)) co_return Found{opened->result, {}};
  co_return co_await found(opened->result, opened->object->body);
}

// Upstream is out: what is here, the API's answer before the tag's.
runtime::Task<Result<Referrers::Found>> Referrers::stand_in(Route route, oci::Digest subject, Error error) {
  if (const auto record = store_.catalog().tag(route.scope, record_name(subject), oci::kAllManifests)) {
    const bool for_ever = params_.stale_for.count() == 0;
    if (for_ever || clock_.wall() - record->checked_at <= params_.tag_ttl + params_.stale_for) {
      const Result<Body> body = co_await stored(*record);
      if (body) co_return co_await found(CacheResult::stale, **body);
    }
  }
  if (store_.catalog().tag(route.scope, tag_of(subject), oci::kAllManifests)) {
    co_return co_await by_tag(std::move(route), subject);
  }
  co_return error;
}

runtime::Task<Result<Referrers::Found>> Referrers::find(Route route, oci::Digest subject) {
  if (const auto record = store_.catalog().tag(route.scope, record_name(subject), oci::kAllManifests);
      record && is_fresh(*record)) {
    const Result<Body> body = co_await stored(*record);
    if (body) co_return co_await found(CacheResult::hit, **body);
  }
  const std::string key = key_of(route, subject);
  if (none_.contains(key)) co_return Found{CacheResult::hit, {}};
  const std::string scope = route.scope.str();
  if (missing_.contains(scope)) co_return co_await by_tag(std::move(route), subject);
  const runtime::SingleFlight<std::string, Body>::Work work = [this, route, subject] { return ask(route, subject); };
  auto outcome = co_await flights_.run(key, work);
  const bool others = outcome.joined && route.on_behalf != nullptr;
  if (others && !outcome.result && is_about_login(outcome.result.error().code)) outcome.result = co_await work();
  if (outcome.result) co_return co_await found(CacheResult::miss, **outcome.result);
  const Error& error = outcome.result.error();
  if (has_no_api(error.code)) {
    if (error.code != Errc::upstream_protocol) missing_.add(scope);
    co_return co_await by_tag(std::move(route), subject);
  }
  if (is_no_answer(error.code)) co_return co_await stand_in(std::move(route), subject, error);
  co_return error;
}

}  // namespace sluice::proxy
