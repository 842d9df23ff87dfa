#include "upstream/credentials.hpp"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/base64.hpp"

namespace sluice::upstream {
namespace {

// A secret so short would be found everywhere.
constexpr std::size_t kLeastSecretBytes = 4;

void blot_out(std::string& text, std::string_view secret) {
  if (secret.size() < kLeastSecretBytes) return;
  for (std::size_t at = text.find(secret); at != std::string::npos; at = text.find(secret, at)) {
    text.replace(at, secret.size(), "***");
    at += 3;
  }
}

}  // namespace

std::string basic_authorization(const Credentials& credentials) {
  if (credentials.username.empty() && credentials.password.empty()) return {};
  return "Basic " + encode_base64(credentials.username + ":" + credentials.password);
}

Result<std::string> decode_base64(std::string_view text) {
  std::optional<std::string> out = sluice::decode_base64(text, Base64::standard);
  if (!out) return Error(Errc::config_invalid, "not base64");
  while (!out->empty() && out->back() == '\0') out->pop_back();
  return *std::move(out);
}

bool matches_repository(std::string_view pattern, std::string_view repository) noexcept {
  // Where to go on when what follows a star does not fit: the star then stands for one character more.
  std::size_t star = std::string_view::npos;
  std::size_t star_at = 0;
  std::size_t wide = std::string_view::npos;
  std::size_t wide_at = 0;
  std::size_t p = 0;
  std::size_t r = 0;
  while (r < repository.size() || p < pattern.size()) {
    if (pattern.substr(p).starts_with("**")) {
      wide = p += 2;
      wide_at = r;
      star = std::string_view::npos;
    } else if (p < pattern.size() && pattern[p] == '*') {
      star = ++p;
      star_at = r;
    } else if (p < pattern.size() && r < repository.size() && pattern[p] == repository[r]) {
      ++p;
      ++r;
    } else if (star != std::string_view::npos && star_at < repository.size() && repository[star_at] != '/') {
      p = star;
      r = ++star_at;
    } else if (wide != std::string_view::npos && wide_at < repository.size()) {
      p = wide;
      r = ++wide_at;
      star = std::string_view::npos;
    } else {
      return false;
    }
  }
  return true;
}

std::string without_secrets(std::string text, std::string_view authorization) {
  const std::size_t space = authorization.find(' ');
  if (space == std::string_view::npos) return text;
  const std::string_view value = authorization.substr(space + 1);
  blot_out(text, value);
  if (authorization.substr(0, space) != "Basic") return text;
  if (const Result<std::string> decoded = decode_base64(value)) {
    blot_out(text, *decoded);
    blot_out(text, std::string_view(*decoded).substr(std::min(decoded->find(':') + 1, decoded->size())));
  }
  return text;
}

std::string without_secrets(std::string text, const Credentials& credentials) {
  blot_out(text, credentials.password);
  blot_out(text, credentials.identity_token);
  blot_out(text, credentials.registry_token);
  return without_secrets(std::move(text), basic_authorization(credentials));
}

}  // namespace sluice::upstream
