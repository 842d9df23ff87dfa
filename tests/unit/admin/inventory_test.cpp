#include <algorithm>
#include <set>

#include <catch2/catch.hpp>

#include "admin_fixture.hpp"

using namespace sluice;
using namespace sluice::admin;
using namespace sluice::test;

namespace {

std::set<oci::Digest> as_set(const std::vector<oci::Digest>& digests) { return {digests.begin(), digests.end()}; }

}  // namespace

TEST_CASE("Inventory: repositories with what they have, page by page", "[admin]") {
  AdminFixture at;
  CHECK(at.inventory.repositories({}).rows.empty());
  at.tag("docker.io/a/one", "1", at.image("docker.io/a/one", "config", "layer"));
  at.put("docker.io/a/two", "layer");
  at.know("ghcr.io/b", sha256_of("nowhere"), 7, "application/octet-stream");

  const Page<RepositoryRow> all = at.inventory.repositories({});
  REQUIRE(all.rows.size() == 3);
  CHECK(all.next.empty());
  CHECK(all.rows[0].name == "docker.io/a/one");
  CHECK(all.rows[0].tags == 1);
  CHECK(all.rows[0].blobs == 3);
  CHECK(all.rows[0].bytes == 6 + 5 + AdminFixture::manifest("config", "layer").size());
  CHECK(all.rows[0].last_used != 0);
  CHECK(all.rows[1].bytes == 5);
  CHECK(all.rows[2].blobs == 0);
  CHECK(all.rows[2].last_used == 0);

  std::vector<std::string> names;
  PageAsked asked{"", 2};
  do {
    const Page<RepositoryRow> page = at.inventory.repositories(asked);
    for (const RepositoryRow& row : page.rows) names.push_back(row.name);
    asked.after = page.next;
  } while (!asked.after.empty());
  CHECK(names == std::vector<std::string>{"docker.io/a/one", "docker.io/a/two", "ghcr.io/b"});
}

TEST_CASE("Inventory: names mean what clients mean by them", "[admin]") {
  AdminFixture at;
  at.put("docker.io/library/busybox", "x");
  at.put("ghcr.io/a/b", "x");
  CHECK(at.inventory.find(AdminFixture::name("busybox"))->str() == "docker.io/library/busybox");
  CHECK(at.inventory.find(AdminFixture::name("index.docker.io/library/busybox"))->str() == "docker.io/library/busybox");
  CHECK(at.inventory.find(AdminFixture::name("ghcr.io/a/b:1"))->str() == "ghcr.io/a/b");
  CHECK(at.inventory.find(AdminFixture::name("a/b")).error().code == Errc::not_found);
  // Where the default upstream is another one, its names of one part stand for themselves.
  const Inventory own({"own.example"}, at.store_, at.parts, at.filesystem);
  at.put("own.example/app", "x");
  CHECK(own.find(AdminFixture::name("app"))->str() == "own.example/app");
}

TEST_CASE("Inventory: a tag is as large as what it is made of and is here", "[admin]") {
  AdminFixture at;
  const std::string repository = "docker.io/a/b";
  const std::string text = AdminFixture::manifest("config", "layer");
  at.image(repository, "config", "layer");
  const std::string index = AdminFixture::index(text);
  at.tag(repository, "multi", at.put(repository, index, oci::media_type::kOciIndex));
  const std::string partial = AdminFixture::manifest("config", "a layer that is not here");
  at.tag(repository, "partial", at.put(repository, partial, oci::media_type::kOciManifest));
  at.tag(repository, "gone", sha256_of("gone"));

  const Result<Page<TagRow>> tags = at.inventory.tags(AdminFixture::name("a/b"), {});
  REQUIRE(tags.has_value());
  REQUIRE(tags->rows.size() == 3);
  CHECK(tags->rows[0].name == "gone");
  CHECK(tags->rows[0].at_rest == 0);
  CHECK(tags->rows[1].name == "multi");
  CHECK(tags->rows[1].blobs == 4);
  CHECK(tags->rows[1].at_rest == 4);
  CHECK(tags->rows[1].bytes == index.size() + text.size() + 11);
  CHECK(tags->rows[1].media_type == oci::media_type::kOciIndex);
  CHECK(tags->rows[2].blobs == 3);
  CHECK(tags->rows[2].at_rest == 2);
  CHECK(at.inventory.tags(AdminFixture::name("a/b"), {"gone", 1})->rows[0].name == "multi");
}

TEST_CASE("Inventory: looking is no use of a blob", "[admin]") {
  AdminFixture at;
  const oci::Digest digest = at.image("docker.io/a/b", "config", "layer");
  at.tag("docker.io/a/b", "1", digest);
  const std::uint32_t used = at.store_.find(digest)->last_used;
  at.clock.advance(std::chrono::hours{5});
  (void)at.inventory.repositories({});
  (void)at.inventory.tags(AdminFixture::name("a/b"), {});
  (void)at.inventory.stat(AdminFixture::name("a/b:1"));
  (void)at.inventory.stat(digest);
  (void)at.inventory.blobs({});
  CHECK(at.store_.find(digest)->last_used == used);
}

