// Everything at once, from several loops and threads: for the sanitizers, and for the sums at the end.
#include <atomic>
#include <random>

#include "runtime/task_group.hpp"
#include "unit/store/store_fixture.hpp"

using namespace sluice;
using namespace sluice::test;

namespace {

constexpr int kContents = 40;

std::string content_of(int n) { return "content " + std::to_string(n) + std::string(static_cast<std::size_t>(n), 'x'); }

struct Shared {
  store::BlobStore& store;
  runtime::Filesystem& filesystem;
  runtime::Path incoming;
  std::atomic<int> wrong{0};
  std::atomic<int> next_part{0};
};

bool holds(runtime::Filesystem& filesystem, const store::OpenBlob& blob, const std::string& expected) {
  std::string bytes(blob.size, '\0');
  const auto size = filesystem.read_at(blob.file, 0, std::as_writable_bytes(std::span(bytes.data(), bytes.size())));
  return size && *size == bytes.size() && bytes == expected;
}

runtime::Task<void> work(Shared& shared, unsigned seed) {
  std::mt19937 random(seed);
  for (int step = 0; step < 150; ++step) {
    const int n = static_cast<int>(random() % kContents);
    const std::string content = content_of(n);
    const oci::Digest digest = sha256_of(content);
    switch (random() % 6) {
      case 0: {
        const runtime::Path part = shared.incoming / ("part-" + std::to_string(shared.next_part++));
        write_file(part, content);
        const auto adopted = co_await shared.store.adopt(part, digest, content.size(), "a/b");
        if (!adopted) ++shared.wrong;
        break;
      }
      case 1: {
        const auto stored = co_await shared.store.put(digest, content, "a/b");
        if (!stored) ++shared.wrong;
        break;
      }
      case 2: {
        const auto removed = co_await shared.store.remove(digest);
        if (!removed && removed.error().code != Errc::not_found) ++shared.wrong;
        break;
      }
      case 3: {
        const auto read = co_await shared.store.read_small(digest, 10'000);
        if (read ? *read != content : read.error().code != Errc::not_found) ++shared.wrong;
        break;
      }
      default: {
        auto blob = shared.store.peek_open(digest);
        if (!blob) {
          const auto opened = co_await shared.store.open(digest);
          if (opened) blob = *opened;
          if (!opened && opened.error().code != Errc::not_found) ++shared.wrong;
        }
        if (blob && !holds(shared.filesystem, *blob, content)) ++shared.wrong;
        if (const auto found = shared.store.find(digest); found && found->size != content.size()) ++shared.wrong;
      }
    }
  }
}

}  // namespace

TEST_CASE("BlobStore: many tasks on several loops agree with the disk", "[store][threads]") {
  StoreFixture fixture;
  fixture.params.durability = store::Durability::none;
  fixture.params.open_files = 8;
  fixture.params.catalog_delay = std::chrono::milliseconds{1};
  fixture.open();
  Shared shared{*fixture.store, fixture.posix, fixture.incoming()};
  {
    runtime::LoopPool loops(3);
    runtime::TaskGroup group("test");
    loops.start();
    for (unsigned i = 0; i < 12; ++i) {
      REQUIRE(group.spawn(loops.at(i % loops.size()).get_executor(), work(shared, i)));
    }
    REQUIRE(group.wait_for(std::chrono::minutes{2}));
    fixture.pool.stop();  // before the loops that its work came from
  }
  CHECK(shared.wrong == 0);
  CHECK(fixture.metric("sluice_store_dropped_total") == 0);
  CHECK(files_below(fixture.incoming()) == 0);
  CHECK(fixture.store->entries() == files_below(fixture.params.root / "blobs"));
  std::uint64_t bytes = 0;
  for (int n = 0; n < kContents; ++n) {
    if (fixture.store->find(sha256_of(content_of(n)))) bytes += content_of(n).size();
  }
  CHECK(fixture.store->bytes() == bytes);

  // The catalog has followed.
  const std::size_t entries = fixture.store->entries();
  fixture.reopen();
  CHECK(fixture.store->entries() == entries);
  CHECK(fixture.store->bytes() == bytes);
}

TEST_CASE("BlobStore: requests while the index is rebuilt agree with the disk", "[store][threads]") {
  StoreFixture fixture;
  fixture.params.durability = store::Durability::none;
  for (int n = 0; n < kContents; ++n) write_file(fixture.path_of(sha256_of(content_of(n))), content_of(n));
  fixture.store = std::make_unique<store::BlobStore>(fixture.params, fixture.filesystem, fixture.pool, fixture.clock,
                                                     fixture.registry);
  REQUIRE(fixture.store->start());
  Shared shared{*fixture.store, fixture.posix, fixture.incoming()};
  {
    runtime::LoopPool loops(2);
    runtime::TaskGroup group("test");
    loops.start();
    for (unsigned i = 0; i < 8; ++i) {
      REQUIRE(group.spawn(loops.at(i % loops.size()).get_executor(), work(shared, 100 + i)));
    }
    REQUIRE(group.wait_for(std::chrono::minutes{2}));
    fixture.pool.stop();  // before the loops that its work came from
  }
  fixture.store->wait_for_walk();
  CHECK(shared.wrong == 0);
  CHECK_FALSE(fixture.store->rebuilding());
  CHECK(fixture.store->entries() == files_below(fixture.params.root / "blobs"));
}

TEST_CASE("Catalog: several threads leave memory and SQLite with the same", "[store][threads]") {
  StoreFixture fixture;
  fixture.params.catalog_delay = std::chrono::milliseconds{1};
  fixture.open();
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 4; ++t) {
    threads.emplace_back([&fixture, t] {
      store::Catalog& catalog = fixture.store->catalog();
      std::mt19937 random(t);
      for (int i = 0; i < 2000; ++i) {
        const store::Scope scope = store::Scope::repository("docker.io/" + std::to_string(random() % 3)).value();
        const oci::Digest digest = sha256_of(std::to_string(random() % 50));
        const std::string tag = "t" + std::to_string(random() % 5);
        switch (random() % 5) {
          case 0: catalog.set_membership(scope, digest, {digest, random(), "a/b"}); break;
          case 1: catalog.clear_membership(scope, digest); break;
          case 2: catalog.set_tag(scope, tag, 1, digest); break;
          case 3: (void)catalog.tags(scope); break;
          default:
            if (i % 50 == 0) (void)catalog.flush();
            (void)catalog.membership(scope, digest);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();

  const auto dump = [&fixture] {
    std::vector<std::string> out;
    for (const std::string& name : fixture.store->catalog().repositories()) {
      const store::Scope scope = store::Scope::repository(name).value();
      for (const std::string& tag : fixture.store->catalog().tags(scope)) {
        out.push_back(name + " " + tag + " " + fixture.store->catalog().tag(scope, tag, 1)->digest.to_string());
      }
      for (int i = 0; i < 50; ++i) {
        const auto found = fixture.store->catalog().membership(scope, sha256_of(std::to_string(i)));
        if (found) out.push_back(name + " " + std::to_string(i) + " " + std::to_string(found->descriptor.size));
      }
    }
    return out;
  };
  const std::vector<std::string> before = dump();
  fixture.reopen();
  CHECK(dump() == before);
  CHECK_FALSE(before.empty());
}
