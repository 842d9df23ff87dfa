#include <catch2/catch.hpp>

#include "support.hpp"

using namespace sluice;
using namespace sluice::config;
using namespace sluice::config::testing;

namespace {

struct Bad {
  const char* text;
  const char* message;
};

constexpr const char* kEndpoint = "ADDRESS:PORT, for example 127.0.0.1:5000, [::1]:5000 or :5000";

}  // namespace

TEST_CASE("Errors: each names file, line, key, what was found and what was expected", "[config]") {
  const Bad table[] = {
      {"\nserver:\n  listen: here\n",
       "sluice.yml:3: server.listen: found \"here\", expected "
       "ADDRESS:PORT, for example 127.0.0.1:5000, [::1]:5000 or :5000"},
      {"server: { threads: many }",
       "sluice.yml:1: server.threads: found \"many\", expected a number from 0 to 1024 "
       "(0: one for each processor)"},
      {"server: { threads: -1 }",
       "sluice.yml:1: server.threads: found \"-1\", expected a number from 0 to 1024 "
       "(0: one for each processor)"},
      {"server: { idle_timeout: 30 }",
       "sluice.yml:1: server.idle_timeout: found \"30\", expected a duration from 100ms to 24h"},
      {"server: { max_header_bytes: 10GiB }",
       "sluice.yml:1: server.max_header_bytes: found \"10GiB\", expected a size from 1KiB to 1MiB"},
      {"server: { drain_timeout: }",
       "sluice.yml:1: server.drain_timeout: found nothing, expected a duration from 0s to 24h"},
      {"server: 5", "sluice.yml:1: server: found a single value, expected a mapping"},
      {"server: [listen]", "sluice.yml:1: server: found a list, expected a mapping"},
      {"- server", "sluice.yml:1: found a list, expected a mapping"},
      {"server: { listen: { a: b } }",
       "sluice.yml:1: server.listen: found a mapping, expected ADDRESS:PORT, for example 127.0.0.1:5000, [::1]:5000 or "
       ":5000"},
      {"log: { level: loud }", "sluice.yml:1: log.level: found \"loud\", expected debug, info, warn, error or off"},
      {"log: { access: { enabled: yes } }", "sluice.yml:1: log.access.enabled: found \"yes\", expected true or false"},
      {"fill: { window: 1KiB }",
       "sluice.yml:1: fill.window: found \"1KiB\", expected a size from 256KiB to 64GiB, or off"},
      {"fill: { abandoned: drop }", "sluice.yml:1: fill.abandoned: found \"drop\", expected finish or park"},
      {"fill: { ranges: never }", "sluice.yml:1: fill.ranges: found \"never\", expected direct or fill"},
      {"fill: { range_limit: 1KB }",
       "sluice.yml:1: fill.range_limit: found \"1KB\", expected a size from 1KiB to 1TiB, or off"},
      {"data: ''", "sluice.yml:1: data: found nothing, expected a directory"},
      {"servr: {}", "sluice.yml:1: servr: found an unknown key, did you mean server?"},
      {"server:\n  lisetn: x", "sluice.yml:2: server.lisetn: found an unknown key, did you mean listen?"},
      {"listen: x", "sluice.yml:1: listen: found an unknown key, did you mean server.listen?"},
      {"store:\n  compression: x",
       "sluice.yml:2: store.compression: found an unknown key, expected one of: "
       "fsync, mode, max_size, min_free, max_age, part_max_age, quarantine_max_age, scrub, delete, threads"},
      {"[a, b]: c", "sluice.yml:1: found a list as a key, expected a word"},
      {"data: /a\n\ndata: /b\n",
       "sluice.yml:3: data: found a second time, expected once (it stands on line 1 already)"},
      {"server: { threads: 1 }\nserver: { threads: 2 }",
       "sluice.yml:2: server: found a second time, expected once (it stands on line 1 already)"},
      {"default_upstream: dockerhub\nupstreams: { quay.io: off, gcr.io: off, registry.k8s.io: off, ghcr.io: off, "
       "mcr.microsoft.com: off }",
       "sluice.yml:1: default_upstream: found \"dockerhub\", expected the name of an upstream: docker.io, "
       "public.ecr.aws"},
      {"upstreams: { 'https://ghcr.io': {} }",
       "sluice.yml:1: upstreams.https://ghcr.io: found \"https://ghcr.io\", expected a registry's name such as "
       "docker.io "
       "or registry.example.com:5000"},
      {"upstreams: { ghcr.io: 'https://x' }",
       "sluice.yml:1: upstreams.ghcr.io: found a single value, expected off or a mapping with keys such as url"},
      {"upstreams: { ghcr.io: { url: 'ftp://x' } }",
       "sluice.yml:1: upstreams.ghcr.io.url: found a value that is not shown here, expected a URL such as "
       "https://registry.example.com, "
       "without user, query and fragment"},
      {"upstreams: { ghcr.io: { ulr: 'https://x' } }",
       "sluice.yml:1: upstreams.ghcr.io.ulr: found an unknown key, did you mean url?"},
      {"upstreams: { ghcr.io: { realm_hosts: ['https://x'] } }",
       "sluice.yml:1: upstreams.ghcr.io.realm_hosts: found \"https://x\", expected a list of host names, without "
       "scheme "
       "and port"},
      {"upstreams: { ghcr.io: { ca_file: /nowhere/ca.pem } }",
       "sluice.yml:1: upstreams.ghcr.io.ca_file: found \"/nowhere/ca.pem\", expected a readable PEM file"},
      {"upstreams: { ghcr.io: { username: me } }",
       "sluice.yml:1: upstreams.ghcr.io.username: found without password or password_file, expected both or neither"},
      {"upstreams: { ghcr.io: { password: hunter2 } }",
       "sluice.yml:1: upstreams.ghcr.io.password: found without username, expected both or neither"},
      {"upstreams: { ghcr.io: { username: me, password_file: /nowhere } }",
       "sluice.yml:1: upstreams.ghcr.io.password_file: found \"/nowhere\", expected a readable file with the password "
       "on "
       "its first line"},
      {"upstreams: { ghcr.io: { username: me, password: hunter2, password_file: /nowhere } }",
       "sluice.yml:1: upstreams.ghcr.io.password_file: found beside password, expected only one of the two"},
      {"upstreams: { index.docker.io: { access: passthrough } }",
       "sluice.yml:1: upstreams.index.docker.io: found \"index.docker.io\" beside \"docker.io\", expected one of the "
       "two: "
       "both name the same registry"},
      {"default_upstream: index.docker.io\nupstreams:\n  docker.io: off\n  index.docker.io: {}\n  "
       "registry-1.docker.io: {}",
       "sluice.yml:5: upstreams.registry-1.docker.io: found \"registry-1.docker.io\" beside \"index.docker.io\", "
       "expected one "
       "of the two: both name the same registry"},
      {"server: { listen: ':5000' }\nadmin: { listen: '127.0.0.1:5000' }",
       "sluice.yml:2: admin.listen: found 5000 for both server.listen and admin.listen, expected two ports"},
      {"server: { listen: 1\n", "sluice.yml:2: is not YAML: end of map flow not found"},
      {"data: \"\\\x01\"\n", "sluice.yml:1: is not YAML: unknown escape character: \\u0001"},
      {"a: b\n---\nc: d\n", "sluice.yml:3: found a second YAML document, expected one"},
  };
  for (const Bad& bad : table) {
    INFO(bad.text);
    CHECK(complaints(bad.text) == bad.message);
  }
}

