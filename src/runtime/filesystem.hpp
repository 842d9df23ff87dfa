// The only door to the disk. Injected everywhere, so that tests can put a faulty one in its place.
//
// Threads: all functions are thread-safe; they block, so event loops call only those marked "loop". Errors are those of
// errno_error (not_found, exists, no_space, io) with the operation and the path in the message.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/result.hpp"

namespace sluice::runtime {

using Path = std::filesystem::path;

// An open file descriptor. Closes itself; an error on that close is lost, so writers use Filesystem::close.
class File {
 public:
  File() noexcept = default;
  explicit File(int fd) noexcept : fd_(fd) {}
  File(File&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  File& operator=(File&& other) noexcept;
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File();

  [[nodiscard]] int fd() const noexcept { return fd_; }
  [[nodiscard]] bool is_open() const noexcept { return fd_ >= 0; }
  // Gives the descriptor away.
  [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }

 private:
  int fd_ = -1;
};

struct FileStatus {
  enum class Kind : std::uint8_t { regular, directory, other };
  Kind kind = Kind::other;
  unsigned mode = 0;        // the permission bits, as set_mode takes them
  std::uint64_t links = 0;  // names of the file; 0: it is open, and was removed
  std::uint64_t size_bytes = 0;
  std::chrono::system_clock::time_point modified;
  std::chrono::system_clock::time_point changed;  // the content, the name or the mode
};

struct DirectoryEntry {
  std::string name;
  FileStatus::Kind kind = FileStatus::Kind::other;
};

struct Space {
  std::uint64_t capacity_bytes = 0;
  std::uint64_t available_bytes = 0;  // to an unprivileged process
};

// Takes the lock (flock) on the open file for this process. It lasts until every descriptor of this opening is closed,
// until unlock(), or until the process dies. Whether it was had: not where another opening of the file has it, in
// whatever process.
Result<bool> try_lock(const File& file);
void unlock(const File& file) noexcept;

class Filesystem {
 public:
  virtual ~Filesystem() = default;

  // The two below open regular files alone: anything else (a symbolic link, a FIFO, a device, a directory) is
  // refused, without waiting for it, with `unsupported`.
  virtual Result<File> open_read(const Path& path) = 0;
  // For reading and writing; the file must exist. One that has another name too is refused with `unsupported`: what is
  // written would appear there.
  virtual Result<File> open_write(const Path& path) = 0;
  // For reading and writing; the file must not exist (O_EXCL).
  virtual Result<File> create(const Path& path) = 0;
  // Close with its error (EIO, EDQUOT on network file systems).
  virtual Result<void> close(File file) = 0;

  // Loop. All of `bytes`, or an error; a short write is continued.
  virtual Result<void> write_at(const File& file, std::uint64_t offset, std::span<const std::byte> bytes) = 0;
  // Up to bytes.size(); fewer only at the end of the file, 0 at or past it.
  virtual Result<std::size_t> read_at(const File& file, std::uint64_t offset, std::span<std::byte> bytes) = 0;
  // As read_at, but leaves the page cache as it was: for reading much that nobody may ask for again.
  virtual Result<std::size_t> scan_at(const File& file, std::uint64_t offset, std::span<std::byte> bytes) = 0;
  // Loop (no disk access for an open file).
  virtual Result<std::uint64_t> size(const File& file) = 0;
  // Loop (as size).
  virtual Result<FileStatus> status(const File& file) = 0;
  // Whether `path` is that open file, and not another one of the same name, or none.
  virtual Result<bool> is_at(const File& file, const Path& path) = 0;
  virtual Result<void> truncate(const File& file, std::uint64_t size_bytes) = 0;
  // fdatasync.
  virtual Result<void> sync(const File& file) = 0;

  virtual Result<void> sync_directory(const Path& path) = 0;
  // Replaces `to` atomically where it exists.
  virtual Result<void> rename(const Path& from, const Path& to) = 0;
  virtual Result<void> remove(const Path& path) = 0;
  // With parents; an existing directory is success.
  virtual Result<void> create_directories(const Path& path) = 0;
  virtual Result<void> set_mode(const Path& path, unsigned mode) = 0;
  virtual Result<FileStatus> status(const Path& path) = 0;
  // Without `.` and `..`, in no order.
  virtual Result<std::vector<DirectoryEntry>> list(const Path& directory) = 0;
  virtual Result<Space> space(const Path& path) = 0;
};

// Files and directories that it makes have the modes that it is made with, whatever the umask is.
class PosixFilesystem final : public Filesystem {
 public:
  // The permissions of files. Directories have them too, and may be searched by whoever may read.
  explicit PosixFilesystem(unsigned file_mode = 0600) noexcept : file_mode_(file_mode) {}
  static constexpr unsigned directory_mode(unsigned file_mode) noexcept {
    return file_mode | ((file_mode & 0444U) >> 2U);
  }

