// Parameters of a raw query string (RFC 3986 section 3.4, as forms write them). Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace sluice::http {

// The value of one parameter of a raw query string, percent-decoded; empty where it is broken, nothing where it is
// absent. The first one counts.
std::optional<std::string> find_query_parameter(std::string_view query, std::string_view name);
// The same, empty where it is absent too.
std::string query_parameter(std::string_view query, std::string_view name);

}  // namespace sluice::http
