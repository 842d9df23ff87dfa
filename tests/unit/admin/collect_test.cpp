#include <catch2/catch.hpp>

#include "admin/collect.hpp"
#include "admin_fixture.hpp"

using namespace sluice;
using namespace sluice::admin;
using namespace sluice::test;
using namespace std::chrono_literals;

TEST_CASE("gc: rows without files and memberships of nothing go, all else stays", "[admin]") {
  AdminFixture at;
  const oci::Digest image = at.image("docker.io/a/b", "config", "layer");
  at.tag("docker.io/a/b", "1", image);
  at.know("docker.io/a/b", sha256_of("evicted"), 5, "application/octet-stream");
  at.tag("docker.io/a/b", "old", sha256_of("evicted"));
  at.know("ghcr.io/gone", sha256_of("evicted"), 5, "application/octet-stream");
  std::filesystem::remove(at.path_of(sha256_of("layer")));
  write_file(at.path_of(sha256_of("config")), "another length");

  at.clock.advance(1h);
  const Collected collected = collect(at.store_, at.parts, at.filesystem, at.clock, {.min_age = 10min});
  CHECK(collected.missing_files == 2);
  // Of the two that are gone from the disk, and of "evicted" in two repositories.
  CHECK(collected.memberships == 4);
  CHECK(collected.tags == 1);
  CHECK(collected.store_blobs == 1);
  CHECK(at.store_.catalog().repositories() == std::vector<std::string>{"docker.io/a/b"});
  CHECK(at.store_.catalog().tags(AdminFixture::scope("docker.io/a/b")) == std::vector<std::string>{"1"});
  CHECK(at.store_.find(image).has_value());

  const Collected again = collect(at.store_, at.parts, at.filesystem, at.clock, {});
  CHECK(again.missing_files + again.memberships + again.tags + again.evicted + again.parts == 0);
}

TEST_CASE("gc: what a running pull is about to need is left alone", "[admin]") {
  AdminFixture at;
  at.know("docker.io/a/b", sha256_of("soon"), 5, "application/octet-stream");
  at.clock.advance(9min);
  CHECK(collect(at.store_, at.parts, at.filesystem, at.clock, {.min_age = 10min}).memberships == 0);
  at.clock.advance(1min);
  CHECK(collect(at.store_, at.parts, at.filesystem, at.clock, {.min_age = 10min}).memberships == 1);
}

TEST_CASE("gc: expired parts go", "[admin]") {
  AdminFixture at;
  const oci::Digest digest = sha256_of("a large blob");
  Result<store::Parts::Opened> part = at.parts.open(digest, store::Origin{"docker.io", Rights::anonymous});
  REQUIRE(part.has_value());
  const std::string bytes(100'000, 'x');
  REQUIRE(at.filesystem.write_at(part->file, 0, std::as_bytes(std::span(bytes))));
  store::Reservation room;
  REQUIRE(at.parts.keep(part->path, digest, bytes.size(), room));
  // Nobody writes it any more.
  part->file = runtime::File();
  CHECK(collect(at.store_, at.parts, at.filesystem, at.clock, {}).parts == 0);
  at.clock.advance(48h);
  const Collected collected = collect(at.store_, at.parts, at.filesystem, at.clock, {});
  CHECK(collected.parts == 1);
  CHECK(collected.parts_bytes == 100'000);
  CHECK_FALSE(std::filesystem::exists(part->path));
}
