#include <catch2/catch.hpp>

#include "admin/status_page.hpp"

using namespace sluice;
using namespace sluice::admin;
using namespace std::chrono_literals;

namespace {

bool has(const std::string& page, std::string_view text) { return page.find(text) != std::string::npos; }

void count(metrics::Registry& registry, const char* name, const char* result, std::uint64_t n) {
  registry.counter(name, "", {{"result", result}}).add(n);
}

}  // namespace

TEST_CASE("Status page: version, uptime, links and nothing to load", "[admin]") {
  const std::string page = render({"1.2.3", 3723s, {}, {}});
  CHECK(has(page, "<h1>sluice</h1>"));
  CHECK(has(page, "1.2.3"));
  CHECK(has(page, "up for 1h2m3s"));
  CHECK(has(page, "href=\"/metrics\""));
  CHECK(has(page, "Ready to serve"));
  CHECK(has(page, "no requests yet"));
  for (const char* outside : {"http://", "https://", "<script", "<img", "src=", "@import", "url("}) {
    CHECK_FALSE(has(page, outside));
  }
}

TEST_CASE("Status page: hit rates count what did not wait for upstream by itself", "[admin]") {
  metrics::Registry registry;
  count(registry, "sluice_blob_requests_total", "hit", 70);
  count(registry, "sluice_blob_requests_total", "join", 20);
  count(registry, "sluice_blob_requests_total", "miss", 8);
  count(registry, "sluice_blob_requests_total", "error", 2);
  // Upstream's refusals are answers, not the cache's doing.
  count(registry, "sluice_blob_requests_total", "unknown", 5000);
  count(registry, "sluice_blob_requests_total", "denied", 3000);
  count(registry, "sluice_blob_requests_total", "none", 1000);
  count(registry, "sluice_manifest_requests_total", "hit", 0);
  registry.counter("sluice_client_sent_bytes_total", "").add(30 << 20);
  registry.counter("sluice_fill_received_bytes_total", "").add(10 << 20);
  const std::string page = render({"1", 0s, {}, registry.collect()});
  CHECK(has(page, "Blobs from the cache</span><b>90.0 %</b>"));
  CHECK(has(page, "of 100 requests"));
  CHECK(has(page, "<td class=\"n\">5\u2009000</td>"));
  CHECK(has(page, "Manifests from the cache</span><b>–</b>"));
  CHECK(has(page, "Upstream did not send</span><b>20 MiB</b>"));
  CHECK(has(page, "30 MiB to clients, 10 MiB from upstream"));
}

TEST_CASE("Status page: what is stored, against its limit", "[admin]") {
  metrics::Registry registry;
  registry.gauge("sluice_store_bytes", "").set(512 << 20);
  registry.gauge("sluice_store_entries", "").set(1234);
  CHECK(has(render({"1", 0s, {}, registry.collect()}), "1\u2009234 blobs, no limit"));
  registry.gauge("sluice_store_max_bytes", "").set(2LL << 30);
  const std::string page = render({"1", 0s, {}, registry.collect()});
  CHECK(has(page, "1\u2009234 blobs, limit 2 GiB"));
  CHECK(has(page, "width:25.0%"));
}

TEST_CASE("Status page: upstreams, and whether they answer", "[admin]") {
  metrics::Registry registry;
  registry.gauge("sluice_upstream_up", "", {{"upstream", "docker.io"}}).set(1);
  registry.gauge("sluice_upstream_up", "", {{"upstream", "<ghcr>"}}).set(0);
  registry.gauge("sluice_upstream_up", "", {{"upstream", "quay.io"}}).set(1);
  const auto asked = [&](const char* upstream, const char* status, std::uint64_t n) {
    registry.counter("sluice_upstream_requests_total", "", {{"upstream", upstream}, {"status", status}}).add(n);
  };
  asked("docker.io", "2xx", 10);
  asked("docker.io", "404", 5);
  asked("docker.io", "5xx", 3);
  asked("docker.io", "error", 1);
  const std::string page = render({"1", 0s, {}, registry.collect()});
  CHECK(has(
      page,
      "<td>docker.io</td><td><span class=\"good\">answers</span></td><td class=\"n\">15</td><td class=\"n\">4</td>"));
  CHECK(has(page, "<td>&lt;ghcr&gt;</td><td><span class=\"bad\">no usable answers</span>"));
  CHECK(has(page, "<td>quay.io</td><td><span class=\"soft\">not asked yet</span>"));
}

TEST_CASE("Status page: upstreams that are not asked, or refuse our login", "[admin]") {
  metrics::Registry registry;
  registry.gauge("sluice_upstream_up", "", {{"upstream", "docker.io"}}).set(1);
  registry.counter("sluice_upstream_requests_total", "", {{"upstream", "docker.io"}, {"status", "2xx"}}).add(1);
  registry.gauge("sluice_upstream_offline", "", {{"upstream", "docker.io"}}).set(1);
  registry.gauge("sluice_upstream_offline", "", {{"upstream", "ghcr.io"}}).set(0);
  registry.gauge("sluice_upstream_login_refused", "", {{"upstream", "ghcr.io"}}).set(1);
  const std::string page = render({"1", 0s, {}, registry.collect()});
  CHECK(has(page, "<td>docker.io</td><td><span class=\"soft\">offline, not asked</span>"));
  CHECK(has(page, "<td>ghcr.io</td><td><span class=\"bad\">refuses our login</span>"));
}

TEST_CASE("Status page: Redis is there only where it is used", "[admin]") {
  metrics::Registry registry;
  CHECK_FALSE(has(render({"1", 0s, {}, registry.collect()}), "Redis"));
  registry.gauge("sluice_descriptor_redis_breaker_open", "").set(0);
  registry.gauge("sluice_descriptor_redis_connections", "").set(4);
  CHECK(has(render({"1", 0s, {}, registry.collect()}), "<td>Redis</td><td class=\"n\">4 connections</td>"));
  registry.gauge("sluice_descriptor_redis_breaker_open", "").set(1);
  CHECK(has(render({"1", 0s, {}, registry.collect()}), "<td class=\"n bad\">failed, done without</td>"));
}

TEST_CASE("Status page: what is not ready is named, and cannot inject markup", "[admin]") {
  const std::string page = render({"1", 0s, {{"a", true, ""}, {"<b>", false, "x & \"y\""}}, {}});
  CHECK(has(page, "Not ready"));
  CHECK(has(page, "<li>&lt;b&gt;: x &amp; &quot;y&quot;</li>"));
  CHECK_FALSE(has(page, "<li>a"));
  // A remark on something that is met.
  CHECK(has(render({"1", 0s, {{"store", true, "new blobs are not stored"}}, {}}),
            "<li>store: new blobs are not stored</li>"));
}
