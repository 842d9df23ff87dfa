#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <catch2/catch.hpp>

#include "access/upstreams.hpp"
#include "support/catch_result.hpp"
#include "support/code_of.hpp"

using namespace sluice;
using namespace sluice::access;

namespace {

// Has nothing but a name.
class NamedRegistry final : public upstream::Registry {
 public:
  explicit NamedRegistry(std::string name) : name_(std::move(name)) {}
  [[nodiscard]] std::string_view name() const override { return name_; }
  runtime::Task<Result<oci::Descriptor>> stat_blob(oci::Repository, oci::Digest) override {
    co_return Errc::blob_unknown;
  }
  runtime::Task<Result<std::unique_ptr<upstream::BlobBody>>> open_blob(oci::Repository, oci::Digest,
                                                                       std::uint64_t) override {
    co_return Errc::blob_unknown;
  }
  runtime::Task<Result<upstream::ManifestAnswer>> get_manifest(oci::Repository, oci::Reference, std::string) override {
    co_return Errc::manifest_unknown;
  }
  runtime::Task<Result<upstream::ManifestHead>> stat_manifest(oci::Repository, oci::Reference, std::string) override {
    co_return Errc::manifest_unknown;
  }
  runtime::Task<Result<void>> ping() override { co_return Result<void>{}; }

 private:
  const std::string name_;
};

struct Configured {
  Configured() {
    for (const char* name : {"ghcr.io", "quay.io", "localhost:5001", "Registry.Example.COM"}) {
      upstreams.add(std::make_unique<NamedRegistry>(name), false);
    }
    upstreams.add(std::make_unique<NamedRegistry>("docker.io"), true);
  }
  Upstreams upstreams{{"docker.io"}};
};

}  // namespace

TEST_CASE("Upstreams: where a request goes", "[access]") {
  struct Row {
    std::string_view ns;
    std::string_view name;
    std::string_view upstream;
    std::string_view repository;
  };
  const Row row = GENERATE(values<Row>({
      {"", "library/app", "docker.io", "library/app"},
      {"", "app", "docker.io", "library/app"},
      {"", "team/app", "docker.io", "team/app"},
      {"", "library/library/app", "docker.io", "library/library/app"},
      {"", "docker.io/library/app", "docker.io", "library/app"},
      {"", "docker.io/app", "docker.io", "library/app"},
      {"", "index.docker.io/app", "docker.io", "library/app"},
      {"", "ghcr.io/owner/app", "ghcr.io", "owner/app"},
      {"", "ghcr.io/app", "ghcr.io", "app"},
      {"", "localhost:5001/app", "localhost:5001", "app"},
      {"", "GHCR.io/owner/app", "ghcr.io", "owner/app"},
      {"", "ghcr.io", "docker.io", "library/ghcr.io"},

      {"docker.io", "library/app", "docker.io", "library/app"},
      {"docker.io", "app", "docker.io", "library/app"},
      {"index.docker.io", "app", "docker.io", "library/app"},
      {"registry-1.docker.io", "app", "docker.io", "library/app"},
      {"registry.hub.docker.com", "app", "docker.io", "library/app"},
      {"Docker.IO", "app", "docker.io", "library/app"},
      {"GHCR.io", "owner/app", "ghcr.io", "owner/app"},
      {"ghcr.io", "app", "ghcr.io", "app"},
      {"ghcr.io:443", "app", "ghcr.io", "app"},
      {"localhost:5001", "app", "localhost:5001", "app"},
      {"registry.example.com", "app", "Registry.Example.COM", "app"},
      // `ns` says where; what the path begins with is a part of the repository's name,
      {"quay.io", "ghcr.io/owner/app", "quay.io", "ghcr.io/owner/app"},
      {"quay.io", "gcr.io/owner/app", "quay.io", "gcr.io/owner/app"},
      // unless it is the same name again (k3s's rewrite, containerd's override_path).
      {"ghcr.io", "ghcr.io/owner/app", "ghcr.io", "owner/app"},
      {"GHCR.io", "ghcr.IO/app", "ghcr.io", "app"},
      {"docker.io", "docker.io/app", "docker.io", "library/app"},
      {"docker.io", "registry-1.docker.io/team/app", "docker.io", "team/app"},
      {"registry-1.docker.io", "docker.io/library/app", "docker.io", "library/app"},
      {"localhost:5001", "localhost:5001/team/app", "localhost:5001", "team/app"},
      {"ghcr.io", "ghcr.io/ghcr.io/app", "ghcr.io", "ghcr.io/app"},
      {"ghcr.io", "ghcr.io", "ghcr.io", "ghcr.io"},
  }));
  INFO(row.ns << ' ' << row.name);
  Configured configured;
  const Result<Route> route = configured.upstreams.resolve(row.ns, row.name);
  REQUIRE(route.has_value());
  CHECK(route->registry->name() == row.upstream);
  CHECK(route->repository.str() == row.repository);
  CHECK(route->scope.str() == std::string(row.upstream) + "/" + std::string(row.repository));
}

