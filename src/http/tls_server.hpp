// TLS on a listener: the certificate that it shows, and one connection's protocol state without any I/O.
//
// TlsServerContext is immutable and shared: a connection keeps the one that it began with, so another certificate is
// another context. Reading is thread-safe. TlsStream is its connection's, on one loop's thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/result.hpp"

struct ssl_st;
struct ssl_ctx_st;

namespace sluice::http {

class TlsServerContext {
 public:
  struct Params {
    std::string cert_file;        // PEM: the certificate, and those above it
    std::string key_file;         // PEM, without a passphrase
    std::string client_ca_file;   // PEM: who vouches for clients; empty: they are not asked for a certificate
    bool client_required = true;  // with client_ca_file: no connection without a certificate
  };

  // TLS 1.2 and later, HTTP/1.1 by ALPN. Errors: config_invalid, with the file and what is wrong with it. Reads files.
  static Result<std::shared_ptr<const TlsServerContext>> load(const Params& params);
  ~TlsServerContext();
  TlsServerContext(const TlsServerContext&) = delete;
  TlsServerContext& operator=(const TlsServerContext&) = delete;

  [[nodiscard]] ssl_ctx_st* native() const noexcept { return native_; }
  // When the certificate runs out.
  [[nodiscard]] std::chrono::system_clock::time_point not_after() const noexcept { return not_after_; }

 private:
  TlsServerContext(ssl_ctx_st* native, std::chrono::system_clock::time_point not_after)
      : native_(native), not_after_(not_after) {}

  ssl_ctx_st* const native_;
  const std::chrono::system_clock::time_point not_after_;
};

// handshaking ──done──▶ open ──close_notify()──▶ closing; `failed` from anywhere, and then nothing else is called.
class TlsStream {
 public:
  enum class Step : std::uint8_t { done, need_input, closed, failed };

  // Throws std::bad_alloc.
  explicit TlsStream(const TlsServerContext& context);
  ~TlsStream();
  TlsStream(const TlsStream&) = delete;
  TlsStream& operator=(const TlsStream&) = delete;

  // What has come from the client.
  void feed(std::string_view ciphertext) { input_.append(ciphertext); }
  // What is to go to the client; each of the functions below may add to it.
  [[nodiscard]] std::string_view output() const noexcept { return std::string_view(output_).substr(sent_); }
  void consume_output(std::size_t bytes) noexcept;

  // Until it is done. After a failure the output has the alert that says why.
  Step handshake();
  // At most so many bytes; with Step::done `n` of them, at least one.
  Step read(std::span<char> to, std::size_t& n);
  // All of it goes into the output.
  bool write(std::string_view plaintext);
  // No more will be written.
  void close_notify();
  // Gives back what large answers have needed, where nothing is buffered.
  void shrink();

  // Why the last step failed; for logs.
  [[nodiscard]] const std::string& why() const noexcept { return why_; }

 private:
  friend struct TlsBio;
  Step failed_step(int result);

  ssl_st* ssl_;
  std::string input_;
  std::size_t taken_ = 0;  // of input_, by OpenSSL
  std::string output_;
  std::size_t sent_ = 0;  // of output_
  std::string why_;
};

}  // namespace sluice::http
