#include "app/hints.hpp"

#include <fmt/format.h>

namespace sluice::app {
namespace {

// The address to type into a client on this machine: one that listens everywhere is reached on loopback.
std::string reachable(const config::Endpoint& listen) {
  config::Endpoint at = listen;
  if (at.address.empty() || at.address == "0.0.0.0") at.address = "127.0.0.1";
  if (at.address == "::") at.address = "::1";
  return at.to_string();
}

// What containerd's `server` should say: where to go when sluice is not there. Docker Hub's own name is an alias that
// does not serve the API.
std::string fallback(const std::string& upstream) {
  return upstream == "docker.io" ? "https://registry-1.docker.io" : "https://" + upstream;
}

std::string others(const config::Settings& settings) {
  std::string out;
  for (const auto& [name, upstream] : settings.upstreams) {
    if (name != settings.default_upstream) out += (out.empty() ? "" : ", ") + name;
  }
  return out;
}

}  // namespace

std::string client_hints(const config::Settings& settings, const config::Endpoint& listen,
                         const config::Endpoint& admin) {
  const std::string address = reachable(listen);
  const std::string& name = settings.default_upstream;
  const auto upstream = settings.upstreams.find(name);
  std::string out = fmt::format("\nsluice listens on http://{} and caches {} ({}).\n", address, name,
                                upstream == settings.upstreams.end() ? "" : upstream->second.url);
  out += fmt::format("Status and metrics: http://{}/\n", reachable(admin));
  if (name == "docker.io") {
    out += fmt::format(
        "\ndocker, in /etc/docker/daemon.json, then restart it:\n"
        "  {{ \"registry-mirrors\": [\"http://{}\"] }}\n",
        address);
  }
  out += fmt::format(
      "\ncontainerd, in /etc/containerd/certs.d/{0}/hosts.toml:\n"
      "  server = \"{1}\"\n"
      "  [host.\"http://{2}\"]\n"
      "    capabilities = [\"pull\", \"resolve\"]\n",
      name, fallback(name), address);
  out += fmt::format(
      "\npodman, skopeo and buildah, in /etc/containers/registries.conf.d/sluice.conf:\n"
      "  [[registry]]\n"
      "  prefix = \"{0}\"\n"
      "  location = \"{0}\"\n"
      "  [[registry.mirror]]\n"
      "  location = \"{1}\"\n"
      "  insecure = true\n",
      name, address);
  if (const std::string more = others(settings); !more.empty()) {
    out += fmt::format("\nThe same containerd file under its own name caches each of: {}.\n", more);
  }
  return out + "\n";
}

}  // namespace sluice::app
