// A machine that is written down in a test, and what the doctor says of it.
#pragma once

#include <map>
#include <set>
#include <string>
#include <utility>

#include "doctor/diagnose.hpp"

namespace sluice::doctor {

using Texts = std::map<std::string, std::string>;

// A cache on loopback, as it is without any configuration.
inline Cache local_cache() {
  Cache out;
  out.upstreams = {"docker.io", "ghcr.io", "quay.io", "registry.k8s.io"};
  return out;
}

inline Cache cache_at(std::string host, bool tls = false) {
  Cache out = local_cache();
  out.places = {{std::move(host), 5000}};
  out.tls = tls;
  return out;
}

inline Report examine(const Texts& texts, const Cache& cache = local_cache()) {
  const MemoryFiles files(texts);
  return diagnose({files, {"/root"}, false}, cache);
}

// The names of what is wrong.
inline std::set<std::string> problems_of(const Report& report) {
  std::set<std::string> out;
  for (const Finding& finding : report.findings) {
    if (finding.problem) out.insert(finding.name);
  }
  return out;
}

inline std::set<std::string> remarks_of(const Report& report) {
  std::set<std::string> out;
  for (const Finding& finding : report.findings) {
    if (!finding.problem) out.insert(finding.name);
  }
  return out;
}

}  // namespace sluice::doctor
