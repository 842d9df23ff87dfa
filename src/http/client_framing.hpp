// The head of a response and what it says about the body (RFC 9112), read strictly: whatever two readers could
// understand differently is refused. What can be framed in one way only is taken; the digest decides about its bytes.
//
// Values and pure functions; bounded, they read what strangers wrote.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.hpp"

namespace sluice::http {

using HeaderField = std::pair<std::string, std::string>;  // name as written, value without surrounding white space

// Case-insensitive, ASCII.
bool same_field_name(std::string_view a, std::string_view b) noexcept;

// A head longer than this, or of more fields, is refused.
inline constexpr std::size_t kMaxHeadBytes = std::size_t{64} << 10;
inline constexpr std::size_t kMaxFields = 256;

struct ReceivedHead {
  int status = 0;         // 100 to 999
  int minor_version = 1;  // HTTP/1.<minor>: 0 or 1
  std::vector<HeaderField> fields;

  // The first field of that name, or nothing at all. Lives as long as this object.
  [[nodiscard]] const std::string* find(std::string_view name) const noexcept;
  [[nodiscard]] std::size_t count(std::string_view name) const noexcept;
};

// Reads a status line and fields, up to and with the empty line that ends them.
// Errors: upstream_protocol, for everything outside the grammar: bare LF, obs-fold, control characters, a space in
// front of a colon, another version than 1.0 and 1.1.
Result<ReceivedHead> parse_received_head(std::string_view bytes);

// How the end of a body is known (RFC 9112 section 6.3).
struct BodyFraming {
  enum class Kind : std::uint8_t { none, length, chunked, until_close };
  Kind kind = Kind::none;
  std::uint64_t length = 0;  // for `length`
  // Content-Length, also where there is no body to frame with it (HEAD, 304).
  std::optional<std::uint64_t> announced = std::nullopt;
  bool keep_alive = false;  // whether the connection may be used again once the body has been read
};

// Errors: upstream_protocol, for Content-Length with two different values or together with Transfer-Encoding or not a
// number, and for a Transfer-Encoding other than one `chunked` in HTTP/1.1. The same length given several times, in
// several fields or in one list, is one length (RFC 9110 section 8.6). A HEAD, 204 or 304 has no body, whatever it
// says.
Result<BodyFraming> body_framing(const ReceivedHead& head, std::string_view method);

// The framing of a chunked body (RFC 9112 section 7.1), apart from where its bytes are.
//
//   feed() until data() > 0 or done(); read up to data() bytes from wherever they come; took(n); and so on.
class ChunkParser {
 public:
  // Reads framing from the front of `bytes`, as far as the next data byte or the end of the body; returns how many
  // bytes that were. Neither data() nor done() afterwards: give it more. Errors: upstream_protocol.
  Result<std::size_t> feed(std::string_view bytes);
  void took(std::uint64_t n) noexcept;

  // How many bytes of data come next.
  [[nodiscard]] std::uint64_t data() const noexcept { return state_ == State::data ? left_ : 0; }
  [[nodiscard]] bool done() const noexcept { return state_ == State::done; }

 private:
  enum class State : std::uint8_t {
    size,
    extension,
    size_lf,
    data,
    data_cr,
    data_lf,
    line,
    line_rest,
    line_lf,
    end_lf,
    done
  };
  Result<void> step(char c);

  State state_ = State::size;
  std::uint64_t left_ = 0;    // the size read so far, then what is left of the chunk
  std::size_t digits_ = 0;    // of the size
  std::size_t overhead_ = 0;  // of the extensions of one chunk, or of the trailer
};

}  // namespace sluice::http
