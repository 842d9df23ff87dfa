#include <cstdio>
#include <filesystem>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "app/commands/source.hpp"

namespace sluice::app {
namespace {

// Where the listener of these settings is reached from this machine.
std::string reachable(config::Endpoint listen) {
  if (listen.address.empty() || listen.address == "0.0.0.0") listen.address = "127.0.0.1";
  if (listen.address == "::") listen.address = "::1";
  return listen.to_string();
}

Error nobody(const std::string& address, const Error& error) {
  return {Errc::not_found,
          fmt::format("no sluice answers on {} ({}); start one, give --admin ADDR:PORT, or --data DIR for a data "
                      "directory that no sluice uses",
                      address, error.message)};
}

void say(const std::string& text) { std::fputs((text + "\n").c_str(), stderr); }

bool same_directory(const std::filesystem::path& a, const std::filesystem::path& b) {
  std::error_code ignored;
  return std::filesystem::equivalent(a, b, ignored);
}

// Whether somebody answers there: its word on itself.
Result<Document> about(Runner& runner, Source& source) { return ask(runner, source, "GET", "/api/v1"); }

}  // namespace

Result<Document> ask(Runner& runner, Source& source, const std::string& method, const std::string& target) {
  const Result<std::string> body = runner.run(source.ask(method, target));
  if (!body) return body.error();
  nlohmann::json parsed = nlohmann::json::parse(*body, nullptr, false);
  if (parsed.is_discarded()) {
    return Error{Errc::internal,
                 fmt::format("{} does not answer with JSON; is it sluice's admin listener?", source.describe())};
  }
  return Document(std::move(parsed));
}

Result<std::unique_ptr<Source>> open_source(Runner& runner, const Where& where) {
  const std::string address = where.options.admin.value_or(reachable(where.settings.admin.listen));
  const bool directory_first = where.data_named && !where.options.admin;
  std::string lock_holder;
  if (directory_first) {
    Result<std::unique_ptr<Source>> local = local_source(where.settings, where.limited);
    if (local) {
      say("reading " + (*local)->describe());
      return local;
    }
    if (local.error().code != Errc::exists) return local.error();
    lock_holder = local.error().message;
  }
  Result<std::unique_ptr<Source>> remote = remote_source(runner, address);
  if (!remote) return remote.error();
  const Result<Document> told = about(runner, **remote);
  if (told && directory_first) {
    const std::string data = told->json.value("data", std::string());
    if (!same_directory(data, where.settings.data)) {
      return Error{Errc::exists, fmt::format("{}; the sluice on {} has its data in {}; give --admin of the right one",
                                             lock_holder, address, data)};
    }
    say("asking the sluice on " + address + ", which uses that directory");
  }
  if (told) return remote;
  const bool unreachable =
      told.error().code == Errc::upstream_unreachable || told.error().code == Errc::upstream_timeout;
  if (!unreachable) return told.error();
  if (directory_first) {
    return Error{Errc::exists, fmt::format("{}, and no sluice answers on {}; give --admin ADDR:PORT of the one that "
                                           "uses it",
                                           lock_holder, address)};
  }
  if (where.config_named && !where.options.admin) {
    Result<std::unique_ptr<Source>> local = local_source(where.settings, where.limited);
    if (local) {
      say("reading " + (*local)->describe());
      return local;
    }
  }
  return nobody(address, told.error());
}

}  // namespace sluice::app
