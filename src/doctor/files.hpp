// Files: the configuration of a machine, read below a root. RootFiles reads a real one; tests have a map.
//
// Threads: any one at a time.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.hpp"

namespace sluice::doctor {

class Files {
 public:
  virtual ~Files() = default;

  // The text of a file, by its absolute path on that machine ("/etc/docker/daemon.json"). Errors: not_found; others
  // where it is there and cannot be read.
  [[nodiscard]] virtual Result<std::string> read(const std::string& path) const = 0;
  // Names in a folder, sorted; none where there is no such folder.
  [[nodiscard]] virtual std::vector<std::string> list(const std::string& folder) const = 0;
  // A file or a folder.
  [[nodiscard]] virtual bool exists(const std::string& path) const = 0;
};

// Below `root`, which links in it cannot leave where the kernel knows openat2 (Linux 5.6).
class RootFiles final : public Files {
 public:
  // Errors: as errno_error, where `root` is no folder.
  static Result<RootFiles> open(const std::string& root);
  RootFiles(RootFiles&& other) noexcept : root_(other.root_) { other.root_ = -1; }
  RootFiles(const RootFiles&) = delete;
  RootFiles& operator=(const RootFiles&) = delete;
  RootFiles& operator=(RootFiles&&) = delete;
  ~RootFiles() override;

  [[nodiscard]] Result<std::string> read(const std::string& path) const override;
  [[nodiscard]] std::vector<std::string> list(const std::string& folder) const override;
  [[nodiscard]] bool exists(const std::string& path) const override;

 private:
  explicit RootFiles(int root) : root_(root) {}
  [[nodiscard]] int open_below(const std::string& path, int flags) const;
  int root_;
};

// What is written down in a map, as tests do.
class MemoryFiles final : public Files {
 public:
  explicit MemoryFiles(std::map<std::string, std::string> texts) : texts_(std::move(texts)) {}

  [[nodiscard]] Result<std::string> read(const std::string& path) const override;
  [[nodiscard]] std::vector<std::string> list(const std::string& folder) const override;
  [[nodiscard]] bool exists(const std::string& path) const override;

 private:
  std::map<std::string, std::string> texts_;
};

// "/etc/docker/daemon.json".
std::string below(std::string_view folder, std::string_view name);

}  // namespace sluice::doctor
