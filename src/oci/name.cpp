#include "oci/name.hpp"

namespace sluice::oci {
namespace {

constexpr bool is_lower_alnum(char c) noexcept { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }

constexpr bool is_tag_start(char c) noexcept { return is_lower_alnum(c) || (c >= 'A' && c <= 'Z') || c == '_'; }

constexpr bool is_tag_char(char c) noexcept { return is_tag_start(c) || c == '.' || c == '-'; }

std::size_t skip_alnum(std::string_view text, std::size_t at) noexcept {
  while (at < text.size() && is_lower_alnum(text[at])) ++at;
  return at;
}

// The end of the separator that starts at `at`: `.`, `_`, `__`, a run of `-`, or `/` between two components.
// Returns `at` when there is none.
std::size_t skip_separator(std::string_view text, std::size_t at) noexcept {
  switch (text[at]) {
    case '.':
    case '/': return at + 1;
    case '_': return at + 1 < text.size() && text[at + 1] == '_' ? at + 2 : at + 1;
    case '-':
      while (at < text.size() && text[at] == '-') ++at;
      return at;
    default: return at;
  }
}

// [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*
//
// Within and between components the grammar is the same: runs of [a-z0-9] with one separator between each two. So one
// pass decides, without a regular expression's backtracking.
bool is_repository(std::string_view text) noexcept {
  std::size_t at = 0;
  while (true) {
    const std::size_t end_of_run = skip_alnum(text, at);
    if (end_of_run == at) return false;
    if (end_of_run == text.size()) return true;
    at = skip_separator(text, end_of_run);
    if (at == end_of_run) return false;
  }
}

bool is_tag(std::string_view text) noexcept {
  if (text.empty() || text.size() > kMaxTagBytes || !is_tag_start(text.front())) return false;
  for (const char c : text) {
    if (!is_tag_char(c)) return false;
  }
  return true;
}

}  // namespace

Result<Repository> Repository::parse(std::string_view text) {
  if (text.size() > kMaxRepositoryBytes) {
    return Error(Errc::name_invalid, "a repository name has at most " + std::to_string(kMaxRepositoryBytes) + " bytes");
  }
  if (!is_repository(text)) {
    return Error(Errc::name_invalid,
                 "a repository name is lowercase letters and digits, separated by one of . _ __ / or by dashes");
  }
  return Repository(text);
}

Result<Tag> Tag::parse(std::string_view text) {
  if (!is_tag(text)) {
    return Error(Errc::tag_invalid,
                 "a tag is 1 to 128 letters, digits, underscores, dots and dashes, not starting with a dot or a dash");
  }
  return Tag(text);
}

Result<Reference> Reference::parse(std::string_view text) {
  if (text.find(':') != std::string_view::npos) {
    Result<Digest> digest = Digest::parse(text);
    if (!digest) return digest.error();
    return Reference(*digest);
  }
  Result<Tag> tag = Tag::parse(text);
  if (!tag) return tag.error();
  return Reference(*std::move(tag));
}

}  // namespace sluice::oci
