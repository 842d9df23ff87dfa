// Scanning on a kernel that says less than it could: preadv2 is this program's own.
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <span>
#include <string>

#include <catch2/catch.hpp>

#include "runtime/filesystem.hpp"
#include "support/temp_directory.hpp"

using namespace sluice;

namespace {

std::atomic<bool> says_nothing{false};

}  // namespace

// In place of the library's.
extern "C" ssize_t preadv2(int fd, const iovec* to, int count, off_t offset, int flags) {
  if (says_nothing) return 0;
  return ::syscall(SYS_preadv2, fd, to, count, offset, 0L, flags);
}

TEST_CASE("PosixFilesystem: a scan that gets nothing from memory is not at the end", "[runtime]") {
  const test::TempDirectory directory;
  runtime::PosixFilesystem fs;
  const runtime::File file = fs.create(directory.path() / "a").value();
  const std::string content(10'000, 'x');
  REQUIRE(fs.write_at(file, 0, std::as_bytes(std::span(content))).has_value());
  std::string piece(8'000, '\0');
  const auto into = std::as_writable_bytes(std::span(piece.data(), piece.size()));
  // Linux 5.9 and 5.10 may answer RWF_NOWAIT like this where a page is not in memory.
  says_nothing = true;
  CHECK(fs.scan_at(file, 0, into).value() == 8'000);
  CHECK(fs.scan_at(file, 8'000, into).value() == 2'000);
  CHECK(fs.scan_at(file, 10'000, into).value() == 0);
  says_nothing = false;
}
