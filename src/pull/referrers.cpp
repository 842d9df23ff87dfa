#include "pull/referrers.hpp"

#include <algorithm>
#include <atomic>
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
// Of those, how many upstream is asked about for one request. Whoever asks again goes on behind them.
constexpr std::size_t kMaxAsked = 100;
constexpr std::chrono::seconds kGoOnAfter{1};
// A list of which upstream does not have all is kept for so many times empty_ttl at most.
constexpr int kMostPauses = 64;

// A registry without the API: what is at its path is nothing, or not for GET.
bool has_no_api(Errc code) { return is_unknown(code) || code == Errc::unsupported; }

// A part of the list would say that the rest is not there. Without the API there is no first page.
Error of_later_page(Error error) {
  if (has_no_api(error.code) || is_odd_answer(error.code)) error.code = Errc::upstream_failed;
  return error;
}

Error unlisted(const access::Route& route, const Error& why) {
  return cannot_be_listed(Error(why.code, fmt::format("{}: {}", route.registry->name(), why.message), why.retry_after));
}

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
      with_api_(params.with_api, clock),
      log_(clock),
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

std::chrono::milliseconds Referrers::stale_within() const {
  constexpr std::chrono::hours kForEver{24 * 365 * 100};
  return params_.stale_for.count() == 0 ? kForEver : params_.tag_ttl + params_.stale_for;
}

// What an index under the tag has last said, while it is in memory.
std::optional<Referrers::Found> Referrers::last_listed(const access::Route& route, const oci::Digest& subject) {
  std::string ready_key;
  {
    const std::scoped_lock lock(mutex_);
    const Listed* listed = listed_.find(key_of(route, subject));
    if (listed == nullptr || clock_.now() - listed->at >= stale_within()) return std::nullopt;
    ready_key = listed->ready_key;
  }
  List list = ready_.find(ready_key);
  return list ? std::optional(Found{access::CacheResult::stale, std::move(list)}) : std::nullopt;
}

