// What containerd makes of it is that of its core/remotes/docker/config (hosts.go).
#include "doctor/hosts_file.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "base/upstream_name.hpp"
#include "doctor/document.hpp"

namespace sluice::doctor {
namespace {

// "registry.example_5000_" of "registry.example:5000".
std::string with_underscores(const std::string& registry) {
  const std::size_t colon = registry.rfind(':');
  return colon == std::string::npos ? registry : registry.substr(0, colon) + "_" + registry.substr(colon + 1) + "_";
}

bool is_number(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

// The registry that a folder is for.
std::string registry_of(const std::string& name) {
  const std::size_t underscore = name.size() > 1 ? name.rfind('_', name.size() - 2) : std::string::npos;
  const bool port = name.ends_with('_') && underscore != std::string::npos &&
                    is_number(std::string_view(name).substr(underscore + 1, name.size() - underscore - 2));
  return port ? name.substr(0, underscore) + ":" + name.substr(underscore + 1, name.size() - underscore - 2) : name;
}

// The folder in which a pull from a registry finds what it reads; empty: none.
std::string folder_for(const Files& files, const std::vector<std::string>& roots, const std::string& registry) {
  for (const std::string& root : roots) {
    for (const std::string& name : {with_underscores(registry), registry, std::string("_default")}) {
      std::string folder = below(root, name);
      if (files.exists(folder)) return folder;
    }
  }
  return {};
}

constexpr std::array<std::string_view, 3> kTlsKeys{"ca", "client", "skip_verify"};

struct Host {
  std::string written;
  Address address;
  const Json* settings = nullptr;
};

// Compared without case.
std::vector<std::string> capabilities_of(const Json& settings) {
  std::vector<std::string> out = texts_of(at(settings, {"capabilities"}));
  std::transform(out.begin(), out.end(), out.begin(), [](const std::string& each) { return lower(each); });
  return out;
}

// Why containerd refuses the whole file; empty: it does not.
std::string refusal_of(const Json& root) {
  const Json& hosts = at(root, {"host"});
  if (!hosts.is_null() && !hosts.is_object()) return "[[host]] must be [host.\"URL\"]";
  if (!hosts.is_object()) return {};
  for (const auto& [written, settings] : hosts.items()) {
    if (!settings.is_object()) return fmt::format("host.\"{}\" is not a table", written);
    const Json& capabilities = at(settings, {"capabilities"});
    if (!capabilities.is_null() && !capabilities.is_array()) return "capabilities is not a list";
    for (const std::string& each : capabilities_of(settings)) {
      if (each != "pull" && each != "resolve" && each != "push" && each != "referrers") {
        return fmt::format("it knows no capability \"{}\"", each);
      }
    }
  }
  return {};
}

// Why the path of this host leads nowhere; empty: it is right.
std::string path_flaw_of(Judge& judge, const std::string& client, const std::string& file, const Host& host) {
  const bool overrides = is_true(at(*host.settings, {"override_path"}));
  const std::string& path = host.address.path;
  if (overrides && path.empty()) {
    judge.problem(
        "containerd-override-path", client, file,
        fmt::format("\"{0}\" has override_path = true and no path: containerd leaves out /v2; remove override_path",
                    host.written));
    return "override_path without a path";
  }
  if (!overrides && !path.empty() && path != "/v2") {
    judge.problem(
        "containerd-override-path", client, file,
        fmt::format("\"{}\" has a path, and override_path is not set: containerd appends /v2; remove the path",
                    host.written));
    return "a path without override_path";
  }
  return {};
}

void read_capabilities(Judge& judge, const std::string& client, const Host& host, Mirror& out) {
  const std::vector<std::string> all = capabilities_of(*host.settings);
  if (all.empty()) return;  // it has all of them
  const auto has = [&](std::string_view name) { return std::find(all.begin(), all.end(), name) != all.end(); };
  if (!has("pull")) {
    judge.problem(
        "containerd-no-pull", client, out.file,
        fmt::format("\"{}\" lacks the capability \"pull\": containerd fetches nothing from it", host.written));
    out.flaw = "capabilities lack \"pull\"";
  } else if (!has("resolve")) {
    judge.problem(
        "containerd-no-resolve", client, out.file,
        fmt::format("\"{}\" lacks the capability \"resolve\": the registry itself is asked for each tag, and a pull "
                    "fails while it is down",
                    host.written));
    out.partly = true;
    out.partly_why = "tags are asked for at the registry itself: capabilities lack \"resolve\"";
  }
  if (has("referrers")) {
    judge.remark(
        "containerd-referrers", client, out.file,
        "containerd 1.7 and 2.1 refuse the whole file because of the capability \"referrers\", and go past the mirror");
  }
}

Mirror mirror_of(Judge& judge, const HostsFolder& folder, const std::string& file, const Host& host,
                 const std::string& upstream) {
  Mirror out;
  out.written = host.written;
  out.file = file;
  const Address& address = host.address;
  out.way.scheme = address.scheme.empty() ? "https" : address.scheme;
  out.way.host = address.host;
  out.way.port = address.port_or(out.way.scheme);
  const bool as_is = is_true(at(*host.settings, {"override_path"})) || address.path.ends_with("/v2");
  out.way.path = as_is ? address.path : address.path + "/v2";
  out.way.ns = upstream;
  out.way.skip_verify = is_true(at(*host.settings, {"skip_verify"}));
  const std::string base = file.substr(0, file.rfind('/') + 1);
  for (const std::string& ca : texts_of(at(*host.settings, {"ca"}))) {
    out.way.ca_files.push_back(ca.starts_with('/') ? ca : base + ca);
  }
  out.way.environment = folder.environment;
  out.partly = !folder.partly.empty();
  out.partly_why = folder.partly;
  if (!judge.cache().is_on(address.host) && !judge.cache().is_at(address.host, out.way.port)) return out;
  if (address.scheme.empty() && !judge.cache().tls) {
    judge.problem("containerd-host-scheme", folder.client, file,
                  fmt::format("\"{0}\" has no scheme, so containerd asks it with TLS: write http://{0}", host.written));
    out.flaw = "the mirror has no scheme, it is asked with TLS";
    return out;
  }
  read_capabilities(judge, folder.client, host, out);
  if (out.flaw.empty()) out.flaw = path_flaw_of(judge, folder.client, file, host);
  // With any setting of TLS containerd tries TLS first, and plain HTTP where that fails.
  const bool tls = std::any_of(kTlsKeys.begin(), kTlsKeys.end(),
                               [&](std::string_view key) { return !at(*host.settings, {key}).is_null(); });
  if (out.way.scheme == "http" && out.way.port != 80 && tls && judge.cache().tls) out.way.scheme = "https";
  return out;
}

// `server`, which is asked last.
void check_server(Judge& judge, const HostsFolder& folder, const std::string& file, const Address& server,
                  const std::string& upstream) {
  const std::string named = canonical_upstream_name(server.host);
  if (judge.cache().is_at(server.host, server.port_or("https"))) {
    judge.remark(
        "containerd-no-fallback", folder.client, file,
        "`server` is the cache: while it is down pulls fail; write the registry there, and the cache below [host.…]");
  } else if (file.find("/_default/") == std::string::npos && named != canonical_upstream_name(upstream) &&
             (named == "docker.io" || judge.cache().serves(named))) {
    judge.problem(
        "containerd-wrong-server", folder.client, file,
        fmt::format("`server` is {}, and the file is for {}: while the cache is down pulls go to the wrong registry",
                    server.host, upstream));
  }
}

}  // namespace

bool has_hosts(const Files& files, const std::vector<std::string>& roots) {
  return std::any_of(roots.begin(), roots.end(), [&](const std::string& root) { return !files.list(root).empty(); });
}

void decide_by_hosts(Judge& judge, const HostsFolder& folder, const std::string& upstream) {
  const std::string chosen = folder_for(judge.files(), folder.roots, upstream);
  const std::string file = chosen + "/hosts.toml";
  if (chosen.empty()) {
    judge.verdict(folder.client, upstream, Outcome::unused,
                  fmt::format("no {}/hosts.toml below {}", upstream, folder.roots.front()));
    return;
  }
  const Result<std::string> text = judge.files().read(file);
  if (!text && text.error().code == Errc::not_found) {
    judge.verdict(folder.client, upstream, Outcome::unused, fmt::format("no hosts.toml in {}", chosen), chosen);
    return;
  }
  const Result<Document> parsed = text ? parse_toml(*text) : text.error();
  const std::string refusal = parsed ? refusal_of(parsed->root) : parsed.error().message;
  if (!refusal.empty()) {
    const Error error = parsed ? Error{Errc::config_invalid, refusal} : parsed.error();
    return judge.broken_file(folder.client, file, error, "containerd ignores the file", upstream);
  }
  std::vector<Mirror> mirrors;
  const Json& hosts = at(parsed->root, {"host"});
  if (hosts.is_object()) {
    for (const auto& [written, settings] : hosts.items()) {
      mirrors.push_back(mirror_of(judge, folder, file, {written, Address::parse(written), &settings}, upstream));
    }
  }
  if (const std::string server = text_of(at(parsed->root, {"server"})); !server.empty()) {
    const Host last{server, Address::parse(server), &parsed->root};
    check_server(judge, folder, file, last.address, upstream);
    const std::uint16_t port = last.address.port_or("https");
    if (judge.cache().is_at(last.address.host, port)) mirrors.push_back(mirror_of(judge, folder, file, last, upstream));
  }
  if (!mirrors.empty()) return judge.decide(folder.client, upstream, mirrors);
  judge.verdict(folder.client, upstream, Outcome::unused, "no [host.…] in its hosts.toml", file);
}

namespace {

// Why no pull looks into this folder; empty: one does.
std::optional<std::string> misnamed(const std::string& name) {
  const std::string registry = registry_of(name);
  if (name == "_default" || name == "localhost" || registry == "docker.io") return std::nullopt;
  if (canonical_upstream_name(registry) == "docker.io") return "images of Docker Hub are looked up as \"docker.io\"";
  if (name == "default" || name == "*" || name == "_all") return "the folder for all other registries is \"_default\"";
  const std::size_t underscore = name.rfind('_');
  if (underscore != std::string::npos && is_number(std::string_view(name).substr(underscore + 1))) {
    return fmt::format("with a port it is \"{}_\" or \"HOST:PORT\"", name);
  }
  if (registry.find_first_of(".:") == std::string::npos)
    return "its name is to be that of a registry, as in \"docker.io\"";
  return std::nullopt;
}

void check_folder(Judge& judge, const HostsFolder& folder, const std::string& root, const std::string& name) {
  const Files& files = judge.files();
  const std::string path = below(root, name);
  const std::string file = path + "/hosts.toml";
  if (!files.exists(file)) {
    for (const std::string& other : files.list(path)) {
      if (!other.starts_with("hosts.") && !other.ends_with(".toml")) continue;
      judge.problem("containerd-file-ignored", folder.client, below(path, other),
                    "containerd reads hosts.toml alone in this folder: rename the file");
      return;
    }
    if (name != "_default" && files.exists(root + "/_default/hosts.toml")) {
      judge.problem("containerd-folder-empty", folder.client, path,
                    "this folder has no hosts.toml, and hides _default for its registry: remove the folder");
    }
    return;
  }
  if (const auto why = misnamed(name)) {
    judge.problem("containerd-folder-name", folder.client, path,
                  fmt::format("no pull looks into this folder: {}", *why));
    return;
  }
  const Address address = Address::parse(registry_of(name));
  if (judge.cache().is_on(address.host) && judge.cache().is_at(address.host, address.port_or("http"))) {
    if (files.exists(root + "/_default") || files.exists(root + "/docker.io")) return;
    judge.problem("containerd-folder-is-cache", folder.client, path,
                  "the folder is named after the cache: name it after the registry, for example \"docker.io\"");
  } else if (name != "_default" && !judge.cache().serves(registry_of(name))) {
    decide_by_hosts(judge, folder, registry_of(name));
  }
}

}  // namespace

void check_hosts_folders(Judge& judge, const HostsFolder& folder) {
  for (const std::string& root : folder.roots) {
    for (const std::string& name : judge.files().list(root)) {
      if (name.ends_with(".toml")) {
        judge.problem("containerd-file-ignored", folder.client, below(root, name),
                      "containerd reads no file here: move it into a folder with the name of the registry, as "
                      "docker.io/hosts.toml");
        continue;
      }
      check_folder(judge, folder, root, name);
    }
  }
}

}  // namespace sluice::doctor
