// The variables REGISTRY_A_B_C of distribution, laid over its config.yml. Internal to this folder; part of the reader
// of that file (distribution.cpp).
#pragma once

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "config/yaml.hpp"

namespace sluice::config {

inline std::string lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(), [](unsigned char c) { return std::tolower(c); });
  return out;
}

// As distribution does it: each underscore is a step down, values are YAML, parents come before their children, an item
// of a list is a number, and the number behind the last item adds one. A variable that is no key is warned about there,
// and so here.
class RegistryEnvironment {
 public:
  RegistryEnvironment(const YAML::Node& root, Report& report) : root_(root), report_(report) {}

  void apply(const std::map<std::string, std::string>& environment) {
    constexpr std::string_view kPrefix = "REGISTRY_";
    std::string unknown;
    for (auto at = environment.lower_bound(std::string(kPrefix)); at != environment.end(); ++at) {
      if (!at->first.starts_with(kPrefix)) break;
      if (at->first == "REGISTRY_CONFIGURATION_PATH") continue;
      std::vector<std::string> path = steps(lower(std::string_view(at->first).substr(kPrefix.size())));
      if (std::find(kSections.begin(), kSections.end(), path.front()) == kSections.end()) {
        unknown += (unknown.empty() ? "" : ", ") + at->first;
        continue;
      }
      // go-redis's options, which distribution 3 has inlined.
      if (path.size() > 2 && path[0] == "redis" && path[1] == "options") path.erase(path.begin() + 1);
      lay(path, at->first, at->second);
    }
    if (!unknown.empty()) report_.warning("these variables are no key of distribution, and are left out: " + unknown);
  }

  // Where the value at `path` comes from: a variable, or else `in_file`.
  [[nodiscard]] Place place(std::string path, const Place& in_file) const {
    // A section that a variable has opened.
    const auto below = names_.lower_bound(path + ".");
    const bool opened = below != names_.end() && below->first.starts_with(path + ".");
    if (opened && in_file.line <= 0) return {Source::environment, below->second, 0};
    for (;;) {
      if (const auto at = names_.find(path); at != names_.end()) return {Source::environment, at->second, 0};
      const std::size_t dot = path.rfind('.');
      if (dot == std::string::npos) return in_file;
      path.resize(dot);
    }
  }

 private:
  static constexpr std::array<std::string_view, 17> kSections{
      "version", "log",    "loglevel", "storage", "auth", "middleware", "reporting",     "http",  "notifications",
      "redis",   "health", "catalog",  "proxy",   "tags", "validation", "compatibility", "policy"};

  static std::vector<std::string> steps(const std::string& text) {
    std::vector<std::string> out;
    for (std::size_t from = 0; from <= text.size();) {
      const std::size_t to = std::min(text.find('_', from), text.size());
      out.push_back(text.substr(from, to - from));
      from = to + 1;
    }
    return out;
  }

  void lay(const std::vector<std::string>& path, const std::string& name, const std::string& value) {
    const Place place{Source::environment, name, 0};
    YAML::Node node(root_);
    std::string dotted;
    for (std::size_t i = 0; i < path.size(); ++i) {
      std::string step = path[i];
      if (step == "0" && (!node.IsDefined() || node.IsNull())) node.push_back(YAML::Node());
      if (i == 1 && node.IsScalar() && (path[0] == "auth" || path[0] == "storage")) open(node);
      if (node.IsSequence()) {
        std::size_t index = 0;
        const auto [end, ec] = std::from_chars(step.data(), step.data() + step.size(), index);
        if (ec != std::errc{} || end != step.data() + step.size() || index > node.size()) {
          report_.problem(place, fmt::format("found no item {} of the list {}", step, dotted));
          return;
        }
        if (index == node.size()) node.push_back(YAML::Node());
        node.reset(node[index]);
      } else if (node.IsMap() || node.IsNull() || !node.IsDefined()) {
        for (const auto& entry : node) {
          if (entry.first.IsScalar() && lower(entry.first.Scalar()) == step) step = entry.first.Scalar();
        }
        node.reset(node[step]);
      } else {
        report_.problem(place, fmt::format("found below {}, which is no section", dotted));
        return;
      }
      dotted = child(dotted, step);
    }
    try {
      node = YAML::Load(value);
    } catch (const YAML::Exception& error) {
      report_.problem(place, "is not YAML: " + error.msg);
      return;
    }
    names_[dotted] = name;
  }

  // `auth: htpasswd` and `storage: filesystem` are sections with one empty section of that name in them, so that
  // REGISTRY_AUTH=htpasswd goes with REGISTRY_AUTH_HTPASSWD_PATH.
  static void open(YAML::Node& node) {
    const std::string word = node.Scalar();
    YAML::Node section(YAML::NodeType::Map);
    if (!word.empty()) section[word] = YAML::Node(YAML::NodeType::Map);
    node = section;
  }

  const YAML::Node root_;
  Report& report_;
  std::map<std::string, std::string> names_;  // of the variables, by the path that they have set
};

}  // namespace sluice::config
