// What the store evicts, and when.
#include <atomic>

#include "runtime/task_group.hpp"
#include "store/parts.hpp"
#include "unit/store/store_fixture.hpp"

using namespace sluice;
using namespace sluice::test;
using store::kBlockBytes;

namespace {

constexpr std::uint64_t kMiB = 1024 * 1024;

std::string content_of(int n, std::size_t size) {
  std::string out = std::to_string(n) + " ";
  out.resize(size, static_cast<char>('a' + n % 26));
  return out;
}

// Tells what free space the test wants.
class Spacious final : public runtime::Filesystem {
 public:
  explicit Spacious(runtime::Filesystem& beneath) : beneath_(beneath) {}
  std::atomic<std::uint64_t> available{1ULL << 40};

  Result<runtime::File> open_read(const runtime::Path& p) override { return beneath_.open_read(p); }
  Result<runtime::File> open_write(const runtime::Path& p) override { return beneath_.open_write(p); }
  Result<runtime::File> create(const runtime::Path& p) override { return beneath_.create(p); }
  Result<void> close(runtime::File f) override { return beneath_.close(std::move(f)); }
  Result<void> write_at(const runtime::File& f, std::uint64_t o, std::span<const std::byte> b) override {
    return beneath_.write_at(f, o, b);
  }
  Result<std::size_t> read_at(const runtime::File& f, std::uint64_t o, std::span<std::byte> b) override {
    return beneath_.read_at(f, o, b);
  }
  Result<std::size_t> scan_at(const runtime::File& f, std::uint64_t o, std::span<std::byte> b) override {
    return beneath_.scan_at(f, o, b);
  }
  Result<std::uint64_t> size(const runtime::File& f) override { return beneath_.size(f); }
  Result<bool> is_at(const runtime::File& f, const runtime::Path& p) override { return beneath_.is_at(f, p); }
  Result<runtime::FileStatus> status(const runtime::File& f) override { return beneath_.status(f); }
  Result<void> truncate(const runtime::File& f, std::uint64_t n) override { return beneath_.truncate(f, n); }
  Result<void> sync(const runtime::File& f) override { return beneath_.sync(f); }
  Result<void> sync_directory(const runtime::Path& p) override { return beneath_.sync_directory(p); }
  Result<void> rename(const runtime::Path& a, const runtime::Path& b) override { return beneath_.rename(a, b); }
  Result<void> remove(const runtime::Path& p) override { return beneath_.remove(p); }
  Result<void> create_directories(const runtime::Path& p) override { return beneath_.create_directories(p); }
  Result<void> set_mode(const runtime::Path& p, unsigned m) override { return beneath_.set_mode(p, m); }
  Result<runtime::FileStatus> status(const runtime::Path& p) override { return beneath_.status(p); }
  Result<std::vector<runtime::DirectoryEntry>> list(const runtime::Path& p) override { return beneath_.list(p); }
  Result<runtime::Space> space(const runtime::Path&) override { return runtime::Space{1ULL << 40, available}; }

 private:
  runtime::Filesystem& beneath_;
};

struct Limited : StoreFixture {
  Limited() {
    params.durability = store::Durability::none;
    params.maintenance_interval = std::chrono::hours{1};  // nothing by itself
  }
  store::BlobStore& open_on(runtime::Filesystem& on) {
    store = std::make_unique<store::BlobStore>(params, on, pool, clock, registry);
    const Result<void> started = store->start();
    REQUIRE(started);
    store->wait_for_walk();
    store->maintain();
    return *store;
  }
};

metrics::Histogram::Snapshot eviction_ages(const metrics::Registry& registry) {
  for (const metrics::Family& family : registry.collect()) {
    if (family.name == "sluice_store_eviction_age_seconds") return family.samples.at(0).histogram;
  }
  return {};
}

runtime::Task<void> put_many(store::BlobStore& store, int first, int count, std::size_t size, std::atomic<int>& bad,
                             std::atomic<bool>& crossed, std::uint64_t limit) {
  for (int n = first; n < first + count; ++n) {
    const std::string content = content_of(n, size);
    const Result<void> stored = co_await store.put(sha256_of(content), content, "a/b");
    if (!stored && stored.error().code != Errc::no_space) ++bad;
    const store::Ledger& ledger = store.ledger();
    if (ledger.at_rest() > limit) crossed = true;
  }
}

}  // namespace

