#include "descriptors/scope.hpp"

namespace sluice::descriptors {

Result<Scope> Scope::repository(std::string_view text) {
  if (text.empty()) return Error(Errc::name_invalid, "a repository's name must not be empty");
  if (text.size() > kMaxScopeBytes) return Error(Errc::name_invalid, "a repository's name is too long");
  for (const char c : text) {
    if (c <= ' ' || c > '~') return Error(Errc::name_invalid, "a repository's name contains an invalid character");
  }
  return Scope(text);
}

}  // namespace sluice::descriptors
