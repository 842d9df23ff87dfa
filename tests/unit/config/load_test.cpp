#include <catch2/catch.hpp>

#include "support.hpp"

using namespace sluice;
using namespace sluice::config;
using namespace sluice::config::testing;
using namespace std::chrono_literals;

TEST_CASE("Settings: nothing at all gives the documented defaults", "[config]") {
  const Result<Settings> loaded = load({});
  REQUIRE(loaded.has_value());
  CHECK(loaded->server.listen == Endpoint{"127.0.0.1", 5000});
  CHECK(loaded->admin.listen == Endpoint{"127.0.0.1", 5001});
  CHECK(loaded->data == "/var/lib/sluice");
  CHECK(loaded->fill.window_bytes == 8 * 1024 * 1024);
  CHECK(loaded->fill.ranges == Ranges::direct);
  CHECK(loaded->fill.range_limit_bytes == 8 * 1024 * 1024);
  CHECK(loaded->tags.ttl == 60s);
  CHECK(loaded->default_upstream == "docker.io");
  CHECK(loaded->upstreams.size() == 7);
  CHECK(loaded->upstreams.at("docker.io").url == "https://registry-1.docker.io");
  CHECK(loaded->upstreams.at("docker.io").library_prefix);
  CHECK(loaded->upstreams.at("ghcr.io").url == "https://ghcr.io");
  CHECK_FALSE(loaded->upstreams.at("ghcr.io").library_prefix);
  CHECK(loaded->warnings.empty());
}

TEST_CASE("Settings: an empty file and empty sections are fine", "[config]") {
  CHECK(complaints("") == "ok");
  CHECK(complaints("# nothing\n") == "ok");
  CHECK(complaints("server:\nlog:\n  access:\nupstreams:\n  docker.io:\n") == "ok");
}

TEST_CASE("Settings: a file sets what it names and nothing else", "[config]") {
  const Result<Settings> loaded = load_text(R"(
server:
  listen: "[::1]:5555"
  threads: 3
  idle_timeout: 1m30s
  max_header_bytes: 32KiB
data: /srv/cache
log:
  level: debug
  access: { enabled: false, format: json, file: /var/log/sluice.log }
fill: { window: off, abandoned: park, ranges: fill, range_limit: off }
descriptors: { cache: none, size: 0, negative_ttl: 0 }
tags: { ttl: 5m, stale_for: 7d }
manifests: { memory_cache: 1.5GiB }
store: { fsync: false, threads: 8 }
default_upstream: registry.example.com:5000
upstreams:
  docker.io:
    url: HTTPS://Mirror.Example.com/hub/
  registry.example.com:5000:
    realm_hosts: [auth.example.com, login.example.net]
    retries: 0
  ghcr.io: off
)");
  REQUIRE(loaded.has_value());
  CHECK(loaded->server.listen == Endpoint{"::1", 5555});
  CHECK(loaded->server.threads == 3);
  CHECK(loaded->server.idle_timeout == 90s);
  CHECK(loaded->server.max_header_bytes == 32768);
  CHECK(loaded->server.header_timeout == Server{}.header_timeout);
  CHECK(loaded->data == "/srv/cache");
  CHECK(loaded->log.level == log::Level::debug);
  CHECK_FALSE(loaded->log.access.enabled);
  CHECK(loaded->log.access.format == log::Format::json);
  CHECK(loaded->log.access.file == "/var/log/sluice.log");
  CHECK(loaded->fill.window_bytes == 0);
  CHECK(loaded->fill.abandoned == Abandoned::park);
  CHECK(loaded->fill.ranges == Ranges::fill);
  CHECK(loaded->fill.range_limit_bytes == 0);
  CHECK(loaded->descriptors.cache == DescriptorCache::none);
  CHECK(loaded->descriptors.size == 0);
  CHECK(loaded->descriptors.negative_ttl == 0s);
  CHECK(loaded->tags.stale_for == 168h);
  CHECK(loaded->manifests.memory_cache_bytes == 1536ULL * 1024 * 1024);
  CHECK_FALSE(loaded->store.fsync);
  CHECK(loaded->upstreams.at("docker.io").url == "https://mirror.example.com/hub");
  CHECK(loaded->upstreams.at("docker.io").library_prefix);
  const Upstream& own = loaded->upstreams.at("registry.example.com:5000");
  CHECK(own.url == "https://registry.example.com:5000");
  CHECK(own.realm_hosts == std::vector<std::string>{"auth.example.com", "login.example.net"});
  CHECK(own.retries == 0);
  CHECK(loaded->upstreams.count("ghcr.io") == 0);
}

