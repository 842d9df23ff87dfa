// Files: the configuration of a machine, read below a root.
//
// Threads: any one at a time.
#pragma once

#include <string>
#include <string_view>
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

// "/etc/docker/daemon.json".
std::string below(std::string_view folder, std::string_view name);
// The paths of the *.crt in a folder.
std::vector<std::string> certificates_in(const Files& files, const std::string& folder);
// Whether a name is that of a copy of a file: "mirror.toml.bak", "mirror.conf.rpmsave", "mirror.toml~".
bool is_backup(std::string_view name);

}  // namespace sluice::doctor
