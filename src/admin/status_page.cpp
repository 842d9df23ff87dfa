#include "admin/status_page.hpp"

#include <algorithm>
#include <cstdint>

#include <fmt/format.h>

#include "base/units.hpp"

namespace sluice::admin {
namespace {

constexpr std::string_view kHead = R"(<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>sluice</title><style>
body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:.5rem 0}td,th{padding:.2rem .9rem .2rem 0;text-align:left}
td.n{text-align:right;font-variant-numeric:tabular-nums}.bad{color:#b00}
</style></head><body>
)";

const metrics::Family* find(const std::vector<metrics::Family>& families, std::string_view name) {
  const auto at = std::find_if(families.begin(), families.end(), [&](const auto& f) { return f.name == name; });
  return at == families.end() ? nullptr : &*at;
}

double sum(const std::vector<metrics::Family>& families, std::string_view name) {
  double out = 0;
  if (const metrics::Family* family = find(families, name)) {
    for (const metrics::Sample& sample : family->samples) out += sample.value;
  }
  return out;
}

double with_result(const metrics::Family& family, std::string_view result) {
  double out = 0;
  for (const metrics::Sample& sample : family.samples) {
    for (const auto& [label, value] : sample.labels) {
      if (label == "result" && value == result) out += sample.value;
    }
  }
  return out;
}

std::string percent(double part, double whole) {
  return whole > 0 ? fmt::format("{:.1f} %", 100 * part / whole) : std::string("no requests yet");
}

void row(std::string& out, std::string_view label, std::string_view value) {
  out += fmt::format("<tr><th>{}</th><td class=\"n\">{}</td></tr>\n", html_escaped(label), html_escaped(value));
}

// How many requests were answered without waiting for upstream on their own account.
void request_row(std::string& out, const std::vector<metrics::Family>& families, std::string_view label,
                 std::string_view name) {
  const metrics::Family* family = find(families, name);
  if (family == nullptr) return;
  const double served = with_result(*family, "hit") + with_result(*family, "join") + with_result(*family, "stale");
  row(out, label, percent(served, served + with_result(*family, "miss") + with_result(*family, "error")));
}

void hit_rates(std::string& out, const std::vector<metrics::Family>& families) {
  out += "<h2>Answered from the cache</h2>\n<table>\n";
  request_row(out, families, "Blobs", "sluice_blob_requests_total");
  request_row(out, families, "Manifests", "sluice_manifest_requests_total");
  if (find(families, "sluice_descriptor_cache_requests_total") != nullptr) {
    row(out, "Descriptors",
        percent(sum(families, "sluice_descriptor_cache_hits_total"),
                sum(families, "sluice_descriptor_cache_requests_total")));
  }
  const auto bytes = [&](std::string_view label, std::string_view name) {
    if (find(families, name) == nullptr) return;
    row(out, label, format_bytes(static_cast<std::uint64_t>(std::max(0.0, sum(families, name)))));
  };
  bytes("Sent to clients", "sluice_client_sent_bytes_total");
  bytes("Received from upstream", "sluice_fill_received_bytes_total");
  out += "</table>\n";
}

void readiness(std::string& out, const std::vector<Readiness::Check>& checks) {
  const bool ready = std::all_of(checks.begin(), checks.end(), [](const auto& check) { return check.met; });
  out += ready ? "<p>Ready to serve.</p>\n" : "<p class=\"bad\">Not ready.</p>\n";
  if (ready) return;
  out += "<ul>\n";
  for (const Readiness::Check& check : checks) {
    if (!check.met) out += fmt::format("<li>{}: {}</li>\n", html_escaped(check.name), html_escaped(check.reason));
  }
  out += "</ul>\n";
}

}  // namespace

std::string html_escaped(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      case '\'': out += "&#39;"; break;
      default: out += c;
    }
  }
  return out;
}

std::string render(const StatusPage& page) {
  std::string out(kHead);
  out += fmt::format("<h1>sluice {}</h1>\n<p>Up for {}.</p>\n", html_escaped(page.version),
                     html_escaped(format_duration(page.uptime)));
  readiness(out, page.checks);
  hit_rates(out, page.families);
  out += R"(<h2>For machines</h2>
<ul>
<li><a href="/metrics">/metrics</a>: counters in the Prometheus text format</li>
<li><a href="/healthz">/healthz</a>: 200 while the process lives</li>
<li><a href="/readyz">/readyz</a>: 200 when it may be given requests, else 503, with the reasons</li>
</ul>
</body></html>
)";
  return out;
}

}  // namespace sluice::admin
