#include "access/refusals.hpp"

#include <string>

#include <fmt/format.h>

namespace sluice::access {

using descriptors::Scope;

Error unanswered(const Scope& scope, Error outage) {
  std::string why = "it is not reached";
  if (outage.code == Errc::upstream_down) why = outage.message;
  if (outage.code == Errc::upstream_timeout) why = "it does not answer in time";
  if (outage.code == Errc::upstream_failed) why = "it answers with an error of its own";
  if (outage.code == Errc::throttled) why = "it limits our requests";
  outage.message = fmt::format("upstream cannot be asked what {} has: {}", scope.str(), why);
  return outage;
}

Error said_unknown(Errc code, const Scope& scope, std::string_view what) {
  return {code, fmt::format("upstream said a moment ago that {} does not have {}", scope.str(), what)};
}

Error sends_other(const Route& route, const oci::Digest& digest) {
  return {Errc::upstream_protocol, fmt::format("{} sends answers that cannot be used for {} of {}",
                                               route.registry->name(), digest.to_string(), route.scope.str())};
}

std::string other_length(const Route& route, const oci::Digest& digest, std::uint64_t told, std::uint64_t size) {
  return fmt::format("{} sends answers that cannot be used: it says {} bytes for {} of {}; the blob has {}",
                     route.registry->name(), told, digest.to_string(), route.scope.str(), size);
}

}  // namespace sluice::access
