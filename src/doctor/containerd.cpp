// containerd: config.toml with its imports, then the hosts.toml files or the old table of mirrors.
#include <fnmatch.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "base/network.hpp"
#include "doctor/clients.hpp"
#include "doctor/document.hpp"
#include "doctor/hosts_file.hpp"
#include "doctor/unit_file.hpp"

namespace sluice::doctor {
namespace {

constexpr std::string_view kClient = "containerd";
constexpr const char* kCertsFolder = "/etc/containerd/certs.d";

struct File {
  std::string path;
  Json root;
};

// What the files say together about registries.
struct Config {
  std::vector<File> files;
  bool broken = false;  // a file cannot be read or parsed, and the verdicts are given
  bool disabled = false;
  bool misplaced = false;  // a table about registries stands where this version ignores it
  std::string config_path;
  std::string config_path_file;
  Json mirrors = Json::object();
  Json configs = Json::object();
  std::string mirrors_file;
};

int version_of(const Json& root) {
  const Json& version = at(root, {"version"});
  return version.is_number_integer() ? version.get<int>() : 1;
}

std::string plugin_of(int version) {
  if (version <= 1) return "cri";
  return version == 2 ? "io.containerd.grpc.v1.cri" : "io.containerd.cri.v1.images";
}

bool is_disabled(const Json& root) {
  const auto all = texts_of(at(root, {"disabled_plugins"}));
  return std::any_of(all.begin(), all.end(), [](const std::string& name) {
    return name == "cri" || name == "io.containerd.grpc.v1.cri" || name == "io.containerd.cri.v1.images";
  });
}

bool says_anything(const Json& registry) {
  return !at(registry, {"config_path"}).is_null() || !at(registry, {"mirrors"}).is_null();
}

// Tables about registries that this version of the file has at another place.
bool has_misplaced_keys(Judge& judge, const File& file) {
  bool out = false;
  const int version = version_of(file.root);
  if (says_anything(at(file.root, {"plugins", plugin_of(version), "registry"}))) return false;
  const bool said = !at(file.root, {"version"}).is_null();
  for (const std::string plugin : {"cri", "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images"}) {
    if (!says_anything(at(file.root, {"plugins", plugin, "registry"}))) continue;
    const std::string right = plugin == "cri" ? "1" : plugin == "io.containerd.grpc.v1.cri" ? "2" : "3";
    const std::string name = said ? "containerd-version-keys" : "containerd-version-missing";
    const std::string what =
        said ? fmt::format("the file says version = {}", version) : std::string("the file has no `version`");
    judge.problem(
        name, kClient, file.path,
        fmt::format("{}, and [plugins.\"{}\".registry] is of version {}: {} ignores it; write version = {}, or "
                    "[plugins.\"{}\".registry]",
                    what, plugin, right, said ? "containerd" : "containerd 1", right, plugin_of(version)));
    out = true;
  }
  return out;
}

void take_registry(const File& file, Config& out) {
  const Json& registry = at(file.root, {"plugins", plugin_of(version_of(file.root)), "registry"});
  if (const Json& path = at(registry, {"config_path"}); path.is_string()) {
    out.config_path = text_of(path);
    out.config_path_file = file.path;
  }
  for (const auto& [key, target] : {std::pair("mirrors", &out.mirrors), std::pair("configs", &out.configs)}) {
    const Json& table = at(registry, {key});
    if (!table.is_object()) continue;
    for (const auto& [name, value] : table.items()) (*target)[name] = value;
    if (std::string_view(key) == "mirrors" && !table.empty()) out.mirrors_file = file.path;
  }
}

std::vector<std::string> imported(const Files& files, const File& file) {
  std::vector<std::string> out;
  const std::string own = file.path.substr(0, file.path.rfind('/') + 1);
  for (std::string pattern : texts_of(at(file.root, {"imports"}))) {
    if (!pattern.starts_with('/')) pattern.insert(0, own);
    const std::string folder = pattern.substr(0, pattern.rfind('/'));
    for (const std::string& name : files.list(folder)) {
      std::string path = below(folder, name);
      if (::fnmatch(pattern.c_str(), path.c_str(), 0) == 0) out.push_back(std::move(path));
    }
  }
  return out;
}

// Adds one file. Says whether it can be parsed.
bool load(Judge& judge, const std::string& path, Config& out) {
  const Result<std::string> text = judge.files().read(path);
  if (!text && text.error().code == Errc::not_found) return true;
  const Result<Document> parsed = text ? parse_toml(*text) : text.error();
  if (!parsed) {
    judge.broken_file(kClient, path, parsed.error(), "containerd does not start");
    out.broken = true;
    return false;
  }
  out.files.push_back({path, parsed->root});
  out.misplaced = has_misplaced_keys(judge, out.files.back()) || out.misplaced;
  out.disabled = out.disabled || is_disabled(parsed->root);
  take_registry(out.files.back(), out);
  return true;
}

Config load_all(Judge& judge, const std::string& main) {
  Config out;
  if (!load(judge, main, out) || out.files.empty()) return out;
  const std::vector<std::string> more = imported(judge.files(), out.files.front());
  for (const std::string& path : more) {
    if (!load(judge, path, out)) return out;
  }
  const std::string folder = "/etc/containerd/conf.d";
  for (const std::string& name : judge.files().list(folder)) {
    const std::string path = below(folder, name);
    if (std::find(more.begin(), more.end(), path) != more.end()) continue;
    const Result<std::string> text = judge.files().read(path);
    if (is_backup(name) || !text || text->find("registry") == std::string::npos) continue;
    const std::string what = fmt::format("no `imports` of {} names this file, ", main);
    if (name.ends_with(".toml")) {
      judge.remark("containerd-drop-in-ignored", kClient, path, what + "so containerd before 2.2 does not read it");
    } else {
      judge.problem("containerd-drop-in-ignored", kClient, path, what + "and by default only *.toml is imported");
    }
  }
  return out;
}

// The old table, `[plugins."io.containerd.grpc.v1.cri".registry.mirrors."docker.io"]`.
Mirror endpoint_of(Judge& judge, const Config& config, const Service& service, const std::string& upstream,
                   const std::string& written) {
  const Address address = Address::parse(written);
  Mirror out;
  out.written = written;
  out.file = config.mirrors_file;
  if (address.scheme.empty()) {
    judge.problem("containerd-endpoint-scheme", kClient, config.mirrors_file,
                  fmt::format("endpoint \"{0}\" has no scheme: containerd cannot use it; write http://{0}", written));
    out.flaw = fmt::format("endpoint \"{}\" has no scheme", written);
    // Go parses no URL that begins like this.
    out.fatal = address.port && IpAddress::parse(address.host);
    return out;
  }
  out.way.scheme = address.scheme;
  out.way.host = address.host;
  out.way.port = address.port_or("https");
  // "http://127.0.0.1:5000/" has a path.
  out.way.path = address.path.empty() && !written.ends_with('/') ? "/v2" : address.path;
  out.way.ns = upstream;
  const Json& tls = at(config.configs, {address.authority(), "tls"});
  out.way.skip_verify = is_true(at(tls, {"insecure_skip_verify"}));
  out.way.ca_files = texts_of(at(tls, {"ca_file"}));
  out.way.environment = service.environment;
  return out;
}

void decide_by_mirrors(Judge& judge, const Config& config, const Service& service, const std::string& upstream) {
  const Json& named = at(config.mirrors, {upstream, "endpoint"});
  const std::vector<std::string> endpoints = texts_of(named.is_null() ? at(config.mirrors, {"*", "endpoint"}) : named);
  std::vector<Mirror> mirrors;
  mirrors.reserve(endpoints.size());
  for (const std::string& written : endpoints) {
    mirrors.push_back(endpoint_of(judge, config, service, upstream, written));
  }
  if (!mirrors.empty()) return judge.decide(kClient, upstream, mirrors);
  judge.verdict(kClient, upstream, Outcome::unused, fmt::format("no \"{}\" in registry.mirrors", upstream),
                config.mirrors_file);
}

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> out;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(':', begin), text.size());
    if (end > begin) out.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return out;
}

