#include "pull/referrers.hpp"

#include <algorithm>
#include <iterator>

#include <fmt/format.h>

#include "access/patience.hpp"
#include "base/errc_kind.hpp"
#include "base/log.hpp"
#include "oci/manifest.hpp"
#include "pull/attachments.hpp"

namespace sluice::pull {
namespace {

// A tag cannot hold a slash, so no client can ask for this one.
std::string record_name(const oci::Digest& subject) { return "referrers/" + subject.to_string(); }

std::string key_of(const access::Route& route, const oci::Digest& subject) {
  return fmt::format("{}@{} {}", route.scope.str(), subject.to_string(), access::term_number(route));
}

constexpr std::size_t kReadInPlace = 64 * 1024;
// Of the manifests that an index under the tag names, each of which is fetched once.
constexpr std::size_t kMaxChecked = 1000;

// A registry without the API: what is at its path is nothing, or not for GET.
bool has_no_api(Errc code) {
  return code == Errc::manifest_unknown || code == Errc::name_unknown || code == Errc::unsupported;
}

// A part of the list would say that the rest is not there. Without the API there is no first page.
Error of_later_page(Error error) {
  if (has_no_api(error.code) || is_odd_answer(error.code)) error.code = Errc::upstream_failed;
  return error;
}

bool is_unknown(Errc code) { return code == Errc::manifest_unknown || code == Errc::name_unknown; }

}  // namespace

Referrers::Referrers(Params params, ManifestService& manifests, store::BlobStore& store, runtime::DiskPool& pool,
                     const Clock& clock, runtime::TaskGroup& group)
    : params_(params),
      manifests_(manifests),
      store_(store),
      pool_(pool),
      clock_(clock),
      empty_index_(oci::digest_of(oci::Algorithm::sha256, none_->index())),
      missing_(params.missing, clock),
      empty_(params.max_empty == 0 ? 1 : params.max_empty),
      ready_(params.memory_bytes),
      flights_(group) {}

std::string Referrers::tag_of(const oci::Digest& subject) {
  // Truncated as the spec says, so that the long ones are tags too.
  const std::string text = subject.to_string();
  const std::size_t colon = text.find(':');
  return text.substr(0, std::min<std::size_t>(colon, 32)) + "-" + text.substr(colon + 1, 64);
}

bool Referrers::is_fresh(const store::TagRecord& record) const {
  const auto age = clock_.wall() - record.checked_at;
  const auto ttl = record.digest == empty_index_ ? params_.empty_ttl : params_.tag_ttl;
  return age >= Clock::Wall::duration::zero() && age < ttl;
}

bool Referrers::was_empty(const std::string& key, std::chrono::milliseconds within) {
  const std::scoped_lock lock(mutex_);
  const Clock::Monotonic* said = empty_.find(key);
  return said != nullptr && clock_.now() - *said < within;
}

runtime::Task<Result<std::vector<Referrer>>> Referrers::read(std::shared_ptr<const std::string> index) {
  if (index->size() <= kReadInPlace) co_return parse_referrers(*index);
  co_return co_await runtime::offload(pool_,
                                      [index]() -> Result<std::vector<Referrer>> { return parse_referrers(*index); });
}

// Of an index that is at rest, parsed once for all who ask.
runtime::Task<Result<Referrers::List>> Referrers::stored(oci::Digest index) {
  if (index == empty_index_) co_return none_;
  std::string key = index.to_string();
  if (List ready = ready_.find(key)) co_return ready;
  const runtime::SingleFlight<std::string, List>::Work work = [this, index] { return parse_stored(index); };
  auto outcome = co_await flights_.run(std::move(key), work);
  co_return std::move(outcome.result);
}

runtime::Task<Result<Referrers::List>> Referrers::parse_stored(oci::Digest index) {
  const std::string key = index.to_string();
  // Whoever parsed it may have ended between the look and the flight.
  if (List ready = ready_.find(key)) co_return ready;
  Result<std::string> body = co_await store_.read_small(index, oci::kMaxManifestBytes);
  if (!body) co_return body.error();
  const Result<std::vector<Referrer>> referrers = co_await read(std::make_shared<const std::string>(std::move(*body)));
  if (!referrers) co_return referrers.error();
  List list = std::make_shared<const ReferrerList>(*referrers);
  ready_.insert(key, list, list->bytes());
  co_return list;
}

runtime::Task<Result<Referrers::List>> Referrers::ask(access::Route route, oci::Digest subject) {
  std::vector<Referrer> all;
  std::string what = "referrers/" + subject.to_string();
  std::size_t bytes = 0;
  for (std::size_t page = 0; !what.empty(); ++page) {
    Result<upstream::ListAnswer> answer = co_await access::in_time(route, route.registry->list(route.repository, what));
    if (!answer) {
      co_return page == 0 ? answer.error() : of_later_page(answer.error());
    }
    bytes += answer->body.size();
    if (page == params_.max_pages || bytes > oci::kMaxManifestBytes || answer->next_is_unusable) {
      co_return Error{Errc::upstream_failed, "upstream lists more referrers than can be handed on"};
    }
    const bool moves = answer->next != what;
    what = moves ? std::move(answer->next) : std::string();
    Result<std::vector<Referrer>> some = co_await read(std::make_shared<const std::string>(std::move(answer->body)));
    if (!some) co_return page == 0 ? some.error() : of_later_page(some.error());
    all.insert(all.end(), std::make_move_iterator(some->begin()), std::make_move_iterator(some->end()));
  }
  if (all.empty() && !store_.catalog().tag(route.scope, record_name(subject), oci::kAllManifests)) {
    co_await note_empty(std::move(route), subject);
    co_return none_;
  }
  if (!all.empty()) forget_empty(route, subject);
  co_return co_await keep(std::move(route), subject, std::move(all));
}

// Stores what the API said, and makes it ready.
runtime::Task<Result<Referrers::List>> Referrers::keep(access::Route route, oci::Digest subject,
                                                       std::vector<Referrer> referrers) {
  struct Made {
    List list;
    std::string index;
    oci::Digest digest;
  };
  const auto given = std::make_shared<const std::vector<Referrer>>(std::move(referrers));
  Made made = co_await runtime::offload(pool_, [given]() -> Made {
    List list = std::make_shared<const ReferrerList>(*given);
    std::string index = list->index();
    const oci::Digest digest = oci::digest_of(oci::Algorithm::sha256, index);
    return {std::move(list), std::move(index), digest};
  });
  // Others may hold the same one already.
  const std::string key = made.digest.to_string();
  if (List ready = ready_.find(key)) made.list = std::move(ready);
  ready_.insert(key, made.list, made.list->bytes());
  // No repository is said to have it: it is nobody's manifest.
  const Result<void> kept =
      co_await store_.put(made.digest, made.index, std::string(oci::media_type::kOciIndex), access::origin_of(route));
  if (kept && !access::is_over(route)) {
    store_.catalog().set_tag(route.scope, record_name(subject), oci::kAllManifests, made.digest);
  } else if (!kept) {
    log::debug("referrers", fmt::format("an answer is not stored: {}", kept.error().message));
  }
  co_return made.list;
}

// Clients choose the subjects, so that what nothing refers to gets a record only for a manifest that is known.
runtime::Task<void> Referrers::note_empty(access::Route route, oci::Digest subject) {
  {
    const std::scoped_lock lock(mutex_);
    empty_.insert(key_of(route, subject), clock_.now());
  }
  const std::string name = record_name(subject);
  const bool known = store_.catalog().membership(route.scope, subject).has_value() ||
                     store_.catalog().tag(route.scope, name, oci::kAllManifests).has_value();
  if (!known) co_return;
  if (!store_.find(empty_index_)) {
    const Result<void> kept = co_await store_.put(empty_index_, none_->index(), std::string(oci::media_type::kOciIndex),
                                                  access::origin_of(route));
    if (!kept) co_return;
  }
  if (access::is_over(route)) co_return;
  store_.catalog().set_tag(route.scope, name, oci::kAllManifests, empty_index_);
}

// There are some now: that there were none must not stand in for them.
void Referrers::forget_empty(const access::Route& route, const oci::Digest& subject) {
  {
    const std::scoped_lock lock(mutex_);
    empty_.erase(key_of(route, subject));
  }
  const std::string name = record_name(subject);
  const auto record = store_.catalog().tag(route.scope, name, oci::kAllManifests);
  if (record && record->digest == empty_index_) store_.catalog().clear_tag(route.scope, name);
}

runtime::Task<bool> Referrers::refers_to(std::shared_ptr<const ReadyObject> manifest, oci::Digest subject) {
  const auto look = [manifest, subject]() -> bool { return oci::subject_of(manifest->body) == subject; };
  if (manifest->body.size() <= kReadInPlace) co_return look();
  co_return co_await runtime::offload(pool_, look);
}

// The manifests of an index under the tag that name `subject` as theirs. Some registries keep the image itself there,
// and its platforms are no referrers.
runtime::Task<Result<Referrers::List>> Referrers::check_tag(access::Route route, oci::Digest subject,
                                                            std::shared_ptr<const ReadyObject> index) {
  const std::shared_ptr<const std::string> body(index, &index->body);
  Result<std::vector<Referrer>> listed = co_await read(body);
  if (!listed) co_return none_;
  if (listed->size() > kMaxChecked) {
    co_return Error{Errc::upstream_failed, "the tag names more referrers than can be looked at"};
  }
  bool complete = true;
  std::vector<Referrer> referrers;
  for (Referrer& candidate : *listed) {
    const Result<ManifestService::Opened> opened =
        co_await manifests_.open(route, oci::Reference(candidate.digest), {}, false);
    if (!opened && !is_unknown(opened.error().code)) co_return opened.error();
    complete = complete && opened;
    if (!opened) continue;
    if (co_await refers_to(opened->object, subject)) referrers.push_back(std::move(candidate));
  }
  // One of its own also where it is empty: the cache drops a key when nobody holds its list any more.
  List list = std::make_shared<const ReferrerList>(referrers);
  if (!list->empty()) forget_empty(route, subject);
  if (complete) ready_.insert(index->etag + subject.to_string(), list, list->bytes());
  co_return list;
}

runtime::Task<Result<Referrers::Found>> Referrers::by_tag(access::Route route, oci::Digest subject, Absent absent) {
  Result<oci::Tag> tag = oci::Tag::parse(tag_of(subject));
  if (!tag) co_return tag.error();
  const Result<ManifestService::Opened> opened =
      co_await manifests_.open(route, oci::Reference(std::move(*tag)), {}, false);
  if (!opened && opened.error().code == Errc::manifest_unknown && absent == Absent::is_empty) {
    co_await note_empty(std::move(route), subject);
    co_return Found{access::CacheResult::miss, none_};
  }
  if (!opened) co_return opened.error();
  // Something else under that tag is no list of referrers.
  if (!oci::is_index(opened->object->media_type)) co_return Found{opened->result, none_};
  if (List ready = ready_.find(opened->object->etag + subject.to_string())) {
    co_return Found{opened->result, std::move(ready)};
  }
  const runtime::SingleFlight<std::string, List>::Work work =
      [this, all = access::for_all(route), subject, index = opened->object] { return check_tag(all, subject, index); };
  auto outcome =
      co_await access::wait_for(route, flights_.run(key_of(route, subject) + " " + opened->object->etag, work));
  const bool others = outcome.joined && route.on_behalf != nullptr;
  if (others && !outcome.result && is_about_login(outcome.result.error().code))
    outcome.result = co_await access::in_time(route, work());
  if (!outcome.result) co_return outcome.result.error();
  co_return Found{opened->result, *outcome.result};
}

// What stands in while upstream is out.
runtime::Task<std::optional<Referrers::Found>> Referrers::kept(const access::Route& route, const oci::Digest& subject) {
  if (access::is_over(route)) co_return std::nullopt;
  const bool for_ever = params_.stale_for.count() == 0;
  if (const auto record = store_.catalog().tag(route.scope, record_name(subject), oci::kAllManifests)) {
    if (for_ever || clock_.wall() - record->checked_at <= params_.tag_ttl + params_.stale_for) {
      const Result<List> list = co_await stored(record->digest);
      if (list) co_return Found{access::CacheResult::stale, *list};
    }
  }
  constexpr std::chrono::hours kForEver{24 * 365 * 100};
  const std::chrono::milliseconds within = for_ever ? kForEver : params_.tag_ttl + params_.stale_for;
  if (was_empty(key_of(route, subject), within)) co_return Found{access::CacheResult::stale, none_};
  co_return std::nullopt;
}

runtime::Task<Result<Referrers::Found>> Referrers::by_tag_or_kept(access::Route route, oci::Digest subject) {
  Result<Found> found = co_await by_tag(route, subject, Absent::is_empty);
  if (found || !is_no_answer(found.error().code)) co_return found;
  if (std::optional<Found> stale = co_await kept(route, subject)) co_return std::move(*stale);
  co_return cannot_be_listed(found.error());
}

runtime::Task<Result<Referrers::Found>> Referrers::find(access::Route route, oci::Digest subject) {
  if (const auto record = store_.catalog().tag(route.scope, record_name(subject), oci::kAllManifests);
      record && is_fresh(*record) && !access::is_over(route)) {
    const Result<List> list = co_await stored(record->digest);
    if (list) co_return Found{access::CacheResult::hit, *list};
  }
  const std::string key = key_of(route, subject);
  if (was_empty(key, params_.empty_ttl)) co_return Found{access::CacheResult::hit, none_};
  const std::string scope = fmt::format("{} {}", route.scope.str(), access::term_number(route));
  if (missing_.contains(scope)) co_return co_await by_tag_or_kept(std::move(route), subject);
  const runtime::SingleFlight<std::string, List>::Work work = [this, all = access::for_all(route), subject] {
    return ask(all, subject);
  };
  auto outcome = co_await access::wait_for(route, flights_.run(key, work));
  const bool others = outcome.joined && route.on_behalf != nullptr;
  if (others && !outcome.result && is_about_login(outcome.result.error().code))
    outcome.result = co_await access::in_time(route, work());
  if (outcome.result) co_return Found{access::CacheResult::miss, *outcome.result};
  const Error error = outcome.result.error();
  if (has_no_api(error.code)) {
    missing_.add(scope);
    co_return co_await by_tag_or_kept(std::move(route), subject);
  }
  if (!is_no_answer(error.code)) co_return error;
  // The API's answer before the tag's.
  if (std::optional<Found> stale = co_await kept(route, subject)) co_return std::move(*stale);
  // Nonsense at the API's path (a web page, a document of errors with a 200) may mean that there is no API: the tag
  // counts where it has referrers. That it has none does not make the nonsense an empty list.
  const bool tag_is_known = store_.catalog().tag(route.scope, tag_of(subject), oci::kAllManifests).has_value();
  if (is_odd_answer(error.code) || tag_is_known) {
    const Result<Found> found = co_await by_tag(route, subject, Absent::is_no_answer);
    if (found && (!is_odd_answer(error.code) || !found->list->empty())) co_return *found;
  }
  co_return cannot_be_listed(
      Error(error.code, fmt::format("{}: {}", route.registry->name(), error.message), error.retry_after));
}

}  // namespace sluice::pull
