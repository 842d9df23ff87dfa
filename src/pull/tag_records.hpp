// TagRecords: what tags were at upstream, by the types that were asked for. They stand in the catalog:
//
//   all types    what the tag is for everybody
//   one type     what those get who do not take that, by the type of it
//   none         what those get who take none of the forms that the tag has: some registries ignore Accept
//
// So a tag has one record for each form that upstream has of it, however many lists of types clients send. Whether the
// last one is upstream's word on the very types that a client takes is known in memory alone; else it is a word to be
// compared, and what stands in while upstream is out.
//
// Threads: all functions may be called from any loop.
#pragma once

#include <atomic>
#include <chrono>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "access/blob_access.hpp"
#include "access/revocations.hpp"
#include "access/upstreams.hpp"
#include "base/clock.hpp"
#include "base/sieve_map.hpp"
#include "oci/digest.hpp"
#include "oci/media_type.hpp"
#include "oci/name.hpp"
#include "store/blob_store.hpp"

namespace sluice::pull {

// Under which a tag is taken back (Revocations).
std::string tag_key(const descriptors::Scope& scope, std::string_view tag);

class TagRecords {
 public:
  // A record is fresh for `ttl`. What is given outlives this.
  TagRecords(std::chrono::milliseconds ttl, access::BlobAccess& access, store::BlobStore& store, const Clock& clock);

  // What the tag was for clients that take these types; of several forms the one that upstream was asked about last.
  [[nodiscard]] std::optional<store::TagRecord> find(const access::Route& route, const oci::Tag& tag,
                                                     oci::ManifestClass asked) const;
  [[nodiscard]] bool is_fresh(const store::TagRecord& record) const;

  // Where upstream's word on the tag, for clients that take all types, is older than `age`: from here on it is not
  // fresh. Whether that is so.
  bool doubt(const access::Route& route, const oci::Tag& tag, std::chrono::milliseconds age);

  // Upstream was asked for these types and has given that digest, of that type. Nothing is noted that was taken out
  // while upstream was asked.
  void note(const access::Route& route, const oci::Tag& tag, oci::ManifestClass asked, std::string_view media_type,
            const oci::Digest& digest, const access::Revocations::Ticket& ticket);

  // Upstream has answered that the tag is no more, or that it may not be read: an outage does not bring it back. What
  // was noted since `record` is a newer word.
  runtime::Task<void> take_back(const access::Route& route, const oci::Tag& tag, oci::ManifestClass asked,
                                const store::TagRecord& record, const Error& error);

  // Whoever asks; false where it was not known. What is on its way is not noted.
  bool forget(const descriptors::Scope& scope, std::string_view tag);

 private:
  [[nodiscard]] std::string unmet_key(const access::Route& route, const oci::Tag& tag) const;
  [[nodiscard]] std::optional<store::TagRecord> find_common(const access::Route& route, const oci::Tag& tag) const;
  [[nodiscard]] std::optional<store::TagRecord> find_unmet(const access::Route& route, const oci::Tag& tag,
                                                           oci::ManifestClass asked) const;

  const std::chrono::milliseconds ttl_;
  access::BlobAccess& access_;
  store::BlobStore& store_;
  const Clock& clock_;
  mutable std::mutex mutex_;  // guards unmet_ and doubted_
  // What upstream gave in answer to types of which it has no form, by tag and removals, and by these types.
  mutable SieveMap<std::string, std::map<oci::ManifestClass, store::TagRecord>> unmet_{10'000};
  mutable std::atomic<bool> any_doubted_{false};               // most look-ups need no lock
  mutable SieveMap<std::string, Clock::Wall> doubted_{1'000};  // by tag: when that word came
};

}  // namespace sluice::pull
