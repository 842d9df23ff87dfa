#include "doctor/judge.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/upstream_name.hpp"
#include "http/proxy.hpp"

namespace sluice::doctor {
namespace {

bool same_host(const Cache& cache, std::string_view ours, std::string_view host) {
  if (ours == host) return true;
  if (host == "localhost") return is_loopback(ours) || ours.empty();
  if (ours == "localhost") return is_loopback(host);
  if (!ours.empty()) return false;
  if (is_loopback(host) || cache.local_hosts.empty()) return true;
  return std::find(cache.local_hosts.begin(), cache.local_hosts.end(), host) != cache.local_hosts.end();
}

// What stands for `*` of the pattern in a name of the cache.
std::optional<std::string> named_by_host(const Cache& cache, std::string_view host) {
  const std::size_t star = cache.host_pattern.find('*');
  if (star == std::string::npos) return std::nullopt;
  const std::string_view prefix = std::string_view(cache.host_pattern).substr(0, star);
  const std::string_view suffix = std::string_view(cache.host_pattern).substr(star + 1);
  if (host.size() <= prefix.size() + suffix.size() || !host.starts_with(prefix) || !host.ends_with(suffix)) {
    return std::nullopt;
  }
  return std::string(host.substr(prefix.size(), host.size() - prefix.size() - suffix.size()));
}

std::optional<http::ProxyServer> proxy_in(const std::map<std::string, std::string>& environment,
                                          const std::string& name) {
  for (const std::string& each : {name, lower(name)}) {
    const auto at = environment.find(each);
    if (at == environment.end() || at->second.empty()) continue;
    if (const Result<http::ProxyServer> parsed = http::ProxyServer::parse(at->second)) return *parsed;
  }
  return std::nullopt;
}

std::vector<std::string> no_proxy_in(const std::map<std::string, std::string>& environment) {
  std::vector<std::string> out;
  for (const std::string name : {"NO_PROXY", "no_proxy"}) {
    const auto at = environment.find(name);
    if (at == environment.end()) continue;
    std::string_view rest = at->second;
    while (!rest.empty()) {
      const std::size_t end = std::min(rest.find_first_of(", "), rest.size());
      if (end > 0) out.emplace_back(rest.substr(0, end));
      rest.remove_prefix(std::min(end + 1, rest.size()));
    }
    if (!out.empty()) break;
  }
  return out;
}

// Whether the client's environment sends a request for it through a proxy.
bool goes_through_proxy(const Way& way) {
  http::ProxyRules::Params params;
  params.https = proxy_in(way.environment, "HTTPS_PROXY");
  params.http = proxy_in(way.environment, "HTTP_PROXY");
  params.no_proxy = no_proxy_in(way.environment);
  http::Url url;
  url.scheme = way.scheme;
  url.host = way.host;
  url.port = way.port;
  url.target = "/";
  return http::ProxyRules(std::move(params)).find(url) != nullptr;
}

}  // namespace

std::string_view name_of(Outcome outcome) noexcept {
  switch (outcome) {
    case Outcome::used: return "used";
    case Outcome::partly: return "partly";
    case Outcome::unused: return "unused";
    case Outcome::falls_back: return "falls_back";
    case Outcome::fails: return "fails";
  }
  return "";
}

void Report::add(Finding finding) {
  const bool known = std::any_of(findings.begin(), findings.end(), [&](const Finding& other) {
    return other.name == finding.name && other.client == finding.client && other.file == finding.file &&
           other.message == finding.message;
  });
  if (!known) findings.push_back(std::move(finding));
}

bool Report::has_problem() const noexcept {
  return std::any_of(findings.begin(), findings.end(), [](const Finding& finding) { return finding.problem; });
}

const Verdict* Report::find(std::string_view client, std::string_view upstream) const noexcept {
  const auto found = std::find_if(verdicts.begin(), verdicts.end(), [&](const Verdict& verdict) {
    return verdict.client == client && verdict.upstream == upstream;
  });
  return found == verdicts.end() ? nullptr : &*found;
}

bool Cache::is_at(std::string_view host, std::uint16_t port) const {
  return std::any_of(places.begin(), places.end(), [&](const Place& place) {
    if (place.port != port) return false;
    return same_host(*this, place.host, host) || named_by_host(*this, host).has_value();
  });
}

bool Cache::is_on(std::string_view host) const {
  return std::any_of(places.begin(), places.end(), [&](const Place& place) {
    // Where the cache is at every address of a machine, and those are not known, any host may be that machine.
    const bool known = !place.host.empty() || !local_hosts.empty() || is_loopback(host) || named_by_host(*this, host);
    return known && is_at(host, place.port);
  });
}

bool Cache::serves(std::string_view registry) const {
  return std::any_of(upstreams.begin(), upstreams.end(), [&](const std::string& name) {
    return canonical_upstream_name(name) == canonical_upstream_name(registry);
  });
}

std::optional<std::string> Cache::image_of(const Way& way, std::string_view repository) const {
  std::string path = way.path + "/" + std::string(repository);
  if (!path.starts_with("/v2/")) return std::nullopt;
  std::string name = path.substr(4);
  std::string upstream = way.ns.empty() ? named_by_host(*this, way.host).value_or("") : way.ns;
  const std::string first = name.substr(0, name.find('/'));
  const bool is_host = first.find_first_of(".:") != std::string::npos && first != name;
  if (is_host && serves(first) &&
      (way.ns.empty() || canonical_upstream_name(way.ns) == canonical_upstream_name(first))) {
    upstream = first;
    name.erase(0, first.size() + 1);
  }
  if (upstream.empty()) upstream = default_upstream;
  return canonical_upstream_name(upstream) + "/" + name;
}

std::string Cache::describe() const {
  if (places.empty()) return "nowhere";
  const Place& place = places.front();
  return place.host.empty() ? fmt::format(":{}", place.port) : host_port(place.host, place.port);
}

std::string sample_of(std::string_view upstream) { return upstream == "docker.io" ? "library/busybox" : "owner/app"; }

std::string shown(const Way& way) {
  const std::string path = way.path == "/v2" ? "" : way.path;
  return fmt::format("{}://{}{}", way.scheme, host_port(way.host, way.port), path);
}

void Judge::problem(std::string name, std::string_view client, std::string file, std::string message) {
  report_.add({std::move(name), std::string(client), std::move(file), std::move(message), true});
}

void Judge::remark(std::string name, std::string_view client, std::string file, std::string message) {
  report_.add({std::move(name), std::string(client), std::move(file), std::move(message), false});
}

void Judge::broken_file(std::string_view client, const std::string& file, const Error& error,
                        const std::string& consequence, std::string_view upstream) {
  const bool invalid = error.code == Errc::config_invalid;
  problem(invalid ? "file-invalid" : "file-unreadable", client, file,
          fmt::format("{}: {}", error.message, invalid ? consequence : "run the doctor as root"));
  const std::string reason = invalid ? consequence : "its file cannot be read";
  if (upstream.empty()) return all(client, invalid ? Outcome::fails : Outcome::unused, reason, file);
  verdict(client, upstream, invalid ? Outcome::falls_back : Outcome::unused, reason, file);
}

// Why the request does not reach the cache; empty: it does.
std::string Judge::address_flaw(std::string_view client, const Mirror& mirror) {
  const Way& way = mirror.way;
  const std::string place = host_port(way.host, way.port);
  if (!cache_.is_at(way.host, way.port)) {
    if (!cache_.is_on(way.host)) return {};
    problem("wrong-port", client, mirror.file,
            fmt::format("\"{}\" is port {} of the cache's machine, and the cache is at {}: write that port",
                        mirror.written, way.port, cache_.describe()));
    return fmt::format("{} is the wrong port", place);
  }
  if (way.scheme == "https" && !cache_.tls) {
    problem("https-to-plain-cache", client, mirror.file,
            fmt::format("\"{}\" is asked with TLS, and the cache has no certificate: allow plain HTTP here "
                        "(docs/clients.md has the line), or give the cache a certificate",
                        mirror.written));
    return fmt::format("it tries TLS at {}, which speaks plain HTTP", place);
  }
  if (way.scheme == "http" && cache_.tls) {
    problem("http-to-tls-cache", client, mirror.file,
            fmt::format("\"{}\" is asked in plain HTTP, and the cache speaks TLS: write https://", mirror.written));
    return fmt::format("it speaks plain HTTP to {}, which wants TLS", place);
  }
  const bool container =
      files().exists("/.dockerenv") || files().exists("/run/.containerenv") || files().exists("/kind");
  if (is_loopback(way.host) && container && !machine_.live) {
    problem(
        "loopback-in-container", client, mirror.file,
        fmt::format("\"{}\" is a loopback address, and these are the files of a container (kind, docker in docker): "
                    "there it is the container itself; write an address of the machine that the cache runs on",
                    mirror.written));
    return fmt::format("{} is the container itself", place);
  }
  if (goes_through_proxy(way)) {
    problem("proxy-takes-requests", client, mirror.file,
            fmt::format("the client's environment (HTTP_PROXY, HTTPS_PROXY) sends its requests for {} to a proxy: add "
                        "\"{}\" to NO_PROXY",
                        place, way.host));
    return fmt::format("requests for {} go to a proxy", place);
  }
  return {};
}

std::string Judge::path_flaw(std::string_view client, std::string_view upstream, const Mirror& mirror) {
  const std::string sample = sample_of(upstream);
  const std::string wanted = canonical_upstream_name(upstream) + "/" + sample;
  const auto got = cache_.image_of(mirror.way, sample);
  if (!got) {
    problem("path-without-v2", client, mirror.file,
            fmt::format("\"{}\": the client asks {}/{}, but registry paths begin with /v2/; remove the path",
                        mirror.written, mirror.way.path, sample));
    return "the path does not begin with /v2/";
  }
  if (*got == wanted) return {};
  problem("wrong-prefix", client, mirror.file,
          fmt::format("\"{}\": the cache reads a request for {} as {}; {}", mirror.written, wanted, *got,
                      mirror.right_path));
  return fmt::format("the cache is asked for {} instead", *got);
}

Verdict Judge::judge(std::string_view client, std::string_view upstream, const Mirror& mirror) {
  Verdict out{std::string(client), std::string(upstream), mirror.fatal ? Outcome::fails : Outcome::falls_back,
              mirror.flaw,         mirror.file,           std::nullopt};
  if (!mirror.flaw.empty()) return out;
  for (const std::string& ca : mirror.way.ca_files) {
    if (!cache_.is_at(mirror.way.host, mirror.way.port) || files().exists(ca)) continue;
    problem("ca-file-missing", client, mirror.file,
            fmt::format("`ca` of \"{}\" names {}, which does not exist: every pull of {} fails", mirror.written, ca,
                        upstream));
    out.outcome = Outcome::fails;
    out.reason = "its CA file does not exist";
    return out;
  }
  out.reason = address_flaw(client, mirror);
  if (!out.reason.empty()) return out;
  if (!cache_.is_at(mirror.way.host, mirror.way.port)) {
    out.outcome = Outcome::unused;
    out.reason = fmt::format("its mirror \"{}\" is not at {}; if it is the cache, give --server", mirror.written,
                             cache_.describe());
    return out;
  }
  if (!cache_.serves(upstream)) {
    problem("upstream-not-served", client, mirror.file,
            fmt::format(
                "it asks the cache for images of {}, which the cache does not serve: it answers 404, and the client "
                "goes to {} itself; add it to `upstreams` of the cache",
                upstream, upstream));
    out.reason = "the cache does not serve it";
    return out;
  }
  out.reason = path_flaw(client, upstream, mirror);
  if (!out.reason.empty()) return out;
  out.way = mirror.way;
  out.outcome = mirror.partly ? Outcome::partly : Outcome::used;
  out.reason = mirror.partly ? mirror.partly_why : shown(mirror.way);
  return out;
}

void Judge::decide(std::string_view client, std::string_view upstream, const std::vector<Mirror>& mirrors) {
  std::optional<Verdict> best;
  const auto rank = [](Outcome outcome) {
    switch (outcome) {
      case Outcome::fails: return 4;
      case Outcome::used: return 3;
      case Outcome::partly: return 2;
      case Outcome::falls_back: return 1;
      default: return 0;
    }
  };
  const auto at_cache = [&](const Mirror& mirror) { return cache_.is_at(mirror.way.host, mirror.way.port); };
  const bool any = std::any_of(mirrors.begin(), mirrors.end(), at_cache);
  for (const Mirror& mirror : mirrors) {
    // Beside the cache there may be other mirrors, on the same machine too.
    if (any && mirror.flaw.empty() && !at_cache(mirror)) continue;
    Verdict verdict = judge(client, upstream, mirror);
    if (!best || rank(verdict.outcome) > rank(best->outcome)) best = std::move(verdict);
  }
  if (best) report_.verdicts.push_back(std::move(*best));
}

void Judge::verdict(std::string_view client, std::string_view upstream, Outcome outcome, std::string reason,
                    std::string file) {
  report_.verdicts.push_back(
      {std::string(client), std::string(upstream), outcome, std::move(reason), std::move(file), std::nullopt});
}

void Judge::all(std::string_view client, Outcome outcome, const std::string& reason, const std::string& file) {
  for (const std::string& upstream : cache_.upstreams) verdict(client, upstream, outcome, reason, file);
}

}  // namespace sluice::doctor
