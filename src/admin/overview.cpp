#include "admin/overview.hpp"

#include <map>
#include <utility>

namespace sluice::admin {
namespace {

using namespace std::chrono_literals;

constexpr auto kSizesAge = 20s;
// As long as nothing was stored: the first thing that is should be seen.
constexpr auto kNoSizesAge = 2s;

std::optional<double> mean(const metrics::Sample& sample) {
  if (sample.histogram.count == 0) return std::nullopt;
  return sample.histogram.sum / static_cast<double>(sample.histogram.count);
}

using Rows = std::map<std::string, UpstreamNow, std::less<>>;

template <class F>
void each(const Families& families, Rows& rows, std::string_view name, F visit) {
  const metrics::Family* family = find(families, name);
  if (family == nullptr) return;
  for (const metrics::Sample& sample : family->samples) visit(rows[std::string(label(sample, "upstream"))], sample);
}

void read_budgets(const Families& families, Rows& rows) {
  each(families, rows, "sluice_upstream_ratelimit_remaining", [&](UpstreamNow& row, const metrics::Sample& sample) {
    if (row.budget_left && *row.budget_left <= sample.value) return;
    row.budget_left = sample.value;
    row.budget_limit = 0;
    const metrics::Family* limits = find(families, "sluice_upstream_ratelimit_limit");
    if (limits == nullptr) return;
    for (const metrics::Sample& limit : limits->samples) {
      if (limit.labels == sample.labels) row.budget_limit = limit.value;
    }
  });
}

}  // namespace

std::vector<UpstreamNow> upstreams_of(const Families& families) {
  Rows rows;
  const auto flag = [&](std::string_view name, bool UpstreamNow::* field) {
    each(families, rows, name, [field](UpstreamNow& row, const auto& sample) { row.*field = sample.value != 0; });
  };
  const auto number = [&](std::string_view name, double UpstreamNow::* field) {
    each(families, rows, name, [field](UpstreamNow& row, const auto& sample) { row.*field = sample.value; });
  };
  const auto average = [&](std::string_view name, std::optional<double> UpstreamNow::* field) {
    each(families, rows, name, [field](UpstreamNow& row, const auto& sample) { row.*field = mean(sample); });
  };
  flag("sluice_upstream_up", &UpstreamNow::up);
  flag("sluice_upstream_offline", &UpstreamNow::offline);
  flag("sluice_upstream_login_refused", &UpstreamNow::login_refused);
  number("sluice_upstream_received_bytes_total", &UpstreamNow::received_bytes);
  number("sluice_upstream_connections", &UpstreamNow::connections);
  number("sluice_upstream_waiting", &UpstreamNow::waiting);
  average("sluice_upstream_wait_seconds", &UpstreamNow::wait_seconds);
  average("sluice_upstream_request_seconds", &UpstreamNow::answer_seconds);
  each(families, rows, "sluice_upstream_requests_total", [](UpstreamNow& row, const metrics::Sample& sample) {
    const std::string_view status = label(sample, "status");
    const bool failure = status == "5xx" || status == "429" || status == "error";
    (failure ? row.failures : row.answers) += sample.value;
  });
  read_budgets(families, rows);
  std::vector<UpstreamNow> out;
  for (auto& [name, row] : rows) {
    row.name = name;
    out.push_back(std::move(row));
  }
  return out;
}

std::string_view state_of(const UpstreamNow& upstream) {
  if (upstream.offline) return "offline, not asked";
  if (!upstream.up) return "no usable answers";
  if (upstream.login_refused) return "refuses our login";
  return upstream.answers + upstream.failures > 0 ? "answers" : "not asked yet";
}

std::optional<std::chrono::seconds> eviction_age(const Families& families) {
  const metrics::Family* family = find(families, "sluice_store_eviction_age_seconds");
  if (family == nullptr || family->samples.empty()) return std::nullopt;
  const std::optional<double> seconds = mean(family->samples.front());
  if (!seconds) return std::nullopt;
  return std::chrono::seconds(static_cast<std::int64_t>(*seconds));
}

Overview::Overview(metrics::Registry& registry, const Readiness& readiness, const Clock& clock,
                   const RecentRequests& recent, Params params)
    : registry_(registry),
      readiness_(readiness),
      clock_(clock),
      recent_(recent),
      params_(std::move(params)),
      started_(clock.now()) {
  // Counters that are not there yet are as good as 0.
  history_.add(started_, {});
}

void Overview::sample() { history_.add(clock_.now(), totals_of(registry_.collect())); }

runtime::Task<void> Overview::refresh() {
  if (!params_.biggest || params_.pool == nullptr) co_return;
  {
    const std::scoped_lock lock(mutex_);
    if (refreshed_at_ && clock_.now() - *refreshed_at_ < (big_.empty() ? kNoSizesAge : kSizesAge)) co_return;
  }
  if (refreshing_.exchange(true)) co_return;
  struct Done {
    std::atomic<bool>& refreshing;
    ~Done() { refreshing = false; }
  };
  const Done done{refreshing_};
  std::vector<BigRepository> big = co_await runtime::offload(*params_.pool, params_.biggest);
  const std::scoped_lock lock(mutex_);
  big_ = std::move(big);
  refreshed_at_ = clock_.now();
}

OverviewData Overview::look() const {
  OverviewData out;
  const Clock::Monotonic now = clock_.now();
  out.version = params_.version;
  out.uptime = now - started_;
  out.at = clock_.wall();
  out.checks = readiness_.checks();
  out.families = registry_.collect();
  out.totals = totals_of(out.families);
  out.hour = history_.since(1h, now, out.totals);
  out.minutes = history_.since(5min, now, out.totals);
  out.steps = history_.steps(out.totals);
  out.use = recent_.use();
  if (params_.fills) out.fills = params_.fills();
  out.hot = recent_.hottest(kRepositories);
  out.errors = log::recent();
  const std::scoped_lock lock(mutex_);
  out.big = big_;
  return out;
}

}  // namespace sluice::admin
