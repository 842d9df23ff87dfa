// Each row is a machine with one mistake, and the name under which the doctor knows it.
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "machine.hpp"

using namespace sluice::doctor;

namespace {

struct Row {
  std::string finding;
  std::string client;
  std::string upstream;
  Outcome outcome;
  Texts texts;
  Cache cache = local_cache();
};

const std::string kDaemon = "/etc/docker/daemon.json";
const std::string kConfig = "/etc/containerd/config.toml";
const std::string kCerts = "/etc/containerd/certs.d/";
const std::string kRegistries = "/etc/containers/registries.conf";
const std::string kBuildkit = "/etc/buildkit/buildkitd.toml";
const std::string kK3s = "/etc/rancher/k3s/registries.yaml";
const std::string kPath =
    "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = \"/etc/containerd/certs.d\"\n";
const std::string kHosts = "[host.\"http://127.0.0.1:5000\"]\ncapabilities = [\"pull\", \"resolve\"]\n";

std::string hosts(const std::string& lines, const std::string& url = "http://127.0.0.1:5000") {
  return "[host.\"" + url + "\"]\n" + lines + "\n";
}

std::string podman(const std::string& registry, const std::string& mirror, const std::string& more = {}) {
  return "unqualified-search-registries = [\"docker.io\"]\n[[registry]]\n" + registry + "\n" +
         (mirror.empty() ? "" : "[[registry.mirror]]\nlocation = \"" + mirror + "\"\ninsecure = true\n") + more + "\n";
}

const std::string kHub = "prefix = \"docker.io\"\nlocation = \"docker.io\"";

std::vector<Row> docker_rows() {
  return {
      {"docker-mirror-scheme",
       "docker",
       "docker.io",
       Outcome::fails,
       {{kDaemon, R"({"registry-mirrors": ["127.0.0.1:5000"]})"}}},
      {"docker-mirror-path",
       "docker",
       "docker.io",
       Outcome::fails,
       {{kDaemon, R"({"registry-mirrors": ["http://127.0.0.1:5000/v2/docker.io"]})"}}},
      {"docker-mirror-path",
       "docker",
       "docker.io",
       Outcome::fails,
       {{kDaemon, R"({"registry-mirrors": ["http://192.0.2.7:5000/v2/docker.io"]})"}},
       cache_at("")},
      {"docker-mirror-odd",
       "docker",
       "docker.io",
       Outcome::fails,
       {{kDaemon, R"({"registry-mirrors": ["http://user:word@127.0.0.1:5000"]})"}}},
      {"docker-mirror-is-registry",
       "docker",
       "docker.io",
       Outcome::unused,
       {{kDaemon, R"({"registry-mirrors": ["https://ghcr.io"]})"}}},
      {"docker-unknown-key",
       "docker",
       "docker.io",
       Outcome::fails,
       {{kDaemon, R"({"registry-mirror": ["http://127.0.0.1:5000"]})"}}},
      {"docker-not-a-list",
       "docker",
       "docker.io",
       Outcome::fails,
       {{kDaemon, R"({"registry-mirrors": "http://127.0.0.1:5000"})"}}},
      {"docker-option-and-file",
       "docker",
       "docker.io",
       Outcome::fails,
       {{kDaemon, R"({"registry-mirrors": ["http://127.0.0.1:5000"]})"},
        {"/etc/systemd/system/docker.service.d/mirror.conf",
         "[Service]\nExecStart=\nExecStart=/usr/bin/dockerd --registry-mirror=http://127.0.0.1:5000\n"}}},
      {"wrong-port",
       "docker",
       "docker.io",
       Outcome::falls_back,
       {{kDaemon, R"({"registry-mirrors": ["http://127.0.0.1:5001"]})"}}},
      {"https-to-plain-cache",
       "docker",
       "docker.io",
       Outcome::falls_back,
       {{kDaemon, R"({"registry-mirrors": ["https://127.0.0.1:5000"]})"}}},
      {"http-to-tls-cache",
       "docker",
       "docker.io",
       Outcome::falls_back,
       {{kDaemon, R"({"registry-mirrors": ["http://cache.example:5000"]})"}},
       cache_at("cache.example", true)},
      {"file-invalid",
       "docker",
       "docker.io",
       Outcome::fails,
       {{kDaemon, "{\n  \"registry-mirrors\": [\"http://127.0.0.1:5000\"],\n}"}}},
      {"file-invalid", "docker", "docker.io", Outcome::fails, {{kDaemon, R"({"mtu": 1e999})"}}},
      {"proxy-takes-requests",
       "docker",
       "docker.io",
       Outcome::falls_back,
       {{kDaemon, R"({"registry-mirrors": ["http://192.0.2.7:5000"]})"},
        {"/etc/systemd/system/docker.service.d/proxy.conf",
         "[Service]\nEnvironment=\"HTTP_PROXY=http://proxy.example:3128\" \"NO_PROXY=localhost,.example\"\n"}},
       cache_at("192.0.2.7")},
      {"loopback-in-container",
       "docker",
       "docker.io",
       Outcome::falls_back,
       {{kDaemon, R"({"registry-mirrors": ["http://127.0.0.1:5000"]})"}, {"/.dockerenv", ""}}},
      {"loopback-in-vm",
       "docker desktop",
       "docker.io",
       Outcome::falls_back,
       {{"/root/.docker/daemon.json", R"({"registry-mirrors": ["http://localhost:5000"]})"}}},
  };
}

std::vector<Row> containerd_rows() {
  const std::string with_mirrors =
      "[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"docker.io\"]\nendpoint = "
      "[\"http://127.0.0.1:5000\"]\n";
  return {
      {"containerd-folder-name",
       "containerd",
       "docker.io",
       Outcome::unused,
       {{kConfig, kPath}, {kCerts + "registry-1.docker.io/hosts.toml", kHosts}}},
      {"containerd-folder-name",
       "containerd",
       "docker.io",
       Outcome::unused,
       {{kConfig, kPath}, {kCerts + "default/hosts.toml", kHosts}}},
      {"containerd-folder-name",
       "containerd",
       "docker.io",
       Outcome::used,
       {{kConfig, kPath},
        {kCerts + "docker.io/hosts.toml", kHosts},
        {kCerts + "registry.example_5000/hosts.toml", kHosts}}},
      {"containerd-folder-is-cache",
       "containerd",
       "docker.io",
       Outcome::unused,
       {{kConfig, kPath}, {kCerts + "127.0.0.1:5000/hosts.toml", kHosts}}},
      {"containerd-folder-empty",
       "containerd",
       "ghcr.io",
       Outcome::unused,
       {{kConfig, kPath}, {kCerts + "_default/hosts.toml", kHosts}, {kCerts + "ghcr.io/old.bak", "x"}}},
      {"containerd-file-ignored",
       "containerd",
       "docker.io",
       Outcome::unused,
       {{kConfig, kPath}, {kCerts + "docker.io/host.toml", kHosts}}},
      {"containerd-file-ignored",
       "containerd",
       "docker.io",
       Outcome::unused,
       {{kConfig, kPath}, {kCerts + "hosts.toml", kHosts}}},
      {"containerd-config-path-missing",
       "containerd",
       "docker.io",
       Outcome::falls_back,
       {{kConfig, "version = 2\n"}, {kCerts + "docker.io/hosts.toml", kHosts}}},
      {"containerd-config-path-folder",
       "containerd",
       "docker.io",
       Outcome::unused,
       {{kConfig,
         "version = 3\n[plugins.\"io.containerd.cri.v1.images\".registry]\nconfig_path = "
         "\"/etc/containerd/cert.d\"\n"},
        {kCerts + "docker.io/hosts.toml", kHosts}}},
      {"containerd-config-path-list",
       "containerd",
       "docker.io",
       Outcome::partly,
       {{kConfig,
         "version = 3\n[plugins.\"io.containerd.cri.v1.images\".registry]\nconfig_path = "
         "\"/etc/containerd/certs.d:/etc/docker/certs.d\"\n"},
        {kCerts + "docker.io/hosts.toml", kHosts}}},
      {"containerd-mirrors-and-config-path",
       "containerd",
       "docker.io",
       Outcome::fails,
       {{kConfig, kPath + with_mirrors}, {kCerts + "docker.io/hosts.toml", kHosts}}},
      {"containerd-version-keys",
       "containerd",
       "docker.io",
       Outcome::falls_back,
       {{kConfig, "version = 3\n" + kPath.substr(kPath.find('\n') + 1)}, {kCerts + "docker.io/hosts.toml", kHosts}}},
      {"containerd-version-missing",
       "containerd",
       "docker.io",
       Outcome::falls_back,
       {{kConfig, kPath.substr(kPath.find('\n') + 1)}, {kCerts + "docker.io/hosts.toml", kHosts}}},
      {"containerd-drop-in-ignored",
       "containerd",
       "docker.io",
       Outcome::used,
       {{kConfig, kPath}, {"/etc/containerd/conf.d/mirror.conf", kPath}, {kCerts + "docker.io/hosts.toml", kHosts}}},
      {"containerd-endpoint-scheme",
       "containerd",
       "docker.io",
       Outcome::fails,
       {{kConfig,
         "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"docker.io\"]\nendpoint = "
         "[\"127.0.0.1:5000\"]\n"}}},
      // That slash is a path, and containerd puts /v2 where there is none alone.
      {"path-without-v2",
       "containerd",
       "docker.io",
       Outcome::falls_back,
       {{kConfig,
         "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"docker.io\"]\nendpoint = "
         "[\"http://127.0.0.1:5000/\"]\n"}}},
      {"containerd-host-scheme",
       "containerd",
       "docker.io",
       Outcome::falls_back,
       {{kConfig, kPath}, {kCerts + "docker.io/hosts.toml", hosts("", "127.0.0.1:5000")}}},
      {"containerd-override-path",
       "containerd",
       "docker.io",
       Outcome::falls_back,
       {{kConfig, kPath}, {kCerts + "docker.io/hosts.toml", hosts("", "http://127.0.0.1:5000/v2/docker.io")}}},
      {"containerd-override-path",
       "containerd",
       "docker.io",
       Outcome::falls_back,
       {{kConfig, kPath}, {kCerts + "docker.io/hosts.toml", hosts("override_path = true")}}},
      {"wrong-prefix",
       "containerd",
       "ghcr.io",
       Outcome::falls_back,
       {{kConfig, kPath},
        {kCerts + "ghcr.io/hosts.toml", hosts("override_path = true", "http://127.0.0.1:5000/v2/docker.io")}}},
      {"path-without-v2",
       "containerd",
       "docker.io",
       Outcome::falls_back,
       {{kConfig, kPath},
        {kCerts + "docker.io/hosts.toml", hosts("override_path = true", "http://127.0.0.1:5000/docker.io")}}},
      {"containerd-no-resolve",
       "containerd",
       "docker.io",
       Outcome::partly,
       {{kConfig, kPath}, {kCerts + "docker.io/hosts.toml", hosts("capabilities = [\"pull\"]")}}},
      {"containerd-no-pull",
       "containerd",
       "docker.io",
       Outcome::falls_back,
       {{kConfig, kPath}, {kCerts + "docker.io/hosts.toml", hosts("capabilities = [\"resolve\"]")}}},
      {"containerd-wrong-server",
       "containerd",
       "ghcr.io",
       Outcome::used,
       {{kConfig, kPath}, {kCerts + "ghcr.io/hosts.toml", "server = \"https://registry-1.docker.io\"\n" + kHosts}}},
      {"file-invalid",
       "containerd",
       "docker.io",
       Outcome::falls_back,
       {{kConfig, kPath}, {kCerts + "docker.io/hosts.toml", hosts("capabilities = [\"pull\", \"fetch\"]")}}},
      {"file-invalid",
       "containerd",
       "docker.io",
       Outcome::falls_back,
       {{kConfig, kPath}, {kCerts + "docker.io/hosts.toml", "[[host]]\nurl = \"http://127.0.0.1:5000\"\n"}}},
      {"file-invalid", "containerd", "docker.io", Outcome::fails, {{kConfig, "version = \n"}}},
      {"ca-file-missing",
       "containerd",
       "docker.io",
       Outcome::fails,
       {{kConfig, kPath},
        {kCerts + "docker.io/hosts.toml", hosts("ca = \"/etc/containerd/cache.crt\"", "https://cache.example:5000")}},
       cache_at("cache.example", true)},
      {"upstream-not-served",
       "containerd",
       "registry.example",
       Outcome::falls_back,
       {{kConfig, kPath}, {kCerts + "docker.io/hosts.toml", kHosts}, {kCerts + "registry.example/hosts.toml", kHosts}}},
      {"loopback-in-container",
       "containerd",
       "docker.io",
       Outcome::falls_back,
       {{kConfig, kPath}, {kCerts + "docker.io/hosts.toml", kHosts}, {"/kind/version", "v1.33"}}},
  };
}

std::vector<Row> podman_rows() {
  return {
      {"podman-location-missing",
       "podman",
       "docker.io",
       Outcome::fails,
       {{kRegistries, podman("prefix = \"docker.io\"", "127.0.0.1:5000")}}},
      {"podman-insecure-missing",
       "podman",
       "docker.io",
       Outcome::falls_back,
       {{kRegistries, podman(kHub, "", "[[registry.mirror]]\nlocation = \"127.0.0.1:5000\"")}}},
      {"podman-refused", "podman", "docker.io", Outcome::fails, {{kRegistries, podman(kHub, "http://127.0.0.1:5000")}}},
      {"wrong-prefix",
       "podman",
       "ghcr.io",
       Outcome::falls_back,
       {{kRegistries, podman("prefix = \"ghcr.io\"\nlocation = \"ghcr.io\"", "127.0.0.1:5000")}}},
      {"wrong-prefix",
       "podman",
       "ghcr.io",
       Outcome::falls_back,
       {{kRegistries, podman("prefix = \"ghcr.io\"\nlocation = \"ghcr.io\"", "127.0.0.1:5000/v2/ghcr.io")}}},
      {"podman-prefix-never-matches",
       "podman",
       "docker.io",
       Outcome::unused,
       {{kRegistries,
         podman("prefix = \"registry-1.docker.io\"\nlocation = \"registry-1.docker.io\"", "127.0.0.1:5000")}}},
      {"podman-prefix-never-matches",
       "podman",
       "docker.io",
       Outcome::unused,
       {{kRegistries, podman("prefix = \"library\"\nlocation = \"docker.io/library\"", "127.0.0.1:5000/library")}}},
      {"podman-digest-only",
       "podman",
       "docker.io",
       Outcome::partly,
       {{kRegistries, podman(kHub, "127.0.0.1:5000", "pull-from-mirror = \"digest-only\"")}}},
      {"podman-digest-only",
       "podman",
       "docker.io",
       Outcome::partly,
       {{kRegistries, podman(kHub + "\nmirror-by-digest-only = true", "127.0.0.1:5000")}}},
      {"podman-tag-only",
       "podman",
       "docker.io",
       Outcome::partly,
       {{kRegistries, podman(kHub, "127.0.0.1:5000", "pull-from-mirror = \"tag-only\"")}}},
      {"podman-blocked",
       "podman",
       "docker.io",
       Outcome::fails,
       {{kRegistries, podman(kHub + "\nblocked = true", "127.0.0.1:5000")}}},
      {"podman-registry-table",
       "podman",
       "docker.io",
       Outcome::fails,
       {{"/usr/bin/podman", ""}, {kRegistries, "[registry]\nprefix = \"docker.io\"\n"}}},
      {"podman-old-format",
       "podman",
       "docker.io",
       Outcome::unused,
       {{"/usr/bin/podman", ""}, {kRegistries, "[registries.search]\nregistries = [\"docker.io\"]\n"}}},
      {"podman-file-ignored",
       "podman",
       "docker.io",
       Outcome::unused,
       {{"/usr/bin/podman", ""}, {"/etc/containers/registries.conf.d/sluice.toml", podman(kHub, "127.0.0.1:5000")}}},
      {"podman-alias-past-mirror",
       "podman",
       "docker.io",
       Outcome::used,
       {{kRegistries, podman(kHub, "127.0.0.1:5000", "[aliases]\n\"busybox\" = \"index.docker.io/library/busybox\"")}}},
      {"file-invalid", "podman", "docker.io", Outcome::fails, {{kRegistries, "[[registry]\n"}}},
      // The user's own file stands in the place of the system's.
      {"wrong-port",
       "podman (root)",
       "docker.io",
       Outcome::falls_back,
       {{kRegistries, podman(kHub, "127.0.0.1:5000")},
        {"/root/.config/containers/registries.conf", podman(kHub, "127.0.0.1:5555")}}},
  };
}

std::vector<Row> other_rows() {
  return {
      {"https-to-plain-cache",
       "buildkit",
       "docker.io",
       Outcome::falls_back,
       {{kBuildkit, "[registry.\"docker.io\"]\nmirrors = [\"192.0.2.7:5000\"]\n"}},
       cache_at("192.0.2.7")},
      {"ca-file-missing",
       "buildkit",
       "docker.io",
       Outcome::fails,
       {{kBuildkit,
         "[registry.\"docker.io\"]\nmirrors = [\"cache.example:5000\"]\n[registry.\"cache.example:5000\"]\nca = "
         "[\"/etc/buildkit/cache.crt\"]\n"}},
       cache_at("cache.example", true)},
      {"buildkit-registry-name",
       "buildkit",
       "docker.io",
       Outcome::unused,
       {{kBuildkit, "[registry.\"registry-1.docker.io\"]\nmirrors = [\"127.0.0.1:5000\"]\n"}}},
      {"file-invalid", "buildkit", "docker.io", Outcome::fails, {{kBuildkit, "[registry.docker.io\n"}}},
      {"k3s-endpoint-scheme",
       "k3s",
       "docker.io",
       Outcome::falls_back,
       {{kK3s, "mirrors:\n  docker.io:\n    endpoint: [\"192.0.2.7:5000\"]\n"}},
       cache_at("192.0.2.7")},
      {"k3s-rewrite",
       "k3s",
       "docker.io",
       Outcome::falls_back,
       {{kK3s,
         "mirrors:\n  docker.io:\n    endpoint: [\"http://127.0.0.1:5000\"]\n    rewrite:\n      \"^(.*)$\": "
         "\"mirror/$1\"\n"}}},
      {"k3s-unknown-key",
       "k3s",
       "docker.io",
       Outcome::unused,
       {{kK3s, "mirrors:\n  docker.io:\n    endpoints: [\"http://127.0.0.1:5000\"]\n"}}},
      {"k3s-registry-name",
       "k3s",
       "docker.io",
       Outcome::unused,
       {{kK3s, "mirrors:\n  registry-1.docker.io:\n    endpoint: [\"http://127.0.0.1:5000\"]\n"}}},
      {"k3s-file-ignored",
       "k3s",
       "docker.io",
       Outcome::unused,
       {{"/etc/rancher/k3s/registries.yml", "mirrors:\n  docker.io:\n    endpoint: [\"http://127.0.0.1:5000\"]\n"}}},
      {"file-invalid", "k3s", "docker.io", Outcome::fails, {{kK3s, "mirrors:\n\tdocker.io:\n"}}},
      {"proxy-takes-requests",
       "rke2",
       "docker.io",
       Outcome::falls_back,
       {{"/etc/rancher/rke2/registries.yaml", "mirrors:\n  \"*\":\n    endpoint: [\"http://192.0.2.7:5000\"]\n"},
        {"/usr/local/lib/systemd/system/rke2-server.service", "[Service]\nEnvironmentFile=-/etc/default/rke2-server\n"},
        {"/etc/default/rke2-server",
         "CONTAINERD_HTTP_PROXY=http://proxy.example:3128\nCONTAINERD_NO_PROXY=10.0.0.0/8\n"}},
       cache_at("192.0.2.7")},
  };
}

void check(const std::vector<Row>& rows) {
  for (const Row& row : rows) {
    const Report report = examine(row.texts, row.cache);
    INFO(row.finding << " of " << row.client << ": " << row.texts.begin()->first << "\n" << row.texts.begin()->second);
    // This mistake, and no other.
    CHECK(problems_of(report) == std::set<std::string>{row.finding});
    const Verdict* verdict = report.find(row.client, row.upstream);
    REQUIRE(verdict != nullptr);
    INFO(verdict->reason);
    CHECK(name_of(verdict->outcome) == name_of(row.outcome));
  }
}

}  // namespace

TEST_CASE("Doctor: names each mistake of docker", "[doctor]") { check(docker_rows()); }
TEST_CASE("Doctor: names each mistake of containerd", "[doctor]") { check(containerd_rows()); }
TEST_CASE("Doctor: names each mistake of podman", "[doctor]") { check(podman_rows()); }
TEST_CASE("Doctor: names each mistake of BuildKit, k3s and RKE2", "[doctor]") { check(other_rows()); }

TEST_CASE("Doctor: tells of a file that it cannot read, and does not guess what is in it", "[doctor]") {
  const std::vector<std::pair<std::string, std::string>> rows{
      {"docker", kDaemon},     {"containerd", kConfig}, {"containerd", kCerts + "docker.io/hosts.toml"},
      {"podman", kRegistries}, {"buildkit", kBuildkit}, {"k3s", kK3s}};
  for (const auto& [client, file] : rows) {
    INFO(file);
    Texts texts{{kConfig, kPath}, {kCerts + "docker.io/hosts.toml", kHosts}};
    texts[file] = kUnreadable;
    const Report report = examine(texts);
    CHECK(problems_of(report) == std::set<std::string>{"file-unreadable"});
    const Verdict* verdict = report.find(client, "docker.io");
    REQUIRE(verdict != nullptr);
    CHECK(verdict->outcome == Outcome::unused);
    CHECK(verdict->reason == "its file cannot be read");
  }
}

TEST_CASE("Doctor: the containerd of k3s does not read /etc/containerd", "[doctor]") {
  for (const std::string& own : {kConfig, std::string("/etc/containerd/README")}) {
    const Report report =
        examine({{"/etc/rancher/k3s/config.yaml", ""}, {own, kPath}, {kCerts + "docker.io/hosts.toml", kHosts}});
    CHECK(problems_of(report) == std::set<std::string>{"k3s-reads-registries-yaml"});
    CHECK(report.find("k3s", "docker.io")->outcome == Outcome::unused);
    CHECK((report.find("containerd", "docker.io") != nullptr) == (own == kConfig));
  }
}

TEST_CASE("Doctor: what is no mistake is a remark", "[doctor]") {
  const Report docker =
      examine({{kDaemon, R"({"registry-mirrors": ["http://192.0.2.7:5000"]})"}}, cache_at("192.0.2.7"));
  CHECK(problems_of(docker).empty());
  CHECK(remarks_of(docker) == std::set<std::string>{"docker-insecure-missing"});
  CHECK(docker.find("docker", "docker.io")->outcome == Outcome::used);

  const Report containerd =
      examine({{kConfig, kPath}, {kCerts + "docker.io/hosts.toml", "server = \"http://127.0.0.1:5000\"\n"}});
  CHECK(problems_of(containerd).empty());
  CHECK(remarks_of(containerd) == std::set<std::string>{"containerd-no-fallback"});

  // containerd 2.2 reads it, and copies of files are none of its business.
  const Report drop_in = examine({{kConfig, kPath},
                                  {"/etc/containerd/conf.d/mirror.toml", kPath},
                                  {"/etc/containerd/conf.d/mirror.toml.bak", kPath},
                                  {kCerts + "docker.io/hosts.toml", kHosts}});
  CHECK(problems_of(drop_in).empty());
  CHECK(remarks_of(drop_in) == std::set<std::string>{"containerd-drop-in-ignored"});
}