TEST_CASE("Errors: all of them are reported at once, in the order of the file", "[config]") {
  const Folder folder;
  LoadParams params;
  params.file = folder.write("a.yml", "upstreams: { quay.io: { retries: 11 } }\nserver: { threads: x }\ntagz: {}\n");
  params.environment = {{"SLUICE_DATA", ""}, {"SLUICE_TAGS_TLL", "5s"}};
  params.overrides.listen = "nowhere";
  const Result<Settings> loaded = load(params);
  REQUIRE_FALSE(loaded.has_value());
  CHECK(loaded.error().code == Errc::config_invalid);
  const std::string file = (folder.path() / "a.yml").string();
  CHECK(loaded.error().message ==
        file + ":1: upstreams.quay.io.retries: found \"11\", expected a number from 0 to 10\n" +  //
            file + ":2: server.threads: found \"x\", expected a number from 0 to 1024 (0: one for each processor)\n" +
            file + ":3: tagz: found an unknown key, did you mean tags?\n" +
            "SLUICE_DATA: found nothing, expected a directory\n"
            "SLUICE_TAGS_TLL: found an unknown variable, did you mean SLUICE_TAGS_TTL?\n"
            "--listen: found \"nowhere\", expected " +
            kEndpoint);
}

TEST_CASE("Errors: no message shows a secret", "[config]") {
  CHECK(complaints("upstreams: { ghcr.io: { password: [hunter2] } }").find("hunter2") == std::string::npos);
  CHECK(complaints("upstreams: { ghcr.io: { password: hunter2 } }").find("hunter2") == std::string::npos);
  CHECK(complaints("upstreams: { ghcr.io: { url: 'https://me:hunter2@ghcr.io' } }") ==
        "sluice.yml:1: upstreams.ghcr.io.url: found a value that is not shown here, expected a URL such as "
        "https://registry.example.com, without user, query and fragment");
}

