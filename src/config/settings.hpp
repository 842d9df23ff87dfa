// What sluice can be told, as one plain value; how it is read is load.hpp.
//
// Owned by main, which hands parts of it to the components that it makes; a value that nobody changes once the program
// runs, so any thread may read it. Each field's default is what an empty configuration gives; docs/configuration.md
// explains each key.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/log.hpp"
#include "base/size_limit.hpp"

namespace sluice::config {

using Duration = std::chrono::milliseconds;

// Where to listen. `address` is an IP address without brackets ("127.0.0.1", "::1", "0.0.0.0"), never a name; empty
// means every address, IPv6 and IPv4.
struct Endpoint {
  std::string address;
  std::uint16_t port = 0;  // 0: any free one

  // "127.0.0.1:5000", "[::1]:5000", ":5000".
  [[nodiscard]] std::string to_string() const;
  // "ADDRESS:PORT", "[IPv6]:PORT", "localhost:PORT" and ":PORT"; nothing for anything else.
  static std::optional<Endpoint> parse(std::string_view text);

  friend bool operator==(const Endpoint&, const Endpoint&) = default;
};

// What one client of the registry API may have, by its address; an IPv6 client is its /64. 0: no limit.
struct ClientLimits {
  std::size_t max_connections = 1'000;
  std::size_t requests_per_second = 0;  // with a second's worth at once
};

enum class ClientCertificate : std::uint8_t { required, optional };

// Of the registry API; without a certificate it is plain HTTP.
struct Tls {
  std::filesystem::path cert_file;       // PEM: the certificate, and those above it
  std::filesystem::path key_file;        // PEM: its key
  std::filesystem::path client_ca_file;  // PEM: who vouches for clients; empty: they are not asked
  ClientCertificate client_certificate = ClientCertificate::required;