TEST_CASE("Settings: the command line stands above the environment, which stands above the file", "[config]") {
  const Folder folder;
  LoadParams params;
  params.file = folder.write("sluice.yml",
                             "server: { listen: 127.0.0.1:1, threads: 1 }\nadmin: { listen: 127.0.0.1:3 }\n"
                             "tags: { ttl: 1s }\n");
  params.environment = {{"SLUICE_SERVER_LISTEN", "127.0.0.1:2"}, {"SLUICE_SERVER_THREADS", "2"}, {"HOME", "/root"}};
  params.overrides.listen = "127.0.0.1:9";
  const Result<Settings> loaded = load(params);
  REQUIRE(loaded.has_value());
  CHECK(loaded->server.listen.port == 9);
  CHECK(loaded->server.threads == 2);
  CHECK(loaded->admin.listen.port == 3);
  CHECK(loaded->tags.ttl == 1s);
}

TEST_CASE("Settings: every option of the command line reaches its key", "[config]") {
  LoadParams params;
  params.overrides = {":5000", "localhost:0", "/tmp/d", "http://127.0.0.1:5055/", "warn", "json"};
  const Result<Settings> loaded = load(params);
  REQUIRE(loaded.has_value());
  CHECK(loaded->server.listen == Endpoint{"", 5000});
  CHECK(loaded->admin.listen == Endpoint{"127.0.0.1", 0});
  CHECK(loaded->data == "/tmp/d");
  CHECK(loaded->upstreams.at("docker.io").url == "http://127.0.0.1:5055");
  CHECK_FALSE(loaded->upstreams.at("docker.io").library_prefix);
  CHECK(loaded->log.level == log::Level::warn);
  CHECK(loaded->log.format == log::Format::json);
}

TEST_CASE("Settings: --upstream means the default upstream of the file", "[config]") {
  const Folder folder;
  LoadParams params;
  params.file = folder.write("sluice.yml", "default_upstream: quay.io\n");
  params.overrides.upstream = "http://localhost:7000";
  const Result<Settings> loaded = load(params);
  REQUIRE(loaded.has_value());
  CHECK(loaded->upstreams.at("quay.io").url == "http://localhost:7000");
  CHECK(loaded->upstreams.at("docker.io").url == "https://registry-1.docker.io");
}

TEST_CASE("Settings: a relative data directory becomes absolute", "[config]") {
  LoadParams params;
  params.overrides.data = "var/../var/x";
  const Result<Settings> loaded = load(params);
  REQUIRE(loaded.has_value());
  CHECK(loaded->data == std::filesystem::current_path() / "var/x");
}

TEST_CASE("Settings: a password comes from the first line of its file", "[config]") {
  const Folder folder;
  const auto secret = folder.write("secret", "hunter2\r\nsecond line\n");
  const Result<Settings> loaded =
      load_text("upstreams: { quay.io: { username: me, password_file: " + secret.string() + " } }");
  REQUIRE(loaded.has_value());
  CHECK(loaded->upstreams.at("quay.io").password == "hunter2");
}

TEST_CASE("Settings: a password of a higher source replaces a password file", "[config]") {
  const Folder folder;
  LoadParams params;
  params.file = folder.write("sluice.yml", "upstreams: { quay.io: { username: me, password_file: /nowhere } }");
  params.environment = {{"SLUICE_UPSTREAMS_QUAY_IO_PASSWORD", "from-env"}};
  const Result<Settings> loaded = load(params);
  REQUIRE(loaded.has_value());
  CHECK(loaded->upstreams.at("quay.io").password == "from-env");
  CHECK(loaded->upstreams.at("quay.io").password_file.empty());
}

TEST_CASE("Settings: a password over http is worth a warning that does not show it", "[config]") {
  const Result<Settings> loaded =
      load_text("upstreams: { quay.io: { url: 'http://q:1', username: me, password: hunter2 } }");
  REQUIRE(loaded.has_value());
  REQUIRE(loaded->warnings.size() == 1);
  CHECK(loaded->warnings[0] == "upstreams.quay.io: the password goes to http://q:1 in the clear");
}
