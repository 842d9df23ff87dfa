// A machine that is written down in a test, and what the doctor says of it.
#pragma once

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "doctor/diagnose.hpp"

namespace sluice::doctor {

// The text of a file that only root may read.
inline const std::string kUnreadable = "\1";

using Texts = std::map<std::string, std::string>;

// What is written down in a map.
class MemoryFiles final : public Files {
 public:
  explicit MemoryFiles(Texts texts) : texts_(std::move(texts)) {}

  [[nodiscard]] Result<std::string> read(const std::string& path) const override {
    const auto at = texts_.find(path);
    if (at == texts_.end()) return Error{Errc::not_found, path};
    if (at->second == kUnreadable) return Error{Errc::io, "open " + path + ": Permission denied"};
    return at->second;
  }
  [[nodiscard]] std::vector<std::string> list(const std::string& folder) const override {
    const std::string prefix = folder + "/";
    std::set<std::string> out;
    for (const auto& [path, text] : texts_) {
      if (!path.starts_with(prefix)) continue;
      out.insert(path.substr(prefix.size(), path.find('/', prefix.size()) - prefix.size()));
    }
    return {out.begin(), out.end()};
  }
  [[nodiscard]] bool exists(const std::string& path) const override {
    return texts_.contains(path) || !list(path).empty();
  }

 private:
  Texts texts_;
};

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
