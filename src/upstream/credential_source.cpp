#include "upstream/credential_source.hpp"

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <map>

#include <fmt/format.h>

#include "base/log.hpp"
#include "upstream/aside.hpp"
#include "upstream/credential_helper.hpp"
#include "upstream/docker_config.hpp"

namespace sluice::upstream {
namespace {

using runtime::Task;
using std::chrono::steady_clock;

// Realms and endpoints are few; a bound all the same.
constexpr std::size_t kMaxServers = 256;
constexpr std::size_t kMaxFileBytes = std::size_t{1} << 20;
constexpr std::chrono::seconds kLeastAge{1};
constexpr std::chrono::seconds kAgeOfNothing{30};
// How long the last ones stand in when a look-up has failed.
constexpr std::chrono::seconds kAgeInTrouble{2};

Result<std::string> read_file(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) return errno_error(errno, "read " + file.string());
  std::string text(kMaxFileBytes + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(in.gcount()));
  if (text.size() > kMaxFileBytes) return Error(Errc::config_invalid, file.string() + " is too long");
  return text;
}

// What helpers have answered for a config.json that is read anew all the time.
struct HelperAnswers {
  std::mutex mutex;  // guards answers
  std::map<std::string, std::pair<Credentials, steady_clock::time_point>, std::less<>> answers;
};

}  // namespace

std::optional<Credentials> CredentialSource::at_hand(const std::string& server,
                                                     const std::optional<Credentials>& refused) const {
  const std::scoped_lock lock(mutex_);
  const auto at = entries_.find(server);
  if (at == entries_.end()) return std::nullopt;
  const auto age = clock_.now() - at->second.looked_up_at;
  if (refused && *refused == at->second.credentials) {
    return age < kLeastAge ? std::optional(at->second.credentials) : std::nullopt;
  }
  if (!at->second.found && age >= kAgeOfNothing) return std::nullopt;
  if (at->second.found && at->second.trouble && age >= kAgeInTrouble) return std::nullopt;
  // What was looked up because others had been refused is new enough for those who were refused too.
  if (params_.lifetime && age >= *params_.lifetime && !refused) return std::nullopt;
  return at->second.credentials;
}

Task<Result<Credentials>> CredentialSource::get(std::string server, std::optional<Credentials> refused) {
  if (std::optional<Credentials> found = at_hand(server, refused)) co_return std::move(*found);
  Flights<Credentials>::Work work = [this, server, refused] { return look_up(server, refused); };
  co_return co_await flights_.run(server, std::move(work));
}

Task<Result<Credentials>> CredentialSource::look_up(std::string server, std::optional<Credentials> refused) {
  // Whoever worked before may have ended between the look and the flight. With no lifetime at all each asks anew.
  const bool each_time = params_.lifetime && params_.lifetime->count() <= 0;
  if (!each_time) {
    if (std::optional<Credentials> found = at_hand(server, refused)) co_return std::move(*found);
  }
  std::function<Result<Credentials>()> work = [look = params_.look_up, server, again = refused.has_value()] {
    return look(server, again);
  };
  Result<Credentials> found = co_await do_aside<Credentials>(std::move(work));
  if (!found && found.error().code == Errc::cancelled) co_return found.error();

  Entry entry{found ? *found : Credentials{}, clock_.now(), found.has_value(), std::nullopt};
  if (!found && found.error().code != Errc::not_found) {
    entry.trouble = found.error().message;
    if (params_.failures != nullptr) params_.failures->add();
  }
  std::optional<std::string> logged;
  {
    const std::scoped_lock lock(mutex_);
    if (entries_.size() >= kMaxServers && !entries_.contains(server)) entries_.clear();
    Entry& kept = entries_[server];
    logged = kept.trouble;
    // A file that is just being replaced, or a helper that is slow for once, does not make good ones bad.
    if (entry.trouble && kept.found && (!refused || *refused != kept.credentials)) {
      entry.found = true;
      entry.credentials = kept.credentials;
    }
    kept = entry;
  }
  if (entry.trouble && entry.trouble != logged) {
    log::warn("upstream", fmt::format("{}: no credentials: {}; going on {}", params_.name, *entry.trouble,
                                      entry.found ? "with the last ones" : "without"));
  } else if (!entry.trouble && logged) {
    log::info("upstream", fmt::format("{}: credentials are there again", params_.name));
  }
  co_return entry.credentials;
}

CredentialSource::LookUp configured(Credentials credentials) {
  return
      [credentials = std::move(credentials)](const std::string&, bool) -> Result<Credentials> { return credentials; };
}

CredentialSource::LookUp from_password_file(std::string username, std::filesystem::path file) {
  return [username = std::move(username), file = std::move(file)](const std::string&, bool) -> Result<Credentials> {
    Result<std::string> text = read_file(file);
    if (!text) return Error(Errc::config_invalid, text.error().message);
    text->resize(std::min(text->find_first_of("\r\n"), text->size()));
    if (text->empty()) return Error(Errc::config_invalid, file.string() + " has no password on its first line");
    return Credentials{username, std::move(*text)};
  };
}

CredentialSource::LookUp from_helper(std::string name, std::chrono::milliseconds timeout) {
  return [name = std::move(name), timeout](const std::string& server, bool) -> Result<Credentials> {
    return ask_credential_helper(name, helper_key(docker_servers(server).front()), timeout);
  };
}

CredentialSource::LookUp from_docker_config(std::filesystem::path file, std::chrono::milliseconds timeout,
                                            std::chrono::nanoseconds helper_lifetime) {
  return [file = std::move(file), timeout, helper_lifetime, kept = std::make_shared<HelperAnswers>()](
             const std::string& server, bool refused) -> Result<Credentials> {
    const Result<std::string> text = read_file(file);
    if (!text) return Error(Errc::config_invalid, text.error().message);
    const Result<DockerConfig> parsed = DockerConfig::parse(*text);
    if (!parsed) return parsed.error().in(file.string());
    const std::vector<std::string> servers = docker_servers(server);
    const auto found = parsed->find(servers);
    if (!found) return Error(Errc::not_found, fmt::format("{} names no {}", file.string(), server));
    if (found->helper.empty()) return found->credentials;

    const std::string key = found->helper + " " + found->server;
    if (!refused) {
      const std::scoped_lock lock(kept->mutex);
      const auto at = kept->answers.find(key);
      if (at != kept->answers.end() && steady_clock::now() - at->second.second < helper_lifetime) {
        return at->second.first;
      }
    }
    Result<Credentials> answer = ask_credential_helper(found->helper, helper_key(found->server), timeout);
    if (!answer) return answer;
    const std::scoped_lock lock(kept->mutex);
    kept->answers[key] = {*answer, steady_clock::now()};
    return answer;
  };
}

}  // namespace sluice::upstream
