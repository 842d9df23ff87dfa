#include <catch2/catch.hpp>

#include "support.hpp"

using namespace sluice;
using namespace sluice::config;
using namespace sluice::config::testing;
using namespace std::chrono_literals;

namespace {

std::string problem(const std::string& text) {
  const Result<Settings> loaded = load_text(text);
  return loaded ? "none" : loaded.error().message;
}

bool has(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("Access: its keys", "[config]") {
  const Result<Settings> loaded = load_text(
      "server: { host_pattern: '*.cache.example' }\n"
      "offline: true\n"
      "upstreams:\n"
      "  ghcr.io: { access: passthrough, grant_ttl: 5s }\n"
      "  quay.io: { offline: true }\n");
  if (!loaded) FAIL(loaded.error().message);
  CHECK(loaded->server.host_pattern == "*.cache.example");
  CHECK(loaded->offline);
  CHECK(loaded->upstreams.at("ghcr.io").access == Access::passthrough);
  CHECK(loaded->upstreams.at("ghcr.io").grant_ttl == 5s);
  CHECK_FALSE(loaded->upstreams.at("ghcr.io").offline);
  CHECK(loaded->upstreams.at("quay.io").offline);
  CHECK(loaded->upstreams.at("quay.io").access == Access::open);
  CHECK(has(describe(*loaded), "host_pattern: \"*.cache.example\""));
}

TEST_CASE("Access: a pattern of hosts has one star, and is a host with a name in its place", "[config]") {
  for (const char* good : {"*.cache.example", "*-cache.example", "cache.*.example"}) {
    INFO(good);
    CHECK(problem(std::string("server: { host_pattern: '") + good + "' }") == "none");
  }
  for (const char* bad :
       {"*", "cache.example", "*.*.example", "*.cache.example:5000", "*.cache/x", "*..x", "*.Cache"}) {
    INFO(bad);
    CHECK(has(problem(std::string("server: { host_pattern: '") + bad + "' }"), ":1: server.host_pattern: found"));
  }
}

TEST_CASE("Access: passthrough has no account of its own", "[config]") {
  CHECK(problem("upstreams: { ghcr.io: { access: passthrough } }") == "none");
  CHECK(has(problem("upstreams: { ghcr.io: { access: passthrough, username: me, password: x } }"),
            "upstreams.ghcr.io.access: found passthrough beside a username"));
  CHECK(has(problem("upstreams: { ghcr.io: { access: closed } }"), "expected open or passthrough"));
  CHECK(has(problem("upstreams: { ghcr.io: { grant_ttl: 2h } }"), "expected a duration from 0s to 1h"));
}

TEST_CASE("Access: passthrough where docker cannot log in is warned about", "[config]") {
  const auto warnings = [](const std::string& text) {
    const Result<Settings> loaded = load_text(text);
    if (!loaded) FAIL(loaded.error().message);
    return loaded->warnings;
  };
  const std::string ghcr = "upstreams: { ghcr.io: { access: passthrough } }\n";
  const std::vector<std::string> warned = warnings(ghcr);
  REQUIRE(warned.size() == 1);
  CHECK(has(warned[0], "upstreams.ghcr.io.access: passthrough: docker and podman cannot log in there"));
  CHECK(warnings(ghcr + "default_upstream: ghcr.io\n").empty());
  CHECK(warnings(ghcr + "server: { host_pattern: '*.cache.example' }\n").empty());
}

TEST_CASE("Access: a login that everybody may use is warned about", "[config]") {
  const auto warned = [](const std::string& text) {
    const Result<Settings> loaded = load_text(text);
    if (!loaded) FAIL(loaded.error().message);
    for (const std::string& warning : loaded->warnings) {
      if (has(warning, "whoever reaches this port may pull with sluice's own login at")) return warning;
    }
    return std::string();
  };
  const std::string login = "upstreams: { ghcr.io: { username: me, password: secret } }\n";
  const std::string rule =
      "upstreams: { ghcr.io: { credentials: [ { repositories: [a/**], username: me, password: secret } ] } }\n";
  const std::string anonymous =
      "upstreams: { ghcr.io: { credentials: [ { repositories: [a/**], anonymous: true } ] } }\n";
  const std::string open = "server: { listen: ':5000' }\n";
  CHECK(has(warned(login + open), "at ghcr.io;"));
  CHECK(has(warned(rule + open), "at ghcr.io;"));
  CHECK_FALSE(has(warned(login + open), "secret"));
  CHECK(warned(login).empty());
  CHECK(warned(open).empty());
  CHECK(warned(anonymous + open).empty());
  CHECK(warned(login + "server: { listen: ':5000', allow: [10.0.0.0/8] }\n").empty());
  const Folder folder;
  const std::string users = folder.write("htpasswd", "").string();
  CHECK(warned(login + open + "auth: { htpasswd_file: '" + users + "' }\n").empty());
}

TEST_CASE("Settings: of a configuration with mistakes the rest can be read", "[config]") {
  const Folder folder;
  const LoadParams params{
      folder.write("sluice.yml", "admin: { listen: '127.0.0.1:7' }\ntags: { ttl: never }\n"), {}, {}};
  CHECK_FALSE(load(params).has_value());
  CHECK(load_readable(params).admin.listen.port == 7);
  // Nor does it take a file that is not there, or no YAML, amiss.
  CHECK(load_readable({folder.path() / "none.yml", {}, {}}).admin.listen.port == 5001);
  CHECK(load_readable({folder.write("bad.yml", "{ nothing: ["), {}, {}}).admin.listen.port == 5001);
}

TEST_CASE("Entry: its keys", "[config]") {
  const Folder folder;
  const auto file = [&folder](const char* name) { return folder.write(name, "x").string(); };
  const Result<Settings> loaded = load(
      {folder.write("sluice.yml",
                    "server:\n"
                    "  allow: [10.0.0.0/8, '2001:db8::/32']\n"
                    "  deny: [10.6.6.6]\n"
                    "  trusted_proxies: [10.0.0.2]\n"
                    "  proxy_protocol: true\n"
                    "  client: { max_connections: 5, requests_per_second: 7 }\n"
                    "  tls: { cert_file: " +
                        file("cert") + ", key_file: " + file("key") + ", client_ca_file: " + file("ca") +
                        ", client_certificate: optional }\n"
                        "auth: { htpasswd_file: " +
                        file("users") +
                        ", realm: the cache, remember: 5m }\n"
                        "repositories: { allow: ['docker.io/library/*', 'r.example:5000/**'], deny: ['**/secret'] }\n"
                        "upstreams: { 'r.example:5000': {} }\n"),
       {},
       {}});
  if (!loaded) FAIL(loaded.error().message);
  const Server& server = loaded->server;
  CHECK(server.allow == std::vector<std::string>{"10.0.0.0/8", "2001:db8::/32"});
  CHECK(server.deny == std::vector<std::string>{"10.6.6.6"});
  CHECK(server.trusted_proxies == std::vector<std::string>{"10.0.0.2"});
  CHECK(server.proxy_protocol);
  CHECK(server.client.max_connections == 5);
  CHECK(server.client.requests_per_second == 7);
  CHECK(server.tls.client_certificate == ClientCertificate::optional);
  CHECK(loaded->auth.realm == "the cache");
  CHECK(loaded->auth.remember == 5min);
  CHECK(loaded->repositories.allow.size() == 2);
  CHECK(loaded->repositories.deny == std::vector<std::string>{"**/secret"});
}

TEST_CASE("Entry: what makes no sense is told with its line", "[config]") {
  CHECK(has(problem("server: { allow: [10.0.0.1/8] }"), ":1: server.allow: found"));
  CHECK(has(problem("server:\n  deny: [everybody]"), ":2: server.deny: found"));
  CHECK(has(problem("server: { proxy_protocol: true }"), ":1: server.proxy_protocol: found without"));
  CHECK(has(problem("server: { tls: { cert_file: /dev/null } }"), ":1: server.tls.cert_file: found alone"));
  CHECK(has(problem("server: { tls: { key_file: /nowhere/k } }"), "expected a readable PEM file"));
  CHECK(has(problem("server: { tls: { client_ca_file: /dev/null } }"), "found without cert_file"));
  CHECK(has(problem("auth: { htpasswd_file: /nowhere/users }"), ":1: auth.htpasswd_file: found \"/nowhere/users\""));
  CHECK(has(problem("auth: { realm: 'a\"b' }"), ":1: auth.realm: found"));
  CHECK(has(problem("repositories: { deny: ['Docker.io/*'] }"), ":1: repositories.deny: found"));
  CHECK(has(problem("auth: { htpasswd_file: /dev/null }\nupstreams: { ghcr.io: { access: passthrough } }"),
            ":1: auth.htpasswd_file: found beside upstreams.ghcr.io.access: passthrough"));
  const Result<Settings> clear = load_text("server: { listen: ':5000' }\nauth: { htpasswd_file: /dev/null }");
  if (!clear) FAIL(clear.error().message);
  CHECK(clear->warnings.size() == 1);
  CHECK(load_text("auth: { htpasswd_file: /dev/null }")->warnings.empty());
}

TEST_CASE("Entry: required certificates need who vouches for them", "[config]") {
  CHECK(has(problem("server: { tls: { client_certificate: required } }"),
            ":1: server.tls.client_certificate: found required without server.tls.client_ca_file"));
  CHECK(problem("server: { tls: { client_certificate: optional } }") == "none");
}

TEST_CASE("Entry: a pattern of repositories that fits nothing is told", "[config]") {
  const auto deny = [](const std::string& pattern) { return problem("repositories: { deny: ['" + pattern + "'] }"); };
  for (const char* good : {"docker.io/library/busybox", "docker.io/**", "ghcr.io/busybox", "**/secret", "**", "dock**",
                           "*/busybox", "*.io/team/*", "*/library/*", "docker.io/*/*"}) {
    INFO(good);
    CHECK(deny(good) == "none");
  }
  CHECK(has(deny("library/secret"), ":1: repositories.deny: found \"library/secret\", which fits no repository"));
  CHECK(has(deny("gchr.io/**"), "before the first slash: docker.io, "));
  CHECK(has(deny("*.example/**"), "before the first slash: "));
  CHECK(has(deny("docker.io/busybox"), "expected a pattern docker.io/library/busybox"));
  CHECK(has(deny("docker.*/*"), "expected a pattern docker.*/library/*"));
  CHECK(has(deny("ghcr.io"), "expected a pattern with a repository behind the upstream, such as ghcr.io/**"));
  CHECK(has(deny("docker.io/"), "such as docker.io/**"));
  CHECK(has(problem("repositories: { allow: [library/x] }"), ":1: repositories.allow: found"));
  CHECK(problem("repositories: { deny: [docker.io/busybox] }\nupstreams: { docker.io: { library_prefix: false } }") ==
        "none");
}
