// k3s and RKE2: registries.yaml, from which they write containerd's hosts.toml.
#include <regex>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "base/upstream_name.hpp"
#include "doctor/clients.hpp"
#include "doctor/document.hpp"
#include "doctor/unit_file.hpp"

namespace sluice::doctor {
namespace {

struct Distribution {
  std::string client;  // "k3s", "rke2"
  std::string folder;  // "/etc/rancher/k3s"
  std::string file;
  std::map<std::string, std::string> environment;
};

// The name that a repository has after the rewrites; the first whose pattern is found in it counts. Nothing: a pattern
// is none.
std::optional<std::string> rewritten(const Json& rewrites, const std::string& repository) {
  if (!rewrites.is_object()) return repository;
  try {
    for (const auto& [pattern, replacement] : rewrites.items()) {
      const std::regex expression(pattern, std::regex::ECMAScript);
      if (!std::regex_search(repository, expression)) continue;
      // Go's ${1} is $1 here.
      const std::string form = std::regex_replace(text_of(replacement), std::regex(R"(\$\{(\d+)\})"), "$$$1");
      return std::regex_replace(repository, expression, form);
    }
  } catch (const std::regex_error&) {
    return std::nullopt;
  }
  return repository;
}

Way way_of(const Distribution& own, const Json& root, const std::string& registry, const Address& address) {
  Way out;
  out.scheme = address.scheme.empty() ? (is_loopback(address.host) ? "http" : "https") : address.scheme;
  out.host = address.host;
  out.port = address.port_or(out.scheme);
  out.path = address.path.empty() ? "/v2" : address.path;
  out.ns = registry;
  out.environment = own.environment;
  const Json& tls = at(root, {"configs", address.authority(), "tls"});
  out.skip_verify = is_true(at(tls, {"insecure_skip_verify"}));
  out.ca_files = texts_of(at(tls, {"ca_file"}));
  return out;
}

// A rewrite after which the cache is asked for something else; empty: none.
std::string rewrite_flaw(Judge& judge, const Distribution& own, const Json& mirror, const Way& way,
                         const std::string& registry) {
  const std::string sample = sample_of(registry);
  const Json& rewrites = at(mirror, {"rewrite"});
  const auto name = rewritten(rewrites, sample);
  if (name && *name == sample) return {};
  if (!name) {
    judge.problem("k3s-rewrite", own.client, own.file,
                  fmt::format("a pattern of `rewrite` of \"{}\" is no regular expression", registry));
    return "its rewrite is no regular expression";
  }
  if (judge.cache().image_of(way, *name) == canonical_upstream_name(registry) + "/" + sample) return {};
  judge.problem(
      "k3s-rewrite", own.client, own.file,
      fmt::format("`rewrite` of \"{}\" turns {} into {}, which the cache takes for another image and answers with 404: "
                  "leave it out, sluice needs none",
                  registry, sample, *name));
  return fmt::format("its rewrite makes {} of {}", *name, sample);
}

std::vector<Mirror> mirrors_of(Judge& judge, const Distribution& own, const Json& root, const std::string& registry,
                               const Json& mirror) {
  std::vector<Mirror> out;
  const std::vector<std::string> endpoints = texts_of(at(mirror, {"endpoint"}));
  out.reserve(endpoints.size());
  for (const std::string& written : endpoints) {
    const Address address = Address::parse(written);
    Mirror each;
    each.written = written;
    each.way = way_of(own, root, registry, address);
    each.file = own.file;
    const bool ours = judge.cache().is_at(each.way.host, each.way.port);
    if (address.scheme.empty() && (ours || judge.cache().is_on(each.way.host))) {
      judge.problem(
          "k3s-endpoint-scheme", own.client, own.file,
          fmt::format("endpoint \"{}\" of \"{}\" has no scheme: older releases ignore it, later ones take it for "
                      "https:// unless it is loopback; write {}://{}",
                      written, registry, judge.cache().tls ? "https" : "http", written));
      each.flaw = fmt::format("endpoint \"{}\" has no scheme", written);
    }
    if (each.flaw.empty() && ours) each.flaw = rewrite_flaw(judge, own, mirror, each.way, registry);
    out.push_back(std::move(each));
  }
  return out;
}

void decide(Judge& judge, const Distribution& own, const Json& root, const std::string& registry) {
  const Json& named = at(root, {"mirrors", registry});
  const Json& mirror = named.is_null() ? at(root, {"mirrors", "*"}) : named;
  const std::vector<Mirror> mirrors = mirrors_of(judge, own, root, registry, mirror);
  if (!mirrors.empty()) return judge.decide(own.client, registry, mirrors);
  const std::string why = mirror.is_null() ? fmt::format("no \"{}\" below mirrors", registry)
                                           : fmt::format("no endpoint below \"{}\"", registry);
  judge.verdict(own.client, registry, Outcome::unused, why, own.file);
}

void check_names(Judge& judge, const Distribution& own, const Json& root) {
  const Json& mirrors = at(root, {"mirrors"});
  if (!mirrors.is_object()) return;
  for (const auto& [name, mirror] : mirrors.items()) {
    if (!texts_of(at(mirror, {"endpoints"})).empty()) {
      judge.problem("k3s-unknown-key", own.client, own.file,
                    fmt::format("\"{}\" has `endpoints`, which is ignored: write `endpoint`", name));
    }
    if (name == "*" || name == "docker.io") continue;
    if (name.find("://") != std::string::npos || canonical_upstream_name(name) == "docker.io") {
      judge.problem(
          "k3s-registry-name", own.client, own.file,
          fmt::format("\"{}\" below mirrors is never used: write the registry as images name it, \"docker.io\"", name));
    } else if (!judge.cache().serves(name)) {
      decide(judge, own, root, name);
    }
  }
}

void read_registries(Judge& judge, const Distribution& own, const Result<std::string>& text) {
  const Result<Document> parsed = text ? parse_yaml(*text) : text.error();
  if (!parsed) return judge.broken_file(own.client, own.file, parsed.error(), own.client + " does not start");
  for (const std::string& upstream : judge.cache().upstreams) decide(judge, own, parsed->root, upstream);
  check_names(judge, own, parsed->root);
}

// Files that people write in its place.
void without_registries(Judge& judge, const Distribution& own) {
  for (const std::string& name : judge.files().list(own.folder)) {
    if (name == "registries.yml" || name == "registry.yaml" || name == "registries.yaml.yaml" ||
        name == "registries.json") {
      judge.problem("k3s-file-ignored", own.client, below(own.folder, name),
                    fmt::format("{} reads {} alone: rename this file", own.client, own.file));
    }
  }
  for (const std::string& registry : judge.files().list("/etc/containerd/certs.d")) {
    if (!judge.files().exists(below(below("/etc/containerd/certs.d", registry), "hosts.toml"))) continue;
    judge.problem("k3s-reads-registries-yaml", own.client, "/etc/containerd/certs.d",
                  fmt::format("the containerd of {} does not read this folder: write {}", own.client, own.file));
    break;
  }
  judge.all(own.client, Outcome::unused, fmt::format("no {}", own.file));
}

}  // namespace

void read_k3s(Judge& judge) {
  const Files& files = judge.files();
  for (const std::string name : {"k3s", "rke2"}) {
    const std::string folder = below("/etc/rancher", name);
    Distribution own{name, folder, below(folder, "registries.yaml"), {}};
    bool present = files.exists(own.folder) || files.exists(below("/var/lib/rancher", name));
    for (const std::string role : {"", "-agent", "-server"}) {
      std::string unit = name;
      unit.append(role).append(".service");
      const Service service = read_service(files, unit);
      present = present || service.found;
      for (const auto& [variable, value] : service.environment) {
        // What begins with CONTAINERD_ is for its containerd alone.
        own.environment[variable.starts_with("CONTAINERD_") ? variable.substr(11) : variable] = value;
      }
    }
    if (!present) continue;
    const Result<std::string> text = files.read(own.file);
    if (!text && text.error().code == Errc::not_found) {
      without_registries(judge, own);
    } else {
      read_registries(judge, own, text);
    }
  }
}

}  // namespace sluice::doctor
