#include <algorithm>

#include <catch2/catch.hpp>

#include "admin/process_metrics.hpp"

using namespace sluice;
using namespace sluice::admin;

TEST_CASE("proc stat: fields are counted behind the command, whatever it is called", "[admin]") {
  const auto stat = parse_proc_stat(
      "1234 (a (b) c) S 1 1234 1234 0 -1 4194560 900 0 0 0 17 5 0 0 20 0 3 0 777 11000000 2048 18446744073709551615 1 "
      "1\n");
  REQUIRE(stat.has_value());
  CHECK(stat->user_ticks == 17);
  CHECK(stat->system_ticks == 5);
  CHECK(stat->start_ticks == 777);
  CHECK(stat->resident_pages == 2048);
}

TEST_CASE("proc stat: what is cut short or not a number is refused", "[admin]") {
  CHECK_FALSE(parse_proc_stat("").has_value());
  CHECK_FALSE(parse_proc_stat("1 (x").has_value());
  CHECK_FALSE(parse_proc_stat("1 (x) S 1 2 3").has_value());
  CHECK_FALSE(parse_proc_stat("1 (x) S 1 1 1 0 -1 0 0 0 0 0 many 5 0 0 20 0 3 0 777 1 2048").has_value());
}

TEST_CASE("Process metrics: this process has memory, files, a start and a version", "[admin]") {
  metrics::Registry registry;
  register_process_metrics(registry, "1.2.3");
  const std::vector<metrics::Family> families = registry.collect();
  const auto value = [&](std::string_view name) {
    const auto at = std::find_if(families.begin(), families.end(), [&](const auto& f) { return f.name == name; });
    return at == families.end() ? -1.0 : at->samples.front().value;
  };
  CHECK(value("process_resident_memory_bytes") > 100'000);
  CHECK(value("process_open_fds") >= 1);
  CHECK(value("process_max_fds") >= value("process_open_fds"));
  CHECK(value("process_start_time_seconds") > 1.0e9);
  CHECK(value("process_cpu_seconds_total") >= 0);
  CHECK(value("sluice_build_info") == 1);
}
