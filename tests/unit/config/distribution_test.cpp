#include <map>
#include <string>
#include <vector>

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
  CHECK(loaded->data == "/srv/registry/sluice");
  CHECK(loaded->store.max_age == 168h);
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
  // It listens for all, with a login.
  REQUIRE(loaded->warnings.size() == 2);
  CHECK(loaded->warnings[1].find("whoever reaches this port may pull") != std::string::npos);
  CHECK(loaded->warnings[0] ==
        "these keys of distribution mean nothing here and are left out: log.fields, storage.delete, http.secret, "
        "http.headers, health");
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
  CHECK(loaded->data == "/var/lib/registry/sluice");
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

TEST_CASE("Distribution: a file of version 3 with everything in it", "[config]") {
  const Folder folder;
  const std::string htpasswd = folder.write("htpasswd", "").string();
  const std::string pem = folder.write("some.pem", "").string();
  const Result<Settings> loaded = load_text(R"(
version: 0.1
log:
  accesslog: { disabled: false }
  level: warning
  formatter: logstash
  fields: { service: mirror }
storage:
  filesystem: { rootdirectory: /srv/mirror, maxthreads: 50 }
  maintenance:
    uploadpurging: { enabled: true, age: 168h, interval: 24h, dryrun: false }
    readonly: { enabled: false }
  redirect: { disable: true }
  tag: { concurrencylimit: 8 }
auth:
  htpasswd: { realm: mirror, path: )" + htpasswd +
                                            R"( }
http:
  addr: 0.0.0.0:5443
  net: tcp
  prefix: /
  relativeurls: false
  tls:
    certificate: )" + pem + R"(
    key: )" + pem + R"(
    clientcas: [)" + pem + R"(]
    clientauth: verify-client-cert-if-given
    minimumtls: tls1.2
    letsencrypt: {}
  debug:
    addr: 127.0.0.1:5002
    prometheus: { enabled: true, path: /prometheus }
  http2: { disabled: false }
  h2c: { enabled: false }
notifications:
  events: { includereferences: true }
health:
  file: [{ file: /tmp/x, interval: 10s }]
  tcp: [{ addr: 'redis:6379', timeout: 3s, interval: 10s, threshold: 3 }]
validation: { disabled: true }
proxy:
  remoteurl: https://registry-1.docker.io
  ttl: 0
  exec: { command: docker-credential-x, lifetime: 1h }
)");
  if (!loaded) FAIL(loaded.error().message);
  CHECK(loaded->data == "/srv/mirror/sluice");
  CHECK(loaded->log.level == log::Level::warn);
  CHECK(loaded->log.format == log::Format::json);
  CHECK(loaded->auth.htpasswd_file == htpasswd);
  CHECK(loaded->auth.realm == "mirror");
  CHECK(loaded->server.tls.cert_file == pem);
  CHECK(loaded->server.tls.key_file == pem);
  CHECK(loaded->server.tls.client_ca_file == pem);
  CHECK(loaded->server.tls.client_certificate == ClientCertificate::optional);
  CHECK(loaded->store.max_age == 0ms);
  REQUIRE(loaded->warnings.size() == 2);
  CHECK(loaded->warnings[0].find("http.debug.prometheus.path: found \"/prometheus\"; metrics are at /metrics") !=
        std::string::npos);
  CHECK(loaded->warnings[1] ==
        "these keys of distribution mean nothing here and are left out: log.fields, storage.filesystem.maxthreads, "
        "storage.maintenance, storage.redirect, storage.tag, http.relativeurls, http.tls.minimumtls, http.http2, "
        "http.h2c, notifications, health, validation; no events are sent; TLS 1.2 and 1.3 are spoken, as OpenSSL does");
}

TEST_CASE("Distribution: what was open for metrics is told to be more", "[config]") {
  const std::string before = "version: 0.1\nproxy: {remoteurl: 'https://registry-1.docker.io'}\nhttp: {debug: {addr: ";
  const auto open = load_text(before + "':5001'}}\n");
  REQUIRE(open.has_value());
  CHECK(open->admin.listen == Endpoint{"", 5001});
  REQUIRE(open->warnings.size() == 1);
  CHECK(open->warnings[0].find("admin.listen is :5001, every address of this machine") == 0);
  const auto one = load_text(before + "'10.1.2.3:5001'}}\n");
  REQUIRE(one.has_value());
  REQUIRE(one->warnings.size() == 1);
  CHECK(one->warnings[0].find("http.debug.addr: becomes admin.listen") != std::string::npos);
  const auto closed = load_text(before + "'localhost:5001'}}\n");
  REQUIRE(closed.has_value());
  CHECK(closed->warnings.empty());
}

