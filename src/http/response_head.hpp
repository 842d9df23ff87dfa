// Builds the head of an answer, so that it can be kept ready beside the object that it describes.
//
// The text is "HTTP/1.1 200 OK\r\nName: value\r\n…" without Date, Connection and the empty line at the end: those the
// session adds when it sends. A value type; any thread.
#pragma once

#include <cstdint>
#include <ctime>
#include <string>
#include <string_view>

namespace sluice::http {

class ResponseHead {
 public:
  explicit ResponseHead(unsigned status);

  // A field that cannot stand in a head (a name that is no token; CR, LF, NUL or another control character in the
  // value) is left out: nothing that came from elsewhere can split an answer.
  ResponseHead& add(std::string_view name, std::string_view value);
  ResponseHead& add(std::string_view name, std::uint64_t value);
  // Exactly one of these two, unless the status has no body (1xx, 204, 304).
  ResponseHead& content_length(std::uint64_t bytes);
  ResponseHead& chunked();

  [[nodiscard]] const std::string& str() const noexcept { return text_; }
  [[nodiscard]] unsigned status() const noexcept { return status_; }

 private:
  unsigned status_;
  std::string text_;
};

// "Not Found"; "Unknown" where RFC 9110 has no phrase for the status.
std::string_view reason_phrase(unsigned status) noexcept;

// IMF-fixdate (RFC 9110 §5.6.7): "Sun, 06 Nov 1994 08:49:37 GMT".
std::string http_date(std::time_t seconds);

// What a ready head says about the body behind it. For `head` as ResponseHead builds it.
struct HeadFacts {
  unsigned status = 0;
  bool has_length = false;
  bool is_chunked = false;
  std::uint64_t length = 0;       // when has_length
  std::size_t chunked_at = 0;     // of the Transfer-Encoding field, when is_chunked
  std::size_t chunked_bytes = 0;  // and its length with CRLF
};
HeadFacts read_head(std::string_view head) noexcept;

// A status whose answer never has a body, whatever its fields say (RFC 9110 §6.4.1).
constexpr bool bodiless(unsigned status) noexcept { return status < 200 || status == 204 || status == 304; }

}  // namespace sluice::http
