#include "admin/overview_json.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>

#include <nlohmann/json.hpp>

#include "admin/inventory_json.hpp"

namespace sluice::admin {
namespace {

// In the order in which they were put.
using Json = nlohmann::ordered_json;

std::string text(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n"; }

// With microseconds.
double seconds(std::chrono::nanoseconds duration) {
  return std::round(std::chrono::duration<double, std::micro>(duration).count()) / 1e6;
}

// Counters are whole numbers.
std::uint64_t whole(double number) { return static_cast<std::uint64_t>(std::max(0.0, number)); }

Json json_of(const Totals& totals) {
  Json out{{"requests", whole(totals.requests)},
           {"counted", whole(totals.counted())},
           {"from_cache", whole(totals.served())},
           {"sent_bytes", whole(totals.sent_bytes)},
           {"received_bytes", whole(totals.received_bytes)}};
  if (totals.counted() > 0) out["hit_ratio"] = totals.served() / totals.counted();
  return out;
}

Json json_of(const FillNow& fill) {
  Json out{{"digest", fill.digest},        {"upstream", fill.upstream},
           {"bytes", fill.bytes},          {"readers", fill.readers},
           {"seconds", seconds(fill.age)}, {"pace", fill.waits_for_readers ? "reader" : "upstream"},
           {"stored", !fill.unstored}};
  if (fill.size) out["size"] = *fill.size;
  return out;
}

Json json_of(const UpstreamNow& upstream) {
  Json out{{"name", upstream.name},
           {"state", state_of(upstream)},
           {"answers", whole(upstream.answers)},
           {"failures", whole(upstream.failures)},
           {"received_bytes", whole(upstream.received_bytes)},
           {"connections", whole(upstream.connections)},
           {"waiting", whole(upstream.waiting)}};
  if (upstream.wait_seconds) out["mean_queue_seconds"] = *upstream.wait_seconds;
  if (upstream.answer_seconds) out["mean_answer_seconds"] = *upstream.answer_seconds;
  if (upstream.budget_left) out["quota_left"] = whole(*upstream.budget_left);
  if (upstream.budget_limit > 0) out["quota"] = whole(upstream.budget_limit);
  return out;
}

Json store_of(const Families& families) {
  Json out{{"blobs", whole(sum(families, "sluice_store_entries"))},
           {"bytes", whole(sum(families, "sluice_store_bytes"))}};
  if (const double limit = sum(families, "sluice_store_max_bytes"); limit > 0) out["max_bytes"] = whole(limit);
  out["evicted"] = whole(sum(families, "sluice_store_evicted_total"));
  if (const auto age = eviction_age(families)) out["mean_eviction_age_seconds"] = age->count();
  return out;
}

Json json_of(const log::RecentLine& line) {
  return {{"at", rfc3339(line.at)},
          {"level", line.level == log::Level::error ? "error" : "warn"},
          {"component", line.component},
          {"message", line.message},
          {"times", line.times}};
}

Json json_of(const RequestRecord& request) {
  return {{"ended_at", rfc3339(request.ended)},
          {"method", request.method},
          {"reference", request.reference},
          {"status", request.status},
          {"complete", request.complete},
          {"cache", request.cache},
          {"bytes", request.bytes},
          {"total_s", seconds(request.total)},
          {"first_byte_s", seconds(request.first_byte)},
          {"upstream_s", seconds(request.upstream_wait)},
          {"client_s", seconds(client_time(request))}};
}

Json json_of(const Pull& pull) {
  Json out{{"started_at", rfc3339(pull.started)},
           {"client", pull.client},
           {"upstream", pull.upstream},
           {"repository", pull.repository},
           {"reference", pull.reference},
           {"took_s", seconds(pull.ended - pull.started)},
           {"bytes", pull.bytes},
           {"cached", pull.cached},
           {"fetched", pull.fetched},
           {"failed", pull.failed},
           {"first_byte_s", seconds(pull.first_byte)},
           {"upstream_s", seconds(pull.upstream_wait)},
           {"client_s", seconds(pull.client_time)},
           {"requests", Json::array()}};
  for (const RequestRecord& request : pull.requests) out["requests"].push_back(json_of(request));
  return out;
}

}  // namespace

std::string to_json(const OverviewData& data) {
  Json out{{"version", data.version}, {"uptime_seconds", seconds(data.uptime)}, {"at", rfc3339(data.at)}};
  out["ready"] = Readiness::all_met(data.checks);
  out["checks"] = Json::array();
  for (const Readiness::Check& check : data.checks) {
    Json& added = out["checks"].emplace_back(Json{{"name", check.name}, {"ready", check.met}});
    if (!check.reason.empty()) added["reason"] = check.reason;
  }
  out["last_hour"] = json_of(data.hour);
  out["last_hour"]["clients"] = data.use.clients;
  out["last_hour"]["pulls"] = data.use.pulls;
  out["last_hour"]["at_least"] = data.use.at_least;
  out["last_minutes"] = json_of(data.minutes);
  out["since_start"] = json_of(data.totals);
  out["fills_in_flight"] = whole(sum(data.families, "sluice_fills_in_flight"));
  out["fills"] = Json::array();
  for (const FillNow& fill : data.fills) out["fills"].push_back(json_of(fill));
  out["upstreams"] = Json::array();
  for (const UpstreamNow& upstream : upstreams_of(data.families)) out["upstreams"].push_back(json_of(upstream));
  out["store"] = store_of(data.families);
  out["hot"] = Json::array();
  for (const HotRepository& row : data.hot) {
    out["hot"].push_back({{"name", row.name}, {"requests", row.requests}, {"bytes", row.bytes}});
  }
  out["largest"] = Json::array();
  for (const BigRepository& row : data.big) {
    out["largest"].push_back({{"name", row.name}, {"blobs", row.blobs}, {"bytes", row.bytes}});
  }
  out["errors"] = Json::array();
  for (const log::RecentLine& line : data.errors) out["errors"].push_back(json_of(line));
  return text(out);
}

std::string to_json(const std::vector<Pull>& pulls) {
  Json out{{"pulls", Json::array()}};
  for (const Pull& pull : pulls) out["pulls"].push_back(json_of(pull));
  return text(out);
}

}  // namespace sluice::admin
