#include "app/commands/health.hpp"

#include <chrono>
#include <memory>
#include <string>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "app/commands/command.hpp"
#include "app/exit_status.hpp"
#include "app/version.hpp"
#include "http/url.hpp"

namespace sluice::app {
namespace {

using nlohmann::json;
using runtime::Task;
using namespace std::chrono_literals;

// Who asks wants to know about now.
constexpr auto kPatience = 3s;
constexpr std::size_t kMaxAnswerBytes = std::size_t{1} << 20;

// The answer of /readyz, which is JSON with a status of 200 or 503.
Task<Result<std::string>> ask_ready(Runner& runner, http::Url url) {
  auto channel = std::make_shared<http::Channel>();
  channel->connect_timeout = kPatience;
  channel->headers_timeout = kPatience;
  channel->user_agent = "sluice/" + std::string(version());
  http::ClientRequest request;
  request.method = "GET";
  request.url = std::move(url);
  auto response = co_await runner.client().send(std::move(request), std::move(channel));
  if (!response) co_return response.error();
  co_return co_await (*response)->read_all(kMaxAnswerBytes);
}

std::string describe(const json& answer) {
  std::string out = answer.value("ready", false) ? "ready\n" : "not ready\n";
  for (const json& check : answer.value("checks", json::array())) {
    const std::string reason = check.value("reason", "");
    const bool met = check.value("ready", false);
    if (met && reason.empty()) continue;
    out += fmt::format("  {}: {}\n", check.value("name", ""), reason.empty() ? "not ready yet" : reason);
  }
  return out;
}

}  // namespace

int health_command(Runner& runner, const std::string& admin, const CommandOptions& options) {
  Result<http::Url> url = http::Url::parse(admin.starts_with("http://") ? admin : "http://" + admin);
  if (!url || url->target != "/") {
    return fail({Errc::config_invalid,
                 fmt::format("--admin: found \"{}\", expected ADDR:PORT, for example 127.0.0.1:5001", admin)});
  }
  url->target = "/readyz";
  const Result<std::string> body = runner.run(ask_ready(runner, std::move(*url)));
  if (!body) return fail(body.error().in(fmt::format("no answer from {}", admin)));
  const json answer = json::parse(*body, nullptr, false);
  if (!answer.is_object() || !answer.contains("ready") || !answer["ready"].is_boolean()) {
    return fail({Errc::internal, fmt::format("what answers on {} is no admin listener of sluice", admin)});
  }
  if (options.json) {
    print(answer.dump() + "\n");
  } else if (!options.quiet) {
    print(describe(answer));
  }
  return answer["ready"] == true ? kExitOk : kExitFailure;
}

}  // namespace sluice::app
