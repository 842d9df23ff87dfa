// docker's config.json, as far as it says how to log in at registries (docker/cli, cli/config/configfile). Pure.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "upstream/credentials.hpp"

namespace sluice::upstream {

struct DockerConfig {
  std::map<std::string, Credentials, std::less<>> auths;    // by "host" or "host:port"
  std::map<std::string, std::string, std::less<>> helpers;  // credHelpers: the program without its prefix
  std::string store;                                        // credsStore; empty: none

  // Errors: config_invalid, without any of the text.
  static Result<DockerConfig> parse(std::string_view json);

  struct Found {
    Credentials credentials;  // unless there is a helper
    std::string helper;       // to be asked for `server`
    std::string server;
  };
  // Where the credentials for the first of `servers` that is mentioned come from. A helper for a server stands above
  // the store, and the store above what the file itself holds.
  [[nodiscard]] std::optional<Found> find(std::span<const std::string> servers) const;
};

// The host, with its port, of a key in `auths`: "https://index.docker.io/v1/" -> "index.docker.io".
std::string docker_server(std::string_view key);

// The names under which docker keeps what belongs to the registry at `authority`, as keys of DockerConfig.
std::vector<std::string> docker_servers(const std::string& authority);

// What a credential helper is asked for: Docker Hub goes by an address of old.
std::string helper_key(const std::string& server);

// A credential helper's answer to `get`: {"ServerURL", "Username", "Secret"}. The username <token> means that the
// secret is an identity token. Errors: config_invalid, without any of the text.
Result<Credentials> parse_helper_answer(std::string_view json);

}  // namespace sluice::upstream