TEST_CASE("Distribution: a file of version 2 with what only that has", "[config]") {
  const Result<Settings> loaded = load_text(R"(
version: 0.1
loglevel: debug
reporting: { bugsnag: { apikey: key } }
storage: { filesystem: { rootdirectory: /srv/mirror }, cache: { layerinfo: inmemory } }
auth: none
http: { addr: ':5000', tls: { certificate: '', key: '' } }
compatibility: { schema1: { enabled: true } }
policy: { repository: { classes: [image] } }
proxy: { remoteurl: 'https://registry-1.docker.io' }
)");
  if (!loaded) FAIL(loaded.error().message);
  CHECK(loaded->log.level == log::Level::debug);
  CHECK(loaded->auth.htpasswd_file.empty());
  CHECK(loaded->server.tls == Tls{});
  REQUIRE(loaded->warnings.size() == 1);
  CHECK(loaded->warnings[0] ==
        "these keys of distribution mean nothing here and are left out: reporting, compatibility, policy");
}

TEST_CASE("Distribution: what must not be left out stops the start, with its line", "[config]") {
  const auto with = [](const std::string& text) {
    return complaints("version: 0.1\nproxy: { remoteurl: 'https://quay.io' }\n" + text);
  };
  CHECK(with("auth:\n  token: { realm: x }").find("sluice.yml:4: auth.token: found \"token\", expected htpasswd") == 0);
  CHECK(with("auth: silly").find("sluice.yml:3: auth: found \"silly\", expected htpasswd") == 0);
  CHECK(with("storage: { s3: { bucket: x } }").find("sluice.yml:3: storage.s3: found the storage driver \"s3\"") == 0);
  CHECK(with("storage: inmemory").find("sluice.yml:3: storage: found the storage driver \"inmemory\"") == 0);
  CHECK(with("http: { prefix: /mirror/ }").find("sluice.yml:3: http.prefix: found \"/mirror/\", expected none") == 0);
  CHECK(with("http: { net: unix }").find("sluice.yml:3: http.net: found \"unix\", expected tcp") == 0);
  CHECK(with("http: { tls: { letsencrypt: { email: me@example.com } } }")
            .find("sluice.yml:3: http.tls.letsencrypt: found a section, expected certificates of a file") == 0);
  CHECK(with("http: { tls: { clientauth: request-client-cert } }")
            .find("sluice.yml:3: http.tls.clientauth: found \"request-client-cert\"") == 0);
  CHECK(with("http: { tls: { clientcas: [a, b] } }")
            .find("sluice.yml:3: http.tls.clientcas: found several files, expected one") == 0);
}

