// Where a command's answers come from: the admin API of a running sluice, or the same API over a data directory that no
// sluice uses.
//
// Threads: main's alone, like the Runner that it is asked on.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include <nlohmann/json.hpp>

#include "app/commands/options.hpp"
#include "app/commands/runner.hpp"
#include "base/result.hpp"
#include "config/settings.hpp"

namespace sluice::app {

class Source {
 public:
  virtual ~Source() = default;

  // What the API answers to `target` ("/api/v1/…"), as JSON text. An error of the API is an Error with its message.
  // Errors: also upstream_unreachable.
  virtual runtime::Task<Result<std::string>> ask(std::string method, std::string target) = 0;
  // For a person: "the sluice on 127.0.0.1:5001", "/var/lib/sluice, which no sluice uses".
  [[nodiscard]] virtual std::string describe() const = 0;
};

struct Where {
  const config::Settings& settings;
  const CommandOptions& options;
  bool data_named = false;    // --data
  bool config_named = false;  // --config or SLUICE_CONFIG
  bool limited = false;       // as local_source
};

// The running sluice; with --data the directory, unless a sluice uses it, which is then asked. Says on standard error
// what was taken, where that is in doubt. Errors: not_found, for what nobody answers, with what to do about it.
Result<std::unique_ptr<Source>> open_source(Runner& runner, const Where& where);

// The two of them. `address` is ADDR:PORT of the admin listener; a name is looked up here, since the API answers to
// addresses only.
Result<std::unique_ptr<Source>> remote_source(Runner& runner, const std::string& address);
// `limited`: with the limits of the settings, which are kept at once. Errors: exists, another process uses it;
// not_found, there is no store.
Result<std::unique_ptr<Source>> local_source(const config::Settings& settings, bool limited);

// JSON in a Result: nlohmann's type converts from everything, so that it cannot stand there itself.
struct Document {
  Document() = default;
  explicit Document(nlohmann::json value) : json(std::move(value)) {}
  nlohmann::json json;
};

// A whole answer on the runner, parsed.
Result<Document> ask(Runner& runner, Source& source, const std::string& method, const std::string& target);

// The error in a body of the API, or the body itself.
Error api_error(int status, const std::string& body);

}  // namespace sluice::app
