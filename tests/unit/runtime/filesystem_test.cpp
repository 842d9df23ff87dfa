#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <catch2/catch.hpp>

#include "runtime/filesystem.hpp"
#include "support/temp_directory.hpp"

using namespace sluice;
using namespace sluice::runtime;

namespace {

struct Folder {
  test::TempDirectory directory;
  Path operator/(const char* name) const { return path() / name; }
  const Path& path() const { return directory.path(); }
};

std::span<const std::byte> bytes(std::string_view text) { return std::as_bytes(std::span(text.data(), text.size())); }

std::string read_all(Filesystem& fs, const File& file) {
  std::string out(static_cast<std::size_t>(fs.size(file).value()), '\0');
  out.resize(fs.read_at(file, 0, std::as_writable_bytes(std::span(out.data(), out.size()))).value());
  return out;
}

bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

}  // namespace

TEST_CASE("File: it closes itself, moves, and gives its descriptor away", "[runtime]") {
  const Folder folder;
  PosixFilesystem fs;
  int first = -1;
  {
    File file = fs.create(folder / "a").value();
    first = file.fd();
    File moved(std::move(file));
    CHECK(moved.fd() == first);
    File other = fs.create(folder / "b").value();
    const int second = other.fd();
    other = std::move(moved);
    CHECK(other.fd() == first);
    CHECK_FALSE(is_open(second));
    CHECK(is_open(first));
  }
  CHECK_FALSE(is_open(first));
  File given = fs.open_read(folder / "a").value();
  const File back(given.release());
  CHECK_FALSE(given.is_open());
  CHECK(back.is_open());
}

TEST_CASE("PosixFilesystem: what is written at an offset is read there", "[runtime]") {
  const Folder folder;
  PosixFilesystem fs;
  File file = fs.create(folder / "a").value();
  REQUIRE(fs.write_at(file, 0, bytes("hello world")).has_value());
  REQUIRE(fs.write_at(file, 6, bytes("there")).has_value());
  CHECK(read_all(fs, file) == "hello there");
  std::string tail(10, '\0');
  CHECK(fs.read_at(file, 6, std::as_writable_bytes(std::span(tail.data(), tail.size()))).value() == 5);
  CHECK(fs.read_at(file, 11, std::as_writable_bytes(std::span(tail.data(), tail.size()))).value() == 0);
  REQUIRE(fs.truncate(file, 5).has_value());
  CHECK(read_all(fs, file) == "hello");
  CHECK(fs.sync(file).has_value());
  CHECK(fs.sync_directory(folder.path()).has_value());
  CHECK(fs.close(std::move(file)).has_value());
}

