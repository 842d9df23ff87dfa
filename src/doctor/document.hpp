// TOML, JSON and YAML as one kind of tree, with the keys in the order of the file. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/result.hpp"

namespace sluice::doctor {

using Json = nlohmann::ordered_json;

// JSON in a Result: nlohmann's type converts from everything, so that it cannot stand there itself.
struct Document {
  Json root;
};

// Errors: config_invalid, with the line.
Result<Document> parse_toml(const std::string& text);
Result<Document> parse_json(const std::string& text);
Result<Document> parse_yaml(const std::string& text);

// What stands at `keys`, one below the other; null where there is nothing.
const Json& at(const Json& node, std::initializer_list<std::string_view> keys);
// Nothing where it has another type.
std::string text_of(const Json& node);
bool is_true(const Json& node);
// Of a list of strings, or of one string.
std::vector<std::string> texts_of(const Json& node);

}  // namespace sluice::doctor