  Result<File> open_read(const Path& path) override;
  Result<File> open_write(const Path& path) override;
  Result<File> create(const Path& path) override;
  Result<void> close(File file) override;
  Result<void> write_at(const File& file, std::uint64_t offset, std::span<const std::byte> bytes) override;
  Result<std::size_t> read_at(const File& file, std::uint64_t offset, std::span<std::byte> bytes) override;
  Result<std::size_t> scan_at(const File& file, std::uint64_t offset, std::span<std::byte> bytes) override;
  Result<std::uint64_t> size(const File& file) override;
  Result<FileStatus> status(const File& file) override;
  Result<bool> is_at(const File& file, const Path& path) override;
  Result<void> truncate(const File& file, std::uint64_t size_bytes) override;
  Result<void> sync(const File& file) override;
  Result<void> sync_directory(const Path& path) override;
  Result<void> rename(const Path& from, const Path& to) override;
  Result<void> remove(const Path& path) override;
  Result<void> create_directories(const Path& path) override;
  Result<void> set_mode(const Path& path, unsigned mode) override;
  Result<FileStatus> status(const Path& path) override;
  Result<std::vector<DirectoryEntry>> list(const Path& directory) override;
  Result<Space> space(const Path& path) override;

 private:
  const unsigned file_mode_;
};

// Passes everything on to another file system, after asking a rule whether to fail instead.
class FaultyFilesystem final : public Filesystem {
 public:
  enum class Operation : std::uint8_t {
    open_read,
    open_write,
    create,
    close,
    write_at,
    read_at,  // and scan_at
    size,
    is_at,
    truncate,
    sync,
    sync_directory,
    rename,
    remove,
    create_directories,
    set_mode,
    status,
    list,
    space
  };
  // 0 lets the operation through; an errno makes it fail. `path` is empty for operations on an open file. Called under
  // a lock, from any thread.
  using Rule = std::function<int(Operation operation, const Path& path)>;

  explicit FaultyFilesystem(Filesystem& beneath) : beneath_(beneath) {}

  void set_rule(Rule rule);
  // Called before each operation, without a lock, so it may wait: for a disk that takes its time. Before threads use
  // the file system.
  using Stall = std::function<void(Operation operation, const Path& path)>;
  void set_stall(Stall stall) { stall_ = std::move(stall); }

  Result<File> open_read(const Path& path) override;
  Result<File> open_write(const Path& path) override;
  Result<File> create(const Path& path) override;
  Result<void> close(File file) override;
  Result<void> write_at(const File& file, std::uint64_t offset, std::span<const std::byte> bytes) override;
  Result<std::size_t> read_at(const File& file, std::uint64_t offset, std::span<std::byte> bytes) override;
  Result<std::size_t> scan_at(const File& file, std::uint64_t offset, std::span<std::byte> bytes) override;
  Result<std::uint64_t> size(const File& file) override;
  Result<FileStatus> status(const File& file) override;
  Result<bool> is_at(const File& file, const Path& path) override;
  Result<void> truncate(const File& file, std::uint64_t size_bytes) override;
  Result<void> sync(const File& file) override;
  Result<void> sync_directory(const Path& path) override;
  Result<void> rename(const Path& from, const Path& to) override;
  Result<void> remove(const Path& path) override;
  Result<void> create_directories(const Path& path) override;
  Result<void> set_mode(const Path& path, unsigned mode) override;
  Result<FileStatus> status(const Path& path) override;
  Result<std::vector<DirectoryEntry>> list(const Path& directory) override;
  Result<Space> space(const Path& path) override;

 private:
  int ask(Operation operation, const Path& path);

  Filesystem& beneath_;
  Stall stall_;
  std::mutex mutex_;  // guards rule_
  Rule rule_;
};

}  // namespace sluice::runtime
