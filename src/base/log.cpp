#include "base/log.hpp"

#include <poll.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <climits>
#include <memory>
#include <mutex>

#include <fmt/format.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>

namespace sluice::log {
namespace {

std::atomic<Level> g_level{Level::warn};
std::atomic<Format> g_format{Format::text};

spdlog::level::level_enum to_spdlog(Level level) {
  switch (level) {
    case Level::debug: return spdlog::level::debug;
    case Level::info: return spdlog::level::info;
    case Level::warn: return spdlog::level::warn;
    case Level::error: return spdlog::level::err;
    case Level::off: return spdlog::level::off;
  }
  return spdlog::level::off;
}

// Standard error, without ever waiting for whoever reads it: event loops log, and a pipe that nobody empties must not
// stop them. A pipe that is ready takes PIPE_BUF bytes at once (pipe(7)), so lines are cut to that. Lines that find it
// full are dropped and counted.
class StandardError final : public spdlog::sinks::base_sink<std::mutex> {
 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    if (line.size() > PIPE_BUF) {
      line.resize(PIPE_BUF);
      line[PIPE_BUF - 1] = '\n';
    }
    if (!ready()) {
      ++dropped_;
      return;
    }
    if (dropped_ != 0) {
      const std::string note = fmt::format("({} log lines were dropped: standard error was not read)\n", dropped_);
      dropped_ = 0;
      put(note.data(), note.size());
      if (!ready()) return;
    }
    put(line.data(), line.size());
  }
  void flush_() override {}

 private:
  static bool ready() {
    pollfd descriptor{STDERR_FILENO, POLLOUT, 0};
    return ::poll(&descriptor, 1, 0) == 1 && (descriptor.revents & POLLOUT) != 0;
  }
  static void put(const char* text, std::size_t size) {
    const ssize_t written = ::write(STDERR_FILENO, text, size);
    static_cast<void>(written);  // There is nowhere to say that it failed.
  }

  std::size_t dropped_ = 0;
};

spdlog::logger& sink() {
  static const std::shared_ptr<spdlog::logger> logger = [] {
    auto made = std::make_shared<spdlog::logger>("sluice", std::make_shared<StandardError>());
    made->set_level(spdlog::level::debug);
    made->flush_on(spdlog::level::debug);
    made->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %l %v");
    return made;
  }();
  return *logger;
}

}  // namespace

void configure(const Params& params) {
  g_level = params.level;
  g_format = params.format;
  if (params.format == Format::json) {
    sink().set_pattern(R"({"time":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l",%v})");
  } else {
    sink().set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %l %v");
  }
}

bool enabled(Level level) noexcept { return level >= g_level.load(std::memory_order_relaxed); }

void write(Level level, std::string_view component, std::string_view message) {
  if (!enabled(level)) return;
  std::string line;
  if (g_format.load(std::memory_order_relaxed) == Format::json) {
    line = R"("component":")";
    append_json_escaped(line, component);
    line += R"(","message":")";
    append_json_escaped(line, message);
    line += '"';
  } else {
    line.append(component).append(": ").append(message);
  }
  sink().log(to_spdlog(level), spdlog::string_view_t(line.data(), line.size()));
}

Result<Level> parse_level(std::string_view text) {
  if (text == "debug") return Level::debug;
  if (text == "info") return Level::info;
  if (text == "warn" || text == "warning") return Level::warn;
  if (text == "error") return Level::error;
  if (text == "off") return Level::off;
  return Error{Errc::config_invalid,
               fmt::format("\"{}\" is not a log level; expected debug, info, warn, error or off", text)};
}

namespace {

// The length of the UTF-8 sequence that starts at `text[at]`, or 0 where there is none (RFC 3629).
std::size_t utf8_sequence(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(at);
  std::size_t length = 0;
  unsigned char low = 0x80;
  unsigned char high = 0xBF;
  if (lead >= 0xC2 && lead <= 0xDF) length = 2;
  if (lead >= 0xE0 && lead <= 0xEF) length = 3;
  if (lead >= 0xF0 && lead <= 0xF4) length = 4;
  if (length == 0 || at + length > text.size()) return 0;
  if (lead == 0xE0) low = 0xA0;
  if (lead == 0xED) high = 0x9F;
  if (lead == 0xF0) low = 0x90;
  if (lead == 0xF4) high = 0x8F;
  if (byte(at + 1) < low || byte(at + 1) > high) return 0;
  for (std::size_t i = at + 2; i < at + length; ++i) {
    if (byte(i) < 0x80 || byte(i) > 0xBF) return 0;
  }
  return length;
}

// Printable ASCII that may stand in a JSON string as it is.
constexpr std::array<bool, 256> kPlain = [] {
  std::array<bool, 256> out{};
  for (std::size_t c = 0x20; c < 0x7F; ++c) out[c] = c != '"' && c != '\\';
  return out;
}();

}  // namespace

void append_json_escaped(std::string& out, std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    // Runs of what needs nothing, since that is nearly all there is.
    std::size_t run = i;
    while (run < text.size() && kPlain[static_cast<unsigned char>(text[run])]) ++run;
    if (run != i) {
      out.append(text.substr(i, run - i));
      i = run;
      continue;
    }
    const char c = text[i];
    const auto u = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (const std::size_t n = u < 0x80 ? 0 : utf8_sequence(text, i); n != 0) {
      out.append(text.substr(i, n));
      i += n;
      continue;
    } else {
      fmt::format_to(std::back_inserter(out), "\\u{:04x}", u);
    }
    ++i;
  }
}

}  // namespace sluice::log
