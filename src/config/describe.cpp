#include <algorithm>

#include "config/fields.hpp"

namespace sluice::config {
namespace {

constexpr std::size_t kIndent = 2;

std::vector<std::string_view> split(std::string_view key) {
  std::vector<std::string_view> out;
  for (std::size_t dot = key.find('.'); dot != std::string_view::npos; dot = key.find('.')) {
    out.push_back(key.substr(0, dot));
    key.remove_prefix(dot + 1);
  }
  out.push_back(key);
  return out;
}

void line(std::string& out, std::size_t depth, std::string_view key, std::string_view value) {
  out.append(depth * kIndent, ' ').append(key).append(":");
  if (!value.empty()) out.append(" ").append(value);
  out += '\n';
}

// Fields that were not set and have no value are left out, since an empty text is not one that may be set.
bool is_empty(std::string_view value) { return value == "\"\"" || value == "[]"; }

void credential_lines(std::string& out, const std::vector<CredentialRule>& rules) {
  if (!rules.empty()) line(out, 2, "credentials", "");
  for (const CredentialRule& rule : rules) {
    bool first = true;
    for (const auto& field : credential_fields()) {
      const std::string value = field.show(rule);
      if (is_empty(value) || (field.key == "password" && !rule.password_file.empty())) continue;
      out.append(3 * kIndent, ' ').append(first ? "- " : "  ").append(field.key).append(": ").append(value) += '\n';
      first = false;
    }
  }
}

void upstream_lines(std::string& out, const Upstream& upstream) {
  for (const auto& field : upstream_fields()) {
    const std::string value = field.show(upstream);
    if (is_empty(value)) continue;
    if (field.key == "password" && !upstream.password_file.empty()) continue;
    line(out, 2, field.key, value);
  }
  credential_lines(out, upstream.credentials);
}

}  // namespace

std::vector<std::string> changed_keys(const Settings& from, const Settings& to) {
  std::vector<std::string> out;
  for (const auto& field : settings_fields()) {
    const bool same = field.same ? field.same(from, to) : field.show(from) == field.show(to);
    if (!same) out.emplace_back(field.key);
  }
  const std::size_t settings = out.size();
  for (const auto& [name, upstream] : to.upstreams) {
    const auto before = from.upstreams.find(name);
    if (before == from.upstreams.end() || before->second != upstream) out.push_back("upstreams." + name);
  }
  for (const auto& [name, upstream] : from.upstreams) {
    if (to.upstreams.find(name) == to.upstreams.end()) out.push_back("upstreams." + name);
  }
  std::sort(out.begin() + static_cast<std::ptrdiff_t>(settings), out.end());
  return out;
}

std::string describe(const Settings& settings) {
  std::string out;
  std::vector<std::string_view> open;
  for (const auto& field : settings_fields()) {
    const std::string value = field.show(settings);
    if (is_empty(value)) continue;
    // Alone it is a problem, since nobody would be asked for one.
    if (field.key == "server.tls.client_certificate" && settings.server.tls.client_ca_file.empty()) continue;
    if (field.key == "redis.password" && !settings.redis.password_file.empty()) continue;
    const std::vector<std::string_view> path = split(field.key);
    const std::size_t sections = path.size() - 1;
    std::size_t same = 0;
    while (same < std::min(open.size(), sections) && open[same] == path[same]) ++same;
    for (std::size_t depth = same; depth < sections; ++depth) line(out, depth, path[depth], "");
    open.assign(path.begin(), path.end() - 1);
    line(out, sections, path.back(), value);
  }
  line(out, 0, "upstreams", "");
  for (const auto& [name, upstream] : settings.upstreams) {
    line(out, 1, in_quotes(name), "");
    upstream_lines(out, upstream);
  }
  for (const auto& [name, upstream] : Settings::embedded_upstreams()) {
    if (settings.upstreams.find(name) == settings.upstreams.end()) line(out, 1, in_quotes(name), "off");
  }
  return out;
}

}  // namespace sluice::config
