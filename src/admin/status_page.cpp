#include "admin/status_page.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <ctime>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "admin/html.hpp"
#include "admin/plot.hpp"
#include "admin/status_assets.hpp"
#include "base/units.hpp"

namespace sluice::admin {
namespace {

using namespace std::chrono_literals;

std::string bytes(double count) { return format_bytes(static_cast<std::uint64_t>(std::max(0.0, count))); }

// With a thin space between thousands.
std::string count(double number) {
  std::string digits = fmt::format("{:.0f}", number);
  for (std::size_t at = digits.size(); at > 3; at -= 3) digits.insert(at - 3, "\u2009");
  return digits;
}

std::string counted(double number, std::string_view noun) {
  return fmt::format("{} {}{}", count(number), noun, number == 1 ? "" : "s");
}

std::string percent(double part, double whole) {
  return whole > 0 ? fmt::format("{:.1f} %", 100 * part / whole) : std::string("–");
}

std::string roughly(std::chrono::seconds duration) {
  const auto unit = [](std::int64_t number, std::string_view noun) {
    return counted(static_cast<double>(number), noun);
  };
  if (duration < 1min) return unit(std::max<std::int64_t>(0, duration.count()), "second");
  if (duration < 1h) return unit(duration / 1min, "minute");
  if (duration < 48h) return unit(duration / 1h, "hour");
  return unit(duration / 24h, "day");
}

// The algorithm is hidden on small screens.
std::string short_digest(std::string_view digest) {
  const std::size_t colon = digest.find(':');
  if (colon == std::string_view::npos) return html_escaped(digest);
  return fmt::format("<span class=\"w\">{}</span>{}", html_escaped(digest.substr(0, colon + 1)),
                     html_escaped(digest.substr(colon + 1, 12)));
}

std::string clock_time(Clock::Wall at) {
  const std::time_t seconds = Clock::Wall::clock::to_time_t(at);
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  return fmt::format("{:02}:{:02}:{:02} UTC", parts.tm_hour, parts.tm_min, parts.tm_sec);
}

// --- The line at the top, and what is wrong.

std::string state(const OverviewData& data) {
  const bool ready = Readiness::all_met(data.checks);
  return fmt::format("<span class=\"soft\">up for {}</span><span class=\"{}\">{}</span>",
                     html_escaped(format_duration(std::chrono::floor<std::chrono::seconds>(data.uptime))),
                     ready ? "good" : "bad", ready ? "Ready to serve" : "Not ready");
}

std::string alerts(const OverviewData& data) {
  std::string out;
  for (const Readiness::Check& check : data.checks) {
    if (check.met && check.reason.empty()) continue;
    out += fmt::format("<li>{}: {}</li>\n", html_escaped(check.name), html_escaped(check.reason));
  }
  return out.empty() ? out : "<ul class=\"alerts bad\">\n" + out + "</ul>\n";
}

// --- Cards.

void card(std::string& out, std::string_view title, std::string_view value, std::string_view picture,
          std::string_view below) {
  out += fmt::format(
      "<div class=\"card\"><span class=\"soft\">{}</span><b>{}</b>{}<span class=\"soft note\">{}</span></div>\n",
      html_escaped(title), html_escaped(value), picture, below);
}

void use_card(std::string& out, const OverviewData& data) {
  std::vector<double> requests;
  requests.reserve(data.steps.size());
  for (const Totals& step : data.steps) requests.push_back(step.requests);
  const std::string_view least = data.use.at_least ? "at least " : "";
  const double clients = static_cast<double>(data.use.clients);
  const double pulls = static_cast<double>(data.use.pulls);
  const std::string below = data.hour.requests > 0 || data.use.pulls > 0
                                ? fmt::format("{}, {}", counted(pulls, "pull"), counted(data.hour.requests, "request"))
                                : std::string("nobody has asked: do clients name this cache as their mirror?");
  card(out, "Clients, last hour", fmt::format("{}{}", least, count(clients)),
       bar_plot(requests, {}, "Requests in the last hour"), below);
}

void hit_card(std::string& out, const OverviewData& data) {
  std::vector<std::optional<double>> shares;
  for (const Totals& step : data.steps) {
    const double whole = step.counted();
    shares.push_back(whole > 0 ? std::optional(step.served() / whole) : std::nullopt);
  }
  const Totals& hour = data.hour;
  card(out, "From the cache, last hour", percent(hour.served(), hour.counted()),
       share_plot(shares, "Share of requests answered from the cache in the last hour"),
       hour.counted() > 0
           ? fmt::format(
                 "last 5 minutes {}; blobs {}, manifests {}", percent(data.minutes.served(), data.minutes.counted()),
                 percent(hour.blobs_served, hour.blobs_counted), percent(hour.manifests_served, hour.manifests_counted))
           : std::string("no requests yet"));
}

void traffic_card(std::string& out, const OverviewData& data) {
  std::vector<double> sent;
  std::vector<double> received;
  for (const Totals& step : data.steps) {
    sent.push_back(step.sent_bytes);
    received.push_back(step.received_bytes);
  }
  card(out, "Saved upstream, last hour", bytes(data.hour.sent_bytes - data.hour.received_bytes),
       bar_plot(sent, received, "Bytes to clients and from upstream in the last hour"),
       fmt::format("<span class=\"key\">■</span> {} to clients, <span class=\"key2\">■</span> {} from upstream",
                   bytes(data.hour.sent_bytes), bytes(data.hour.received_bytes)));
}

void store_card(std::string& out, const OverviewData& data) {
  const double used = sum(data.families, "sluice_store_bytes");
  const double limit = sum(data.families, "sluice_store_max_bytes");
  std::string below = counted(sum(data.families, "sluice_store_entries"), "blob");
  below += limit > 0 ? fmt::format(", limit {}", bytes(limit)) : std::string(", no limit");
  if (const std::optional<std::chrono::seconds> age = eviction_age(data.families)) {
    below += fmt::format("; what was evicted had been unused for {} on average", roughly(*age));
  } else if (sum(data.families, "sluice_store_evicted_total") == 0) {
    below += "; nothing was evicted";
  }
  card(out, "Stored", bytes(used), limit > 0 ? share_bar(used / limit) : std::string(), below);
}

std::string cards(const OverviewData& data) {
  std::string out = "<div class=\"cards\">\n";
  use_card(out, data);
  hit_card(out, data);
  traffic_card(out, data);
  store_card(out, data);
  return out + "</div>\n";
}

// --- Fills.

std::string progress(const FillNow& fill) {
  if (!fill.size) return fmt::format("{}, size unknown", bytes(static_cast<double>(fill.bytes)));
  const double share = *fill.size == 0 ? 0 : static_cast<double>(fill.bytes) / static_cast<double>(*fill.size);
  return fmt::format("{} of {}{}", bytes(static_cast<double>(fill.bytes)), bytes(static_cast<double>(*fill.size)),
                     share_bar(share));
}

std::string fills(const OverviewData& data) {
  const double running = sum(data.families, "sluice_fills_in_flight");
  std::string out = "<h2>Downloads in flight</h2>\n";
  if (data.fills.empty()) return out + "<p class=\"box soft\">None at the moment.</p>\n";
  out +=
      R"(<div class="box"><table><thead><tr><th>blob</th><th class="w">upstream</th><th>progress</th><th class="n">readers</th><th class="n w">for</th><th>pace set by</th></tr></thead><tbody>
)";
  for (const FillNow& fill : data.fills) {
    out += fmt::format(
        "<tr><td><code>{}</code></td><td class=\"w\">{}</td><td>{}</td><td class=\"n\">{}</td>"
        "<td class=\"n w\">{}</td><td>{}{}</td></tr>\n",
        short_digest(fill.digest), html_escaped(fill.upstream), progress(fill), fill.readers,
        roughly(std::chrono::duration_cast<std::chrono::seconds>(fill.age)),
        fill.waits_for_readers ? "the fastest reader" : "upstream",
        fill.unstored ? " <span class=\"bad\">(not stored)</span>" : "");
  }
  out += "</tbody></table></div>\n";
  if (running > static_cast<double>(data.fills.size())) {
    out += fmt::format("<p class=\"soft\">The oldest {} of {}.</p>\n", data.fills.size(), count(running));
  }
  return out;
}

// --- Upstreams.

std::string state_cell(const UpstreamNow& upstream) {
  const bool bad = !upstream.offline && (!upstream.up || upstream.login_refused);
  const std::string_view state = state_of(upstream);
  return fmt::format("<span class=\"{}\">{}</span>", bad ? "bad" : state == "answers" ? "good" : "soft", state);
}

std::string budget_cell(const UpstreamNow& upstream) {
  if (!upstream.budget_left) return "–";
  const bool low = upstream.budget_limit > 0 && *upstream.budget_left < upstream.budget_limit / 10;
  const std::string text = upstream.budget_limit > 0 ? fmt::format("{} of {} left", count(*upstream.budget_left),
                                                                   count(upstream.budget_limit))
                                                     : fmt::format("{} left", count(*upstream.budget_left));
  return low ? fmt::format("<span class=\"bad\">{}</span>", text) : text;
}

std::string milliseconds(std::optional<double> seconds) {
  return seconds ? fmt::format("{} ms", count(std::round(1000 * *seconds))) : std::string("–");
}

void upstream_row(std::string& out, const UpstreamNow& row) {
  out += fmt::format(
      "<tr><td>{}</td><td>{}</td><td class=\"n w\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>"
      "<td class=\"n w\">{}</td><td class=\"n w\">{}</td><td class=\"n w\">{}</td></tr>\n",
      html_escaped(row.name), state_cell(row), count(row.answers), count(row.failures), budget_cell(row),
      bytes(row.received_bytes), milliseconds(row.answer_seconds),
      row.waiting > 0 ? counted(row.waiting, "request") : milliseconds(row.wait_seconds));
}

std::string upstreams(const OverviewData& data) {
  const std::vector<UpstreamNow> rows = upstreams_of(data.families);
  if (rows.empty()) return {};
  std::string out = R"(<h2>Upstreams</h2>
<div class="box"><table><thead><tr><th>name</th><th>state</th><th class="n w">answers</th><th class="n">failures</th><th class="n">quota</th><th class="n w">received</th><th class="n w">answers in</th><th class="n w">queue</th></tr></thead><tbody>
)";
  std::string silent;
  for (const UpstreamNow& row : rows) {
    if (row.waiting == 0 && state_of(row) == "not asked yet") {
      silent += (silent.empty() ? "" : ", ") + html_escaped(row.name);
    } else {
      upstream_row(out, row);
    }
  }
  if (!silent.empty()) out += fmt::format("<tr><td colspan=\"8\" class=\"soft\">not asked yet: {}</td></tr>\n", silent);
  return out + "</tbody></table></div>\n";
}