TEST_CASE("BlobStore: below max_size, the blobs go that were not used", "[store][limits]") {
  Limited f;
  f.params.max_size = {.bytes = 64 * kMiB};
  f.params.touch_granularity = std::chrono::seconds{0};
  store::BlobStore& store = f.open_on(f.posix);
  std::vector<oci::Digest> evicted;
  const std::string hot = content_of(1000, 4 * kMiB);
  REQUIRE(f.fill(hot));
  for (int n = 0; n < 30; ++n) {
    f.clock.advance(std::chrono::seconds{1});
    REQUIRE(f.fill(content_of(n, 4 * kMiB)));
    store.touch(sha256_of(hot));
  }
  store.maintain();
  CHECK(store.find(sha256_of(hot)));
  CHECK(store.find(sha256_of(content_of(29, 4 * kMiB))));
  CHECK_FALSE(store.find(sha256_of(content_of(0, 4 * kMiB))));
  CHECK_FALSE(std::filesystem::exists(f.path_of(sha256_of(content_of(0, 4 * kMiB)))));
  CHECK(store.ledger().at_rest() == store.bytes());
  CHECK(store.ledger().reserved() == 0);
  CHECK(store.bytes() + store.ledger().overhead() <= 64 * kMiB);
  CHECK(f.metric("sluice_store_evicted_total", "size") > 10);
  CHECK(f.metric("sluice_store_max_bytes") == 64 * kMiB);
  CHECK(f.metric("sluice_store_reserved_bytes") == 0);
}

namespace {

// A store with parts, as the program composes them.
struct WithParts : Limited {
  WithParts() {
    params.max_size = {.bytes = 16 * kMiB};
    store = std::make_unique<store::BlobStore>(params, posix, pool, clock, registry);
    parts = std::make_unique<store::Parts>(store::Parts::Params{.root = params.root, .ledger = &store->ledger()}, posix,
                                           clock, registry);
    store->set_give_up([this](std::uint64_t bytes, std::chrono::seconds idle) { return parts->give_up(bytes, idle); });
    REQUIRE(store->start());
    store->wait_for_walk();
    store->maintain();
  }
  ~WithParts() { store->stop(); }
  WithParts(const WithParts&) = delete;
  WithParts& operator=(const WithParts&) = delete;

  void leave(const std::string& name, std::size_t size) {
    Result<store::Parts::Opened> opened = parts->open(sha256_of(name), store::Origin{"docker.io", Rights::anonymous});
    REQUIRE(opened);
    write_file(opened->path, std::string(size, 'p'));
    REQUIRE(parts->keep(opened->path, sha256_of(name), size, opened->room));
  }

  std::unique_ptr<store::Parts> parts;
};

}  // namespace

TEST_CASE("BlobStore: a part that has waited for long goes before any blob does", "[store][limits]") {
  WithParts f;
  f.leave("old", 4 * kMiB);
  f.clock.advance(std::chrono::minutes{11});
  f.leave("young", 2 * kMiB);
  CHECK(f.store->ledger().idle() == 6 * kMiB);
  for (int n = 0; n < 4; ++n) REQUIRE(f.fill(content_of(n, 2 * kMiB)));
  REQUIRE(f.fill(content_of(4, 2 * kMiB)));
  CHECK_FALSE(f.parts->find(sha256_of("old")));
  CHECK(f.parts->find(sha256_of("young")) == 2 * kMiB);
  CHECK(f.store->entries() == 5);
  CHECK(f.metric("sluice_parts_given_up_total") == 1);
}

TEST_CASE("BlobStore: a young part stays while there are blobs, and goes when there are none", "[store][limits]") {
  WithParts f;
  f.leave("young", 6 * kMiB);
  for (int n = 0; n < 6; ++n) REQUIRE(f.fill(content_of(n, 2 * kMiB)));
  CHECK(f.parts->find(sha256_of("young")));
  CHECK(f.store->entries() < 5);
  // One that needs the room of everything.
  REQUIRE(f.fill(content_of(10, 13 * kMiB)));
  CHECK_FALSE(f.parts->find(sha256_of("young")));
  CHECK(f.store->ledger().idle() == 0);
}

