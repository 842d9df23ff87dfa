#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <limits>
#include <memory>

#include <fmt/format.h>

#include "runtime/filesystem.hpp"

namespace sluice::runtime {
namespace {

Error failed(const char* operation, const Path& path) {
  const int error = errno;
  return errno_error(error, fmt::format("{} {}", operation, path.native()));
}

Error failed(const char* operation) { return errno_error(errno, operation); }

Result<int> open_descriptor(const Path& path, int flags, mode_t mode, const char* operation) {
  int fd = -1;
  do {
    // Neither a FIFO nor a terminal may make it wait, or become ours.
    fd = ::open(path.c_str(), flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, mode);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) return failed(operation, path);
  return fd;
}

FileStatus::Kind kind_of(mode_t mode) {
  if (S_ISREG(mode)) return FileStatus::Kind::regular;
  if (S_ISDIR(mode)) return FileStatus::Kind::directory;
  return FileStatus::Kind::other;
}

std::chrono::system_clock::time_point time_of(const timespec& time) {
  return std::chrono::system_clock::time_point(std::chrono::duration_cast<std::chrono::system_clock::duration>(
      std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec)));
}

FileStatus status_of(const struct stat& st) {
  FileStatus out;
  out.kind = kind_of(st.st_mode);
  out.mode = st.st_mode & 07777U;
  out.links = st.st_nlink;
  out.size_bytes = static_cast<std::uint64_t>(st.st_size);
  out.modified = time_of(st.st_mtim);
  out.changed = time_of(st.st_ctim);
  return out;
}

const char* what_is(mode_t mode) {
  if (S_ISDIR(mode)) return "a directory";
  if (S_ISLNK(mode)) return "a symbolic link";
  if (S_ISFIFO(mode)) return "a FIFO";
  if (S_ISSOCK(mode)) return "a socket";
  if (S_ISCHR(mode) || S_ISBLK(mode)) return "a device";
  return "something else";
}

Error not_regular(const Path& path, mode_t mode) {
  return {Errc::unsupported, fmt::format("{} is {} where a regular file belongs", path.native(), what_is(mode))};
}

// A regular file, with at most `most_links` names.
Result<File> open_regular(const Path& path, int flags, nlink_t most_links, const char* operation) {
  const Result<int> fd = open_descriptor(path, flags, 0, operation);
  struct stat st{};
  if (!fd) {
    // What cannot even be opened: a symbolic link (ELOOP), a socket or a FIFO without a reader (ENXIO), a directory
    // (EISDIR).
    if (fd.error().code == Errc::io && ::lstat(path.c_str(), &st) == 0 && !S_ISREG(st.st_mode)) {
      return not_regular(path, st.st_mode);
    }
    return fd.error();
  }
  File file(*fd);
  if (::fstat(file.fd(), &st) != 0) return failed(operation, path);
  if (!S_ISREG(st.st_mode)) return not_regular(path, st.st_mode);
  if (st.st_nlink > most_links) {
    return Error(Errc::unsupported, fmt::format("{} has {} names where it may have one", path.native(), st.st_nlink));
  }
  return file;
}

// errno, or 0. The umask has no say; the bits beyond the permissions are inherited.
int make_directory(const Path& path, mode_t mode) {
  if (::mkdir(path.c_str(), mode) != 0) return errno;
  struct stat st{};
  if (::lstat(path.c_str(), &st) != 0) return errno;
  if ((st.st_mode & 0777U) == mode) return 0;
  return ::chmod(path.c_str(), (st.st_mode & 07000U) | mode) == 0 ? 0 : errno;
}

Result<void> ok_or(int rc, const char* operation, const Path& path) {
  if (rc != 0) return failed(operation, path);
  return {};
}

}  // namespace

File& File::operator=(File&& other) noexcept {
  if (this != &other) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = std::exchange(other.fd_, -1);
  }
  return *this;
}

File::~File() {
  if (fd_ >= 0) ::close(fd_);
}

Result<bool> try_lock(const File& file) {
  if (::flock(file.fd(), LOCK_EX | LOCK_NB) == 0) return true;
  if (errno == EWOULDBLOCK) return false;
  return failed("lock");
}

void unlock(const File& file) noexcept { (void)::flock(file.fd(), LOCK_UN); }

Result<File> PosixFilesystem::open_read(const Path& path) {
  return open_regular(path, O_RDONLY, std::numeric_limits<nlink_t>::max(), "open");
}

Result<File> PosixFilesystem::open_write(const Path& path) { return open_regular(path, O_RDWR, 1, "open for writing"); }

Result<File> PosixFilesystem::create(const Path& path) {
  const Result<int> fd = open_descriptor(path, O_RDWR | O_CREAT | O_EXCL, file_mode_, "create");
  if (!fd) return fd.error();
  File file(*fd);
  // The umask has no say. It hardly ever takes anything from the owner, so that case costs nothing.
  if ((file_mode_ & 077U) != 0 && ::fchmod(file.fd(), file_mode_) != 0) return failed("change mode of", path);
  return file;
}

Result<void> PosixFilesystem::close(File file) {
  // Not repeated on EINTR: Linux has released the descriptor by then.
  if (::close(file.release()) != 0 && errno != EINTR) return failed("close");
  return {};
}

