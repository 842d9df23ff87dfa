#include "access/blob_access.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "access/patience.hpp"
#include "access/refusals.hpp"
#include "base/errc_kind.hpp"
#include "base/log.hpp"
#include "oci/media_type.hpp"
#include "store/media_types.hpp"

namespace sluice::access {
namespace {

using descriptors::Entry;
using descriptors::Scope;
using namespace std::chrono_literals;

// Clocks of machines that share a Redis may differ by so much. What was checked later than that was not.
constexpr auto kClockSkew = 5min;

std::string key_of(const Scope& scope, const oci::Digest& digest) {
  std::string key = scope.str();
  key.append("@").append(digest.to_string());
  return key;
}

std::chrono::milliseconds given_for(std::chrono::milliseconds ttl) {
  constexpr std::chrono::milliseconds kMost = 10min;
  return ttl.count() == 0 ? kMost : std::min(ttl, kMost);
}

std::string claim_key(const Route& route, const oci::Digest& digest) {
  return fmt::format("{} {}", origin_name(route), digest.to_string());
}

metrics::Counter& checks(metrics::Registry& registry, std::string_view result) {
  return registry.counter("sluice_membership_checks_total",
                          "Checks of memberships older than descriptors.ttl: renewed or revoked by upstream, or stale "
                          "because upstream did not answer",
                          {{"result", std::string(result)}});
}

}  // namespace

namespace {

// Tells those who watch a digest, when what may change it has ended in whatever way.
class Changing {
 public:
  Changing(Versions& versions, const oci::Digest& digest) : versions_(versions), hash_(hash_value(digest)) {}
  Changing(const Changing&) = delete;
  Changing& operator=(const Changing&) = delete;
  ~Changing() { versions_.changed(hash_); }

 private:
  Versions& versions_;
  const std::size_t hash_;
};

}  // namespace

// The end of the chain. It keeps nothing: what stands before it does, unless the answer counts no more when it comes.
class BlobAccess::UpstreamStatter final : public descriptors::BlobDescriptorService {
 public:
  // The ticket outlives it.
  UpstreamStatter(BlobAccess& access, Route route, const Revocations::Ticket& ticket)
      : access_(access), route_(std::move(route)), ticket_(ticket) {}

  runtime::Task<Result<Entry>> stat(oci::Digest digest) override {
    asked_ = true;
    Result<oci::Descriptor> said = co_await access_.ask_upstream(route_, digest);
    if (!said) co_return said.error();
    said->digest = access_.canonical(digest);
    Entry entry(std::move(*said), access_.clock_.wall());
    if (!access_.revoked(ticket_, route_.scope, digest)) co_return entry;
    unkept_ = std::move(entry);
    co_return Error{Errc::superseded, "what may be remembered of it has changed meanwhile"};
  }
  [[nodiscard]] bool asked() const noexcept { return asked_; }
  // What upstream has said, for whoever waits for it alone.
  [[nodiscard]] const std::optional<Entry>& unkept() const noexcept { return unkept_; }
  runtime::Task<Result<void>> set_descriptor(oci::Digest, Entry) override { co_return Result<void>{}; }
  runtime::Task<Result<void>> clear(oci::Digest) override { co_return Result<void>{}; }

