#include <catch2/catch.hpp>

#include "upstream/realm.hpp"

namespace sluice::upstream {
namespace {

bool may(const char* registry, const char* realm, const std::vector<std::string>& trusted = {}) {
  return may_see_credentials(*http::Url::parse(registry), *http::Url::parse(realm), trusted);
}

TEST_CASE("registrable_domain: one label more than the public suffix", "[upstream]") {
  CHECK(registrable_domain("auth.docker.io") == "docker.io");
  CHECK(registrable_domain("docker.io") == "docker.io");
  CHECK(registrable_domain("io").empty());
  CHECK(registrable_domain("a.b.example.co.uk") == "example.co.uk");
  CHECK(registrable_domain("co.uk").empty());
  CHECK(registrable_domain("alice.github.io") == "alice.github.io");
  CHECK(registrable_domain("registry.corp.internal") == "corp.internal");
  CHECK(registrable_domain("docker.io.") == "docker.io");
  CHECK(registrable_domain("").empty());
  // The list has it as one name, but its customers have names below it.
  CHECK(registrable_domain("1.dkr.ecr.eu-west-1.amazonaws.com").empty());
  CHECK(registrable_domain("azurecr.io").empty());
}

// Hosters' and clouds' suffixes below which anybody gets a name, and second levels of countries: CVE-2026-33540 is what
// happens where two of these count as one party.
TEST_CASE("may_see_credentials: two customers of one hoster are strangers", "[upstream]") {
  for (const char* suffix : {"azurecr.io",
                             "azurewebsites.net",
                             "westus.azurecontainer.io",
                             "cloudapp.azure.com",
                             "westus.cloudapp.azure.com",
                             "azurefd.net",
                             "trafficmanager.net",
                             "blob.core.windows.net",
                             "dkr.ecr.us-east-1.amazonaws.com",
                             "execute-api.us-east-1.amazonaws.com",
                             "s3.amazonaws.com",
                             "us-east-1.elb.amazonaws.com",
                             "lambda-url.us-east-1.on.aws",
                             "cloudfront.net",
                             "a.run.app",
                             "appspot.com",
                             "cloudfunctions.net",
                             "web.app",
                             "firebaseapp.com",
                             "github.io",
                             "gitlab.io",
                             "herokuapp.com",
                             "netlify.app",
                             "vercel.app",
                             "pages.dev",
                             "workers.dev",
                             "fly.dev",
                             "onrender.com",
                             "up.railway.app",
                             "koyeb.app",
                             "jfrog.io",
                             "eu-west-1.tencentcloudcr.com",
                             "cr.aliyuncs.com",
                             "azurecr.cn",
                             "ngrok.app",
                             "westus.azurecontainerapps.io",
                             "deno.dev",
                             "ondigitalocean.app",
                             "ngrok.io",
                             "ngrok-free.app",
                             "trycloudflare.com",
                             "nip.io",
                             "sslip.io",
                             "duckdns.org",
                             "hf.space",
                             "appdomain.cloud",
                             "co.uk",
                             "com.au",
                             "co.jp",
                             "com.br",
                             "co.ke",
                             "com.bd",
                             "gov.kz",
                             "com.pk",
                             "com.ng",
                             "co.th"}) {
    INFO(suffix);
    const std::string mine = std::string("https://mine.") + suffix;
    const std::string evil = std::string("https://evil.") + suffix + "/token";
    CHECK_FALSE(may(mine.c_str(), evil.c_str()));
    CHECK(may(mine.c_str(), (mine + "/token").c_str()));
    CHECK(may(mine.c_str(), evil.c_str(), {std::string("evil.") + suffix}));
  }
}

// The registries that need no configuration, and where they ask for tokens.
TEST_CASE("may_see_credentials: the registries that are built in", "[upstream]") {
  CHECK(may("https://registry-1.docker.io", "https://auth.docker.io/token"));
  CHECK(may("https://ghcr.io", "https://ghcr.io/token"));
  CHECK(may("https://quay.io", "https://quay.io/v2/auth"));
  CHECK(may("https://gcr.io", "https://gcr.io/v2/token"));
  CHECK(may("https://public.ecr.aws", "https://public.ecr.aws/token/"));
}

TEST_CASE("may_see_credentials: related hosts", "[upstream]") {
  CHECK(may("https://registry-1.docker.io", "https://auth.docker.io/token"));
  CHECK(may("https://ghcr.io", "https://ghcr.io/token"));
  CHECK(may("https://registry.gitlab.com", "https://gitlab.com/jwt/auth"));
  CHECK(may("https://registry.example.com:5000", "https://auth.example.com:5001/token"));
  CHECK(may("http://registry.example.com", "https://auth.example.com/token"));
}

TEST_CASE("may_see_credentials: strangers", "[upstream]") {
  CHECK_FALSE(may("https://registry-1.docker.io", "https://evil.example/token"));
  CHECK_FALSE(may("https://registry-1.docker.io", "https://docker.io.evil.example/token"));
  CHECK_FALSE(may("https://registry-1.docker.io", "https://evildocker.io/token"));
  CHECK_FALSE(may("https://a.co.uk", "https://b.co.uk/token"));
  CHECK_FALSE(may("https://a.github.io", "https://b.github.io/token"));
  CHECK_FALSE(may("https://1.dkr.ecr.eu-west-1.amazonaws.com", "https://bucket.s3.amazonaws.com/token"));
  CHECK_FALSE(may("https://registry.example.com", "http://registry.example.com/token"));
}

TEST_CASE("may_see_credentials: addresses and local names are exact", "[upstream]") {
  CHECK(may("http://127.0.0.1:5000", "http://127.0.0.1:5000/token"));
  CHECK_FALSE(may("http://127.0.0.1:5000", "http://127.0.0.1:5001/token"));
  CHECK_FALSE(may("http://10.0.0.1", "http://10.0.0.2/token"));
  CHECK_FALSE(may("http://1.2.3.4", "http://9.9.3.4/token"));
  CHECK_FALSE(may("http://localhost:5000", "http://localhost:5001/token"));
  CHECK_FALSE(may("http://registry:5000", "http://auth:5000/token"));
  CHECK(may("http://[::1]:5000", "http://[::1]:5000/token"));
}

TEST_CASE("may_see_credentials: trusted by name", "[upstream]") {
  CHECK(may("http://127.0.0.1:5000", "http://127.0.0.1:5001/token", {"127.0.0.1:5001"}));
  CHECK(may("https://a.example", "https://auth.other.example/token", {"x", "auth.other.example"}));
  CHECK_FALSE(may("https://a.example", "https://auth.other.example:444/t", {"auth.other.example:443"}));
  // Trust in a host is no trust in the line to it.
  CHECK_FALSE(may("https://a.example", "http://auth.other.example/token", {"auth.other.example"}));
}

}  // namespace
}  // namespace sluice::upstream
