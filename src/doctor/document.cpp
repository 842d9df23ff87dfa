#include "doctor/document.hpp"

#include <algorithm>
#include <sstream>
#include <utility>

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#define TOML_HEADER_ONLY 1
#include <toml++/toml.h>

namespace sluice::doctor {
namespace {

// Deeper than any configuration; the recursions below end there.
constexpr int kMaxDepth = 64;

Json from_toml(const toml::node& node, int depth);

Json from_table(const toml::table& table, int depth) {
  std::vector<std::pair<const toml::key*, const toml::node*>> entries;
  for (const auto& [key, value] : table) entries.emplace_back(&key, &value);
  // toml++ sorts by name, and the order of hosts.toml is the order in which hosts are asked.
  std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
    return std::pair(a.first->source().begin.line, a.first->source().begin.column) <
           std::pair(b.first->source().begin.line, b.first->source().begin.column);
  });
  Json out = Json::object();
  for (const auto& [key, value] : entries) out[std::string(key->str())] = from_toml(*value, depth + 1);
  return out;
}

Json from_toml(const toml::node& node, int depth) {
  if (depth > kMaxDepth) return nullptr;
  if (const auto* table = node.as_table()) return from_table(*table, depth);
  if (const auto* array = node.as_array()) {
    Json out = Json::array();
    for (const toml::node& item : *array) out.push_back(from_toml(item, depth + 1));
    return out;
  }
  if (const auto text = node.value<std::string>(); node.is_string() && text) return *text;
  if (const auto flag = node.value<bool>(); node.is_boolean() && flag) return *flag;
  if (const auto number = node.value<std::int64_t>(); node.is_integer() && number) return *number;
  if (const auto number = node.value<double>(); node.is_floating_point() && number) return *number;
  return "";  // a date, which no client's file has
}

Json from_yaml(const YAML::Node& node, int depth) {
  if (depth > kMaxDepth) return nullptr;
  switch (node.Type()) {
    case YAML::NodeType::Map: {
      Json out = Json::object();
      for (const auto& entry : node) out[entry.first.as<std::string>("")] = from_yaml(entry.second, depth + 1);
      return out;
    }
    case YAML::NodeType::Sequence: {
      Json out = Json::array();
      for (const auto& item : node) out.push_back(from_yaml(item, depth + 1));
      return out;
    }
    case YAML::NodeType::Scalar: {
      // A quoted "true" is a string, and so is a plain yes, as YAML 1.2 has it.
      const std::string& text = node.Scalar();
      if (node.Tag() != "!" && (text == "true" || text == "false")) return text == "true";
      return text;
    }
    default: return nullptr;
  }
}

Error invalid(std::string_view what, std::size_t line, std::string_view why) {
  return {Errc::config_invalid, fmt::format("line {} is not {}: {}", line, what, why)};
}

}  // namespace

Result<Document> parse_toml(const std::string& text) {
  try {
    const toml::table table = toml::parse(std::string_view(text));
    return Document{from_table(table, 0)};
  } catch (const toml::parse_error& error) {
    return invalid("TOML", error.source().begin.line, error.description());
  }
}

Result<Document> parse_json(const std::string& text) {
  try {
    return Document{Json::parse(text)};
  } catch (const Json::parse_error& error) {
    const std::size_t end = std::min(error.byte, text.size());
    const auto line = 1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(end), '\n');
    return invalid("JSON", static_cast<std::size_t>(line),
                   "there is a comma, a quote or a bracket too many or too few");
  } catch (const Json::exception&) {
    return Error{Errc::config_invalid, "a number is too large"};
  }
}

Result<Document> parse_yaml(const std::string& text) {
  try {
    return Document{from_yaml(YAML::Load(text), 0)};
  } catch (const YAML::Exception& error) {
    return invalid("YAML", error.mark.is_null() ? 1 : static_cast<std::size_t>(error.mark.line) + 1, error.msg);
  }
}

const Json& at(const Json& node, std::initializer_list<std::string_view> keys) {
  static const Json kNothing;
  const Json* out = &node;
  for (const std::string_view key : keys) {
    if (!out->is_object()) return kNothing;
    const auto found = out->find(std::string(key));
    if (found == out->end()) return kNothing;
    out = &*found;
  }
  return *out;
}

std::string text_of(const Json& node) { return node.is_string() ? node.get<std::string>() : std::string(); }

bool is_true(const Json& node) { return node.is_boolean() && node.get<bool>(); }

std::vector<std::string> texts_of(const Json& node) {
  if (node.is_string()) return {node.get<std::string>()};
  std::vector<std::string> out;
  if (!node.is_array()) return out;
  for (const Json& item : node) {
    if (item.is_string()) out.push_back(item.get<std::string>());
  }
  return out;
}

}  // namespace sluice::doctor
