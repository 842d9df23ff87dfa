// A configuration file, ours or distribution's: what is taken says the same when it is printed and read again, and no
// message or printout repeats a password.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include <unistd.h>

#include "config/load.hpp"
#include "config/settings.hpp"
#include "fuzz/expect.hpp"

using namespace sluice;

namespace {

// Where the text has it, it is a password.
constexpr std::string_view kSecret = "hunter2hunter2";

const std::filesystem::path& file() {
  static const std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("sluice-fuzz-config-" + std::to_string(::getpid()) + ".yml");
  return path;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  {
    std::ofstream out(file(), std::ios::binary | std::ios::trunc);
    out.write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
  }
  config::LoadParams params;
  params.file = file();
  const Result<config::Settings> settings = config::load(params);
  if (!settings) {
    SLUICE_EXPECT(settings.error().code == Errc::config_invalid && !settings.error().message.empty());
    SLUICE_EXPECT(settings.error().message.find('\0') == std::string::npos);
  } else {
    SLUICE_EXPECT(config::changed_keys(*settings, *settings).empty());
    const std::string said = config::describe(*settings);
    for (const auto& [name, upstream] : settings->upstreams) {
      SLUICE_EXPECT(upstream.password != kSecret || said.find(kSecret) == std::string::npos);
    }
  }
  std::filesystem::remove(file());
  return 0;
}