TEST_CASE("Inventory: every blob once, in order, whatever the page", "[admin]") {
  AdminFixture at;
  std::set<oci::Digest> all;
  for (int i = 0; i < 50; ++i) all.insert(at.put("docker.io/a/b", std::to_string(i)));
  const std::size_t limit = GENERATE(1U, 7U, 50U, 1000U);
  std::vector<oci::Digest> seen;
  PageAsked asked{"", limit};
  do {
    const Result<Page<BlobRow>> page = at.inventory.blobs(asked);
    REQUIRE(page.has_value());
    CHECK(page->rows.size() <= limit);
    for (const BlobRow& row : page->rows) seen.push_back(row.digest);
    asked.after = page->next;
  } while (!asked.after.empty());
  CHECK(seen.size() == 50);
  CHECK(std::is_sorted(seen.begin(), seen.end()));
  CHECK(as_set(seen) == all);
  CHECK(at.inventory.blobs({"nonsense", 1}).error().code == Errc::digest_invalid);
}

TEST_CASE("Inventory: at rest, in flight, in part, or only known", "[admin]") {
  AdminFixture at;
  const oci::Digest rest = at.put("docker.io/a/b", "rest");
  const oci::Digest flying = sha256_of("flying");
  at.know("docker.io/a/b", flying, 1000, "application/octet-stream");
  const oci::Digest known = sha256_of("known");
  at.know("docker.io/a/b", known, 2000, "application/octet-stream");
  const Inventory inventory({"docker.io", [&](const oci::Digest& digest) { return digest == flying; }}, at.store_,
                            at.parts, at.filesystem);
  CHECK(inventory.stat(rest)->blob.state == BlobRow::State::at_rest);
  CHECK(inventory.stat(rest)->file == at.path_of(rest).native());
  CHECK(inventory.stat(flying)->blob.state == BlobRow::State::in_flight);
  CHECK(inventory.stat(flying)->blob.size == 1000);
  CHECK(inventory.stat(known)->blob.state == BlobRow::State::absent);
  CHECK(inventory.stat(known)->repositories == std::vector<std::string>{"docker.io/a/b"});
  CHECK(inventory.stat(sha256_of("nothing")).error().code == Errc::not_found);
  CHECK(inventory.blobs(AdminFixture::name("a/b"), {})->rows.size() == 3);
}

TEST_CASE("Inventory: the mark of what only a manifest says is shown to nobody", "[admin]") {
  AdminFixture at;
  const std::string mark(store::MediaTypes::kNamedByManifest);
  const oci::Digest image = at.image("docker.io/a/b", "config", "layer");
  const oci::Digest layer = sha256_of("layer");
  const oci::Digest known = sha256_of("known");
  at.know("docker.io/a/b", layer, 5, mark);
  at.know("docker.io/a/b", known, 2000, mark);
  at.tag("docker.io/a/b", "1", image);
  CHECK(at.inventory.stat(layer)->blob.media_type == at.store_.find(layer)->media_type);
  CHECK(at.inventory.stat(known)->blob.media_type.empty());
  const auto page = at.inventory.blobs(AdminFixture::name("a/b"), {});
  REQUIRE(page);
  for (const BlobRow& row : page->rows) CHECK(row.media_type != mark);
  const auto stat = at.inventory.stat(AdminFixture::name("a/b:1"));
  REQUIRE(stat);
  for (const BlobRow& row : stat->blobs) CHECK(row.media_type != mark);
}

TEST_CASE("Inventory: an image by tag and by digest", "[admin]") {
  AdminFixture at;
  const oci::Digest digest = at.image("docker.io/a/b", "config", "layer");
  at.tag("docker.io/a/b", "1", digest);
  at.put("docker.io/c/d", "layer");
  const Result<ImageStat> by_tag = at.inventory.stat(AdminFixture::name("a/b:1"));
  REQUIRE(by_tag.has_value());
  CHECK(by_tag->tag == "1");
  CHECK(by_tag->checked_at.has_value());
  CHECK(by_tag->manifest.blob.digest == digest);
  CHECK(by_tag->manifest.tags == std::vector<std::string>{"docker.io/a/b:1"});
  CHECK(by_tag->blobs.size() == 2);
  CHECK(by_tag->bytes == 11 + by_tag->manifest.blob.size);
  const Result<ImageStat> by_digest = at.inventory.stat(AdminFixture::name("a/b@" + digest.to_string()));
  REQUIRE(by_digest.has_value());
  CHECK(by_digest->tag.empty());
  CHECK(by_digest->bytes == by_tag->bytes);
  CHECK(at.inventory.stat(AdminFixture::name("a/b:2")).error().code == Errc::not_found);
  CHECK(at.inventory.stat(AdminFixture::name("c/d@" + digest.to_string())).error().code == Errc::not_found);
}

