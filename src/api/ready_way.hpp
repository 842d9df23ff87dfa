// ReadyWay: makes the ready answers (http/ready.hpp) of the registry API: of GET and HEAD of manifests by tag and by
// digest, and of blobs at rest.
//
// An answer that was a hit is looked at once more, from memory and without suspending, exactly as the long way would
// (ManifestService::peek, BlobService::peek), and kept with all that it hangs on:
//
//   the upstreams, the rules of repositories    a version of each; a reload ends it
//   logins                                      none are required, asked each time
//   the repository's membership, the tag        a version of each, and the time until which they are believed
//   the bytes at rest                           a version, and the object or open file itself, which is not kept alive
//   all together                                kLongest: then the long way notes the use, and offers to the prefetcher
//
// What needs more than that is never ready: passthrough upstreams, Via, ranges, conditions, digests other than sha256.
//
// Threads: make() on any loop; an answer lives on the loop that it was made on. Owned by the Api.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "access/blob_access.hpp"
#include "access/login_gate.hpp"
#include "access/repository_rules.hpp"
#include "access/upstreams.hpp"
#include "api/access_log.hpp"
#include "api/target.hpp"
#include "base/clock.hpp"
#include "http/ready.hpp"
#include "http/request.hpp"
#include "pull/blob_service.hpp"
#include "pull/manifest_service.hpp"
#include "pull/metrics.hpp"

namespace sluice::api {

// Names for requests that bring none: the same first digits in one run. Thread-safe.
class RequestIds {
 public:
  RequestIds();
  using Text = std::array<char, 14>;
  [[nodiscard]] Text next() noexcept;

 private:
  std::array<char, 6> run_{};
  std::atomic<std::uint32_t> next_{0};
};

class ReadyWay {
 public:
  // As in Api::Parts. All must outlive the answers.
  struct Parts {
    const access::Upstreams& upstreams;
    pull::BlobService& blobs;
    pull::ManifestService& manifests;
    AccessLog& access_log;
    const Clock& clock;
    const access::LoginGate* logins;
    const access::RepositoryRules* rules;
    RequestIds& request_ids;
  };

  ReadyWay(const Parts& parts, const pull::Metrics& metrics) : parts_(parts), metrics_(metrics) {}

  // The answer to `request`, whose path means `target`, or null where it would not be a hit at once. `request_id`: the
  // client's own; empty: each answer gets a new one.
  [[nodiscard]] std::shared_ptr<http::ReadyAnswer> make(const http::Request& request, const Target& target,
                                                        std::string_view request_id) const;

 private:
  class Answer;
  static constexpr std::chrono::seconds kLongest{10};

  const Parts parts_;
  const pull::Metrics metrics_;
};

// What comes with an answer about a tag, or when the upstream was named by `ns`; complete lines with CRLF.
std::string extra_fields(std::string_view ns, const access::Route& route);
inline constexpr std::string_view kVary = "Vary: Accept\r\n";
// Which manifest a tag gives depends on Accept (RFC 9110 section 12.5.5); a digest has one.
bool is_negotiated(const Target& target);

}  // namespace sluice::api
