#include "admin/status_page.hpp"

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>

#include <fmt/format.h>

#include "base/units.hpp"

namespace sluice::admin {
namespace {

constexpr std::string_view kHead = R"(<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>sluice</title>
<meta name="viewport" content="width=device-width,initial-scale=1"><style>
:root{--ink:#1f2933;--soft:#66737f;--line:#dde3e8;--card:#fff;--page:#f4f6f8;--good:#1a7f4b;--bad:#b3261e;--bar:#2f6fb5}
@media(prefers-color-scheme:dark){:root{--ink:#e4e9ee;--soft:#97a3af;--line:#333d47;--card:#1b2229;--page:#12171c;
--good:#4fc38a;--bad:#f2857d;--bar:#5b9bdc}}
*{box-sizing:border-box}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--page);max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0}h2{font-size:1rem;margin:2rem 0 .5rem}
.soft{color:var(--soft)}.good{color:var(--good)}.bad{color:var(--bad)}
.top{display:flex;flex-wrap:wrap;align-items:baseline;gap:.3rem 1rem}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(12rem,1fr));gap:.8rem;margin-top:1.2rem}
.card,table{background:var(--card);border:1px solid var(--line);border-radius:.5rem}
.card{padding:.8rem 1rem}.card b{display:block;font-size:1.7rem;line-height:1.3;font-variant-numeric:tabular-nums}
.bar{height:.5rem;border-radius:.25rem;background:var(--line);overflow:hidden;margin:.4rem 0 .2rem}
.bar i{display:block;height:100%;background:var(--bar)}
table{border-collapse:separate;border-spacing:0;width:100%}
td,th{padding:.35rem .9rem;text-align:left;font-weight:400}thead th{color:var(--soft);font-size:.85rem}
tr+tr td,tr+tr th,tbody tr:first-child td{border-top:1px solid var(--line)}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
a{color:var(--bar)}code{font-size:.9em}
</style></head><body>
)";

using Families = std::vector<metrics::Family>;

const metrics::Family* find(const Families& families, std::string_view name) {
  const auto at = std::find_if(families.begin(), families.end(), [&](const auto& f) { return f.name == name; });
  return at == families.end() ? nullptr : &*at;
}

std::string_view label(const metrics::Sample& sample, std::string_view name) {
  for (const auto& [key, value] : sample.labels) {
    if (key == name) return value;
  }
  return {};
}

double sum(const Families& families, std::string_view name, std::string_view key = {}, std::string_view value = {}) {
  double out = 0;
  if (const metrics::Family* family = find(families, name)) {
    for (const metrics::Sample& sample : family->samples) {
      if (key.empty() || label(sample, key) == value) out += sample.value;
    }
  }
  return out;
}

std::string bytes(double count) { return format_bytes(static_cast<std::uint64_t>(std::max(0.0, count))); }

std::string count(double number) {
  // With a thin space between thousands.
  std::string digits = fmt::format("{:.0f}", number);
  for (std::size_t at = digits.size(); at > 3; at -= 3) digits.insert(at - 3, "\u2009");
  return digits;
}

// --- Requests.

struct Requests {
  double hit = 0, join = 0, stale = 0, miss = 0, unknown = 0, denied = 0, error = 0;
  // What a client got without a question to upstream of its own.
  [[nodiscard]] double served() const { return hit + join + stale; }
  // Refusals are upstream's answers: they neither help nor hurt the cache.
  [[nodiscard]] double counted() const { return served() + miss + error; }
};

Requests requests(const Families& families, std::string_view name) {
  const auto of = [&](std::string_view result) { return sum(families, name, "result", result); };
  return {of("hit"), of("join"), of("stale"), of("miss"), of("unknown"), of("denied"), of("error")};
}

std::string percent(double part, double whole) {
  return whole > 0 ? fmt::format("{:.1f} %", 100 * part / whole) : std::string("–");
}

void card(std::string& out, std::string_view title, std::string_view value, std::string_view below,
          std::optional<double> share = std::nullopt) {
  out += fmt::format("<div class=\"card\"><span class=\"soft\">{}</span><b>{}</b>", html_escaped(title),
                     html_escaped(value));
  if (share) {
    out += fmt::format("<div class=\"bar\"><i style=\"width:{:.1f}%\"></i></div>", 100 * std::clamp(*share, 0.0, 1.0));
  }
  out += fmt::format("<span class=\"soft\">{}</span></div>\n", html_escaped(below));
}

