// RepositoryRules: which repositories are there for clients, by patterns of their names with the upstream in front.
//
// Owned by the composition root, which exchanges the patterns while requests are served. Threads: all functions are
// thread-safe.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/version.hpp"

namespace sluice::access {

class RepositoryRules {
 public:
  // As upstream::matches_repository takes them.
  struct Patterns {
    std::vector<std::string> allow;  // empty: all
    std::vector<std::string> deny;   // stands above it
  };

  void set(Patterns patterns);

  // Over when they are set.
  [[nodiscard]] Version::Watch watch() const noexcept { return version_.watch(); }

  // `repository` with its upstream: "docker.io/library/busybox".
  [[nodiscard]] bool permits(std::string_view repository) const;
  [[nodiscard]] bool permit_all() const noexcept { return !any_.load(std::memory_order_acquire); }

 private:
  std::atomic<bool> any_{false};
  Version version_;
  mutable std::mutex mutex_;  // guards patterns_, the pointer
  std::shared_ptr<const Patterns> patterns_ = std::make_shared<const Patterns>();
};

}  // namespace sluice::access
