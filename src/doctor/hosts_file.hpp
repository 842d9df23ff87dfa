// The folder of containerd's hosts.toml files: which of them decides about a registry, and what it says. Pure.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "doctor/judge.hpp"

namespace sluice::doctor {

struct HostsFolder {
  std::string client;
  std::vector<std::string> roots;  // in the order in which they are tried
  std::map<std::string, std::string> environment;
  std::string partly;  // why only some pulls read it; empty: all do
};

// Whether a folder below one of the roots, or a file of it, says anything about registries.
bool has_hosts(const Files& files, const std::vector<std::string>& roots);

// Adds a verdict for the upstream, and what is wrong with the file that decides about it.
void decide_by_hosts(Judge& judge, const HostsFolder& folder, const std::string& upstream);

// What is wrong with folders that no pull looks into.
void check_hosts_folders(Judge& judge, const HostsFolder& folder);

}  // namespace sluice::doctor
