// A BlobStore on a temporary directory, with a faulty file system and a clock that stands still.
#pragma once

#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "runtime/disk_pool.hpp"
#include "store/blob_store.hpp"
#include "support/catch_result.hpp"
#include "support/code_of.hpp"
#include "support/run_task.hpp"
#include "support/temp_directory.hpp"

namespace sluice::test {

using Operation = runtime::FaultyFilesystem::Operation;

inline std::string read_file(const runtime::Path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

inline void write_file(const runtime::Path& path, const std::string& bytes) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

inline std::size_t files_below(const runtime::Path& directory) {
  std::size_t count = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory)) {
    if (entry.is_regular_file()) ++count;
  }
  return count;
}

inline oci::Digest sha256_of(const std::string& bytes) { return oci::digest_of(oci::Algorithm::sha256, bytes); }

struct StoreFixture {
  StoreFixture() {
    params.root = directory.path() / "root";
    params.walk_pause = std::chrono::milliseconds{0};
    params.catalog_delay = std::chrono::hours{1};  // nothing is written unless the test flushes
    clock.advance(std::chrono::hours{1000});
  }

  // A store that is started and has walked.
  store::BlobStore& open() {
    store = std::make_unique<store::BlobStore>(params, filesystem, pool, clock, registry);
    const Result<void> started = store->start();
    REQUIRE(started);
    store->wait_for_walk();
    return *store;
  }
  // As after a clean stop.
  store::BlobStore& reopen() {
    store.reset();
    return open();
  }

  [[nodiscard]] runtime::Path path_of(const oci::Digest& digest) const {
    return store::Layout(params.root).blob(digest);
  }
  [[nodiscard]] runtime::Path incoming() const { return store::Layout(params.root).incoming(); }

  // Writes a file under incoming/ and has it adopted.
  Result<void> fill(const std::string& bytes, const std::string& media_type = "application/x-layer") {
    const runtime::Path part = incoming() / "part";
    write_file(part, bytes);
    return run(store->adopt(part, sha256_of(bytes), bytes.size(), media_type));
  }
  // What a client would get: the content, or the name of the error.
  std::string content(const oci::Digest& digest) {
    const Result<std::shared_ptr<const store::OpenBlob>> opened = run(store->open(digest));
    if (!opened) return std::string(name(opened.error().code));
    std::string bytes((*opened)->size, '\0');
    const Result<std::size_t> size =
        filesystem.read_at((*opened)->file, 0, std::as_writable_bytes(std::span(bytes.data(), bytes.size())));
    return size && *size == bytes.size() ? bytes : "a short read";
  }

  // Every call of `operation` on a path that holds `part` fails with `error`.
  void fail(Operation operation, int error, const std::string& part = "") {
    filesystem.set_rule([=](Operation asked, const runtime::Path& path) {
      return asked == operation && path.native().find(part) != std::string::npos ? error : 0;
    });
  }
  void heal() { filesystem.set_rule({}); }

  double metric(const std::string& family_name, const std::string& label = "") {
    for (const metrics::Family& family : registry.collect()) {
      if (family.name != family_name) continue;
      for (const metrics::Sample& sample : family.samples) {
        if (label.empty() || sample.labels.at(0).second == label) return sample.value;
      }
    }
    return -1;
  }

  TempDirectory directory;
  runtime::PosixFilesystem posix;
  runtime::FaultyFilesystem filesystem{posix};
  ManualClock clock;
  metrics::Registry registry;
  RunTask run;
  runtime::DiskPool pool{2};
  store::BlobStore::Params params;
  std::unique_ptr<store::BlobStore> store;
};

}  // namespace sluice::test
