// Url: the address of a request, of the schemes http and https, in the form that a client needs it.
//
// A value; parse and resolve are pure and bounded, and read what strangers wrote (a Location field).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace sluice::http {

struct Url {
  std::string scheme;      // "http" or "https"
  std::string host;        // lowercase, without the brackets of an IPv6 address
  std::uint16_t port = 0;  // always set
  std::string target;      // path and query as they go into a request line: starts with '/', percent-encoded

  // An absolute http or https URL. A fragment is dropped; characters that have no place in a URL but are met in real
  // Location fields (space, quotes, braces, bytes outside ASCII) are percent-encoded. Errors: upstream_protocol, for
  // anything else, userinfo and an empty host included. Error messages do not repeat the text.
  static Result<Url> parse(std::string_view text);

  // `text` as a URI reference against this one (RFC 3986 section 5). Errors as in parse.
  [[nodiscard]] Result<Url> resolve(std::string_view text) const;

  // The path without the query, for logs and messages.
  [[nodiscard]] std::string_view path() const noexcept;
  // host, or host:port when the port is not the scheme's own; the value of Host.
  [[nodiscard]] std::string authority() const;
  // scheme://authority and target.
  [[nodiscard]] std::string to_string() const;

  [[nodiscard]] bool is_tls() const noexcept { return scheme == "https"; }
  // The host is an IPv4 or IPv6 address.
  [[nodiscard]] bool has_ip_host() const noexcept;
  // Same scheme, host and port (RFC 6454).
  [[nodiscard]] bool same_origin(const Url& other) const noexcept {
    return scheme == other.scheme && host == other.host && port == other.port;
  }

  friend bool operator==(const Url&, const Url&) = default;
};

// Percent-encodes everything but the unreserved characters of RFC 3986: for values in a query.
std::string percent_encode(std::string_view text);

}  // namespace sluice::http
