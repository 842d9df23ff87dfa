// Response heads, their framing, chunked bodies and Content-Range: nothing is read outside the bytes, and a chunked
// body means the same however it is cut into pieces.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "fuzz/expect.hpp"
#include "http/client_framing.hpp"

using namespace sluice;
using namespace sluice::http;

namespace {

struct Decoded {
  bool refused = false;
  bool done = false;
  std::string body;

  friend bool operator==(const Decoded&, const Decoded&) = default;
};

Decoded decode(std::string_view in, std::size_t step) {
  ChunkParser chunks;
  Decoded out;
  while (!in.empty() && !chunks.done()) {
    const std::string_view piece = in.substr(0, step);
    std::size_t used = 0;
    if (chunks.data() > 0) {
      used = static_cast<std::size_t>(std::min<std::uint64_t>(piece.size(), chunks.data()));
      out.body += piece.substr(0, used);
      chunks.took(used);
    } else {
      const Result<std::size_t> fed = chunks.feed(piece);
      if (!fed) {
        out.refused = true;
        return out;
      }
      used = *fed;
      SLUICE_EXPECT(used > 0 && used <= piece.size());
    }
    in.remove_prefix(used);
  }
  out.done = chunks.done();
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const std::size_t end = bytes.find("\r\n\r\n");
  std::string_view body = bytes;
  if (end != std::string_view::npos) {
    body = bytes.substr(end + 4);
    const Result<ReceivedHead> head = parse_received_head(bytes.substr(0, end + 4));
    if (head) {
      SLUICE_EXPECT(head->status >= 100 && head->status <= 999 && head->fields.size() <= kMaxFields);
      for (const auto& [name, value] : head->fields) {
        SLUICE_EXPECT(!name.empty() && name.find_first_of(": \t\r\n") == std::string::npos);
        SLUICE_EXPECT(value.find_first_of("\r\n") == std::string::npos);
      }
      const Result<BodyFraming> framing = body_framing(*head, "GET");
      if (framing && framing->kind == BodyFraming::Kind::chunked) SLUICE_EXPECT(head->count("Content-Length") == 0);
      const Result<BodyFraming> of_head = body_framing(*head, "HEAD");
      SLUICE_EXPECT(of_head.has_value() == framing.has_value());
      if (of_head) SLUICE_EXPECT(of_head->kind == BodyFraming::Kind::none);
    }
  }
  const Decoded whole = decode(body, body.size() + 1);
  SLUICE_EXPECT(decode(body, 1) == whole);
  SLUICE_EXPECT(decode(body, 3) == whole);
  return 0;
}
