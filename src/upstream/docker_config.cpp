#include "upstream/docker_config.hpp"

#include <utility>

#include <nlohmann/json.hpp>

#include "oci/json.hpp"

namespace sluice::upstream {
namespace {

using nlohmann::json;

// A login has some ten values, and docker keeps settings beside them; a helper's answer has three.
constexpr oci::JsonBounds kConfigBounds{.bytes = std::size_t{1} << 20, .depth = 32, .values = 100'000};
constexpr oci::JsonBounds kHelperBounds{.bytes = std::size_t{64} << 10, .depth = 16, .values = 1'000};

Error invalid(std::string_view what) { return {Errc::config_invalid, std::string(what)}; }

// A string field; empty when missing or something else.
std::string text_of(const json& object, const char* key) {
  const auto at = object.find(key);
  return at != object.end() && at->is_string() ? at->get<std::string>() : std::string();
}

Result<Credentials> login_of(const json& entry) {
  Credentials out;
  out.identity_token = text_of(entry, "identitytoken");
  out.registry_token = text_of(entry, "registrytoken");
  out.username = text_of(entry, "username");
  out.password = text_of(entry, "password");
  if (const std::string auth = text_of(entry, "auth"); !auth.empty()) {
    const Result<std::string> decoded = decode_base64(auth);
    const std::size_t colon = decoded ? decoded->find(':') : std::string::npos;
    if (colon == std::string::npos) return invalid("an `auth` that is not the base64 of user:password");
    out.username = decoded->substr(0, colon);
    out.password = decoded->substr(colon + 1);
  }
  return out;
}

}  // namespace

std::string docker_server(std::string_view key) {
  for (const std::string_view scheme : {"https://", "http://"}) {
    if (key.starts_with(scheme)) key.remove_prefix(scheme.size());
  }
  return std::string(key.substr(0, key.find('/')));
}

std::vector<std::string> docker_servers(const std::string& authority) {
  if (authority == "docker.io" || authority.ends_with(".docker.io")) {
    return {"index.docker.io", "docker.io", "registry-1.docker.io"};
  }
  return {authority};
}

std::string helper_key(const std::string& server) {
  return server == "index.docker.io" ? "https://index.docker.io/v1/" : server;
}

Result<DockerConfig> DockerConfig::parse(std::string_view text) {
  const Result<json> read = oci::parse_json(text, kConfigBounds);
  if (!read || !read->is_object()) return invalid("not a JSON object");
  const json& parsed = *read;
  DockerConfig out;
  out.store = text_of(parsed, "credsStore");
  if (const auto at = parsed.find("credHelpers"); at != parsed.end()) {
    if (!at->is_object()) return invalid("`credHelpers` is not an object");
    for (const auto& [key, value] : at->items()) {
      if (value.is_string()) out.helpers[docker_server(key)] = value.get<std::string>();
    }
  }
  const auto auths = parsed.find("auths");
  if (auths == parsed.end()) return out;
  if (!auths->is_object()) return invalid("`auths` is not an object");
  for (const auto& [key, value] : auths->items()) {
    if (!value.is_object()) return invalid("an entry of `auths` is not an object");
    Result<Credentials> login = login_of(value);
    if (!login) return login.error();
    // With a store the entries are there, and empty.
    if (!login->empty()) out.auths[docker_server(key)] = std::move(*login);
  }
  return out;
}

std::optional<DockerConfig::Found> DockerConfig::find(std::span<const std::string> servers) const {
  for (const std::string& server : servers) {
    if (const auto at = helpers.find(server); at != helpers.end() && !at->second.empty()) {
      return Found{{}, at->second, server};
    }
  }
  if (!store.empty() && !servers.empty()) return Found{{}, store, servers.front()};
  for (const std::string& server : servers) {
    if (const auto at = auths.find(server); at != auths.end()) return Found{at->second, {}, server};
  }
  return std::nullopt;
}

Result<Credentials> parse_helper_answer(std::string_view text) {
  const Result<json> read = oci::parse_json(text, kHelperBounds);
  if (!read || !read->is_object()) return invalid("its answer is not a JSON object");
  const json& parsed = *read;
  Credentials out;
  out.username = text_of(parsed, "Username");
  out.password = text_of(parsed, "Secret");
  if (out.password.empty()) return invalid("its answer has no secret");
  if (out.username == "<token>") {
    out.identity_token = std::exchange(out.password, {});
    out.username.clear();
  }
  return out;
}

}  // namespace sluice::upstream