TEST_CASE("Distribution: its variables lie over its file", "[config]") {
  const Folder folder;
  const auto file = folder.write("config.yml", R"(
version: 0.1
storage: { filesystem: { rootdirectory: /srv/registry }, cache: { blobdescriptor: redis } }
http: { addr: ':5000' }
redis: { addrs: ["10.0.0.1:6379"] }
proxy: { remoteurl: 'https://quay.io' }
)");
  const auto read = [&](std::map<std::string, std::string> environment) {
    return load({file, std::move(environment), {}});
  };
  const Result<Settings> loaded = read({{"REGISTRY_PROXY_REMOTEURL", "https://ghcr.io"},
                                        {"REGISTRY_PROXY_USERNAME", "me"},
                                        {"REGISTRY_PROXY_PASSWORD", "secret"},
                                        {"REGISTRY_HTTP", "{ draintimeout: 7s, addr: ':1' }"},
                                        {"REGISTRY_HTTP_ADDR", "127.0.0.1:5005"},
                                        {"REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", "/srv/other"},
                                        {"REGISTRY_REDIS_ADDRS_0", "10.0.0.2:6379"},
                                        {"REGISTRY_REDIS_ADDRS_1", "10.0.0.3:6379"},
                                        {"REGISTRY_REDIS_OPTIONS_PASSWORD", "word"},
                                        {"REGISTRY_LOG_ACCESSLOG_DISABLED", "true"},
                                        {"REGISTRY_HEALTH_FILECHECKERS_0_FILE", "/tmp/x"},
                                        {"REGISTRY_PORT_5000_TCP", "tcp://10.0.0.9:5000"},
                                        {"REGISTRY_CONFIGURATION_PATH", "/etc/other.yml"},
                                        {"SLUICE_SERVER_LISTEN", "127.0.0.1:5006"}});
  if (!loaded) FAIL(loaded.error().message);
  CHECK(loaded->default_upstream == "ghcr.io");
  CHECK(loaded->upstreams.at("ghcr.io").username == "me");
  CHECK(loaded->upstreams.at("ghcr.io").password == "secret");
  CHECK(loaded->server.listen.to_string() == "127.0.0.1:5006");  // our own variables stand above
  CHECK(loaded->server.drain_timeout == 7s);
  CHECK(loaded->data == "/srv/other/sluice");
  CHECK(loaded->redis.addresses == std::vector<std::string>{"10.0.0.2:6379", "10.0.0.3:6379"});
  CHECK(loaded->redis.password == "word");
  CHECK_FALSE(loaded->log.access.enabled);
  REQUIRE(loaded->warnings.size() == 3);
  CHECK(loaded->warnings[0] == "these variables are no key of distribution, and are left out: REGISTRY_PORT_5000_TCP");
  CHECK(loaded->warnings[2] == "these keys of distribution mean nothing here and are left out: health");

  const auto said = [&](std::map<std::string, std::string> environment) {
    const Result<Settings> refused = read(std::move(environment));
    return refused ? "ok" : refused.error().message;
  };
  CHECK(
      said({{"REGISTRY_HTTP_ADDR", "nowhere"}}).find("REGISTRY_HTTP_ADDR: found \"nowhere\", expected ADDRESS:PORT") ==
      0);
  CHECK(said({{"REGISTRY_AUTH_TOKEN_REALM", "x"}}).find("REGISTRY_AUTH_TOKEN_REALM: found \"token\"") == 0);
  CHECK(said({{"REGISTRY_STORAGE", "inmemory"}}).find("REGISTRY_STORAGE: found the storage driver \"inmemory\"") == 0);
  CHECK(said({{"REGISTRY_REDIS_ADDRS_2", "x"}}) == "REGISTRY_REDIS_ADDRS_2: found no item 2 of the list redis.addrs");
  CHECK(said({{"REGISTRY_PROXY_REMOTEURL_X", "x"}}).find("REGISTRY_PROXY_REMOTEURL_X: found below") == 0);
  CHECK(said({{"REGISTRY_HTTP_ADDR", "{"}}).find("REGISTRY_HTTP_ADDR: is not YAML") == 0);
  // To our own file they are nobody's.
  CHECK(load({folder.write("own.yml", "server: {}"), {{"REGISTRY_HTTP_ADDR", "{"}}, {}}).has_value());
}

