#include "admin/admin_handler.hpp"

#include <utility>

#include <nlohmann/json.hpp>

#include "admin/admin_api.hpp"
#include "admin/distribution_families.hpp"
#include "admin/process_metrics.hpp"
#include "admin/prometheus_text.hpp"
#include "admin/status_assets.hpp"
#include "admin/status_page.hpp"
#include "http/request.hpp"
#include "http/response_head.hpp"

namespace sluice::admin {
namespace {

constexpr std::string_view kText = "text/plain; charset=utf-8";
constexpr std::string_view kHtml = "text/html; charset=utf-8";
constexpr std::string_view kJson = "application/json";

}  // namespace

AdminHandler::AdminHandler(metrics::Registry& registry, const Readiness& readiness, const Clock& clock,
                           Overview& overview, Params params)
    : registry_(registry),
      readiness_(readiness),
      overview_(overview),
      params_(std::move(params)),
      events_(params_.events, clock, [this] { return look(); }) {
  register_process_metrics(registry, params_.version);
}

std::string AdminHandler::metrics_text() const {
  std::vector<metrics::Family> families = registry_.collect();
  add_distribution_families(families);
  return prometheus_text(families);
}

AdminHandler::Answer AdminHandler::answer(std::string_view path) const {
  if (path == "/metrics") return {200, kPrometheusContentType, metrics_text()};
  if (path == "/healthz") return {200, kText, "ok\n"};
  if (path == "/readyz") return ready();
  if (path == "/") return page();
  return {404, kText, "not found; there are /, /events, /metrics, /healthz, /readyz and /api/v1\n"};
}

AdminHandler::Answer AdminHandler::ready() const {
  nlohmann::json checks = nlohmann::json::array();
  const std::vector<Readiness::Check> conditions = readiness_.checks();
  for (const Readiness::Check& check : conditions) {
    nlohmann::json entry{{"name", check.name}, {"ready", check.met}};
    if (!check.met || !check.reason.empty()) entry["reason"] = check.reason;
    checks.push_back(std::move(entry));
  }
  const bool all = Readiness::all_met(conditions);
  const nlohmann::json body{{"ready", all}, {"checks", std::move(checks)}};
  // A reason may quote what a file or upstream said: bytes that are not UTF-8 must not throw.
  return {all ? 200U : 503U, kJson, body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n"};
}

AdminHandler::Answer AdminHandler::page() const {
  Answer out{200, kHtml, render(overview_.look())};
  out.policy = status_policy();
  return out;
}

runtime::Task<Sections> AdminHandler::look() {
  co_await overview_.refresh();
  co_return render_sections(overview_.look());
}

std::optional<AdminHandler::Answer> AdminHandler::refused(const http::Request& request) const {
  if (!request.is_get() && !request.is_head()) return Answer{405, kText, "only GET and HEAD\n", "GET, HEAD"};
  if (request.path() == "/events") {
    // Listeners are limited: a page of another origin must not use up the limit.
    const Guarded guarded{request.method(), request.host(), request.has_header("Origin"),
                          request.header("Content-Type"), request.header("Sec-Fetch-Site")};
    if (const std::optional<std::string> why = refusal(guarded, params_.hosts)) return Answer{403, kText, *why + "\n"};
  }
  // Whether it lives is no secret, and those who ask that have no name for it.
  if (request.path() != "/healthz" && !is_readable(request.host(), params_.hosts)) {
    return Answer{403, kText,
                  "the Host is none of this listener's: use its IP address or localhost, or name it in admin.hosts\n"};
  }
  return std::nullopt;
}

runtime::Task<AdminHandler::Answer> AdminHandler::answer_request(const http::Request& request) {
  if (params_.api != nullptr && AdminApi::handles(request.path())) {
    AdminApi::Answer out = co_await params_.api->answer(request);
    co_return Answer{out.status, kJson, std::move(out.body), out.allow};
  }
  if (std::optional<Answer> refusal = refused(request)) co_return std::move(*refusal);
  if (request.path() == "/") co_await overview_.refresh();
  co_return answer(request.path());
}

runtime::Task<void> AdminHandler::serve(http::Exchange& exchange) {
  if (exchange.request().path() == "/events" && !refused(exchange.request())) {
    co_return co_await events_.serve(exchange);
  }
  const Answer out = co_await answer_request(exchange.request());
  http::ResponseHead head(out.status);
  head.add("Content-Type", out.content_type).add("Cache-Control", "no-store").add("X-Content-Type-Options", "nosniff");
  head.add("Content-Security-Policy", out.policy).add("Referrer-Policy", "no-referrer");
  if (!out.allow.empty()) head.add("Allow", out.allow);
  head.content_length(out.body.size());
  // A client that went away is no concern of ours.
  static_cast<void>(co_await exchange.send(head.str(), out.body));
}

}  // namespace sluice::admin