// --- What is hot, and what is big.

template <class Row, class Number>
std::string ranking(std::string_view title, std::string_view none, const std::vector<Row>& rows, std::string_view noun,
                    Number Row::* number) {
  std::string out = fmt::format("<div><h2>{}</h2>\n", title);
  if (rows.empty()) return out + fmt::format("<p class=\"box soft\">{}</p>\n</div>", none);
  out += "<div class=\"box\"><table class=\"plain\"><tbody>\n";
  for (const Row& row : rows) {
    out += fmt::format("<tr><td class=\"name\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>\n",
                       html_escaped(row.name), counted(static_cast<double>(row.*number), noun),
                       bytes(static_cast<double>(row.bytes)));
  }
  return out + "</tbody></table></div>\n</div>";
}

std::string hot_and_big(const OverviewData& data) {
  return "<div class=\"pair\">" +
         ranking("Hot in the last hour", "No repository was asked for.", data.hot, "request",
                 &HotRepository::requests) +
         ranking("Largest at rest", "No repository is stored.", data.big, "blob", &BigRepository::blobs) + "</div>\n";
}

// --- Errors.

std::string errors(const OverviewData& data) {
  std::string out = "<h2>Recent warnings and errors</h2>\n";
  if (data.errors.empty()) return out + "<p class=\"box soft\">None since the start.</p>\n";
  constexpr std::size_t kShown = 10;
  out += "<ul class=\"box\">\n";
  for (std::size_t i = 0; i < std::min(kShown, data.errors.size()); ++i) {
    const log::RecentLine& line = data.errors[i];
    const auto age = std::chrono::duration_cast<std::chrono::seconds>(data.at - line.at);
    const std::string times = line.times > 1 ? fmt::format(", {} times", line.times) : std::string();
    out += fmt::format("<li><span class=\"soft\">{}{}</span> <span class=\"{}\">{}: {}</span></li>\n",
                       age < 1min ? std::string("less than a minute ago") : roughly(age) + " ago", times,
                       line.level == log::Level::error ? "bad" : "warn", html_escaped(line.component),
                       html_escaped(line.message));
  }
  return out + "</ul>\n";
}