void hit_card(std::string& out, std::string_view title, const Requests& of) {
  const double counted = of.counted();
  card(out, title, percent(of.served(), counted),
       counted > 0 ? fmt::format("of {} requests", count(counted)) : std::string("no requests yet"),
       counted > 0 ? of.served() / counted : 0);
}

void traffic_card(std::string& out, const Families& families) {
  const double sent = sum(families, "sluice_client_sent_bytes_total");
  const double received = sum(families, "sluice_fill_received_bytes_total");
  card(out, "Upstream did not send", bytes(sent - received),
       fmt::format("{} to clients, {} from upstream", bytes(sent), bytes(received)),
       sent > 0 ? std::optional((sent - received) / sent) : 0);
}

void store_card(std::string& out, const Families& families) {
  const double used = sum(families, "sluice_store_bytes");
  const double limit = sum(families, "sluice_store_max_bytes");
  const std::string blobs = fmt::format("{} blobs", count(sum(families, "sluice_store_entries")));
  if (limit > 0) {
    card(out, "Stored", bytes(used), fmt::format("{}, limit {}", blobs, bytes(limit)), used / limit);
  } else {
    card(out, "Stored", bytes(used), blobs + ", no limit");
  }
}

void cards(std::string& out, const Families& families) {
  out += "<div class=\"cards\">\n";
  hit_card(out, "Blobs from the cache", requests(families, "sluice_blob_requests_total"));
  hit_card(out, "Manifests from the cache", requests(families, "sluice_manifest_requests_total"));
  traffic_card(out, families);
  store_card(out, families);
  out += "</div>\n";
}

void request_row(std::string& out, std::string_view what, const Requests& of) {
  out += fmt::format("<tr><td>{}</td>", what);
  for (const double number : {of.hit, of.join, of.stale, of.miss, of.unknown, of.denied, of.error}) {
    out += fmt::format("<td class=\"n\">{}</td>", count(number));
  }
  out += "</tr>\n";
}

void request_table(std::string& out, const Families& families) {
  out += R"(<h2>Requests</h2>
<table><thead><tr><th></th><th class="n">at rest</th><th class="n">joined</th><th class="n">stale</th><th class="n">fetched</th><th class="n">not there</th><th class="n">refused</th><th class="n">failed</th></tr></thead><tbody>
)";
  request_row(out, "Blobs", requests(families, "sluice_blob_requests_total"));
  request_row(out, "Manifests", requests(families, "sluice_manifest_requests_total"));
  out += "</tbody></table>\n";
}

// --- Upstreams.

struct Row {
  bool up = true;
  bool offline = false;
  bool login_refused = false;
  double answers = 0, failures = 0, received = 0, connections = 0;
};

std::string_view state_of(const Row& row) {
  if (row.offline) return "<span class=\"soft\">offline, not asked</span>";
  if (!row.up) return "<span class=\"bad\">no usable answers</span>";
  if (row.login_refused) return "<span class=\"bad\">refuses our login</span>";
  return row.answers + row.failures > 0 ? "<span class=\"good\">answers</span>"
                                        : "<span class=\"soft\">not asked yet</span>";
}

void upstream_table(std::string& out, const Families& families) {
  std::map<std::string, Row, std::less<>> rows;
  const auto each = [&](std::string_view name, auto visit) {
    const metrics::Family* family = find(families, name);
    if (family == nullptr) return;
    for (const metrics::Sample& sample : family->samples) visit(rows[std::string(label(sample, "upstream"))], sample);
  };
  each("sluice_upstream_up", [](Row& row, const metrics::Sample& sample) { row.up = sample.value != 0; });
  each("sluice_upstream_offline", [](Row& row, const metrics::Sample& sample) { row.offline = sample.value != 0; });
  each("sluice_upstream_login_refused",
       [](Row& row, const metrics::Sample& sample) { row.login_refused = sample.value != 0; });
  each("sluice_upstream_requests_total", [](Row& row, const metrics::Sample& sample) {
    const std::string_view status = label(sample, "status");
    const bool failure = status == "5xx" || status == "429" || status == "error";
    (failure ? row.failures : row.answers) += sample.value;
  });
  each("sluice_upstream_received_bytes_total",
       [](Row& row, const metrics::Sample& sample) { row.received = sample.value; });
  each("sluice_upstream_connections", [](Row& row, const metrics::Sample& sample) { row.connections = sample.value; });
  if (rows.empty()) return;
  out += R"(<h2>Upstreams</h2>
<table><thead><tr><th>name</th><th>state</th><th class="n">answers</th><th class="n">failures</th><th class="n">received</th><th class="n">connections</th></tr></thead><tbody>
)";
  for (const auto& [name, row] : rows) {
    const std::string_view state = state_of(row);
    out += fmt::format(
        "<tr><td>{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>"
        "<td class=\"n\">{}</td></tr>\n",
        html_escaped(name), state, count(row.answers), count(row.failures), bytes(row.received),
        count(row.connections));
  }
  out += "</tbody></table>\n";
}

