#include "config/load.hpp"

#include <algorithm>
#include <fstream>
#include <tuple>

#include <fmt/format.h>

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

void check_password(const std::string& path, Upstream& upstream, Report& report) {
  if (!settle_password(path, upstream.password, upstream.password_file, report)) return;
  const bool known = !report.refused(path + ".username") && !report.refused(path + ".password") &&
                     (upstream.password_file.empty() || !upstream.password.empty());
  if (known && upstream.username.empty() != upstream.password.empty()) {
    report.problem(report.origin(path + (upstream.username.empty() ? ".password" : ".username")),
                   upstream.username.empty() ? "found without username, expected both or neither"
                                             : "found without password or password_file, expected both or neither");
  }
}

void check_upstream(const std::string& name, Upstream& upstream, Report& report) {
  const std::string path = "upstreams." + name;
  check_password(path, upstream, report);
  if (!upstream.ca_file.empty() && !std::ifstream(upstream.ca_file).good()) {
    report.problem(report.origin(path + ".ca_file"),
                   fmt::format("found {}, expected a readable PEM file", in_quotes(upstream.ca_file.string())));
  }
  if (upstream.access == Access::passthrough && !(upstream.username.empty() && upstream.password.empty())) {
    report.problem(report.origin(path + ".access"),
                   "found passthrough beside a username, expected clients' own logins alone");
  }
  if (upstream.url.starts_with("http://")) {
    if (!upstream.ca_file.empty()) {
      report.problem(report.origin(path + ".ca_file"), "found for an http URL, expected an https URL");
    }
    if (!upstream.password.empty()) {
      report.warning(fmt::format("upstreams.{}: the password goes to {} in the clear", name, upstream.url));
    }
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

// What no single key can tell.
void check(Settings& settings, Report& report) {
  for (auto& [name, upstream] : settings.upstreams) check_upstream(name, upstream, report);
  check_redis(settings, report);

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

Result<Settings> load(const LoadParams& params) {
  Settings settings;
  Report report;
  if (params.file) apply_file(*params.file, settings, report);
  apply_environment(params.environment, settings, report);
  apply_command_line(params.overrides, settings, report);
  check(settings, report);
  if (!report.ok()) return Error{Errc::config_invalid, report.text()};
  settings.warnings = report.warnings();
  return settings;
}

}  // namespace sluice::config
