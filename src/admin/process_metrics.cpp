#include "admin/process_metrics.hpp"

#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>

namespace sluice::admin {
namespace {

std::string read_proc(const char* path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

std::uint64_t count_open_files() {
  struct Close {
    void operator()(DIR* open) const { ::closedir(open); }
  };
  const std::unique_ptr<DIR, Close> directory(::opendir("/proc/self/fd"));
  if (!directory) return 0;
  std::uint64_t count = 0;
  while (const dirent* entry = ::readdir(directory.get())) {
    if (entry->d_name[0] != '.') ++count;
  }
  return count - 1;  // without the one that reads the directory
}

double per_second(std::uint64_t ticks) {
  const long hertz = ::sysconf(_SC_CLK_TCK);
  return hertz > 0 ? static_cast<double>(ticks) / static_cast<double>(hertz) : 0;
}

// Seconds since the epoch at which the machine started.
double boot_time() {
  const std::string text = read_proc("/proc/stat");
  const std::size_t at = text.find("\nbtime ");
  if (at == std::string::npos) return 0;
  std::uint64_t seconds = 0;
  std::from_chars(text.data() + at + 7, text.data() + text.size(), seconds);
  return static_cast<double>(seconds);
}

double open_file_limit() {
  rlimit limit{};
  return ::getrlimit(RLIMIT_NOFILE, &limit) == 0 ? static_cast<double>(limit.rlim_cur) : 0;
}

}  // namespace

std::optional<ProcStat> parse_proc_stat(std::string_view text) {
  // proc_pid_stat(5): fields are counted from 1, the command is the second, and only its last ")" ends it.
  const std::size_t close = text.rfind(')');
  if (close == std::string_view::npos) return std::nullopt;
  text.remove_prefix(close + 1);
  ProcStat out;
  std::size_t number = 2;
  std::size_t found = 0;
  while (!text.empty()) {
    const std::size_t start = text.find_first_not_of(" \n");
    if (start == std::string_view::npos) break;
    text.remove_prefix(start);
    const std::string_view word = text.substr(0, text.find_first_of(" \n"));
    text.remove_prefix(word.size());
    ++number;
    std::uint64_t* target = number == 14   ? &out.user_ticks
                            : number == 15 ? &out.system_ticks
                            : number == 22 ? &out.start_ticks
                            : number == 24 ? &out.resident_pages
                                           : nullptr;
    if (target == nullptr) continue;
    if (std::from_chars(word.data(), word.data() + word.size(), *target).ec != std::errc{}) return std::nullopt;
    ++found;
  }
  if (found != 4) return std::nullopt;
  return out;
}

ProcessStatus process_status() {
  ProcessStatus out;
  out.open_files = count_open_files();
  if (const auto stat = parse_proc_stat(read_proc("/proc/self/stat"))) {
    out.resident_bytes = stat->resident_pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    out.cpu = std::chrono::duration<double>(per_second(stat->user_ticks + stat->system_ticks));
    out.started_at = boot_time() + per_second(stat->start_ticks);
  }
  return out;
}

void register_process_metrics(metrics::Registry& registry, std::string_view version) {
  using metrics::Kind;
  registry.computed(Kind::gauge, "process_resident_memory_bytes", "Resident memory size in bytes.", {},
                    [] { return static_cast<double>(process_status().resident_bytes); });
  registry.computed(Kind::gauge, "process_open_fds", "Number of open file descriptors.", {},
                    [] { return static_cast<double>(process_status().open_files); });
  registry.computed(Kind::gauge, "process_max_fds", "Maximum number of open file descriptors.", {}, open_file_limit);
  registry.computed(Kind::gauge, "process_start_time_seconds", "Start time of the process since the epoch in seconds.",
                    {}, [started = process_status().started_at] { return started; });
  registry.computed(Kind::counter, "process_cpu_seconds_total", "Total user and system CPU time spent in seconds.", {},
                    [] { return process_status().cpu.count(); });
  registry.computed(Kind::gauge, "sluice_build_info", "Always 1; the label tells the version.",
                    {{"version", std::string(version)}}, [] { return 1.0; });
}

}  // namespace sluice::admin