TEST_CASE("Upstreams: what is not configured or not a name is refused", "[access]") {
  struct Row {
    std::string_view ns;
    std::string_view name;
    std::string_view code;
  };
  const Row row = GENERATE(values<Row>({
      {"evil.example", "app", "name_unknown"},
      {"https://ghcr.io", "app", "name_unknown"},
      {"ghcr.io/", "app", "name_unknown"},
      {"ghcr.io.", "app", "name_unknown"},
      {"ghcr.io:80", "app", "name_unknown"},
      {" ghcr.io", "app", "name_unknown"},
      {"..", "app", "name_unknown"},
      {"\n", "app", "name_unknown"},
      {"", "", "name_invalid"},
      {"", "/", "name_invalid"},
      {"", "ghcr.io/", "name_invalid"},
      {"", "ghcr.io//app", "name_invalid"},
      {"", "../app", "name_invalid"},
      {"", "ghcr.io/../app", "name_invalid"},
      {"", "App", "name_invalid"},
      {"", "%2e%2e/app", "name_invalid"},
      {"", "evil.example:80/app", "name_unknown"},
      {"", "gcr.io/project/app", "name_unknown"},
      {"", "..x/app", "name_invalid"},
      {"quay.io", "", "name_invalid"},
      {"ghcr.io", "ghcr.io/", "name_invalid"},
      {"evil.example", "ghcr.io/owner/app", "name_unknown"},
      {"evil.example", "evil.example/owner/app", "name_unknown"},
  }));
  INFO(row.ns << ' ' << row.name);
  Configured configured;
  const Result<Route> route = configured.upstreams.resolve(row.ns, row.name);
  CHECK(test::code_of(route) == row.code);
}

TEST_CASE("Upstreams: a host in front that is not configured is a name where the default upstream may have it",
          "[access]") {
  Upstreams upstreams({"registry.test"});
  upstreams.add(std::make_unique<NamedRegistry>("registry.test"), false);
  const Result<Route> route = upstreams.resolve("", "gcr.io/project/app");
  REQUIRE(route.has_value());
  CHECK(route->scope.str() == "registry.test/gcr.io/project/app");
  CHECK(test::code_of(upstreams.resolve("", "evil.example:80/app")) == "name_invalid");
}

TEST_CASE("Upstreams: a host that fits the pattern names one", "[access]") {
  struct Row {
    std::string_view host;
    std::string_view ns;
    std::string_view name;
    std::string_view scope;  // or the error
  };
  const Row row = GENERATE(values<Row>({
      {"ghcr.io.cache.example", "", "owner/app", "ghcr.io/owner/app"},
      {"ghcr.io.cache.example:5000", "", "owner/app", "ghcr.io/owner/app"},
      {"GHCR.IO.Cache.Example", "", "app", "ghcr.io/app"},
      {"docker.io.cache.example", "", "app", "docker.io/library/app"},
      {"registry-1.docker.io.cache.example", "", "app", "docker.io/library/app"},
      // What is said more clearly counts.
      {"ghcr.io.cache.example", "quay.io", "owner/app", "quay.io/owner/app"},
      {"ghcr.io.cache.example", "", "quay.io/owner/app", "quay.io/owner/app"},
      {"ghcr.io.cache.example", "", "my.team/app", "ghcr.io/my.team/app"},
      {"evil.test.cache.example", "", "owner/app", "name_unknown"},
      {"evil.test.cache.example", "", "library/app", "name_unknown"},
      // These do not fit.
      {"cache.example", "", "app", "docker.io/library/app"},
      {".cache.example", "", "app", "docker.io/library/app"},
      {"ghcr.io", "", "app", "docker.io/library/app"},
      {"ghcr.io.cache.example.org", "", "app", "docker.io/library/app"},
      {"127.0.0.1:5000", "", "app", "docker.io/library/app"},
      {"[::1]:5000", "", "app", "docker.io/library/app"},
      {"[::1]", "", "app", "docker.io/library/app"},
      {"", "", "app", "docker.io/library/app"},
  }));
  INFO(row.host << ' ' << row.ns << ' ' << row.name);
  Upstreams upstreams({"docker.io", "*.cache.example"});
  for (const char* name : {"ghcr.io", "quay.io"}) upstreams.add(std::make_unique<NamedRegistry>(name), false);
  upstreams.add(std::make_unique<NamedRegistry>("docker.io"), true);
  const Result<Route> route = upstreams.resolve(Named{row.ns, row.host}, row.name);
  if (route) {
    CHECK(route->scope.str() == row.scope);
  } else {
    CHECK(test::code_of(route) == row.scope);
  }
}

