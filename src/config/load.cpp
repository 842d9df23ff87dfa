#include "config/load.hpp"

#include <algorithm>
#include <fstream>
#include <map>
#include <string>
#include <tuple>

#include <fmt/format.h>

#include "base/upstream_name.hpp"
#include "config/sources.hpp"
#include "config/values.hpp"

namespace sluice::config {
namespace {

constexpr std::size_t kMaxPasswordBytes = 64 * 1024;

// The first line of a secret's file, as Docker and Kubernetes mount them.
void read_password(const std::filesystem::path& file, std::string& password, const Place& place, Report& report) {
  std::ifstream in(file, std::ios::binary);
  std::string text(kMaxPasswordBytes + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(in.gcount()));
  text.resize(std::min(text.find_first_of("\r\n"), text.size()));
  if (text.empty() || text.size() > kMaxPasswordBytes) {
    report.problem(place, fmt::format("found {}, expected a readable file with the password on its first line",
                                      in_quotes(file.string())));
    return;
  }
  password = std::move(text);
}

// The password below `path`, from the one place or the other. False when both were given, which is reported.
bool settle_password(const std::string& path, std::string& password, std::filesystem::path& password_file,
                     Report& report) {
  const Place text = report.origin(path + ".password");
  const Place file = report.origin(path + ".password_file");
  if (!password.empty() && !password_file.empty()) {
    if (text.source == file.source) {
      report.problem(file, "found beside password, expected only one of the two");
      return false;
    }
    if (text.source < file.source) {
      password.clear();
    } else {
      password_file.clear();
    }
  }
  if (!password_file.empty()) read_password(password_file, password, file, report);
  return true;
}

// A login that cannot be one. `path` is the mapping that it stands in.
void check_login(const std::string& path, Login& login, Report& report) {
  if (!settle_password(path, login.password, login.password_file, report)) return;
  const bool has_password = !login.password.empty() || !login.password_file.empty();
  const bool known = !report.refused(path + ".username") && !report.refused(path + ".password") &&
                     (login.password_file.empty() || !login.password.empty());
  if (known && login.username.empty() != login.password.empty()) {
    report.problem(report.origin(path + (login.username.empty() ? ".password" : ".username")),
                   login.username.empty() ? "found without username, expected both or neither"
                                          : "found without password or password_file, expected both or neither");
  }
  const bool has_helper = !login.credential_helper.empty();
  if (!login.docker_config.empty()) {
    const Place place = report.origin(path + ".docker_config");
    if (has_password || has_helper) {
      report.problem(place,
                     "found beside another login, expected one of password, docker_config and credential_helper");
    }
    if (!std::ifstream(login.docker_config).good()) {
      report.problem(place, fmt::format("found {}, expected a readable file", in_quotes(login.docker_config.string())));
    }
  } else if (has_helper && has_password) {
    report.problem(report.origin(path + ".credential_helper"),
                   "found beside another login, expected one of password, docker_config and credential_helper");
  }
  if (login.credential_lifetime && !has_helper) {
    report.problem(report.origin(path + ".credential_lifetime"), "found without credential_helper, expected both");
  }
}

void check_rules(const std::string& path, Upstream& upstream, Report& report) {
  for (std::size_t i = 0; i < upstream.credentials.size(); ++i) {
    CredentialRule& rule = upstream.credentials[i];
    const std::string at = fmt::format("{}.credentials[{}]", path, i);
    check_login(at, rule, report);
    if (rule.repositories.empty() && !report.refused(at + ".repositories")) {
      report.problem(report.origin(at), "found without repositories, expected a list of patterns");
    }
    const bool has_login = !rule.username.empty() || !rule.password.empty() || !rule.docker_config.empty() ||
                           !rule.credential_helper.empty();
    if (rule.anonymous == has_login) {
      report.problem(report.origin(at), has_login ? "found anonymous beside a login, expected one of the two"
                                                  : "found no login, expected one, or anonymous: true");
    }
  }
}

void check_readable(const std::string& path, const std::filesystem::path& file, Report& report) {
  if (file.empty() || std::ifstream(file).good()) return;
  report.problem(report.origin(path), fmt::format("found {}, expected a readable PEM file", in_quotes(file.string())));
}

void check_upstream(const std::string& name, Upstream& upstream, Report& report) {
  const std::string path = "upstreams." + name;
  check_login(path, upstream, report);
  check_rules(path, upstream, report);
  check_readable(path + ".ca_file", upstream.ca_file, report);
  check_readable(path + ".cert_file", upstream.cert_file, report);
  check_readable(path + ".key_file", upstream.key_file, report);
  if (upstream.cert_file.empty() != upstream.key_file.empty()) {
    report.problem(report.origin(path + (upstream.cert_file.empty() ? ".key_file" : ".cert_file")),
                   "found alone, expected both cert_file and key_file");
  }
  const bool has_login =
      !upstream.docker_config.empty() || !upstream.credential_helper.empty() || !upstream.credentials.empty();
  const bool has_account = !upstream.username.empty() || !upstream.password.empty();
  if (upstream.access == Access::passthrough && (has_account || has_login)) {
    report.problem(report.origin(path + ".access"),
                   fmt::format("found passthrough beside a {}, expected clients' own logins alone",
                               has_account ? "username" : "login"));
  }
  std::vector<std::string*> urls{&upstream.url};
  for (std::string& endpoint : upstream.endpoints) {
    if (const auto parsed = parse_upstream_url(endpoint)) endpoint = *parsed;
    urls.push_back(&endpoint);
  }
  bool any_tls = false;
  for (const std::string* url : urls) {
    if (!url->starts_with("http://")) {
      any_tls = true;
    } else if (!upstream.password.empty()) {
      report.warning(fmt::format("upstreams.{}: the password goes to {} in the clear", name, *url));
    }
  }
  if (!any_tls && !upstream.ca_file.empty()) {
    report.problem(report.origin(path + ".ca_file"), "found for an http URL, expected an https URL");
  }
}

// Each request would go to one of them, whatever the other's `access` and login are.
void check_names(const Settings& settings, Report& report) {
  const auto embedded = Settings::embedded_upstreams();
  std::map<std::string, std::string> known;
  for (const auto& [name, upstream] : settings.upstreams) {
    const auto [at, is_new] = known.try_emplace(canonical_upstream_name(name), name);
    if (is_new) continue;
    // The one that the configuration names, where the other is there by itself.
    const bool is_embedded = embedded.find(name) != embedded.end();
    const std::string& shown = is_embedded ? at->second : name;
    const std::string& other = is_embedded ? name : at->second;
    report.problem(report.origin("upstreams." + shown),
                   fmt::format("found {} beside {}, expected one of the two: both name the same registry",
                               in_quotes(shown), in_quotes(other)));
  }
}

void check_redis(Settings& settings, Report& report) {
  Redis& redis = settings.redis;
  if (settings.descriptors.cache != DescriptorCache::redis) {
    if (!redis.addresses.empty()) {
      report.warning("redis: its addresses are not used, because descriptors.cache is not redis");
    }
    return;
  }
  if (redis.addresses.empty() && !report.refused("redis.addresses")) {
    report.problem(report.origin("descriptors.cache"), "found redis without redis.addresses, expected where Redis is");
  }
  if (!settle_password("redis", redis.password, redis.password_file, report)) return;
  const bool known = !report.refused("redis.password") && (redis.password_file.empty() || !redis.password.empty());
  if (known && !redis.username.empty() && redis.password.empty()) {
    report.problem(report.origin("redis.username"),
                   "found without password or password_file, expected both or neither");
  }
}

bool is_loopback(const Endpoint& at) { return at.address.starts_with("127.") || at.address == "::1"; }

void check_entry(const Settings& settings, Report& report) {
  const Tls& tls = settings.server.tls;
  check_readable("server.tls.cert_file", tls.cert_file, report);
  check_readable("server.tls.key_file", tls.key_file, report);
  check_readable("server.tls.client_ca_file", tls.client_ca_file, report);
  if (tls.cert_file.empty() != tls.key_file.empty()) {
    report.problem(report.origin(tls.cert_file.empty() ? "server.tls.key_file" : "server.tls.cert_file"),
                   "found alone, expected both cert_file and key_file");
  }
  if (tls.cert_file.empty() && !tls.client_ca_file.empty()) {
    report.problem(report.origin("server.tls.client_ca_file"), "found without cert_file, expected both");
  }
  const Place certificate = report.origin("server.tls.client_certificate");
  if (tls.client_ca_file.empty() && tls.client_certificate == ClientCertificate::required &&
      certificate.source != Source::embedded) {
    report.problem(certificate, "found required without server.tls.client_ca_file, expected who vouches for clients");
  }
  if (settings.server.proxy_protocol && settings.server.trusted_proxies.empty()) {
    report.problem(report.origin("server.proxy_protocol"),
                   "found without server.trusted_proxies, expected whose headers are believed");
  }
  const std::filesystem::path& logins = settings.auth.htpasswd_file;
  if (logins.empty()) return;
  if (!std::ifstream(logins).good()) {
    report.problem(report.origin("auth.htpasswd_file"),
                   fmt::format("found {}, expected a readable file", in_quotes(logins.string())));
  }
  for (const auto& [name, upstream] : settings.upstreams) {
    if (upstream.access != Access::passthrough) continue;
    report.problem(report.origin("auth.htpasswd_file"),
                   fmt::format("found beside upstreams.{}.access: passthrough, expected one of the two: a request has "
                               "one Authorization, for the cache or for the upstream",
                               name));
  }
  if (tls.cert_file.empty() && settings.server.trusted_proxies.empty() && !is_loopback(settings.server.listen)) {
    report.warning("auth.htpasswd_file: without server.tls the passwords of clients come in the clear");
  }
}

bool has_login(const Upstream& upstream) {
  const auto with_login = [](const CredentialRule& rule) { return !rule.anonymous; };
  return !upstream.username.empty() || !upstream.docker_config.empty() || !upstream.credential_helper.empty() ||
         !upstream.cert_file.empty() ||
         std::any_of(upstream.credentials.begin(), upstream.credentials.end(), with_login);
}

// What works, and may not be what was meant.
void warn_about_access(const Settings& settings, Report& report) {
  std::string lent;
  for (const auto& [name, upstream] : settings.upstreams) {
    const bool is_default = name == settings.default_upstream || !settings.server.host_pattern.empty();
    if (upstream.access == Access::passthrough && !is_default) {
      report.warning(fmt::format(
          "upstreams.{0}.access: passthrough: docker and podman cannot log in there, because GET /v2/ tells "
          "them how to log in at the default upstream, {1}; make {0} the default_upstream, or set "
          "server.host_pattern",
          name, settings.default_upstream));
    }
    if (upstream.access == Access::open && has_login(upstream)) lent += (lent.empty() ? "" : ", ") + name;
  }
  const Tls& tls = settings.server.tls;
  const bool by_certificate = !tls.client_ca_file.empty() && tls.client_certificate == ClientCertificate::required;
  const bool limited = !settings.server.allow.empty() || !settings.auth.htpasswd_file.empty() || by_certificate ||
                       is_loopback(settings.server.listen);
  if (lent.empty() || limited) return;
  report.warning(
      fmt::format("server.listen is {}: whoever reaches this port may pull with sluice's own login at {}; "
                  "limit that with server.allow, auth.htpasswd_file, or access: passthrough of the upstream",
                  settings.server.listen.to_string(), lent));
}

// Whether what stands before a pattern's first slash can be that upstream's name. `**` there may go past the slash.
bool fits_upstream(std::string_view pattern, std::string_view name) {
  // Behind it anything may come, as behind one star at the end.
  if (const std::size_t wide = pattern.find("**"); wide != std::string_view::npos)
    pattern = pattern.substr(0, wide + 1);
  std::size_t star = std::string_view::npos;
  std::size_t star_at = 0;
  std::size_t p = 0;
  for (std::size_t n = 0; n < name.size();) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      star_at = n;
    } else if (p < pattern.size() && pattern[p] == name[n]) {
      ++p;
      ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++star_at;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

// Why no repository of any upstream has such a name; empty where one may have.
std::string why_never(std::string_view pattern, const Settings& settings) {
  const std::size_t slash = pattern.find('/');
  const std::string_view first = pattern.substr(0, slash);
  const std::string_view rest = slash == std::string_view::npos ? "" : pattern.substr(slash + 1);
  std::string names;
  bool any = false;
  bool all_library = true;
  for (const auto& [name, upstream] : settings.upstreams) {
    names += (names.empty() ? "" : ", ") + name;
    if (!fits_upstream(first, name)) continue;
    any = true;
    all_library = all_library && upstream.library_prefix;
  }
  if (!any) return "with the name of an upstream before the first slash: " + names;
  if (first.find("**") != std::string_view::npos) return {};
  if (rest.empty()) return fmt::format("with a repository behind the upstream, such as {}/**", first);
  if (!all_library || rest.find('/') != std::string_view::npos || rest.find("**") != std::string_view::npos) return {};
  return fmt::format("{}/library/{}: names of one part are below library/ there", first, rest);
}

// A pattern that fits nothing would leave open what it was to close.
void check_patterns(const Settings& settings, Report& report) {
  const auto check_all = [&](const char* key, const std::vector<std::string>& patterns) {
    for (const std::string& pattern : patterns) {
      const std::string expected = why_never(pattern, settings);
      if (expected.empty()) continue;
      report.problem(report.origin(key), fmt::format("found {}, which fits no repository, expected a pattern {}",
                                                     in_quotes(pattern), expected));
    }
  };
  check_all("repositories.allow", settings.repositories.allow);
  check_all("repositories.deny", settings.repositories.deny);
}

// What no single key can tell.
void check(Settings& settings, Report& report) {
  for (auto& [name, upstream] : settings.upstreams) check_upstream(name, upstream, report);
  check_names(settings, report);
  check_redis(settings, report);
  check_entry(settings, report);
  warn_about_access(settings, report);
  check_patterns(settings, report);

  if (settings.upstreams.find(settings.default_upstream) == settings.upstreams.end()) {
    std::string names;
    for (const auto& [name, upstream] : settings.upstreams) names += (names.empty() ? "" : ", ") + name;
    report.problem(report.origin("default_upstream"), fmt::format("found {}, expected the name of an upstream: {}",
                                                                  in_quotes(settings.default_upstream), names));
  }

  const Endpoint& listen = settings.server.listen;
  const Endpoint& admin = settings.admin.listen;
  const auto is_any = [](const Endpoint& at) {
    return at.address.empty() || at.address == "0.0.0.0" || at.address == "::";
  };
  const bool any = is_any(listen) || is_any(admin);
  if (is_any(admin)) {
    report.warning(
        fmt::format("admin.listen is {}, every address of this machine: whoever reaches the port reads metrics "
                    "and may remove what is cached, without a login; let a firewall keep others away, or "
                    "listen on one address",
                    admin.to_string()));
  }
  if (listen.port != 0 && listen.port == admin.port && (any || listen.address == admin.address)) {
    const Place server_place = report.origin("server.listen");
    const Place admin_place = report.origin("admin.listen");
    const bool server_is_later =
        std::tie(server_place.source, server_place.line) >= std::tie(admin_place.source, admin_place.line);
    report.problem(server_is_later ? server_place : admin_place,
                   fmt::format("found {} for both server.listen and admin.listen, expected two ports", listen.port));
  }

  std::error_code ec;
  const std::filesystem::path absolute = std::filesystem::absolute(settings.data, ec);
  if (!ec) settings.data = absolute.lexically_normal();
}

template <class Owner>
const Field<Owner>& field(const std::vector<Field<Owner>>& fields, std::string_view key) {
  return *std::find_if(fields.begin(), fields.end(), [&](const auto& f) { return f.key == key; });
}

}  // namespace

void apply_command_line(const Overrides& overrides, Settings& settings, Report& report) {
  const auto set = [&](const std::optional<std::string>& text, const char* option, const char* key) {
    if (!text) return;
    report.set(field(settings_fields(), key), settings, *text, key, Place{Source::command_line, option, 0});
  };
  set(overrides.listen, "--listen", "server.listen");
  set(overrides.admin, "--admin", "admin.listen");
  set(overrides.data, "--data", "data");
  set(overrides.log_level, "--log-level", "log.level");
  set(overrides.log_format, "--log-format", "log.format");
  if (!overrides.upstream) return;
  const auto upstream = settings.upstreams.find(settings.default_upstream);
  if (upstream == settings.upstreams.end()) return;  // check() reports it
  report.set(field(upstream_fields(), "url"), upstream->second, *overrides.upstream,
             fmt::format("upstreams.{}.url", upstream->first), Place{Source::command_line, "--upstream", 0});
  // Clients that mean Docker Hub's short names send library/ themselves; whoever names a registry of his own by hand
  // means the names that it has.
  if (!is_docker_hub(url_authority(upstream->second.url))) upstream->second.library_prefix = false;
}

namespace {

void apply_all(const LoadParams& params, Settings& settings, Report& report) {
  if (params.file) apply_file(*params.file, params.environment, settings, report);
  apply_environment(params.environment, settings, report);
  apply_command_line(params.overrides, settings, report);
}

}  // namespace

Settings load_readable(const LoadParams& params) {
  Settings settings;
  Report report;
  apply_all(params, settings, report);
  return settings;
}

Result<Settings> load(const LoadParams& params) {
  Settings settings;
  Report report;
  apply_all(params, settings, report);
  check(settings, report);
  if (!report.ok()) return Error{Errc::config_invalid, report.text()};
  settings.warnings = report.warnings();
  return settings;
}

}  // namespace sluice::config
