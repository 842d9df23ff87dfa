#include "app/front_door.hpp"

#include <chrono>
#include <utility>

#include <fmt/format.h>

#include "base/log.hpp"
#include "runtime/file_stamp.hpp"

namespace sluice::app {
namespace {

std::string stamp_of(const config::Tls& tls) {
  return runtime::file_stamp(tls.cert_file) + runtime::file_stamp(tls.key_file) +
         runtime::file_stamp(tls.client_ca_file);
}

bool are_same_files(const config::Tls& left, const config::Tls& right) {
  return left.cert_file == right.cert_file && left.key_file == right.key_file &&
         left.client_ca_file == right.client_ca_file && left.client_certificate == right.client_certificate;
}

void warn_of_end(const http::TlsServerContext& tls, const config::Tls& from) {
  using Days = std::chrono::duration<double, std::ratio<86400>>;
  const double days = Days(tls.not_after() - std::chrono::system_clock::now()).count();
  if (days > 7) return;
  log::warn("tls", days < 0
                       ? fmt::format("the certificate in {} has expired", from.cert_file.native())
                       : fmt::format("the certificate in {} expires in {:.1f} days", from.cert_file.native(), days));
}

}  // namespace

http::TlsServerContext::Params tls_params(const config::Tls& tls) {
  return {tls.cert_file.native(), tls.key_file.native(), tls.client_ca_file.native(),
          tls.client_certificate == config::ClientCertificate::required};
}

FrontDoor::FrontDoor(const Clock& clock, runtime::TaskGroup& group, metrics::Registry& registry)
    : logins_({}, clock, group, registry),
      expires_(registry.gauge("sluice_tls_certificate_expires_seconds",
                              "When the certificate of the listener expires, in seconds since 1970; 0: there is none.",
                              {})) {}

Result<FrontDoor::Prepared> FrontDoor::prepare(const config::Settings& settings) {
  const std::scoped_lock lock(mutex_);
  Prepared out{settings.server, settings.auth, settings.repositories, nullptr, {}, ++reads_, std::nullopt, nullptr};
  if (!settings.server.tls.cert_file.empty()) {
    // Before they are read: a change in between is found the next time.
    out.stamp = stamp_of(settings.server.tls);
    Result<std::shared_ptr<const http::TlsServerContext>> tls =
        http::TlsServerContext::load(tls_params(settings.server.tls));
    if (!tls) return tls.error().in("server.tls");
    out.tls = std::move(*tls);
    warn_of_end(*out.tls, settings.server.tls);
  }
  const config::Auth& auth = settings.auth;
  Result<access::LoginGate::Prepared> logins =
      logins_.prepare({.file = auth.htpasswd_file, .realm = auth.realm, .remember = auth.remember});
  if (!logins) return logins.error();
  out.logins = std::move(*logins);
  out.entry = make_entry(out);
  return out;
}

// All that may fail has been done.
void FrontDoor::open(Prepared prepared, http::Server& server, bool at_once) {
  const std::scoped_lock lock(mutex_);
  if (now_.tls && prepared.tls && now_.order > prepared.order && are_same_files(now_.server.tls, prepared.server.tls)) {
    prepared.tls = now_.tls;
    prepared.stamp = now_.stamp;
    prepared.order = now_.order;
    prepared.entry = make_entry(prepared);
  }
  now_ = std::move(prepared);
  logins_.apply(*std::exchange(now_.logins, std::nullopt));
  rules_.set({now_.repositories.allow, now_.repositories.deny});
  tell(server, at_once);
}

std::shared_ptr<const http::Entry> FrontDoor::make_entry(const Prepared& from) {
  http::Entry entry;
  entry.allow = NetworkList(from.server.allow);
  entry.deny = NetworkList(from.server.deny);
  entry.trusted_proxies = NetworkList(from.server.trusted_proxies);
  entry.proxy_protocol = from.server.proxy_protocol;
  entry.client_max_connections = from.server.client.max_connections;
  entry.client_requests_per_second = from.server.client.requests_per_second;
  entry.tls = from.tls;
  return std::make_shared<const http::Entry>(std::move(entry));
}

void FrontDoor::tell(http::Server& server, bool at_once) {
  expires_.set(now_.tls ? static_cast<std::int64_t>(std::chrono::system_clock::to_time_t(now_.tls->not_after())) : 0);
  at_once ? server.exchange_entry(now_.entry) : server.set_entry(now_.entry);
}

void FrontDoor::refresh(http::Server& server) {
  const std::scoped_lock lock(mutex_);
  logins_.refresh();
  if (!now_.tls) return;
  const config::Tls& from = now_.server.tls;
  const std::string stamp = stamp_of(from);
  const bool is_settled = stamp == seen_;
  seen_ = stamp;
  if (!is_settled || stamp == now_.stamp || stamp == complained_about_) return;
  Result<std::shared_ptr<const http::TlsServerContext>> tls = http::TlsServerContext::load(tls_params(from));
  if (!tls) {
    // Told once.
    complained_about_ = stamp;
    log::error("tls", tls.error().message + "; the old certificate stays in force");
    return;
  }
  complained_about_.clear();
  now_.tls = std::move(*tls);
  now_.stamp = stamp;
  now_.order = ++reads_;
  warn_of_end(*now_.tls, from);
  log::info("tls", fmt::format("{} has changed and is in use", from.cert_file.native()));
  now_.entry = make_entry(now_);
  tell(server, false);
}

}  // namespace sluice::app
