#include "pull/tag_records.hpp"

#include <fmt/format.h>

#include "base/errc_kind.hpp"
#include "base/log.hpp"

namespace sluice::pull {
namespace {

// Of the record of what those get who take none of the tag's forms.
constexpr oci::ManifestClass kUnmet = 0;

oci::ManifestClass record_class(oci::ManifestClass asked, std::string_view media_type) {
  if (asked == oci::kAllManifests) return asked;
  return static_cast<oci::ManifestClass>(oci::manifest_bit(media_type) & asked);
}

}  // namespace

std::string tag_key(const descriptors::Scope& scope, std::string_view tag) {
  std::string key = scope.str();
  key.append(":").append(tag);
  return key;
}

TagRecords::TagRecords(std::chrono::milliseconds ttl, access::BlobAccess& access, store::BlobStore& store,
                       const Clock& clock)
    : ttl_(ttl), access_(access), store_(store), clock_(clock) {}

bool TagRecords::is_fresh(const store::TagRecord& record) const {
  const Clock::Wall now = clock_.wall();
  return now - record.checked_at < ttl_ && now >= record.checked_at;
}

// Nothing from before a removal counts.
std::string TagRecords::unmet_key(const access::Route& route, const oci::Tag& tag) const {
  return fmt::format("{} {}", tag_key(route.scope, tag.str()), access_.revocations().epoch());
}

std::optional<store::TagRecord> TagRecords::find(const access::Route& route, const oci::Tag& tag,
                                                 oci::ManifestClass asked) const {
  if (access::is_over(route)) return std::nullopt;
  if (asked == oci::kAllManifests) return find_common(route, tag);
  std::optional<store::TagRecord> last;
  for (unsigned bit = 1; bit <= asked; bit <<= 1U) {
    if ((asked & bit) == 0) continue;
    auto one = store_.catalog().tag(route.scope, tag.str(), static_cast<oci::ManifestClass>(bit));
    if (one && (!last || one->checked_at > last->checked_at)) last = std::move(one);
  }
  std::optional<store::TagRecord> unmet = find_unmet(route, tag, asked);
  const bool is_later = unmet && (!last || (is_fresh(*unmet) && unmet->checked_at > last->checked_at));
  return is_later ? unmet : last;
}

std::optional<store::TagRecord> TagRecords::find_common(const access::Route& route, const oci::Tag& tag) const {
  std::optional<store::TagRecord> record = store_.catalog().tag(route.scope, tag.str(), oci::kAllManifests);
  if (!record || !any_doubted_.load(std::memory_order_acquire)) return record;
  const std::string key = tag_key(route.scope, tag.str());
  const std::scoped_lock lock(mutex_);
  const Clock::Wall* const doubted = doubted_.find(key);
  if (doubted == nullptr) return record;
  if (*doubted == record->checked_at) {
    record->checked_at -= ttl_;  // not fresh
  } else {                       // upstream was asked since
    doubted_.erase(key);
    any_doubted_.store(doubted_.size() > 0, std::memory_order_release);
  }
  return record;
}

bool TagRecords::doubt(const access::Route& route, const oci::Tag& tag, std::chrono::milliseconds age) {
  const std::optional<store::TagRecord> record = find(route, tag, oci::kAllManifests);
  if (!record || !is_fresh(*record) || clock_.wall() - record->checked_at < age) return false;
  const std::scoped_lock lock(mutex_);
  doubted_.insert(tag_key(route.scope, tag.str()), record->checked_at);
  any_doubted_.store(true, std::memory_order_release);
  return true;
}

std::optional<store::TagRecord> TagRecords::find_unmet(const access::Route& route, const oci::Tag& tag,
                                                       oci::ManifestClass asked) const {
  std::optional<store::TagRecord> record = store_.catalog().tag(route.scope, tag.str(), kUnmet);
  if (!record) return std::nullopt;
  const std::scoped_lock lock(mutex_);
  if (const auto* const of_tag = unmet_.find(unmet_key(route, tag))) {
    if (const auto of_these = of_tag->find(asked); of_these != of_tag->end()) return of_these->second;
  }
  // Upstream's word on other types: never fresh.
  record->checked_at -= ttl_;
  return record;
}

void TagRecords::note(const access::Route& route, const oci::Tag& tag, oci::ManifestClass asked,
                      std::string_view media_type, const oci::Digest& digest,
                      const access::Revocations::Ticket& ticket) {
  const auto revoked = [&] {
    return access_.revocations().revoked(ticket, tag_key(route.scope, tag.str())) ||
           access_.revoked(ticket, route.scope, digest);
  };
  if (revoked()) return;
  const oci::ManifestClass noted_as = record_class(asked, media_type);
  store_.catalog().set_tag(route.scope, tag.str(), noted_as, digest);
  if (noted_as == kUnmet) {
    const store::TagRecord record{digest, kUnmet, clock_.wall()};
    const std::string key = unmet_key(route, tag);
    const std::scoped_lock lock(mutex_);
    if (auto* const of_tag = unmet_.find(key)) {
      of_tag->insert_or_assign(asked, record);
    } else {
      unmet_.insert(key, {{asked, record}});
    }
  }
  if (revoked()) store_.catalog().clear_tag(route.scope, tag.str());
}

runtime::Task<void> TagRecords::take_back(const access::Route& route, const oci::Tag& tag, oci::ManifestClass asked,
                                          const store::TagRecord& record, const Error& error) {
  // What upstream says to a client's own credentials is about the client.
  const bool refused = is_about_login(error.code) && !route.on_behalf;
  if (!refused && !is_unknown(error.code)) co_return;
  const std::optional<store::TagRecord> now = find(route, tag, asked);
  if (!now || now->digest != record.digest || now->checked_at != record.checked_at) co_return;
  store_.catalog().clear_tag(route.scope, tag.str());
  {
    const std::scoped_lock lock(mutex_);
    unmet_.erase(unmet_key(route, tag));
  }
  if (!refused) co_return;  // the manifest may have other tags, and be asked for by its digest
  const Result<void> forgotten = co_await access_.forget(route.scope, record.digest);
  if (!forgotten) {
    log::warn("manifests", fmt::format("cannot remove {} of {} from the descriptor cache: {}",
                                       record.digest.to_string(), route.scope.str(), forgotten.error().message));
  }
}

bool TagRecords::forget(const descriptors::Scope& scope, std::string_view tag) {
  access_.revocations().revoke(tag_key(scope, tag));
  return store_.catalog().clear_tag(scope, tag);
}

}  // namespace sluice::pull