TEST_CASE("BlobStore: small blobs outlive large ones", "[store][limits]") {
  Limited f;
  f.params.max_size = {.bytes = 64 * kMiB};
  store::BlobStore& store = f.open_on(f.posix);
  for (int n = 0; n < 10; ++n) REQUIRE(f.fill(content_of(2000 + n, 1000)));
  for (int n = 0; n < 30; ++n) REQUIRE(f.fill(content_of(n, 4 * kMiB)));
  for (int n = 0; n < 10; ++n) CHECK(store.find(sha256_of(content_of(2000 + n, 1000))));
}

TEST_CASE("BlobStore: what does not fit is refused, and what is there stays", "[store][limits]") {
  Limited f;
  f.params.max_size = {.bytes = 16 * kMiB};
  store::BlobStore& store = f.open_on(f.posix);
  REQUIRE(f.fill(content_of(1, kMiB)));
  CHECK(f.fill(content_of(2, 17 * kMiB)).error().code == Errc::no_space);
  CHECK(store.find(sha256_of(content_of(1, kMiB))));
  CHECK(store.ledger().reserved() == 0);
}

TEST_CASE("BlobStore: readers keep what is evicted", "[store][limits]") {
  Limited f;
  f.params.max_age = std::chrono::hours{24};
  store::BlobStore& store = f.open_on(f.posix);
  std::vector<oci::Digest> told;
  const std::string content = content_of(1, 100'000);
  REQUIRE(f.fill(content));
  const auto opened = f.run(store.open(sha256_of(content)));
  REQUIRE(opened);
  f.clock.advance(std::chrono::hours{25});
  const std::string young = content_of(2, 100'000);
  REQUIRE(f.fill(young));
  store.maintain();
  CHECK_FALSE(store.find(sha256_of(content)));
  CHECK(f.content(sha256_of(content)) == "not_found");
  CHECK(store.find(sha256_of(young)));
  CHECK(f.metric("sluice_store_evicted_total", "age") == 1);
  CHECK(eviction_ages(f.registry).count == 0);  // of what had to make room alone
  CHECK(f.metric("sluice_store_evicted_bytes_total") == 100'000);
  std::string bytes((*opened)->size, '\0');
  REQUIRE(f.posix.read_at((*opened)->file, 0, std::as_writable_bytes(std::span(bytes.data(), bytes.size()))));
  CHECK(bytes == content);
}

TEST_CASE("BlobStore: blobs that the walk finds count as used now", "[store][limits]") {
  Limited f;
  f.params.max_age = std::chrono::hours{24};
  const std::string old = content_of(1, 100'000);
  {
    f.open_on(f.posix);
    REQUIRE(f.fill(old));
    std::filesystem::last_write_time(f.path_of(sha256_of(old)),
                                     std::chrono::file_clock::from_sys(f.clock.wall() - std::chrono::hours{100}));
    f.store.reset();
    std::filesystem::remove(store::Layout(f.params.root).catalog());
  }
  f.clock.advance(std::chrono::hours{100});
  store::BlobStore& store = f.open_on(f.posix);
  store.wait_for_walk();
  store.maintain();
  CHECK(store.find(sha256_of(old)));
  CHECK(f.content(sha256_of(old)) == old);
  // From then on it ages like any other.
  f.clock.advance(std::chrono::hours{25});
  store.maintain();
  CHECK_FALSE(store.find(sha256_of(old)));
}

TEST_CASE("BlobStore: min_free evicts, whoever has filled the disk", "[store][limits]") {
  Limited f;
  Spacious spacious(f.posix);
  f.params.min_free = {.bytes = 100 * kMiB};
  std::vector<oci::Digest> told;
  f.store = std::make_unique<store::BlobStore>(f.params, spacious, f.pool, f.clock, f.registry);
  f.store->set_on_evicted([&](const oci::Digest& digest) { told.push_back(digest); });
  REQUIRE(f.store->start());
  for (int n = 0; n < 10; ++n) {
    f.clock.advance(std::chrono::minutes{2});
    REQUIRE(f.fill(content_of(n, 2 * kMiB)));
  }
  f.store->maintain();
  CHECK(told.empty());
  spacious.available = 97 * kMiB;  // 3 MiB too little, and a little slack
  f.store->maintain();
  REQUIRE(told.size() == 4);
  CHECK(told[0] == sha256_of(content_of(0, 2 * kMiB)));
  CHECK(f.metric("sluice_store_evicted_total", "free") == 4);
  // Two minutes apart, the last of ten a moment ago: 18, 16, 14 and 12 minutes.
  CHECK(eviction_ages(f.registry).count == 4);
  CHECK(eviction_ages(f.registry).sum == 3600);
  CHECK(f.metric("sluice_store_filesystem_available_bytes") == 97 * kMiB);
  spacious.available = 0;
  f.store->maintain();
  CHECK(f.store->entries() == 0);
  CHECK(f.fill(content_of(50, kMiB)).error().code == Errc::no_space);
  spacious.available = 1ULL << 40;
  f.store->maintain();
  CHECK(f.fill(content_of(50, kMiB)));
}

TEST_CASE("BlobStore: the order of use survives a restart", "[store][limits]") {
  Limited f;
  f.params.touch_granularity = std::chrono::seconds{0};
  Spacious spacious(f.posix);
  f.params.min_free = {.bytes = 100 * kMiB};
  f.open_on(spacious);
  for (int n = 0; n < 8; ++n) {
    f.clock.advance(std::chrono::minutes{2});
    REQUIRE(f.fill(content_of(n, 2 * kMiB)));
  }
  f.clock.advance(std::chrono::minutes{2});
  f.store->touch(sha256_of(content_of(0, 2 * kMiB)));
  f.store.reset();
  f.open_on(spacious);
  spacious.available = 99 * kMiB;
  f.store->maintain();
  CHECK(f.store->find(sha256_of(content_of(0, 2 * kMiB))));
  CHECK_FALSE(f.store->find(sha256_of(content_of(1, 2 * kMiB))));
  CHECK(f.store->find(sha256_of(content_of(7, 2 * kMiB))));
}

TEST_CASE("BlobStore: a disk on which nothing can be removed holds nobody up", "[store][limits]") {
  Limited f;
  f.params.max_size = {.bytes = 16 * kMiB};
  f.open_on(f.filesystem);
  for (int n = 0; n < 3; ++n) REQUIRE(f.fill(content_of(n, 4 * kMiB)));
  f.fail(Operation::remove, EIO, "blobs");
  CHECK(f.fill(content_of(10, 8 * kMiB)).error().code == Errc::no_space);
  CHECK(f.store->entries() == 3);
  f.heal();
  CHECK(f.fill(content_of(10, 8 * kMiB)));
}

TEST_CASE("BlobStore: tasks of several loops race for the last bytes", "[store][limits][threads]") {
  Limited f;
  f.params.max_size = {.bytes = 16 * kMiB};
  store::BlobStore& store = f.open_on(f.posix);
  std::atomic<int> bad{0};
  std::atomic<bool> crossed{false};
  {
    runtime::LoopPool loops(3);
    loops.start();
    runtime::TaskGroup group("racers");
    for (int n = 0; n < 9; ++n) {
      group.spawn(loops.at(static_cast<std::size_t>(n % 3)).get_executor(),
                  put_many(store, n * 1000, 30, 300'000, bad, crossed, 16 * kMiB));
    }
    REQUIRE(group.wait_for(std::chrono::seconds{60}));
    f.pool.stop();     // before the loops that its work came from
    store.maintain();  // and so for the maintenance
  }
  CHECK(bad == 0);
  CHECK_FALSE(crossed);
  CHECK(store.ledger().reserved() == 0);
  CHECK(store.ledger().waiting() == 0);
  CHECK(store.entries() > 10);
  CHECK(store.ledger().at_rest() == store.entries() * store::on_disk(300'000));
  CHECK(files_below(f.path_of(oci::Digest()).parent_path().parent_path()) == store.entries());
}
