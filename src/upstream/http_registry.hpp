// HttpRegistry: a Registry over HTTP/1.1, with its tokens, redirects and retries.
//
// Threads: as Registry. Owned by the composition root; outlives the tasks that use it. The Client, the Clock and the
// metrics registry outlive it.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "base/metrics.hpp"
#include "http/url.hpp"
#include "upstream/breaker.hpp"
#include "upstream/credentials.hpp"
#include "upstream/registry.hpp"

namespace sluice::runtime {
class TaskGroup;
}  // namespace sluice::runtime

namespace sluice::http {
class Client;
class OwnListeners;
class ProxyRules;
}  // namespace sluice::http

namespace sluice::upstream {

class CredentialSource;
enum class Coding : std::uint8_t;

// Other credentials for some repositories.
struct CredentialRule {
  std::vector<std::string> repositories;     // patterns, as in matches_repository, of names as upstream has them
  std::shared_ptr<CredentialSource> source;  // null: anonymous
};

class HttpRegistry final : public Registry {
 public:
  struct Params {
    // In logs and metrics: "docker.io".
    std::string name;
    // Where /v2/ hangs: "https://registry-1.docker.io/", or with a path in front of it.
    http::Url base;
    // Further addresses of the same registry, asked in this order where those before do not answer or do not have what
    // is asked for.
    std::vector<http::Url> further;
    Credentials credentials;
    // Where they come from, in place of `credentials`; may be null.
    std::shared_ptr<CredentialSource> credential_source;
    // Stand above those: the first one that fits a repository counts.
    std::vector<CredentialRule> credential_rules;
    // Hosts, as "host" or "host:port", besides the registry's own registrable domain that may see the credentials when
    // they stand in a challenge's realm.
    std::vector<std::string> trusted_realm_hosts;
    // Whether an anonymous token may come from a realm over plain HTTP though the registry speaks HTTPS.
    bool http_realm = false;
    // Whether redirects from HTTPS to plain HTTP are followed for what is held against its digest.
    bool http_redirects = false;
    // PEM certificates to trust besides the system's; empty for none. Also used for redirects and realms.
    std::string ca_file;
    // PEM: what is shown to a registry that asks for a certificate; both or neither. Not to redirects and realms.
    std::string cert_file;
    std::string key_file;
    std::shared_ptr<const http::ProxyRules> proxies;  // null: everything is reached directly
    // Docker Hub: one-part names live under library/.
    bool docker_hub_library_prefix = false;
    // Networks that redirects and realms may lead to besides those of http::AddressPolicy, in CIDR notation.
    std::vector<std::string> redirect_networks;
    // Where they never lead; may be null.
    std::shared_ptr<const http::OwnListeners> own_listeners;

