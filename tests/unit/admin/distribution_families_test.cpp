#include <algorithm>

#include <catch2/catch.hpp>

#include "admin/distribution_families.hpp"
#include "admin/prometheus_text.hpp"

using namespace sluice;

namespace {

void count(metrics::Registry& registry, const char* family, metrics::Labels labels, std::uint64_t value) {
  registry.counter(family, "", std::move(labels)).add(value);
}

std::string text_of(const metrics::Registry& registry) {
  std::vector<metrics::Family> families = registry.collect();
  admin::add_distribution_families(families);
  CHECK(std::is_sorted(families.begin(), families.end(), [](const auto& a, const auto& b) { return a.name < b.name; }));
  return admin::prometheus_text(families);
}

bool has(const std::string& text, const std::string& line) { return text.find(line + "\n") != std::string::npos; }

}  // namespace

TEST_CASE("Distribution's families: sums over upstreams and results", "[admin]") {
  metrics::Registry registry;
  for (const char* upstream : {"docker.io", "quay.io"}) {
    count(registry, "sluice_blob_requests_total", {{"upstream", upstream}, {"result", "hit"}}, 10);
    count(registry, "sluice_blob_requests_total", {{"upstream", upstream}, {"result", "join"}}, 3);
    count(registry, "sluice_blob_requests_total", {{"upstream", upstream}, {"result", "miss"}}, 2);
    count(registry, "sluice_blob_requests_total", {{"upstream", upstream}, {"result", "error"}}, 1);
    count(registry, "sluice_blob_requests_total", {{"upstream", upstream}, {"result", "none"}}, 100);
    count(registry, "sluice_manifest_requests_total", {{"upstream", upstream}, {"result", "stale"}}, 4);
    count(registry, "sluice_fill_received_bytes_total", {{"upstream", upstream}, {"kind", "blob"}}, 1000);
    count(registry, "sluice_fill_received_bytes_total", {{"upstream", upstream}, {"kind", "range"}}, 50);
    count(registry, "sluice_fill_received_bytes_total", {{"upstream", upstream}, {"kind", "manifest"}}, 7);
    count(registry, "sluice_client_sent_bytes_total", {{"upstream", upstream}, {"kind", "blob"}}, 9000);
  }
  const std::string text = text_of(registry);
  CHECK(has(text, "registry_proxy_requests_total{type=\"blob\"} 32"));
  CHECK(has(text, "registry_proxy_hits_total{type=\"blob\"} 20"));
  CHECK(has(text, "registry_proxy_misses_total{type=\"blob\"} 10"));
  CHECK(has(text, "registry_proxy_hits_total{type=\"manifest\"} 8"));
  CHECK(has(text, "registry_proxy_pulled_bytes_total{type=\"blob\"} 2100"));
  CHECK(has(text, "registry_proxy_pulled_bytes_total{type=\"manifest\"} 14"));
  CHECK(has(text, "registry_proxy_pushed_bytes_total{type=\"blob\"} 18000"));
  CHECK(has(text, "registry_proxy_pushed_bytes_total{type=\"manifest\"} 0"));
}

TEST_CASE("Distribution's families: the descriptor cache", "[admin]") {
  metrics::Registry registry;
  for (const char* provider : {"memory", "redis"}) {
    count(registry, "sluice_descriptor_cache_requests_total", {{"provider", provider}}, 6);
    count(registry, "sluice_descriptor_cache_hits_total", {{"provider", provider}}, 3);
    count(registry, "sluice_descriptor_cache_misses_total", {{"provider", provider}}, 2);
    count(registry, "sluice_descriptor_cache_errors_total", {{"provider", provider}}, 1);
  }
  const std::string text = text_of(registry);
  CHECK(has(text, "registry_storage_cache_total{type=\"Request\"} 12"));
  CHECK(has(text, "registry_storage_cache_total{type=\"Hit\"} 6"));
  CHECK(has(text, "registry_storage_cache_total{type=\"Miss\"} 4"));
  CHECK(has(text, "registry_storage_cache_total{type=\"Error\"} 2"));
  CHECK(has(text, "registry_storage_cache_requests_total 12"));
  CHECK(has(text, "registry_storage_cache_hits_total 6"));
  CHECK(has(text, "registry_storage_cache_errors_total 2"));
}
