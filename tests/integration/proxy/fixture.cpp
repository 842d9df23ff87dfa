#include "fixture.hpp"

#include <algorithm>
#include <fstream>
#include <random>
#include <stdexcept>
#include <thread>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "oci/media_type.hpp"
#include "runtime/pause.hpp"
#include "upstream/http_registry.hpp"
#include "upstream/watched_registry.hpp"

namespace sluice::test {
namespace {

using namespace std::chrono_literals;

constexpr auto kPatience = 20s;

store::BlobStore::Params store_params(const std::filesystem::path& root, SizeLimit max_size) {
  store::BlobStore::Params params;
  params.root = root;
  params.durability = store::Durability::none;
  params.max_size = max_size;
  return params;
}

streamcache::FileCache::Params fill_params(const Fixture::Params& from, const store::BlobStore& store) {
  streamcache::FileCache::Params params;
  params.directory = store.layout().incoming();
  params.retain = false;
  params.pipe.hold_back_bytes = 1;
  params.pipe.window_bytes = from.window_bytes;
  params.pipe.abandoned = from.abandoned;
  params.pipe.unstored = true;
  params.wait_for_abandoned = true;
  return params;
}

pull::BlobService::Params blob_params(const Fixture::Params& from) {
  pull::BlobService::Params params;
  params.memory_bytes = from.blob_memory_bytes;
  params.transfer.read_bytes = from.read_bytes;
  params.transfer.attempts = from.resume_attempts;
  params.transfer.backoff = 1ms;
  params.transfer.patience = from.window_patience;
  params.ranges.enabled = from.direct_ranges;
  params.ranges.limit_bytes = from.range_limit_bytes;
  if (from.window_bytes) params.ranges.ahead_bytes = *from.window_bytes;
  return params;
}

pull::ManifestService::Params manifest_params(const Fixture::Params& from) {
  pull::ManifestService::Params params;
  params.memory_bytes = from.manifest_memory_bytes;
  params.tag_ttl = from.tag_ttl;
  params.stale_for = from.stale_for;
  params.negative.ttl = from.negative_ttl;
  return params;
}

FakeRegistry* add(access::Upstreams& upstreams, metrics::Registry& metrics, const std::string& name,
                  access::Upstreams::Options options) {
  auto made = std::make_unique<FakeRegistry>(name);
  FakeRegistry* const registry = made.get();
  upstreams.add(std::move(made), options, std::make_shared<const access::UpstreamMetrics>(metrics, name));
  return registry;
}

}  // namespace

Fixture::Fixture(Params params)
    : params_(std::move(params)),
      data_(params_.data.empty() ? own_.emplace().path() / "data" : params_.data),
      store_(store_params(data_, params_.max_size), filesystem_, pool_, clock_, registry_),
      parts_({.root = data_}, filesystem_, clock_, registry_),
      upstreams_({"docker.io", params_.host_pattern}),
      hub_(add(upstreams_, registry_, "docker.io", {true, std::nullopt, params_.prefetch})),
      quay_(add(upstreams_, registry_, "quay.io", {false, params_.quay_passthrough, params_.prefetch})),
      access_({.front_name = "memory", .negative = {.ttl = params_.negative_ttl}, .ttl = params_.descriptor_ttl},
              front_, catalog_, clock_, fills_, registry_),
      cache_(fill_params(params_, store_), filesystem_, pool_, clock_, fills_, registry_),
      blobs_(blob_params(params_), access_, store_, parts_, cache_, pool_, filesystem_, clock_, fills_, metrics_),
      manifests_(manifest_params(params_), access_, store_, pool_, clock_, fills_, metrics_),
      prefetcher_(params_.prefetcher, blobs_, loops_, pool_, clock_, fills_, registry_),
      listings_({.tag_ttl = params_.tag_ttl, .stale_for = params_.stale_for, .negative = {.ttl = params_.negative_ttl}},
                upstreams_, store_, pool_, clock_, fills_),
      referrers_({.tag_ttl = params_.tag_ttl, .empty_ttl = params_.negative_ttl, .stale_for = params_.stale_for},
                 manifests_, store_, pool_, clock_, fills_),
      gate_({}, clock_, fills_, registry_),
      logins_({}, clock_, fills_, registry_) {
  if (!params_.origin_url.empty()) add_origin();
  auto log = api::AccessLog::open({.file = logs_.path() / "access.log"});
  if (!log) throw std::runtime_error(log.error().message);
  access_log_ = std::move(*log);
  store_.set_on_evicted([this](const oci::Digest& gone) {
    blobs_.forget(gone);
    manifests_.forget(gone);
  });
  if (const Result<void> started = store_.start(); !started) throw std::runtime_error(started.error().message);
  claims_ = params_.rights;
  if (!claims_.empty()) upstreams_.set_terms(rights_.settle(claims_));
  store_.wait_for_walk();
  parts_.start([this](const oci::Digest& digest) { return store_.find(digest).has_value(); });
  loops_.start();
  api_ = std::make_unique<api::Api>(api::Api::Parts{.upstreams = upstreams_,
                                                    .blobs = blobs_,
                                                    .manifests = manifests_,
                                                    .access_log = *access_log_,
                                                    .clock = clock_,
                                                    .removal = params_.delete_enabled ? &removal_ : nullptr,
                                                    .listings = &listings_,
                                                    .referrers = &referrers_,
                                                    .logins = &logins_,
                                                    .rules = &rules_,
                                                    .gate = &gate_,
                                                    .prefetcher = &prefetcher_,
                                                    .pseudonym = params_.pseudonym},
                                    metrics_);
  http::Server::Params server;
  server.send_buffer_bytes = 32 * 1024;
  server.disk_pool = &pool_;
  server.ready_answers = params_.ready_answers;
  server_ = std::make_unique<http::Server>(loops_, *api_, server, registry_);
  if (const Result<void> listening = server_->listen("127.0.0.1:0"); !listening) {
    throw std::runtime_error(listening.error().message);
  }
}

Fixture::~Fixture() { stop(); }

void Fixture::add_origin() {
  upstream::HttpRegistry::Params origin;
  origin.name = "origin.test";
  origin.base = http::Url::parse(params_.origin_url).value();
  origin.retries = 1;
  origin.backoff_base = 1ms;
  origin.headers_timeout = params_.origin_patience;
  origin.max_connections = params_.origin_connections;
  origin.endpoint_timeout = params_.origin_endpoint_timeout;
  origin.first_byte_timeout = params_.origin_first_byte_timeout;
  origin.pseudonym = params_.pseudonym;
  if (params_.tune_origin) params_.tune_origin(origin);
  access::Upstreams::Options options;
  options.request_timeout = params_.origin_request_timeout;
  options.passthrough = params_.origin_passthrough;
  auto watched = std::make_unique<upstream::WatchedRegistry>(
      std::make_unique<upstream::HttpRegistry>(std::move(origin), client_, clock_, registry_), clock_, registry_,
      upstream::WatchedRegistry::Params{});
  watched->show(true);
  upstreams_.add(std::move(watched), options);
}

bool Fixture::stop() {
  if (stopped_) return clean_;
  stopped_ = true;
  server_->cancel();
  clean_ = server_->drain(kPatience);
  cache_.stop();
  fills_.cancel();
  clean_ = fills_.wait_for(kPatience) && clean_;
  server_.reset();
  logins_.stop();
  loops_.stop();
  pool_.stop();
  store_.stop();
  return clean_;
}

void Fixture::change_rights(const std::string& name, const pull::RightsLedger::Claim& claim,
                            std::shared_ptr<upstream::Registry> registry,
                            std::optional<access::Passthrough> passthrough) {
  access::Upstreams::Table table;
  for (const std::string& known : upstreams_.names()) {
    access::Upstreams::Upstream upstream = *upstreams_.upstream(known);
    if (known == name) {
      if (registry) upstream.registry = registry;
      upstream.options.passthrough = passthrough;
    }
    table.emplace(access::Upstreams::key(known), std::make_shared<const access::Upstreams::Upstream>(upstream));
  }
  claims_[name] = claim;
  const Result<void> changed = runtime::while_paused(loops_, [&] {
    upstreams_.replace(std::move(table));
    upstreams_.set_terms(rights_.settle(claims_));
  });
  if (!changed) throw std::runtime_error(changed.error().message);
}

double Fixture::metric(std::string_view name, const metrics::Labels& labels) const {
  double sum = 0;
  for (const metrics::Family& family : registry_.collect()) {
    if (family.name != name) continue;
    for (const metrics::Sample& sample : family.samples) {
      const bool matches = std::all_of(labels.begin(), labels.end(), [&](const auto& label) {
        return std::find(sample.labels.begin(), sample.labels.end(), label) != sample.labels.end();
      });
      if (matches) sum += sample.value;
    }
  }
  return sum;
}

bool Fixture::wait_for_metric(std::string_view name, double value, const metrics::Labels& labels) const {
  const auto give_up = std::chrono::steady_clock::now() + kPatience;
  while (metric(name, labels) != value) {
    if (std::chrono::steady_clock::now() > give_up) return false;
    std::this_thread::yield();
  }
  return true;
}

std::vector<std::string> Fixture::access_log() {
  access_log_->flush();
  std::ifstream in(logs_.path() / "access.log");
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

std::size_t Fixture::incoming_files() const {
  std::size_t count = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(store_.layout().incoming())) {
    count += entry.is_regular_file() ? 1 : 0;
  }
  return count;
}

std::string content(std::size_t size, unsigned seed) {
  std::mt19937_64 random(seed);
  std::string out;
  out.reserve(size + 8);
  while (out.size() < size) {
    const std::uint64_t word = random();
    out.append(reinterpret_cast<const char*>(&word), sizeof word);
  }
  out.resize(size);
  return out;
}

std::string blob_path(std::string_view repository, const oci::Digest& digest) {
  return fmt::format("/v2/{}/blobs/{}", repository, digest.to_string());
}

std::string manifest_path(std::string_view repository, std::string_view reference) {
  return fmt::format("/v2/{}/manifests/{}", repository, reference);
}

std::string image_manifest(const oci::Digest& config, std::uint64_t config_size, const oci::Digest& layer,
                           std::uint64_t layer_size, std::string_view media_type) {
  const bool oci_type = media_type == oci::media_type::kOciManifest;
  return nlohmann::json{{"schemaVersion", 2},
                        {"mediaType", media_type},
                        {"config",
                         {{"mediaType", oci_type ? oci::media_type::kOciConfig : oci::media_type::kDockerConfig},
                          {"size", config_size},
                          {"digest", config.to_string()}}},
                        {"layers",
                         {{{"mediaType", oci_type ? oci::media_type::kOciLayerGzip : oci::media_type::kDockerLayer},
                           {"size", layer_size},
                           {"digest", layer.to_string()}}}}}
      .dump();
}

std::string image_manifest(unsigned number, std::string_view media_type) {
  const oci::Digest config = oci::digest_of(oci::Algorithm::sha256, fmt::format("config {}", number));
  const oci::Digest layer = oci::digest_of(oci::Algorithm::sha256, fmt::format("layer {}", number));
  return image_manifest(config, 100, layer, 1000, media_type);
}

std::string index_manifest(const oci::Digest& manifest, std::uint64_t size) {
  return nlohmann::json{{"schemaVersion", 2},
                        {"mediaType", oci::media_type::kOciIndex},
                        {"manifests",
                         {{{"mediaType", oci::media_type::kOciManifest},
                           {"size", size},
                           {"digest", manifest.to_string()},
                           {"platform", {{"architecture", "amd64"}, {"os", "linux"}}}}}}}
      .dump();
}

std::string error_code(const std::string& body) {
  const nlohmann::json parsed = nlohmann::json::parse(body, nullptr, false);
  if (!parsed.is_object() || !parsed.contains("errors") || parsed["errors"].empty()) return "not an error: " + body;
  return parsed["errors"][0].value("code", "no code");
}

}  // namespace sluice::test
