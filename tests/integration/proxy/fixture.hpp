// The cache as the program composes it, on a free loopback port, with scripted upstreams and a clock that the test
// moves.
//
//   Fixture cache;
//   const oci::Digest digest = cache.hub().add_blob("library/app", content(1'000'000));
//   const Response response = get(cache.port(), blob_path("library/app", digest));
//
// Threads: made, used and destroyed by the test's thread; port() and the registries may be used by others too.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/api.hpp"
#include "base/clock.hpp"
#include "base/metrics.hpp"
#include "descriptors/memory_descriptor_cache.hpp"
#include "fake_registry.hpp"
#include "http/client.hpp"
#include "http/server.hpp"
#include "pull/rights_ledger.hpp"
#include "runtime/disk_pool.hpp"
#include "runtime/filesystem.hpp"
#include "runtime/loop.hpp"
#include "runtime/task_group.hpp"
#include "store/blob_store.hpp"
#include "store/catalog_descriptor_service.hpp"
#include "store/parts.hpp"
#include "streamcache/file_cache.hpp"
#include "support/temp_directory.hpp"
#include "upstream/http_registry.hpp"

namespace sluice::test {

class Fixture {
 public:
  struct Params {
    // Where the data stands; none: a directory of its own.
    std::filesystem::path data = {};
    SizeLimit max_size = {};  // of the store; off
    std::optional<std::uint64_t> window_bytes = 256 * 1024;
    streamcache::Abandoned abandoned = streamcache::Abandoned::finish;
    std::size_t read_bytes = 64 * 1024;
    std::size_t resume_attempts = 5;
    std::chrono::milliseconds window_patience{10'000};
    bool direct_ranges = true;
    std::uint64_t range_limit_bytes = 512 * 1024;
    std::chrono::milliseconds tag_ttl{60'000};
    std::chrono::milliseconds stale_for{0};
    std::chrono::milliseconds negative_ttl{5'000};
    std::chrono::milliseconds descriptor_ttl{86'400'000};
    std::uint64_t manifest_memory_bytes = 1 << 20;
    std::uint64_t blob_memory_bytes = 1 << 20;
    bool delete_enabled = false;
    // The URL of a third upstream, called origin.test, which is asked over HTTP; empty: there is none.
    std::string origin_url = {};
    std::size_t origin_connections = 64;
    std::chrono::milliseconds origin_patience{500};  // for the head of an answer, and for a turn
    // How long requests may wait for that one, and its first try; 0: as in access::Upstreams, and 10 s.
    std::chrono::milliseconds origin_request_timeout{0};
    std::chrono::milliseconds origin_endpoint_timeout{10'000};
    std::chrono::milliseconds origin_first_byte_timeout{500};
    std::optional<access::Passthrough> origin_passthrough = {};
    std::string pseudonym = {};  // what Via calls the cache
    // Changes anything else of how that one is asked; empty: nothing.
    std::function<void(upstream::HttpRegistry::Params&)> tune_origin = {};
    // Set: quay.io is asked with each client's own Authorization.
    std::optional<access::Passthrough> quay_passthrough = {};
    std::string host_pattern = {};
    access::Prefetch prefetch = access::Prefetch::none;  // of docker.io and quay.io
    pull::Prefetcher::Params prefetcher = {};
    bool ready_answers = true;  // off: every request goes the long way
    // What the upstreams' rights hang on, by their names; empty: nothing is said of it.
    pull::RightsLedger::Claims rights = {};
  };

  Fixture() : Fixture(Params{}) {}
  explicit Fixture(Params params);
  ~Fixture();
  Fixture(const Fixture&) = delete;
  Fixture& operator=(const Fixture&) = delete;

  // As the program ends: connections are cut, fills cancelled. Idempotent; whether everything has ended in time.
  bool stop();

  [[nodiscard]] std::uint16_t port() const { return server_->port(); }
  // docker.io, the default, with the library/ prefix; and quay.io.
  FakeRegistry& hub() { return *hub_; }
  FakeRegistry& quay() { return *quay_; }
  ManualClock& clock() { return clock_; }
  store::BlobStore& store() { return store_; }
  store::Parts& parts() { return parts_; }
  access::RepositoryRules& rules() { return rules_; }
  access::Upstreams& upstreams() { return upstreams_; }
  access::LoginGate& logins() { return logins_; }
  [[nodiscard]] const metrics::Registry& registry() const { return registry_; }
  runtime::FaultyFilesystem& filesystem() { return filesystem_; }
  const std::filesystem::path& data() const { return data_; }

  // As a reload does it: the upstream's rights hang on that now. It is asked through `registry`, where there is one,
  // and whoever reaches the cache may pull unless `passthrough` says otherwise.
  void change_rights(const std::string& name, const pull::RightsLedger::Claim& claim,
                     std::shared_ptr<upstream::Registry> registry = nullptr,
                     std::optional<access::Passthrough> passthrough = std::nullopt);

  // The value of a metric, summed over what the labels leave open.
  [[nodiscard]] double metric(std::string_view name, const metrics::Labels& labels = {}) const;
  // Blocks until the metric is that; false after twenty seconds.
  bool wait_for_metric(std::string_view name, double value, const metrics::Labels& labels = {}) const;
  [[nodiscard]] double blobs(std::string_view result) const {
    return metric("sluice_blob_requests_total", {{"result", std::string(result)}});
  }
  // A request is counted after its last byte was sent, so these wait for that.
  bool counted_blobs(std::string_view result, double count) const {
    return wait_for_metric("sluice_blob_requests_total", count, {{"result", std::string(result)}});
  }
  bool counted_manifests(std::string_view result, double count) const {
    return wait_for_metric("sluice_manifest_requests_total", count, {{"result", std::string(result)}});
  }
  // Blocks until no fill runs.
  bool wait_idle() const { return wait_for_metric("sluice_fills_in_flight", 0); }
  // Lines written so far.
  std::vector<std::string> access_log();
  // Regular files below incoming/.
  [[nodiscard]] std::size_t incoming_files() const;

 private:
  void add_origin();

  const Params params_;
  std::optional<TempDirectory> own_;
  const std::filesystem::path data_;
  TempDirectory logs_;
  ManualClock clock_;
  metrics::Registry registry_;
  runtime::PosixFilesystem posix_;
  runtime::FaultyFilesystem filesystem_{posix_};
  runtime::DiskPool pool_{2};
  runtime::LoopPool loops_{2, std::chrono::milliseconds(5)};
  runtime::TaskGroup fills_{"fill"};
  store::BlobStore store_;
  store::Parts parts_;
  store::CatalogDescriptorService catalog_{store_};
  descriptors::MemoryDescriptorCache front_;
  http::Client client_{{.loops = 2}};
  access::Upstreams upstreams_;
  FakeRegistry* hub_;
  FakeRegistry* quay_;
  const pull::Metrics metrics_{registry_};
  access::BlobAccess access_;
  streamcache::FileCache cache_;
  pull::BlobService blobs_;
  pull::ManifestService manifests_;
  descriptors::RightsMarks marks_;
  pull::RightsLedger rights_{{store_, access_, manifests_, marks_}};
  pull::RightsLedger::Claims claims_;
  pull::Prefetcher prefetcher_;
  pull::Listings listings_;
  pull::Referrers referrers_;
  access::AccessGate gate_;
  access::RepositoryRules rules_;
  access::LoginGate logins_;  // none are needed until a test sets a file
  pull::Removal removal_{{access_, blobs_, manifests_, store_, parts_, pool_}};
  std::unique_ptr<api::AccessLog> access_log_;
  std::unique_ptr<api::Api> api_;
  std::unique_ptr<http::Server> server_;
  bool stopped_ = false;
  bool clean_ = true;
};

// Bytes that do not repeat, the same for the same seed.
std::string content(std::size_t size, unsigned seed = 1);

std::string blob_path(std::string_view repository, const oci::Digest& digest);
std::string manifest_path(std::string_view repository, std::string_view reference);
inline std::string manifest_path(std::string_view repository, const oci::Digest& digest) {
  return manifest_path(repository, digest.to_string());
}

// An image of one layer.
std::string image_manifest(const oci::Digest& config, std::uint64_t config_size, const oci::Digest& layer,
                           std::uint64_t layer_size, std::string_view media_type);
// One that differs from others by its number alone, and names blobs that nobody has.
std::string image_manifest(unsigned number, std::string_view media_type);
std::string index_manifest(const oci::Digest& manifest, std::uint64_t size);

// The first error code of an error's body.
std::string error_code(const std::string& body);

}  // namespace sluice::test
