// Where a request head ends, and whether it may be acted on. Pure functions without I/O; fuzzed.
//
// Beast's parser reads the syntax; the rules on top refuse what it lets through and what an intermediary in front of us
// might read differently (RFC 9112 §3.2, §5.2, §6.1, §6.3; RFC 9110 §7.2): whatever is ambiguous is answered with an
// error and a closed connection.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "http/request.hpp"

namespace sluice::http {

// Why a request is not served. `reason` is a string literal, fit for the client.
struct Refusal {
  unsigned status = 400;
  std::string_view reason;
};

struct HeadLimits {
  std::size_t max_head_bytes = std::size_t{64} << 10;  // 431 beyond
  std::size_t max_line_bytes = std::size_t{8} << 10;   // of the request line; 414 beyond
};

// Looks for the end of a head in a buffer that grows. Refuses at once what no further byte can mend (a bare LF or CR, a
// NUL, a folded line), so that a broken client is not left waiting for a time-out.
class HeadScanner {
 public:
  enum class State : std::uint8_t { need_more, complete, refused };

  explicit HeadScanner(const HeadLimits& limits) noexcept : limits_(limits) {}

  // `bytes` is everything received for this request so far: what the previous call saw, and more behind it.
  State scan(std::string_view bytes) noexcept;

  // State::complete: empty lines before the request line, to be skipped (RFC 9112 §2.2), and the length of everything
  // up to and with the empty line that ends the head.
  [[nodiscard]] std::size_t begin() const noexcept { return begin_; }
  [[nodiscard]] std::size_t end() const noexcept { return end_; }
  // State::refused.
  [[nodiscard]] const Refusal& refusal() const noexcept { return refusal_; }

 private:
  State refuse(unsigned status, std::string_view reason) noexcept;

  HeadLimits limits_;
  std::size_t begin_ = 0;
  std::size_t line_ = 0;     // start of the first line that is not complete
  std::size_t scanned_ = 0;  // of that line has been looked at up to here, and goes on
  std::size_t end_ = 0;
  bool in_fields_ = false;
  Refusal refusal_;
};

// Parses a complete head (with its final empty line) into `request`, whose views then point into `head` and live as
// long as those bytes. Nothing on success. `request` may be used again and keeps its memory.
std::optional<Refusal> parse_request(std::string_view head, Request& request);

// `uri-host [":" port]` (RFC 3986 §3.2.2) as it may stand in Host: no userinfo, no path, no list, not empty.
bool valid_host(std::string_view host) noexcept;

}  // namespace sluice::http
