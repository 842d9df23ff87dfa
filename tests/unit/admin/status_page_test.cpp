#include <regex>

#include <catch2/catch.hpp>

#include "admin/html.hpp"
#include "admin/status_assets.hpp"
#include "admin/status_page.hpp"

using namespace sluice;
using namespace sluice::admin;
using namespace std::chrono_literals;

namespace {

bool has(const std::string& page, std::string_view text) { return page.find(text) != std::string::npos; }

void count(metrics::Registry& registry, const char* name, const char* result, std::uint64_t n) {
  registry.counter(name, "", {{"result", result}}).add(n);
}

OverviewData data_of(const metrics::Registry& registry) {
  OverviewData out;
  out.version = "1.2.3";
  out.at = Clock::Wall(1000h + 1min);
  out.families = registry.collect();
  out.totals = totals_of(out.families);
  out.hour = out.totals;
  return out;
}

std::string page_of(const metrics::Registry& registry) { return render(data_of(registry)); }

const std::string& section(const Sections& sections, std::string_view id) {
  static const std::string none;
  for (const auto& [name, html] : sections) {
    if (name == id) return html;
  }
  return none;
}

}  // namespace

TEST_CASE("Status page: version, uptime, links and nothing to load", "[admin]") {
  OverviewData data;
  data.version = "1.2.3";
  data.uptime = 3723s + 900ms;
  data.at = Clock::Wall(1000h + 61s);
  const std::string page = render(data);
  CHECK(has(page, "<h1>sluice</h1>"));
  CHECK(has(page, "1.2.3"));
  CHECK(has(page, "up for 1h2m3s"));
  CHECK(has(page, "as of 16:01:01 UTC"));
  CHECK(has(page, "href=\"metrics\""));
  CHECK(has(page, "Ready to serve"));
  CHECK(has(page, "no requests yet"));
  CHECK(has(page, "nobody has asked"));
  // The namespace of the icon is a name, and loads nothing.
  const std::string checked = std::regex_replace(page, std::regex("http://www.w3.org/2000/svg"), "");
  for (const char* outside : {"http://", "https://", "<img", " src=", "@import", "url(", "style=", "onclick"}) {
    CHECK_FALSE(has(checked, outside));
  }
}

TEST_CASE("Status page: its policy names the style and the script that stand in it", "[admin]") {
  const std::string page = render({});
  CHECK(has(page, "<style>" + std::string(status_style()) + "</style>"));
  CHECK(has(page, "<script>" + std::string(status_script()) + "</script>"));
  const std::string& policy = status_policy();
  CHECK(policy.starts_with("default-src 'none'; "));
  CHECK_FALSE(has(policy, "unsafe"));
  CHECK(std::regex_search(policy, std::regex("style-src 'sha256-[A-Za-z0-9+/]{43}='; ")));
  CHECK(std::regex_search(policy, std::regex("script-src 'sha256-[A-Za-z0-9+/]{43}='; ")));
}

