#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <random>
#include <string>

#include <catch2/catch.hpp>

#include "pull/trailing_verifier.hpp"
#include "support/code_of.hpp"
#include "support/run_task.hpp"
#include "support/temp_directory.hpp"

using namespace sluice;
using namespace sluice::pull;

namespace {

std::string random_bytes(std::size_t size, unsigned seed) {
  std::mt19937_64 random(seed);
  std::string out(size, '\0');
  for (char& c : out) c = static_cast<char>(random());
  return out;
}

struct Disk {
  Disk() {
    auto created = posix.create(directory.path() / "part");
    if (!created) throw std::runtime_error(created.error().message);
    file = std::make_shared<runtime::File>(std::move(*created));
  }
  ~Disk() { pool.stop(); }
  void write(std::uint64_t at, std::string_view bytes) {
    if (!posix.write_at(*file, at, std::as_bytes(std::span(bytes)))) throw std::runtime_error("write");
  }

  test::TempDirectory directory;
  runtime::PosixFilesystem posix;
  runtime::FaultyFilesystem filesystem{posix};
  runtime::DiskPool pool{2};
  std::shared_ptr<runtime::File> file;
  test::RunTask run;
};

// Writes `content` in pieces of random length up to `largest`, telling the verifier after each.
runtime::Task<Result<oci::Digest>> write_all(Disk& disk, TrailingVerifier& verifier, std::string content,
                                             std::size_t largest, unsigned seed) {
  std::mt19937 random(seed);
  std::uint64_t at = 0;
  while (at < content.size()) {
    const std::size_t length = std::min<std::size_t>(1 + random() % largest, content.size() - at);
    disk.write(at, std::string_view(content).substr(at, length));
    at += length;
    co_await verifier.advance(at);
  }
  co_return co_await verifier.finish(at);
}

}  // namespace

