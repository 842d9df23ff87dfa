#include "upstream/coding.hpp"

#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <new>
#include <vector>

#include "upstream/content.hpp"

namespace sluice::upstream {
namespace {

constexpr std::string_view kGzipMagic("\x1f\x8b", 2);
constexpr std::string_view kZstdMagic("\x28\xb5\x2f\xfd", 4);
// RFC 9659: what a zstd coding may ask of who decodes it.
constexpr int kZstdWindowLog = 23;

Error broken() { return {Errc::upstream_protocol, "the body is not in the coding that its Content-Encoding names"}; }

bool starts_like(std::string_view bytes, std::string_view magic) noexcept {
  return bytes.substr(0, magic.size()) == magic.substr(0, bytes.size());
}

class Inflater final : public Decoder {
 public:
  explicit Inflater(Coding coding) : deflate_(coding == Coding::deflate) {}
  ~Inflater() override {
    if (begun_) inflateEnd(&stream_);
  }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;

  Result<Step> step(std::span<const std::byte> in, std::span<std::byte> out) override {
    if (in.empty()) return Step{};
    if (!begun_) begin(in.front());
    if (complete_) {
      // RFC 1952 section 2.2: members follow one another.
      if (deflate_ || inflateReset(&stream_) != Z_OK) return broken();
      complete_ = false;
    }
    // zlib does not write to its input.
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(in.data()));
    stream_.avail_in = static_cast<uInt>(std::min<std::size_t>(in.size(), 1U << 30U));
    stream_.next_out = reinterpret_cast<Bytef*>(out.data());
    stream_.avail_out = static_cast<uInt>(std::min<std::size_t>(out.size(), 1U << 30U));
    const uInt had = stream_.avail_in;
    const uInt room = stream_.avail_out;
    const int result = inflate(&stream_, Z_NO_FLUSH);
    if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR) return broken();
    complete_ = result == Z_STREAM_END;
    return Step{had - stream_.avail_in, room - stream_.avail_out};
  }
  [[nodiscard]] bool is_complete() const noexcept override { return complete_; }

 private:
  // `deflate` is the zlib format (RFC 9110 section 8.4.1.2); some servers send bare deflate.
  void begin(std::byte first) {
    const bool bare = deflate_ && (static_cast<unsigned>(first) & 0x0fU) != 8U;
    const int window = deflate_ ? (bare ? -MAX_WBITS : MAX_WBITS) : MAX_WBITS + 16;
    if (inflateInit2(&stream_, window) != Z_OK) throw std::bad_alloc();
    begun_ = true;
  }

  const bool deflate_;
  z_stream stream_{};
  bool begun_ = false;
  bool complete_ = false;
};

class Unzstd final : public Decoder {
 public:
  Unzstd() : context_(ZSTD_createDCtx()) {
    if (context_ == nullptr) throw std::bad_alloc();
    ZSTD_DCtx_setParameter(context_, ZSTD_d_windowLogMax, kZstdWindowLog);
  }
  ~Unzstd() override { ZSTD_freeDCtx(context_); }
  Unzstd(const Unzstd&) = delete;
  Unzstd& operator=(const Unzstd&) = delete;

  Result<Step> step(std::span<const std::byte> in, std::span<std::byte> out) override {
    ZSTD_inBuffer input{in.data(), in.size(), 0};
    ZSTD_outBuffer output{out.data(), out.size(), 0};
    const std::size_t left = ZSTD_decompressStream(context_, &output, &input);
    if (ZSTD_isError(left) != 0) return broken();
    if (input.pos != 0 || output.pos != 0) complete_ = left == 0;
    return Step{input.pos, output.pos};
  }
  [[nodiscard]] bool is_complete() const noexcept override { return complete_; }

 private:
  ZSTD_DCtx* const context_;
  bool complete_ = false;
};

}  // namespace

std::optional<Coding> coding_of(const http::ReceivedHead& head) {
  const std::vector<std::string_view> named = codings_named(head);
  if (named.size() != 1) return std::nullopt;
  constexpr std::array<std::pair<std::string_view, Coding>, 4> kCodings = {
      {{"gzip", Coding::gzip}, {"x-gzip", Coding::gzip}, {"deflate", Coding::deflate}, {"zstd", Coding::zstd}}};
  for (const auto& [known, coding] : kCodings) {
    if (http::same_field_name(named.front(), known)) return coding;
  }
  return std::nullopt;
}

bool may_begin(Coding coding, std::string_view bytes) noexcept {
  switch (coding) {
    case Coding::gzip: return starts_like(bytes, kGzipMagic);
    case Coding::zstd: return starts_like(bytes, kZstdMagic);
    case Coding::deflate: break;
  }
  return true;
}

bool is_compressed(std::string_view bytes) noexcept {
  return bytes.starts_with(kGzipMagic) || bytes.starts_with(kZstdMagic);
}

std::unique_ptr<Decoder> Decoder::make(Coding coding) {
  if (coding == Coding::zstd) return std::make_unique<Unzstd>();
  return std::make_unique<Inflater>(coding);
}

Result<std::string> decode(Coding coding, std::string_view encoded, std::size_t limit) {
  const std::unique_ptr<Decoder> decoder = Decoder::make(coding);
  std::string out;
  std::vector<std::byte> piece(std::size_t{64} << 10);
  auto in = std::as_bytes(std::span(encoded));
  for (;;) {
    const Result<Decoder::Step> step = decoder->step(in, piece);
    if (!step) return step.error();
    if (step->used == 0 && step->made == 0) break;
    in = in.subspan(step->used);
    if (step->made > limit - out.size()) return Error(Errc::upstream_protocol, "too long once it is decoded");
    out.append(reinterpret_cast<const char*>(piece.data()), step->made);
  }
  if (!in.empty() || !decoder->is_complete()) return broken();
  return out;
}

}  // namespace sluice::upstream