void by_hosts(Judge& judge, HostsFolder folder) {
  for (const std::string& upstream : judge.cache().upstreams) decide_by_hosts(judge, folder, upstream);
  check_hosts_folders(judge, folder);
}

void by_config_path(Judge& judge, const Config& config, const Service& service) {
  HostsFolder folder{std::string(kClient), split(config.config_path), service.environment, {}};
  if (folder.roots.size() > 1) {
    judge.problem(
        "containerd-config-path-list", kClient, config.config_path_file,
        fmt::format("config_path is a list (\"{}\"): the transfer service of containerd 2.2, through which the kubelet "
                    "pulls, takes it for the name of one folder and ignores mirrors; name one folder",
                    config.config_path));
    folder.partly = "containerd 2.2 takes the list in config_path for one folder, and ignores it";
  }
  if (!has_hosts(judge.files(), folder.roots) && has_hosts(judge.files(), {kCertsFolder})) {
    judge.problem("containerd-config-path-folder", kClient, config.config_path_file,
                  fmt::format("config_path is \"{0}\", where there is nothing, and there are files below {1}: write "
                              "config_path = \"{1}\"",
                              config.config_path, kCertsFolder));
  }
  by_hosts(judge, std::move(folder));
}

// hosts.toml files that config.toml does not name: nerdctl, ctr --hosts-dir and containerd 2.2 read them, but not the
// kubelet's older containerd.
void by_default_folder(Judge& judge, const Config& config, const Service& service, bool kubernetes) {
  const Files& files = judge.files();
  const bool nerdctl = files.exists("/usr/bin/nerdctl") || files.exists("/usr/local/bin/nerdctl");
  HostsFolder folder{std::string(kClient), {kCertsFolder}, service.environment, {}};
  if (config.disabled || (nerdctl && !kubernetes)) {
    judge.remark(
        "containerd-nerdctl-only", kClient, kCertsFolder,
        "nerdctl and ctr --hosts-dir read this folder; nothing else does, because config.toml has no config_path or "
        "disables the CRI plugin");
    return by_hosts(judge, std::move(folder));
  }
  const std::string file = config.files.empty() ? "/etc/containerd/config.toml" : config.files.front().path;
  judge.problem(
      "containerd-config-path-missing", kClient, file,
      fmt::format(
          "there are files below {0}, and no config_path names that folder: containerd before 2.2 ignores them; "
          "write config_path = \"{0}\"",
          kCertsFolder));
  judge.all(kClient, Outcome::falls_back, "config_path is not set", file);
  check_hosts_folders(judge, folder);
}

}  // namespace