  friend bool operator==(const Tls&, const Tls&) = default;
};

struct Server {
  Endpoint listen{"127.0.0.1", 5000};
  std::size_t threads = 0;                   // event loops; 0: one for each processor that may be used
  Duration header_timeout{30'000};           // from the first byte of a request's head to its last
  Duration idle_timeout{120'000};            // between two requests of a connection
  Duration send_stall_timeout{60'000};       // a client that takes no byte for this long is dropped
  std::size_t max_header_bytes = 64 * 1024;  // request line and fields together; more is answered with 431
  std::size_t max_connections = 10'000;      // of clients; further ones wait in the listener's backlog
  Duration drain_delay{};                    // how long SIGTERM only makes /readyz say that it drains
  Duration drain_timeout{30'000};            // what SIGTERM then leaves the running requests
  // A Host that names the upstream where `*` stands: "*.cache.example". Empty: Host means nothing.
  std::string host_pattern;
  std::string instance_id;                   // what Via calls this cache; empty: a random name at each start
  std::vector<std::string> allow;            // networks of clients ("10.0.0.0/8"); empty: everybody
  std::vector<std::string> deny;             // stands above it
  std::vector<std::string> trusted_proxies;  // networks whose word about their clients is taken
  bool proxy_protocol = false;               // from trusted proxies: PROXY headers, and none without
  ClientLimits client;
  Tls tls;
};

// Who has a login at the cache itself.
struct Auth {
  std::filesystem::path htpasswd_file;  // "user:bcrypt" in each line; empty: nobody needs one
  std::string realm = "sluice";
  Duration remember{60'000};  // how long a login that was checked is not checked again; 0: each time
};

// Which repositories are there for clients: patterns of their names with the upstream in front, "docker.io/library/*".
struct Repositories {
  std::vector<std::string> allow;  // empty: all
  std::vector<std::string> deny;   // stands above it
};

struct Admin {
  Endpoint listen{"127.0.0.1", 5001};
  // Names that a Host may have besides IP addresses and localhost; "*": any, but not for the admin API.
  std::vector<std::string> hosts;
};

struct AccessLog {
  bool enabled = true;
  log::Format format = log::Format::text;
  std::string file = "-";  // "-": standard output
};

struct Log {
  log::Level level = log::Level::info;
  log::Format format = log::Format::text;
  AccessLog access;
};

// What becomes of a fill when its last reader has left.
enum class Abandoned : std::uint8_t {
  finish,  // it is completed
  park,    // it stops, and what has arrived is kept for the next request
};

// How a range of a blob that is not here is answered.
enum class Ranges : std::uint8_t {
  direct,  // from upstream, by itself, where the blob's fill has not come near it
  fill,    // by the fill of the whole blob, once it has come so far
};

// What of an image is fetched before its clients ask for it.
enum class Prefetch : std::uint8_t { none, config, layers };

struct Fill {
  std::uint64_t window_bytes = 8 * 1024 * 1024;   // how far it may run ahead of its fastest reader; 0 ("off"): freely
  std::uint64_t memory_bytes = 64 * 1024 * 1024;  // what all fills that cannot be stored may hold in memory
  Abandoned abandoned = Abandoned::finish;
  Ranges ranges = Ranges::direct;
  // How much of a blob is passed through in ranges before it is fetched whole; 0 ("off"): however much.
  std::uint64_t range_limit_bytes = 8 * 1024 * 1024;
  Prefetch prefetch = Prefetch::none;
  std::size_t prefetch_parallel = 8;                      // blobs of one upstream at a time
  std::uint64_t prefetch_bytes = std::uint64_t{1} << 30;  // what those of all upstreams may come to
};

enum class DescriptorCache : std::uint8_t { none, memory, redis };

struct Descriptors {
  DescriptorCache cache = DescriptorCache::memory;
  std::size_t size = 10'000;     // entries; 0: unlimited
  Duration ttl{24 * 3600'000};   // how long upstream's word that a repository has a blob is believed; 0: for ever
  Duration negative_ttl{5'000};  // how long "upstream does not have it" is believed; 0: not at all
};

// Used where descriptors.cache is redis.
struct Redis {
  std::vector<std::string> addresses;  // "host:port" or "unix:/path", tried in turn
  std::string username;                // empty: the default user
  std::string password;                // from `password` or read from `password_file`; never logged
  std::filesystem::path password_file;
  std::size_t db = 0;
  Duration connect_timeout{1'000};
  Duration command_timeout{500};  // what a Redis in trouble costs a request at most
  std::size_t pool_size = 2;      // connections of each event loop
  Duration memory_ttl{1'000};     // how long its answers are kept in memory; 0: it is asked each time
};

struct Tags {
  Duration ttl{60'000};   // how long a tag's digest is believed before upstream is asked again; 0: not at all
  Duration stale_for{0};  // how much longer it is served while upstream is out of reach; 0: for ever
};

struct Manifests {
  std::uint64_t memory_cache_bytes = 64 * 1024 * 1024;  // 0: every manifest is read from its file
};

struct Store {
  bool fsync = true;        // a blob is on the disk before it counts as stored
  unsigned mode = 0600;     // of the files below `data`; who may read a file may search its directory too
  std::size_t threads = 4;  // for each of the two lanes of disk work
  // What all files below `data` may take, and what must stay free on their file system; off: no limit.
  SizeLimit max_size{.percent = 90};
  SizeLimit min_free{.percent = 5};
  Duration max_age{0};                            // blobs that were not used for so long are evicted; 0: never
  Duration part_max_age{std::chrono::hours{24}};  // for how long a broken download waits to be gone on with
  Duration quarantine_max_age{std::chrono::hours{7 * 24}};  // for how long damaged blobs are kept for inspection
  std::uint64_t scrub_rate = 8 * 1024 * 1024;               // bytes a second that are read again; 0: nothing is
  Duration scrub_interval{std::chrono::hours{7 * 24}};      // each blob, once in so long
  bool delete_enabled = false;                              // DELETE of blobs and manifests takes them out of the cache
};

// Who says what a client may pull from an upstream.
enum class Access : std::uint8_t {
  open,         // nobody: whoever reaches the cache pulls what our credentials may
  passthrough,  // upstream, for each client's own Authorization
};

// How to log in at an upstream. At most one of a password, a docker_config and a credential_helper; none: anonymous.
struct Login {
  std::string username;
  std::string password;  // from `password` or read from `password_file`; never logged
  std::filesystem::path password_file;
  std::filesystem::path docker_config;          // docker's config.json
  std::string credential_helper;                // "ecr-login" for docker-credential-ecr-login, or a path
  std::optional<Duration> credential_lifetime;  // of what the helper says; 0: it is asked each time; nothing: once

  friend bool operator==(const Login&, const Login&) = default;
};

// How to log in for some repositories of an upstream.
struct CredentialRule : Login {
  std::vector<std::string> repositories;  // patterns: `*` within a part of the name, `**` across parts
  bool anonymous = false;

  friend bool operator==(const CredentialRule&, const CredentialRule&) = default;
};

// Where requests leave by. "off": directly, whatever the environment says; empty: not set.
struct Proxy {
  std::string https;                  // "http://user:password@proxy.example:3128"; for https URLs
  std::string http;                   // for http URLs
  std::vector<std::string> no_proxy;  // hosts that are reached directly, as in NO_PROXY

  friend bool operator==(const Proxy&, const Proxy&) = default;
};

struct Upstream : Login {
  std::string url;                     // "https://registry-1.docker.io": scheme, host, port, path; no slash at its end
  std::vector<std::string> endpoints;  // further addresses of the same registry, in the same form
  std::vector<CredentialRule> credentials;  // the first that fits a repository stands above the Login
  std::filesystem::path ca_file;            // PEM; empty: the system's certificates alone
  std::filesystem::path cert_file;          // PEM: what we show to a registry that asks for a certificate
  std::filesystem::path key_file;           // its key
  std::string proxy;                        // a proxy's URL or "off"; empty: as Settings::proxy says
  // Hosts that may be given the credentials in a token request besides those of upstream's own registrable domain.
  std::vector<std::string> realm_hosts;
  // Networks, as in CIDR notation, that redirects and realms may lead to although they are not globally reachable.
  std::vector<std::string> redirect_networks;
  bool http_realm = false;               // an anonymous token may come from a realm over http, though `url` is https
  bool http_redirects = false;           // redirects from https to http are followed for what has a digest
  bool library_prefix = false;           // "alpine" is asked for as "library/alpine"; the default for docker.io is true
  Duration connect_timeout{10'000};      // name resolution, TCP and TLS together
  Duration headers_timeout{30'000};      // from the request to the head of its answer
  Duration request_timeout{25'000};      // in all, until a client's request is answered
  Duration endpoint_timeout{10'000};     // of that, for the first try
  Duration first_byte_timeout{300'000};  // for a blob that has brought no head in time
  Duration stall_timeout{30'000};        // a body that brings no byte for this long is broken off
  std::size_t retries = 3;               // further tries of what may be tried again
  bool offline = false;                  // never asked
  Access access = Access::open;
  Duration grant_ttl{60'000};        // how long upstream's yes to a client's Authorization is believed; 0: not at all
  std::optional<Prefetch> prefetch;  // nothing: as Fill::prefetch says
  std::size_t max_connections = 64;  // requests to it at a time
  std::size_t requests_per_second = 0;  // 0: as many as there are

  friend bool operator==(const Upstream&, const Upstream&) = default;
};

struct Settings {
  Server server;
  Admin admin;
  Auth auth;
  Repositories repositories;
  std::filesystem::path data = "/var/lib/sluice";  // absolute once loaded
  Log log;
  Fill fill;
  Descriptors descriptors;
  Redis redis;
  Tags tags;
  Manifests manifests;
  Store store;
  Proxy proxy;
  bool offline = false;                        // no upstream is asked
  std::string default_upstream = "docker.io";  // a key of `upstreams`
  // By the name that stands in image references, in `ns` and in Host: "docker.io", "registry.example.com:5000".
  std::map<std::string, Upstream, std::less<>> upstreams = embedded_upstreams();

  // What the person who wrote the configuration should know; main logs each once.
  std::vector<std::string> warnings;

  // docker.io, ghcr.io, quay.io, gcr.io, registry.k8s.io, mcr.microsoft.com and public.ecr.aws.
  static std::map<std::string, Upstream, std::less<>> embedded_upstreams();
};

// The keys in which the two are different; `upstreams.<name>` for whatever of an upstream.
std::vector<std::string> changed_keys(const Settings& from, const Settings& to);

// The settings as a configuration file that says everything, with secrets masked.
std::string describe(const Settings& settings);

}  // namespace sluice::config
