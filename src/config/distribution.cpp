// distribution's config.yml (https://distribution.github.io/distribution/about/configuration/), as far as a
// pull-through cache has a use for it. docs/moving.md has the table of keys.
#include <algorithm>
#include <functional>
#include <map>

#include <fmt/format.h>

#include "config/registry_environment.hpp"
#include "config/values.hpp"
#include "config/yaml.hpp"

namespace sluice::config {
namespace {

const Field<Settings>& own_field(std::string_view key) {
  const auto& fields = settings_fields();
  return *std::find_if(fields.begin(), fields.end(), [&](const auto& field) { return field.key == key; });
}

const Field<Upstream>& upstream_field(std::string_view key) {
  const auto& fields = upstream_fields();
  return *std::find_if(fields.begin(), fields.end(), [&](const auto& field) { return field.key == key; });
}

class DistributionFile {
 public:
  DistributionFile(YamlReader& reader, const RegistryEnvironment& environment, Settings& settings)
      : reader_(reader), environment_(environment), settings_(settings) {
    same("http.addr", "server.listen");
    on("http.debug.addr", [this](const YAML::Node& node, const Place& at) { debug_address(node, at); });
    same("storage.cache.blobdescriptorsize", "descriptors.size");
    for (const char* key : {"loglevel", "log.level"}) {
      on(key, [this](const YAML::Node& node, const Place& at) { level(node, at); });
    }
    on("storage.filesystem.rootdirectory", [this](const YAML::Node& node, const Place& at) { data(node, at); });
    on("auth", [this](const YAML::Node& node, const Place& at) { auth(node, at); });
    http();
    on("proxy.ttl", [this](const YAML::Node& node, const Place& at) { time_to_live(node, at); });
    on("version", [this](const YAML::Node& node, const Place& at) {
      const auto text = reader_.scalar(node, at, "0.1");
      if (text && *text != "0.1") reader_.report().problem(at, fmt::format("found {}, expected 0.1", in_quotes(*text)));
    });
    on("log.formatter", [this](const YAML::Node& node, const Place& at) { formatter(node, at); });
    on("log.accesslog.disabled", [this](const YAML::Node& node, const Place& at) { access_log(node, at); });
    on("storage.cache.blobdescriptor", [this](const YAML::Node& node, const Place& at) { cache(node, at); });
    on("storage.cache.layerinfo", [this](const YAML::Node& node, const Place& at) {
      if (!blobdescriptor_seen_) cache(node, at);
    });
    redis();
    on("http.draintimeout", [this](const YAML::Node& node, const Place& at) { drain(node, at); });
    for (const char* key :
         {"proxy.remoteurl", "proxy.username", "proxy.password", "proxy.exec.command", "proxy.exec.lifetime"}) {
      on(key, [this, key](const YAML::Node& node, const Place& at) { proxy_[key] = {node, at}; });
    }
  }

  void read(const YAML::Node& root) {
    const YAML::Node storage = root["storage"];
    if (storage && storage.IsScalar()) {
      const bool known = driver(storage.Scalar(), placed("storage", reader_.place(storage, "storage")));
      if (known && storage.Scalar() == "filesystem") settings_.data = data_below("/var/lib/registry");
    } else if (storage && storage.IsMap()) {
      if (storage["filesystem"].IsDefined()) settings_.data = data_below("/var/lib/registry");
      const YAML::Node cache_section = storage["cache"];
      blobdescriptor_seen_ = cache_section && cache_section.IsMap() && cache_section["blobdescriptor"].IsDefined();
    }
    section(root, "", reader_.place(root, ""));
    upstream(root);
    if (!ignored_.empty()) warn();
  }

 private:
  using Read = std::function<void(const YAML::Node&, const Place&)>;

  void on(const std::string& key, Read read) { known_[key] = std::move(read); }

  void same(const std::string& key, std::string_view own) {
    on(key, [this, own](const YAML::Node& node, const Place& at) {
      reader_.set(own_field(own), settings_, node, std::string(own), at);
    });
  }

