// dockerd: daemon.json, the options of its service, and its environment. What it does with them is that of moby's
// registry/config.go and daemon/config.
#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/network.hpp"
#include "base/upstream_name.hpp"
#include "doctor/clients.hpp"
#include "doctor/document.hpp"
#include "doctor/unit_file.hpp"

namespace sluice::doctor {
namespace {

struct Daemon {
  std::string client;
  std::string file;
  std::string certs;  // folder with a folder for each registry
  Service service;
  bool machine_of_its_own = false;  // Docker Desktop's virtual machine
  std::vector<std::string> mirrors;
  std::vector<std::string> insecure;
  std::string mirrors_from;  // the file they stand in
};

constexpr std::array<std::pair<std::string_view, std::string_view>, 5> kMisspelt{{
    {"registry-mirror", "registry-mirrors"},
    {"registry_mirrors", "registry-mirrors"},
    {"registryMirrors", "registry-mirrors"},
    {"insecure-registry", "insecure-registries"},
    {"insecure_registries", "insecure-registries"},
}};

// The settings that are lists. Says whether docker starts with them.
bool read_list(Judge& judge, const Daemon& daemon, const Json& root, const std::string& key, const std::string& option,
               std::vector<std::string>& out) {
  const Json& value = at(root, {key});
  out = daemon.service.option(option);
  if (value.is_null()) return true;
  if (!value.is_array()) {
    judge.problem("docker-not-a-list", daemon.client, daemon.file,
                  fmt::format("\"{}\" is not a list: docker does not start; write \"{}\": [\"…\"]", key, key));
    return false;
  }
  if (!out.empty()) {
    judge.problem("docker-option-and-file", daemon.client, daemon.file,
                  fmt::format("\"{}\" stands here and as {} in {}: docker does not start; remove one of them", key,
                              option, daemon.service.file));
    return false;
  }
  out = texts_of(value);
  return true;
}

// False where docker does not start, or nobody knows: the verdicts are given then.
bool read_daemon_json(Judge& judge, Daemon& daemon) {
  Json root = Json::object();
  const Result<std::string> text = judge.files().read(daemon.file);
  const bool absent =
      text ? text->find_first_not_of(" \t\r\n") == std::string::npos : text.error().code == Errc::not_found;
  if (!absent) {
    const Result<Document> parsed = text ? parse_json(*text) : text.error();
    if (!parsed || !parsed->root.is_object()) {
      const Error error = parsed ? Error{Errc::config_invalid, "it is not one JSON object"} : parsed.error();
      judge.broken_file(daemon.client, daemon.file, error, "docker does not start");
      return false;
    }
    root = parsed->root;
  }
  bool starts = true;
  for (const auto& [wrong, right] : kMisspelt) {
    if (at(root, {wrong}).is_null()) continue;
    judge.problem(
        "docker-unknown-key", daemon.client, daemon.file,
        fmt::format("\"{}\" is not a key that docker knows: docker does not start; write \"{}\"", wrong, right));
    starts = false;
  }
  starts = read_list(judge, daemon, root, "registry-mirrors", "--registry-mirror", daemon.mirrors) && starts;
  daemon.mirrors_from =
      at(root, {"registry-mirrors"}).is_null() && !daemon.mirrors.empty() ? daemon.service.file : daemon.file;
  starts = read_list(judge, daemon, root, "insecure-registries", "--insecure-registry", daemon.insecure) && starts;
  const Json& proxies = at(root, {"proxies"});
  for (const auto& [key, variable] : std::initializer_list<std::pair<std::string_view, std::string>>{
           {"http-proxy", "HTTP_PROXY"}, {"https-proxy", "HTTPS_PROXY"}, {"no-proxy", "NO_PROXY"}}) {
    if (const std::string value = text_of(at(proxies, {key})); !value.empty())
      daemon.service.environment[variable] = value;
  }
  if (!starts) judge.all(daemon.client, Outcome::fails, "docker does not start", daemon.file);
  return starts;
}

bool is_insecure(const Daemon& daemon, const Address& address) {
  if (is_loopback(address.host)) return true;
  const auto ip = IpAddress::parse(address.host);
  return std::any_of(daemon.insecure.begin(), daemon.insecure.end(), [&](const std::string& entry) {
    if (ip) {
      const auto network = Network::parse(entry);
      if (network && network->contains(*ip)) return true;
    }
    const Address listed = Address::parse(entry);
    return listed.host == address.host && listed.port == address.port;
  });
}

// Whether docker does not start with this mirror, or asks the cache for what it does not know.
bool is_refused(Judge& judge, const Daemon& daemon, const std::string& written, const Address& address) {
  const auto refuse = [&](const char* name, std::string message) {
    judge.problem(name, daemon.client, daemon.mirrors_from, std::move(message));
    return true;
  };
  if (address.scheme != "http" && address.scheme != "https") {
    return refuse("docker-mirror-scheme",
                  fmt::format("\"{}\" has no http:// or https:// in front: docker does not start", written));
  }
  if (!address.path.empty() &&
      (judge.cache().is_on(address.host) || judge.cache().is_at(address.host, address.port_or("https")))) {
    return refuse("docker-mirror-path",
                  fmt::format("\"{}\" has a path: docker before 28 does not start, later ones ask {}/v2/…, which the "
                              "cache does not know; write {}://{}",
                              written, address.path, address.scheme, address.authority()));
  }
  if (address.odd || address.host.empty()) {
    return refuse("docker-mirror-odd",
                  fmt::format("\"{}\" has a login, a query or an invalid port: docker does not start", written));
  }
  return false;
}

Way way_of(const Judge& judge, const Daemon& daemon, const Address& address) {
  Way out;
  out.scheme = address.scheme;
  // In Docker Desktop's virtual machine that name is the machine itself.
  out.host = daemon.machine_of_its_own && address.host == "host.docker.internal" ? "localhost" : address.host;
  out.port = address.port_or("https");
  out.skip_verify = is_insecure(daemon, address);
  out.ca_files = certificates_in(judge.files(), below(daemon.certs, address.authority()));
  out.environment = daemon.service.environment;
  return out;
}

void decide_hub(Judge& judge, const Daemon& daemon) {
  std::vector<Mirror> mirrors;
  mirrors.reserve(daemon.mirrors.size());
  for (const std::string& written : daemon.mirrors) {
    const Address address = Address::parse(written);
    if (canonical_upstream_name(address.host) != "docker.io" && judge.cache().serves(address.host)) {
      judge.problem(
          "docker-mirror-is-registry", daemon.client, daemon.mirrors_from,
          fmt::format("\"{}\" is a registry and no mirror of Docker Hub: docker uses mirrors for images of Docker "
                      "Hub alone, and asks it for those; pull others as {}/{}/…",
                      written, judge.cache().describe(), address.host));
      continue;
    }
    if (is_refused(judge, daemon, written, address)) {
      judge.verdict(daemon.client, "docker.io", Outcome::fails, fmt::format("docker refuses \"{}\"", written),
                    daemon.mirrors_from);
      return;
    }
    if (is_loopback(address.host) && daemon.machine_of_its_own) {
      judge.problem(
          "loopback-in-vm", daemon.client, daemon.mirrors_from,
          fmt::format("\"{}\" is a loopback address, and Docker Desktop pulls in a virtual machine, where that is the "
                      "virtual machine itself: write http://host.docker.internal:{}",
                      written, address.port_or("http")));
      judge.verdict(daemon.client, "docker.io", Outcome::falls_back, "loopback is the virtual machine itself",
                    daemon.mirrors_from);
      return;
    }
    Mirror& mirror = mirrors.emplace_back();
    mirror.written = written;
    mirror.way = way_of(judge, daemon, address);
    mirror.file = daemon.mirrors_from;
    if (address.scheme == "http" && !mirror.way.skip_verify && judge.cache().is_at(mirror.way.host, mirror.way.port)) {
      judge.remark("docker-insecure-missing", daemon.client, daemon.file,
                   fmt::format("pulls by prefix ({0}/ghcr.io/…) fail, because docker asks {0} with TLS: list it in "
                               "insecure-registries",
                               address.authority()));
    }
  }
  if (mirrors.empty()) {
    judge.verdict(daemon.client, "docker.io", Outcome::unused, "no registry-mirrors", daemon.file);
    return;
  }
  judge.decide(daemon.client, "docker.io", mirrors);
}

void read_one(Judge& judge, Daemon daemon) {
  if (!read_daemon_json(judge, daemon)) return;
  for (const std::string& upstream : judge.cache().upstreams) {
    if (upstream != "docker.io") {
      judge.verdict(daemon.client, upstream, Outcome::unused,
                    fmt::format("docker mirrors Docker Hub alone; pull {}/{}/…", judge.cache().describe(), upstream));
    } else {
      decide_hub(judge, daemon);
    }
  }
}

}  // namespace

void read_docker(Judge& judge) {
  const Files& files = judge.files();
  Daemon system{
      "docker", "/etc/docker/daemon.json", "/etc/docker/certs.d", read_service(files, "docker.service"), false, {}, {},
      {}};
  if (const auto named = system.service.option("--config-file"); !named.empty()) system.file = named.back();
  if (files.exists(system.file) || system.service.found || files.exists("/usr/bin/dockerd") ||
      files.exists("/usr/sbin/dockerd")) {
    read_one(judge, std::move(system));
  }
  const std::string snap = "/var/snap/docker/current/config/daemon.json";
  if (files.exists(snap)) read_one(judge, {"docker (snap)", snap, "/etc/docker/certs.d", {}, false, {}, {}, {}});
  for (const std::string& home : judge.machine().homes) {
    const std::string rootless = home + "/.config/docker/daemon.json";
    if (files.exists(rootless)) {
      read_one(judge, {"docker (rootless)",
                       rootless,
                       home + "/.config/docker/certs.d",
                       read_service(files, "docker.service", home),
                       false,
                       {},
                       {},
                       {}});
    }
    const std::string desktop = home + "/.docker/daemon.json";
    if (files.exists(desktop)) {
      read_one(judge, {"docker desktop", desktop, home + "/.docker/certs.d", {}, true, {}, {}, {}});
    }
  }
}

}  // namespace sluice::doctor
