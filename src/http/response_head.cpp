#include "http/response_head.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <cstring>

namespace sluice::http {
namespace {

constexpr std::string_view kLength = "Content-Length: ";
constexpr std::string_view kChunked = "Transfer-Encoding: chunked\r\n";

bool is_token(std::string_view name) noexcept {
  return !name.empty() && std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && std::strchr("!#$%&'*+-.^_`|~", c) != nullptr);
  });
}

bool is_field_value(std::string_view value) noexcept {
  return std::ranges::none_of(value, [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return (byte < 0x20 && byte != '\t') || byte == 0x7f;
  });
}

struct Phrase {
  unsigned status;
  std::string_view text;
};

constexpr std::array kPhrases = {
    Phrase{200, "OK"},
    Phrase{201, "Created"},
    Phrase{202, "Accepted"},
    Phrase{204, "No Content"},
    Phrase{206, "Partial Content"},
    Phrase{301, "Moved Permanently"},
    Phrase{302, "Found"},
    Phrase{303, "See Other"},
    Phrase{304, "Not Modified"},
    Phrase{307, "Temporary Redirect"},
    Phrase{308, "Permanent Redirect"},
    Phrase{400, "Bad Request"},
    Phrase{401, "Unauthorized"},
    Phrase{403, "Forbidden"},
    Phrase{404, "Not Found"},
    Phrase{405, "Method Not Allowed"},
    Phrase{406, "Not Acceptable"},
    Phrase{408, "Request Timeout"},
    Phrase{409, "Conflict"},
    Phrase{410, "Gone"},
    Phrase{411, "Length Required"},
    Phrase{412, "Precondition Failed"},
    Phrase{413, "Content Too Large"},
    Phrase{414, "URI Too Long"},
    Phrase{415, "Unsupported Media Type"},
    Phrase{416, "Range Not Satisfiable"},
    Phrase{417, "Expectation Failed"},
    Phrase{421, "Misdirected Request"},
    Phrase{422, "Unprocessable Content"},
    Phrase{429, "Too Many Requests"},
    Phrase{431, "Request Header Fields Too Large"},
    Phrase{500, "Internal Server Error"},
    Phrase{501, "Not Implemented"},
    Phrase{502, "Bad Gateway"},
    Phrase{503, "Service Unavailable"},
    Phrase{504, "Gateway Timeout"},
    Phrase{505, "HTTP Version Not Supported"},
    Phrase{507, "Insufficient Storage"},
    Phrase{508, "Loop Detected"},
};

}  // namespace

std::string_view reason_phrase(unsigned status) noexcept {
  const auto* const found = std::ranges::find(kPhrases, status, &Phrase::status);
  return found != kPhrases.end() ? found->text : "Unknown";
}

ResponseHead::ResponseHead(unsigned status) : status_(status) {
  text_.reserve(256);
  text_ += "HTTP/1.1 ";
  text_ += std::to_string(status);
  text_ += ' ';
  text_ += reason_phrase(status);
  text_ += "\r\n";
}

ResponseHead& ResponseHead::add(std::string_view name, std::string_view value) {
  if (!is_token(name) || !is_field_value(value)) return *this;
  text_ += name;
  text_ += ": ";
  text_ += value;
  text_ += "\r\n";
  return *this;
}

ResponseHead& ResponseHead::add(std::string_view name, std::uint64_t value) { return add(name, std::to_string(value)); }

ResponseHead& ResponseHead::content_length(std::uint64_t bytes) { return add("Content-Length", bytes); }

ResponseHead& ResponseHead::chunked() {
  text_ += kChunked;
  return *this;
}

std::string http_date(std::time_t seconds) {
  static constexpr std::array<const char*, 7> kDays = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  static constexpr std::array<const char*, 12> kMonths = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                          "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  // Not strftime: the names are English whatever the locale is.
  std::array<char, 64> text{};
  const int size = std::snprintf(text.data(), text.size(), "%s, %02d %s %04d %02d:%02d:%02d GMT",
                                 kDays[static_cast<std::size_t>(parts.tm_wday)], parts.tm_mday,
                                 kMonths[static_cast<std::size_t>(parts.tm_mon)], parts.tm_year + 1900, parts.tm_hour,
                                 parts.tm_min, parts.tm_sec);
  return {text.data(), static_cast<std::size_t>(std::max(size, 0))};
}

HeadFacts read_head(std::string_view head) noexcept {
  HeadFacts facts;
  if (head.size() >= 12) std::from_chars(head.data() + 9, head.data() + 12, facts.status);
  std::size_t line = head.find('\n');
  while (line != std::string_view::npos && ++line < head.size()) {
    const std::string_view rest = head.substr(line);
    if (rest.starts_with(kLength)) {
      facts.has_length =
          std::from_chars(rest.data() + kLength.size(), rest.data() + rest.size(), facts.length).ec == std::errc{};
    } else if (rest.starts_with(kChunked)) {
      facts.is_chunked = true;
      facts.chunked_at = line;
      facts.chunked_bytes = kChunked.size();
    }
    line = head.find('\n', line);
  }
  return facts;
}

}  // namespace sluice::http
