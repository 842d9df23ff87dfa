// BlobAccess over a front that other processes share, as Redis is.
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include <catch2/catch.hpp>

#include "access/blob_access.hpp"
#include "fake_registry.hpp"
#include "fixture.hpp"
#include "oci/media_type.hpp"
#include "support/catch_result.hpp"
#include "support/code_of.hpp"
#include "support/run_task.hpp"

using namespace sluice;
using namespace sluice::test;
using namespace std::chrono_literals;
using descriptors::Entry;
using descriptors::Scope;
using runtime::Task;

namespace {

// What Redis holds, and what happens while a process clears something in it.
struct Shared {
  std::map<std::pair<std::string, oci::Digest>, Entry> entries;
  bool full = false;
  std::function<Task<Result<Entry>>()> after_clear;
};

class SharedView final : public descriptors::BlobDescriptorService {
 public:
  SharedView(Shared& shared, std::string scope) : shared_(shared), scope_(std::move(scope)) {}

  Task<Result<Entry>> stat(oci::Digest digest) override {
    const auto found = shared_.entries.find({scope_, digest});
    if (found == shared_.entries.end()) co_return Error(Errc::blob_unknown);
    co_return found->second;
  }
  Task<Result<void>> set_descriptor(oci::Digest digest, Entry entry) override {
    if (shared_.full) co_return Error(Errc::no_space, "OOM command not allowed");
    shared_.entries.insert_or_assign({scope_, digest}, std::move(entry));
    co_return Result<void>{};
  }
  Task<Result<void>> set_second_hand(oci::Digest digest, Entry entry) override {
    if (keeps_second_hand) co_return co_await set_descriptor(digest, std::move(entry));
    co_return Result<void>{};
  }
  Task<Result<void>> clear(oci::Digest digest) override {
    shared_.entries.erase({scope_, digest});
    if (const auto meanwhile = std::exchange(shared_.after_clear, nullptr)) {
      const Result<Entry> found = co_await meanwhile();
      static_cast<void>(found);
    }
    co_return Result<void>{};
  }

  bool keeps_second_hand = false;

 private:
  Shared& shared_;
  const std::string scope_;
};

class SharedFront final : public descriptors::BlobDescriptorCacheProvider {
 public:
  Task<Result<Entry>> stat(oci::Digest) override { co_return Error(Errc::blob_unknown); }
  Task<Result<void>> set_descriptor(oci::Digest, Entry) override { co_return Result<void>{}; }
  Task<Result<void>> clear(oci::Digest) override { co_return Result<void>{}; }
  Result<std::shared_ptr<descriptors::BlobDescriptorService>> repository_scoped(std::string_view scope) override {
    auto view = std::make_shared<SharedView>(shared, std::string(scope));
    view->keeps_second_hand = keeps_second_hand;
    return std::shared_ptr<descriptors::BlobDescriptorService>(std::move(view));
  }

  Shared shared;
  bool keeps_second_hand = false;  // as memory does
};

store::BlobStore::Params store_params(const std::filesystem::path& root) {
  store::BlobStore::Params params;
  params.root = root;
  params.durability = store::Durability::none;
  return params;
}

access::BlobAccess::Params access_params() {
  access::BlobAccess::Params params;
  params.front_name = "redis";
  params.ttl = 1h;
  return params;
}

struct Bench {
  Bench() : store(store_params(directory.path() / "data"), filesystem, pool, clock, registry) {
    if (const Result<void> started = store.start(); !started) throw std::runtime_error(started.error().message);
    store.wait_for_walk();
    digest = hub.add_blob("library/app", "bytes");
  }
  ~Bench() {
    pool.stop();
    store.stop();
  }

  [[nodiscard]] access::Route route() { return {&hub, oci::Repository::parse("library/app").value(), scope}; }
  Result<access::BlobAccess::Known> stat() { return run(access.stat(route(), digest)); }
  [[nodiscard]] bool in_front() const { return front.shared.entries.contains({scope.str(), digest}); }

  TempDirectory directory;
  ManualClock clock;
  metrics::Registry registry;
  runtime::PosixFilesystem filesystem;
  runtime::DiskPool pool{1};
  store::BlobStore store;
  store::CatalogDescriptorService catalog{store};
  SharedFront front;
  runtime::TaskGroup group{"test"};
  FakeRegistry hub;
  access::BlobAccess access{access_params(), front, catalog, clock, group, registry};
  const Scope scope = Scope::repository("docker.io/library/app").value();
  oci::Digest digest;
  RunTask run;
};

}  // namespace

TEST_CASE("BlobAccess: upstream's word goes into a shared front, the catalog's does not", "[proxy]") {
  Bench bench;
  REQUIRE(bench.stat().has_value());
  REQUIRE(bench.in_front());
  REQUIRE(bench.run(bench.catalog.repository_scoped(bench.scope.str())
                        .value()
                        ->set_descriptor(bench.digest, {bench.digest, 5, std::string(oci::media_type::kOctetStream)})));
  // Another process revokes it there. This one may believe its own catalog for a while; it must not tell the others.
  bench.front.shared.entries.clear();
  REQUIRE(bench.stat().has_value());
  REQUIRE(bench.run(bench.access.stat_known(bench.scope, bench.digest)));
  CHECK(bench.hub.seen().blob_heads == 1);
  CHECK_FALSE(bench.in_front());
  // What upstream says anew is for all.
  bench.clock.advance(1h);
  REQUIRE(bench.stat().has_value());
  CHECK(bench.hub.seen().blob_heads == 2);
  CHECK(bench.in_front());
}

TEST_CASE("BlobAccess: what cannot be dated is asked for, not believed for ever", "[proxy]") {
  Bench bench;
  const oci::Descriptor undated{bench.digest, 5, std::string(oci::media_type::kOctetStream)};
  bench.front.shared.entries.insert_or_assign({bench.scope.str(), bench.digest}, Entry(undated));
  bench.front.shared.full = GENERATE(false, true);
  const std::size_t full = bench.front.shared.full ? 1 : 0;
  REQUIRE(bench.stat().has_value());
  CHECK(bench.hub.seen().blob_heads == full);
  // The catalog has heard it now, where Redis could not.
  bench.clock.advance(1h - 1s);
  REQUIRE(bench.stat().has_value());
  CHECK(bench.hub.seen().blob_heads == full);
  bench.clock.advance(1s);
  REQUIRE(bench.stat().has_value());
  CHECK(bench.hub.seen().blob_heads == full + 1);
  bench.hub.refuse("library/app", Error{Errc::denied, "no more"});
  bench.clock.advance(1h);
  CHECK(code_of(bench.stat()) == "denied");
}

TEST_CASE("BlobAccess: who looks while it is being forgotten does not bring it back", "[proxy]") {
  Bench bench;
  bench.front.keeps_second_hand = true;
  REQUIRE(bench.stat().has_value());
  // Between the front, which is cleared first, and the catalog.
  bench.front.shared.after_clear = [&bench] { return bench.access.stat_known(bench.scope, bench.digest); };
  REQUIRE(bench.run(bench.access.forget(bench.scope, bench.digest)));
  CHECK_FALSE(bench.in_front());
  CHECK(code_of(bench.run(bench.access.stat_known(bench.scope, bench.digest))) == "blob_unknown");
}
