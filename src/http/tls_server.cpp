#include "http/tls_server.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <ctime>
#include <new>

#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

namespace sluice::http {
namespace {

// What a connection at rest may keep of its buffers.
constexpr std::size_t kRestingBytes = std::size_t{4} << 10;

struct ContextDeleter {
  void operator()(SSL_CTX* context) const noexcept { SSL_CTX_free(context); }
};
using ContextOwner = std::unique_ptr<SSL_CTX, ContextDeleter>;

// The first reason is the cause, those behind it are its consequences.
std::string reason() {
  const unsigned long code = ERR_get_error();
  ERR_clear_error();
  if (code == 0) return "no reason given";
  // ERR_reason_error_string knows nothing of a system call's.
  if (ERR_SYSTEM_ERROR(code)) return std::strerror(ERR_GET_REASON(code));
  const char* const text = ERR_reason_error_string(code);
  return text != nullptr ? text : fmt::format("OpenSSL error {:x}", code);
}

Error unusable(std::string_view what, const std::string& file) {
  return {Errc::config_invalid, fmt::format("cannot use {} in {}: {}", what, file, reason())};
}

// No terminal is there to be asked for a passphrase.
int no_passphrase(char* /*buffer*/, int /*size*/, int /*for_writing*/, void* /*data*/) { return -1; }

// RFC 7301 section 3.2: a client that offers only what is not spoken here is told so.
int choose_protocol(SSL* /*ssl*/, const unsigned char** out, unsigned char* out_length, const unsigned char* offered,
                    unsigned offered_length, void* /*data*/) {
  static constexpr std::array<unsigned char, 9> kOurs{8, 'h', 't', 't', 'p', '/', '1', '.', '1'};
  unsigned char* chosen = nullptr;
  const int found = SSL_select_next_proto(&chosen, out_length, kOurs.data(), kOurs.size(), offered, offered_length);
  *out = chosen;
  return found == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

std::chrono::system_clock::time_point end_of(SSL_CTX* context) {
  std::tm at{};
  const X509* const certificate = SSL_CTX_get0_certificate(context);
  if (certificate == nullptr || ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &at) != 1) return {};
  return std::chrono::system_clock::from_time_t(::timegm(&at));
}

Result<void> ask_for_certificates(SSL_CTX* context, const TlsServerContext::Params& params) {
  if (params.client_ca_file.empty()) return {};
  const char* const file = params.client_ca_file.c_str();
  if (SSL_CTX_load_verify_file(context, file) != 1) return unusable("the certificates", params.client_ca_file);
  STACK_OF(X509_NAME)* const names = SSL_load_client_CA_file(file);
  if (names == nullptr) return unusable("the certificates", params.client_ca_file);
  SSL_CTX_set_client_CA_list(context, names);
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER | (params.client_required ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
                     nullptr);
  return {};
}

}  // namespace

Result<std::shared_ptr<const TlsServerContext>> TlsServerContext::load(const Params& params) {
  ERR_clear_error();
  ContextOwner context(SSL_CTX_new(TLS_server_method()));
  if (!context) return Error(Errc::config_invalid, "cannot set up TLS: " + reason());
  SSL_CTX* const raw = context.get();
  SSL_CTX_set_min_proto_version(raw, TLS1_2_VERSION);
  SSL_CTX_set_options(raw, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE);
  SSL_CTX_set_mode(raw, SSL_MODE_RELEASE_BUFFERS);
  // Tickets let clients come back without a table of sessions here; they end with this context.
  SSL_CTX_set_session_cache_mode(raw, SSL_SESS_CACHE_OFF);
  static constexpr std::string_view kSessionContext = "sluice";
  SSL_CTX_set_session_id_context(raw, reinterpret_cast<const unsigned char*>(kSessionContext.data()),
                                 static_cast<unsigned>(kSessionContext.size()));
  SSL_CTX_set_alpn_select_cb(raw, choose_protocol, nullptr);
  SSL_CTX_set_default_passwd_cb(raw, no_passphrase);
  if (SSL_CTX_use_certificate_chain_file(raw, params.cert_file.c_str()) != 1) {
    return unusable("the certificate", params.cert_file);
  }
  if (SSL_CTX_use_PrivateKey_file(raw, params.key_file.c_str(), SSL_FILETYPE_PEM) != 1) {
    return unusable("the key", params.key_file);
  }
  if (SSL_CTX_check_private_key(raw) != 1) {
    ERR_clear_error();
    return Error(Errc::config_invalid,
                 fmt::format("the key in {} is not that of the certificate in {}", params.key_file, params.cert_file));
  }
  if (const Result<void> asking = ask_for_certificates(raw, params); !asking) return asking.error();
  const auto not_after = end_of(raw);
  return std::shared_ptr<const TlsServerContext>(new TlsServerContext(context.release(), not_after));
}

TlsServerContext::~TlsServerContext() { SSL_CTX_free(native_); }

// OpenSSL's view of the two buffers.
struct TlsBio {
  static TlsStream& stream(BIO* bio) { return *static_cast<TlsStream*>(BIO_get_data(bio)); }

