#include "http/client_framing.hpp"

#include <algorithm>
#include <charconv>
#include <optional>

#include "base/ascii.hpp"

namespace sluice::http {
namespace {

// Of chunk extensions and of trailers, which nobody reads.
constexpr std::size_t kMaxOverheadBytes = 16 << 10;

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_tchar(char c) {
  return is_digit(c) || (lower(c) >= 'a' && lower(c) <= 'z') ||
         std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
}
// field-vchar, SP and HTAB. Bytes above 0x7f (obs-text) are opaque data.
bool is_field_char(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return byte == '\t' || (byte >= 0x20 && byte != 0x7f);
}

Error broken(std::string_view what) { return {Errc::upstream_protocol, "broken HTTP response: " + std::string(what)}; }

Result<ReceivedHead> parse_status_line(std::string_view line) {
  ReceivedHead head;
  if (line.substr(0, 7) != "HTTP/1." || line.size() < 12 || (line[7] != '0' && line[7] != '1') || line[8] != ' ') {
    return broken("status line");
  }
  head.minor_version = line[7] - '0';
  if (line[9] < '1' || line[9] > '9' || !is_digit(line[10]) || !is_digit(line[11])) return broken("status");
  head.status = (line[9] - '0') * 100 + (line[10] - '0') * 10 + (line[11] - '0');
  // Without a reason even the space in front of it is often left out.
  if (line.size() > 12 && line[12] != ' ') return broken("status line");
  if (!std::all_of(line.begin() + 12, line.end(), is_field_char)) return broken("status line");
  return head;
}

Result<HeaderField> parse_field(std::string_view line) {
  if (line.front() == ' ' || line.front() == '\t') return broken("folded field");
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos || colon == 0) return broken("field without a name");
  const std::string_view name = line.substr(0, colon);
  if (!std::all_of(name.begin(), name.end(), is_tchar)) return broken("field name");
  const std::string_view value = trim(line.substr(colon + 1));
  if (!std::all_of(value.begin(), value.end(), is_field_char)) return broken("control character in a field");
  return HeaderField{std::string(name), std::string(value)};
}

// Whether a comma-separated list holds `token`.
bool lists(std::string_view list, std::string_view token) {
  while (!list.empty()) {
    const std::size_t comma = std::min(list.find(','), list.size());
    if (same_field_name(trim(list.substr(0, comma)), token)) return true;
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  return false;
}

bool wants_close(const ReceivedHead& head) {
  if (head.minor_version == 0) return true;
  return std::any_of(head.fields.begin(), head.fields.end(), [](const HeaderField& field) {
    return same_field_name(field.first, "Connection") && lists(field.second, "close");
  });
}

std::optional<std::uint64_t> parse_length(std::string_view text) {
  std::uint64_t length = 0;
  if (text.empty() || !std::all_of(text.begin(), text.end(), is_digit)) return std::nullopt;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), length);
  if (error != std::errc{} || length > std::uint64_t{1} << 62) return std::nullopt;
  return length;
}

// What all Content-Length fields and their list elements say, where they say the same (RFC 9110 section 8.6).
Result<std::uint64_t> announced_length(const ReceivedHead& head) {
  std::optional<std::uint64_t> length;
  for (const auto& [name, value] : head.fields) {
    if (!same_field_name(name, "Content-Length")) continue;
    for (std::string_view rest = value;;) {
      const std::size_t comma = std::min(rest.find(','), rest.size());
      const auto parsed = parse_length(trim(rest.substr(0, comma)));
      if (!parsed) return broken("Content-Length is not a length");
      if (length && *length != *parsed) return broken("two different Content-Length");
      length = parsed;
      if (comma == rest.size()) break;
      rest.remove_prefix(comma + 1);
    }
  }
  return length.value_or(0);
}

}  // namespace

bool same_field_name(std::string_view a, std::string_view b) noexcept {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) { return lower(x) == lower(y); });
}

const std::string* ReceivedHead::find(std::string_view name) const noexcept {
  for (const HeaderField& field : fields) {
    if (same_field_name(field.first, name)) return &field.second;
  }
  return nullptr;
}

std::size_t ReceivedHead::count(std::string_view name) const noexcept {
  return static_cast<std::size_t>(std::count_if(
      fields.begin(), fields.end(), [name](const HeaderField& field) { return same_field_name(field.first, name); }));
}