// --- The rest.

void line(std::string& out, std::string_view name, std::string_view value, bool bad = false) {
  out += fmt::format("<tr><td>{}</td><td class=\"n{}\">{}</td></tr>\n", html_escaped(name), bad ? " bad" : "",
                     html_escaped(value));
}

void state_table(std::string& out, const Families& families) {
  out += "<h2>Now</h2>\n<table><tbody>\n";
  line(out, "Downloads in flight",
       fmt::format("{}, with {} readers", count(sum(families, "sluice_fills_in_flight")),
                   count(sum(families, "sluice_fill_readers"))));
  line(out, "Interrupted downloads, kept for resuming", bytes(sum(families, "sluice_parts_bytes")));
  line(out, "Evicted since the start",
       fmt::format("{} blobs, {}", count(sum(families, "sluice_store_evicted_total")),
                   bytes(sum(families, "sluice_store_evicted_bytes_total"))));
  if (const double dropped = sum(families, "sluice_store_dropped_total"); dropped > 0) {
    line(out, "Missing or damaged, and dropped", fmt::format("{} blobs", count(dropped)), true);
  }
  if (sum(families, "sluice_store_rebuilding") > 0) line(out, "Index", "being rebuilt from the files");
  const double catalog = sum(families, "sluice_store_degraded", "reason", "catalog");
  if (sum(families, "sluice_store_degraded") > catalog) line(out, "Storing", "new blobs are passed on only", true);
  if (catalog > 0) line(out, "Catalog", "cannot be written", true);
  if (find(families, "sluice_descriptor_redis_breaker_open") != nullptr) {
    const bool open = sum(families, "sluice_descriptor_redis_breaker_open") > 0;
    line(out, "Redis",
         open ? std::string("failed, done without")
              : fmt::format("{} connections", count(sum(families, "sluice_descriptor_redis_connections"))),
         open);
  }
  const double asked = sum(families, "sluice_descriptor_cache_requests_total");
  line(out, "Descriptors from a cache", percent(sum(families, "sluice_descriptor_cache_hits_total"), asked));
  line(out, "Memory", bytes(sum(families, "process_resident_memory_bytes")));
  out += "</tbody></table>\n";
}

void readiness(std::string& out, const std::vector<Readiness::Check>& checks) {
  const bool ready = std::all_of(checks.begin(), checks.end(), [](const auto& check) { return check.met; });
  out += ready ? "<span class=\"good\">Ready to serve</span></div>\n" : "<span class=\"bad\">Not ready</span></div>\n";
  const bool silent =
      std::all_of(checks.begin(), checks.end(), [](const auto& c) { return c.met && c.reason.empty(); });
  if (silent) return;
  out += "<ul class=\"bad\">\n";
  for (const Readiness::Check& check : checks) {
    if (check.met && check.reason.empty()) continue;
    out += fmt::format("<li>{}: {}</li>\n", html_escaped(check.name), html_escaped(check.reason));
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
  out += fmt::format(
      "<div class=\"top\"><h1>sluice</h1><span class=\"soft\">{}</span><span class=\"soft\">up for {}</span>",
      html_escaped(page.version), html_escaped(format_duration(page.uptime)));
  readiness(out, page.checks);
  cards(out, page.families);
  request_table(out, page.families);
  upstream_table(out, page.families);
  state_table(out, page.families);
  out += R"(<h2>More</h2>
<p class="soft"><a href="/metrics">/metrics</a> for Prometheus, <a href="/healthz">/healthz</a>, <a href="/readyz">/readyz</a>,
<a href="/api/v1/repositories">/api/v1/repositories</a> and the rest of the API that <code>sluice ls</code>,
<code>stat</code>, <code>rm</code>, <code>gc</code> and <code>verify</code> use.</p>
</body></html>
)";
  return out;
}

}  // namespace sluice::admin
