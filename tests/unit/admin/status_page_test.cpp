#include <catch2/catch.hpp>

#include "admin/status_page.hpp"

using namespace sluice;
using namespace sluice::admin;
using namespace std::chrono_literals;

namespace {

bool has(const std::string& page, std::string_view text) { return page.find(text) != std::string::npos; }

}  // namespace

TEST_CASE("Status page: version, uptime, links and nothing to load", "[admin]") {
  const std::string page = render({"1.2.3", 3723s, {}, {}});
  CHECK(has(page, "<h1>sluice 1.2.3</h1>"));
  CHECK(has(page, "Up for 1h2m3s."));
  CHECK(has(page, "href=\"/metrics\""));
  CHECK(has(page, "Ready to serve."));
  for (const char* outside : {"http://", "https://", "<script", "<img", "src="}) CHECK_FALSE(has(page, outside));
}

TEST_CASE("Status page: hit rates count what did not wait for upstream by itself", "[admin]") {
  metrics::Registry registry;
  const auto requests = [&](const char* result, std::uint64_t n) {
    registry.counter("sluice_blob_requests_total", "", {{"result", result}}).add(n);
  };
  requests("hit", 70);
  requests("join", 20);
  requests("miss", 8);
  requests("error", 2);
  requests("none", 1000);
  registry.counter("sluice_manifest_requests_total", "", {{"result", "hit"}});
  registry.counter("sluice_descriptor_cache_hits_total", "").add(1);
  registry.counter("sluice_descriptor_cache_requests_total", "").add(4);
  registry.counter("sluice_client_sent_bytes_total", "").add(3 << 20);
  const std::string page = render({"1", 0s, {}, registry.collect()});
  CHECK(has(page, "<th>Blobs</th><td class=\"n\">90.0 %</td>"));
  CHECK(has(page, "<th>Manifests</th><td class=\"n\">no requests yet</td>"));
  CHECK(has(page, "<th>Descriptors</th><td class=\"n\">25.0 %</td>"));
  CHECK(has(page, "<th>Sent to clients</th><td class=\"n\">3 MiB</td>"));
}

TEST_CASE("Status page: what is not ready is named, and cannot inject markup", "[admin]") {
  const std::string page = render({"1", 0s, {{"a", true, ""}, {"<b>", false, "x & \"y\""}}, {}});
  CHECK(has(page, "Not ready."));
  CHECK(has(page, "<li>&lt;b&gt;: x &amp; &quot;y&quot;</li>"));
  CHECK_FALSE(has(page, "<li>a"));
}