  // There it shows metrics; here it also takes out what is stored, and asks nobody for a login.
  void debug_address(const YAML::Node& node, const Place& at) {
    reader_.set(own_field("admin.listen"), settings_, node, "admin.listen", at);
    const std::string& address = settings_.admin.listen.address;
    // Of every address the program warns by itself.
    const bool any = address.empty() || address == "0.0.0.0" || address == "::";
    if (address.starts_with("127.") || address == "::1" || any) return;
    reader_.report().warning(
        fmt::format("{}: becomes admin.listen, where other machines reach the admin API too, which "
                    "asks for no login; 127.0.0.1 keeps it to this one",
                    at.name));
  }

  [[nodiscard]] Place placed(const std::string& path, const Place& in_file) const {
    return environment_.place(path, in_file);
  }

  void section(const YAML::Node& node, const std::string& path, const Place& where) {
    if (path == "storage" && node.IsScalar()) return;  // a driver by its name alone
    reader_.each(node, path, where, [&](const std::string& key, const YAML::Node& value, const Place& in_file) {
      const std::string full = child(path, key);
      const Place at = placed(full, in_file);
      if (path == "storage" && !driver(key, at)) return;
      if (const auto known = known_.find(full); known != known_.end()) {
        if (!value.IsNull()) known->second(value, at);
        return;
      }
      const auto deeper = known_.lower_bound(full + ".");
      if (deeper != known_.end() && deeper->first.starts_with(full + ".")) {
        section(value, full, at);
      } else {
        ignored_.push_back(full);
      }
    });
  }

  // False where it is a driver that keeps its blobs elsewhere than we do, which is reported.
  bool driver(const std::string& key, const Place& at) {
    for (const std::string_view known : {"filesystem", "cache", "delete", "redirect", "maintenance", "tag"}) {
      if (key == known) return true;
    }
    reader_.report().problem(at, fmt::format("found the storage driver {}, expected filesystem: sluice keeps its blobs "
                                             "in a directory of this machine",
                                             in_quotes(key)));
    return false;
  }

  // A directory of our own below distribution's, so that nobody takes the files of one for those of the other. On the
  // same file system `sluice import` can link what is there.
  static std::filesystem::path data_below(const std::filesystem::path& root) { return root / "sluice"; }

  void data(const YAML::Node& node, const Place& at) {
    const auto text = reader_.scalar(node, at, "a directory");
    if (!text || text->empty()) return;
    reader_.report().set(own_field("data"), settings_, data_below(*text).native(), "data", at);
  }

  // As logrus reads them.
  void level(const YAML::Node& node, const Place& at) {
    auto text = reader_.scalar(node, at, own_field("log.level").expected);
    if (!text) return;
    const std::string said = lower(*text);
    const std::string ours = said == "warning"                    ? "warn"
                             : said == "trace"                    ? "debug"
                             : said == "fatal" || said == "panic" ? "error"
                                                                  : said;
    reader_.report().set(own_field("log.level"), settings_, ours, "log.level", at);
  }

  // Whoever has locked his registry shall not find it open: a method that is named, even without a word below it, is
  // in force or stops the start.
  void auth(const YAML::Node& node, const Place& at) {
    if (node.IsScalar()) {
      if (node.Scalar() == "htpasswd") return no_logins(at);
      if (!node.Scalar().empty() && node.Scalar() != "none") no_auth(node.Scalar(), at);
      return;
    }
    reader_.each(node, "auth", at, [&](const std::string& method, const YAML::Node& value, const Place& in_file) {
      const Place place = placed("auth." + method, in_file);
      if (method == "none") return;
      if (method != "htpasswd") return no_auth(method, place);
      htpasswd(value, place);
    });
  }

  void htpasswd(const YAML::Node& node, const Place& at) {
    bool has_path = false;
    reader_.each(node, "auth.htpasswd", at, [&](const std::string& key, const YAML::Node& text, const Place& in_text) {
      const Place where = placed("auth.htpasswd." + key, in_text);
      if (key == "path") {
        has_path = !text.IsNull() && !(text.IsScalar() && text.Scalar().empty());
        own("auth.htpasswd_file", text, where);
      } else if (key == "realm") {
        own("auth.realm", text, where);
      } else {
        reader_.report().problem(where, "found an unknown key, expected path and realm");
      }
    });
    if (!has_path && (node.IsMap() || node.IsNull())) no_logins(at);
  }

