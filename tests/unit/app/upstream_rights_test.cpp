#include <fstream>
#include <functional>
#include <vector>

#include <catch2/catch.hpp>

#include "app/upstream_rights.hpp"
#include "support/temp_directory.hpp"

using namespace sluice;
using namespace sluice::app;

namespace {

config::Upstream registry() {
  config::Upstream out;
  out.url = "https://registry.example.com";
  out.username = "alice";
  out.password = "secret";
  config::CredentialRule rule;
  rule.repositories = {"team/*", "other/*"};
  rule.username = "bob";
  rule.password = "secret";
  out.credentials = {rule};
  return out;
}

void write(const std::filesystem::path& file, const std::string& text) {
  std::ofstream(file, std::ios::binary) << text;
}

// Whether address and rights are the same.
std::pair<bool, bool> same(const config::Upstream& a, const config::Upstream& b) {
  const UpstreamRights first = rights_of("example", a);
  const UpstreamRights second = rights_of("example", b);
  return {first.claim.address == second.claim.address, first.claim.rights == second.claim.rights};
}

const std::pair kNothing{true, true};
const std::pair kRights{true, false};
const std::pair kAddress{false, false};

}  // namespace

TEST_CASE("Rights of an upstream: what changes them", "[app][rights]") {
  using Change = std::function<void(config::Upstream&)>;
  const std::vector<Change> changes{
      [](auto& to) { to.username = "carol"; },
      [](auto& to) { to.password = "other"; },
      [](auto& to) { to.password.clear(); },
      [](auto& to) { to.access = config::Access::passthrough; },
      [](auto& to) { to.endpoints = {"https://mirror.example.com"}; },
      [](auto& to) { to.credential_helper = "ecr-login"; },
      [](auto& to) { to.credentials.clear(); },
      [](auto& to) { to.credentials.front().repositories = {"team/*"}; },
      [](auto& to) { to.credentials.front().repositories = {"team/", "*other/*"}; },
      [](auto& to) { to.credentials.front().password = "other"; },
      [](auto& to) { to.credentials.front().username = to.credentials.front().password = ""; },
      [](auto& to) { to.credentials.push_back(to.credentials.front()); },
  };
  CHECK(same(registry(), registry()) == kNothing);
  for (std::size_t i = 0; i < changes.size(); ++i) {
    INFO(i);
    config::Upstream changed = registry();
    changes[i](changed);
    CHECK(same(registry(), changed) == kRights);
  }
  config::Upstream moved = registry();
  moved.url = "https://other.example.com";
  CHECK(same(registry(), moved) == kAddress);
  // Two upstreams with one login do not show that they have.
  CHECK(rights_of("a", registry()).claim != rights_of("b", registry()).claim);
}

TEST_CASE("Rights of an upstream: what does not change them", "[app][rights]") {
  config::Upstream tuned = registry();
  tuned.retries = 7;
  tuned.max_connections = 1;
  tuned.stall_timeout = tuned.request_timeout = std::chrono::seconds{1};
  tuned.prefetch = config::Prefetch::layers;
  tuned.offline = true;
  tuned.realm_hosts = {"auth.example.com"};
  CHECK(same(registry(), tuned) == kNothing);
  // What a name stands for is the proxy's word.
  tuned.proxy = "http://proxy.example.com:3128";
  CHECK(same(registry(), tuned) == kRights);
}

TEST_CASE("Rights of an upstream: what stands in files counts, and not where", "[app][rights]") {
  test::TempDirectory directory;
  const std::filesystem::path file = directory.path() / "password";
  config::Upstream from_file = registry();
  from_file.password_file = file;
  from_file.password.clear();
  write(file, "secret\n");
  CHECK(rights_of("example", from_file).complete);
  CHECK(same(registry(), from_file) == kNothing);
  write(file, "another\n");
  CHECK(same(registry(), from_file) == kRights);
  std::filesystem::remove(file);
  CHECK_FALSE(rights_of("example", from_file).complete);
  CHECK(same(registry(), from_file) == kRights);
  CHECK(secret_files(from_file) == std::vector{file});
}

TEST_CASE("Rights of an upstream: docker's file counts as far as it is about it", "[app][rights]") {
  test::TempDirectory directory;
  const std::filesystem::path file = directory.path() / "config.json";
  config::Upstream from_file;
  from_file.url = "https://registry.example.com";
  from_file.docker_config = file;
  const auto rights = [&](const std::string& text) {
    write(file, text);
    const UpstreamRights out = rights_of("example", from_file);
    CHECK(out.complete);
    return out.claim.rights;
  };
  const std::string one = R"("registry.example.com": {"username": "alice", "password": "secret"})";
  const std::string other = R"("registry.example.com": {"username": "alice", "password": "another"})";
  const std::string foreign = R"("ghcr.io": {"username": "alice", "password": "secret"})";
  const std::string first = rights(R"({"auths": {)" + one + "}}");
  CHECK(rights(R"({"auths": {)" + foreign + ", " + one + R"(}, "HttpHeaders": {}})") == first);
  CHECK(rights(R"({"auths": {)" + other + "}}") != first);
  CHECK(rights(R"({"auths": {)" + foreign + "}}") != first);
  CHECK(rights(R"({"auths": {)" + one + R"(}, "credsStore": "pass"})") != first);
  write(file, "{");
  CHECK_FALSE(rights_of("example", from_file).complete);
}
