// buildkitd: buildkitd.toml. What it makes of it is that of BuildKit's util/resolver.
#include <string>
#include <vector>

#include <fmt/format.h>

#include "base/upstream_name.hpp"
#include "doctor/clients.hpp"
#include "doctor/document.hpp"
#include "doctor/unit_file.hpp"

namespace sluice::doctor {
namespace {

struct Daemon {
  std::string client;
  std::string file;
  Service service;
};

// Of `[registry."host:port"]`, by which a mirror is asked.
Mirror mirror_of(const Judge& judge, const Daemon& daemon, const Json& root, const std::string& registry,
                 const std::string& written) {
  Mirror out;
  out.written = written;
  out.file = daemon.file;
  Address address = Address::parse(written);
  address.scheme.clear();  // BuildKit ignores it
  const Json& own = at(root, {"registry", address.authority()});
  const Json& http = at(own, {"http"});
  const bool plain = http.is_boolean() ? http.get<bool>() : is_loopback(address.host);
  out.way.skip_verify = is_true(at(own, {"insecure"}));
  // With both it tries TLS first.
  out.way.scheme = plain && !(out.way.skip_verify && judge.cache().tls) ? "http" : "https";
  out.way.host = address.host;
  out.way.port = address.port_or(out.way.scheme);
  out.way.path = "/v2" + address.path;
  out.way.ns = registry;
  out.way.ca_files = texts_of(at(own, {"ca"}));
  out.way.environment = daemon.service.environment;
  return out;
}

void decide(Judge& judge, const Daemon& daemon, const Json& root, const std::string& upstream) {
  std::vector<Mirror> mirrors;
  const Json& own = at(root, {"registry", upstream});
  const std::vector<std::string> listed = texts_of(at(own, {"mirrors"}));
  mirrors.reserve(listed.size());
  for (const std::string& written : listed) {
    mirrors.push_back(mirror_of(judge, daemon, root, upstream, written));
  }
  if (!mirrors.empty()) return judge.decide(daemon.client, upstream, mirrors);
  judge.verdict(daemon.client, upstream, Outcome::unused, fmt::format("no mirrors in [registry.\"{}\"]", upstream),
                daemon.file);
}

// Keys of [registry.…] under which BuildKit never looks.
void check_names(Judge& judge, const Daemon& daemon, const Json& root) {
  const Json& registries = at(root, {"registry"});
  if (!registries.is_object()) return;
  for (const auto& [name, value] : registries.items()) {
    const bool mirrored = !texts_of(at(value, {"mirrors"})).empty();
    if (name != "docker.io" && canonical_upstream_name(name) == "docker.io" && mirrored) {
      judge.problem(
          "buildkit-registry-name", daemon.client, daemon.file,
          fmt::format("[registry.\"{}\"] is never used: images of Docker Hub are looked up as \"docker.io\"", name));
    } else if (name.find("://") != std::string::npos) {
      judge.problem("buildkit-registry-name", daemon.client, daemon.file,
                    fmt::format("[registry.\"{}\"] is never used: write the name without a scheme", name));
    } else if (mirrored && !judge.cache().serves(name)) {
      decide(judge, daemon, root, name);
    }
  }
}

void read_one(Judge& judge, const Daemon& daemon) {
  Json root = Json::object();
  const Result<std::string> text = judge.files().read(daemon.file);
  const bool absent = !text && text.error().code == Errc::not_found;
  const Result<Document> parsed = text ? parse_toml(*text) : absent ? Result<Document>(Document{root}) : text.error();
  if (!parsed) return judge.broken_file(daemon.client, daemon.file, parsed.error(), "buildkitd does not start");
  for (const std::string& upstream : judge.cache().upstreams) decide(judge, daemon, parsed->root, upstream);
  check_names(judge, daemon, parsed->root);
}

}  // namespace

void read_buildkit(Judge& judge) {
  const Files& files = judge.files();
  Daemon system{"buildkit", "/etc/buildkit/buildkitd.toml", read_service(files, "buildkit.service")};
  if (const auto named = system.service.option("--config"); !named.empty()) system.file = named.back();
  if (system.service.found || files.exists(system.file)) read_one(judge, system);
  for (const std::string& home : judge.machine().homes) {
    const std::string own = home + "/.config/buildkit/buildkitd.toml";
    if (files.exists(own)) read_one(judge, {"buildkit (rootless)", own, read_service(files, "buildkit.service", home)});
  }
}

}  // namespace sluice::doctor
