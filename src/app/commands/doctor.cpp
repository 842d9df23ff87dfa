#include "app/commands/doctor.hpp"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "app/commands/canary.hpp"
#include "app/commands/command.hpp"
#include "app/commands/text.hpp"
#include "app/exit_status.hpp"
#include "base/network.hpp"
#include "doctor/address.hpp"
#include "doctor/diagnose.hpp"

namespace sluice::app {
namespace {

using doctor::Cache;
using doctor::Finding;
using doctor::Outcome;
using doctor::Report;
using doctor::Verdict;
using nlohmann::json;

// By client and upstream.
using CanaryTable = std::map<std::pair<std::string, std::string>, Canary>;

// The addresses and the name of this machine.
std::vector<std::string> local_hosts() {
  std::vector<std::string> out{"localhost"};
  ifaddrs* all = nullptr;
  if (::getifaddrs(&all) == 0) {
    for (const ifaddrs* each = all; each != nullptr; each = each->ifa_next) {
      if (each->ifa_addr == nullptr) continue;
      if (each->ifa_addr->sa_family != AF_INET && each->ifa_addr->sa_family != AF_INET6) continue;
      out.push_back(IpAddress::from(*each->ifa_addr).to_string());
    }
    ::freeifaddrs(all);
  }
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) == 0) out.emplace_back(name.data());
  return out;
}

Result<Cache> cache_of(const config::Settings& settings, const CommandOptions& options, bool live) {
  Cache out;
  out.tls = !settings.server.tls.cert_file.empty();
  out.host_pattern = settings.server.host_pattern;
  out.default_upstream = settings.default_upstream;
  if (live) out.local_hosts = local_hosts();
  for (const auto& [name, upstream] : settings.upstreams) out.upstreams.push_back(name);
  const config::Endpoint& listen = settings.server.listen;
  const bool every = listen.address.empty() || listen.address == "0.0.0.0" || listen.address == "::";
  out.places = {{every ? "" : listen.address, listen.port}};
  if (!options.server) return out;
  const doctor::Address named = doctor::Address::parse(*options.server);
  if (named.host.empty() || !named.port || named.odd || !named.path.empty()) {
    return Error{
        Errc::config_invalid,
        fmt::format("--server: found \"{}\", expected ADDR:PORT, for example 192.0.2.7:5000", *options.server)};
  }
  if (!named.scheme.empty()) out.tls = named.scheme == "https";
  out.places = {{named.host, *named.port}};
  return out;
}

// The default upstream first: it is what most people look for.
void sort_upstreams(Cache& cache) {
  std::sort(cache.upstreams.begin(), cache.upstreams.end(), [&](const std::string& a, const std::string& b) {
    return std::pair(a != cache.default_upstream, a) < std::pair(b != cache.default_upstream, b);
  });
}

std::vector<std::string> homes_below(const doctor::Files& files, bool live) {
  std::vector<std::string> out{"/root"};
  for (const std::string& name : files.list("/home")) out.push_back("/home/" + name);
  const char* own = live ? std::getenv("HOME") : nullptr;  // NOLINT(concurrency-mt-unsafe): nobody sets variables
  if (own != nullptr && *own == '/' && std::find(out.begin(), out.end(), own) == out.end()) out.emplace_back(own);
  return out;
}

// What a canary shows beyond the files. Changes the verdict to what really happened.
void judge_canary(Report& report, Verdict& verdict, const Canary& canary) {
  const std::string place = doctor::shown(*verdict.way);
  const auto add = [&](const char* name, std::string message, bool problem) {
    report.add({name, verdict.client, verdict.file, std::move(message), problem});
    if (problem) verdict.outcome = Outcome::falls_back;
  };
  if (canary.untrusted && (verdict.way->skip_verify || verdict.way->ca_files.size() > 1)) {
    add("canary-not-sent",
        fmt::format("{}: the client accepts any certificate, or those of several authorities; this command trusts one "
                    "authority",
                    place),
        false);
  } else if (canary.untrusted) {
    add("untrusted-certificate",
        fmt::format(
            "the client does not trust the certificate of {} ({}): give it the authority, as docs/clients.md says",
            place, canary.error),
        true);
  } else if (canary.status == 0) {
    add("nobody-answers",
        fmt::format("nobody answers at {} ({}): start the cache, or correct the address", place, canary.error), true);
  } else if (canary.status == 401) {
    add("cache-wants-login",
        fmt::format("{} requires a login, which this request does not send: see \"Logins\" in docs/clients.md", place),
        false);
  } else if (!canary.arrived()) {
    add("canary-not-seen",
        fmt::format("{} answers with status {}, but the cache has not seen the request: something else listens there",
                    place, canary.status),
        true);
  } else if (canary.status >= 500 || canary.status == 403) {
    add("cache-refuses",
        fmt::format("the cache answers with status {} for {}: its log says why", canary.status, canary.image), true);
  }
}

std::string shown_canary(const Canary& canary) {
  if (canary.status == 0) return "no answer";
  if (canary.status == 401) return "login required";
  if (!canary.arrived()) return fmt::format("status {}, not seen", canary.status);
  const std::size_t semicolon = canary.cache_status.find("; ");
  const std::string how = semicolon == std::string::npos ? fmt::format("status {}", canary.status)
                                                         : canary.cache_status.substr(semicolon + 2);
  return fmt::format("arrived ({})", how);
}

