#include "pull/manifest_service.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "access/patience.hpp"
#include "access/refusals.hpp"
#include "base/errc_kind.hpp"
#include "base/log.hpp"
#include "oci/manifest.hpp"
#include "oci/media_type.hpp"
#include "pull/attachments.hpp"
#include "pull/manifest_reading.hpp"

namespace sluice::pull {
namespace {

// How often a look at a tag starts again because somebody else has asked for it meanwhile.
constexpr int kMaxRounds = 4;
// How long a tag whose HEAD has misled is asked for by GET.
constexpr std::chrono::minutes kMisleadingFor{10};
// Images have at most some hundred layers. What names more is asked for blob by blob.
constexpr std::size_t kMaxVouched = 1000;

template <class Found>
TagCheck tag_check(const Result<Found>& found, bool known, bool moved) {
  if (found) return moved ? TagCheck::moved : known ? TagCheck::unchanged : TagCheck::added;
  const Errc code = found.error().code;
  return is_unknown(code) ? TagCheck::gone : is_about_login(code) ? TagCheck::denied : TagCheck::failed;
}

// Empty for all types: the registry then asks for more than these.
std::string accept_of(oci::ManifestClass accept_class) {
  return accept_class == oci::kAllManifests ? std::string() : oci::accept_value(accept_class);
}

// `epoch`: of the removals. Nobody joins a question, or believes an answer, from before one.
std::string flight_key(const access::Route& route, const oci::Reference& reference, oci::ManifestClass accept_class,
                       bool head_only, std::uint64_t epoch) {
  return fmt::format("{} {} {} {} {}", route.scope.str(), reference.to_string(), accept_class,
                     head_only ? "HEAD" : "GET", epoch);
}

// With the accepted types: what does not exist for one client may for another.
std::string unknown_key(const access::Route& route, const oci::Reference& reference, oci::ManifestClass accept_class,
                        std::uint64_t epoch) {
  return fmt::format("{} {} {} {}", route.scope.str(), reference.to_string(), accept_class, epoch);
}

// Upstream was asked for the digest and has it not, or gives out something else.
bool is_unobtainable(Errc code) { return is_unknown(code) || is_odd_answer(code); }

}  // namespace

ManifestService::ManifestService(Params params, access::BlobAccess& access, store::BlobStore& store,
                                 runtime::DiskPool& pool, const Clock& clock, runtime::TaskGroup& group,
                                 const Metrics& metrics)
    : params_(std::move(params)),
      access_(access),
      store_(store),
      pool_(pool),
      clock_(clock),
      metrics_(metrics),
      tags_(params_.tag_ttl, access, store, clock),
      stored_(params_.memory_bytes, store, pool, clock, group),
      negative_(params_.negative, clock),
      misleading_({.ttl = kMisleadingFor, .max_entries = 10'000}, clock),
      flights_(group) {}

runtime::Task<Result<ManifestService::Opened>> ManifestService::open(access::Route route, oci::Reference reference,
                                                                     oci::Accept accept, bool head_only) {
  for (bool again = false;; again = true) {
    Result<Opened> opened = co_await open_any(route, reference, accept, head_only);
    if (!opened || head_only) co_return opened;
    Object object =
        co_await stored_.in_memory(opened->digest, access_.stored_name(route.scope, opened->digest), opened->object);
    if (object) opened->object = std::move(object);
    if (opened->object->in_memory) co_return opened;
    // It was opened and has gone from the store since, so the next time it is fetched.
    if (again) co_return Error{Errc::io, fmt::format("{} cannot be read", opened->digest.to_string())};
  }
}

runtime::Task<Result<ManifestService::Opened>> ManifestService::open_to_send(access::Route route,
                                                                             oci::Reference reference,
                                                                             oci::Accept accept, bool head_only) {
  const descriptors::Scope scope = route.scope;
  Result<Opened> opened = co_await open_any(std::move(route), std::move(reference), std::move(accept), head_only);
  if (!opened) co_return opened;
  opened->stored_as = access_.stored_name(scope, opened->digest);
  if (!head_only) opened->object = co_await stored_.to_send(opened->digest, opened->stored_as, opened->object);
  co_return opened;
}

runtime::Task<Result<ManifestService::Opened>> ManifestService::open_any(access::Route route, oci::Reference reference,
                                                                         oci::Accept accept, bool head_only) {
  // By digest there is only one form, whatever the client says that it accepts.
  if (reference.is_digest()) {
    const oci::Digest digest = reference.digest();
    co_return co_await open_digest(std::move(route), digest, head_only);
  }
  const oci::Tag& tag = reference.tag();
  Result<Opened> opened = co_await open_tag(route, tag, oci::kAllManifests, head_only);
  const oci::ManifestClass accepted = accept.manifest_class();
  // A client that names no manifest type at all gets what there is rather than a refusal.
  const bool fits = !opened || accepted == 0 || !oci::is_manifest(opened->object->media_type) ||
                    accept.accepts(opened->object->media_type);
  if (!fits) opened = co_await open_tag(std::move(route), tag, accepted, head_only);
  if (!opened && is_no_answer(opened.error().code) && is_attachment_tag(tag.str())) {
    co_return cannot_be_listed(opened.error());
  }
  co_return opened;
}

// A manifest names blobs that its repository should have. Not all registries check that, so it counts only where nobody
// gains by it (BlobAccess::believes). Nor does anybody check the manifests that an index names, or what may lie
// elsewhere; for those upstream is asked.
runtime::Task<void> ManifestService::remember_references(access::Route route, oci::ManifestInfo info,
                                                         const access::Revocations::Ticket& ticket) {
  if (!route.equal_rights || info.is_index || info.references.size() > kMaxVouched) co_return;
  for (const oci::Descriptor& referred : oci::own_blobs(info)) {
    co_await access_.remember_named(route.scope, referred, ticket);
  }
}

runtime::Task<Result<ManifestService::Opened>> ManifestService::open_digest(access::Route route, oci::Digest digest,
                                                                            bool head_only) {
  std::optional<descriptors::Entry> known = access_.peek(route, digest);
  if (!known && !access::is_over(route)) {
    const Result<descriptors::Entry> looked_up = co_await access_.stat_known(route.scope, digest);
    if (looked_up) known = *looked_up;
  }
  const bool is_manifest = known && !oci::noted_manifest_type(known->media_type).empty();
  const bool fresh = is_manifest && access_.is_fresh(*known);
  const bool believed = fresh || (is_manifest && access_.pauses(route.scope, digest));
  if (believed) {
    const access::CacheResult result = fresh ? access::CacheResult::hit : access::CacheResult::stale;
    std::optional<Opened> opened = co_await open_known(route, *known, digest, head_only, result);
    if (opened) co_return std::move(*opened);
  }
  // Bytes that are here for another repository need only upstream's word on this one.
  const std::string upstream(access::origin_name(route));
  const bool stored = store_.find(access_.stored_name(route.scope, digest), upstream).has_value();
  Result<Found> found =
      co_await fetch_shared(route, oci::Reference(digest), oci::kAllManifests, head_only || (stored && !believed));
  if (!found) {
    const Error error = found.error();
    // A fresh word of a HEAD that its GET does not confirm is taken back too.
    const bool refuted = believed && !head_only && is_unknown(error.code);
    if (refuted) distrust_heads(route.scope, digest);
    if (is_manifest && (!believed || refuted) && co_await access_.outlives(route, digest, error)) {
      std::optional<Opened> opened = co_await open_known(route, *known, digest, head_only, access::CacheResult::stale);
      if (opened) co_return std::move(*opened);
    }
    if (!is_manifest && is_outage(error.code)) co_return access::unanswered(route.scope, error);
    co_return error;
  }
  if (!head_only && !found->object->in_memory) {
    Object object =
        co_await stored_.read(digest, access_.stored_name(route.scope, digest), found->object->media_type, upstream);
    // Of another length it is the payload of a signed manifest, which has the same digest.
    if (object && object->size == found->object->size)
      co_return Opened{access::CacheResult::miss, std::move(object), digest};
    found = co_await fetch_shared(std::move(route), oci::Reference(digest), oci::kAllManifests, false);
    if (!found) co_return found.error();
  }
  co_return Opened{access::CacheResult::miss, found->object, digest};
}

// From what is here; nothing where the bytes are needed and are not.
runtime::Task<std::optional<ManifestService::Opened>> ManifestService::open_known(access::Route route,
                                                                                  descriptors::Entry known,
                                                                                  oci::Digest digest, bool head_only,
                                                                                  access::CacheResult result) {
  const std::string media_type(oci::noted_manifest_type(known.media_type));
  Object object = co_await stored_.read(digest, access_.stored_name(route.scope, digest), media_type,
                                        std::string(access::origin_name(route)));
  // What lies under the digest of a signed manifest may be its payload alone.
  const bool is_payload = object && object->size != known.size && media_type == oci::media_type::kDockerSchema1Signed;
  if (object && !is_payload) co_return Opened{result, std::move(object), digest};
  if (!head_only) co_return std::nullopt;
  co_return Opened{result, ready_manifest_head(digest, media_type, known.size), digest};
}

// Whether a HEAD is enough to believe that the tag is now what it names: the same as before, or a manifest of the same
// type that is here.
bool ManifestService::may_have_moved_to(const access::Route& route, const store::TagRecord& record,
                                        const Found& found) {
  if (found.digest == record.digest) return true;
  if (!is_here(route, found.digest)) return false;
  const std::optional<descriptors::Entry> before = access_.peek(route, record.digest);
  return before && oci::noted_manifest_type(before->media_type) == found.object->media_type;
}

bool ManifestService::is_here(const access::Route& route, const oci::Digest& digest) {
  return stored_.is_here(digest, access_.stored_name(route.scope, digest), access::origin_name(route));
}

// Upstream's word on a tag, noted before those who wait for it go on: whoever comes a moment later finds it and asks
// nothing. `superseded` when that happened since the caller has seen `seen`: look again.
runtime::Task<Result<ManifestService::Found>> ManifestService::ask_tag(access::Route route, oci::Tag tag,
                                                                       oci::ManifestClass accept_class, bool head_only,
                                                                       std::optional<store::TagRecord> seen) {
  const std::optional<store::TagRecord> record = tags_.find(route, tag, accept_class);
  const bool renewed = record && (!seen || seen->digest != record->digest || seen->checked_at != record->checked_at);
  if (renewed && tags_.is_fresh(*record)) co_return Error{Errc::superseded, "upstream was asked meanwhile"};
  const access::Revocations::Ticket ticket = access_.begin(route);
  Result<Found> found{Errc::internal};
  if (head_only) {
    found = co_await ask_head(route, oci::Reference(tag), accept_of(accept_class));
  } else {
    found = co_await fetch(route, oci::Reference(tag), accept_of(accept_class));
  }
  // Some registries ignore Accept in a HEAD, and name another form of the tag than a GET gives. What it has moved to
  // has to be fetched anyhow.
  if (found && record && !found->object->in_memory && !may_have_moved_to(route, *record, *found)) {
    const oci::Digest said = found->digest;
    found = co_await fetch(route, oci::Reference(tag), accept_of(accept_class));
    if (found && found->digest != said) misleading_.add(tag_key(route.scope, tag.str()));
  }
  const bool moved = found && record && record->digest != found->digest;
  metrics_.tag_checks[static_cast<std::size_t>(tag_check(found, record.has_value(), moved))]->add();
  if (found && (!moved || found->object->in_memory)) {
    tags_.note(route, tag, accept_class, found->object->media_type, found->digest, ticket);
  }
  co_return found;
}

runtime::Task<Result<ManifestService::Opened>> ManifestService::open_tag(access::Route route, oci::Tag tag,
                                                                         oci::ManifestClass accept_class,
                                                                         bool head_only) {
  Result<Opened> opened{Errc::internal};
  for (int round = 0; round < kMaxRounds; ++round) {
    opened = co_await open_tag_once(route, tag, accept_class, head_only);
    if (opened || opened.error().code != Errc::superseded) break;
  }
  co_return opened;
}

runtime::Task<Result<ManifestService::Opened>> ManifestService::open_tag_once(access::Route route, oci::Tag tag,
                                                                              oci::ManifestClass accept_class,
                                                                              bool head_only) {
  const std::optional<store::TagRecord> record = tags_.find(route, tag, accept_class);
  const bool fresh = record && tags_.is_fresh(*record);
  // Where the bytes have to be fetched, by the tag: what it is may be known from a HEAD alone.
  if (fresh && (head_only || is_here(route, record->digest))) {
    Result<Opened> opened = co_await open_digest(route, record->digest, head_only);
    // A digest that upstream does not have any more means that the tag has moved.
    if (opened || !is_unobtainable(opened.error().code)) co_return opened;
  }
  if (record && !fresh) {
    if (std::optional<Opened> opened = co_await stale_while_throttled(route, tag, *record, head_only)) {
      co_return std::move(*opened);
    }
  }
  const access::Revocations::Ticket ticket = access_.begin(route);
  // A tag that is known needs only to be compared; HEADs are free where GETs count (Docker Hub).
  const bool misleads = misleading_.contains(tag_key(route.scope, tag.str()));
  // A HEAD may name another form than a GET gives, and so may the next HEAD: they agree, and are both wrong. So a
  // record whose bytes were never fetched is compared by GET.
  const bool is_comparable = record && !fresh && is_here(route, record->digest);
  const bool compare = (head_only || is_comparable) && !misleads;
  Result<Found> found = co_await fetch_shared(route, oci::Reference(tag), accept_class, compare, record);
  if (!found) {
    if (record && is_no_answer(found.error().code)) {
      co_return co_await stale_or(std::move(route), *record, found.error(), head_only);
    }
    if (record) co_await tags_.take_back(route, tag, accept_class, *record, found.error());
    co_return found.error();
  }
  const bool moved = record && record->digest != found->digest;
  if (found->object->in_memory || (head_only && !record)) {
    co_return Opened{access::CacheResult::miss, found->object, found->digest};
  }
  // The record follows a tag that has moved when the new manifest is here, even if a HEAD has found it out: until then
  // the old one is what can be served while upstream is out.
  Result<Opened> opened = co_await open_digest(route, found->digest, head_only && !moved);
  if (!opened && is_unobtainable(opened.error().code)) opened = co_await settle_tag(route, tag, accept_class);
  if (!moved || (opened && opened->digest != found->digest)) co_return opened;
  if (opened) {
    tags_.note(route, tag, accept_class, opened->object->media_type, found->digest, ticket);
  } else if (is_no_answer(opened.error().code)) {
    co_return co_await stale_or(std::move(route), *record, opened.error(), head_only);
  }
  co_return opened;
}

// A HEAD has named a digest that upstream does not give out (a replica that lags, another form of the manifest): what
// the tag is, its GET says. Where that names the same, it fails as before.
runtime::Task<Result<ManifestService::Opened>> ManifestService::settle_tag(access::Route route, oci::Tag tag,
                                                                           oci::ManifestClass accept_class) {
  misleading_.add(tag_key(route.scope, tag.str()));
  const std::optional<store::TagRecord> now = tags_.find(route, tag, accept_class);
  Result<Found> found = co_await fetch_shared(std::move(route), oci::Reference(tag), accept_class, false, now);
  if (!found) co_return found.error();
  co_return Opened{access::CacheResult::miss, found->object, found->digest};
}

// A client has asked for a digest that tags of the repository name as far as their HEADs say, and upstream has it not.
void ManifestService::distrust_heads(const descriptors::Scope& scope, const oci::Digest& digest) {
  for (const store::NamedTag& tag : store_.catalog().tag_records(scope)) {
    if (tag.record.digest == digest) misleading_.add(tag_key(scope, tag.name));
  }
}

runtime::Task<Result<ManifestService::Opened>> ManifestService::stale_or(access::Route route, store::TagRecord record,
                                                                         Error error, bool head_only) {
  const bool for_ever = params_.stale_for.count() == 0;
  if (!for_ever && clock_.wall() - record.checked_at > params_.tag_ttl + params_.stale_for) co_return error;
  const oci::Digest name = access_.stored_name(route.scope, record.digest);
  if (!store_.find(name, access::origin_name(route))) co_return error;
  Result<Opened> opened = co_await open_digest(std::move(route), record.digest, head_only);
  if (!opened) co_return error;
  opened->result = access::CacheResult::stale;
  co_return opened;
}

// Upstream has said when it may be asked for the tag again, and the one who heard it waits for that, or has done so:
// nobody else needs to.
runtime::Task<std::optional<ManifestService::Opened>> ManifestService::stale_while_throttled(access::Route route,
                                                                                             oci::Tag tag,
                                                                                             store::TagRecord record,
                                                                                             bool head_only) {
  const std::chrono::milliseconds left = route.registry->throttled_for(route.repository, oci::Reference(tag));
  if (left.count() <= 0) co_return std::nullopt;
  Error error(Errc::throttled, fmt::format("{} limits our requests", route.registry->name()),
              std::chrono::ceil<std::chrono::seconds>(left));
  Result<Opened> opened = co_await stale_or(std::move(route), std::move(record), std::move(error), head_only);
  if (!opened) co_return std::nullopt;
  co_return std::move(*opened);
}

runtime::Task<Result<ManifestService::Found>> ManifestService::fetch_shared(access::Route route,
                                                                            oci::Reference reference,
                                                                            oci::ManifestClass accept_class,
                                                                            bool head_only,
                                                                            std::optional<store::TagRecord> seen) {
  const std::uint64_t epoch = access_.revocations().epoch();
  const std::string unknown = unknown_key(route, reference, accept_class, epoch);
  if (negative_.contains(unknown)) {
    co_return access::said_unknown(Errc::manifest_unknown, route.scope, reference.to_string());
  }
  const runtime::SingleFlight<std::string, Found>::Work work = [this, route, reference, accept_class, head_only, seen] {
    if (!reference.is_digest()) return ask_tag(route, reference.tag(), accept_class, head_only, seen);
    return head_only ? ask_head(route, reference, accept_of(accept_class))
                     : fetch(route, reference, accept_of(accept_class));
  };
  auto outcome = co_await access::wait_for(
      route, flights_.run(flight_key(route, reference, accept_class, head_only, epoch), work));
  const bool others = outcome.joined && route.on_behalf != nullptr;
  if (others && !outcome.result && is_about_login(outcome.result.error().code)) {
    outcome.result = co_await access::in_time(route, work());
  }
  if (!outcome.result) {
    if (is_unknown(outcome.result.error().code)) negative_.add(unknown);
    co_return outcome.result.error();
  }
  co_return std::move(outcome.result);
}

runtime::Task<Result<ManifestService::Found>> ManifestService::ask_head(access::Route route, oci::Reference reference,
                                                                        std::string accept) {
  const access::Revocations::Ticket ticket = access_.begin(route);
  Result<upstream::ManifestHead> head = co_await route.registry->stat_manifest(route.repository, reference, accept);
  if (!head) co_return head.error();
  if (head->whole) co_return co_await keep(std::move(route), std::move(reference), *head->whole, ticket);
  if (reference.is_digest()) head->digest = reference.digest();
  std::string media_type;
  if (oci::names_manifest_type(head->media_type)) {
    media_type = oci::served_type({}, head->media_type);
  } else if (head->digest) {
    const Result<descriptors::Entry> known = co_await access_.stat_known(route.scope, *head->digest);
    if (known) media_type = oci::noted_manifest_type(known->media_type);
  }
  if (!head->digest || !head->size || media_type.empty()) {
    // An answer that tells too little to be handed on.
    co_return co_await fetch(std::move(route), std::move(reference), std::move(accept));
  }
  const oci::Digest digest = *head->digest;
  // By digest an answer need not name one: a page of something in between may be what is that long.
  const std::optional<store::Stored> stored =
      store_.find(access_.stored_name(route.scope, digest), access::origin_name(route));
  if (reference.is_digest() && stored && stored->size != *head->size) {
    co_return co_await fetch(std::move(route), std::move(reference), std::move(accept));
  }
  co_await access_.remember(route.scope, {digest, *head->size, oci::manifest_note(media_type)}, ticket);
  co_return Found{ready_manifest_head(digest, media_type, *head->size), digest};
}

runtime::Task<Result<ManifestService::Found>> ManifestService::fetch(access::Route route, oci::Reference reference,
                                                                     std::string accept) {
  const access::Revocations::Ticket ticket = access_.begin(route);
  Result<upstream::ManifestAnswer> answer = co_await route.registry->get_manifest(route.repository, reference, accept);
  if (!answer) co_return answer.error();
  co_return co_await keep(std::move(route), std::move(reference), std::move(*answer), ticket);
}

// What came for a tag whose digest nobody has named is a manifest where its type or what stands in it says so.
runtime::Task<Result<ManifestService::Found>> ManifestService::keep(access::Route route, oci::Reference reference,
                                                                    upstream::ManifestAnswer answer,
                                                                    const access::Revocations::Ticket& ticket) {
  metrics_.of(route).received_manifest_bytes.add(answer.body.size());
  const oci::Digest digest = answer.digest;
  ManifestReading reading = co_await read_manifest(pool_, answer.body, answer.media_type);
  const bool is_certain = answer.has_named_digest || reference.is_digest();
  if (!is_certain && (!oci::names_manifest_type(reading.media_type) || oci::is_error_document(answer.body))) {
    Error error(Errc::manifest_invalid,
                fmt::format("upstream sent no manifest for {} of {}", reference.to_string(), route.scope.str()));
    log::debug("manifests", error.message);  // each request for that tag gets it
    co_return error;
  }
  if (!reading.info) {
    log::debug("manifests", fmt::format("{} of {} is served as {} without being understood: {}", digest.to_string(),
                                        route.scope.str(), reading.media_type, reading.info.error().message));
  }
  const bool is_signed = reading.stored_as && *reading.stored_as != digest;
  const oci::Digest name = is_signed ? *reading.stored_as : digest;
  const std::string note = oci::manifest_note(reading.media_type);
  // Before the store, because whoever sees the bytes there must find out whose they are.
  co_await access_.remember(route.scope, {digest, answer.body.size(), note}, ticket,
                            is_signed ? name : access_.canonical(digest));
  if (reading.info) co_await remember_references(route, std::move(*reading.info), ticket);
  const Result<void> stored = co_await store_.put(name, answer.body, note, access::origin_of(route));
  if (stored) {
    metrics_.of(route).stored_bytes.add(answer.body.size());
  } else {
    log::error("manifests", fmt::format("{} of {} was received but cannot be stored: {}", digest.to_string(),
                                        route.scope.str(), stored.error().message));
  }
  Object object = ready_manifest(digest, std::move(reading.media_type), std::move(answer.body),
                                 std::string(access::origin_name(route)));
  if (access_.removed(ticket, route.scope, digest) && store_.catalog().scopes_of(digest).empty()) {
    // Taken out meanwhile, and no other repository has it: for those who wait alone.
    const Result<void> removed = co_await store_.remove(name);
    static_cast<void>(removed);
    co_return Found{std::move(object), digest};
  }
  if (!is_signed) object = stored_.share(digest, std::move(object), stored.has_value());
  co_return Found{std::move(object), digest};
}

// --------------------------------------------------------------------- without a coroutine, for ready answers
// (ready_way)

bool ManifestService::peek_digest(const access::Route& route, const oci::Digest& digest, ReadyHit& hit) {
  const std::optional<access::BlobAccess::Lasting> known = access_.peek_lasting(route.scope, digest);
  if (!known) return false;
  const std::string_view media_type = oci::noted_manifest_type(known->entry.media_type);
  // What lies under another name is this repository's own, and not in memory.
  if (media_type.empty() || access_.stored_name(route.scope, digest) != digest) return false;
  hit.watches[0] = known->watch;
  hit.watches[1] = store_.watch(digest);
  hit.until = std::min(hit.until, known->until);
  hit.digest = digest;
  const std::optional<store::Stored> stored = store_.find(digest, access::origin_name(route));
  if (stored) hit.object = stored_.peek(digest, media_type, stored->size);
  return hit.object != nullptr;
}

bool ManifestService::peek_tag(const access::Route& route, const oci::Tag& tag, ReadyHit& hit) {
  const std::optional<store::TagRecord> record = tags_.find(route, tag, oci::kAllManifests);
  if (!record || !tags_.is_fresh(*record)) return false;
  hit.until = std::min(hit.until, record->checked_at + params_.tag_ttl);
  return peek_digest(route, record->digest, hit);
}

std::optional<ReadyHit> ManifestService::peek(const access::Route& route, const oci::Reference& reference,
                                              const oci::Accept& accept) {
  ReadyHit hit;
  if (reference.is_digest()) return peek_digest(route, reference.digest(), hit) ? std::optional(hit) : std::nullopt;
  const oci::Tag& tag = reference.tag();
  hit.watches[2] = store_.catalog().watch_tag(route.scope, tag.str());
  if (!peek_tag(route, tag, hit)) return std::nullopt;
  const oci::ManifestClass accepted = accept.manifest_class();
  // A client that gets another form of the tag is answered the long way.
  if (accepted != 0 && !accept.accepts(hit.object->media_type)) return std::nullopt;
  return hit;
}

}  // namespace sluice::pull
