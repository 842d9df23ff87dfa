#include "app/file_check.hpp"

#include <fmt/format.h>

#include "http/client.hpp"

namespace sluice::app {

std::string wrong_files(const config::Settings& settings) {
  std::string out;
  for (const auto& [name, upstream] : settings.upstreams) {
    if (upstream.ca_file.empty()) continue;
    const auto loaded = http::TlsContext::load(upstream.ca_file.native());
    if (!loaded) out += fmt::format("upstreams.{}.ca_file: {}\n", name, loaded.error().message);
  }
  return out;
}

}  // namespace sluice::app
