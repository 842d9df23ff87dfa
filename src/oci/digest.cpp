#include "oci/digest.hpp"

#include <openssl/evp.h>

#include <cstring>
#include <new>
#include <stdexcept>
#include <utility>

namespace sluice::oci {
namespace {

constexpr bool is_lower_alnum(char c) noexcept { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }

constexpr bool is_encoded_char(char c) noexcept {
  return is_lower_alnum(c) || (c >= 'A' && c <= 'Z') || c == '=' || c == '_' || c == '-';
}

// algorithm ::= component (separator component)*; component ::= [a-z0-9]+; separator ::= [+._-]
bool is_algorithm(std::string_view text) noexcept {
  bool after_component = false;
  for (const char c : text) {
    if (is_lower_alnum(c)) {
      after_component = true;
    } else if (after_component && (c == '+' || c == '.' || c == '_' || c == '-')) {
      after_component = false;
    } else {
      return false;
    }
  }
  return after_component;
}

bool is_encoded(std::string_view text) noexcept {
  for (const char c : text) {
    if (!is_encoded_char(c)) return false;
  }
  return !text.empty();
}

constexpr std::string_view kHexDigits = "0123456789abcdef";

// For each character its value as a lowercase hexadecimal digit, or 16.
constexpr std::array<std::uint8_t, 256> kHexValues = [] {
  std::array<std::uint8_t, 256> values{};
  values.fill(16);
  for (std::uint8_t i = 0; i < 16; ++i) values[static_cast<unsigned char>(kHexDigits[i])] = i;
  return values;
}();

constexpr unsigned hex_value(char c) noexcept { return kHexValues[static_cast<unsigned char>(c)]; }

// `out` has room for two characters for each byte.
void write_hex(char* out, std::span<const std::byte> bytes) noexcept {
  for (const std::byte b : bytes) {
    *out++ = kHexDigits[std::to_integer<unsigned>(b >> 4)];
    *out++ = kHexDigits[std::to_integer<unsigned>(b & std::byte{0x0f})];
  }
}

std::uint64_t load64(const std::byte* from) noexcept {
  std::uint64_t value = 0;
  std::memcpy(&value, from, sizeof value);
  return value;
}

// The two halves of a 128-bit product, folded: the mixing step of wyhash.
std::uint64_t mix(std::uint64_t a, std::uint64_t b) noexcept {
  __extension__ using Wide = unsigned __int128;
  const Wide product = Wide{a} * b;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

// Fetched once: with OpenSSL 3 EVP_sha256() and the others look the implementation up again at each initialisation.
const EVP_MD* implementation(Algorithm algorithm) {
  static const std::array<const EVP_MD*, 3> kFetched = {EVP_MD_fetch(nullptr, "SHA256", nullptr),
                                                        EVP_MD_fetch(nullptr, "SHA384", nullptr),
                                                        EVP_MD_fetch(nullptr, "SHA512", nullptr)};
  const EVP_MD* found = kFetched[static_cast<std::size_t>(algorithm)];
  if (found == nullptr) throw std::runtime_error("OpenSSL offers no " + std::string(name(algorithm)));
  return found;
}

}  // namespace

std::string_view name(Algorithm algorithm) noexcept {
  switch (algorithm) {
    case Algorithm::sha256: return "sha256";
    case Algorithm::sha384: return "sha384";
    case Algorithm::sha512: break;
  }
  return "sha512";
}

std::optional<Algorithm> parse_algorithm(std::string_view text) noexcept {
  for (const Algorithm algorithm : {Algorithm::sha256, Algorithm::sha384, Algorithm::sha512}) {
    if (text == name(algorithm)) return algorithm;
  }
  return std::nullopt;
}

Result<Digest> Digest::parse(std::string_view text) {
  const std::size_t colon = text.find(':');
  if (colon == std::string_view::npos) return Error(Errc::digest_invalid, "a digest has the form algorithm:encoded");
  const std::string_view algorithm_text = text.substr(0, colon);
  const std::string_view encoded_text = text.substr(colon + 1);

  const std::optional<Algorithm> algorithm = parse_algorithm(algorithm_text);
  if (!algorithm) {
    if (!is_algorithm(algorithm_text) || !is_encoded(encoded_text)) {
      return Error(Errc::digest_invalid, "a digest has the form algorithm:encoded");
    }
    return Error(Errc::digest_unsupported, "the digest algorithm is none of sha256, sha384, sha512");
  }

  Digest digest;
  digest.algorithm_ = *algorithm;
  const std::size_t size = digest_bytes(*algorithm);
  if (encoded_text.size() != 2 * size) {
    return Error(Errc::digest_invalid, "a " + std::string(name(*algorithm)) + " digest has " +
                                           std::to_string(2 * size) + " hexadecimal digits");
  }
  for (std::size_t i = 0; i < size; ++i) {
    const unsigned high = hex_value(encoded_text[2 * i]);
    const unsigned low = hex_value(encoded_text[2 * i + 1]);
    if (high > 15 || low > 15) return Error(Errc::digest_invalid, "a digest is written in lowercase hexadecimal");
    digest.bytes_[i] = static_cast<std::byte>(high << 4 | low);
  }
  return digest;
}

Digest Digest::from_raw(Algorithm algorithm, std::span<const std::byte> raw) {
  if (raw.size() != digest_bytes(algorithm)) throw std::invalid_argument("Digest::from_raw: wrong length");
  Digest digest;
  digest.algorithm_ = algorithm;
  std::memcpy(digest.bytes_.data(), raw.data(), raw.size());
  return digest;
}

std::string Digest::encoded() const {
  std::string out(2 * digest_bytes(algorithm_), '\0');
  write_hex(out.data(), raw());
  return out;
}

std::string Digest::to_string() const {
  const std::string_view prefix = algorithm_name();
  std::string out(prefix.size() + 1 + 2 * digest_bytes(algorithm_), ':');
  prefix.copy(out.data(), prefix.size());
  write_hex(out.data() + prefix.size() + 1, raw());
  return out;
}

std::strong_ordering operator<=>(const Digest& a, const Digest& b) noexcept {
  if (const auto by_algorithm = a.algorithm_ <=> b.algorithm_; by_algorithm != 0) return by_algorithm;
  return std::memcmp(a.bytes_.data(), b.bytes_.data(), kMaxDigestBytes) <=> 0;
}

std::size_t hash_value(const Digest& digest) noexcept {
  // The address of a static object, which the loader places at random: a seed that needs no initialisation.
  static constexpr char kAnchor = 0;
  constexpr std::uint64_t kOdd = 0x9e3779b97f4a7c15;
  const std::uint64_t seed = reinterpret_cast<std::uintptr_t>(&kAnchor);
  std::uint64_t state = (seed + static_cast<std::uint64_t>(digest.algorithm_)) * kOdd;
  const std::span<const std::byte> raw = digest.raw();
  for (std::size_t i = 0; i < raw.size(); i += 16) {
    state = mix(load64(raw.data() + i) ^ state, load64(raw.data() + i + 8) ^ kOdd) + state;
  }
  return static_cast<std::size_t>(mix(state, kOdd));
}

void Hasher::ContextDeleter::operator()(evp_md_ctx_st* context) const noexcept { EVP_MD_CTX_free(context); }

Hasher::Hasher(Algorithm algorithm) : algorithm_(algorithm), context_(EVP_MD_CTX_new()) {
  if (!context_) throw std::bad_alloc();
  if (EVP_DigestInit_ex2(context_.get(), implementation(algorithm), nullptr) != 1) throw std::bad_alloc();
}

Hasher::~Hasher() = default;
Hasher::Hasher(Hasher&& other) noexcept = default;
Hasher& Hasher::operator=(Hasher&& other) noexcept = default;

void Hasher::update(std::span<const std::byte> bytes) {
  if (!context_) throw std::logic_error("Hasher::update after finish");
  if (EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) != 1) {
    throw std::runtime_error("EVP_DigestUpdate failed");
  }
}

Digest Hasher::finish() {
  if (!context_) throw std::logic_error("Hasher::finish called twice");
  std::array<unsigned char, EVP_MAX_MD_SIZE> out{};
  unsigned size = 0;
  if (EVP_DigestFinal_ex(context_.get(), out.data(), &size) != 1) throw std::runtime_error("EVP_DigestFinal failed");
  context_.reset();
  return Digest::from_raw(algorithm_, std::as_bytes(std::span(out)).first(size));
}

Digest digest_of(Algorithm algorithm, std::span<const std::byte> bytes) {
  Hasher hasher(algorithm);
  hasher.update(bytes);
  return hasher.finish();
}

Digest digest_of(Algorithm algorithm, std::string_view bytes) {
  return digest_of(algorithm, std::as_bytes(std::span(bytes)));
}

}  // namespace sluice::oci
