#include "doctor/files.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace sluice::doctor {
namespace {

// No client's configuration comes near it.
constexpr std::size_t kMaxFileBytes = std::size_t{4} << 20;

}  // namespace

std::string below(std::string_view folder, std::string_view name) {
  std::string out(folder);
  out.append("/").append(name);
  return out;
}

std::vector<std::string> certificates_in(const Files& files, const std::string& folder) {
  std::vector<std::string> out;
  for (const std::string& name : files.list(folder)) {
    if (name.ends_with(".crt")) out.push_back(below(folder, name));
  }
  return out;
}

bool is_backup(std::string_view name) {
  return name.ends_with('~') || name.find(".conf.") != std::string_view::npos ||
         name.find(".toml.") != std::string_view::npos;
}

Result<RootFiles> RootFiles::open(const std::string& root) {
  const int fd = ::open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return errno_error(errno, "open " + root);
  return RootFiles(fd);
}

RootFiles::~RootFiles() {
  if (root_ >= 0) ::close(root_);
}

int RootFiles::open_below(const std::string& path, int flags) const {
  const std::string relative = "." + path;
  open_how how{};
  how.flags = static_cast<std::uint64_t>(flags | O_CLOEXEC);
  how.resolve = RESOLVE_IN_ROOT;
  const auto fd = static_cast<int>(::syscall(SYS_openat2, root_, relative.c_str(), &how, sizeof how));
  if (fd >= 0 || (errno != ENOSYS && errno != EPERM)) return fd;
  return ::openat(root_, relative.c_str(), flags | O_CLOEXEC);
}

Result<std::string> RootFiles::read(const std::string& path) const {
  // A pipe in the place of a file must not hold us up.
  const int fd = open_below(path, O_RDONLY | O_NONBLOCK);
  if (fd < 0)
    return errno == ENOENT || errno == ENOTDIR ? Error{Errc::not_found, path} : errno_error(errno, "open " + path);
  std::string out;
  std::array<char, 16 * 1024> piece{};
  ssize_t got = 0;
  while ((got = ::read(fd, piece.data(), piece.size())) > 0 && out.size() <= kMaxFileBytes) {
    out.append(piece.data(), static_cast<std::size_t>(got));
  }
  const int failure = errno;
  ::close(fd);
  if (got < 0) return errno_error(failure, "read " + path);
  if (out.size() > kMaxFileBytes) return Error{Errc::io, path + ": larger than 4 MiB"};
  return out;
}

std::vector<std::string> RootFiles::list(const std::string& folder) const {
  std::vector<std::string> out;
  const int fd = open_below(folder, O_RDONLY | O_DIRECTORY);
  if (fd < 0) return out;
  DIR* directory = ::fdopendir(fd);
  if (directory == nullptr) {
    ::close(fd);
    return out;
  }
  // One thread at a time, as the class says.
  while (const dirent* entry = ::readdir(directory)) {  // NOLINT(concurrency-mt-unsafe)
    const std::string name = static_cast<const char*>(entry->d_name);
    if (name != "." && name != "..") out.push_back(name);
  }
  ::closedir(directory);
  std::sort(out.begin(), out.end());
  return out;
}

bool RootFiles::exists(const std::string& path) const {
  const int fd = open_below(path, O_PATH);
  if (fd >= 0) ::close(fd);
  return fd >= 0;
}

}  // namespace sluice::doctor