// Wherever somebody puts it by mistake.
TEST_CASE("Errors: no message shows a password in the wrong place", "[config]") {
  const std::string url = "'http://me:hunter2@proxy.example:3128'";
  const std::vector<std::string> misplaced = {
      "proxy: " + url,
      "upstreams: { ghcr.io: " + url + " }",
      "upstreams: " + url,
      "server: " + url,
      "redis: " + url,
      "redis: { addresses: " + url + " }",
      "redis: { addresses: [" + url + "] }",
      "upstreams: { ghcr.io: { url: 'https://ghcr.io/?token=hunter2' } }",
      "upstreams: { ghcr.io: { endpoints: ['https://ghcr.io/?token=hunter2'] } }",
      "upstreams: { ghcr.io: { proxy: 'socks5://hunter2' } }",
      "upstreams: { " + url + ": {} }",
      url + ": {}",
      "server: { listen: " + url + " }",
      "default_upstream: " + url,
      "proxy: { no_proxy: [" + url + "], https: hunter2@ }",
      "upstreams: { ghcr.io: { credentials: " + url + " } }",
      "log: { access: " + url + " }",
      "[" + url + "]",
      "version: 0.1\nproxy: { remoteurl: " + url + " }",
      "version: 0.1\nproxy: " + url,
      "version: 0.1\nproxy: { remoteurl: 'https://x' }\nredis: " + url,
      "version: 0.1\nproxy: { remoteurl: 'https://x' }\nhttp: { prefix: " + url + " }",
      "version: 0.1\nproxy: { remoteurl: 'https://x' }\nstorage: " + url};
  for (const std::string& text : misplaced) {
    INFO(text);
    const std::string said = complaints(text);
    CHECK_FALSE(said.empty());
    CHECK(said.find("hunter2") == std::string::npos);
  }
}

TEST_CASE("Errors: a file that is not there, is a directory or is huge", "[config]") {
  const Folder folder;
  const std::string missing = (folder.path() / "none.yml").string();
  CHECK(load({missing, {}, {}}).error().message == missing + ": cannot be read: No such file or directory");
  CHECK(load({folder.path(), {}, {}}).error().message == folder.path().string() + ": is a directory, expected a file");
  const auto huge = folder.write("huge.yml", std::string(2 * 1024 * 1024, '#'));
  CHECK(load({huge, {}, {}}).error().message == huge.string() + ": is larger than 1 MiB, which no configuration is");
}

TEST_CASE("Errors: control characters of the file do not reach the terminal", "[config]") {
  CHECK(complaints("data: /x\nlog: { level: \"\\e[31m\\n\" }") ==
        "sluice.yml:2: log.level: found \"\\u001b[31m\\u000a\", expected debug, info, warn, error or off");
}
