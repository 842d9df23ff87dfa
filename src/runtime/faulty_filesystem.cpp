#include <fmt/format.h>

#include "runtime/filesystem.hpp"

namespace sluice::runtime {

void FaultyFilesystem::set_rule(Rule rule) {
  const std::scoped_lock lock(mutex_);
  rule_ = std::move(rule);
}

int FaultyFilesystem::ask(Operation operation, const Path& path) {
  if (stall_) stall_(operation, path);
  const std::scoped_lock lock(mutex_);
  return rule_ ? rule_(operation, path) : 0;
}

Result<File> FaultyFilesystem::open_read(const Path& path) {
  if (const int error = ask(Operation::open_read, path); error != 0)
    return errno_error(error, fmt::format("injected: open_read {}", path.native()));
  return beneath_.open_read(path);
}

Result<File> FaultyFilesystem::open_write(const Path& path) {
  if (const int error = ask(Operation::open_write, path); error != 0)
    return errno_error(error, fmt::format("injected: open_write {}", path.native()));
  return beneath_.open_write(path);
}

Result<File> FaultyFilesystem::create(const Path& path) {
  if (const int error = ask(Operation::create, path); error != 0)
    return errno_error(error, fmt::format("injected: create {}", path.native()));
  return beneath_.create(path);
}

Result<void> FaultyFilesystem::close(File file) {
  if (const int error = ask(Operation::close, {}); error != 0) return errno_error(error, "injected: close");
  return beneath_.close(std::move(file));
}

Result<void> FaultyFilesystem::write_at(const File& file, std::uint64_t offset, std::span<const std::byte> bytes) {
  if (const int error = ask(Operation::write_at, {}); error != 0) return errno_error(error, "injected: write_at");
  return beneath_.write_at(file, offset, bytes);
}

Result<std::size_t> FaultyFilesystem::read_at(const File& file, std::uint64_t offset, std::span<std::byte> bytes) {
  if (const int error = ask(Operation::read_at, {}); error != 0) return errno_error(error, "injected: read_at");
  return beneath_.read_at(file, offset, bytes);
}

Result<std::size_t> FaultyFilesystem::scan_at(const File& file, std::uint64_t offset, std::span<std::byte> bytes) {
  if (const int error = ask(Operation::read_at, {}); error != 0) return errno_error(error, "injected: scan_at");
  return beneath_.scan_at(file, offset, bytes);
}

Result<std::uint64_t> FaultyFilesystem::size(const File& file) {
  if (const int error = ask(Operation::size, {}); error != 0) return errno_error(error, "injected: size");
  return beneath_.size(file);
}

Result<FileStatus> FaultyFilesystem::status(const File& file) {
  if (const int error = ask(Operation::status, {}); error != 0) return errno_error(error, "injected: status");
  return beneath_.status(file);
}

Result<bool> FaultyFilesystem::is_at(const File& file, const Path& path) {
  if (const int error = ask(Operation::is_at, path); error != 0)
    return errno_error(error, fmt::format("injected: is_at {}", path.native()));
  return beneath_.is_at(file, path);
}

Result<void> FaultyFilesystem::truncate(const File& file, std::uint64_t size_bytes) {
  if (const int error = ask(Operation::truncate, {}); error != 0) return errno_error(error, "injected: truncate");
  return beneath_.truncate(file, size_bytes);
}

Result<void> FaultyFilesystem::sync(const File& file) {
  if (const int error = ask(Operation::sync, {}); error != 0) return errno_error(error, "injected: sync");
  return beneath_.sync(file);
}

Result<void> FaultyFilesystem::sync_directory(const Path& path) {
  if (const int error = ask(Operation::sync_directory, path); error != 0)
    return errno_error(error, fmt::format("injected: sync_directory {}", path.native()));
  return beneath_.sync_directory(path);
}

Result<void> FaultyFilesystem::rename(const Path& from, const Path& to) {
  if (const int error = ask(Operation::rename, to); error != 0)
    return errno_error(error, fmt::format("injected: rename {}", to.native()));
  return beneath_.rename(from, to);
}

Result<void> FaultyFilesystem::remove(const Path& path) {
  if (const int error = ask(Operation::remove, path); error != 0)
    return errno_error(error, fmt::format("injected: remove {}", path.native()));
  return beneath_.remove(path);
}

Result<void> FaultyFilesystem::create_directories(const Path& path) {
  if (const int error = ask(Operation::create_directories, path); error != 0)
    return errno_error(error, fmt::format("injected: create_directories {}", path.native()));
  return beneath_.create_directories(path);
}

Result<void> FaultyFilesystem::set_mode(const Path& path, unsigned mode) {
  if (const int error = ask(Operation::set_mode, path); error != 0)
    return errno_error(error, fmt::format("injected: set_mode {}", path.native()));
  return beneath_.set_mode(path, mode);
}

Result<FileStatus> FaultyFilesystem::status(const Path& path) {
  if (const int error = ask(Operation::status, path); error != 0)
    return errno_error(error, fmt::format("injected: status {}", path.native()));
  return beneath_.status(path);
}

Result<std::vector<DirectoryEntry>> FaultyFilesystem::list(const Path& directory) {
  if (const int error = ask(Operation::list, directory); error != 0)
    return errno_error(error, fmt::format("injected: list {}", directory.native()));
  return beneath_.list(directory);
}

Result<Space> FaultyFilesystem::space(const Path& path) {
  if (const int error = ask(Operation::space, path); error != 0)
    return errno_error(error, fmt::format("injected: space {}", path.native()));
  return beneath_.space(path);
}

}  // namespace sluice::runtime
