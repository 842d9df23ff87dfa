#include "app/reload_metrics.hpp"

namespace sluice::app {
namespace {

metrics::Counter& reloads(metrics::Registry& registry, const char* result) {
  return registry.counter("sluice_config_reloads_total",
                          "Times that the configuration was read again: applied, or refused.", {{"result", result}});
}

}  // namespace

ReloadMetrics::ReloadMetrics(metrics::Registry& registry)
    : applied_(reloads(registry, "applied")),
      refused_(reloads(registry, "refused")),
      successful_(registry.gauge("sluice_config_last_reload_successful",
                                 "0 while the configuration on the disk was refused and an older one is in force.")),
      success_time_(registry.gauge("sluice_config_last_reload_success_timestamp_seconds",
                                   "When the configuration that is in force was read, in seconds since 1970.")) {
  successful_.set(1);
  success_time_.set(std::chrono::system_clock::to_time_t(std::chrono::system_clock::now()));
}

void ReloadMetrics::applied(std::chrono::system_clock::time_point now) {
  applied_.add();
  successful_.set(1);
  success_time_.set(std::chrono::system_clock::to_time_t(now));
}

void ReloadMetrics::refused() {
  refused_.add();
  successful_.set(0);
}

}  // namespace sluice::app