json json_of(const Report& report, const Cache& cache, const CanaryTable& canaries, bool well) {
  json out{{"ok", well},
           {"cache", {{"address", cache.describe()}, {"tls", cache.tls}, {"upstreams", cache.upstreams}}},
           {"verdicts", json::array()},
           {"findings", json::array()}};
  for (const Verdict& verdict : report.verdicts) {
    json each{{"client", verdict.client},
              {"upstream", verdict.upstream},
              {"outcome", doctor::name_of(verdict.outcome)},
              {"reason", verdict.reason},
              {"file", verdict.file}};
    if (const auto at = canaries.find({verdict.client, verdict.upstream}); at != canaries.end()) {
      const Canary& canary = at->second;
      each["canary"] = {
          {"image", canary.image},       {"status", canary.status},   {"cache_status", canary.cache_status},
          {"arrived", canary.arrived()}, {"counted", canary.counted}, {"error", canary.error}};
    }
    out["verdicts"].push_back(std::move(each));
  }
  for (const Finding& finding : report.findings) {
    out["findings"].push_back({{"name", finding.name},
                               {"client", finding.client},
                               {"file", finding.file},
                               {"message", finding.message},
                               {"problem", finding.problem}});
  }
  return out;
}

void print_findings(const Report& report, bool problems) {
  for (const Finding& finding : report.findings) {
    if (finding.problem != problems) continue;
    print(fmt::format("\n{} {} of {}{}\n  {}\n", problems ? "problem" : "remark", finding.name, finding.client,
                      finding.file.empty() ? "" : ", in " + finding.file, finding.message));
  }
}

void print_report(const Report& report, const CanaryTable& canaries) {
  Table table({"CLIENT", "UPSTREAM", "CACHE", "CANARY", "WHY"});
  for (const Verdict& verdict : report.verdicts) {
    const auto at = canaries.find({verdict.client, verdict.upstream});
    std::string outcome(doctor::name_of(verdict.outcome));
    std::replace(outcome.begin(), outcome.end(), '_', ' ');
    table.add({verdict.client, verdict.upstream, outcome, at == canaries.end() ? "-" : shown_canary(at->second),
               verdict.reason});
  }
  print(table.str());
  print_findings(report, true);
  print_findings(report, false);
}

std::string summary(const Report& report, bool used) {
  const auto problems = static_cast<std::uint64_t>(
      std::count_if(report.findings.begin(), report.findings.end(), [](const Finding& each) { return each.problem; }));
  if (problems > 0) return counted(problems, "problem");
  if (report.verdicts.empty()) return "no client found";
  return used ? "nothing is wrong" : "no client uses the cache: docs/clients.md has the lines for each";
}

}  // namespace

int doctor_command(Runner& runner, const config::Settings& settings, const std::string& admin,
                   const CommandOptions& options) {
  const bool live = !options.root || options.canary;
  Result<Cache> cache = cache_of(settings, options, live);
  if (!cache) return fail(cache.error());
  const Result<doctor::RootFiles> files = doctor::RootFiles::open(options.root.value_or("/"));
  if (!files) return fail(files.error().in("--root"));
  const bool ask = live && !options.offline;
  std::unique_ptr<Source> source;
  if (ask) {
    Result<std::unique_ptr<Source>> opened = remote_source(runner, admin);
    if (!opened) return fail(opened.error());
    source = std::move(*opened);
    const Result<Document> now = app::ask(runner, *source, "GET", "/api/v1/now");
    if (!now) {
      std::fputs(fmt::format("no sluice answers on {} ({}): what it serves is taken from the configuration\n", admin,
                             now.error().message)
                     .c_str(),
                 stderr);
      source = nullptr;
    } else {
      // It knows better than a file which registries it serves.
      cache->upstreams.clear();
      for (const json& upstream : now->json.at("upstreams")) cache->upstreams.push_back(upstream.at("name"));
    }
  }
  sort_upstreams(*cache);
  Report report = doctor::diagnose({*files, homes_below(*files, live), live}, *cache);
  CanaryTable canaries;
  Canaries sender(runner, source.get(), settings.server.tls.cert_file.string(), options.root.value_or(""));
  for (Verdict& verdict : report.verdicts) {
    if (!ask || !verdict.way || runner.interrupted()) continue;
    const Canary canary = sender.send(verdict);
    judge_canary(report, verdict, canary);
    canaries.emplace(std::pair(verdict.client, verdict.upstream), canary);
  }
  if (runner.interrupted()) return kExitInterrupted;
  const bool used = std::any_of(report.verdicts.begin(), report.verdicts.end(),
                                [](const Verdict& each) { return each.outcome == Outcome::used; });
  const bool well = used && !report.has_problem();
  if (options.json) {
    print(json_of(report, *cache, canaries, well).dump(-1, ' ', false, json::error_handler_t::replace) + "\n");
  } else {
    print_report(report, canaries);
    print((report.verdicts.empty() ? "" : "\n") + summary(report, used) + "\n");
  }
  return well ? kExitOk : kExitFailure;
}

}  // namespace sluice::app
