#include "app/hints.hpp"

#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace sluice::app {
namespace {

bool is_everywhere(const config::Endpoint& listen) {
  return listen.address.empty() || listen.address == "0.0.0.0" || listen.address == "::";
}

bool is_loopback(const config::Endpoint& listen) {
  return listen.address.starts_with("127.") || listen.address == "::1" || listen.address == "localhost";
}

// The address to type into a client on this machine: one that listens everywhere is reached on loopback.
std::string reachable(const config::Endpoint& listen) {
  config::Endpoint at = listen;
  if (at.address.empty() || at.address == "0.0.0.0") at.address = "127.0.0.1";
  if (at.address == "::") at.address = "::1";
  return at.to_string();
}

constexpr std::string_view kDockerHub = "https://registry-1.docker.io";

std::vector<std::string> others(const config::Settings& settings) {
  std::vector<std::string> out;
  for (const auto& [name, upstream] : settings.upstreams) {
    if (name != settings.default_upstream) out.push_back(name);
  }
  return out;
}

}  // namespace

std::string client_hints(const config::Settings& settings, const config::Endpoint& listen,
                         const config::Endpoint& admin) {
  // Whoever collects the log as JSON wants nothing else on standard error.
  if (settings.log.format == log::Format::json) return {};
  const std::string address = reachable(listen);
  const std::string& name = settings.default_upstream;
  const auto upstream = settings.upstreams.find(name);
  const std::string url = upstream == settings.upstreams.end() ? "" : upstream->second.url;
  const bool tls = !settings.server.tls.cert_file.empty();
  const std::string here = (tls ? "https://" : "http://") + address;
  std::string out = fmt::format("\nsluice listens on {} and caches {} ({}).\n", here, name, url);
  out += fmt::format("Status and metrics: http://{}/\n", reachable(admin));
  if (is_everywhere(listen)) {
    out += fmt::format("On other machines use this machine's name or address instead of {}.\n",
                       address.substr(0, address.rfind(':')));
  } else if (is_loopback(listen)) {
    out += fmt::format("Only this machine reaches it; --listen :{} opens it to others.\n", listen.port);
  }
  // docker speaks plain HTTP to loopback without being told to.
  if (is_loopback(listen) || is_everywhere(listen)) {
    out += fmt::format("\nTo try it without configuring anything:\n  docker pull {}/{}\n", address,
                       url == kDockerHub ? "library/busybox" : "NAME");
  }
  if (name == "docker.io") {
    out += fmt::format(
        "\ndocker, in /etc/docker/daemon.json, then restart it:\n"
        "  {{ \"registry-mirrors\": [\"{}\"] }}\n",
        here);
  }
  out += fmt::format(
      "\ncontainerd, in /etc/containerd/certs.d/{0}/hosts.toml:\n"
      "  server = \"{1}\"\n"
      "  [host.\"{2}\"]\n"
      "    capabilities = [\"pull\", \"resolve\"]\n",
      name, url, here);
  out += fmt::format(
      "\npodman, skopeo and buildah, in /etc/containers/registries.conf.d/sluice.conf:\n"
      "  [[registry]]\n"
      "  prefix = \"{0}\"\n"
      "  location = \"{0}\"\n"
      "  [[registry.mirror]]\n"
      "  location = \"{1}\"\n{2}",
      name, address, tls ? "" : "  insecure = true\n");
  if (const std::vector<std::string> more = others(settings); !more.empty()) {
    out += fmt::format(
        "\nIt caches these too: {0}.\n"
        "  containerd: the same file under the other name\n"
        "  podman, skopeo and buildah: the same with that name, at location = \"{1}/{2}\"\n"
        "  any client, docker too: pull {1}/{2}/NAME\n",
        fmt::join(more, ", "), address, more.front());
  }
  return out + "\n";
}

}  // namespace sluice::app