TEST_CASE("Upstreams: the upstream of a request without a repository", "[access]") {
  Upstreams upstreams({"docker.io", "*.cache.example"});
  upstreams.add(std::make_unique<NamedRegistry>("ghcr.io"), Upstreams::Options{false, Passthrough{}});
  upstreams.add(std::make_unique<NamedRegistry>("docker.io"), true);
  CHECK((*upstreams.resolve(Named{"", "ghcr.io.cache.example"}))->registry->name() == "ghcr.io");
  CHECK((*upstreams.resolve(Named{"ghcr.io", ""}))->options.passthrough.has_value());
  CHECK((*upstreams.resolve(Named{"", "127.0.0.1"}))->registry->name() == "docker.io");
  CHECK(test::code_of(upstreams.resolve(Named{"evil.test", ""})) == "name_unknown");
  CHECK(upstreams.names_one(Named{"x", ""}));
  CHECK(upstreams.names_one(Named{"", "ghcr.io.cache.example"}));
  CHECK_FALSE(upstreams.names_one(Named{"", "127.0.0.1"}));
  CHECK(upstreams.resolve("ghcr.io", "owner/app")->passthrough != nullptr);
  CHECK(upstreams.resolve("", "app")->passthrough == nullptr);
}

TEST_CASE("Upstreams: a name that library/ makes too long is refused", "[access]") {
  Configured configured;
  const std::string longest(oci::kMaxRepositoryBytes, 'a');
  CHECK(configured.upstreams.resolve("quay.io", longest).has_value());
  CHECK(test::code_of(configured.upstreams.resolve("docker.io", longest)) == "name_invalid");
  CHECK(test::code_of(configured.upstreams.resolve("quay.io", longest + "a")) == "name_invalid");
}

TEST_CASE("Upstreams: an error repeats a client's text only as far as a line may hold it", "[access]") {
  Configured configured;
  const Result<Route> route = configured.upstreams.resolve("a\r\nb\"c\x01" + std::string(1000, 'x'), "app");
  REQUIRE_FALSE(route.has_value());
  const std::string& message = route.error().message;
  CHECK(message.find('\n') == std::string::npos);
  CHECK(message.find('\x01') == std::string::npos);
  CHECK(message.size() < 400);
}

TEST_CASE("Upstreams: find and the default", "[access]") {
  Configured configured;
  CHECK(configured.upstreams.find("GHCR.IO")->name() == "ghcr.io");
  CHECK(configured.upstreams.find("nowhere.example") == nullptr);
  CHECK(configured.upstreams.default_name() == "docker.io");
  Upstreams empty({"docker.io"});
  CHECK(test::code_of(empty.resolve("", "app")) == "name_unknown");
}

TEST_CASE("Upstreams: another table is for what is resolved from then on", "[access]") {
  Upstreams upstreams({});
  upstreams.add(std::make_unique<NamedRegistry>("docker.io"), Upstreams::Options{true, Passthrough{}});
  upstreams.add(std::make_unique<NamedRegistry>("ghcr.io"), false);
  const std::shared_ptr<const Upstreams::Upstream> kept = upstreams.upstream("ghcr.io");
  std::optional<Route> before;
  {
    Result<Route> route = upstreams.resolve("", "busybox");
    REQUIRE(route.has_value());
    before = std::move(*route);
  }
  const std::weak_ptr<upstream::Registry> old = upstreams.find("docker.io");
  Upstreams::Table table;
  table.emplace(Upstreams::key("Docker.io"), std::make_shared<const Upstreams::Upstream>(Upstreams::Upstream{
                                                 std::make_shared<NamedRegistry>("docker.io"), Upstreams::Options{}}));
  table.emplace("ghcr.io", kept);
  upstreams.replace(std::move(table));
  CHECK(upstreams.names() == std::vector<std::string>{"docker.io", "ghcr.io"});
  CHECK(upstreams.upstream("ghcr.io") == kept);
  CHECK(upstreams.resolve("", "busybox")->passthrough == nullptr);
  // What was resolved before still has its upstream.
  REQUIRE_FALSE(old.expired());
  CHECK(before->registry == old.lock().get());
  CHECK(before->passthrough != nullptr);
  before.reset();
  CHECK(old.expired());
}
