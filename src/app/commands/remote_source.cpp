#include <netdb.h>
#include <sys/socket.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "app/commands/source.hpp"
#include "app/version.hpp"
#include "http/url.hpp"

namespace sluice::app {
namespace {

using namespace std::chrono_literals;

// gc answers when it is done.
constexpr auto kPatience = 30min;
constexpr std::size_t kMaxAnswerBytes = std::size_t{64} << 20;

class RemoteSource final : public Source {
 public:
  RemoteSource(Runner& runner, http::Url base, std::string shown)
      : client_(runner.client()), base_(std::move(base)), shown_(std::move(shown)) {
    auto channel = std::make_shared<http::Channel>();
    channel->connect_timeout = 5s;
    channel->headers_timeout = kPatience;
    channel->user_agent = "sluice/" + std::string(version());
    channel_ = std::move(channel);
  }

  runtime::Task<Result<std::string>> ask(std::string method, std::string target) override {
    http::ClientRequest request;
    request.method = std::move(method);
    request.url = base_;
    request.url.target = std::move(target);
    if (request.method == "POST") {
      request.fields.emplace_back("Content-Type", "application/json");
    }
    auto response = co_await client_.send(std::move(request), channel_);
    if (!response) co_return response.error();
    Result<std::string> body = co_await (*response)->read_all(kMaxAnswerBytes);
    if (!body) co_return body.error();
    if ((*response)->status() / 100 != 2) co_return api_error((*response)->status(), *body);
    co_return body;
  }

  [[nodiscard]] std::string describe() const override { return "the sluice on " + shown_; }

 private:
  http::Client& client_;
  const http::Url base_;
  const std::string shown_;
  std::shared_ptr<const http::Channel> channel_;
};

}  // namespace

Error api_error(int status, const std::string& body) {
  const nlohmann::json parsed = nlohmann::json::parse(body, nullptr, false);
  std::string message = fmt::format("it answers with status {}", status);
  if (parsed.is_object() && parsed.contains("error") && parsed["error"].is_object()) {
    message = parsed["error"].value("message", message);
  } else {
    message += ", which is no answer of sluice's admin API";
  }
  switch (status) {
    case 404: return {Errc::not_found, message};
    case 409: return {Errc::exists, message};
    case 400: return {Errc::config_invalid, message};
    case 403: return {Errc::denied, message};
    default: return {Errc::internal, message};
  }
}

Result<std::unique_ptr<Source>> remote_source(Runner& runner, const std::string& address) {
  const Error wrong{Errc::config_invalid,
                    fmt::format("--admin: found \"{}\", expected ADDR:PORT, for example 127.0.0.1:5001", address)};
  const std::string_view text = address;
  const bool scheme = text.starts_with("http://");
  Result<http::Url> url = http::Url::parse(scheme ? address : "http://" + address);
  if (!url || url->target != "/") return wrong;
  // The last part is the port, always.
  if (const std::size_t colon = text.rfind(':'); colon == std::string_view::npos || text.ends_with(']')) return wrong;
  if (!url->has_ip_host() && url->host != "localhost") {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    if (const int failed = ::getaddrinfo(url->host.c_str(), nullptr, &hints, &found); failed != 0) {
      return Error{Errc::not_found, fmt::format("--admin: {}: {}", url->host, ::gai_strerror(failed))};
    }
    char numeric[NI_MAXHOST] = {};
    const int named =
        ::getnameinfo(found->ai_addr, found->ai_addrlen, numeric, sizeof numeric, nullptr, 0, NI_NUMERICHOST);
    ::freeaddrinfo(found);
    if (named != 0) return wrong;
    url->host = numeric;
  }
  return std::unique_ptr<Source>(std::make_unique<RemoteSource>(runner, std::move(*url), address));
}

}  // namespace sluice::app
