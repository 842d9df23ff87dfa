#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>

#include <fmt/format.h>

#include "app/commands/text.hpp"
#include "app/commands/top.hpp"
#include "base/units.hpp"

namespace sluice::app {
namespace {

using nlohmann::json;
using std::chrono::nanoseconds;

double real(const json& in, const char* key) {
  const auto at = in.find(key);
  return at != in.end() && at->is_number() ? at->get<double>() : 0;
}

std::uint64_t number(const json& in, const char* key) {
  return static_cast<std::uint64_t>(std::max(0.0, real(in, key)));
}

std::string text(const json& in, const char* key) {
  const auto at = in.find(key);
  return at != in.end() && at->is_string() ? at->get<std::string>() : std::string();
}

const json& part(const json& in, const char* key) {
  static const json none = json::object();
  const auto at = in.find(key);
  return at != in.end() ? *at : none;
}

std::string bytes(const json& in, const char* key) { return format_bytes(number(in, key)); }

std::string percent(const json& in) {
  return in.contains("hit_ratio") ? fmt::format("{:.1f} %", 100 * real(in, "hit_ratio")) : std::string("-");
}

// "0.213 s", "12.3 s", "3m5s"
std::string took(double seconds) {
  if (seconds < 10) return fmt::format("{:.3f} s", seconds);
  if (seconds < 100) return fmt::format("{:.1f} s", seconds);
  return format_duration(std::chrono::seconds(std::llround(seconds)));
}

std::string long_time(double seconds) {
  return seconds < 48 * 3600 ? format_duration(std::chrono::seconds(std::llround(seconds)))
                             : fmt::format("{:.0f} days", seconds / 86400);
}

std::string head(const TopScreen& screen) {
  const json& now = screen.now;
  std::string out = fmt::format("sluice {} on {}, up for {}, {}\n", text(now, "version"), screen.where,
                                format_duration(std::chrono::seconds(number(now, "uptime_seconds"))),
                                now.value("ready", false) ? "ready" : "NOT READY");
  for (const json& check : part(now, "checks")) {
    if (const std::string reason = text(check, "reason"); !reason.empty()) {
      out += fmt::format("  {}: {}\n", text(check, "name"), reason);
    }
  }
  return out + "\n";
}

// What is added in a second between two answers.
std::string pace(const TopScreen& screen) {
  if (!screen.before.is_object()) return {};
  const double seconds = std::max(1.0, real(screen.now, "uptime_seconds") - real(screen.before, "uptime_seconds"));
  const auto each = [&](const char* key) {
    const double more = real(part(screen.now, "since_start"), key) - real(part(screen.before, "since_start"), key);
    return std::max(0.0, more) / seconds;
  };
  const auto bytes_each = [&](const char* key) { return format_bytes(static_cast<std::uint64_t>(each(key))); };
  return fmt::format("Now        {:.0f} requests/s, {}/s to clients, {}/s from upstream\n", each("requests"),
                     bytes_each("sent_bytes"), bytes_each("received_bytes"));
}

std::string summary(const TopScreen& screen) {
  const json& hour = part(screen.now, "last_hour");
  const json& store = part(screen.now, "store");
  std::string out = pace(screen);
  out += fmt::format("Last hour  {}{}, {}, {}; {} from the cache (last 5 minutes {})\n",
                     hour.value("at_least", false) ? "at least " : "", counted(number(hour, "clients"), "client"),
                     counted(number(hour, "pulls"), "pull"), counted(number(hour, "requests"), "request"),
                     percent(hour), percent(part(screen.now, "last_minutes")));
  out += fmt::format("           {} to clients, {} from upstream\n", bytes(hour, "sent_bytes"),
                     bytes(hour, "received_bytes"));
  out += fmt::format("Stored     {}{}, {}", bytes(store, "bytes"),
                     store.contains("max_bytes") ? " of " + bytes(store, "max_bytes") : std::string(),
                     counted(number(store, "blobs"), "blob"));
  if (store.contains("mean_eviction_age_seconds")) {
    out += fmt::format("; what was evicted had been unused for {} on average",
                       long_time(real(store, "mean_eviction_age_seconds")));
  }
  return out + "\n\n";
}

std::string progress(const json& fill) {
  if (!fill.contains("size")) return bytes(fill, "bytes") + ", size unknown";
  const double size = std::max(1.0, real(fill, "size"));
  return fmt::format("{} of {}", bar(real(fill, "bytes") / size, 24), bytes(fill, "size"));
}

std::string fills(const json& now) {
  const std::uint64_t running = number(now, "fills_in_flight");
  if (running == 0) return "No downloads in flight\n\n";
  Table table({"DOWNLOAD", "UPSTREAM", "PROGRESS", ">READERS", ">FOR", "PACE SET BY"});
  for (const json& fill : part(now, "fills")) {
    table.add({short_digest(text(fill, "digest")), text(fill, "upstream"), progress(fill),
               std::to_string(number(fill, "readers")), took(real(fill, "seconds")),
               text(fill, "pace") + (fill.value("stored", true) ? "" : ", not stored")});
  }
  return fmt::format("{} in flight\n{}\n", counted(running, "download"), table.str());
}

std::string milliseconds(const json& in, const char* key) {
  return in.contains(key) ? fmt::format("{:.0f} ms", 1000 * real(in, key)) : std::string("-");
}

std::string upstreams(const json& now) {
  Table table(
      {"UPSTREAM", "STATE", ">ANSWERS", ">FAILURES", ">RECEIVED", ">QUOTA LEFT", ">ANSWERS IN", ">QUEUE", ">WAITING"});
  for (const json& upstream : part(now, "upstreams")) {
    if (text(upstream, "state") == "not asked yet" && number(upstream, "waiting") == 0) continue;
    const std::string quota = !upstream.contains("quota_left") ? "-"
                              : upstream.contains("quota")
                                  ? fmt::format("{} of {}", number(upstream, "quota_left"), number(upstream, "quota"))
                                  : std::to_string(number(upstream, "quota_left"));
    table.add({text(upstream, "name"), text(upstream, "state"), std::to_string(number(upstream, "answers")),
               std::to_string(number(upstream, "failures")), bytes(upstream, "received_bytes"), quota,
               milliseconds(upstream, "mean_answer_seconds"), milliseconds(upstream, "mean_queue_seconds"),
               std::to_string(number(upstream, "waiting"))});
  }
  return table.empty() ? "No upstream was asked yet\n\n" : table.str() + "\n";
}

std::string hot(const json& now) {
  Table table({"HOT IN THE LAST HOUR", ">REQUESTS", ">BYTES"});
  for (const json& row : part(now, "hot")) {
    table.add({text(row, "name"), std::to_string(number(row, "requests")), bytes(row, "bytes")});
  }
  return table.empty() ? std::string() : table.str() + "\n";
}

std::string errors(const json& now) {
  std::string out;
  std::size_t shown = 0;
  for (const json& line : part(now, "errors")) {
    if (shown++ == 5) break;
    const std::uint64_t times = number(line, "times");
    out +=
        fmt::format("{}{}  {}: {}\n", text(line, "at"), times > 1 ? fmt::format(" ({} times)", times) : std::string(),
                    text(line, "component"), text(line, "message"));
  }
  return out.empty() ? out : "WARNINGS AND ERRORS\n" + out;
}

std::string image_of(const json& pull) {
  const std::string reference = text(pull, "reference");
  const std::string name = text(pull, "upstream") + "/" + text(pull, "repository");
  const bool is_digest = reference.find(':') != std::string::npos;
  return name + (is_digest ? "@" + short_digest(reference) : ":" + reference);
}

void add_request(Table& table, const json& request) {
  const std::string reference = text(request, "reference");
  table.add({"", "", "  " + text(request, "method") + " " + short_digest(reference),
             fmt::format("{} {}{}", number(request, "status"), text(request, "cache"),
                         request.value("complete", true) ? "" : ", broken off"),
             bytes(request, "bytes"), took(real(request, "total_s")), took(real(request, "first_byte_s")),
             took(real(request, "upstream_s")), took(real(request, "client_s"))});
}

}  // namespace

std::string top_text(const TopScreen& screen) {
  return head(screen) + summary(screen) + fills(screen.now) + upstreams(screen.now) + hot(screen.now) +
         errors(screen.now);
}

std::string fitted(const std::string& text, std::size_t rows, std::size_t columns) {
  std::string out;
  std::size_t row = 0;
  std::size_t column = 0;
  for (const char c : text) {
    if (c == '\n') {
      if (++row == rows) break;
      column = 0;
      out += c;
      continue;
    }
    // A character that goes on is none of its own.
    const bool starts = (static_cast<unsigned char>(c) & 0xC0U) != 0x80U;
    if (starts) ++column;
    if (column <= columns) out += c;
  }
  return out;
}

std::string pulls_text(const json& answer, bool requests, std::chrono::system_clock::time_point now) {
  Table table({"STARTED", "CLIENT", "IMAGE", "REQUESTS", ">BYTES", ">TOOK", ">FIRST BYTE", ">UPSTREAM", ">TO CLIENT"});
  for (const json& pull : part(answer, "pulls")) {
    std::string how = fmt::format("{} cached, {} fetched", number(pull, "cached"), number(pull, "fetched"));
    if (const std::uint64_t failed = number(pull, "failed"); failed != 0) how += fmt::format(", {} failed", failed);
    table.add({ago(text(pull, "started_at"), now), text(pull, "client"), image_of(pull), how, bytes(pull, "bytes"),
               took(real(pull, "took_s")), took(real(pull, "first_byte_s")), took(real(pull, "upstream_s")),
               took(real(pull, "client_s"))});
    if (!requests) continue;
    for (const json& request : part(pull, "requests")) add_request(table, request);
  }
  return table.str();
}

}  // namespace sluice::app