  static int write(BIO* bio, const char* bytes, std::size_t size, std::size_t* written) {
    stream(bio).output_.append(bytes, size);
    *written = size;
    return 1;
  }

  static int read(BIO* bio, char* to, std::size_t size, std::size_t* n) {
    TlsStream& from = stream(bio);
    BIO_clear_retry_flags(bio);
    *n = std::min(size, from.input_.size() - from.taken_);
    if (*n == 0) {
      BIO_set_retry_read(bio);
      return 0;
    }
    std::memcpy(to, &from.input_[from.taken_], *n);
    from.taken_ += *n;
    if (from.taken_ == from.input_.size()) {
      from.input_.clear();
      from.taken_ = 0;
    }
    return 1;
  }

  static long control(BIO* /*bio*/, int command, long /*number*/, void* /*pointer*/) {
    return command == BIO_CTRL_FLUSH ? 1 : 0;
  }

  static const BIO_METHOD* method() {
    static BIO_METHOD* const made = [] {
      BIO_METHOD* const out = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "sluice");
      if (out == nullptr) throw std::bad_alloc();
      BIO_meth_set_write_ex(out, write);
      BIO_meth_set_read_ex(out, read);
      BIO_meth_set_ctrl(out, control);
      return out;
    }();
    return made;
  }
};

TlsStream::TlsStream(const TlsServerContext& context) : ssl_(SSL_new(context.native())) {
  BIO* const bio = ssl_ == nullptr ? nullptr : BIO_new(TlsBio::method());
  if (bio == nullptr) {
    SSL_free(ssl_);
    throw std::bad_alloc();
  }
  BIO_set_data(bio, this);
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl_, bio, bio);
  SSL_set_accept_state(ssl_);
}

TlsStream::~TlsStream() { SSL_free(ssl_); }

void TlsStream::consume_output(std::size_t bytes) noexcept {
  sent_ += bytes;
  if (sent_ < output_.size()) return;
  output_.clear();
  sent_ = 0;
}

TlsStream::Step TlsStream::failed_step(int result) {
  switch (SSL_get_error(ssl_, result)) {
    case SSL_ERROR_WANT_READ: return Step::need_input;
    case SSL_ERROR_ZERO_RETURN: return Step::closed;
    default: why_ = reason(); return Step::failed;
  }
}

TlsStream::Step TlsStream::handshake() {
  ERR_clear_error();
  const int result = SSL_do_handshake(ssl_);
  return result == 1 ? Step::done : failed_step(result);
}

TlsStream::Step TlsStream::read(std::span<char> to, std::size_t& n) {
  ERR_clear_error();
  const int result = SSL_read_ex(ssl_, to.data(), to.size(), &n);
  return result == 1 ? Step::done : failed_step(result);
}

bool TlsStream::write(std::string_view plaintext) {
  if (plaintext.empty()) return true;
  ERR_clear_error();
  std::size_t written = 0;
  // The output takes everything, so that a part is never written.
  if (SSL_write_ex(ssl_, plaintext.data(), plaintext.size(), &written) == 1) return true;
  why_ = reason();
  return false;
}

void TlsStream::close_notify() {
  ERR_clear_error();
  (void)SSL_shutdown(ssl_);
  ERR_clear_error();
}

void TlsStream::shrink() {
  if (output_.empty() && output_.capacity() > kRestingBytes) output_.shrink_to_fit();
  if (input_.empty() && input_.capacity() > kRestingBytes) input_.shrink_to_fit();
}

}  // namespace sluice::http
