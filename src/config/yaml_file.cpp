#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include <fmt/format.h>

#include "base/log.hpp"
#include "config/sources.hpp"
#include "config/values.hpp"
#include "config/yaml.hpp"

namespace sluice::config {
namespace {

constexpr std::uintmax_t kMaxFileBytes = 1024 * 1024;

std::string_view kind_of(const YAML::Node& node) {
  if (node.IsMap()) return "a mapping";
  if (node.IsSequence()) return "a list";
  // Never what it says: it may be a secret that stands in the wrong place.
  if (node.IsScalar()) return "a single value";
  return "nothing";
}

// The names that may stand right below `path` in sluice's own file.
std::vector<std::string> names_below(const std::string& path) {
  std::vector<std::string> out;
  const std::string prefix = path.empty() ? "" : path + ".";
  for (const auto& field : settings_fields()) {
    if (!field.key.starts_with(prefix)) continue;
    std::string_view rest = field.key.substr(prefix.size());
    std::string name(rest.substr(0, rest.find('.')));
    if (std::find(out.begin(), out.end(), name) == out.end()) out.push_back(std::move(name));
  }
  if (path.empty()) out.emplace_back("upstreams");
  return out;
}

std::string joined_names(const std::vector<std::string>& names) {
  std::string out;
  for (const std::string& name : names) out += (out.empty() ? "" : ", ") + name;
  return out;
}

template <class Owner>
const Field<Owner>* find(const std::vector<Field<Owner>>& fields, std::string_view key) {
  const auto at = std::find_if(fields.begin(), fields.end(), [&](const auto& field) { return field.key == key; });
  return at == fields.end() ? nullptr : &*at;
}

class OwnFile {
 public:
  OwnFile(YamlReader& reader, Settings& settings) : reader_(reader), settings_(settings) {}

  void section(const YAML::Node& node, const std::string& path, const Place& where) {
    const std::vector<std::string> names = names_below(path);
    reader_.each(node, path, where, [&](const std::string& key, const YAML::Node& value, const Place& at) {
      const std::string full = child(path, key);
      if (const Field<Settings>* field = find(settings_fields(), full)) {
        reader_.set(*field, settings_, value, full, at);
      } else if (full == "upstreams") {
        upstreams(value, at);
      } else if (std::find(names.begin(), names.end(), key) != names.end()) {
        section(value, full, at);
      } else if (full == "proxy.remoteurl" || full == "http") {
        reader_.report().problem(at, "found a key of distribution's config.yml, expected version: 0.1 above it");
      } else {
        reader_.report().problem(at, unknown_key(key, names));
      }
    });
  }

 private:
  void upstreams(const YAML::Node& node, const Place& where) {
    reader_.each(node, "upstreams", where, [&](const std::string& name, const YAML::Node& value, const Place& at) {
      if (!is_upstream_name(name)) {
        reader_.report().problem(at, fmt::format("found {}, expected a registry's name such as docker.io or "
                                                 "registry.example.com:5000",
                                                 in_quotes(name)));
        return;
      }
      if (value.IsScalar() && value.Scalar() == "off") {
        settings_.upstreams.erase(name);
        return;
      }
      if (value.IsScalar() || value.IsSequence()) {
        reader_.report().problem(
            at, fmt::format("found {}, expected off or a mapping with keys such as url", kind_of(value)));
        return;
      }
      upstream(name, value, at);
    });
  }

  void upstream(const std::string& name, const YAML::Node& node, const Place& where) {
    const auto [at, added] = settings_.upstreams.try_emplace(name);
    Upstream& upstream = at->second;
    if (added) upstream.url = "https://" + name;
    std::vector<std::string> names;
    for (const auto& field : upstream_fields()) names.emplace_back(field.key);
    names.emplace_back("credentials");
    const std::string path = "upstreams." + name;
    reader_.report().seen(path, where);
    reader_.each(node, path, where, [&](const std::string& key, const YAML::Node& value, const Place& place) {
      if (const Field<Upstream>* field = find(upstream_fields(), key)) {
        reader_.set(*field, upstream, value, child(path, key), place);
      } else if (key == "credentials") {
        credentials(upstream, value, child(path, key), place);
      } else {
        reader_.report().problem(place, unknown_key(key, names));
      }
    });
  }

  void credentials(Upstream& upstream, const YAML::Node& node, const std::string& path, const Place& where) {
    if (node.IsNull()) return;
    if (!node.IsSequence()) {
      reader_.report().problem(where, "found no list, expected a list of mappings with repositories and a login");
      return;
    }
    std::vector<std::string> names;
    for (const auto& field : credential_fields()) names.emplace_back(field.key);
    upstream.credentials.clear();
    for (const auto& item : node) {
      const std::string at = fmt::format("{}[{}]", path, upstream.credentials.size());
      CredentialRule& rule = upstream.credentials.emplace_back();
      reader_.each(item, at, reader_.place(item, at),
                   [&](const std::string& key, const YAML::Node& value, const Place& place) {
                     if (const Field<CredentialRule>* field = find(credential_fields(), key)) {
                       reader_.set(*field, rule, value, child(at, key), place);
                     } else {
                       reader_.report().problem(place, unknown_key(key, names));
                     }
                   });
      reader_.report().seen(at, reader_.place(item, at));
    }
  }

