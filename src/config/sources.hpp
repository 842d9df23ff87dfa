// The places that settings come from, each applied on top of what stands there. Internal to this folder.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "config/load.hpp"
#include "config/report.hpp"
#include "config/settings.hpp"

namespace sluice::config {

// `environment` counts where the file is one of distribution's.
void apply_file(const std::filesystem::path& file, const std::map<std::string, std::string>& environment,
                Settings& settings, Report& report);

void apply_environment(const std::map<std::string, std::string>& environment, Settings& settings, Report& report);

void apply_command_line(const Overrides& overrides, Settings& settings, Report& report);

// "found an unknown key, …" with the key that was probably meant, or with those that there are. `siblings` are the
// names that may stand in this place.
std::string unknown_key(std::string_view key, const std::vector<std::string>& siblings);

}  // namespace sluice::config
