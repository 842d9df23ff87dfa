#include "app/upstream_rights.hpp"

#include <fstream>
#include <iterator>
#include <optional>
#include <stdexcept>
#include <string_view>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <fmt/format.h>

#include "http/url.hpp"
#include "upstream/credential_source.hpp"
#include "upstream/docker_config.hpp"

namespace sluice::app {
namespace {

// Some milliseconds: what it makes lies on the disk and in Redis, where short passwords could be guessed from it.
constexpr int kRounds = 10'000;

std::optional<std::string> contents(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) return std::nullopt;
  std::string text{std::istreambuf_iterator<char>(in), {}};
  return in.bad() ? std::nullopt : std::optional(std::move(text));
}

// Collects what counts, each part with its length in front, so that no two lists read the same.
class Collected {
 public:
  explicit Collected(std::string name) : name_(std::move(name)) {}
  Collected(const Collected&) = delete;
  Collected& operator=(const Collected&) = delete;
  ~Collected() { OPENSSL_cleanse(text_.data(), text_.size()); }

  void add(std::string_view part) { text_.append(fmt::format("{}:", part.size())).append(part); }
  void add_all(const std::vector<std::string>& parts) {
    add(std::to_string(parts.size()));
    for (const std::string& part : parts) add(part);
  }
  void add_secret(std::string_view part) {
    add(part);
    has_secret_ = has_secret_ || !part.empty();
  }
  void add(const upstream::Credentials& login) {
    add(login.username);
    for (const std::string* secret : {&login.password, &login.identity_token, &login.registry_token}) {
      add_secret(*secret);
    }
  }
  // For a file that cannot be read, whatever stood in it before.
  void add_unreadable() {
    add("unreadable");
    complete_ = false;
  }
  [[nodiscard]] bool complete() const noexcept { return complete_; }

  [[nodiscard]] std::string hash() const {
    const std::string salt = "sluice, rights of " + name_;
    std::string out(32, '\0');
    if (PKCS5_PBKDF2_HMAC(text_.data(), static_cast<int>(text_.size()),
                          reinterpret_cast<const unsigned char*>(salt.data()), static_cast<int>(salt.size()),
                          has_secret_ ? kRounds : 1, EVP_sha256(), static_cast<int>(out.size()),
                          reinterpret_cast<unsigned char*>(out.data())) != 1) {
      throw std::runtime_error("PBKDF2 failed");
    }
    return out;
  }

 private:
  const std::string name_;
  std::string text_;
  bool has_secret_ = false;
  bool complete_ = true;
};

// What docker's file says of each address: its login, or the program that knows it.
void add_docker_config(const config::Login& login, const std::vector<std::string>& urls, Collected& to) {
  const std::optional<std::string> text = contents(login.docker_config);
  const Result<upstream::DockerConfig> parsed =
      text ? upstream::DockerConfig::parse(*text) : Result<upstream::DockerConfig>(Errc::not_found);
  if (!parsed) return to.add_unreadable();
  for (const std::string& url : urls) {
    const Result<http::Url> address = http::Url::parse(url);
    const auto found = address ? parsed->find(upstream::docker_servers(address->authority())) : std::nullopt;
    to.add(!found ? "none" : found->helper.empty() ? "login" : "helper");
    if (!found) continue;
    to.add(found->helper);
    to.add(found->credentials);
  }
}

// In the order in which they stand above one another (upstream_params.cpp).
void add_login(const config::Login& login, const std::vector<std::string>& urls, Collected& to) {
  if (!login.docker_config.empty()) {
    add_docker_config(login, urls, to);
  } else if (!login.credential_helper.empty()) {
    to.add("helper");
    to.add(login.credential_helper);
  } else if (!login.password_file.empty()) {
    const Result<upstream::Credentials> read =
        upstream::from_password_file(login.username, login.password_file)({}, false);
    if (!read) return to.add_unreadable();
    to.add("login");
    to.add(*read);
  } else if (!login.password.empty()) {
    to.add("login");
    to.add(upstream::Credentials{login.username, login.password});
  } else {
    to.add("none");
  }
}

}  // namespace

UpstreamRights rights_of(const std::string& name, const config::Upstream& from) {
  Collected address(name);
  address.add(from.url);
  Collected rights(name);
  std::vector<std::string> urls{from.url};
  urls.insert(urls.end(), from.endpoints.begin(), from.endpoints.end());
  rights.add_all(urls);
  rights.add(from.proxy);
  rights.add(from.access == config::Access::passthrough ? "passthrough" : "open");
  add_login(from, urls, rights);
  for (const config::CredentialRule& rule : from.credentials) {
    rights.add("rule");
    rights.add_all(rule.repositories);
    add_login(rule, urls, rights);
  }
  if (!from.cert_file.empty()) {
    const std::optional<std::string> certificate = contents(from.cert_file);
    rights.add("certificate");
    certificate ? rights.add(*certificate) : rights.add_unreadable();
  }
  return {{address.hash(), rights.hash()}, rights.complete()};
}

std::vector<std::filesystem::path> secret_files(const config::Upstream& from) {
  std::vector<std::filesystem::path> out;
  const auto add = [&out](const config::Login& login) {
    for (const std::filesystem::path& file : {login.password_file, login.docker_config}) {
      if (!file.empty()) out.push_back(file);
    }
  };
  add(from);
  for (const config::CredentialRule& rule : from.credentials) add(rule);
  return out;
}

}  // namespace sluice::app
