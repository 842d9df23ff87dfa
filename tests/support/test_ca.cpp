#include "support/test_ca.hpp"

#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <stdexcept>

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

namespace sluice::test {
namespace {

using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
using Certificate = std::unique_ptr<X509, decltype(&X509_free)>;

void need(bool ok, const char* what) {
  if (!ok) throw std::runtime_error(std::string("test CA: ") + what);
}

Key make_key() {
  Key key(EVP_EC_gen("P-256"), &EVP_PKEY_free);
  need(key != nullptr, "no key");
  return key;
}

void extend(X509* certificate, X509* issuer, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str());
  need(extension != nullptr, "extension");
  X509_add_ext(certificate, extension, -1);
  X509_EXTENSION_free(extension);
}

constexpr long kDay = 24 * 3600;

Certificate make_certificate(EVP_PKEY* key, const std::string& common_name, X509* issuer, long valid_seconds = kDay) {
  static std::atomic<long> serial{1};
  Certificate certificate(X509_new(), &X509_free);
  X509_set_version(certificate.get(), X509_VERSION_3);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), serial++);
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), -3600);
  X509_gmtime_adj(X509_getm_notAfter(certificate.get()), valid_seconds);
  X509_NAME* name = X509_get_subject_name(certificate.get());
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>(common_name.c_str()), -1,
                             -1, 0);
  X509_set_issuer_name(certificate.get(), issuer == nullptr ? name : X509_get_subject_name(issuer));
  X509_set_pubkey(certificate.get(), key);
  return certificate;
}

}  // namespace

struct TestCa::Keys {
  Key key = make_key();
  Certificate certificate = make_certificate(key.get(), "sluice test CA", nullptr);

  [[nodiscard]] Certificate sign(EVP_PKEY* for_key, const std::vector<std::string>& names,
                                 long valid_seconds = kDay) const;
};

TestCa::TestCa() : keys_(std::make_unique<Keys>()) {
  X509* certificate = keys_->certificate.get();
  extend(certificate, certificate, NID_basic_constraints, "critical,CA:TRUE");
  extend(certificate, certificate, NID_key_usage, "critical,keyCertSign,cRLSign");
  need(X509_sign(certificate, keys_->key.get(), EVP_sha256()) > 0, "signature");

  std::string path = (std::filesystem::temp_directory_path() / "sluice-test-ca-XXXXXX").string();
  const int fd = mkstemp(path.data());
  need(fd >= 0, "temporary file");
  FILE* out = fdopen(fd, "w");
  PEM_write_X509(out, certificate);
  std::fclose(out);
  file_ = path;
}

TestCa::~TestCa() {
  std::error_code ignored;
  std::filesystem::remove(file_, ignored);
}

Certificate TestCa::Keys::sign(EVP_PKEY* for_key, const std::vector<std::string>& names, long valid_seconds) const {
  Certificate out = make_certificate(for_key, "sluice test server", certificate.get(), valid_seconds);
  std::string joined;
  for (const std::string& name : names) joined += (joined.empty() ? "" : ",") + name;
  extend(out.get(), certificate.get(), NID_subject_alt_name, joined);
  need(X509_sign(out.get(), key.get(), EVP_sha256()) > 0, "signature");
  return out;
}

TestCa::Issued TestCa::issue(const std::vector<std::string>& names) const {
  const Key key = make_key();
  const Certificate certificate = keys_->sign(key.get(), names);
  Issued out;
  const std::unique_ptr<BIO, decltype(&BIO_free)> memory(BIO_new(BIO_s_mem()), &BIO_free);
  const auto taken = [&memory] {
    char* text = nullptr;
    const long size = BIO_get_mem_data(memory.get(), &text);
    std::string pem(text, static_cast<std::size_t>(size));
    (void)BIO_reset(memory.get());
    return pem;
  };
  need(PEM_write_bio_X509(memory.get(), certificate.get()) == 1, "certificate");
  out.certificate = taken();
  need(PEM_write_bio_PrivateKey(memory.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr) == 1, "key");
  out.key = taken();
  return out;
}

std::shared_ptr<ssl_ctx_st> TestCa::server_context(const std::vector<std::string>& names) const {
  return context(names, kDay);
}

std::shared_ptr<ssl_ctx_st> TestCa::expired_context(const std::vector<std::string>& names) const {
  return context(names, -60);
}

std::shared_ptr<ssl_ctx_st> TestCa::context(const std::vector<std::string>& names, long valid_seconds) const {
  const Key key = make_key();
  const Certificate certificate = keys_->sign(key.get(), names, valid_seconds);
  std::shared_ptr<SSL_CTX> context(SSL_CTX_new(TLS_server_method()), &SSL_CTX_free);
  need(SSL_CTX_use_certificate(context.get(), certificate.get()) == 1, "certificate");
  need(SSL_CTX_use_PrivateKey(context.get(), key.get()) == 1, "key");
  return context;
}

}  // namespace sluice::test
