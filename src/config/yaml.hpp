// What the two readers of YAML files share. Internal to this folder; the only header that shows yaml-cpp.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>

#include <yaml-cpp/yaml.h>

#include "config/report.hpp"

namespace sluice::config {

// One YAML file being read: finds places and reports what is not of the expected shape.
class YamlReader {
 public:
  YamlReader(std::string file_name, Report& report) : file_(std::move(file_name)), report_(report) {}

  [[nodiscard]] Place place(const YAML::Node& at, const std::string& path) const;

  // Calls `visit(key, value, place)` for each entry of a mapping. Keys that are not words, and repeated ones, are
  // reported and left out; so is a node that is neither a mapping nor empty.
  using Visit = std::function<void(const std::string& key, const YAML::Node& value, const Place& place)>;
  void each(const YAML::Node& node, const std::string& path, const Place& where, const Visit& visit);

  // The text of a scalar, or nothing and a report that says what was expected.
  std::optional<std::string> scalar(const YAML::Node& node, const Place& where, std::string_view expected);

  template <class Owner>
  void set(const Field<Owner>& field, Owner& owner, const YAML::Node& node, const std::string& path,
           const Place& where) {
    const std::optional<std::string> text =
        field.list && node.IsSequence() ? joined(node, where, field.expected) : scalar(node, where, field.expected);
    if (text) report_.set(field, owner, *text, path, where);
  }

  [[nodiscard]] Report& report() noexcept { return report_; }

 private:
  std::optional<std::string> joined(const YAML::Node& node, const Place& where, std::string_view expected);

  std::string file_;
  Report& report_;
};

// "path.key", or "key" at the top.
std::string child(const std::string& path, const std::string& key);

// A config.yml of distribution's registry with a `proxy:` section, and the variables REGISTRY_… that are laid over it.
void apply_distribution(YAML::Node root, const std::map<std::string, std::string>& environment, YamlReader& reader,
                        Settings& settings);

}  // namespace sluice::config