Result<ReceivedHead> parse_received_head(std::string_view bytes) {
  if (bytes.size() > kMaxHeadBytes) return broken("head too long");
  std::optional<ReceivedHead> head;
  while (true) {
    const std::size_t end = bytes.find("\r\n");
    if (end == std::string_view::npos) return broken("head without an end");
    const std::string_view line = bytes.substr(0, end);
    bytes.remove_prefix(end + 2);
    if (!head) {
      Result<ReceivedHead> first = parse_status_line(line);
      if (!first) return first.error();
      head = std::move(*first);
      continue;
    }
    if (line.empty()) break;
    Result<HeaderField> field = parse_field(line);
    if (!field) return field.error();
    if (head->fields.size() == kMaxFields) return broken("too many fields");
    head->fields.push_back(std::move(*field));
  }
  if (!bytes.empty()) return broken("bytes behind the head");
  return std::move(*head);
}

Result<BodyFraming> body_framing(const ReceivedHead& head, std::string_view method) {
  const std::size_t lengths = head.count("Content-Length");
  const std::size_t codings = head.count("Transfer-Encoding");
  if (lengths != 0 && codings != 0) return broken("both Content-Length and Transfer-Encoding");

  const Result<std::uint64_t> length = announced_length(head);
  if (!length) return length.error();
  if (codings != 0 &&
      (codings > 1 || head.minor_version == 0 || !same_field_name(*head.find("Transfer-Encoding"), "chunked"))) {
    return broken("unknown Transfer-Encoding");
  }

  BodyFraming framing;
  framing.keep_alive = !wants_close(head);
  if (lengths != 0) framing.announced = *length;
  if (method == "HEAD" || head.status < 200 || head.status == 204 || head.status == 304) return framing;
  if (codings != 0) {
    framing.kind = BodyFraming::Kind::chunked;
  } else if (lengths != 0) {
    framing.kind = BodyFraming::Kind::length;
    framing.length = *length;
  } else {
    framing.kind = BodyFraming::Kind::until_close;
    framing.keep_alive = false;
  }
  return framing;
}

Result<std::size_t> ChunkParser::feed(std::string_view bytes) {
  std::size_t used = 0;
  while (used < bytes.size() && state_ != State::data && state_ != State::done) {
    Result<void> stepped = step(bytes[used++]);
    if (!stepped) return stepped.error();
  }
  return used;
}

void ChunkParser::took(std::uint64_t n) noexcept {
  left_ -= n;
  if (left_ == 0) state_ = State::data_cr;
}

Result<void> ChunkParser::step(char c) {
  const auto expect = [this, c](char wanted, State next) -> Result<void> {
    if (c != wanted) return broken("chunk framing");
    state_ = next;
    return {};
  };
  const auto count = [this, c]() -> Result<void> {
    if (!is_field_char(c) || ++overhead_ > kMaxOverheadBytes) return broken("chunk extension or trailer");
    return {};
  };
  switch (state_) {
    case State::size: {
      const int digit = is_digit(c) ? c - '0' : lower(c) >= 'a' && lower(c) <= 'f' ? lower(c) - 'a' + 10 : -1;
      if (digit >= 0) {
        // 15 digits are 2^60: enough, and no overflow.
        if (++digits_ > 15) return broken("chunk size");
        left_ = left_ * 16 + static_cast<std::uint64_t>(digit);
        return {};
      }
      if (digits_ == 0) return broken("chunk size");
      if (c == '\r') return expect('\r', State::size_lf);
      if (c != ';' && c != ' ' && c != '\t') return broken("chunk size");
      state_ = State::extension;
      return {};
    }
    case State::extension: return c == '\r' ? expect('\r', State::size_lf) : count();
    case State::size_lf:
      digits_ = 0;
      overhead_ = 0;
      return expect('\n', left_ == 0 ? State::line : State::data);
    case State::data_cr: return expect('\r', State::data_lf);
    case State::data_lf: return expect('\n', State::size);
    // The trailer: lines, then an empty one.
    case State::line:
      if (c == '\r') return expect('\r', State::end_lf);
      state_ = State::line_rest;
      return count();
    case State::line_rest: return c == '\r' ? expect('\r', State::line_lf) : count();
    case State::line_lf: return expect('\n', State::line);
    case State::end_lf: return expect('\n', State::done);
    case State::data:
    case State::done: break;
  }
  return broken("chunk framing");
}

}  // namespace sluice::http
