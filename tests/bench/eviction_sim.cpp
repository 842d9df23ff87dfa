// Which blobs are worth keeping: hit ratios of eviction policies on a trace of requests. docs/eviction.md has the
// results.
//
//   bench_eviction              a synthetic trace with the published shape of registry traffic
//   bench_eviction TRACE.csv    columns timestamp,blob,repository,bytes,duration_seconds,client, one line of heads
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <random>
#include <string>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include <fmt/format.h>

#include "bench/eviction_policies.hpp"

using namespace sluice::bench;

namespace {

struct Request {
  double time = 0;
  Object object = 0;
  std::uint64_t size = 0;
};

// Half below 12 kB, a fifth above 10 MB up to 700 MB with about 95 % of the bytes.
std::uint64_t draw_size(std::mt19937_64& random) {
  std::uniform_real_distribution<double> unit(0, 1);
  const double kind = unit(random);
  const double at = unit(random);
  if (kind < 0.5) return static_cast<std::uint64_t>(120 * std::pow(12'000.0 / 120, at));
  if (kind < 0.8) return static_cast<std::uint64_t>(12e3 * std::pow(10e6 / 12e3, at));
  constexpr double kAlpha = 1.1;
  constexpr double kRatio = 70;  // 10 MB to 700 MB
  return static_cast<std::uint64_t>(10e6 / std::pow(1 - at * (1 - std::pow(kRatio, -kAlpha)), 1 / kAlpha));
}

// 88 % of the objects are asked for once, 5 % take 38 % of the requests, a tenth of the repeats follow at once.
std::vector<Request> synthetic() {
  constexpr Object kObjects = 40'000;
  std::mt19937_64 random(1);
  std::uniform_real_distribution<double> unit(0, 1);
  std::vector<Request> out;
  for (Object object = 0; object < kObjects; ++object) {
    const std::uint64_t size = draw_size(random);
    const double kind = unit(random);
    int repeats = 0;
    if (kind < 0.05) {
      repeats = 4 + static_cast<int>(std::exponential_distribution<double>(1.0 / 8.8)(random));
    } else if (kind < 0.12) {
      repeats = 1 + static_cast<int>(std::exponential_distribution<double>(0.7)(random));
    }
    double time = unit(random);
    out.push_back({time, object, size});
    // Images are in fashion for a while, each for its own.
    std::exponential_distribution<double> gap(1 / std::pow(10, -3 + 2.3 * unit(random)));
    for (int n = 0; n < repeats; ++n) {
      time += unit(random) < 0.1 ? 2.0 / kObjects * unit(random) : gap(random);
      if (time < 1) out.push_back({time, object, size});
    }
  }
  // Not std::stable_sort: libstdc++ 12 has it call what it has deprecated itself, and clang says so.
  std::sort(out.begin(), out.end(),
            [](const Request& a, const Request& b) { return std::tie(a.time, a.object) < std::tie(b.time, b.object); });
  return out;
}

std::vector<Request> read_csv(const char* path) {
  std::ifstream in(path);
  std::vector<Request> out;
  std::unordered_map<std::string, std::pair<Object, std::uint64_t>> objects;
  std::string line;
  std::getline(in, line);
  while (std::getline(in, line)) {
    std::vector<std::string> fields(1);
    for (const char c : line) {
      if (c == ',') {
        fields.emplace_back();
      } else {
        fields.back() += c;
      }
    }
    std::uint64_t size = 0;
    if (fields.size() < 4 ||
        std::from_chars(fields[3].data(), fields[3].data() + fields[3].size(), size).ec != std::errc{}) {
      continue;
    }
    // A broken transfer has a smaller number: the first one counts.
    const auto at = objects.try_emplace(fields[1], static_cast<Object>(objects.size()), size).first;
    out.push_back({static_cast<double>(out.size()), at->second.first, at->second.second});
  }
  return out;
}

void describe(const std::vector<Request>& trace) {
  std::unordered_map<Object, std::size_t> uses;
  std::unordered_map<Object, std::uint64_t> sizes;
  for (const Request& request : trace) {
    ++uses[request.object];
    sizes[request.object] = request.size;
  }
  std::uint64_t unique = 0, large_bytes = 0;
  std::size_t small = 0, large = 0, once = 0;
  std::vector<std::size_t> counts;
  for (const auto& [object, size] : sizes) {
    unique += size;
    small += size < 12'000 ? 1 : 0;
    large += size > 10'000'000 ? 1 : 0;
    large_bytes += size > 10'000'000 ? size : 0;
    once += uses[object] == 1 ? 1 : 0;
    counts.push_back(uses[object]);
  }
  std::sort(counts.rbegin(), counts.rend());
  std::size_t top = 0;
  for (std::size_t i = 0; i < counts.size() / 20; ++i) top += counts[i];
  const double n = static_cast<double>(sizes.size()) / 100;
  fmt::print(
      "{} requests, {} objects, {:.1f} GB; {:.0f} % below 12 kB, {:.0f} % above 10 MB with {:.0f} % of the bytes; "
      "{:.0f} % asked for once, 5 % take {:.0f} % of the requests\n",
      trace.size(), sizes.size(), static_cast<double>(unique) / 1e9, static_cast<double>(small) / n,
      static_cast<double>(large) / n, 100.0 * static_cast<double>(large_bytes) / static_cast<double>(unique),
      static_cast<double>(once) / n, 100.0 * static_cast<double>(top) / static_cast<double>(trace.size()));
}

void simulate(const std::vector<Request>& trace) {
  describe(trace);
  std::unordered_set<Object> seen;
  std::uint64_t unique = 0, all = 0, again = 0;
  std::size_t repeats = 0;
  for (const Request& request : trace) {
    all += request.size;
    if (seen.insert(request.object).second) {
      unique += request.size;
    } else {
      ++repeats;
      again += request.size;
    }
  }
  fmt::print("hits of all requests in %, objects / bytes; without a limit {:.1f} / {:.1f}\n",
             100.0 * static_cast<double>(repeats) / static_cast<double>(trace.size()),
             100.0 * static_cast<double>(again) / static_cast<double>(all));
  fmt::print("{:<10}{:>14}{:>14}{:>14}{:>14}{:>14}\n", "", "2 %", "5 %", "10 %", "20 %", "50 %");
  for (const std::string_view name : kPolicies) {
    fmt::print("{:<10}", name);
    for (const std::uint64_t percent : {2, 5, 10, 20, 50}) {
      const auto policy = make_policy(name, unique / 100 * percent);
      std::size_t hits = 0;
      std::uint64_t bytes = 0;
      for (const Request& request : trace) {
        if (!policy->access(request.object, request.size)) continue;
        ++hits;
        bytes += request.size;
      }
      fmt::print("{:>14}",
                 fmt::format("{:.1f} / {:.1f}", 100.0 * static_cast<double>(hits) / static_cast<double>(trace.size()),
                             100.0 * static_cast<double>(bytes) / static_cast<double>(all)));
    }
    fmt::print("\n");
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<Request> trace = argc > 1 ? read_csv(argv[1]) : synthetic();
  if (trace.empty()) {
    fmt::print(stderr, "no requests in {}\n", argv[1]);
    return 1;
  }
  simulate(trace);
  return 0;
}