TEST_CASE("Status page: all its parts are in it, and are those of the stream", "[admin]") {
  const OverviewData data;
  const std::string page = render(data);
  for (const auto& [id, html] : render_sections(data)) {
    CHECK(has(page, "<section id=\"" + id + "\">" + html + "</section>"));
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
  const std::string page = page_of(registry);
  CHECK(has(page, "<td>Blobs</td><td class=\"n\">90.0 %</td><td class=\"n\">70</td>"));
  CHECK(has(page, "<td class=\"n w\">5\u2009000</td>"));
  CHECK(has(page, "<td>Manifests</td><td class=\"n\">–</td>"));
  CHECK(has(page, "From the cache, last hour</span><b>90.0 %</b>"));
  CHECK(has(page, "blobs 90.0 %, manifests –"));
  CHECK(has(page, "Saved upstream, last hour</span><b>20 MiB</b>"));
  CHECK(has(page, "30 MiB to clients"));
  CHECK(has(page, "10 MiB from upstream"));
}

TEST_CASE("Status page: clients and pulls of the last hour", "[admin]") {
  OverviewData data;
  data.use = {3, 1, false};
  data.hour.requests = 1234;
  CHECK(has(render(data), "Clients, last hour</span><b>3</b>"));
  CHECK(has(render(data), "1 pull, 1\u2009234 requests"));
  data.use.at_least = true;
  CHECK(has(render(data), "<b>at least 3</b>"));
}

TEST_CASE("Status page: what is stored, against its limit", "[admin]") {
  metrics::Registry registry;
  registry.gauge("sluice_store_bytes", "").set(512 << 20);
  registry.gauge("sluice_store_entries", "").set(1234);
  CHECK(has(page_of(registry), "1\u2009234 blobs, no limit; nothing was evicted"));
  registry.gauge("sluice_store_max_bytes", "").set(2LL << 30);
  registry.counter("sluice_store_evicted_total", "").add(2);
  metrics::Histogram& ages = registry.histogram("sluice_store_eviction_age_seconds", "", {3600, 86400});
  ages.observe(2 * 86400);
  ages.observe(4 * 86400);
  const std::string page = page_of(registry);
  CHECK(has(page, "1\u2009234 blobs, limit 2 GiB; what was evicted had been unused for 3 days on average"));
  CHECK(has(page, "<rect width=\"25.0\" height=\"1\"/>"));
}

TEST_CASE("Status page: downloads in flight, their readers, and who sets the pace", "[admin]") {
  OverviewData data;
  CHECK(has(section(render_sections(data), "fills"), "None at the moment."));
  data.fills.push_back({"docker.io", "sha256:0123456789abcdef", 90s, 10 << 20, 40 << 20, 5, true, false});
  data.fills.push_back({"<ghcr>", "sha256:ffffffffffffffff", 1s, 10 << 20, std::nullopt, 1, false, true});
  metrics::Registry registry;
  registry.gauge("sluice_fills_in_flight", "").set(30);
  data.families = registry.collect();
  const std::string fills = section(render_sections(data), "fills");
  CHECK(has(fills, "<code><span class=\"w\">sha256:</span>0123456789ab</code>"));
  CHECK(has(fills, "10 MiB of 40 MiB<svg"));
  CHECK(has(fills, "<rect width=\"25.0\""));
  CHECK(has(fills, "<td class=\"n\">5</td><td class=\"n w\">1 minute</td><td>the fastest reader</td>"));
  CHECK(has(fills, "10 MiB, size unknown"));
  CHECK(has(fills, "&lt;ghcr&gt;"));
  CHECK(has(fills, "<td>upstream <span class=\"bad\">(not stored)</span></td>"));
  CHECK(has(fills, "The oldest 2 of 30."));
}

TEST_CASE("Status page: upstreams, and whether they answer", "[admin]") {
  metrics::Registry registry;
  registry.gauge("sluice_upstream_up", "", {{"upstream", "docker.io"}}).set(1);
  registry.gauge("sluice_upstream_up", "", {{"upstream", "<ghcr>"}}).set(0);
  registry.gauge("sluice_upstream_up", "", {{"upstream", "quay.io"}}).set(1);
  metrics::Gauge& waiting = registry.gauge("sluice_upstream_waiting", "", {{"upstream", "quay.io"}});
  const auto asked = [&](const char* upstream, const char* status, std::uint64_t n) {
    registry.counter("sluice_upstream_requests_total", "", {{"upstream", upstream}, {"status", status}}).add(n);
  };
  asked("docker.io", "2xx", 10);
  asked("docker.io", "404", 5);
  asked("docker.io", "5xx", 3);
  asked("docker.io", "error", 1);
  const std::string page = page_of(registry);
  CHECK(has(page,
            "<td>docker.io</td><td><span class=\"good\">answers</span></td><td class=\"n w\">15</td><td "
            "class=\"n\">4</td><td class=\"n\">–</td>"));
  CHECK(has(page, "<td>&lt;ghcr&gt;</td><td><span class=\"bad\">no usable answers</span>"));
  CHECK(has(page, "<td colspan=\"8\" class=\"soft\">not asked yet: quay.io</td>"));
  waiting.set(2);
  const std::string first = page_of(registry);
  CHECK(has(first, "<td>quay.io</td><td><span class=\"soft\">not asked yet</span>"));
  CHECK(has(first, "<td class=\"n w\">2 requests</td>"));
}

TEST_CASE("Status page: the quota that is left, and the queue", "[admin]") {
  metrics::Registry registry;
  const auto quota = [&](const char* source, std::int64_t left, std::int64_t limit) {
    registry.gauge("sluice_upstream_ratelimit_remaining", "", {{"upstream", "docker.io"}, {"source", source}})
        .set(left);
    registry.gauge("sluice_upstream_ratelimit_limit", "", {{"upstream", "docker.io"}, {"source", source}}).set(limit);
  };
  registry.counter("sluice_upstream_requests_total", "", {{"upstream", "docker.io"}, {"status", "2xx"}}).add(1);
  quota("10.0.0.1", 87, 100);
  quota("10.0.0.2", 150, 200);
  CHECK(has(page_of(registry), "<td class=\"n\">87 of 100 left</td>"));
  quota("10.0.0.2", 5, 200);
  CHECK(has(page_of(registry), "<td class=\"n\"><span class=\"bad\">5 of 200 left</span></td>"));
  registry.histogram("sluice_upstream_wait_seconds", "", {1}, {{"upstream", "docker.io"}}).observe(0.25);
  CHECK(has(page_of(registry), "<td class=\"n w\">250 ms</td>"));
  registry.gauge("sluice_upstream_waiting", "", {{"upstream", "docker.io"}}).set(2);
  CHECK(has(page_of(registry), "<td class=\"n w\">2 requests</td>"));
}

TEST_CASE("Status page: upstreams that are not asked, or refuse our login", "[admin]") {
  metrics::Registry registry;
  registry.gauge("sluice_upstream_up", "", {{"upstream", "docker.io"}}).set(1);
  registry.counter("sluice_upstream_requests_total", "", {{"upstream", "docker.io"}, {"status", "2xx"}}).add(1);
  registry.gauge("sluice_upstream_offline", "", {{"upstream", "docker.io"}}).set(1);
  registry.gauge("sluice_upstream_offline", "", {{"upstream", "ghcr.io"}}).set(0);
  registry.gauge("sluice_upstream_login_refused", "", {{"upstream", "ghcr.io"}}).set(1);
  const std::string page = page_of(registry);
  CHECK(has(page, "<td>docker.io</td><td><span class=\"soft\">offline, not asked</span>"));
  CHECK(has(page, "<td>ghcr.io</td><td><span class=\"bad\">refuses our login</span>"));
}

TEST_CASE("Status page: what is hot, and what is big", "[admin]") {
  OverviewData data;
  CHECK(has(render(data), "No repository was asked for."));
  CHECK(has(render(data), "No repository is stored."));
  data.hot.push_back({"docker.io/library/<a>", 12, 3 << 20});
  data.big.push_back({"docker.io/library/b", 7 << 20, 1});
  const std::string hot = section(render_sections(data), "hot");
  CHECK(has(
      hot,
      "<td class=\"name\">docker.io/library/&lt;a&gt;</td><td class=\"n\">12 requests</td><td class=\"n\">3 MiB</td>"));
  CHECK(has(hot, "<td class=\"name\">docker.io/library/b</td><td class=\"n\">1 blob</td><td class=\"n\">7 MiB</td>"));
}

TEST_CASE("Status page: recent errors, which cannot inject markup", "[admin]") {
  OverviewData data;
  data.at = Clock::Wall(1000h);
  CHECK(has(render(data), "None since the start."));
  data.errors.push_back({data.at - 5min, log::Level::error, "upstream", "<script>alert(1)</script>", 3});
  data.errors.push_back({data.at - 5s, log::Level::warn, "store", "disk full", 1});
  const std::string errors = section(render_sections(data), "errors");
  CHECK(has(errors,
            "<span class=\"soft\">5 minutes ago, 3 times</span> <span class=\"bad\">upstream: "
            "&lt;script&gt;alert(1)&lt;/script&gt;</span>"));
  CHECK(has(errors, "<span class=\"soft\">less than a minute ago</span> <span class=\"warn\">store: disk full</span>"));
}

TEST_CASE("Status page: Redis is there only where it is used", "[admin]") {
  metrics::Registry registry;
  CHECK_FALSE(has(page_of(registry), "Redis"));
  registry.gauge("sluice_descriptor_redis_breaker_open", "").set(0);
  registry.gauge("sluice_descriptor_redis_connections", "").set(4);
  CHECK(has(page_of(registry), "<td>Redis</td><td class=\"n\">4 connections</td>"));
  registry.gauge("sluice_descriptor_redis_breaker_open", "").set(1);
  CHECK(has(page_of(registry), "<td class=\"n bad\">unavailable, bypassed</td>"));
}

TEST_CASE("Status page: what is not ready is named, and cannot inject markup", "[admin]") {
  OverviewData data;
  data.checks = {{"a", true, ""}, {"<b>", false, "x & \"y\""}};
  const std::string page = render(data);
  CHECK(has(page, "Not ready"));
  CHECK(has(page, "<li>&lt;b&gt;: x &amp; &quot;y&quot;</li>"));
  CHECK_FALSE(has(page, "<li>a"));
  // A remark on something that is met.
  data.checks = {{"store", true, "new blobs are not stored"}};
  CHECK(has(render(data), "<li>store: new blobs are not stored</li>"));
}
