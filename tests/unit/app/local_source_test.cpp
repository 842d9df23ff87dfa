// The admin API over a data directory that no process serves from.
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "../store/store_fixture.hpp"
#include "app/commands/source.hpp"
#include "store/parts.hpp"

using namespace sluice;
using namespace sluice::test;

namespace {

struct Bench : StoreFixture {
  Bench() {
    settings.data = params.root;
    open();
  }
  // Nothing else uses the directory from here on.
  std::unique_ptr<app::Source> source(bool limited) {
    store->stop();
    store.reset();
    return app::local_source(settings, limited).value();
  }
  std::string ask(app::Source& source, const std::string& method, const std::string& target) {
    return run(source.ask(method, target)).value();
  }

  config::Settings settings;
};

}  // namespace

TEST_CASE("LocalSource: looking at a store changes nothing in it", "[app]") {
  Bench bench;
  bench.settings.store.quarantine_max_age = {};
  bench.settings.store.part_max_age = {};
  const std::string name = "sha256-" + sha256_of("blob").to_string().substr(7);
  const store::Layout& layout = bench.store->layout();
  const std::vector<runtime::Path> files{layout.quarantine() / name,
                                         layout.incoming() / (name + ".u0123456789abcdef.part")};
  for (const runtime::Path& file : files) write_file(file, std::string(100'000, 'x'));
  write_file(layout.boot(), store::Parts::current_boot());
  const bool collects = GENERATE(false, true);
  const auto source = bench.source(collects);
  CHECK_FALSE(bench.ask(*source, "GET", "/api/v1/repositories").empty());
  for (const runtime::Path& file : files) CHECK(std::filesystem::exists(file) == !collects);
}

TEST_CASE("LocalSource: what is taken out goes by all its names", "[app]") {
  Bench bench;
  const oci::Digest canonical = sha256_of("bytes");
  const oci::Digest other = oci::digest_of(oci::Algorithm::sha512, "bytes");
  REQUIRE(bench.run(bench.store->put(canonical, "bytes", "application/octet-stream")));
  store::Catalog& catalog = bench.store->catalog();
  const oci::Descriptor descriptor{canonical, 5, "application/octet-stream"};
  catalog.set_membership(store::Scope(), other, descriptor);
  const auto scope = store::Scope::repository("docker.io/a/b").value();
  for (const oci::Digest& digest : {canonical, other}) catalog.set_membership(scope, digest, descriptor);
  const runtime::Path file = bench.store->layout().blob(canonical);
  REQUIRE(catalog.flush());
  const auto source = bench.source(false);
  const oci::Digest asked = GENERATE(true, false) ? other : canonical;
  const std::string target = "/api/v1/content?name=docker.io/a/b@" + asked.to_string();
  CHECK(nlohmann::json::parse(bench.ask(*source, "DELETE", target))["files"] == 1);
  CHECK_FALSE(std::filesystem::exists(file));
  CHECK(nlohmann::json::parse(bench.ask(*source, "GET", "/api/v1/repositories"))["repositories"].empty());
}