 private:
  BlobAccess& access_;
  const Route route_;
  const Revocations::Ticket& ticket_;
  bool asked_ = false;
  std::optional<Entry> unkept_;
};

BlobAccess::BlobAccess(Params params, descriptors::BlobDescriptorCacheProvider& front,
                       store::CatalogDescriptorService& catalog, const Clock& clock, runtime::TaskGroup& group,
                       metrics::Registry& registry)
    : ttl_(params.ttl),
      clock_(clock),
      front_(front),
      catalog_(catalog),
      front_tracker_(registry, params.front_name, "front"),
      catalog_tracker_(registry, "catalog", "catalog"),
      renewed_(checks(registry, "renewed")),
      revoked_(checks(registry, "revoked")),
      stale_(checks(registry, "stale")),
      negative_(params.negative, clock),
      pauses_({.ttl = params.retry_pause, .max_entries = 10'000}, clock),
      given_({.ttl = given_for(params.ttl)}, clock),
      flights_(group),
      log_(clock) {}

bool BlobAccess::is_fresh(const Entry& entry) const {
  if (ttl_.count() == 0) return true;
  const auto age = clock_.wall() - entry.checked_at;
  return age < ttl_ && age > -kClockSkew;
}

bool BlobAccess::pauses(const Scope& scope, const oci::Digest& digest) {
  return pauses_.contains(key_of(scope, digest));
}

bool BlobAccess::believes(const Route& route, const Entry& entry) {
  return route.equal_rights || entry.media_type != store::MediaTypes::kNamedByManifest;
}

Result<BlobAccess::Views> BlobAccess::views(const Scope& scope) {
  auto front = front_.repository_scoped(scope.str());
  if (!front) return front.error();
  auto catalog = catalog_.repository_scoped(scope.str());
  if (!catalog) return catalog.error();
  return Views{std::move(*front), std::move(*catalog)};
}

// What a cache says of another name is a claim, unless it is what is known here.
BlobAccess::Known BlobAccess::known(const oci::Digest& digest, Entry entry) const {
  Known out;
  if (entry.digest != digest && entry.digest != canonical(digest)) out.claimed = entry.digest;
  out.descriptor = std::move(entry);
  out.descriptor.digest = digest;
  return out;
}

std::optional<oci::Digest> BlobAccess::claimed(const Route& route, const oci::Digest& digest) {
  const std::scoped_lock lock(claims_mutex_);
  const oci::Digest* found = claims_.find(claim_key(route, digest));
  return found == nullptr ? std::nullopt : std::optional(*found);
}

std::optional<Entry> BlobAccess::peek(const Scope& scope, const oci::Digest& digest) {
  std::optional<Entry> found = front_.peek(scope, digest);
  if (!found || !is_fresh(*found)) return std::nullopt;
  front_tracker_.count_peek();
  return found;
}

std::optional<BlobAccess::Lasting> BlobAccess::peek_lasting(const Scope& scope, const oci::Digest& digest) {
  Lasting out;
  out.watch = versions_.watch(hash_value(digest));
  out.until = Clock::Wall::max();
  const Clock::Monotonic holds_until = front_.peek_holds_until(scope, digest);
  if (holds_until != Clock::Monotonic::max()) {
    const Clock::Monotonic now = clock_.now();
    if (holds_until <= now) return std::nullopt;
    out.until = clock_.wall() + std::chrono::duration_cast<Clock::Wall::duration>(holds_until - now);
  }
  std::optional<Entry> found = front_.peek(scope, digest);
  if (!found || !is_fresh(*found)) return std::nullopt;
  if (ttl_.count() != 0) out.until = std::min(out.until, found->checked_at + ttl_);
  out.entry = std::move(*found);
  return out;
}

// What nobody has dated counts from now on. Where that cannot be noted (Redis takes nothing more), it would begin anew
// with each look: then it counts from when the catalog heard it, and is too old where it never has.
runtime::Task<void> BlobAccess::date(const Views& in, oci::Digest digest, Entry& entry) {
  if (entry.is_dated()) co_return;
  entry.checked_at = clock_.wall();
  const Result<void> dated = co_await in.front->set_descriptor(digest, entry);
  if (dated) co_return;
  const Result<Entry> noted = co_await in.catalog->stat(digest);
  entry.checked_at = noted ? noted->checked_at : Clock::Wall{};
}

runtime::Task<Result<Entry>> BlobAccess::stat_known(Scope scope, oci::Digest digest) {
  const Changing changing(versions_, digest);
  Result<Views> in = views(scope);
  if (!in) co_return in.error();
  const Revocations::Ticket ticket = revocations_.begin();
  // The catalog's word may be older than what another sluice has cleared in a front that they share.
  descriptors::CachedBlobStatter statter(in->front, in->catalog, &front_tracker_, [] { return false; });
  Result<Entry> found = co_await statter.stat(digest);
  if (found && !revoked(ticket, scope, digest)) co_await date(*in, digest, *found);
  if (revoked(ticket, scope, digest)) {
    // What the catalog said before the removal may have reached the front after it.
    const Result<void> dropped = co_await drop(scope, digest);
    static_cast<void>(dropped);
    co_return Error{Errc::blob_unknown};
  }
  co_return found;
}

runtime::Task<Result<BlobAccess::Known>> BlobAccess::stat(Route route, oci::Digest digest) {
  if (known_unknown(route.scope, digest)) {
    co_return said_unknown(Errc::blob_unknown, route.scope, digest.to_string());
  }
  if (is_over(route)) co_return co_await ask_alone(std::move(route), digest);
  Result<Views> in = views(route.scope);
  if (!in) co_return in.error();
  const Changing changing(versions_, digest);
  const Revocations::Ticket ticket = begin(route);
  auto upstream = std::make_shared<UpstreamStatter>(*this, route, ticket);
  auto behind = std::make_shared<descriptors::CachedBlobStatter>(in->catalog, upstream, &catalog_tracker_);
  descriptors::CachedBlobStatter statter(in->front, behind, &front_tracker_, [upstream] { return upstream->asked(); });
  Result<Entry> found = co_await statter.stat(digest);
  if (upstream->unkept()) found = *upstream->unkept();
  if (!found) {
    if (found.error().code == Errc::blob_unknown) remember_unknown(route, digest);
    co_return found.error();
  }
  if (!revoked(ticket, route.scope, digest)) co_await date(*in, digest, *found);
  if (revoked(ticket, route.scope, digest)) {
    const Result<void> dropped = co_await drop(route.scope, digest);
    static_cast<void>(dropped);
  }
  if (!believes(route, *found)) co_return co_await ask_first(std::move(route), digest);
  const bool fresh = is_fresh(*found);
  Known out = known(digest, std::move(*found));
  out.asked_upstream = upstream->asked();
  if (fresh) co_return out;
  co_return co_await revalidate(std::move(route), digest, std::move(out));
}

// Another login, or another address, may be asked by now: what is remembered is theirs.
runtime::Task<Result<BlobAccess::Known>> BlobAccess::ask_alone(Route route, oci::Digest digest) {
  Result<oci::Descriptor> said = co_await ask_upstream(std::move(route), digest);
  if (!said) co_return said.error();
  Known out = known(digest, Entry(std::move(*said)));
  out.asked_upstream = true;
  co_return out;
}

// Upstream has not been asked about it: only a manifest has named it.
runtime::Task<Result<BlobAccess::Known>> BlobAccess::ask_first(Route route, oci::Digest digest) {
  const Revocations::Ticket ticket = begin(route);
  Result<oci::Descriptor> said = co_await ask_upstream(route, digest);
  if (!said) {
    const Error error = said.error();
    if (!is_outage(error.code)) {
      const bool believed = co_await outlives(std::move(route), digest, error);
      static_cast<void>(believed);
    }
    co_return error;
  }
  Known out = known(digest, Entry(*said));
  out.asked_upstream = true;
  co_await remember(route.scope, out.descriptor, ticket);
  co_return out;
}

runtime::Task<Result<BlobAccess::Known>> BlobAccess::revalidate(Route route, oci::Digest digest, Known stale) {
  stale.stale = true;
  if (pauses(route.scope, digest)) {
    stale_.add();
    co_return stale;
  }
  const Revocations::Ticket ticket = begin(route);
  Result<oci::Descriptor> said = co_await ask_upstream(route, digest);
  if (!said) {
    if (co_await outlives(std::move(route), digest, said.error())) co_return stale;
    co_return said.error();
  }
  renewed_.add();
  Known out = known(digest, Entry(*said));
  out.asked_upstream = true;
  co_await remember(route.scope, out.descriptor, ticket);
  co_return out;
}

runtime::Task<bool> BlobAccess::outlives(Route route, oci::Digest digest, Error error) {
  if (is_outage(error.code)) {
    if (!pauses_.contains(route.scope.str())) {
      pauses_.add(route.scope.str());
      log::info("access", fmt::format("cannot revalidate {} of {}: {}; serving what is stored", digest.to_string(),
                                      route.scope.str(), error.message));
    }
    pauses_.add(key_of(route.scope, digest));
    stale_.add();
    co_return true;
  }
  // What upstream says to a client's own credentials is about the client, and not about the repository.
  const bool of_client = route.on_behalf && is_about_login(error.code);
  if (is_verdict(error.code) && !of_client) {
    revoked_.add();
    const Result<void> forgotten = co_await forget(route.scope, digest);
    if (!forgotten) {
      log::warn("access", fmt::format("cannot remove {} of {} from the descriptor cache: {}", digest.to_string(),
                                      route.scope.str(), forgotten.error().message));
    }
    if (error.code == Errc::blob_unknown) remember_unknown(route, digest);
  }
  co_return false;
}

runtime::Task<Result<oci::Descriptor>> BlobAccess::ask_upstream(Route route, oci::Digest digest) {
  std::string key = key_of(route.scope, digest);
  const std::optional<Entry> named = front_.peek(route.scope, digest);
  if (named && named->media_type == store::MediaTypes::kNamedByManifest) {
    route.registry->note_claimed_size(digest, named->size);
  }
  key.append(" ").append(std::to_string(revocations_.epoch())).append(" ").append(std::to_string(term_number(route)));
  // What upstream says to one client is no other client's answer.
  if (route.on_behalf) key.append(" ").append(route.client);
  runtime::SingleFlight<std::string, oci::Descriptor>::Work work = [route, digest] {
    return route.registry->stat_blob(route.repository, digest);
  };
  std::optional<upstream::Urgencies::Listed> listed;
  std::optional<upstream::Urgencies::Wanted> wanted;
  if (route.urgency) {
    listed.emplace(ahead_, key, route.urgency);
  } else {
    wanted.emplace(ahead_, key);
  }
  auto outcome = co_await wait_for(route, flights_.run(key, work));
  const auto has_failed = [&outcome] { return !outcome.result && is_no_answer(outcome.result.error().code); };
  // What was asked ahead had less time left than we have, and was not tried where upstream's health was in doubt.
  const bool joined_one_ahead = outcome.joined && wanted && wanted->found();
  if (joined_one_ahead && has_failed() && std::chrono::steady_clock::now() < route.answer_by) {
    outcome = co_await wait_for(route, flights_.run(std::move(key), std::move(work)));
  }
  if (route.urgency && has_failed()) co_return Error{Errc::overloaded, outcome.result.error().message};
  if (outcome.result && outcome.result->digest != digest) {
    // Kept apart from what is known: a HEAD has it told, and the GET that follows wants to know.
    const std::scoped_lock lock(claims_mutex_);
    claims_.insert(claim_key(route, digest), outcome.result->digest);
  }
  const auto expected = outcome.result && sizes_ ? sizes_(route, digest) : std::nullopt;
  if (expected && *expected != outcome.result->size) {
    log_.write(log::Level::warn, "upstream", std::string(route.registry->name()),
               other_length(route, digest, outcome.result->size, *expected));
    co_return sends_other(route, digest);
  }
  co_return std::move(outcome.result);
}

runtime::Task<void> BlobAccess::remember(Scope scope, oci::Descriptor descriptor, const Revocations::Ticket& ticket,
                                         std::optional<oci::Digest> stored_as) {
  const oci::Digest digest = descriptor.digest;
  const Changing changing(versions_, digest);
  if (revoked(ticket, scope, digest)) co_return;
  // Only manifests are told apart. What else strangers call their layers would fill the table of types.
  const bool is_manifest = !oci::noted_manifest_type(descriptor.media_type).empty();
  // What upstream gives out as the blob of a signed manifest's digest, if anything, is its payload. That takes nothing
  // from the manifest, which lies under a name of its own.
  if (!is_manifest && stored_name(scope, digest) != canonical(digest)) co_return;
  if (!is_manifest) descriptor.media_type = oci::media_type::kOctetStream;
  if (!stored_as) stored_as = is_manifest ? stored_name(scope, digest) : canonical(digest);
  descriptor.digest = *stored_as;
  negative_.erase(key_of(scope, digest));
  Entry entry(std::move(descriptor), clock_.wall());
  // Under which name a manifest lies here is nothing to other repositories, or to other processes.
  const bool is_own_name = *stored_as != canonical(digest);
  const Result<void> kept =
      is_own_name ? catalog_.set_in_scope(scope, digest, entry) : catalog_.set_now(scope, digest, entry);
  static_cast<void>(kept);  // What cannot be kept is asked for again.
  Result<std::shared_ptr<descriptors::BlobDescriptorService>> front = front_.repository_scoped(scope.str());
  if (!front) co_return;
  Result<void> cached{};
  if (is_own_name) {
    cached = co_await (*front)->set_second_hand(digest, std::move(entry));
  } else {
    cached = co_await (*front)->set_descriptor(digest, std::move(entry));
  }
  static_cast<void>(cached);
  if (!revoked(ticket, scope, digest)) co_return;
  const Result<void> dropped = co_await drop(scope, digest);
  static_cast<void>(dropped);
}

// It stays in this process: what others who share a front make of it is not known.
runtime::Task<void> BlobAccess::remember_named(Scope scope, oci::Descriptor descriptor,
                                               const Revocations::Ticket& ticket) {
  const oci::Digest digest = descriptor.digest;
  const Changing changing(versions_, digest);
  const std::optional<Entry> before = catalog_.peek(scope, digest);
  const bool by_upstream = before && before->media_type != store::MediaTypes::kNamedByManifest;
  const bool has_own_name = stored_name(scope, digest) != canonical(digest);
  if ((by_upstream && (is_fresh(*before) || has_own_name)) || revoked(ticket, scope, digest)) co_return;
  descriptor.media_type = store::MediaTypes::kNamedByManifest;
  descriptor.digest = canonical(digest);
  negative_.erase(key_of(scope, digest));
  Entry entry(std::move(descriptor), clock_.wall());
  const Result<void> kept = catalog_.set_in_scope(scope, digest, entry);
  static_cast<void>(kept);  // What cannot be kept is asked for.
  Result<std::shared_ptr<descriptors::BlobDescriptorService>> front = front_.repository_scoped(scope.str());
  if (!front) co_return;
  const Result<void> cached = co_await (*front)->set_second_hand(digest, std::move(entry));
  static_cast<void>(cached);
  if (!revoked(ticket, scope, digest)) co_return;
  const Result<void> dropped = co_await drop(scope, digest);
  static_cast<void>(dropped);
}

oci::Digest BlobAccess::canonical(const oci::Digest& digest) const {
  if (digest.algorithm() == oci::Algorithm::sha256) return digest;
  const std::optional<Entry> found = catalog_.peek(Scope(), digest);
  return found ? found->digest : digest;
}

oci::Digest BlobAccess::stored_name(const Scope& scope, const oci::Digest& digest) const {
  const std::optional<Entry> known = catalog_.peek(scope, digest);
  const bool has_own =
      known && known->digest.algorithm() == digest.algorithm() && !oci::noted_manifest_type(known->media_type).empty();
  return has_own ? known->digest : canonical(digest);
}

void BlobAccess::set_canonical(const oci::Digest& digest, const oci::Digest& canonical, std::uint64_t size) {
  const oci::Descriptor descriptor{canonical, size, std::string(oci::media_type::kOctetStream)};
  const Result<void> kept = catalog_.set_canonical(digest, descriptor);
  static_cast<void>(kept);
}

bool BlobAccess::revoked(const Revocations::Ticket& ticket, const Scope& scope, const oci::Digest& digest) const {
  return revocations_.revoked(ticket, key_of(scope, digest));
}

bool BlobAccess::removed(const Revocations::Ticket& ticket, const Scope& scope, const oci::Digest& digest) const {
  return revocations_.removed(ticket, key_of(scope, digest));
}

void BlobAccess::forget_upstream(std::string_view name) {
  revocations_.revoke(std::string(name) + "/");
  // Those of others too, which costs them a look into the catalog, or a question for what upstream does not have.
  front_.forget_all();
  negative_.clear();
  given_.clear();
  pauses_.clear();
  versions_.all_changed();
}

// The front first: when it cannot be told (Redis is down), it would go on saying that the repository has the blob.
runtime::Task<Result<void>> BlobAccess::drop(Scope scope, oci::Digest digest) {
  const Changing changing(versions_, digest);
  Result<Views> in = views(scope);
  if (!in) co_return in.error();
  const Result<void> cleared = co_await in->front->clear(digest);
  if (!cleared && cleared.error().code != Errc::blob_unknown) co_return cleared.error();
  co_return co_await in->catalog->clear(digest);
}

runtime::Task<Result<void>> BlobAccess::forget(Scope scope, oci::Digest digest) {
  const Changing changing(versions_, digest);
  const std::string key = key_of(scope, digest);
  revocations_.revoke(key);
  negative_.erase(key);
  given_.erase(key);
  const Result<void> dropped = co_await drop(scope, digest);
  if (!dropped) co_return dropped;
  // Whoever has read the catalog after the front was cleared, and before the catalog was, may have put it into the
  // front again. Who does so later sees that it was revoked.
  revocations_.revoke(key);
  const Result<Views> in = views(scope);
  if (!in) co_return in.error();
  const Result<void> cleared = co_await in->front->clear(digest);
  if (!cleared && cleared.error().code != Errc::blob_unknown) co_return cleared.error();
  co_return Result<void>{};
}

runtime::Task<void> BlobAccess::forget_globally(oci::Digest digest) {
  // Nobody is let in by these.
  const Result<void> front = co_await front_.clear(digest);
  static_cast<void>(front);
  const Result<void> catalog = co_await catalog_.clear(digest);
  static_cast<void>(catalog);
}

void BlobAccess::remember_given(const Scope& scope, const oci::Digest& digest, const Revocations::Ticket& ticket) {
  const std::string key = key_of(scope, digest);
  negative_.erase(key);
  given_.add(key);
  if (revocations_.revoked(ticket, key)) given_.erase(key);
}

bool BlobAccess::is_given(const Route& route, const oci::Digest& digest) {
  return !is_over(route) && given_.contains(key_of(route.scope, digest));
}

void BlobAccess::remember_unknown(const Route& route, const oci::Digest& digest) {
  if (is_over(route)) return;
  const std::string key = key_of(route.scope, digest);
  given_.erase(key);
  negative_.add(key);
}

bool BlobAccess::known_unknown(const Scope& scope, const oci::Digest& digest) {
  return negative_.contains(key_of(scope, digest));
}

}  // namespace sluice::access