TEST_CASE("PosixFilesystem: scanning reads what reading does", "[runtime]") {
  const Folder folder;
  PosixFilesystem fs;
  const std::string content(300'000, 'x');
  File file = fs.create(folder / "a").value();
  REQUIRE(fs.write_at(file, 0, bytes(content)).has_value());
  REQUIRE(fs.sync(file).has_value());
  std::string piece(200'000, '\0');
  for (int round = 0; round < 2; ++round) {
    const auto into = std::as_writable_bytes(std::span(piece.data(), piece.size()));
    CHECK(fs.scan_at(file, 0, into).value() == 200'000);
    CHECK((piece == content.substr(0, 200'000)));
    CHECK(fs.scan_at(file, 200'000, into).value() == 100'000);
    CHECK(fs.scan_at(file, 299'999, into).value() == 1);
    CHECK(fs.scan_at(file, 300'000, into).value() == 0);
    // And once with nothing in memory.
    REQUIRE(::posix_fadvise(file.fd(), 0, 0, POSIX_FADV_DONTNEED) == 0);
  }
}

TEST_CASE("PosixFilesystem: whether an open file is the one of that name", "[runtime]") {
  const Folder folder;
  PosixFilesystem fs;
  const File file = fs.create(folder / "a").value();
  CHECK(fs.is_at(file, folder / "a").value());
  CHECK_FALSE(fs.is_at(file, folder / "b").value());
  REQUIRE(fs.create(folder / "b").has_value());
  CHECK_FALSE(fs.is_at(file, folder / "b").value());
  REQUIRE(fs.rename(folder / "b", folder / "a").has_value());
  CHECK_FALSE(fs.is_at(file, folder / "a").value());
  CHECK(fs.is_at(file, folder / "a" / "below").error().code == Errc::io);
}

TEST_CASE("PosixFilesystem: a file is created once, and opened for writing only where it is", "[runtime]") {
  const Folder folder;
  PosixFilesystem fs;
  REQUIRE(fs.create(folder / "a").has_value());
  CHECK(fs.create(folder / "a").error().code == Errc::exists);
  CHECK(fs.open_write(folder / "b").error().code == Errc::not_found);
  CHECK(fs.open_read(folder / "b").error().code == Errc::not_found);
  CHECK(fs.open_write(folder / "a").has_value());
  CHECK(fs.open_read(folder / "b").error().message.find((folder / "b").string()) != std::string::npos);
}

TEST_CASE("PosixFilesystem: a symbolic link in a file's place is not followed", "[runtime]") {
  const Folder folder;
  PosixFilesystem fs;
  REQUIRE(fs.create(folder / "a").has_value());
  std::filesystem::create_symlink(folder / "a", folder / "link");
  CHECK(fs.open_read(folder / "link").has_error());
  CHECK(fs.status(folder / "link")->kind == FileStatus::Kind::other);
}

TEST_CASE("PosixFilesystem: an open file knows whether it still has a name", "[runtime]") {
  const Folder folder;
  PosixFilesystem fs;
  const File file = fs.create(folder / "a").value();
  CHECK(fs.status(file).value().links == 1);
  REQUIRE(fs.rename(folder / "a", folder / "b").has_value());
  CHECK(fs.status(file).value().links == 1);
  REQUIRE(fs.remove(folder / "b").has_value());
  CHECK(fs.status(file).value().links == 0);
  CHECK(fs.remove(folder / "b").error().code == Errc::not_found);
}

TEST_CASE("PosixFilesystem: renaming replaces what was there", "[runtime]") {
  const Folder folder;
  PosixFilesystem fs;
  REQUIRE(fs.write_at(fs.create(folder / "a").value(), 0, bytes("new")).has_value());
  REQUIRE(fs.write_at(fs.create(folder / "b").value(), 0, bytes("old")).has_value());
  REQUIRE(fs.rename(folder / "a", folder / "b").has_value());
  CHECK(read_all(fs, fs.open_read(folder / "b").value()) == "new");
  CHECK(fs.status(folder / "a").error().code == Errc::not_found);
}

TEST_CASE("PosixFilesystem: directories are made with their parents and listed", "[runtime]") {
  const Folder folder;
  PosixFilesystem fs;
  REQUIRE(fs.create_directories(folder / "x/y").has_value());
  CHECK(fs.create_directories(folder / "x/y").has_value());
  REQUIRE(fs.create(folder / "x/file").has_value());
  std::vector<DirectoryEntry> entries = fs.list(folder / "x").value();
  std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  REQUIRE(entries.size() == 2);
  CHECK(entries[0].name == "file");
  CHECK(entries[0].kind == FileStatus::Kind::regular);
  CHECK(entries[1].name == "y");
  CHECK(entries[1].kind == FileStatus::Kind::directory);
  CHECK(fs.list(folder / "none").error().code == Errc::not_found);
  CHECK(fs.create_directories(folder / "x/file/z").has_error());
}

TEST_CASE("PosixFilesystem: status, mode and space", "[runtime]") {
  const Folder folder;
  PosixFilesystem fs;
  REQUIRE(fs.write_at(fs.create(folder / "a").value(), 0, bytes("12345")).has_value());
  const FileStatus status = fs.status(folder / "a").value();
  CHECK(status.kind == FileStatus::Kind::regular);
  CHECK(status.size_bytes == 5);
  REQUIRE(fs.set_mode(folder / "a", 0400).has_value());
  struct stat st{};
  REQUIRE(::stat((folder / "a").c_str(), &st) == 0);
  CHECK((st.st_mode & 0777) == 0400);
  const Space space = fs.space(folder.path()).value();
  CHECK(space.capacity_bytes > 0);
  CHECK(space.available_bytes <= space.capacity_bytes);
}

TEST_CASE("FaultyFilesystem: without a rule everything passes", "[runtime]") {
  const Folder folder;
  PosixFilesystem posix;
  FaultyFilesystem fs(posix);
  const File file = fs.create(folder / "a").value();
  CHECK(fs.write_at(file, 0, bytes("x")).has_value());
  CHECK(fs.size(file).value() == 1);
}

TEST_CASE("FaultyFilesystem: a rule fails the operation that it names, and leaves no trace", "[runtime]") {
  using Operation = FaultyFilesystem::Operation;
  const Folder folder;
  PosixFilesystem posix;
  FaultyFilesystem fs(posix);
  fs.set_rule([](Operation operation, const Path&) { return operation == Operation::create ? ENOSPC : 0; });
  CHECK(fs.create(folder / "a").error().code == Errc::no_space);
  CHECK(posix.status(folder / "a").error().code == Errc::not_found);
  fs.set_rule({});
  CHECK(fs.create(folder / "a").has_value());
}

TEST_CASE("FaultyFilesystem: every operation can be made to fail", "[runtime]") {
  using Operation = FaultyFilesystem::Operation;
  const Folder folder;
  PosixFilesystem posix;
  FaultyFilesystem fs(posix);
  const File file = posix.create(folder / "a").value();
  std::vector<Operation> asked;
  fs.set_rule([&asked](Operation operation, const Path&) {
    asked.push_back(operation);
    return EIO;
  });
  std::byte buffer[1];
  const Path path = folder / "a";
  CHECK(fs.open_read(path).has_error());
  CHECK(fs.open_write(path).has_error());
  CHECK(fs.create(path).has_error());
  CHECK(fs.close(posix.open_read(path).value()).has_error());
  CHECK(fs.write_at(file, 0, bytes("x")).has_error());
  CHECK(fs.read_at(file, 0, buffer).has_error());
  CHECK(fs.size(file).has_error());
  CHECK(fs.status(file).has_error());
  CHECK(fs.truncate(file, 0).has_error());
  CHECK(fs.sync(file).has_error());
  CHECK(fs.sync_directory(folder.path()).has_error());
  CHECK(fs.rename(path, folder / "b").has_error());
  CHECK(fs.remove(path).has_error());
  CHECK(fs.create_directories(folder / "c").has_error());
  CHECK(fs.set_mode(path, 0600).has_error());
  CHECK(fs.status(path).has_error());
  CHECK(fs.list(folder.path()).has_error());
  CHECK(fs.space(folder.path()).error().code == Errc::io);
  CHECK(asked.size() == 18);
  CHECK(posix.status(path).has_value());
}

TEST_CASE("PosixFilesystem: what is no regular file is neither opened nor waited for", "[runtime]") {
  const Folder folder;
  PosixFilesystem fs;
  REQUIRE(::mkfifo((folder / "fifo").c_str(), 0600) == 0);
  std::filesystem::create_symlink("/etc/hostname", folder / "link");
  std::filesystem::create_directory(folder / "directory");
  for (const auto& [name, what] :
       {std::pair{"fifo", "a FIFO"}, std::pair{"link", "a symbolic link"}, std::pair{"directory", "a directory"}}) {
    for (const Result<File>& opened : {fs.open_read(folder / name), fs.open_write(folder / name)}) {
      REQUIRE(opened.has_error());
      CHECK(opened.error().code == Errc::unsupported);
      CHECK(opened.error().message.find(what) != std::string::npos);
      CHECK(opened.error().message.find((folder / name).string()) != std::string::npos);
    }
  }
}

TEST_CASE("PosixFilesystem: a file that has another name is not written through", "[runtime]") {
  const Folder folder;
  PosixFilesystem fs;
  REQUIRE(fs.write_at(fs.create(folder / "precious").value(), 0, bytes("precious")).has_value());
  std::filesystem::create_hard_link(folder / "precious", folder / "part");
  CHECK(fs.open_write(folder / "part").error().code == Errc::unsupported);
  CHECK(fs.status(fs.open_read(folder / "part").value()).value().links == 2);
}

TEST_CASE("PosixFilesystem: modes are what it is made with, whatever the umask is", "[runtime]") {
  const Folder folder;
  const auto mode_of = [&](const char* name) {
    struct stat st{};
    REQUIRE(::stat((folder / name).c_str(), &st) == 0);
    return st.st_mode & 0777U;
  };
  const mode_t before = ::umask(0);
  PosixFilesystem closed;
  REQUIRE(closed.create(folder / "closed").has_value());
  REQUIRE(closed.create_directories(folder / "a/b").has_value());
  ::umask(0077);
  PosixFilesystem shared(0640);
  REQUIRE(shared.create(folder / "shared").has_value());
  REQUIRE(shared.create_directories(folder / "c").has_value());
  ::umask(before);
  CHECK(mode_of("closed") == 0600);
  CHECK(mode_of("a") == 0700);
  CHECK(mode_of("a/b") == 0700);
  CHECK(mode_of("shared") == 0640);
  CHECK(mode_of("c") == 0750);
}

TEST_CASE("try_lock: one opening of a file has the lock", "[runtime]") {
  const Folder folder;
  PosixFilesystem fs;
  File first = fs.create(folder / "a").value();
  const File second = fs.open_write(folder / "a").value();
  CHECK(try_lock(first).value());
  CHECK_FALSE(try_lock(second).value());
  unlock(first);
  CHECK(try_lock(second).value());
}
