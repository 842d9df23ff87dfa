// How upstreams are reached and logged in at: endpoints, logins, proxies, certificates.
#include <fstream>

#include <catch2/catch.hpp>

#include "support.hpp"
#include "support/catch_result.hpp"
#include "support/temp_directory.hpp"

namespace sluice::config {
namespace {

using testing::load_text;

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

std::string problem(const std::string& text) {
  const Result<Settings> loaded = load_text(text);
  return loaded ? std::string() : loaded.error().message;
}

Result<Settings> load_with(const std::string& text, std::map<std::string, std::string> environment) {
  test::TempDirectory directory;
  const auto file = directory.path() / "sluice.yml";
  std::ofstream(file) << text;
  LoadParams params;
  params.file = file;
  params.environment = std::move(environment);
  return load(params);
}

}  // namespace

TEST_CASE("Egress: endpoints, limits and proxies of an upstream", "[config]") {
  const Result<Settings> loaded = load_text(R"(
upstreams:
  registry.example.com:
    endpoints: [https://Mirror.example.com/, http://10.0.0.1:5000/v]
    requests_per_second: 20
    proxy: proxy.example.com:3128
  docker.io: { proxy: off }
proxy:
  https: http://alice:wonderland@proxy.example.com:3128/
  http: off
  no_proxy: [internal.example.com, 10.0.0.0/8]
)");
  REQUIRE(loaded);
  const Upstream& upstream = loaded->upstreams.at("registry.example.com");
  CHECK(upstream.endpoints == std::vector<std::string>{"https://mirror.example.com", "http://10.0.0.1:5000/v"});
  CHECK(upstream.requests_per_second == 20);
  CHECK(upstream.proxy == "http://proxy.example.com:3128");
  CHECK(loaded->upstreams.at("docker.io").proxy == "off");
  CHECK(loaded->proxy.https == "http://alice:wonderland@proxy.example.com:3128");
  CHECK(loaded->proxy.http == "off");
  CHECK(loaded->proxy.no_proxy == std::vector<std::string>{"internal.example.com", "10.0.0.0/8"});

  const std::string text = describe(*loaded);
  CHECK_FALSE(has(text, "wonderland"));
  CHECK(has(text, "http://alice:***@proxy.example.com:3128"));
  const Result<Settings> again = load_text(text);
  REQUIRE(again);
  CHECK(again->upstreams.at("registry.example.com").endpoints == upstream.endpoints);
}

TEST_CASE("Egress: what cannot be", "[config]") {
  CHECK(has(problem("proxy: { https: 'socks5://secret@proxy' }"),
            "found a value that is not shown here, expected a proxy"));
  CHECK_FALSE(has(problem("proxy: { https: 'https://secret:x@proxy/path' }"), "secret"));
  CHECK(has(problem("proxy: { remoteurl: 'https://quay.io' }"), "distribution"));
  CHECK(has(problem("upstreams: { ghcr.io: { endpoints: [ghcr.example.com] } }"), "expected a list of URLs"));
  CHECK(has(problem("upstreams: { ghcr.io: { cert_file: /dev/null } }"), "found alone, expected both"));
  CHECK(has(problem("upstreams: { ghcr.io: { cert_file: /nonexistent, key_file: /dev/null } }"), "readable PEM file"));
  CHECK(has(problem("upstreams: { ghcr.io: { docker_config: /nonexistent } }"), "expected a readable file"));
  CHECK(has(problem("upstreams: { ghcr.io: { docker_config: /dev/null, username: a, password: b } }"),
            "beside another login"));
  CHECK(has(problem("upstreams: { ghcr.io: { credential_helper: x, username: a, password: b } }"),
            "beside another login"));
  CHECK(has(problem("upstreams: { ghcr.io: { credential_lifetime: 1h } }"), "found without credential_helper"));
  CHECK(has(problem("upstreams: { ghcr.io: { credential_helper: x, credential_lifetime: -1h } }"),
            "expected a duration"));
  CHECK(has(problem("upstreams: { ghcr.io: { access: passthrough, credential_helper: x } }"),
            "passthrough beside a login"));
}

TEST_CASE("Egress: logins for some repositories", "[config]") {
  const Result<Settings> loaded = load_text(R"(
upstreams:
  registry.example.com:
    credential_helper: ecr-login
    credential_lifetime: 0s
    credentials:
      - repositories: [team/*, other/**]
        username: team
        password: wonderland
      - repositories: public/*
        anonymous: true
)");
  REQUIRE(loaded);
  const Upstream& upstream = loaded->upstreams.at("registry.example.com");
  CHECK(upstream.credential_helper == "ecr-login");
  CHECK(upstream.credential_lifetime == Duration{0});
  REQUIRE(upstream.credentials.size() == 2);
  CHECK(upstream.credentials[0].repositories == std::vector<std::string>{"team/*", "other/**"});
  CHECK(upstream.credentials[0].password == "wonderland");
  CHECK(upstream.credentials[1].anonymous);
  CHECK_FALSE(upstream.credentials[1].credential_lifetime);

  const std::string text = describe(*loaded);
  CHECK_FALSE(has(text, "wonderland"));
  const Result<Settings> again = load_text(text);
  REQUIRE(again);
  CHECK(again->upstreams.at("registry.example.com").credentials.size() == 2);

  const auto rule = [](const std::string& keys) {
    return problem("upstreams:\n  ghcr.io:\n    credentials:\n      - { " + keys + " }\n");
  };
  CHECK(has(rule("repositories: 'a/*'"), "upstreams.ghcr.io.credentials[0]: found no login"));
  CHECK(has(rule("anonymous: true"), "found without repositories"));
  CHECK(has(rule("repositories: 'a/*', anonymous: true, username: a, password: b"), "found anonymous beside a login"));
  CHECK(has(rule("repositories: 'a/*', username: a"), "credentials[0].username: found without password"));
  CHECK(has(rule("repositories: 'A/*', anonymous: true"), "expected a list of patterns"));
  CHECK(has(rule("repository: 'a/*', anonymous: true"), "did you mean repositories?"));
  CHECK(has(problem("upstreams: { ghcr.io: { credentials: { username: a } } }"), "expected a list of mappings"));
}

TEST_CASE("Egress: proxies of the environment", "[config]") {
  const auto loaded = load_with(
      "",
      {{"HTTPS_PROXY", "http://secure:1"}, {"http_proxy", "plain:2"}, {"NO_PROXY", "internal.example.com,10.0.0.0/8"}});
  REQUIRE(loaded);
  CHECK(loaded->proxy.https == "http://secure:1");
  CHECK(loaded->proxy.http == "http://plain:2");
  CHECK(loaded->proxy.no_proxy.size() == 2);
  // The file stands above it, and sluice's own variables above the file.
  const auto mixed = load_with("proxy: { https: off, http: file:3 }",
                               {{"HTTPS_PROXY", "http://secure:1"}, {"SLUICE_PROXY_HTTP", "own:4"}});
  REQUIRE(mixed);
  CHECK(mixed->proxy.https == "off");
  CHECK(mixed->proxy.http == "http://own:4");
  // Capitals first; empty is not set; not as a CGI script.
  const auto both = load_with(
      "", {{"HTTPS_PROXY", ""}, {"https_proxy", "small:1"}, {"HTTP_PROXY", "x:1"}, {"REQUEST_METHOD", "GET"}});
  REQUIRE(both);
  CHECK(both->proxy.https == "http://small:1");
  CHECK(both->proxy.http.empty());
  const auto bad = load_with("", {{"HTTPS_PROXY", "socks5://alice:wonderland@proxy"}});
  REQUIRE_FALSE(bad);
  CHECK(has(bad.error().message, "HTTPS_PROXY: found a value that is not shown here"));
}

}  // namespace sluice::config
