#include "app/file_check.hpp"

#include <fmt/format.h>

#include "app/front_door.hpp"
#include "http/client.hpp"
#include "http/tls_server.hpp"

namespace sluice::app {

std::string wrong_files(const config::Settings& settings) {
  std::string out;
  if (!settings.server.tls.cert_file.empty()) {
    const auto loaded = http::TlsServerContext::load(tls_params(settings.server.tls));
    if (!loaded) out += fmt::format("server.tls: {}\n", loaded.error().message);
  }
  for (const auto& [name, upstream] : settings.upstreams) {
    if (upstream.ca_file.empty()) continue;
    const auto loaded = http::TlsContext::load(upstream.ca_file.native());
    if (!loaded) out += fmt::format("upstreams.{}.ca_file: {}\n", name, loaded.error().message);
  }
  return out;
}

}  // namespace sluice::app
