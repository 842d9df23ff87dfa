#include <catch2/catch.hpp>

#include "support.hpp"

using namespace sluice;
using namespace sluice::config;
using namespace sluice::config::testing;
using namespace std::chrono_literals;

TEST_CASE("Distribution: a pull-through cache's config.yml starts sluice as it is", "[config]") {
  const Result<Settings> loaded = load_text(R"(
version: 0.1
log:
  level: debug
  formatter: json
  fields:
    service: registry
  accesslog:
    disabled: true
storage:
  cache:
    blobdescriptor: inmemory
    blobdescriptorsize: 500
  filesystem:
    rootdirectory: /srv/registry
  delete:
    enabled: true
http:
  addr: :5000
  draintimeout: 60s
  secret: hunter2
  headers:
    X-Content-Type-Options: [nosniff]
  debug:
    addr: localhost:5001
    prometheus: { enabled: true }
health:
  storagedriver: { enabled: true, interval: 10s, threshold: 3 }
proxy:
  remoteurl: https://registry-1.docker.io
  username: me
  password: secret-word
  ttl: 168h
)");
  REQUIRE(loaded.has_value());
  CHECK(loaded->server.listen == Endpoint{"", 5000});
  CHECK(loaded->admin.listen == Endpoint{"127.0.0.1", 5001});
  CHECK(loaded->data == "/srv/registry");
  CHECK(loaded->log.level == log::Level::debug);
  CHECK(loaded->log.format == log::Format::json);
  CHECK(loaded->log.access.format == log::Format::json);
  CHECK_FALSE(loaded->log.access.enabled);
  CHECK(loaded->descriptors.cache == DescriptorCache::memory);
  CHECK(loaded->descriptors.size == 500);
  CHECK(loaded->server.drain_timeout == 60s);
  CHECK(loaded->default_upstream == "docker.io");
  const Upstream& hub = loaded->upstreams.at("docker.io");
  CHECK(hub.url == "https://registry-1.docker.io");
  CHECK(hub.username == "me");
  CHECK(hub.password == "secret-word");
  CHECK(hub.library_prefix);
  REQUIRE(loaded->warnings.size() == 1);
  CHECK(loaded->warnings[0] ==
        "these keys of distribution mean nothing here and are left out: log.fields, storage.delete, http.secret, "
        "http.headers, http.debug.prometheus, health, proxy.ttl");
}

TEST_CASE("Distribution: the remote decides which upstream is the default", "[config]") {
  const Result<Settings> known = load_text("version: 0.1\nproxy: { remoteurl: 'https://ghcr.io/' }");
  REQUIRE(known.has_value());
  CHECK(known->default_upstream == "ghcr.io");
  CHECK(known->upstreams.at("docker.io").url == "https://registry-1.docker.io");

  const Result<Settings> own = load_text("version: 0.1\nproxy: { remoteurl: 'http://10.0.0.1:5000' }");
  REQUIRE(own.has_value());
  CHECK(own->default_upstream == "docker.io");
  CHECK(own->upstreams.at("docker.io").url == "http://10.0.0.1:5000");
  CHECK_FALSE(own->upstreams.at("docker.io").library_prefix);
}

TEST_CASE("Distribution: older names and Go's notations", "[config]") {
  const Result<Settings> loaded = load_text(
      "version: 0.1\nloglevel: error\nstorage: { filesystem: , cache: { layerinfo: inmemory } }\n"
      "http: { draintimeout: 5000000000 }\nproxy: { remoteurl: 'https://quay.io', username: '', password: '' }");
  REQUIRE(loaded.has_value());
  CHECK(loaded->log.level == log::Level::error);
  CHECK(loaded->data == "/var/lib/registry");
  CHECK(loaded->descriptors.cache == DescriptorCache::memory);
  CHECK(loaded->server.drain_timeout == 5s);
  CHECK(loaded->warnings.empty());
}

TEST_CASE("Distribution: layerinfo counts only where blobdescriptor is absent", "[config]") {
  const Result<Settings> loaded = load_text(
      "version: 0.1\nstorage: { cache: { layerinfo: strange, blobdescriptor: inmemory } }\n"
      "proxy: { remoteurl: 'https://quay.io' }");
  REQUIRE(loaded.has_value());
  CHECK(loaded->descriptors.cache == DescriptorCache::memory);
  CHECK(loaded->warnings.empty());
}

TEST_CASE("Distribution: another descriptor cache is warned about", "[config]") {
  const Result<Settings> strange = load_text(
      "version: 0.1\nstorage: { cache: { blobdescriptor: strange } }\nproxy: { remoteurl: 'https://quay.io' }");
  REQUIRE(strange.has_value());
  CHECK(strange->descriptors.cache == DescriptorCache::none);
}

