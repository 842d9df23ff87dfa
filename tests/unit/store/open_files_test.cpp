#include <memory>

#include <catch2/catch.hpp>

#include "store/open_files.hpp"

using namespace sluice;
using store::OpenBlob;
using store::OpenFiles;

namespace {

oci::Digest numbered(int n) { return oci::digest_of(oci::Algorithm::sha256, std::to_string(n)); }

std::shared_ptr<const OpenBlob> blob(std::uint64_t size) {
  return std::make_shared<const OpenBlob>(OpenBlob{runtime::File(), size, {}});
}

}  // namespace

TEST_CASE("OpenFiles: bounded, and what falls out stays open for who holds it", "[store]") {
  const std::size_t capacity = GENERATE(1, 5, 256);
  OpenFiles files(capacity);
  const auto held = blob(7);
  files.insert(numbered(0), held);
  CHECK(files.find(numbered(0)) == held);
  bool within = true;
  for (int i = 1; i < 1000; ++i) {
    files.insert(numbered(i), blob(1));
    within = within && files.size() <= capacity;
  }
  CHECK(within);
  CHECK(held->size == 7);
  files.clear();
  CHECK(files.size() == 0);
  CHECK(held.use_count() == 1);
}

TEST_CASE("OpenFiles: erase and replace", "[store]") {
  OpenFiles files(10);
  files.insert(numbered(1), blob(1));
  files.insert(numbered(1), blob(2));
  CHECK(files.size() == 1);
  CHECK(files.find(numbered(1))->size == 2);
  files.erase(numbered(1));
  files.erase(numbered(1));
  CHECK(files.find(numbered(1)) == nullptr);
}

TEST_CASE("OpenFiles: a capacity of zero keeps nothing", "[store]") {
  OpenFiles files(0);
  files.insert(numbered(1), blob(1));
  CHECK(files.find(numbered(1)) == nullptr);
}
