// Credentials: what proves to a registry or its token server who we are. A value; pure functions.
#pragma once

#include <string>
#include <string_view>

#include "base/result.hpp"

namespace sluice::upstream {

struct Credentials {
  std::string username;
  std::string password;
  std::string identity_token = {};  // for OAuth2, in place of a password
  std::string registry_token = {};  // a Bearer token, ready to be sent

  [[nodiscard]] bool empty() const noexcept {
    return username.empty() && password.empty() && identity_token.empty() && registry_token.empty();
  }
  friend bool operator==(const Credentials&, const Credentials&) = default;
};

// The value of Authorization; empty where there is no password.
std::string basic_authorization(const Credentials& credentials);

// Standard base64 with or without padding; nothing that is not base64. Zero bytes at the end are dropped, as docker
// does.
Result<std::string> decode_base64(std::string_view text);

// Whether a repository's name fits: `*` stands for any characters but a slash, `**` for any, all else for itself.
bool matches_repository(std::string_view pattern, std::string_view repository) noexcept;

// `text` without what must not be shown: the token, or the password, that `authorization` holds, and itself.
std::string without_secrets(std::string text, std::string_view authorization);
// `text` without the secrets of `credentials`.
std::string without_secrets(std::string text, const Credentials& credentials);

}  // namespace sluice::upstream
