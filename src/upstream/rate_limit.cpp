#include "upstream/rate_limit.hpp"

#include <algorithm>
#include <charconv>

namespace sluice::upstream {
namespace {

constexpr std::size_t kMaxSourceBytes = 64;

std::string source_of(const http::ReceivedHead& head) {
  const std::string* field = head.find("docker-ratelimit-source");
  if (field == nullptr) return "unknown";
  std::string out = field->substr(0, kMaxSourceBytes);
  std::erase_if(out, [](char c) { return c < 0x21 || c > 0x7e || c == '"' || c == '\\'; });
  return out.empty() ? "unknown" : out;
}

}  // namespace

std::optional<std::uint64_t> parse_rate_limit(std::string_view value) {
  value = value.substr(0, value.find_first_of(";, "));
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (error != std::errc{} || end != value.data() + value.size() || number > 1'000'000'000'000) return std::nullopt;
  return number;
}

RateLimit::RateLimit(metrics::Registry& registry, std::string upstream)
    : registry_(registry), upstream_(std::move(upstream)) {}

void RateLimit::observe(const http::ReceivedHead& head) {
  const std::string* limit = head.find("ratelimit-limit");
  const std::string* remaining = head.find("ratelimit-remaining");
  if (limit == nullptr && remaining == nullptr) return;
  const auto limit_now = limit == nullptr ? std::nullopt : parse_rate_limit(*limit);
  const auto remaining_now = remaining == nullptr ? std::nullopt : parse_rate_limit(*remaining);
  std::string source = source_of(head);

  const std::scoped_lock lock(mutex_);
  if (sources_.size() >= kMaxSources && !sources_.contains(source)) source = "other";
  Gauges& gauges = sources_[source];
  if (gauges.limit == nullptr) {
    const metrics::Labels labels{{"upstream", upstream_}, {"source", source}};
    gauges.limit = &registry_.gauge("sluice_upstream_ratelimit_limit",
                                    "Requests that upstream's quota allows, as it said last.", labels);
    gauges.remaining = &registry_.gauge("sluice_upstream_ratelimit_remaining",
                                        "Requests that are left of upstream's quota, as it said last.", labels);
  }
  if (limit_now) gauges.limit->set(static_cast<std::int64_t>(*limit_now));
  if (remaining_now) gauges.remaining->set(static_cast<std::int64_t>(*remaining_now));
}

}  // namespace sluice::upstream
