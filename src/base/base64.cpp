#include "base/base64.hpp"

#include <openssl/evp.h>

namespace sluice {
namespace {

std::optional<unsigned> value_of(char c, Base64 alphabet) noexcept {
  if (c >= 'A' && c <= 'Z') return static_cast<unsigned>(c - 'A');
  if (c >= 'a' && c <= 'z') return static_cast<unsigned>(c - 'a') + 26;
  if (c >= '0' && c <= '9') return static_cast<unsigned>(c - '0') + 52;
  if (c == (alphabet == Base64::standard ? '+' : '-')) return 62;
  if (c == (alphabet == Base64::standard ? '/' : '_')) return 63;
  return std::nullopt;
}

}  // namespace

std::optional<std::string> decode_base64(std::string_view text, Base64 alphabet) {
  while (!text.empty() && text.back() == '=') text.remove_suffix(1);
  std::string out;
  out.reserve(text.size() * 3 / 4);
  unsigned bits = 0;
  unsigned held = 0;
  for (const char c : text) {
    const std::optional<unsigned> value = value_of(c, alphabet);
    if (!value) return std::nullopt;
    bits = (bits << 6U) | *value;
    held += 6;
    if (held < 8) continue;
    held -= 8;
    out += static_cast<char>((bits >> held) & 0xffU);
  }
  return out;
}

std::string encode_base64(std::string_view bytes) {
  std::string out((bytes.size() + 2) / 3 * 4 + 1, '\0');  // it writes a zero byte behind them
  const int size =
      EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                      reinterpret_cast<const unsigned char*>(bytes.data()), static_cast<int>(bytes.size()));
  out.resize(static_cast<std::size_t>(size));
  return out;
}

}  // namespace sluice
