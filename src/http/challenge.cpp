#include "http/challenge.hpp"

#include <algorithm>

namespace sluice::http {
namespace {

constexpr std::size_t kMaxChallenges = 16;
constexpr std::size_t kMaxParameters = 32;

bool is_alnum(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); }
bool is_tchar(char c) { return is_alnum(c) || std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos; }
bool is_token68(char c) { return is_alnum(c) || std::string_view("-._~+/").find(c) != std::string_view::npos; }

std::string lowercase(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return out;
}

class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}

  bool at_end() const { return at_ >= text_.size(); }
  char peek() const { return at_end() ? '\0' : text_[at_]; }
  std::size_t position() const { return at_; }
  void go_to(std::size_t position) { at_ = position; }
  bool take(char c) {
    if (at_end() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  template <class Predicate>
  std::string_view take_while(Predicate predicate) {
    const std::size_t begin = at_;
    while (!at_end() && predicate(text_[at_])) ++at_;
    return text_.substr(begin, at_ - begin);
  }
  void skip_space() {
    take_while([](char c) { return c == ' ' || c == '\t'; });
  }

  // The inside of a quoted-string whose opening quote has been taken; nothing when it does not end.
  std::optional<std::string> quoted() {
    std::string out;
    while (!at_end()) {
      char c = text_[at_++];
      if (c == '"') return out;
      if (c == '\\') {
        if (at_end()) return std::nullopt;
        c = text_[at_++];
      }
      out += c;
    }
    return std::nullopt;
  }

 private:
  std::string_view text_;
  std::size_t at_ = 0;
};

// What follows a scheme: a token68 that a comma or the end stands behind. Otherwise nothing is taken.
std::string_view take_token68(Reader& in) {
  const std::size_t begin = in.position();
  const std::string_view body = in.take_while(is_token68);
  const std::string_view padding = in.take_while([](char c) { return c == '='; });
  const std::size_t length = body.size() + padding.size();
  in.skip_space();
  if (!body.empty() && (in.at_end() || in.peek() == ',')) return {body.data(), length};
  in.go_to(begin);
  return {};
}

}  // namespace

std::optional<std::string_view> Challenge::parameter(std::string_view name) const noexcept {
  for (const auto& [key, value] : parameters) {
    if (key == name) return value;
  }
  return std::nullopt;
}

std::vector<Challenge> parse_challenges(std::string_view value) {
  std::vector<Challenge> out;
  Reader in(value);
  while (true) {
    in.take_while([](char c) { return c == ' ' || c == '\t' || c == ','; });
    const std::string_view word = in.take_while(is_tchar);
    if (word.empty()) return out;
    const std::size_t behind_word = in.position();
    in.skip_space();
    if (!out.empty() && in.take('=')) {
      in.skip_space();
      std::string text;
      if (in.take('"')) {
        std::optional<std::string> quoted = in.quoted();
        if (!quoted) return out;
        text = std::move(*quoted);
      } else {
        text = in.take_while([](char c) { return c != ',' && c != ' ' && c != '\t'; });
      }
      if (out.back().parameters.size() < kMaxParameters) {
        out.back().parameters.emplace_back(lowercase(word), std::move(text));
      }
      continue;
    }
    if (out.size() == kMaxChallenges) return out;
    out.push_back({lowercase(word), {}, {}});
    if (in.position() > behind_word) out.back().token68 = take_token68(in);
  }
}

}  // namespace sluice::http