// --- Since the start.

void request_row(std::string& out, std::string_view what, const Requests& of) {
  out += fmt::format("<tr><td>{}</td><td class=\"n\">{}</td>", what, percent(of.served(), of.counted()));
  out += fmt::format("<td class=\"n\">{}</td><td class=\"n w\">{}</td><td class=\"n w\">{}</td>", count(of.hit),
                     count(of.join), count(of.stale));
  out += fmt::format("<td class=\"n\">{}</td><td class=\"n w\">{}</td><td class=\"n w\">{}</td><td class=\"n\">{}</td>",
                     count(of.miss), count(of.unknown), count(of.denied), count(of.error));
  out += "</tr>\n";
}

std::string requests(const OverviewData& data) {
  std::string out = R"(<h2>Requests since the start</h2>
<div class="box"><table><thead><tr><th></th><th class="n">from the cache</th><th class="n">at rest</th><th class="n w">joined</th><th class="n w">stale</th><th class="n">fetched</th><th class="n w">not there</th><th class="n w">refused</th><th class="n">failed</th></tr></thead><tbody>
)";
  request_row(out, "Blobs", requests_of(data.families, "sluice_blob_requests_total"));
  request_row(out, "Manifests", requests_of(data.families, "sluice_manifest_requests_total"));
  return out + "</tbody></table></div>\n";
}