TEST_CASE("Distribution: Redis in the form of version 2", "[config]") {
  const Result<Settings> loaded = load_text(R"(
version: 0.1
storage: { cache: { blobdescriptor: redis } }
redis:
  addr: localhost:6379
  password: asecret
  db: 2
  dialtimeout: 10ms
  readtimeout: 20000000
  writetimeout: 10ms
  pool: { maxidle: 16, maxactive: 64, idletimeout: 300s }
proxy: { remoteurl: 'https://quay.io' }
)");
  if (!loaded) FAIL(loaded.error().message);
  CHECK(loaded->descriptors.cache == DescriptorCache::redis);
  CHECK(loaded->redis.addresses == std::vector<std::string>{"localhost:6379"});
  CHECK(loaded->redis.password == "asecret");
  CHECK(loaded->redis.db == 2);
  CHECK(loaded->redis.connect_timeout == 10ms);
  CHECK(loaded->redis.command_timeout == 20ms);
  REQUIRE(loaded->warnings.size() == 1);
  CHECK(loaded->warnings[0] ==
        "these keys of distribution mean nothing here and are left out: redis.writetimeout, redis.pool");
}

TEST_CASE("Distribution: Redis in the form of version 3", "[config]") {
  const Result<Settings> loaded = load_text(R"(
version: 0.1
storage: { cache: { layerinfo: redis } }
redis:
  addrs: ["10.0.0.1:6379", "10.0.0.2:6379"]
  username: me
  password: asecret
  db: 0
  dialtimeout: 0
  readtimeout: -1
  tls: { certificate: x }
  poolsize: 10
proxy: { remoteurl: 'https://quay.io' }
)");
  if (!loaded) FAIL(loaded.error().message);
  CHECK(loaded->descriptors.cache == DescriptorCache::redis);
  CHECK(loaded->redis.addresses == std::vector<std::string>{"10.0.0.1:6379", "10.0.0.2:6379"});
  CHECK(loaded->redis.username == "me");
  CHECK(loaded->redis.connect_timeout == Redis{}.connect_timeout);
  CHECK(loaded->redis.command_timeout == Redis{}.command_timeout);
  REQUIRE(loaded->warnings.size() == 2);
  CHECK(loaded->warnings[0].find("redis.addrs: several addresses are tried in turn") != std::string::npos);
  CHECK(loaded->warnings[1].find("Redis is spoken to without TLS") != std::string::npos);

  // Chosen, and not said where.
  for (const char* redis : {"", "redis: { addr: '' }", "redis: { db: 1 }"}) {
    const Result<Settings> nowhere = load_text(
        "version: 0.1\nstorage: { cache: { blobdescriptor: redis } }\nproxy: { remoteurl: 'https://quay.io' }\n" +
        std::string(redis));
    REQUIRE_FALSE(nowhere.has_value());
    CHECK(nowhere.error().message.find(":2: storage.cache.blobdescriptor: found redis without redis.addresses") !=
          std::string::npos);
  }
}

TEST_CASE("Distribution: dropping its doors is said aloud", "[config]") {
  const Result<Settings> loaded = load_text(
      "version: 0.1\nauth: { htpasswd: { realm: x, path: y } }\nhttp: { tls: { certificate: x } }\n"
      "proxy: { remoteurl: 'https://quay.io' }");
  REQUIRE(loaded.has_value());
  REQUIRE(loaded->warnings.size() == 1);
  CHECK(loaded->warnings[0].find("everybody who reaches the port may pull; the port speaks plain HTTP") !=
        std::string::npos);
}

TEST_CASE("Distribution: what cannot be mapped stops the start", "[config]") {
  CHECK(complaints("version: 0.1\nhttp: { addr: ':5000' }") ==
        "sluice.yml:1: proxy.remoteurl: found nothing, expected the URL of the registry to cache (sluice is a "
        "pull-through cache only)");
  CHECK(complaints("version: 0.2\nproxy: { remoteurl: 'https://quay.io' }") ==
        "sluice.yml:1: version: found \"0.2\", expected 0.1");
  CHECK(complaints("version: 0.1\nproxy:\n  remoteurl: 'quay.io'\n")
            .find("sluice.yml:3: proxy.remoteurl: found \"quay.io\", expected a URL") == 0);
  CHECK(complaints("version: 0.1\nproxy: { remoteurl: 'https://quay.io' }\nhttp: { addr: unix }")
            .find("sluice.yml:3: http.addr: found \"unix\", expected ADDRESS:PORT") == 0);
  CHECK(complaints("version: 0.1\nproxy: { remoteurl: 'https://quay.io', username: me }")
            .find("sluice.yml:2: proxy.username: found without password") == 0);
}

TEST_CASE("Distribution: a credential helper and its lifetime", "[config]") {
  const auto lifetime = [](const std::string& exec) {
    const Result<Settings> loaded = load_text(
        "version: 0.1\nproxy: { remoteurl: 'https://quay.io', exec: { command: docker-credential-x" + exec + " } }");
    REQUIRE(loaded.has_value());
    const Upstream& upstream = loaded->upstreams.at("quay.io");
    CHECK(upstream.credential_helper == "docker-credential-x");
    return upstream.credential_lifetime;
  };
  using namespace std::chrono_literals;
  CHECK_FALSE(lifetime("").has_value());
  CHECK((lifetime(", lifetime: 0") == 0ms));
  CHECK((lifetime(", lifetime: 0s") == 0ms));
  CHECK((lifetime(", lifetime: 12h") == 12h));
  CHECK((lifetime(", lifetime: 1h30m") == 90min));
  CHECK((lifetime(", lifetime: 250ms") == 250ms));
  CHECK((lifetime(", lifetime: 60000000000") == 1min));
  CHECK((lifetime(", lifetime: -1s") == 0ms));
}