TEST_CASE("TrailingVerifier: the digest of what was written, whatever the pieces", "[pull]") {
  const std::size_t size = GENERATE(0, 1, 1000, 256 * 1024 - 1, 256 * 1024, 256 * 1024 + 1, 3'000'000);
  const std::size_t largest = GENERATE(1000, 70'000, 1'000'000);
  const oci::Algorithm algorithm = GENERATE(oci::Algorithm::sha256, oci::Algorithm::sha512);
  Disk disk;
  const std::string content = random_bytes(size, static_cast<unsigned>(size));
  TrailingVerifier verifier(disk.pool, disk.filesystem, *disk.file, disk.file, algorithm);
  const Result<oci::Digest> digest = disk.run(write_all(disk, verifier, content, largest, 1));
  REQUIRE(digest.has_value());
  CHECK(*digest == oci::digest_of(algorithm, content));
}

TEST_CASE("TrailingVerifier: waits when the hashing is far behind", "[pull]") {
  Disk disk;
  const std::string content = random_bytes(80 << 20, 1);
  disk.write(0, content);
  TrailingVerifier verifier(disk.pool, disk.filesystem, *disk.file, disk.file, oci::Algorithm::sha256);
  const auto all_at_once = [](TrailingVerifier& of, std::uint64_t size) -> runtime::Task<Result<oci::Digest>> {
    co_await of.advance(size);
    co_return co_await of.finish(size);
  };
  const Result<oci::Digest> digest = disk.run(all_at_once(verifier, content.size()));
  REQUIRE(digest.has_value());
  CHECK(*digest == oci::digest_of(oci::Algorithm::sha256, content));
}

TEST_CASE("TrailingVerifier: a file that cannot be read, or is short, has no digest", "[pull]") {
  Disk disk;
  const std::string content = random_bytes(2'000'000, 1);
  TrailingVerifier verifier(disk.pool, disk.filesystem, *disk.file, disk.file, oci::Algorithm::sha256);
  SECTION("at once") {
    disk.filesystem.set_rule([](runtime::FaultyFilesystem::Operation operation, const runtime::Path&) {
      return operation == runtime::FaultyFilesystem::Operation::read_at ? EIO : 0;
    });
    CHECK(test::code_of(disk.run(write_all(disk, verifier, content, 100'000, 1))) == "io");
  }
  SECTION("once, half way") {
    std::atomic<int> reads{0};
    disk.filesystem.set_rule([&reads](runtime::FaultyFilesystem::Operation operation, const runtime::Path&) {
      return operation == runtime::FaultyFilesystem::Operation::read_at && ++reads == 4 ? EIO : 0;
    });
    CHECK(test::code_of(disk.run(write_all(disk, verifier, content, 100'000, 1))) == "io");
  }
  SECTION("short") {
    disk.write(0, content);
    CHECK(test::code_of(disk.run(verifier.finish(content.size() + 1))) == "corrupt");
  }
}

TEST_CASE("TrailingVerifier: may be destroyed while a piece is being hashed", "[pull]") {
  Disk disk;
  disk.write(0, random_bytes(1'000'000, 1));
  std::mutex mutex;
  std::condition_variable changed;
  bool reading = false;
  bool go_on = false;
  disk.filesystem.set_rule([&](runtime::FaultyFilesystem::Operation operation, const runtime::Path&) {
    if (operation != runtime::FaultyFilesystem::Operation::read_at) return 0;
    std::unique_lock lock(mutex);
    reading = true;
    changed.notify_all();
    changed.wait(lock, [&] { return go_on; });
    return 0;
  });
  const std::weak_ptr<runtime::File> file = disk.file;
  {
    auto verifier =
        std::make_unique<TrailingVerifier>(disk.pool, disk.filesystem, *disk.file, disk.file, oci::Algorithm::sha256);
    const auto advance = [](TrailingVerifier& of) -> runtime::Task<bool> {
      co_await of.advance(1'000'000);
      co_return true;
    };
    CHECK(disk.run(advance(*verifier)));
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return reading; });
  }
  disk.file.reset();
  CHECK_FALSE(file.expired());
  {
    const std::scoped_lock lock(mutex);
    go_on = true;
  }
  changed.notify_all();
  disk.pool.stop();
  CHECK(file.expired());
}

TEST_CASE("TrailingVerifier: lets others have their turn in the pool", "[pull]") {
  Disk disk;
  const std::string content = random_bytes(16 << 20, 1);
  disk.write(0, content);
  runtime::DiskPool single(1);
  std::mutex mutex;
  std::condition_variable changed;
  int reads = 0;
  bool go_on = false;
  disk.filesystem.set_rule([&](runtime::FaultyFilesystem::Operation operation, const runtime::Path&) {
    if (operation != runtime::FaultyFilesystem::Operation::read_at) return 0;
    std::unique_lock lock(mutex);
    ++reads;
    changed.notify_all();
    changed.wait(lock, [&] { return go_on; });
    return 0;
  });
  TrailingVerifier verifier(single, disk.filesystem, *disk.file, disk.file, oci::Algorithm::sha256);
  const auto advance = [](TrailingVerifier& of, std::uint64_t written) -> runtime::Task<bool> {
    co_await of.advance(written);
    co_return true;
  };
  CHECK(disk.run(advance(verifier, content.size())));
  int reads_before_other = 0;
  {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return reads == 1; });
    single.post(runtime::Lane::bulk, [&] {
      const std::scoped_lock inside(mutex);
      reads_before_other = reads;
    });
    go_on = true;
  }
  changed.notify_all();
  const Result<oci::Digest> digest = disk.run(verifier.finish(content.size()));
  single.stop();
  REQUIRE(digest.has_value());
  CHECK(*digest == oci::digest_of(oci::Algorithm::sha256, content));
  CHECK(reads_before_other >= 1);
  CHECK(reads_before_other <= 16);
  CHECK(reads == 64);
}

namespace {

runtime::Task<Result<oci::Digest>> write_half(Disk& disk, TrailingVerifier& verifier, std::string content) {
  const std::size_t half = content.size() / 2;
  disk.write(0, std::string_view(content).substr(0, half));
  co_await verifier.advance(half);
  const std::string_view rest = std::string_view(content).substr(half);
  co_await verifier.append(std::as_bytes(std::span(rest)));
  co_return co_await verifier.finish(content.size());
}

}  // namespace

TEST_CASE("TrailingVerifier: the sha256 of the same bytes, whatever they were asked for by", "[pull]") {
  const oci::Algorithm algorithm = GENERATE(oci::Algorithm::sha256, oci::Algorithm::sha384, oci::Algorithm::sha512);
  const bool half_in_memory = GENERATE(false, true);
  Disk disk;
  const std::string content = random_bytes(1'500'001, 5);
  TrailingVerifier verifier(disk.pool, disk.filesystem, *disk.file, disk.file, algorithm);
  const Result<oci::Digest> computed = half_in_memory ? disk.run(write_half(disk, verifier, content))
                                                      : disk.run(write_all(disk, verifier, content, 400'000, 5));
  REQUIRE(computed.has_value());
  CHECK(*computed == oci::digest_of(algorithm, content));
  CHECK(verifier.canonical() == oci::digest_of(oci::Algorithm::sha256, content));
}
