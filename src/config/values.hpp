// The small grammars of configuration values. Internal to this folder, pure functions.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace sluice::config {

// "https://host[:port][/path]" or http, lower-case host, without user, query and fragment; a slash at the end is taken
// off. Nothing for anything else.
std::optional<std::string> parse_upstream_url(std::string_view text);

// The "host[:port]" of what parse_upstream_url gave.
std::string_view url_authority(std::string_view url);

// "http://[user:password@]host[:port]", or the same without its scheme; the scheme is put in front, a slash at the end
// is taken off. Nothing for anything else: proxies that are spoken to with TLS or SOCKS are not known here.
std::optional<std::string> parse_proxy_url(std::string_view text);

// What may stand in NO_PROXY: "*", a host or a domain, an address, a network in CIDR notation, some with a port.
bool is_no_proxy(std::string_view text);

// A pattern of repositories.
bool is_repository_pattern(std::string_view text);

// The same with the upstream's name, which may have a port, in front.
bool is_scope_pattern(std::string_view text);

// One of Docker Hub's own hosts, where one-part names live under library/.
bool is_docker_hub(std::string_view authority);

// "docker.io", "localhost:5000": what may stand before the first slash of an image reference.
bool is_upstream_name(std::string_view text);

// A host name or address, without a port.
bool is_host(std::string_view text);

// "host", "host:port", "[IPv6]:port" or "unix:/path".
bool is_redis_address(std::string_view text);

// The candidate that `text` probably was meant to be, or nothing.
template <class Candidates>
std::optional<std::string_view> closest(std::string_view text, const Candidates& candidates);

// The number of insertions, deletions, replacements and swaps of neighbours between the two.
std::size_t edit_distance(std::string_view a, std::string_view b);

template <class Candidates>
std::optional<std::string_view> closest(std::string_view text, const Candidates& candidates) {
  std::optional<std::string_view> best;
  std::size_t best_distance = text.size() / 3 + 1;
  for (const auto& candidate : candidates) {
    const std::size_t distance = edit_distance(text, candidate);
    if (distance < best_distance || (distance == best_distance && !best)) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

}  // namespace sluice::config
