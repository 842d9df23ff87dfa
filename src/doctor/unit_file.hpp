// A service of systemd: how a daemon is started, from its unit and the drop-ins of it. Pure.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "doctor/files.hpp"

namespace sluice::doctor {

struct Service {
  bool found = false;
  std::vector<std::string> command;                // ExecStart, in words, with variables filled in
  std::map<std::string, std::string> environment;  // Environment and EnvironmentFile
  std::string file;                                // where ExecStart stands

  // The values of an option, "--registry-mirror=X" or "--registry-mirror X".
  [[nodiscard]] std::vector<std::string> option(const std::string& name) const;
};

// "docker.service" of the system, or of a user with that home.
Service read_service(const Files& files, const std::string& name, const std::string& home = {});

// NAME=value lines, as of /etc/default/docker.
std::map<std::string, std::string> parse_environment(const std::string& text);

}  // namespace sluice::doctor