  void no_logins(const Place& at) {
    reader_.report().problem(at, "found htpasswd without path, expected the file with the logins");
  }

  void no_auth(const std::string& method, const Place& at) {
    reader_.report().problem(
        at, fmt::format("found {}, expected htpasswd or no auth at all: sluice checks no tokens of distribution. "
                        "Upstream's own logins are checked with access: passthrough (docs/configuration.md)",
                        in_quotes(method)));
  }

  // Sets a key of ours that not every build has; Go's zero value is as good as nothing.
  void own(std::string_view key, const YAML::Node& node, const Place& at) {
    if (node.IsNull() || (node.IsScalar() && node.Scalar().empty())) return;
    const auto& fields = settings_fields();
    const auto field = std::find_if(fields.begin(), fields.end(), [&](const auto& one) { return one.key == key; });
    if (field == fields.end()) {
      reader_.report().problem(at, "found a key that sluice has nothing for, and that is not safe to leave out");
      return;
    }
    reader_.set(*field, settings_, node, std::string(key), at);
  }

  void http() {
    for (const auto& [key, ours] : {std::pair("http.tls.certificate", "server.tls.cert_file"),
                                    std::pair("http.tls.key", "server.tls.key_file")}) {
      const std::string name = ours;
      on(key, [this, name](const YAML::Node& node, const Place& at) { own(name, node, at); });
    }
    on("http.tls.clientcas", [this](const YAML::Node& node, const Place& at) {
      if (node.IsSequence() && node.size() == 0) return;
      if (node.IsSequence() && node.size() > 1) {
        reader_.report().problem(at, "found several files, expected one with all certificates in it");
      } else if (!node.IsSequence() || !node[0].IsScalar() || node[0].Scalar().empty()) {
        reader_.report().problem(at, "found no list of files, expected a list with one PEM file");
      } else {
        own("server.tls.client_ca_file", node[0], at);
      }
    });
    on("http.tls.clientauth", [this](const YAML::Node& node, const Place& at) { client_auth(node, at); });
    refuse("http.tls.letsencrypt",
           "certificates of a file (http.tls.certificate and http.tls.key), which sluice reads "
           "again when an ACME client has renewed them");
    refuse("http.prefix", "none: clients are answered at /v2/");
    on("http.net", [this](const YAML::Node& node, const Place& at) {
      const auto text = reader_.scalar(node, at, "tcp");
      if (text && !text->empty() && *text != "tcp") {
        reader_.report().problem(
            at, fmt::format("found {}, expected tcp: sluice listens on no sockets of files", in_quotes(*text)));
      }
    });
    // They are always there.
    on("http.debug.prometheus.enabled", [](const YAML::Node&, const Place&) {});
    on("http.debug.prometheus.path", [this](const YAML::Node& node, const Place& at) {
      const auto text = reader_.scalar(node, at, "/metrics");
      if (text && !text->empty() && *text != "/metrics") {
        reader_.report().warning(fmt::format("{}: found {}; metrics are at /metrics", at.name, in_quotes(*text)));
      }
    });
  }

  // The words of Go's tls.ClientAuthType, as distribution 3 has them.
  void client_auth(const YAML::Node& node, const Place& at) {
    const auto text = reader_.scalar(node, at, "require-and-verify-client-cert or verify-client-cert-if-given");
    if (!text || text->empty()) return;
    if (*text == "require-and-verify-client-cert")
      return own("server.tls.client_certificate", YAML::Node("required"), at);
    if (*text == "verify-client-cert-if-given") return own("server.tls.client_certificate", YAML::Node("optional"), at);
    reader_.report().problem(at, fmt::format("found {}, expected require-and-verify-client-cert or "
                                             "verify-client-cert-if-given: certificates are never taken unverified",
                                             in_quotes(*text)));
  }

