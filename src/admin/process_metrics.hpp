// What Prometheus expects every process to tell about itself, under the names its client libraries agree on
// (https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics), read from /proc when somebody
// scrapes.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/metrics.hpp"

namespace sluice::admin {

// Registers process_* and sluice_build_info{version}. Call once; `registry` is all that must stay.
void register_process_metrics(metrics::Registry& registry, std::string_view version);

struct ProcessStatus {
  std::uint64_t resident_bytes = 0;
  std::uint64_t open_files = 0;
  std::chrono::duration<double> cpu{0};
  // Seconds since the epoch.
  double started_at = 0;
};

// What is known now; what /proc does not tell stays 0.
ProcessStatus process_status();

// Clock ticks of utime, stime and starttime, and pages of rss, from the text of /proc/<pid>/stat. The command's name in
// it may hold spaces and parentheses. Pure.
struct ProcStat {
  std::uint64_t user_ticks = 0;
  std::uint64_t system_ticks = 0;
  std::uint64_t start_ticks = 0;
  std::uint64_t resident_pages = 0;
};
std::optional<ProcStat> parse_proc_stat(std::string_view text);

}  // namespace sluice::admin