  YamlReader& reader_;
  Settings& settings_;
};

// Tabs are not allowed there, and the parser's own words do not mention them.
bool is_indented_with_tab(const std::string& text, int line) {
  std::istringstream lines(text);
  std::string found;
  for (int i = 0; i < line; ++i) {
    if (!std::getline(lines, found)) return false;
  }
  const std::string_view indent = std::string_view(found).substr(0, found.find_first_not_of(" \t"));
  return indent.find('\t') != std::string_view::npos;
}

bool read_text(const std::filesystem::path& file, std::string& text, Report& report) {
  const Place place{Source::file, file.string(), 0};
  std::error_code ec;
  const std::filesystem::file_status status = std::filesystem::status(file, ec);
  if (std::filesystem::is_directory(status)) {
    report.problem(place, "is a directory, expected a file");
    return false;
  }
  std::ifstream in(file, std::ios::binary);
  if (!in) {
    report.problem(place, "cannot be read: " + std::generic_category().message(errno));
    return false;
  }
  std::string chunk(64 * 1024, '\0');
  while (in.read(chunk.data(), static_cast<std::streamsize>(chunk.size())), in.gcount() > 0) {
    text.append(chunk.data(), static_cast<std::size_t>(in.gcount()));
    if (text.size() > kMaxFileBytes) {
      report.problem(place, "is larger than 1 MiB, which no configuration is");
      return false;
    }
  }
  return true;
}

}  // namespace

std::string child(const std::string& path, const std::string& key) { return path.empty() ? key : path + "." + key; }

Place YamlReader::place(const YAML::Node& at, const std::string& path) const {
  const int line = at.Mark().line + 1;
  return {Source::file, fmt::format("{}:{}{}{}", file_, line, path.empty() ? "" : ": ", path), line};
}

void YamlReader::each(const YAML::Node& node, const std::string& path, const Place& where, const Visit& visit) {
  if (node.IsNull()) return;
  if (!node.IsMap()) {
    report_.problem(where, fmt::format("found {}, expected a mapping", kind_of(node)));
    return;
  }
  std::map<std::string, int> seen;
  for (const auto& entry : node) {
    if (!entry.first.IsScalar()) {
      report_.problem(place(entry.first, path),
                      fmt::format("found {} as a key, expected a word", kind_of(entry.first)));
      continue;
    }
    const std::string& key = entry.first.Scalar();
    const Place at = place(entry.first, child(path, key));
    if (const auto [first, is_new] = seen.emplace(key, at.line); !is_new) {
      report_.problem(at,
                      fmt::format("found a second time, expected once (it stands on line {} already)", first->second));
      continue;
    }
    visit(key, entry.second, at);
  }
}

std::optional<std::string> YamlReader::scalar(const YAML::Node& node, const Place& where, std::string_view expected) {
  if (node.IsScalar()) return node.Scalar();
  report_.problem(where, fmt::format("found {}, expected {}", kind_of(node), expected));
  return std::nullopt;
}

std::optional<std::string> YamlReader::joined(const YAML::Node& node, const Place& where, std::string_view expected) {
  std::string out;
  for (const auto& item : node) {
    if (!item.IsScalar() || item.Scalar().empty()) {
      const std::string_view found = item.IsScalar() ? "nothing" : kind_of(item);
      report_.problem(where, fmt::format("found {} in the list, expected {}", found, expected));
      return std::nullopt;
    }
    out += (out.empty() ? "" : ",") + item.Scalar();
  }
  return out;
}

std::string unknown_key(std::string_view key, const std::vector<std::string>& siblings) {
  if (const auto meant = closest(key, siblings)) return fmt::format("found an unknown key, did you mean {}?", *meant);
  // The right word in the wrong place.
  for (const auto& field : settings_fields()) {
    if (field.key.ends_with("." + std::string(key))) {
      return fmt::format("found an unknown key, did you mean {}?", field.key);
    }
  }
  return fmt::format("found an unknown key, expected one of: {}", joined_names(siblings));
}

void apply_file(const std::filesystem::path& file, const std::map<std::string, std::string>& environment,
                Settings& settings, Report& report) {
  std::string text;
  if (!read_text(file, text, report)) return;
  YamlReader reader(file.string(), report);
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(text);
    if (documents.empty()) return;
    if (documents.size() > 1) {
      report.problem(reader.place(documents[1], ""), "found a second YAML document, expected one");
      return;
    }
    const YAML::Node& root = documents.front();
    const Place where = reader.place(root, "");
    // Nobody but distribution has a version at the top.
    if (root.IsMap() && root["version"].IsDefined()) {
      apply_distribution(root, environment, reader, settings);
    } else {
      OwnFile(reader, settings).section(root, "", where);
    }
  } catch (const YAML::Exception& error) {
    const int line = error.mark.is_null() ? 1 : error.mark.line + 1;
    std::string why;  // which may end with the byte that is wrong
    log::append_json_escaped(why, error.msg);
    report.problem(
        {Source::file, fmt::format("{}:{}", file.string(), line), line},
        fmt::format("is not YAML: {}{}", why,
                    is_indented_with_tab(text, line) ? "; the line is indented with a tab, expected spaces" : ""));
  }
}

}  // namespace sluice::config
