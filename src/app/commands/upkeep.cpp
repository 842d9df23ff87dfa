// gc, verify and reload.
#include <chrono>
#include <cstdio>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "admin/verify_options.hpp"
#include "app/commands/command.hpp"
#include "app/commands/text.hpp"
#include "app/exit_status.hpp"
#include "app/reload.hpp"
#include "base/units.hpp"
#include "http/url.hpp"
#include "runtime/every.hpp"

namespace sluice::app {
namespace {

using nlohmann::json;
using runtime::Task;
using namespace std::chrono_literals;

std::uint64_t number(const json& from, const char* key) { return from.value(key, std::uint64_t{0}); }

std::string parameter(const std::string& target, const char* name, const std::string& value) {
  if (value.empty()) return target;
  return target + (target.find('?') == std::string::npos ? "?" : "&") + name + "=" + http::percent_encode(value);
}

void show_progress(Progress& progress, const json& status) {
  const json& at = status["progress"];
  std::string more = fmt::format("{} of {} blobs", number(at, "blobs"), number(at, "blobs_total"));
  if (const std::uint64_t bad = number(at, "damaged") + number(at, "missing") + number(at, "unreadable"); bad != 0) {
    more += fmt::format(", {} bad", bad);
  }
  const auto took = std::chrono::milliseconds(static_cast<std::int64_t>(1000 * status.value("seconds", 0.0)));
  more += ", " + rate(number(at, "bytes"), took);
  progress.show("verify", number(at, "bytes"), number(at, "bytes_total"), more);
}

// Until it has ended; the last status.
Task<Result<Document>> watch(Source& source, Progress& progress) {
  for (;;) {
    const Result<std::string> body = co_await source.ask("GET", "/api/v1/verify");
    if (!body) co_return body.error();
    json status = json::parse(*body, nullptr, false);
    if (status.is_discarded() || !status.contains("state"))
      co_return Error{Errc::internal, "an answer without a state"};
    if (status["state"] != "running") co_return Document(std::move(status));
    show_progress(progress, status);
    co_await runtime::sleep_for(200ms);
  }
}

std::string report(const json& status) {
  const json& at = status["progress"];
  const auto took = std::chrono::milliseconds(static_cast<std::int64_t>(1000 * status.value("seconds", 0.0)));
  std::string out;
  const json found = status.value("found", json::array());
  for (const json& damaged : found) {
    out += fmt::format("{}: {}", damaged.value("digest", ""), damaged.value("reason", ""));
    const std::string to = damaged.value("quarantined_to", "");
    out += to.empty() ? "\n" : fmt::format("; moved to {}\n", to);
  }
  const std::uint64_t bad = number(at, "damaged") + number(at, "missing") + number(at, "unreadable");
  out += fmt::format("{} of {} blobs read, {} in {} ({})", number(at, "blobs"), number(at, "blobs_total"),
                     format_bytes(number(at, "bytes")), format_duration(took), rate(number(at, "bytes"), took));
  if (bad == 0) return out + ": all as they should be\n";
  return out + fmt::format(": {} damaged, {} missing, {} unreadable; they are fetched again when they are asked for\n",
                           number(at, "damaged"), number(at, "missing"), number(at, "unreadable"));
}

}  // namespace

int gc_command(Runner& runner, Source& source, const CommandOptions& options) {
  const Result<Document> collected = ask(runner, source, "POST", parameter("/api/v1/gc", "min_age", options.min_age));
  if (!collected) return fail(collected.error());
  if (options.json) {
    print(collected->json.dump(2) + "\n");
    return kExitOk;
  }
  const json& at = collected->json;
  print(
      fmt::format("evicted         {}, {}\n"
                  "missing files   {} forgotten\n"
                  "orphans         {}, {} forgotten\n"
                  "expired parts   {}, {}\n"
                  "left            {}, {}\n",
                  counted(number(at, "evicted"), "blob"), format_bytes(number(at, "evicted_bytes")),
                  number(at, "missing_files"), counted(number(at, "memberships"), "membership"),
                  counted(number(at, "tags"), "tag"), number(at, "parts"), format_bytes(number(at, "parts_bytes")),
                  counted(number(at, "store_blobs"), "blob"), format_bytes(number(at, "store_bytes"))));
  return kExitOk;
}

int verify_command(Runner& runner, Source& source, const CommandOptions& options) {
  std::string target = parameter("/api/v1/verify", "sample", options.sample);
  target = parameter(target, "rate", options.rate);
  target = parameter(target, "seed", options.seed);
  const Result<Document> started = ask(runner, source, "POST", target);
  if (!started) return fail(started.error());
  Progress progress(options.quiet);
  Result<Document> ended = runner.run(watch(source, progress));
  progress.finish();
  if (!ended && runner.interrupted()) {
    // What was started is not left behind.
    static_cast<void>(ask(runner, source, "DELETE", "/api/v1/verify"));
    ended = runner.run(watch(source, progress));
  }
  if (!ended) return fail(ended.error());
  const json& status = ended->json;
  if (options.json) {
    print(status.dump(2) + "\n");
  } else if (status.contains("progress") && status["state"] != "failed") {
    print(report(status));
  }
  if (status["state"] == "failed") return fail({Errc::internal, status.value("error", "verification failed")});
  const json& at = status["progress"];
  const bool bad = number(at, "damaged") + number(at, "missing") + number(at, "unreadable") != 0;
  if (bad) return kExitFailure;
  if (status["state"] == "cancelled") {
    std::fputs("sluice: cancelled before the end\n", stderr);
    return runner.interrupted() ? kExitInterrupted : kExitFailure;
  }
  return kExitOk;
}

int reload_command(Runner& runner, const std::string& admin, const CommandOptions& options,
                   const std::string& mistakes) {
  const auto show_mistakes = [&mistakes] { std::fputs((mistakes + "\n").c_str(), stderr); };
  const Result<std::unique_ptr<Source>> source = remote_source(runner, admin);
  const Result<Document> reloaded =
      source ? ask(runner, **source, "POST", "/api/v1/reload") : Result<Document>(source.error());
  // Where the running one refuses, it has the same to say of the file.
  const bool refused = !reloaded && source && reloaded.error().code == Errc::config_invalid;
  if (!mistakes.empty() && !reloaded && !refused) show_mistakes();
  if (!reloaded) {
    const int status = fail(reloaded.error());
    return refused || !mistakes.empty() ? kExitBadConfig : status;
  }
  if (options.json) {
    print(reloaded->json.dump(2) + "\n");
  } else {
    using Keys = std::vector<std::string>;
    print(describe(Reloaded{reloaded->json.value("changed", Keys{}), reloaded->json.value("restart", Keys{})}) + "\n");
  }
  if (mistakes.empty()) return kExitOk;
  std::fputs("sluice: the running sluice has another configuration than the one named, which has mistakes:\n", stderr);
  show_mistakes();
  return kExitBadConfig;
}

}  // namespace sluice::app