  // A key that must not be left out where it says something.
  void refuse(const std::string& key, std::string expected) {
    on(key, [this, expected = std::move(expected)](const YAML::Node& node, const Place& at) {
      const bool says_nothing = node.IsNull() || (node.IsScalar() && (node.Scalar().empty() || node.Scalar() == "/")) ||
                                ((node.IsMap() || node.IsSequence()) && node.size() == 0);
      if (says_nothing) return;
      reader_.report().problem(
          at, fmt::format("found {}, expected {}", node.IsScalar() ? in_quotes(node.Scalar()) : "a section", expected));
    });
  }

  // distribution drops what it fetched so long ago; here it is what nobody has used for so long.
  void time_to_live(const YAML::Node& node, const Place& at) {
    auto text = go_duration(node, at);
    if (!text || text->empty()) return;
    if (text->starts_with('-')) *text = "0s";
    reader_.report().set(own_field("store.max_age"), settings_, *text, "store.max_age", at);
  }

  void formatter(const YAML::Node& node, const Place& at) {
    const auto text = reader_.scalar(node, at, "text, json or logstash");
    if (!text) return;
    // logstash is JSON with other names for the fields.
    const std::string ours = *text == "logstash" ? "json" : *text;
    if (reader_.report().set(own_field("log.format"), settings_, ours, "log.format", at)) {
      settings_.log.access.format = settings_.log.format;
    }
  }

  void access_log(const YAML::Node& node, const Place& at) {
    const auto text = reader_.scalar(node, at, "true or false");
    if (!text) return;
    bool disabled = false;
    if (*text == "true" || *text == "false") {
      disabled = *text == "true";
    } else {
      reader_.report().problem(at, fmt::format("found {}, expected true or false", in_quotes(*text)));
    }
    settings_.log.access.enabled = !disabled;
  }

  void cache(const YAML::Node& node, const Place& at) {
    const auto text = reader_.scalar(node, at, "inmemory or redis");
    if (!text) return;
    if (*text == "inmemory" || *text == "redis") {
      const std::string ours = *text == "redis" ? "redis" : "memory";
      reader_.report().set(own_field("descriptors.cache"), settings_, ours, "descriptors.cache", at);
      return;
    }
    // distribution, too, only warns about a provider that it does not know.
    settings_.descriptors.cache = DescriptorCache::none;
    reader_.report().warning(fmt::format("{}: found {}; descriptors are cached nowhere", at.name, in_quotes(*text)));
  }

  // Both forms of the section: `addr` and `pool` of version 2, the options of go-redis in version 3. Connections are
  // shared here, so what sizes distribution's pool says nothing.
  void redis() {
    for (const char* key : {"redis.username", "redis.password", "redis.db"}) given(key, key);
    given("redis.addr", "redis.addresses");
    on("redis.addrs", [this](const YAML::Node& node, const Place& at) {
      reader_.set(own_field("redis.addresses"), settings_, node, "redis.addresses", at);
      if (node.IsSequence() && node.size() > 1) {
        reader_.report().warning(
            fmt::format("{}: several addresses are tried in turn; to distribution they are a cluster", at.name));
      }
    });
    for (const auto& [key, own] : {std::pair("redis.dialtimeout", "redis.connect_timeout"),
                                   std::pair("redis.readtimeout", "redis.command_timeout")}) {
      const std::string name = own;
      on(key, [this, name](const YAML::Node& node, const Place& at) { redis_timeout(node, name, at); });
    }
  }

  // As `same`, but Go's zero value, the empty text, is as good as nothing.
  void given(const std::string& key, const std::string& own) {
    on(key, [this, own](const YAML::Node& node, const Place& at) {
      if (node.IsScalar() && node.Scalar().empty()) return;
      reader_.set(own_field(own), settings_, node, own, at);
    });
  }

  void redis_timeout(const YAML::Node& node, const std::string& own, const Place& at) {
    const auto text = go_duration(node, at);
    // To go-redis 0 is its default, and less than that no limit, which nobody shall wait for here.
    if (!text || text->empty() || text->front() == '-' || *text == "0s" || *text == "0ns") return;
    reader_.report().set(own_field(own), settings_, *text, own, at);
  }

  // Go reads a bare number as nanoseconds.
  std::optional<std::string> go_duration(const YAML::Node& node, const Place& at) {
    auto text = reader_.scalar(node, at, "a duration such as 30s");
    if (text && !text->empty() && text->find_first_not_of("0123456789") == std::string::npos) *text += "ns";
    return text;
  }

