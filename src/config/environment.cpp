#include <algorithm>
#include <array>

#include <fmt/format.h>
#include <unistd.h>

#include "config/sources.hpp"
#include "config/values.hpp"

namespace sluice::config {
namespace {

constexpr std::string_view kPrefix = "SLUICE_";
constexpr std::string_view kUpstreams = "SLUICE_UPSTREAMS_";

// "server.header_timeout" and "docker.io" as they stand in a variable's name.
std::string mangled(std::string_view key) {
  std::string out;
  for (const char c : key) {
    if (c >= 'a' && c <= 'z') {
      out += static_cast<char>(c - 'a' + 'A');
    } else {
      out += (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ? c : '_';
    }
  }
  return out;
}

bool is_number(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

// Variables that are not for us though they bear our name: those that Kubernetes and Docker links make for a service
// called "sluice" (https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables), and those
// of the build and of the tests. SLUICE_CONFIG is read by main, SLUICE_PASSWORD by `sluice warm`.
bool is_foreign(std::string_view name) {
  constexpr std::array<std::string_view, 8> kNames{"SLUICE_CONFIG",     "SLUICE_PASSWORD",     "SLUICE_PORT",
                                                   "SLUICE_NAME",       "SLUICE_SERVICE_HOST", "SLUICE_JOBS",
                                                   "SLUICE_NO_INSTALL", "SLUICE_BINARY"};
  if (std::find(kNames.begin(), kNames.end(), name) != kNames.end()) return true;
  for (const std::string_view prefix : {"SLUICE_SERVICE_PORT", "SLUICE_E2E_", "SLUICE_TEST_", "SLUICE_ENV_"}) {
    if (name.starts_with(prefix)) return true;
  }
  constexpr std::string_view kPort = "SLUICE_PORT_";
  if (!name.starts_with(kPort)) return false;
  const std::string_view rest = name.substr(kPort.size());
  return is_number(rest.substr(0, rest.find('_')));
}

std::string unknown_variable(std::string_view name, const std::vector<std::string>& known) {
  const auto meant = closest(name, known);
  // Names of upstreams are so long that another one's key would pass for a slip of the pen.
  if (name.starts_with(kUpstreams) && (!meant || edit_distance(name, *meant) > 2)) {
    return "found an unknown variable, expected an upstream that is built in or stands in the file, and one of its "
           "keys, such as SLUICE_UPSTREAMS_GHCR_IO_URL";
  }
  return meant ? fmt::format("found an unknown variable, did you mean {}?", *meant)
               : "found an unknown variable, expected SLUICE_ and the path of a key, such as SLUICE_SERVER_LISTEN";
}

class Environment {
 public:
  Environment(Settings& settings, Report& report) : settings_(settings), report_(report) {
    for (const auto& field : settings_fields()) known_.push_back(std::string(kPrefix) + mangled(field.key));
    for (const auto& [name, upstream] : settings_.upstreams) {
      for (const auto& field : upstream_fields()) known_.push_back(variable(name, field.key));
    }
  }

  void apply(const std::string& name, const std::string& value) {
    const Place place{Source::environment, name, 0};
    for (const auto& field : settings_fields()) {
      if (kPrefix.size() + field.key.size() != name.size() || std::string(kPrefix) + mangled(field.key) != name)
        continue;
      report_.set(field, settings_, value, std::string(field.key), place);
      return;
    }
    for (auto& [upstream_name, upstream] : settings_.upstreams) {
      for (const auto& field : upstream_fields()) {
        if (variable(upstream_name, field.key) != name) continue;
        report_.set(field, upstream, value, fmt::format("upstreams.{}.{}", upstream_name, field.key), place);
        return;
      }
    }
    report_.problem(place, unknown_variable(name, known_));
  }

 private:
  static std::string variable(std::string_view upstream, std::string_view key) {
    return fmt::format("{}{}_{}", kUpstreams, mangled(upstream), mangled(key));
  }

  Settings& settings_;
  Report& report_;
  std::vector<std::string> known_;
};

}  // namespace

namespace {

// HTTPS_PROXY, HTTP_PROXY and NO_PROXY, in capitals or not, as Go's programs and curl read them. What the file says
// about proxies stands above them: they were meant for everybody.
void apply_proxies(const std::map<std::string, std::string>& environment, Settings& settings, Report& report) {
  const auto apply = [&](const char* capitals, const char* small, std::string_view key, bool is_set) {
    const auto& fields = settings_fields();
    const auto& field = *std::find_if(fields.begin(), fields.end(), [&](const auto& f) { return f.key == key; });
    for (const char* name : {capitals, small}) {
      const auto at = environment.find(name);
      if (at == environment.end() || at->second.empty()) continue;
      if (!is_set) report.set(field, settings, at->second, std::string(key), Place{Source::environment, name, 0});
      return;
    }
  };
  // Where it is a CGI script HTTP_PROXY is a header of the request (CVE-2016-5385).
  if (!environment.contains("REQUEST_METHOD")) {
    apply("HTTP_PROXY", "http_proxy", "proxy.http", !settings.proxy.http.empty());
  }
  apply("HTTPS_PROXY", "https_proxy", "proxy.https", !settings.proxy.https.empty());
  apply("NO_PROXY", "no_proxy", "proxy.no_proxy", !settings.proxy.no_proxy.empty());
}

}  // namespace

void apply_environment(const std::map<std::string, std::string>& environment, Settings& settings, Report& report) {
  apply_proxies(environment, settings, report);
  Environment reader(settings, report);
  for (auto at = environment.lower_bound(std::string(kPrefix)); at != environment.end(); ++at) {
    if (!at->first.starts_with(kPrefix)) break;
    if (!is_foreign(at->first)) reader.apply(at->first, at->second);
  }
}

std::map<std::string, std::string> process_environment() {
  std::map<std::string, std::string> out;
  for (char** at = environ; at != nullptr && *at != nullptr; ++at) {
    const std::string_view entry(*at);
    const std::size_t equals = entry.find('=');
    if (equals != std::string_view::npos) out.emplace(entry.substr(0, equals), entry.substr(equals + 1));
  }
  return out;
}

}  // namespace sluice::config
