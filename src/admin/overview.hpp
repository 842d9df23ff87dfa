// What an operator looks at first: is it used, does it help, what runs, what is wrong. One look for the status page,
// its event stream and the API.
//
// Owned by the composition root; outlives the admin server. Threads: all functions are thread-safe; refresh() is
// awaited on any loop. Nothing is computed unless somebody looks, but for sample(), which a timer calls.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "admin/families.hpp"
#include "admin/history.hpp"
#include "admin/pulls.hpp"
#include "admin/readiness.hpp"
#include "admin/recent_requests.hpp"
#include "base/clock.hpp"
#include "base/log_recent.hpp"
#include "base/metrics.hpp"
#include "runtime/disk_pool.hpp"
#include "runtime/task.hpp"

namespace sluice::admin {

// A download that runs.
struct FillNow {
  std::string upstream;
  std::string digest;
  std::chrono::nanoseconds age{0};
  std::uint64_t bytes = 0;
  std::optional<std::uint64_t> size;  // none: upstream has not told it
  std::size_t readers = 0;
  bool waits_for_readers = false;  // its window is full: the fastest reader sets the pace, else upstream does
  bool unstored = false;           // the disk refused it
};

struct BigRepository {
  std::string name;
  std::uint64_t bytes = 0;  // at rest
  std::size_t blobs = 0;
};

struct UpstreamNow {
  std::string name;
  bool up = true;
  bool offline = false;
  bool login_refused = false;
  double answers = 0, failures = 0, received_bytes = 0, connections = 0, waiting = 0;
  // Means since the start; none: nothing was asked yet.
  std::optional<double> wait_seconds;    // for a turn, before a request is sent
  std::optional<double> answer_seconds;  // from then to the head of the answer
  // The lowest of the quotas that upstream told last.
  std::optional<double> budget_left;
  double budget_limit = 0;
};
std::vector<UpstreamNow> upstreams_of(const Families& families);
// "answers", "no usable answers", …: for people.
std::string_view state_of(const UpstreamNow& upstream);

// How long ago what was evicted to make room was last used, on average since the start; none: nothing was.
std::optional<std::chrono::seconds> eviction_age(const Families& families);

struct OverviewData {
  std::string version;
  std::chrono::nanoseconds uptime{0};
  Clock::Wall at;
  std::vector<Readiness::Check> checks;
  Families families;
  Totals totals;  // since the start
  Totals hour;
  Totals minutes;             // the last five
  std::vector<Totals> steps;  // of the last hour, each half minute
  Use use;
  std::vector<FillNow> fills;  // the oldest, at most Overview::kFills
  std::vector<HotRepository> hot;
  std::vector<BigRepository> big;
  std::vector<log::RecentLine> errors;  // the newest first
};

class Overview {
 public:
  static constexpr std::size_t kFills = 20;
  static constexpr std::size_t kRepositories = 8;

  // Each may be empty.
  struct Params {
    std::string version;
    std::function<std::vector<FillNow>()> fills = {};
    // The largest repositories; blocks, and runs on `pool`.
    std::function<std::vector<BigRepository>()> biggest = {};
    runtime::DiskPool* pool = nullptr;
  };

  Overview(metrics::Registry& registry, const Readiness& readiness, const Clock& clock, const RecentRequests& recent,
           Params params);
  Overview(const Overview&) = delete;
  Overview& operator=(const Overview&) = delete;

  // To be called every History::kInterval.
  void sample();
  // Reads the largest repositories again, if that was 20 s ago and no other call is doing it.
  runtime::Task<void> refresh();
  [[nodiscard]] OverviewData look() const;
  // The newest first.
  [[nodiscard]] std::vector<Pull> pulls(std::size_t most) const { return group_pulls(recent_.last(), most); }

 private:
  metrics::Registry& registry_;
  const Readiness& readiness_;
  const Clock& clock_;
  const RecentRequests& recent_;
  const Params params_;
  const Clock::Monotonic started_;
  History history_;
  std::atomic<bool> refreshing_{false};
  mutable std::mutex mutex_;  // guards what is below
  std::vector<BigRepository> big_;
  std::optional<Clock::Monotonic> refreshed_at_;
};

}  // namespace sluice::admin