  void drain(const YAML::Node& node, const Place& at) {
    const auto text = go_duration(node, at);
    if (text) reader_.report().set(own_field("server.drain_timeout"), settings_, *text, "server.drain_timeout", at);
  }

  void upstream(const YAML::Node& root) {
    const auto remote = proxy_.find("proxy.remoteurl");
    const auto url = remote == proxy_.end()
                         ? std::nullopt
                         : reader_.scalar(remote->second.first, remote->second.second, upstream_field("url").expected);
    if (remote == proxy_.end() || (url && url->empty())) {
      const YAML::Node section = root["proxy"];
      reader_.report().problem(
          placed("proxy.remoteurl", reader_.place(section.IsDefined() ? section : root, "proxy.remoteurl")),
          "found nothing, expected the URL of the registry to cache (sluice is a pull-through cache only)");
    }
    if (url && !url->empty()) choose(*url);

    Upstream& target = settings_.upstreams[settings_.default_upstream];
    for (const auto& [key, found] : proxy_) {
      const std::string name = key.substr(key.find('.') + 1);
      const auto& [node, at] = found;
      // Go's zero value: an empty user is none.
      if (node.IsScalar() && node.Scalar().empty()) continue;
      if (name == "exec.lifetime") {
        lifetime(target, node, at);
        continue;
      }
      const std::string ours = name == "remoteurl" ? "url" : name == "exec.command" ? "credential_helper" : name;
      reader_.set(upstream_field(ours), target, node, "upstreams." + settings_.default_upstream + "." + ours, at);
    }
  }

  // Go's durations; what is below zero has always ended already.
  void lifetime(Upstream& target, const YAML::Node& node, const Place& at) {
    auto text = go_duration(node, at);
    if (!text) return;
    if (text->starts_with('-')) *text = "0s";
    reader_.report().set(upstream_field("credential_lifetime"), target, *text,
                         "upstreams." + settings_.default_upstream + ".credential_lifetime", at);
  }

  // Which of our upstreams the remote is. One that we do not know takes the place of Docker Hub, since distribution
  // sends every request to its one remote; `library/` is not added, because distribution does not either.
  void choose(const std::string& url) {
    const std::optional<std::string> parsed = parse_upstream_url(url);
    if (!parsed) return;
    const std::string_view authority = url_authority(*parsed);
    for (const auto& [name, known] : settings_.upstreams) {
      if (url_authority(known.url) != authority) continue;
      settings_.default_upstream = name;
      return;
    }
    if (!is_docker_hub(authority)) settings_.upstreams[settings_.default_upstream].library_prefix = false;
  }

  void warn() {
    std::string names;
    for (const std::string& name : ignored_) names += (names.empty() ? "" : ", ") + name;
    const auto has = [&](std::string_view prefix) {
      return std::any_of(ignored_.begin(), ignored_.end(), [&](const auto& name) { return name.starts_with(prefix); });
    };
    std::string text = "these keys of distribution mean nothing here and are left out: " + names;
    if (has("notifications")) text += "; no events are sent";
    if (has("http.tls.minimumtls") || has("http.tls.ciphersuites"))
      text += "; TLS 1.2 and 1.3 are spoken, as OpenSSL does";
    if (has("redis.tls")) text += "; Redis is spoken to without TLS";
    if (has("redis.mastername")) text += "; no sentinel is asked where Redis is";
    reader_.report().warning(std::move(text));
  }

  YamlReader& reader_;
  const RegistryEnvironment& environment_;
  Settings& settings_;
  std::map<std::string, Read> known_;
  std::map<std::string, std::pair<YAML::Node, Place>> proxy_;
  std::vector<std::string> ignored_;
  bool blobdescriptor_seen_ = false;
};

}  // namespace

void apply_distribution(YAML::Node root, const std::map<std::string, std::string>& environment, YamlReader& reader,
                        Settings& settings) {
  RegistryEnvironment variables(root, reader.report());
  variables.apply(environment);
  DistributionFile(reader, variables, settings).read(root);
}

}  // namespace sluice::config
