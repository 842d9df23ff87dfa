// What tells one content of a file from another without reading it.
#pragma once

#include <sys/stat.h>

#include <cerrno>
#include <filesystem>
#include <string>

#include <fmt/format.h>

namespace sluice::runtime {

// Empty for no file; of one that is not there, why.
inline std::string file_stamp(const std::filesystem::path& file) {
  if (file.empty()) return {};
  struct stat at{};
  if (::stat(file.c_str(), &at) != 0) return fmt::format("errno {};", errno);
  // The last change too: a file that may be read now may have been there before.
  return fmt::format("{}.{} {}.{} {} {};", at.st_mtim.tv_sec, at.st_mtim.tv_nsec, at.st_ctim.tv_sec, at.st_ctim.tv_nsec,
                     at.st_size, at.st_ino);
}

}  // namespace sluice::runtime
