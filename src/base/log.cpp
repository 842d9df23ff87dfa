#include "base/log.hpp"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <climits>
#include <deque>
#include <iterator>
#include <memory>
#include <mutex>

#include <fmt/format.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>

#include "base/log_recent.hpp"
#include "base/mask.hpp"

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

// The last lines of a level that somebody has to know about.
class Recent {
 public:
  void note(Level level, std::string_view component, std::string_view message) {
    RecentLine line{std::chrono::system_clock::now(), level, std::string(component), {}};
    append_text_escaped(line.message, message.substr(0, kMaxRecentBytes));
    const std::scoped_lock lock(mutex_);
    if (!lines_.empty() && lines_.front().component == line.component && lines_.front().message == line.message) {
      line.times = lines_.front().times + 1;
      lines_.pop_front();
    }
    lines_.push_front(std::move(line));
    if (lines_.size() > kRecentLines) lines_.pop_back();
  }
  [[nodiscard]] std::vector<RecentLine> lines() const {
    const std::scoped_lock lock(mutex_);
    return {lines_.begin(), lines_.end()};
  }

 private:
  static constexpr std::size_t kMaxRecentBytes = 1024;
  mutable std::mutex mutex_;  // guards lines_
  std::deque<RecentLine> lines_;
};

Recent& recent_lines() {
  static Recent lines;
  return lines;
}

}  // namespace

std::vector<RecentLine> recent() { return recent_lines().lines(); }

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
  const bool alarming = level == Level::warn || level == Level::error;
  if (!enabled(level) && !alarming) return;
  std::string masked;
  if (message.find('@') != std::string_view::npos) message = masked = mask_userinfo(message);
  if (alarming) recent_lines().note(level, component, message);
  if (!enabled(level)) return;
  std::string line;
  if (g_format.load(std::memory_order_relaxed) == Format::json) {
    line = R"("component":")";
    append_json_escaped(line, component);
    line += R"(","message":")";
    append_json_escaped(line, message);
    line += '"';
  } else {
    line.append(component).append(": ");
    append_text_escaped(line, message);
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

// Of a sequence that utf8_sequence has found.
char32_t code_point(std::string_view sequence) {
  const auto lead = static_cast<unsigned char>(sequence.front());
  char32_t out = sequence.size() == 2 ? lead & 0x1FU : sequence.size() == 3 ? lead & 0x0FU : lead & 0x07U;
  for (const char c : sequence.substr(1)) out = out << 6U | (static_cast<unsigned char>(c) & 0x3FU);
  return out;
}

// What shows as nothing, or turns what stands around it about, so that a line reads as another: Unicode's categories Cc
// (beyond ASCII), Cf, Zl and Zp, its Default_Ignorable_Code_Point, and the empty pattern of Braille (Unicode 15).
bool is_invisible(char32_t c) {
  struct Span {
    char32_t first;
    char32_t last;
  };
  constexpr auto kSpans = std::to_array<Span>({
      {0x80, 0x9F},       {0xAD, 0xAD},       {0x34F, 0x34F},     {0x600, 0x605},     {0x61C, 0x61C},
      {0x6DD, 0x6DD},     {0x70F, 0x70F},     {0x890, 0x891},     {0x8E2, 0x8E2},     {0x115F, 0x1160},
      {0x17B4, 0x17B5},   {0x180B, 0x180F},   {0x200B, 0x200F},   {0x2028, 0x202E},   {0x2060, 0x206F},
      {0x2800, 0x2800},   {0x3164, 0x3164},   {0xFE00, 0xFE0F},   {0xFEFF, 0xFEFF},   {0xFFA0, 0xFFA0},
      {0xFFF0, 0xFFFB},   {0x110BD, 0x110BD}, {0x110CD, 0x110CD}, {0x13430, 0x1343F}, {0x1BCA0, 0x1BCA3},
      {0x1D173, 0x1D17A}, {0xE0000, 0xE0FFF},
  });
  return std::any_of(kSpans.begin(), kSpans.end(), [c](const Span& span) { return c >= span.first && c <= span.last; });
}

// As JSON does it: two of them where it lies beyond U+FFFF.
void append_escape(std::string& out, char32_t c) {
  if (c > 0xFFFF) {
    fmt::format_to(std::back_inserter(out), "\\u{:04x}\\u{:04x}", 0xD800 + ((c - 0x10000) >> 10U),
                   0xDC00 + ((c - 0x10000) & 0x3FFU));
  } else {
    fmt::format_to(std::back_inserter(out), "\\u{:04x}", static_cast<unsigned>(c));
  }
}

// Printable ASCII that may stand in a JSON string as it is.
constexpr std::array<bool, 256> kPlain = [] {
  std::array<bool, 256> out{};
  for (std::size_t c = 0x20; c < 0x7F; ++c) out[c] = c != '"' && c != '\\';
  return out;
}();

// `mark`: quotes and backslashes get a backslash in front.
void append_escaped(std::string& out, std::string_view text, bool mark) {
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
    const std::size_t n = u < 0x80 ? 0 : utf8_sequence(text, i);
    if (c == '"' || c == '\\') {
      if (mark) out += '\\';
      out += c;
    } else if (n == 0) {
      append_escape(out, u);
    } else if (const char32_t point = code_point(text.substr(i, n)); is_invisible(point)) {
      append_escape(out, point);
    } else {
      out.append(text.substr(i, n));
    }
    i += std::max<std::size_t>(n, 1);
  }
}

}  // namespace

void append_json_escaped(std::string& out, std::string_view text) { append_escaped(out, text, true); }

void append_text_escaped(std::string& out, std::string_view text) { append_escaped(out, text, false); }

}  // namespace sluice::log
