// podman, buildah, skopeo and CRI-O: registries.conf. What they make of it is that of containers/image's
// pkg/sysregistriesv2.
#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "base/upstream_name.hpp"
#include "doctor/clients.hpp"
#include "doctor/document.hpp"
#include "doctor/unit_file.hpp"

namespace sluice::doctor {
namespace {

constexpr const char* kSystemFile = "/etc/containers/registries.conf";
constexpr const char* kSystemFolder = "/etc/containers/registries.conf.d";

struct MirrorEntry {
  std::string location;
  bool insecure = false;
  std::string pull_from_mirror;  // "all", "digest-only", "tag-only"; empty: all
};

struct Registry {
  std::string prefix;
  std::string location;
  bool insecure = false;
  bool blocked = false;
  bool digest_only = false;  // mirror-by-digest-only
  std::vector<MirrorEntry> mirrors;
  std::string file;
};

struct Config {
  std::string client;
  bool broken = false;                         // a file cannot be read or is refused, and the verdicts are given
  std::map<std::string, Registry> registries;  // by prefix
  std::vector<std::string> search;             // unqualified-search-registries
  std::map<std::string, std::string> aliases;
  std::string main;
};

std::string without_slashes(std::string text) {
  while (text.ends_with('/')) text.pop_back();
  return text;
}

// What makes every pull fail, in the words of the program; empty: nothing.
std::string refusal_of(const Registry& registry) {
  const auto schemed = [](const std::string& text) { return text.find("://") != std::string::npos; };
  if (registry.prefix.empty()) return "a [[registry]] has neither prefix nor location";
  if (registry.location.empty() && !registry.prefix.starts_with("*.")) {
    return fmt::format("the [[registry]] of \"{}\" has no location: write location = \"{}\"", registry.prefix,
                       registry.prefix);
  }
  if (schemed(registry.prefix) || schemed(registry.location)) {
    return fmt::format("\"{}\" has a scheme; write it without",
                       schemed(registry.prefix) ? registry.prefix : registry.location);
  }
  for (const MirrorEntry& mirror : registry.mirrors) {
    if (mirror.location.empty()) return fmt::format("a [[registry.mirror]] of \"{}\" has no location", registry.prefix);
    if (schemed(mirror.location)) {
      return fmt::format("the mirror \"{}\" has a scheme; write it without, and insecure = true for plain HTTP",
                         mirror.location);
    }
    const std::string& from = mirror.pull_from_mirror;
    if (!from.empty() && from != "all" && from != "digest-only" && from != "tag-only") {
      return fmt::format("pull-from-mirror is \"{}\", which is none of all, digest-only and tag-only", from);
    }
    if (registry.digest_only && !from.empty()) return "mirror-by-digest-only and pull-from-mirror are both set";
  }
  return {};
}

Registry registry_in(const Json& table, const std::string& file) {
  Registry out;
  out.file = file;
  out.location = without_slashes(text_of(at(table, {"location"})));
  out.prefix = without_slashes(text_of(at(table, {"prefix"})));
  if (out.prefix.empty()) out.prefix = out.location;
  out.insecure = is_true(at(table, {"insecure"}));
  out.blocked = is_true(at(table, {"blocked"}));
  out.digest_only = is_true(at(table, {"mirror-by-digest-only"}));
  const Json& mirrors = at(table, {"mirror"});
  if (!mirrors.is_array()) return out;
  out.mirrors.reserve(mirrors.size());
  for (const Json& each : mirrors) {
    out.mirrors.push_back({without_slashes(text_of(at(each, {"location"}))), is_true(at(each, {"insecure"})),
                           text_of(at(each, {"pull-from-mirror"}))});
  }
  return out;
}

void refuse(Judge& judge, Config& out, const std::string& file, const char* name, const std::string& why) {
  judge.problem(name, out.client, file, "every pull fails: " + why);
  judge.all(out.client, Outcome::fails, "registries.conf is refused", file);
  out.broken = true;
}

// Adds what a file says; a later [[registry]] with the same prefix replaces an earlier one.
void take(Judge& judge, const std::string& file, const Json& root, Config& out) {
  const Json& registries = at(root, {"registry"});
  if (registries.is_object() || (!registries.is_null() && !registries.is_array())) {
    return refuse(judge, out, file, "podman-registry-table", "write [[registry]] instead of [registry]");
  }
  const bool old = !at(root, {"registries"}).is_null();
  if (old && !registries.is_null()) {
    return refuse(judge, out, file, "podman-old-format",
                  "[registries.…] is the old format and stands beside [[registry]]");
  }
  if (old) {
    judge.problem("podman-old-format", out.client, file,
                  "[registries.…] is the old format, which has no mirrors: write [[registry]] and [[registry.mirror]]");
  }
  if (registries.is_array()) {
    for (const Json& table : registries) {
      Registry registry = registry_in(table, file);
      if (const std::string why = refusal_of(registry); !why.empty()) {
        const bool no_location = registry.location.empty() && !registry.prefix.starts_with("*.");
        return refuse(judge, out, file, no_location ? "podman-location-missing" : "podman-refused", why);
      }
      std::string key = registry.prefix;
      out.registries[std::move(key)] = std::move(registry);
    }
  }
  if (const Json& search = at(root, {"unqualified-search-registries"}); search.is_array())
    out.search = texts_of(search);
  if (const Json& aliases = at(root, {"aliases"}); aliases.is_object()) {
    for (const auto& [name, target] : aliases.items()) out.aliases[name] = text_of(target);
  }
}

void load(Judge& judge, const std::string& path, Config& out) {
  if (out.broken) return;
  const Result<std::string> text = judge.files().read(path);
  if (!text && text.error().code == Errc::not_found) return;
  const Result<Document> parsed = text ? parse_toml(*text) : text.error();
  if (!parsed) {
    judge.broken_file(out.client, path, parsed.error(), "every pull fails");
    out.broken = true;
    return;
  }
  take(judge, path, parsed->root, out);
}

void load_folder(Judge& judge, const std::string& folder, Config& out) {
  for (const std::string& name : judge.files().list(folder)) {
    const std::string path = below(folder, name);
    if (name.ends_with(".conf")) {
      load(judge, path, out);
      continue;
    }
    const Result<std::string> text = judge.files().read(path);
    if (is_backup(name) || !text || text->find("registry") == std::string::npos) continue;
    judge.problem("podman-file-ignored", out.client, path,
                  "only files whose name ends in .conf are read here: rename it");
  }
}

// Whether a prefix is about what is below `name`.
bool matches(const std::string& prefix, const std::string& name) {
  if (prefix.starts_with("*.")) {
    const std::string host = name.substr(0, name.find('/'));
    return host.size() > prefix.size() - 1 && host.ends_with(prefix.substr(1));
  }
  return name == prefix || (name.starts_with(prefix) && (name[prefix.size()] == '/' || name[prefix.size()] == ':'));
}

const Registry* registry_for(const Config& config, const std::string& image) {
  const Registry* out = nullptr;
  for (const auto& [prefix, registry] : config.registries) {
    if (matches(prefix, image) && (out == nullptr || prefix.size() > out->prefix.size())) out = &registry;
  }
  return out;
}

void limit(Judge& judge, const Config& config, const Registry& registry, const MirrorEntry& entry, Mirror& out) {
  const std::string from = registry.digest_only ? "digest-only" : entry.pull_from_mirror;
  if (from != "digest-only" && from != "tag-only") return;
  const bool tags = from == "tag-only";
  judge.problem(
      tags ? "podman-tag-only" : "podman-digest-only", config.client, registry.file,
      fmt::format("the mirror \"{}\" is asked for images by {} alone ({}): {} go to the registry", entry.location,
                  tags ? "tag" : "digest", registry.digest_only ? "mirror-by-digest-only" : "pull-from-mirror",
                  tags ? "digests" : "tags"));
  out.partly = true;
  out.partly_why = tags ? "it is asked for tags alone" : "it is asked for digests alone, tags go past it";
}

// What stands in front of a repository's name once the prefix has been replaced by the location.
std::string path_of(const Registry& registry, const Address& location, const std::string& upstream) {
  const std::string image = upstream + "/" + sample_of(upstream);
  const std::size_t replaced = registry.prefix.starts_with("*.") ? upstream.size() : registry.prefix.size();
  const std::string path = "/v2" + location.path + (replaced < image.size() ? image.substr(replaced) : "");
  const std::string behind = "/" + sample_of(upstream);
  return path.ends_with(behind) ? path.substr(0, path.size() - behind.size()) : "/v2" + location.path;
}

Mirror mirror_of(Judge& judge, const Config& config, const Registry& registry, const MirrorEntry& entry,
                 const std::string& upstream) {
  const Address address = Address::parse(entry.location);
  Mirror out;
  out.written = entry.location;
  out.file = registry.file;
  const bool tls = judge.cache().tls;
  // Where that is allowed it falls back from TLS to plain HTTP at once.
  out.way.scheme = entry.insecure && !tls ? "http" : "https";
  out.way.host = address.host;
  out.way.port = address.port_or(out.way.scheme);
  out.way.path = path_of(registry, address, upstream);
  out.way.skip_verify = entry.insecure;
  for (const std::string_view all : {"/etc/containers/certs.d", "/etc/docker/certs.d"}) {
    for (std::string& file : certificates_in(judge.files(), below(all, address.authority()))) {
      out.way.ca_files.push_back(std::move(file));
    }
  }
  if (!judge.cache().is_at(address.host, out.way.port)) return out;
  if (!tls && !entry.insecure) {
    judge.problem(
        "podman-insecure-missing", config.client, registry.file,
        fmt::format("the mirror \"{}\" lacks insecure = true: it is asked with TLS, which the cache does not speak",
                    entry.location));
    out.flaw = "insecure = true is missing, it is asked with TLS";
    return out;
  }
  out.right_path = fmt::format("write location = \"{}/{}\"", address.authority(),
                               registry.prefix.starts_with("*.") ? upstream : registry.prefix);
  limit(judge, config, registry, entry, out);
  return out;
}

void decide(Judge& judge, const Config& config, const std::string& upstream) {
  const Registry* registry = registry_for(config, upstream + "/" + sample_of(upstream));
  if (registry == nullptr) {
    judge.verdict(config.client, upstream, Outcome::unused,
                  fmt::format("no [[registry]] with the prefix \"{}\"", upstream), config.main);
    return;
  }
  if (registry->blocked) {
    judge.problem("podman-blocked", config.client, registry->file,
                  fmt::format("\"{}\" is blocked: pulls from it fail, also through a mirror", registry->prefix));
    judge.verdict(config.client, upstream, Outcome::fails, "blocked = true", registry->file);
    return;
  }
  std::vector<Mirror> mirrors;
  mirrors.reserve(registry->mirrors.size() + 1);
  for (const MirrorEntry& entry : registry->mirrors) {
    mirrors.push_back(mirror_of(judge, config, *registry, entry, upstream));
  }
  // Without a mirror the cache may stand in the registry's own place.
  const Address location = Address::parse(registry->location);
  if (judge.cache().is_at(location.host,
                          location.port_or(registry->insecure && !judge.cache().tls ? "http" : "https"))) {
    mirrors.push_back(mirror_of(judge, config, *registry, {registry->location, registry->insecure, {}}, upstream));
    judge.remark(
        "podman-no-fallback", config.client, registry->file,
        fmt::format("`location` of \"{}\" is the cache: while it is down pulls fail; write the registry there, and the "
                    "cache below [[registry.mirror]]",
                    registry->prefix));
  }
  if (!mirrors.empty()) return judge.decide(config.client, upstream, mirrors);
  judge.verdict(config.client, upstream, Outcome::unused,
                fmt::format("\"{}\" has no [[registry.mirror]]", registry->prefix), registry->file);
}

// Entries with a mirror that no image's name begins with, and registries that the cache does not serve.
void check_prefixes(Judge& judge, const Config& config) {
  for (const auto& [prefix, registry] : config.registries) {
    if (registry.mirrors.empty() || prefix.starts_with("*.")) continue;
    const std::string host = prefix.substr(0, prefix.find('/'));
    if (host != "docker.io" && canonical_upstream_name(host) == "docker.io") {
      judge.problem(
          "podman-prefix-never-matches", config.client, registry.file,
          fmt::format("no image's name begins with \"{}\": those of Docker Hub begin with docker.io", prefix));
    } else if (host.find_first_of(".:") == std::string::npos && host != "localhost") {
      judge.problem("podman-prefix-never-matches", config.client, registry.file,
                    fmt::format("no image's whole name begins with \"{}\", which is no registry: write docker.io/{}",
                                prefix, prefix));
    } else if (host == prefix && !judge.cache().serves(host)) {
      decide(judge, config, host);
    }
  }
}

void check_names(Judge& judge, const Config& config) {
  for (const auto& [name, target] : config.aliases) {
    const std::string host = target.substr(0, target.find('/'));
    if (host == "docker.io" || canonical_upstream_name(host) != "docker.io" || !config.registries.contains("docker.io"))
      continue;
    judge.problem(
        "podman-alias-past-mirror", config.client, config.main,
        fmt::format("the alias \"{}\" leads to {}, which the prefix docker.io does not match: write docker.io/…", name,
                    target));
  }
  if (!config.registries.contains("docker.io") || config.registries.at("docker.io").mirrors.empty()) return;
  if (std::find(config.search.begin(), config.search.end(), "docker.io") != config.search.end()) return;
  judge.remark(
      "podman-short-names", config.client, config.main,
      "unqualified-search-registries does not list docker.io: names of one word (busybox) are not looked up there");
}

void read_one(Judge& judge, const std::string& client, const std::string& main,
              const std::vector<std::string>& folders) {
  Config config;
  config.client = client;
  config.main = main;
  load(judge, main, config);
  for (const std::string& folder : folders) load_folder(judge, folder, config);
  if (config.broken) return;
  const Files& files = judge.files();
  const bool installed = files.exists("/usr/bin/podman") || files.exists("/usr/bin/skopeo") ||
                         files.exists("/usr/bin/buildah") || files.exists("/usr/bin/crio") || files.exists("/etc/crio");
  // The files of a package alone say nothing of a client.
  const bool says = std::any_of(config.registries.begin(), config.registries.end(),
                                [](const auto& entry) { return !entry.second.mirrors.empty(); });
  if (!installed && !says) return;
  for (const std::string& upstream : judge.cache().upstreams) decide(judge, config, upstream);
  check_prefixes(judge, config);
  check_names(judge, config);
}

}  // namespace

void read_podman(Judge& judge) {
  const Files& files = judge.files();
  read_one(judge, "podman", kSystemFile, {kSystemFolder});
  for (const std::string& home : judge.machine().homes) {
    const std::string own = home + "/.config/containers/registries.conf";
    if (!files.exists(own) && !files.exists(own + ".d")) continue;
    // The user's file stands in the place of the system's, the user's folder beside it.
    read_one(judge, "podman (" + home.substr(home.rfind('/') + 1) + ")", files.exists(own) ? own : kSystemFile,
             {kSystemFolder, own + ".d"});
  }
}

}  // namespace sluice::doctor