    std::chrono::milliseconds connect_timeout{10'000};  // name resolution, TCP and TLS together
    std::chrono::milliseconds headers_timeout{30'000};  // from the request to the end of the response's head
    std::chrono::milliseconds stall_timeout{30'000};    // between two bytes of a body
    std::chrono::milliseconds token_timeout{15'000};    // for the headers of a token request
    // All that is tried for one operation, the waits for a turn, a token and another try included, up to the head of
    // the answer. Not for downloads that go on.
    std::chrono::milliseconds request_timeout{25'000};
    // Of that, the first try at any but the last endpoint, and at a single one; later ones have what is left.
    std::chrono::milliseconds endpoint_timeout{10'000};
    // For the head of the answer with a blob that has brought none in time: it is asked for once more, for so long,
    // while others go on.
    std::chrono::milliseconds first_byte_timeout{300'000};
    // No retry of a download that goes on begins later than this after the operation did.
    std::chrono::milliseconds total_timeout{90'000};

    std::size_t retries = 3;                      // after the first try
    std::chrono::milliseconds backoff_base{200};  // doubled with each retry
    std::chrono::milliseconds backoff_limit{5'000};
    // Retry-After of a 429 up to which it is waited for; beyond it the 429 is handed on. The one of a 5xx is waited for
    // up to backoff_limit.
    std::chrono::milliseconds throttle_wait{5'000};
    Breaker::Params breaker;
    // Connecting and headers, for the first request that probes an endpoint that is down; doubled with each that fails.
    std::chrono::milliseconds probe_timeout{5'000};
    // Uniform in [0, 1); a wait is its backoff times (0.5 + jitter / 2). Thread-safe. Empty: a random one.
    std::function<double()> jitter;
    // Where endpoints that were silent are asked in the background whether they answer again; outlives the registry and
    // all that share its connections. Null: only clients' requests ask them.
    runtime::TaskGroup* background = nullptr;
    // Suspends for so long; false when the task was cancelled. Empty: a timer.
    std::function<runtime::Task<bool>(std::chrono::milliseconds)> sleep;

    std::string user_agent = "sluice/0.1.0";
    // What Via calls us (RFC 9110 section 7.6.3); empty: no Via is sent.
    std::string pseudonym = {};
    // Requests at a time, over all loops and endpoints, those for tokens apart; who comes too late waits for
    // headers_timeout at most.
    std::size_t max_connections = 64;
    double requests_per_second = 0;  // 0: no limit
    std::size_t max_redirects = 10;  // as many as Go's clients follow
    // http::Channel::receive_buffer_bytes.
    std::size_t receive_buffer_bytes = 0;
  };

  // Throws std::runtime_error when ca_file, cert_file or key_file cannot be loaded.
  HttpRegistry(Params params, http::Client& client, Clock& clock, metrics::Registry& metrics);
  ~HttpRegistry() override;
  HttpRegistry(const HttpRegistry&) = delete;
  HttpRegistry& operator=(const HttpRegistry&) = delete;

  [[nodiscard]] std::string_view name() const override;
  // Where there are credentials, or a certificate, they count as used, whatever upstream then asks for.
  [[nodiscard]] Rights rights(const oci::Repository& repository) const override;
  runtime::Task<Result<oci::Descriptor>> stat_blob(oci::Repository repository, oci::Digest digest) override;
  runtime::Task<Result<std::unique_ptr<BlobBody>>> open_blob(oci::Repository repository, oci::Digest digest,
                                                             std::uint64_t offset) override;
  runtime::Task<Result<std::unique_ptr<BlobBody>>> open_blob_range(oci::Repository repository, oci::Digest digest,
                                                                   std::uint64_t first, std::uint64_t last) override;
  runtime::Task<Result<ManifestAnswer>> get_manifest(oci::Repository repository, oci::Reference reference,
                                                     std::string accept) override;
  runtime::Task<Result<ManifestHead>> stat_manifest(oci::Repository repository, oci::Reference reference,
                                                    std::string accept) override;
  runtime::Task<Result<ListAnswer>> list(oci::Repository repository, std::string what) override;
  runtime::Task<Result<void>> ping() override;
  void note_claimed_size(const oci::Digest& digest, std::uint64_t size_bytes) override;
  void note_mismatch(const oci::Digest& digest) override;
  [[nodiscard]] std::chrono::milliseconds throttled_for(const oci::Repository& repository,
                                                        const oci::Reference& reference) const override;
  // Shares connections and metrics with this one, which it may outlive; Client, Clock and metrics registry it may not.
  [[nodiscard]] std::shared_ptr<Registry> on_behalf_of(std::string authorization) override;
  [[nodiscard]] std::shared_ptr<Registry> behind_others(std::shared_ptr<Urgency> urgency) override;
  [[nodiscard]] std::shared_ptr<Registry> asking_for(Asker asker) override;

 private:
  class Exchange;  // what all of them share: exchange.hpp
  HttpRegistry(std::shared_ptr<Exchange> exchange, std::optional<std::string> client_authorization,
               std::shared_ptr<Urgency> urgency, Asker asker);
  // From `offset` to the end, or to `last`.
  runtime::Task<Result<std::unique_ptr<BlobBody>>> download(oci::Repository repository, oci::Digest digest,
                                                            std::uint64_t offset, std::optional<std::uint64_t> last);
  runtime::Task<Result<oci::Descriptor>> stat_encoded(oci::Repository repository, oci::Digest digest,
                                                      std::uint64_t told, std::chrono::steady_clock::time_point until);
  // Of the HEAD that a GET settles; as in Endpoint::Request.
  struct Before {
    std::size_t tries = 0;
    std::chrono::milliseconds wait{0};
    std::optional<std::chrono::steady_clock::time_point> until = std::nullopt;
  };
  runtime::Task<Result<ManifestAnswer>> fetch_manifest(oci::Repository repository, oci::Reference reference,
                                                       std::string accept, Before asked_before);
  // Once; `coding` is set to what Content-Encoding names.
  runtime::Task<Result<std::unique_ptr<BlobBody>>> download_once(oci::Repository repository, oci::Digest digest,
                                                                 std::uint64_t offset,
                                                                 std::optional<std::uint64_t> last,
                                                                 std::optional<Coding>* coding);

  const std::shared_ptr<Exchange> exchange_;
  // The client's, in place of our credentials; nothing: ours.
  const std::optional<std::string> client_authorization_;
  const std::shared_ptr<Urgency> urgency_;  // of downloads and of stat_blob; null: somebody waits for them
  const Asker asker_;
};

}  // namespace sluice::upstream
