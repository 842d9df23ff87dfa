// Set-ups in which nothing is wrong, and none of which is accused.
#include <catch2/catch.hpp>

#include "machine.hpp"

using namespace sluice::doctor;

namespace {

void check_used(const Report& report, const std::string& client, const std::string& upstream, const std::string& url) {
  INFO(client << " " << upstream);
  for (const Finding& finding : report.findings) UNSCOPED_INFO(finding.name << ": " << finding.message);
  CHECK(problems_of(report).empty());
  const Verdict* verdict = report.find(client, upstream);
  REQUIRE(verdict != nullptr);
  CHECK(name_of(verdict->outcome) == "used");
  REQUIRE(verdict->way);
  CHECK(shown(*verdict->way) == url);
}

const std::string kHosts = "[host.\"http://127.0.0.1:5000\"]\n  capabilities = [\"pull\", \"resolve\"]\n";

}  // namespace

TEST_CASE("Doctor: docker on loopback", "[doctor]") {
  const Report report = examine({{"/etc/docker/daemon.json", R"({ "registry-mirrors": ["http://127.0.0.1:5000"] })"}});
  check_used(report, "docker", "docker.io", "http://127.0.0.1:5000");
  CHECK(report.find("docker", "ghcr.io")->outcome == Outcome::unused);
}

TEST_CASE("Doctor: docker by TLS, with a proxy for everything else", "[doctor]") {
  const Report report = examine(
      {{"/etc/docker/daemon.json",
        R"({ "registry-mirrors": ["https://cache.example:5000/"], "proxies": {"https-proxy": "http://p.example:3128", "no-proxy": "cache.example"} })"},
       {"/etc/docker/certs.d/cache.example:5000/ca.crt", "x"}},
      cache_at("cache.example", true));
  check_used(report, "docker", "docker.io", "https://cache.example:5000");
  CHECK(report.find("docker", "docker.io")->way->ca_files.size() == 1);
}

TEST_CASE("Doctor: docker by an option of its service", "[doctor]") {
  const Report report =
      examine({{"/lib/systemd/system/docker.service",
                "[Service]\nExecStart=/usr/bin/dockerd -H fd:// --registry-mirror http://127.0.0.1:5000\n"}});
  check_used(report, "docker", "docker.io", "http://127.0.0.1:5000");
}

TEST_CASE("Doctor: docker leaves out the scheme of an insecure registry", "[doctor]") {
  const Report report = examine(
      {{"/etc/docker/daemon.json",
        R"({ "registry-mirrors": ["http://192.0.2.7:5000"], "insecure-registries": ["http://192.0.2.7:5000"] })"}},
      cache_at("192.0.2.7"));
  check_used(report, "docker", "docker.io", "http://192.0.2.7:5000");
  CHECK(remarks_of(report).empty());
}

TEST_CASE("Doctor: Docker Desktop reaches its machine by a name", "[doctor]") {
  const Report report =
      examine({{"/root/.docker/daemon.json", R"({ "registry-mirrors": ["http://host.docker.internal:5000"] })"}});
  check_used(report, "docker desktop", "docker.io", "http://localhost:5000");
}

TEST_CASE("Doctor: containerd 1 with a file for each registry", "[doctor]") {
  const Report report = examine(
      {{"/etc/containerd/config.toml",
        "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"/etc/containerd/certs.d\"\n"},
       {"/etc/containerd/certs.d/docker.io/hosts.toml", "server = \"https://registry-1.docker.io\"\n\n" + kHosts},
       {"/etc/containerd/certs.d/ghcr.io/hosts.toml",
        "server = \"https://ghcr.io\"\n[host.\"http://127.0.0.1:5000/v2/ghcr.io\"]\n  override_path = true\n  "
        "dial_timeout = "
        "\"2s\"\n"}});
  check_used(report, "containerd", "docker.io", "http://127.0.0.1:5000");
  check_used(report, "containerd", "ghcr.io", "http://127.0.0.1:5000/v2/ghcr.io");
  CHECK(report.find("containerd", "docker.io")->way->ns == "docker.io");
  CHECK(report.find("containerd", "quay.io")->outcome == Outcome::unused);
}

TEST_CASE("Doctor: containerd 2 with one file for all registries, and drop-ins", "[doctor]") {
  const Report report = examine(
      {{"/etc/containerd/config.toml", "version = 3\nimports = [\"conf.d/*.toml\"]\n"},
       {"/etc/containerd/conf.d/mirror.toml",
        "version = 3\n[plugins.\"io.containerd.cri.v1.images\".registry]\nconfig_path = \"/etc/containerd/certs.d\"\n"},
       {"/etc/containerd/certs.d/_default/hosts.toml", kHosts},
       {"/etc/containerd/certs.d/registry.example_5000_/hosts.toml", "server = \"https://registry.example:5000\"\n"}});
  for (const std::string upstream : {"docker.io", "ghcr.io", "quay.io", "registry.k8s.io"}) {
    check_used(report, "containerd", upstream, "http://127.0.0.1:5000");
  }
}

TEST_CASE("Doctor: containerd 1 with the old table", "[doctor]") {
  const Report report =
      examine({{"/etc/containerd/config.toml",
                "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"docker.io\"]\n  endpoint = "
                "[\"http://127.0.0.1:5000\", \"https://registry-1.docker.io\"]\n"}});
  check_used(report, "containerd", "docker.io", "http://127.0.0.1:5000");
}

TEST_CASE("Doctor: containerd 1 with a path in the old table, which is taken as it stands", "[doctor]") {
  const Report report =
      examine({{"/etc/containerd/config.toml",
                "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"ghcr.io\"]\n  endpoint = "
                "[\"http://127.0.0.1:5000/v2/ghcr.io\"]\n"}});
  check_used(report, "containerd", "ghcr.io", "http://127.0.0.1:5000/v2/ghcr.io");
}

TEST_CASE("Doctor: one file of containerd for several of its versions", "[doctor]") {
  const Report report =
      examine({{"/etc/containerd/config.toml",
                "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = "
                "\"/etc/containerd/certs.d\"\n[plugins.\"io.containerd.cri.v1.images\".registry]\nconfig_path = "
                "\"/etc/containerd/certs.d\"\n"},
               {"/etc/containerd/certs.d/docker.io/hosts.toml", kHosts}});
  check_used(report, "containerd", "docker.io", "http://127.0.0.1:5000");
}

TEST_CASE("Doctor: the folder of config_path may be empty", "[doctor]") {
  const Report report = examine(
      {{"/etc/containerd/config.toml",
        "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = \"/etc/containerd/certs.d\"\n"}});
  CHECK(problems_of(report).empty());
  CHECK(report.find("containerd", "docker.io")->outcome == Outcome::unused);
}

TEST_CASE("Doctor: capabilities of containerd without any, and in capitals", "[doctor]") {
  for (const std::string list : {"[]", "[\"Pull\", \"Resolve\"]"}) {
    const Report report = examine({{"/etc/containerd/config.toml",
                                    "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = "
                                    "\"/etc/containerd/certs.d\"\n"},
                                   {"/etc/containerd/certs.d/docker.io/hosts.toml",
                                    "[host.\"http://127.0.0.1:5000\"]\ncapabilities = " + list + "\n"}});
    check_used(report, "containerd", "docker.io", "http://127.0.0.1:5000");
  }
}

TEST_CASE("Doctor: with a setting of TLS containerd tries TLS at an http:// host", "[doctor]") {
  const Report report = examine(
      {{"/etc/containerd/config.toml",
        "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = \"/etc/containerd/certs.d\"\n"},
       {"/etc/containerd/certs.d/docker.io/hosts.toml", "[host.\"http://cache.example:5000\"]\nskip_verify = true\n"}},
      cache_at("cache.example", true));
  check_used(report, "containerd", "docker.io", "https://cache.example:5000");
}

TEST_CASE("Doctor: a node of k3s has no other containerd", "[doctor]") {
  const Report report =
      examine({{"/etc/rancher/k3s/registries.yaml", "mirrors:\n  \"*\":\n    endpoint: [\"http://127.0.0.1:5000\"]\n"},
               {"/var/lib/rancher/k3s/agent/etc/containerd/config.toml", "version = 3\n"},
               {"/var/lib/kubelet/config.yaml", ""}});
  check_used(report, "k3s", "docker.io", "http://127.0.0.1:5000");
  CHECK(report.find("containerd", "docker.io") == nullptr);
}

TEST_CASE("Doctor: the kubelet of CRI-O has no containerd", "[doctor]") {
  const Report report = examine({{"/var/lib/kubelet/config.yaml", ""}, {"/usr/bin/crio", ""}});
  CHECK(report.find("containerd", "docker.io") == nullptr);
  CHECK(report.find("podman", "docker.io") != nullptr);
}

TEST_CASE("Doctor: the containerd of a docker machine is no client", "[doctor]") {
  const Report report =
      examine({{"/etc/docker/daemon.json", R"({ "registry-mirrors": ["http://127.0.0.1:5000"] })"},
               {"/etc/containerd/config.toml", "disabled_plugins = [\"cri\"]\n"},
               {"/lib/systemd/system/containerd.service", "[Service]\nExecStart=/usr/bin/containerd\n"}});
  CHECK(problems_of(report).empty());
  CHECK(report.find("docker", "docker.io") != nullptr);
  CHECK(report.find("containerd", "docker.io") == nullptr);
}

TEST_CASE("Doctor: podman with a mirror for each registry", "[doctor]") {
  const Report report = examine(
      {{"/etc/containers/registries.conf", "unqualified-search-registries = [\"docker.io\"]\n"},
       {"/etc/containers/registries.conf.d/shortnames.conf",
        "[aliases]\n\"alpine\" = \"docker.io/library/alpine\"\n\"fedora\" = \"registry.fedoraproject.org/fedora\"\n"},
       {"/etc/containers/registries.conf.d/sluice.conf", R"(
[[registry]]
prefix = "docker.io"
location = "docker.io"
[[registry.mirror]]
location = "127.0.0.1:5000"
insecure = true
[[registry]]
prefix = "ghcr.io"
location = "ghcr.io"
[[registry.mirror]]
location = "127.0.0.1:5000/ghcr.io"
insecure = true
[[registry]]
prefix = "quay.io/owner"
location = "quay.io/owner"
[[registry.mirror]]
location = "127.0.0.1:5000/quay.io/owner"
insecure = true
)"}});
  check_used(report, "podman", "docker.io", "http://127.0.0.1:5000");
  check_used(report, "podman", "ghcr.io", "http://127.0.0.1:5000/v2/ghcr.io");
  check_used(report, "podman", "quay.io", "http://127.0.0.1:5000/v2/quay.io");
  CHECK(remarks_of(report).empty());
}

TEST_CASE("Doctor: BuildKit", "[doctor]") {
  const Report report = examine({{"/etc/buildkit/buildkitd.toml", R"(
[registry."docker.io"]
  mirrors = ["192.0.2.7:5000"]
[registry."ghcr.io"]
  mirrors = ["192.0.2.7:5000/ghcr.io"]
[registry."192.0.2.7:5000"]
  http = true
)"}},
                                cache_at("192.0.2.7"));
  check_used(report, "buildkit", "docker.io", "http://192.0.2.7:5000");
  check_used(report, "buildkit", "ghcr.io", "http://192.0.2.7:5000/v2/ghcr.io");
}

TEST_CASE("Doctor: BuildKit leaves out the scheme of a mirror, and tries TLS before plain HTTP", "[doctor]") {
  const std::string both =
      "[registry.\"docker.io\"]\nmirrors = [\"http://192.0.2.7:5000\"]\n[registry.\"192.0.2.7:5000\"]\nhttp = "
      "true\ninsecure = true\n";
  check_used(examine({{"/etc/buildkit/buildkitd.toml", both}}, cache_at("192.0.2.7")), "buildkit", "docker.io",
             "http://192.0.2.7:5000");
  check_used(examine({{"/etc/buildkit/buildkitd.toml", both}}, cache_at("192.0.2.7", true)), "buildkit", "docker.io",
             "https://192.0.2.7:5000");
}

TEST_CASE("Doctor: k3s with a rewrite that the cache knows, RKE2 with one line for all", "[doctor]") {
  const Report report = examine(
      {{"/etc/rancher/k3s/registries.yaml", R"(
mirrors:
  docker.io:
    endpoint:
      - "http://127.0.0.1:5000"
  ghcr.io:
    endpoint:
      - "http://127.0.0.1:5000"
    rewrite:
      "^(.*)$": "ghcr.io/${1}"
)"},
       {"/etc/rancher/rke2/registries.yaml", "mirrors:\n  \"*\":\n    endpoint: [\"http://127.0.0.1:5000\"]\n"}});
  check_used(report, "k3s", "docker.io", "http://127.0.0.1:5000");
  check_used(report, "k3s", "ghcr.io", "http://127.0.0.1:5000");
  check_used(report, "rke2", "quay.io", "http://127.0.0.1:5000");
}

TEST_CASE("Doctor: another mirror, and no client at all", "[doctor]") {
  const Report other = examine({{"/etc/docker/daemon.json", R"({ "registry-mirrors": ["https://mirror.example"] })"}});
  CHECK(problems_of(other).empty());
  CHECK(other.find("docker", "docker.io")->outcome == Outcome::unused);
  CHECK(examine({}).verdicts.empty());
}

TEST_CASE("Doctor: another mirror, where nobody knows the addresses of the cache", "[doctor]") {
  // As with --root, before a cache that listens on every address.
  const Report report =
      examine({{"/etc/docker/daemon.json",
                R"({ "registry-mirrors": ["https://mirror.example/hub", "https://mirror.example"] })"},
               {"/etc/rancher/k3s/registries.yaml", "mirrors:\n  docker.io:\n    endpoint: [\"192.0.2.9:8080\"]\n"}},
              cache_at(""));
  CHECK(problems_of(report).empty());
  CHECK(report.find("docker", "docker.io")->outcome == Outcome::unused);
  CHECK(report.find("k3s", "docker.io")->outcome == Outcome::unused);

  const Report containerd = examine(
      {{"/etc/containerd/config.toml",
        "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = \"/etc/containerd/certs.d\"\n"},
       {"/etc/containerd/certs.d/registry.example:5000/hosts.toml", "[host.\"https://mirror.example\"]\n"}},
      cache_at(""));
  CHECK(problems_of(containerd).empty());
}

TEST_CASE("Doctor: other mirrors beside the cache, on its machine", "[doctor]") {
  const Report report = examine(
      {{"/etc/docker/daemon.json", R"({ "registry-mirrors": ["http://127.0.0.1:6000", "http://127.0.0.1:5000"] })"}});
  check_used(report, "docker", "docker.io", "http://127.0.0.1:5000");
}

TEST_CASE("Doctor: names of the cache that say the upstream", "[doctor]") {
  Cache cache = local_cache();
  cache.places = {{"", 5000}};
  cache.host_pattern = "*.cache.example";
  const Report report =
      examine({{"/etc/containers/registries.conf",
                "unqualified-search-registries = [\"docker.io\"]\n[[registry]]\nprefix = \"ghcr.io\"\nlocation "
                "= \"ghcr.io\"\n[[registry.mirror]]\nlocation = \"ghcr.io.cache.example:5000\"\ninsecure = true\n"}},
              cache);
  check_used(report, "podman", "ghcr.io", "http://ghcr.io.cache.example:5000");
}
