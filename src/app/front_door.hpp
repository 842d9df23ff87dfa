// FrontDoor: who may come in to the registry API, as the settings say: address lists and limits, the certificate,
// logins, patterns of repositories. It puts them in force, and notices when their files change.
//
// Owned by the composition root. Threads: prepare, open and refresh read files and may block, so they run on the disk
// pool or before the loops do; all are thread-safe. The server that is told must outlive the calls.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "access/login_gate.hpp"
#include "access/repository_rules.hpp"
#include "base/clock.hpp"
#include "base/metrics.hpp"
#include "base/result.hpp"
#include "config/settings.hpp"
#include "http/server.hpp"
#include "http/tls_server.hpp"

namespace sluice::app {

http::TlsServerContext::Params tls_params(const config::Tls& tls);

class FrontDoor {
 public:
  // What was made of the settings and is not in force yet.
  struct Prepared {
    config::Server server;
    config::Auth auth;
    config::Repositories repositories;
    std::shared_ptr<const http::TlsServerContext> tls;  // null: plain HTTP
    std::string stamp;                                  // of the files it is made of
    std::uint64_t order = 0;                            // of reading them
    std::optional<access::LoginGate::Prepared> logins;
    std::shared_ptr<const http::Entry> entry;
  };

  FrontDoor(const Clock& clock, runtime::TaskGroup& group, metrics::Registry& registry);

  // Errors: config_invalid, with the file. Nothing changes.
  Result<Prepared> prepare(const config::Settings& settings);
  // Puts it in force. What refresh() has read of the same files since stays. `at_once`: the server's loops are paused
  // (http::Server::exchange_entry).
  void open(Prepared prepared, http::Server& server, bool at_once);
  // Looks whether the files have changed, and then puts them in force. Certificate and key may be written one after the
  // other, so they count when they have been the same twice.
  void refresh(http::Server& server);
  void stop() { logins_.stop(); }

  [[nodiscard]] access::LoginGate& logins() noexcept { return logins_; }
  [[nodiscard]] const access::RepositoryRules& rules() const noexcept { return rules_; }

 private:
  static std::shared_ptr<const http::Entry> make_entry(const Prepared& from);
  void tell(http::Server& server, bool at_once);

  access::LoginGate logins_;
  access::RepositoryRules rules_;
  metrics::Gauge& expires_;
  std::mutex mutex_;  // guards what follows
  Prepared now_;
  std::uint64_t reads_ = 0;
  std::string seen_;              // a stamp
  std::string complained_about_;  // another
};

}  // namespace sluice::app