runtime::Task<Result<std::vector<Referrer>>> Referrers::read(std::string_view upstream,
                                                             std::shared_ptr<const std::string> index) {
  const auto parse = [index]() -> Result<ReadReferrers> { return parse_referrers(*index); };
  Result<ReadReferrers> read{Errc::internal};
  if (index->size() <= kReadInPlace) {
    read = parse();
  } else {
    read = co_await runtime::offload(pool_, parse);
  }
  if (!read) co_return read.error();
  if (read->left_out > 0) {
    log_.write(log::Level::warn, "referrers", std::string(upstream),
               fmt::format("a list of referrers from {} has entries without a valid digest, which are left out: {}",
                           upstream, read->left_out));
  }
  co_return std::move(read->referrers);
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
  const Result<std::vector<Referrer>> referrers =
      co_await read("the store", std::make_shared<const std::string>(std::move(*body)));
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
    what = std::move(answer->next);
    Result<std::vector<Referrer>> some =
        co_await read(route.registry->name(), std::make_shared<const std::string>(std::move(answer->body)));
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
    listed_.erase(key_of(route, subject));
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

// How far the manifests of an index under the tag have been looked at. Used by one flight at a time; `waiting` by all.
struct Referrers::Look {
  std::atomic<int> waiting{0};
  std::size_t upto = 0;                                  // of the index's manifests
  std::vector<std::uint32_t> found;                      // those of them that refer to the subject
  bool complete = true;                                  // upstream has had all
  std::optional<Clock::Monotonic> until = std::nullopt;  // upstream is asked for none of them again before that
  std::chrono::milliseconds pause{0};
  bool too_long = false;  // the index, which need not be read again to know that
};

// Clients choose the subjects and name no end of them: a look that was forgotten begins again.
std::shared_ptr<Referrers::Look> Referrers::look_at(const std::string& key) {
  const std::scoped_lock lock(mutex_);
  if (const std::shared_ptr<Look>* look = looks_.find(key)) return *look;
  auto look = std::make_shared<Look>();
  looks_.insert(key, look);
  return look;
}

// Asks for the manifests of an index that have not been looked at. Errors: overloaded, these were not all, and the next
// one goes on; the manifests'.
runtime::Task<Result<void>> Referrers::look_on(access::Route route, oci::Digest subject,
                                               const std::vector<Referrer>& listed, Look& look) {
  for (std::size_t asked = 0; look.upto < listed.size(); ++look.upto) {
    if (look.waiting == 0) co_return Error{Errc::overloaded, "nobody waits for these referrers any more", kGoOnAfter};
    if (asked == kMaxAsked) {
      co_return Error{Errc::overloaded, "the tag names more referrers than are looked at for one request", kGoOnAfter};
    }
    // Of an algorithm that nobody here can compute, so that nobody here can tell what it refers to.
    if (!listed[look.upto].digest) continue;
    const Result<ManifestService::Opened> opened =
        co_await manifests_.open(route, oci::Reference(*listed[look.upto].digest), {}, false);
    if (!opened && !is_unknown(opened.error().code)) co_return opened.error();
    if (!opened || opened->result != access::CacheResult::hit) ++asked;
    look.complete = look.complete && opened;
    if (opened && co_await refers_to(opened->object, subject)) {
      look.found.push_back(static_cast<std::uint32_t>(look.upto));
    }
  }
  co_return Result<void>{};
}

// The manifests of an index under the tag that name `subject` as theirs. Some registries keep the image itself there,
// and its platforms are no referrers.
runtime::Task<Result<Referrers::List>> Referrers::check_tag(access::Route route, oci::Digest subject,
                                                            std::shared_ptr<const ReadyObject> index,
                                                            std::shared_ptr<Look> look) {
  const std::string ready_key = index->etag + subject.to_string();
  const std::string part_key = ready_key + " part";  // of a list of which upstream does not have all
  if (look->until && clock_.now() < *look->until) {
    if (List part = ready_.find(part_key)) co_return part;
  }
  const Error too_long{Errc::upstream_failed, "the tag names more referrers than can be looked at"};
  if (look->too_long) co_return too_long;
  const std::shared_ptr<const std::string> body(index, &index->body);
  Result<std::vector<Referrer>> listed = co_await read(route.registry->name(), body);
  if (!listed) co_return listed.error();
  look->too_long = listed->size() > kMaxChecked;
  if (look->too_long) co_return too_long;
  if (look->until && clock_.now() >= *look->until) {
    look->upto = 0;
    look->found.clear();
    look->complete = true;
    look->until.reset();
  }
  const Result<void> looked = co_await look_on(route, subject, *listed, *look);
  if (!looked) co_return looked.error();
  std::vector<Referrer> referrers;
  for (const std::uint32_t at : look->found) referrers.push_back(std::move((*listed)[at]));
  // One of its own also where it is empty: the cache drops a key when nobody holds its list any more.
  List list = std::make_shared<const ReferrerList>(referrers);
  if (!list->empty()) forget_empty(route, subject);
  if (look->complete) {
    ready_.insert(ready_key, list, list->bytes());
    const std::scoped_lock lock(mutex_);
    listed_.insert(key_of(route, subject), Listed{ready_key, clock_.now()});
    looks_.erase(key_of(route, subject) + " " + index->etag);
  } else {
    ready_.insert(part_key, list, list->bytes());
    {
      const std::scoped_lock lock(mutex_);
      listed_.insert(key_of(route, subject), Listed{part_key, clock_.now()});
    }
    // What is missing may be on its way, or gone for good.
    if (!look->until) {
      look->pause = std::clamp(2 * look->pause, params_.empty_ttl, kMostPauses * params_.empty_ttl);
      look->until = clock_.now() + look->pause;
    }
  }
  co_return list;
}

runtime::Task<Result<Referrers::Found>> Referrers::by_tag(access::Route route, oci::Digest subject, Absent absent) {
  const Result<oci::Tag> tag = oci::Tag::parse(tag_of(subject));
  if (!tag) co_return tag.error();
  Result<Found> found = co_await look_by_tag(route, *tag, subject, absent);
  // That nothing refers to it is believed for less long than what a tag is.
  const bool is_empty = found && found->result == access::CacheResult::hit && found->list->empty();
  if (is_empty && manifests_.doubt_tag(route, *tag, params_.empty_ttl)) {
    found = co_await look_by_tag(std::move(route), *tag, std::move(subject), absent);
  }
  co_return found;
}

runtime::Task<Result<Referrers::Found>> Referrers::look_by_tag(access::Route route, oci::Tag tag, oci::Digest subject,
                                                               Absent absent) {
  const Result<ManifestService::Opened> opened =
      co_await manifests_.open(route, oci::Reference(std::move(tag)), {}, false);
  if (!opened && opened.error().code == Errc::manifest_unknown && absent == Absent::is_empty) {
    co_await note_empty(std::move(route), subject);
    co_return Found{access::CacheResult::miss, none_};
  }
  if (!opened) co_return opened.error();
  const std::shared_ptr<const ReadyObject>& index = opened->object;
  if (!oci::is_index(index->media_type)) {
    if (!oci::names_manifest_type(index->media_type)) {
      co_return Error{Errc::upstream_protocol, "what stands under the tag of the referrers is no manifest"};
    }
    // Something else under that tag is no list of referrers.
    co_return Found{opened->result, none_};
  }
  if (List ready = ready_.find(index->etag + subject.to_string())) {
    co_return Found{opened->result, std::move(ready)};
  }
  const std::string key = key_of(route, subject) + " " + index->etag;
  const std::shared_ptr<Look> look = look_at(key);
  ++look->waiting;
  const std::shared_ptr<void> waits(nullptr, [look](void*) { --look->waiting; });
  const runtime::SingleFlight<std::string, List>::Work work = [this, all = access::for_all(route), subject, index,
                                                               look] { return check_tag(all, subject, index, look); };
  auto outcome = co_await access::wait_for(route, flights_.run(key, work));
  const bool others = outcome.joined && route.on_behalf != nullptr;
  if (others && !outcome.result && is_about_login(outcome.result.error().code)) {
    // Not from where the other one's look has come to, which he may still be at.
    const auto own = std::make_shared<Look>();
    own->waiting = 1;
    outcome.result = co_await access::in_time(route, check_tag(access::for_all(route), subject, index, own));
  }
  if (!outcome.result) co_return outcome.result.error();
  co_return Found{opened->result, *outcome.result};
}

// What stands in while upstream is out.
runtime::Task<std::optional<Referrers::Found>> Referrers::kept(const access::Route& route, const oci::Digest& subject,
                                                               std::chrono::milliseconds within) {
  if (access::is_over(route)) co_return std::nullopt;
  if (const auto record = store_.catalog().tag(route.scope, record_name(subject), oci::kAllManifests)) {
    if (clock_.wall() - record->checked_at <= within) {
      const Result<List> list = co_await stored(record->digest);
      if (list) co_return Found{access::CacheResult::stale, *list};
    }
  }
  if (was_empty(key_of(route, subject), within)) co_return Found{access::CacheResult::stale, none_};
  co_return std::nullopt;
}

runtime::Task<Result<Referrers::Found>> Referrers::by_tag_or_kept(access::Route route, oci::Digest subject) {
  Result<Found> found = co_await by_tag(route, subject, Absent::is_empty);
  if (found || !is_no_answer(found.error().code)) co_return found;
  if (std::optional<Found> stale = co_await kept(route, subject, stale_within())) co_return std::move(*stale);
  if (std::optional<Found> last = last_listed(route, subject)) co_return std::move(*last);
  co_return unlisted(route, found.error());
}

runtime::Task<Result<Referrers::Found>> Referrers::find(access::Route route, oci::Digest subject) {
  if (const auto record = store_.catalog().tag(route.scope, record_name(subject), oci::kAllManifests);
      record && is_fresh(*record) && !access::is_over(route)) {
    const Result<List> list = co_await stored(record->digest);
    if (list) co_return Found{access::CacheResult::hit, *list};
  }
  const std::string key = key_of(route, subject);
  if (was_empty(key, params_.empty_ttl)) co_return Found{access::CacheResult::hit, none_};
  const std::string term = std::to_string(access::term_number(route));
  const std::string scope = fmt::format("{} {}", route.scope.str(), term);
  const std::string upstream = fmt::format("{} {}", access::origin_name(route), term);
  if (missing_.contains(scope)) co_return co_await by_tag_or_kept(std::move(route), subject);
  const runtime::SingleFlight<std::string, List>::Work work = [this, all = access::for_all(route), subject] {
    return ask(all, subject);
  };
  auto outcome = co_await access::wait_for(route, flights_.run(key, work));
  const bool others = outcome.joined && route.on_behalf != nullptr;
  if (others && !outcome.result && is_about_login(outcome.result.error().code))
    outcome.result = co_await access::in_time(route, work());
  if (outcome.result) {
    with_api_.add(upstream);
    co_return Found{access::CacheResult::miss, *outcome.result};
  }
  const Error error = outcome.result.error();
  if (has_no_api(error.code)) {
    // One that has the API may answer so for a moment, or about this subject alone (distribution-spec wants an empty
    // list for it). That says nothing about others, and for a while nothing about those that it has listed for this
    // one.
    const std::chrono::milliseconds within = std::min(stale_within(), params_.trusted_despite_404);
    if (!with_api_.contains(upstream)) {
      missing_.add(scope);
    } else if (std::optional<Found> stale = co_await kept(route, subject, within); stale && !stale->list->empty()) {
      co_return std::move(*stale);
    }
    co_return co_await by_tag_or_kept(std::move(route), subject);
  }
  if (!is_no_answer(error.code)) co_return error;
  // The API's answer before the tag's.
  if (std::optional<Found> stale = co_await kept(route, subject, stale_within())) co_return std::move(*stale);
  // Nonsense at the API's path (a web page, a document of errors with a 200) may mean that there is no API: the tag
  // counts where it has referrers. That it has none makes neither nonsense nor an outage an empty list.
  const bool tag_is_known = store_.catalog().tag(route.scope, tag_of(subject), oci::kAllManifests).has_value();
  if (is_odd_answer(error.code) || tag_is_known) {
    const Result<Found> found = co_await by_tag(route, subject, Absent::is_no_answer);
    if (found && !found->list->empty()) co_return *found;
  }
  if (std::optional<Found> last = last_listed(route, subject); last && !last->list->empty()) co_return std::move(*last);
  co_return unlisted(route, error);
}

}  // namespace sluice::pull