TEST_CASE("Distribution: what cannot be mapped stops the start", "[config]") {
  CHECK(complaints("version: 0.1\nhttp: { addr: ':5000' }") ==
        "sluice.yml:1: proxy.remoteurl: found nothing, expected the URL of the registry to cache (sluice is a "
        "pull-through cache only)");
  CHECK(complaints("version: 0.2\nproxy: { remoteurl: 'https://quay.io' }") ==
        "sluice.yml:1: version: found \"0.2\", expected 0.1");
  CHECK(complaints("version: 0.1\nproxy:\n  remoteurl: 'quay.io'\n")
            .find("sluice.yml:3: proxy.remoteurl: found a value that is not shown here, expected a URL") == 0);
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

TEST_CASE("Distribution: auth that is named is in force, or stops the start", "[config]") {
  const auto with = [](const std::string& auth) {
    return complaints("version: 0.1\nproxy: { remoteurl: 'https://quay.io' }\nauth: " + auth);
  };
  for (const char* open : {"", "none", "''", "{}", "{ none: }", "{ none: {} }"}) {
    INFO(open);
    CHECK(with(open) == "ok");
  }
  for (const char* none : {"htpasswd", "{ htpasswd: }", "{ htpasswd: {} }", "{ htpasswd: { realm: x } }",
                           "{ htpasswd: { path: '' } }", "{ htpasswd: { path: , realm: x } }"}) {
    INFO(none);
    CHECK(with(none).find("found htpasswd without path") != std::string::npos);
  }
  CHECK(with("{ htpasswd: { path: /dev/null } }") == "ok");
  CHECK(with("{ htpasswd: { path: /dev/null, Path: /x } }").find("auth.htpasswd.Path: found an unknown key") !=
        std::string::npos);
  CHECK(with("{ token: }").find("auth.token: found \"token\", expected htpasswd") != std::string::npos);
  CHECK(with("{ htpasswd: silly }").find("expected a mapping") != std::string::npos);
}

TEST_CASE("Distribution: client certificates are asked for, or the start stops", "[config]") {
  const auto with = [](const std::string& tls) {
    return complaints("version: 0.1\nproxy: { remoteurl: 'https://quay.io' }\nhttp: { tls: { " + tls + " } }");
  };
  for (const char* bad : {"ca.pem", "''", "{ 0: ca.pem }", "['']", "[~]", "[[a]]"}) {
    INFO(bad);
    CHECK(with(std::string("clientcas: ") + bad).find("http.tls.clientcas: found no list of files") !=
          std::string::npos);
  }
  CHECK(with("clientcas: []") == "ok");
  CHECK(with("clientcas: ") == "ok");
  CHECK(with("clientauth: require-and-verify-client-cert").find("found required without server.tls.client_ca_file") !=
        std::string::npos);
  CHECK(with("certificate: /dev/null, key: /dev/null, clientcas: [/dev/null], "
             "clientauth: require-and-verify-client-cert") == "ok");
}

TEST_CASE("Distribution: variables open lists and the sections of a word", "[config]") {
  const Folder folder;
  const auto file = folder.write("config.yml",
                                 "version: 0.1\nproxy: { remoteurl: 'https://quay.io' }\n"
                                 "http: { tls: { certificate: /dev/null, key: /dev/null } }\n");
  const auto read = [&](std::map<std::string, std::string> environment) {
    return load({file, std::move(environment), {}});
  };
  const auto said = [&](std::map<std::string, std::string> environment) {
    const Result<Settings> loaded = read(std::move(environment));
    return loaded ? "ok" : loaded.error().message;
  };
  const Result<Settings> loaded = read({{"REGISTRY_AUTH", "htpasswd"},
                                        {"REGISTRY_AUTH_HTPASSWD_REALM", "the realm"},
                                        {"REGISTRY_AUTH_HTPASSWD_PATH", "/dev/null"},
                                        {"REGISTRY_STORAGE", "filesystem"},
                                        {"REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", "/srv/other"},
                                        {"REGISTRY_REDIS_ADDRS_0", "10.0.0.2:6379"},
                                        {"REGISTRY_HTTP_TLS_CLIENTCAS_0", "/dev/null"}});
  if (!loaded) FAIL(loaded.error().message);
  CHECK(loaded->auth.htpasswd_file == "/dev/null");
  CHECK(loaded->auth.realm == "the realm");
  CHECK(loaded->data == "/srv/other/sluice");
  CHECK(loaded->redis.addresses == std::vector<std::string>{"10.0.0.2:6379"});
  CHECK(loaded->server.tls.client_ca_file == "/dev/null");

  CHECK(read({{"REGISTRY_STORAGE", "filesystem"}})->data == "/var/lib/registry/sluice");
  CHECK(said({{"REGISTRY_HTTP_TLS_CLIENTCAS", "ca.pem"}}).find("REGISTRY_HTTP_TLS_CLIENTCAS: found no list") == 0);
  CHECK(said({{"REGISTRY_HTTP_TLS_CLIENTCAS_1", "ca.pem"}}) != "ok");
  CHECK(said({{"REGISTRY_AUTH", "htpasswd"}}).find("REGISTRY_AUTH: found htpasswd without path") == 0);
  CHECK(said({{"REGISTRY_AUTH", "htpasswd"}, {"REGISTRY_AUTH_HTPASSWD_PATHH", "/dev/null"}})
            .find("found an unknown key") != std::string::npos);
  CHECK(said({{"REGISTRY_AUTH_HTPASSWD_PATH", ""}}).find("found htpasswd without path") != std::string::npos);
  CHECK(said({{"REGISTRY_AUTH", "token"}, {"REGISTRY_AUTH_HTPASSWD_PATH", "/dev/null"}}).find("found \"token\"") !=
        std::string::npos);
  CHECK(said({{"REGISTRY_STORAGE", "inmemory"}, {"REGISTRY_STORAGE_CACHE_BLOBDESCRIPTOR", "inmemory"}})
            .find("found the storage driver \"inmemory\"") != std::string::npos);
}
