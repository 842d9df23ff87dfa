// From the configuration file, the environment and the command line to Settings.
//
// Each source stands above the one before it: embedded defaults, file, environment, command line. The file is YAML, or
// a config.yml of distribution's registry with a `proxy:` section. Everything is validated, and all that is wrong is
// reported at once. Called by main, before any thread starts; reads the file and those that it names.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "base/result.hpp"
#include "config/settings.hpp"

namespace sluice::config {

// What the command line says, as it was typed.
struct Overrides {
  std::optional<std::string> listen;
  std::optional<std::string> admin;
  std::optional<std::string> data;
  std::optional<std::string> upstream;  // the URL of the default upstream
  std::optional<std::string> log_level;
  std::optional<std::string> log_format;
};

struct LoadParams {
  std::optional<std::filesystem::path> file;
  // All of it, or what tests choose; names that start with SLUICE_ are looked at, and those of proxies (NO_PROXY).
  std::map<std::string, std::string> environment;
  Overrides overrides;
};

// Errors: config_invalid. Its message has one line for each thing that is wrong, sorted by where it stands:
// "FILE:LINE: key.path: found …, expected …", "SLUICE_KEY_PATH: found …" or "--option: found …". No line holds a
// secret.
Result<Settings> load(const LoadParams& params);

// What of it can be read, the mistakes left out: only to find a running sluice whose configuration it may be.
Settings load_readable(const LoadParams& params);

// This process's environment in the form that LoadParams wants.
std::map<std::string, std::string> process_environment();

}  // namespace sluice::config
