#include "admin/distribution_families.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <utility>

namespace sluice::admin {
namespace {

using metrics::Family;
using metrics::Kind;
using metrics::Labels;
using metrics::Sample;

bool has(const Labels& labels, std::string_view name, std::string_view value) {
  return std::any_of(labels.begin(), labels.end(),
                     [&](const auto& label) { return label.first == name && label.second == value; });
}

// The samples of a family that have this label, added up.
double sum(const std::vector<Family>& families, std::string_view family, std::string_view label = {},
           std::string_view value = {}) {
  double out = 0;
  for (const Family& each : families) {
    if (each.name != family) continue;
    for (const Sample& sample : each.samples) {
      if (label.empty() || has(sample.labels, label, value)) out += sample.value;
    }
  }
  return out;
}

double requests(const std::vector<Family>& families, std::string_view type,
                std::initializer_list<std::string_view> results) {
  const std::string family = "sluice_" + std::string(type) + "_requests_total";
  double out = 0;
  for (const std::string_view result : results) out += sum(families, family, "result", result);
  return out;
}

Family counter(std::string name, std::string help) { return {std::move(name), std::move(help), Kind::counter, {}}; }

void add(Family& family, std::string_view type, double value) {
  family.samples.push_back({{{"type", std::string(type)}}, value, {}});
}

// As distribution counts them: a hit was served from the store, a miss was fetched for this request.
void add_proxy(const std::vector<Family>& from, std::vector<Family>& to) {
  Family all = counter("registry_proxy_requests_total", "As in distribution: requests to the proxy");
  Family hits = counter("registry_proxy_hits_total", "As in distribution: requests served from the store");
  Family misses = counter("registry_proxy_misses_total", "As in distribution: requests served from upstream");
  Family pulled = counter("registry_proxy_pulled_bytes_total", "As in distribution: bytes received from upstream");
  Family pushed = counter("registry_proxy_pushed_bytes_total", "As in distribution: bytes sent to clients");
  for (const std::string_view type : {std::string_view("blob"), std::string_view("manifest")}) {
    const double hit = requests(from, type, {"hit", "stale"});
    const double miss = requests(from, type, {"miss", "join", "range"});
    add(all, type, hit + miss + requests(from, type, {"error", "unknown", "denied"}));
    add(hits, type, hit);
    add(misses, type, miss);
    const std::string_view received = "sluice_fill_received_bytes_total";
    add(pulled, type, sum(from, received, "kind", type) + (type == "blob" ? sum(from, received, "kind", "range") : 0));
    add(pushed, type, sum(from, "sluice_client_sent_bytes_total", "kind", type));
  }
  for (Family* family : {&all, &hits, &misses, &pulled, &pushed}) to.push_back(std::move(*family));
}

void add_storage_cache(const std::vector<Family>& from, std::vector<Family>& to) {
  const std::array<std::pair<std::string_view, double>, 4> values{
      {{"Request", sum(from, "sluice_descriptor_cache_requests_total")},
       {"Hit", sum(from, "sluice_descriptor_cache_hits_total")},
       {"Miss", sum(from, "sluice_descriptor_cache_misses_total")},
       {"Error", sum(from, "sluice_descriptor_cache_errors_total")}}};
  Family by_type = counter("registry_storage_cache_total", "As in distribution 2: look-ups in the descriptor cache");
  for (const auto& [type, value] : values) add(by_type, type, value);
  to.push_back(std::move(by_type));
  // Of distribution 3, which has a family for each and no Miss.
  const auto plain = [&](std::string_view name, double value) {
    Family family = counter("registry_storage_cache_" + std::string(name) + "_total",
                            "As in distribution 3: look-ups in the descriptor cache");
    family.samples.push_back({{}, value, {}});
    to.push_back(std::move(family));
  };
  plain("requests", values[0].second);
  plain("hits", values[1].second);
  plain("errors", values[3].second);
}

}  // namespace

void add_distribution_families(std::vector<Family>& families) {
  std::vector<Family> added;
  add_proxy(families, added);
  add_storage_cache(families, added);
  families.insert(families.end(), std::make_move_iterator(added.begin()), std::make_move_iterator(added.end()));
  std::sort(families.begin(), families.end(), [](const Family& a, const Family& b) { return a.name < b.name; });
}

}  // namespace sluice::admin
