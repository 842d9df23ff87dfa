#include <catch2/catch.hpp>

#include "support.hpp"

using namespace sluice;
using namespace sluice::config;
using namespace sluice::config::testing;

TEST_CASE("Printout: it is a configuration that means the same", "[config]") {
  const Result<Settings> first = load_text(R"(
server: { listen: ":5000", idle_timeout: 1h2m3s4ms, max_header_bytes: 12345 }
fill: { window: off }
upstreams:
  gcr.io: off
  docker.io: { realm_hosts: [a.example, b.example] }
  own.example:5000: { url: "http://own.example:1/x" }
data: "/with \"quotes\" and \\"
)");
  REQUIRE(first.has_value());
  const std::string printed = describe(*first);
  INFO(printed);
  const Result<Settings> second = load_text(printed);
  REQUIRE(second.has_value());
  CHECK(describe(*second) == printed);
  CHECK(second->data == first->data);
  CHECK(second->server.idle_timeout == first->server.idle_timeout);
  CHECK(second->upstreams.count("gcr.io") == 0);
  CHECK(second->upstreams.at("docker.io").realm_hosts.size() == 2);
}

TEST_CASE("Printout: secrets are masked", "[config]") {
  const Result<Settings> loaded = load_text("upstreams: { quay.io: { username: me, password: hunter2 } }");
  REQUIRE(loaded.has_value());
  const std::string printed = describe(*loaded);
  CHECK(printed.find("hunter2") == std::string::npos);
  CHECK(printed.find("password: \"***\"") != std::string::npos);
}

TEST_CASE("Printout: passwords in URLs are masked in every text and list", "[config]") {
  for (const std::string password : {"hunter2", "hunter2\\hunter2", "hunter2@hunter2", "hunter2, 'hunter2'"}) {
    CAPTURE(password);
    Settings settings;
    settings.data = "/srv/me:" + password + "@host";
    settings.proxy.no_proxy = {"me:" + password + "@intern.example", "http://" + password + "@other.example"};
    settings.auth.htpasswd_file = "https://me:" + password + "@host/\"logins\"";
    settings.upstreams["quay.io"].ca_file = "me:" + password + "@host/ca.pem";
    const std::string printed = describe(settings);
    CHECK(printed.find("hunter2") == std::string::npos);
    CHECK(printed.find("/srv/me:***@host") != std::string::npos);
    CHECK(printed.find("[\"me:***@intern.example\", \"http://***@other.example\"]") != std::string::npos);
  }
}

TEST_CASE("Printout: a change of what is masked is a change", "[config]") {
  Settings from;
  from.proxy.no_proxy = {"me:one@intern.example"};
  from.proxy.https = "http://me:one@proxy.example:3128";
  from.redis.password = "one";
  Settings to = from;
  CHECK(changed_keys(from, to).empty());
  to.proxy.no_proxy = {"me:two@intern.example"};
  to.proxy.https = "http://me:two@proxy.example:3128";
  to.redis.password = "two";
  CHECK(changed_keys(from, to) == std::vector<std::string>{"redis.password", "proxy.https", "proxy.no_proxy"});
}

TEST_CASE("Printout: Redis's password is masked, and what is not set is left out", "[config]") {
  CHECK(describe(Settings{}).find("addresses") == std::string::npos);
  CHECK(describe(Settings{}).find("password") == std::string::npos);
  const Result<Settings> loaded = load_text(R"(
descriptors: { cache: redis }
redis: { addresses: ["10.0.0.1:6379", "unix:/run/redis.sock"], password: hunter2, db: 3, pool_size: 5 }
)");
  REQUIRE(loaded.has_value());
  const std::string printed = describe(*loaded);
  CHECK(printed.find("hunter2") == std::string::npos);
  CHECK(printed.find(
            "redis:\n  addresses: [\"10.0.0.1:6379\", \"unix:/run/redis.sock\"]\n  password: \"***\"\n  db: 3\n") !=
        std::string::npos);
  const Result<Settings> second = load_text(printed);
  REQUIRE(second.has_value());
  CHECK(describe(*second) == printed);
}

TEST_CASE("Printout: nested sections are opened once", "[config]") {
  const std::string printed = describe(Settings{});
  CHECK(printed.find(
            "log:\n  level: info\n  format: text\n  access:\n    enabled: true\n    format: text\n    file: \"-\"\n") !=
        std::string::npos);
  CHECK(printed.find("  window: 8MiB\n") != std::string::npos);
}

TEST_CASE("Describe: what it says of client certificates may be read again", "[config]") {
  CHECK(describe(Settings{}).find("client_certificate") == std::string::npos);
  Settings settings;
  settings.server.tls.client_ca_file = "/ca.pem";
  CHECK(describe(settings).find("client_certificate: required") != std::string::npos);
}
