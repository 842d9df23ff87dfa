#include "app/commands/top.hpp"

#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <utility>

#include <fmt/format.h>

#include "app/commands/command.hpp"
#include "app/commands/source.hpp"
#include "app/exit_status.hpp"
#include "runtime/every.hpp"

namespace sluice::app {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using runtime::Task;

constexpr const char* kNow = "/api/v1/now";
constexpr auto kInterval = 1s;
// How often the keyboard is polled.
constexpr auto kKeyInterval = 100ms;

winsize terminal_size() {
  winsize size{};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0 || size.ws_row == 0) return {24, 80, 0, 0};
  return size;
}

// The terminal's other screen, without a cursor, with keys as they are pressed; as before when it is destroyed.
class Screen {
 public:
  Screen() {
    has_keys_ = ::isatty(STDIN_FILENO) == 1 && ::tcgetattr(STDIN_FILENO, &before_) == 0;
    if (has_keys_) {
      termios keys = before_;
      keys.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
      has_keys_ = ::tcsetattr(STDIN_FILENO, TCSANOW, &keys) == 0;
    }
    put("\x1b[?1049h\x1b[?25l");
  }
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;
  ~Screen() {
    put("\x1b[?25h\x1b[?1049l");
    if (has_keys_) ::tcsetattr(STDIN_FILENO, TCSANOW, &before_);
  }

  static void show(const std::string& text) {
    const winsize size = terminal_size();
    const std::string shown = fitted(text, size.ws_row, size.ws_col);
    // Each line is overwritten, and the rest of it and of the screen cleared: that does not flicker.
    std::string out = "\x1b[H";
    for (const char c : shown) {
      if (c == '\n') out += "\x1b[K\r";
      out += c;
    }
    put(out + "\x1b[K\x1b[J");
  }

  // q or Q was pressed, or nobody can press anything any more.
  [[nodiscard]] bool wants_to_leave() const {
    if (!has_keys_) return false;
    pollfd keys{STDIN_FILENO, POLLIN, 0};
    if (::poll(&keys, 1, 0) != 1) return false;
    char key = 0;
    return ::read(STDIN_FILENO, &key, 1) != 1 || key == 'q' || key == 'Q';
  }

 private:
  static void put(const std::string& text) {
    std::fputs(text.c_str(), stdout);
    std::fflush(stdout);
  }
  termios before_{};
  bool has_keys_ = false;
};

// What the API says, or one line about why it says nothing.
std::string next_text(TopScreen& screen, const Result<std::string>& body) {
  if (!body) return fmt::format("no answer from {}: {}; trying again\n", screen.where, body.error().message);
  json parsed = json::parse(*body, nullptr, false);
  if (!parsed.is_object()) return fmt::format("what answers on {} is no admin listener of sluice\n", screen.where);
  screen.before = std::exchange(screen.now, std::move(parsed));
  return top_text(screen);
}

// `terminal` and `source` outlive it: it is run to its end.
Task<Result<bool>> watch(Source& source, const Screen& terminal, TopScreen screen) {
  for (;;) {
    const Result<std::string> body = co_await source.ask("GET", kNow);
    Screen::show(next_text(screen, body));
    for (auto waited = 0ms; waited < kInterval; waited += kKeyInterval) {
      if (terminal.wants_to_leave()) co_return true;
      co_await runtime::sleep_for(kKeyInterval);
    }
  }
}

Error nobody(const std::string& admin, const Error& error) {
  if (error.code == Errc::not_found) {
    return {Errc::not_found, fmt::format("{}; it is older than this command", error.message)};
  }
  return error.in(fmt::format("no answer from {}", admin));
}

}  // namespace

int top_command(Runner& runner, const std::string& admin, const CommandOptions& options) {
  const Result<std::unique_ptr<Source>> source = remote_source(runner, admin);
  if (!source) return fail(source.error());
  const Result<Document> first = ask(runner, **source, "GET", kNow);
  if (!first) return fail(nobody(admin, first.error()));
  if (options.json) {
    print(first->json.dump() + "\n");
    return kExitOk;
  }
  TopScreen screen{admin, first->json, {}};
  if (options.once || ::isatty(STDOUT_FILENO) != 1) {
    print(top_text(screen));
    return kExitOk;
  }
  Result<bool> watched = true;
  {
    const Screen terminal;
    watched = runner.run(watch(**source, terminal, std::move(screen)));
  }
  if (!watched && !runner.interrupted()) return fail(watched.error());
  return kExitOk;
}

int pulls_command(Runner& runner, const std::string& admin, const CommandOptions& options) {
  const Result<std::unique_ptr<Source>> source = remote_source(runner, admin);
  if (!source) return fail(source.error());
  const Result<Document> answer = ask(runner, **source, "GET", fmt::format("/api/v1/pulls?limit={}", options.limit));
  if (!answer) return fail(nobody(admin, answer.error()));
  if (options.json) {
    print(answer->json.dump() + "\n");
    return kExitOk;
  }
  const std::string table = pulls_text(answer->json, options.requests, std::chrono::system_clock::now());
  if (table.empty()) std::fputs("no client has asked for anything since the start\n", stderr);
  print(table);
  return kExitOk;
}

}  // namespace sluice::app