void read_containerd(Judge& judge) {
  const Files& files = judge.files();
  const Service service = read_service(files, "containerd.service");
  std::string main = "/etc/containerd/config.toml";
  for (const std::string option : {"--config", "-c"}) {
    if (const auto named = service.option(option); !named.empty()) main = named.back();
  }
  const Config config = load_all(judge, main);
  if (config.broken) return;
  // The kubelet of k3s and RKE2 has a containerd of its own, that of CRI-O none.
  const bool rancher = files.exists("/var/lib/rancher") || files.exists("/etc/rancher");
  const bool installed = service.found || !config.files.empty();
  if (rancher && !installed) return;
  const bool kubernetes =
      !rancher && installed &&
      (files.exists("/var/lib/kubelet") || files.exists("/usr/bin/kubelet") || files.exists("/etc/kubernetes"));
  const bool hosts = has_hosts(files, {kCertsFolder});
  if (config.disabled) {
    if (hosts) by_default_folder(judge, config, service, kubernetes);
    return;
  }
  if (!config.config_path.empty() && !config.mirrors.empty()) {
    judge.problem(
        "containerd-mirrors-and-config-path", kClient, config.mirrors_file,
        "config_path and registry.mirrors are both set: the CRI plugin does not load; remove registry.mirrors");
    return judge.all(kClient, Outcome::fails, "its CRI plugin does not load", config.mirrors_file);
  }
  if (!config.config_path.empty()) return by_config_path(judge, config, service);
  if (!config.mirrors.empty()) {
    for (const std::string& upstream : judge.cache().upstreams) decide_by_mirrors(judge, config, service, upstream);
    return;
  }
  if (config.misplaced) return judge.all(kClient, Outcome::falls_back, "its table about registries is ignored", main);
  if (hosts) return by_default_folder(judge, config, service, kubernetes);
  if (kubernetes) judge.all(kClient, Outcome::unused, "no config_path", main);
}

}  // namespace sluice::doctor
