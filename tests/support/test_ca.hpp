// TestCa: a certificate authority that lives as long as a test, with certificates for servers on loopback.
//
// Keys and certificates are made in the process; the CA's certificate is written to a temporary file, which goes with
// the object. Thread-safe once made.
#pragma once

#include <memory>
#include <string>
#include <vector>

struct ssl_ctx_st;

namespace sluice::test {

class TestCa {
 public:
  TestCa();
  ~TestCa();
  TestCa(const TestCa&) = delete;
  TestCa& operator=(const TestCa&) = delete;

  // PEM, for the client.
  [[nodiscard]] const std::string& certificate_file() const noexcept { return file_; }

  // A server's side with a fresh certificate for `names`, as OpenSSL writes subjectAltName: "IP:127.0.0.1",
  // "DNS:localhost".
  [[nodiscard]] std::shared_ptr<ssl_ctx_st> server_context(const std::vector<std::string>& names) const;
  // The same with a certificate that has expired a minute ago.
  [[nodiscard]] std::shared_ptr<ssl_ctx_st> expired_context(const std::vector<std::string>& names) const;

  // A fresh certificate for `names` and its key, both as PEM.
  struct Issued {
    std::string certificate;
    std::string key;
  };
  [[nodiscard]] Issued issue(const std::vector<std::string>& names) const;

 private:
  struct Keys;
  [[nodiscard]] std::shared_ptr<ssl_ctx_st> context(const std::vector<std::string>& names, long valid_seconds) const;

  std::unique_ptr<Keys> keys_;
  std::string file_;
};

}  // namespace sluice::test