Result<void> PosixFilesystem::write_at(const File& file, std::uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::pwrite(file.fd(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return failed("write");
    if (n == 0) return errno_error(ENOSPC, "write");
    bytes = bytes.subspan(static_cast<std::size_t>(n));
    offset += static_cast<std::uint64_t>(n);
  }
  return {};
}

Result<std::size_t> PosixFilesystem::read_at(const File& file, std::uint64_t offset, std::span<std::byte> bytes) {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t n = ::pread(file.fd(), bytes.data() + done, bytes.size() - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return failed("read");
    if (n == 0) break;
    done += static_cast<std::size_t>(n);
  }
  return done;
}

// What is in memory is read from there and stays. What is not is dropped again after it was read, and not read ahead
// of, or the pages that came early would be taken for ones that had been there.
Result<std::size_t> PosixFilesystem::scan_at(const File& file, std::uint64_t offset, std::span<std::byte> bytes) {
  const iovec to{bytes.data(), bytes.size()};
  const ssize_t in_memory = ::preadv2(file.fd(), &to, 1, static_cast<off_t>(offset), RWF_NOWAIT);
  const std::size_t done = in_memory > 0 ? static_cast<std::size_t>(in_memory) : 0;
  // Nothing is no end: before Linux 5.11 it may also stand for a page that is not in memory.
  if (done == bytes.size()) return done;
  (void)::posix_fadvise(file.fd(), 0, 0, POSIX_FADV_RANDOM);
  const Result<std::size_t> rest = read_at(file, offset + done, bytes.subspan(done));
  if (!rest) return rest.error();
  (void)::posix_fadvise(file.fd(), static_cast<off_t>(offset + done), static_cast<off_t>(*rest), POSIX_FADV_DONTNEED);
  return done + *rest;
}

Result<std::uint64_t> PosixFilesystem::size(const File& file) {
  struct stat st{};
  if (::fstat(file.fd(), &st) != 0) return failed("stat");
  return static_cast<std::uint64_t>(st.st_size);
}

Result<FileStatus> PosixFilesystem::status(const File& file) {
  struct stat st{};
  if (::fstat(file.fd(), &st) != 0) return failed("stat");
  return status_of(st);
}

Result<bool> PosixFilesystem::is_at(const File& file, const Path& path) {
  struct stat open{};
  struct stat named{};
  if (::fstat(file.fd(), &open) != 0) return failed("stat");
  if (::lstat(path.c_str(), &named) != 0) {
    if (errno == ENOENT) return false;
    return failed("stat", path);
  }
  return open.st_dev == named.st_dev && open.st_ino == named.st_ino;
}

Result<void> PosixFilesystem::truncate(const File& file, std::uint64_t size_bytes) {
  if (::ftruncate(file.fd(), static_cast<off_t>(size_bytes)) != 0) return failed("truncate");
  return {};
}

Result<void> PosixFilesystem::sync(const File& file) {
  if (::fdatasync(file.fd()) != 0) return failed("sync");
  return {};
}

Result<void> PosixFilesystem::sync_directory(const Path& path) {
  const File directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory.is_open()) return failed("open directory", path);
  return ok_or(::fsync(directory.fd()), "sync directory", path);
}

Result<void> PosixFilesystem::rename(const Path& from, const Path& to) {
  return ok_or(::rename(from.c_str(), to.c_str()), "rename to", to);
}

Result<void> PosixFilesystem::remove(const Path& path) { return ok_or(::unlink(path.c_str()), "remove", path); }

Result<void> PosixFilesystem::create_directories(const Path& path) {
  const mode_t mode = directory_mode(file_mode_);
  int error = make_directory(path, mode);
  if (error == ENOENT && path.has_parent_path() && path.parent_path() != path) {
    if (Result<void> made = create_directories(path.parent_path()); !made) return made;
    error = make_directory(path, mode);
  }
  if (error == 0) return {};
  struct stat st{};
  // A link to a directory is one here: people put the data directory elsewhere with it.
  if (error == EEXIST && ::stat(path.c_str(), &st) == 0 && S_ISDIR(st.st_mode)) return {};
  return errno_error(error == EEXIST ? ENOTDIR : error, fmt::format("create directory {}", path.native()));
}

Result<void> PosixFilesystem::set_mode(const Path& path, unsigned mode) {
  return ok_or(::chmod(path.c_str(), static_cast<mode_t>(mode)), "change mode of", path);
}

Result<FileStatus> PosixFilesystem::status(const Path& path) {
  struct stat st{};
  if (::lstat(path.c_str(), &st) != 0) return failed("stat", path);
  return status_of(st);
}

Result<std::vector<DirectoryEntry>> PosixFilesystem::list(const Path& directory) {
  struct Close {
    void operator()(DIR* open) const { ::closedir(open); }
  };
  const std::unique_ptr<DIR, Close> open(::opendir(directory.c_str()));
  if (!open) return failed("list", directory);
  std::vector<DirectoryEntry> out;
  for (;;) {
    errno = 0;
    const dirent* entry = ::readdir(open.get());
    if (entry == nullptr) break;
    if (std::strcmp(entry->d_name, ".") == 0 || std::strcmp(entry->d_name, "..") == 0) continue;
    FileStatus::Kind kind = FileStatus::Kind::other;
    if (entry->d_type == DT_REG) kind = FileStatus::Kind::regular;
    if (entry->d_type == DT_DIR) kind = FileStatus::Kind::directory;
    if (entry->d_type == DT_UNKNOWN) {
      const Result<FileStatus> looked_up = status(directory / entry->d_name);
      if (looked_up) kind = looked_up->kind;
    }
    out.push_back({entry->d_name, kind});
  }
  if (errno != 0) return failed("list", directory);
  return out;
}

Result<Space> PosixFilesystem::space(const Path& path) {
  struct statvfs st{};
  if (::statvfs(path.c_str(), &st) != 0) return failed("statvfs", path);
  return Space{static_cast<std::uint64_t>(st.f_blocks) * st.f_frsize,
               static_cast<std::uint64_t>(st.f_bavail) * st.f_frsize};
}

}  // namespace sluice::runtime