TEST_CASE("Inventory: removing an image takes what no other image of the repository needs", "[admin]") {
  AdminFixture at;
  const std::string repository = "docker.io/a/b";
  const oci::Digest one = at.image(repository, "config 1", "shared");
  const oci::Digest two = at.image(repository, "config 2", "shared");
  at.tag(repository, "1", one);
  at.tag(repository, "2", two);

  const Result<RemovalPlan> plan = at.inventory.plan_removal(AdminFixture::name("a/b:1"));
  REQUIRE(plan.has_value());
  CHECK(plan->repository == repository);
  CHECK(plan->tags == std::vector<std::string>{"1"});
  CHECK(as_set(plan->digests) == std::set<oci::Digest>{one, sha256_of("config 1")});

  SECTION("an image with another tag keeps its blobs") {
    at.tag(repository, "other", one);
    const Result<RemovalPlan> again = at.inventory.plan_removal(AdminFixture::name("a/b:1"));
    REQUIRE(again.has_value());
    CHECK(again->digests.empty());
    CHECK(again->tags.size() == 1);
    // By its digest it goes with all of them.
    const Result<RemovalPlan> whole = at.inventory.plan_removal(AdminFixture::name("a/b@" + one.to_string()));
    CHECK(as_set(whole->digests) == std::set<oci::Digest>{one, sha256_of("config 1")});
  }
  SECTION("one that an index names stays") {
    const std::string text = AdminFixture::manifest("config 1", "shared");
    at.tag(repository, "multi", at.put(repository, AdminFixture::index(text), oci::media_type::kOciIndex));
    CHECK(at.inventory.plan_removal(AdminFixture::name("a/b:1"))->digests.empty());
  }
  SECTION("a manifest without a tag keeps what it names") {
    at.store_.catalog().clear_tag(AdminFixture::scope(repository), "2");
    CHECK_FALSE(as_set(at.inventory.plan_removal(AdminFixture::name("a/b:1"))->digests).contains(sha256_of("shared")));
  }
  SECTION("all of it") {
    const Result<RemovalPlan> all = at.inventory.plan_removal_of_all(AdminFixture::name("a/b"));
    CHECK(all->digests.size() == 5);
    CHECK(all->tags == std::vector<std::string>{"1", "2"});
  }
  SECTION("what the tag is for clients that accept less goes along") {
    const oci::Digest narrow = at.image(repository, "config 3", "narrow");
    at.tag(repository, "1", narrow, oci::manifest_bit(oci::media_type::kDockerSchema2));
    const auto going = as_set(at.inventory.plan_removal(AdminFixture::name("a/b:1"))->digests);
    CHECK(going.contains(narrow));
    CHECK(going.contains(one));
  }
}

TEST_CASE("Inventory: a signed manifest is at rest under its repository's own name", "[admin]") {
  AdminFixture at;
  const std::string repository = "docker.io/a/one";
  const std::string text =
      AdminFixture::manifest("config", "layer");  // in place of a signed one: names are all it takes
  const oci::Digest digest = sha256_of("its payload");
  at.put(repository, "config");
  at.put(repository, "layer");
  REQUIRE(at.run(at.store_.put(sha256_of(text), text, std::string(oci::media_type::kOciManifest))));
  at.store_.catalog().set_membership(AdminFixture::scope(repository), digest,
                                     {sha256_of(text), text.size(), std::string(oci::media_type::kOciManifest)});
  at.tag(repository, "1", digest);
  const std::size_t all = text.size() + 6 + 5;
  CHECK(at.inventory.repositories({}).rows.front().blobs == 3);
  CHECK(at.inventory.repositories({}).rows.front().bytes == all);
  const auto tags = at.inventory.tags(AdminFixture::name("a/one"), {});
  REQUIRE(tags);
  CHECK(tags->rows.front().at_rest == 3);
  CHECK(tags->rows.front().bytes == all);
  const auto image = at.inventory.stat(AdminFixture::name("a/one:1"));
  REQUIRE(image);
  CHECK(image->manifest.blob.state == BlobRow::State::at_rest);
  CHECK(image->manifest.file == at.store_.layout().blob(sha256_of(text)).native());
  CHECK(image->blobs.size() == 2);
  CHECK(image->bytes == all);
  const auto found = at.inventory.stat(digest);
  REQUIRE(found);
  CHECK(found->blob.size == text.size());
  // To another repository that is nothing.
  at.store_.catalog().set_membership(AdminFixture::scope("docker.io/a/two"), digest,
                                     {digest, 5, std::string(oci::media_type::kOciManifest)});
  const auto other = at.inventory.blobs(AdminFixture::name("a/two"), {});
  REQUIRE(other);
  CHECK(other->rows.front().state == BlobRow::State::absent);
}