void line(std::string& out, std::string_view name, std::string_view value, bool bad = false) {
  out += fmt::format("<tr><td>{}</td><td class=\"n{}\">{}</td></tr>\n", html_escaped(name), bad ? " bad" : "",
                     html_escaped(value));
}

void redis_line(std::string& out, const Families& families) {
  if (find(families, "sluice_descriptor_redis_breaker_open") == nullptr) return;
  const bool open = sum(families, "sluice_descriptor_redis_breaker_open") > 0;
  line(out, "Redis",
       open ? std::string("unavailable, bypassed")
            : fmt::format("{} connections", count(sum(families, "sluice_descriptor_redis_connections"))),
       open);
}

std::string rest(const OverviewData& data) {
  const Families& families = data.families;
  std::string out = "<h2>Store and process</h2>\n<div class=\"box\"><table class=\"plain\"><tbody>\n";
  line(out, "Interrupted downloads, kept for resuming", bytes(sum(families, "sluice_parts_bytes")));
  line(out, "Evicted since the start",
       fmt::format("{}, {}", counted(sum(families, "sluice_store_evicted_total"), "blob"),
                   bytes(sum(families, "sluice_store_evicted_bytes_total"))));
  if (const double dropped = sum(families, "sluice_store_dropped_total"); dropped > 0) {
    line(out, "Missing or damaged, and dropped", counted(dropped, "blob"), true);
  }
  if (sum(families, "sluice_store_rebuilding") > 0) line(out, "Index", "being rebuilt from the files");
  const double catalog = sum(families, "sluice_store_degraded", "reason", "catalog");
  if (sum(families, "sluice_store_degraded") > catalog) line(out, "Storing", "new blobs are passed on only", true);
  if (catalog > 0) line(out, "Catalog", "cannot be written", true);
  redis_line(out, families);
  const double asked = sum(families, "sluice_descriptor_cache_requests_total");
  line(out, "Descriptors from a cache", percent(sum(families, "sluice_descriptor_cache_hits_total"), asked));
  line(out, "Memory", bytes(sum(families, "process_resident_memory_bytes")));
  return out + "</tbody></table></div>\n";
}

constexpr std::string_view kIcon =
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Cpath fill='%232f6fb5' "
    "d='M2 2h3v12H2zM11 2h3v12h-3zM6 8h4v6H6z'/%3E%3C/svg%3E";

constexpr std::string_view kMore = R"(<h2>More</h2>
<p class="soft"><a href="metrics">/metrics</a> for Prometheus, <a href="healthz">/healthz</a>, <a href="readyz">/readyz</a>,
<a href="api/v1/now">/api/v1/now</a>, <a href="api/v1/pulls">/api/v1/pulls</a> and the rest of the API that <code>sluice top</code>,
<code>pulls</code>, <code>ls</code>, <code>stat</code>, <code>rm</code>, <code>gc</code> and <code>verify</code> use.</p>
)";

}  // namespace

Sections render_sections(const OverviewData& data) {
  return {{"state", state(data)},   {"alerts", alerts(data)},       {"use", cards(data)},
          {"fills", fills(data)},   {"upstreams", upstreams(data)}, {"hot", hot_and_big(data)},
          {"errors", errors(data)}, {"requests", requests(data)},   {"rest", rest(data)}};
}

std::string render(const OverviewData& data) {
  std::string out = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>sluice</title>\n"
      "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
      "<link rel=\"icon\" href=\"{}\">\n<style>{}</style></head><body>\n"
      "<div class=\"top\"><h1>sluice</h1><span class=\"soft\">{}</span>",
      kIcon, status_style(), html_escaped(data.version));
  bool first = true;
  for (const auto& [id, html] : render_sections(data)) {
    out += fmt::format("<section id=\"{}\">{}</section>\n", id, html);
    if (!std::exchange(first, false)) continue;
    out += fmt::format("<span id=\"live\" class=\"soft\">as of {}</span></div>\n", clock_time(data.at));
  }
  out += kMore;
  out += fmt::format("<script>{}</script>\n</body></html>\n", status_script());
  return out;
}

}  // namespace sluice::admin
