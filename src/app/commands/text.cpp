#include "app/commands/text.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <ctime>

#include <fmt/format.h>

#include "base/units.hpp"

namespace sluice::app {
namespace {

using namespace std::chrono_literals;

constexpr auto kTerminalInterval = 100ms;
constexpr auto kPlainInterval = 5s;

std::size_t terminal_width() {
  winsize size{};
  if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

// Characters, not bytes.
std::size_t width_of(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

}  // namespace

Table::Table(std::vector<std::string> columns) : columns_(std::move(columns)) {
  for (std::string& column : columns_) {
    right_.push_back(column.starts_with('>'));
    if (right_.back()) column.erase(0, 1);
  }
}

void Table::add(std::vector<std::string> row) {
  row.resize(columns_.size());
  rows_.push_back(std::move(row));
}

std::string Table::str() const {
  if (rows_.empty()) return {};
  std::vector<std::size_t> widths;
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    std::size_t width = width_of(columns_[i]);
    for (const auto& row : rows_) width = std::max(width, width_of(row[i]));
    widths.push_back(width);
  }
  std::string out;
  const auto line = [&](const std::vector<std::string>& cells) {
    std::string text;
    for (std::size_t i = 0; i < cells.size(); ++i) {
      const std::string padding(widths[i] - width_of(cells[i]), ' ');
      if (i != 0) text += "  ";
      text += right_[i] ? padding + cells[i] : cells[i] + padding;
    }
    text.erase(text.find_last_not_of(' ') + 1);
    out += text + "\n";
  };
  line(columns_);
  for (const auto& row : rows_) line(row);
  return out;
}

std::string ago(std::string_view time, std::chrono::system_clock::time_point now) {
  std::tm parts{};
  const std::string text(time);
  if (text.empty() || ::strptime(text.c_str(), "%Y-%m-%dT%H:%M:%SZ", &parts) == nullptr) return "-";
  const auto then = std::chrono::system_clock::from_time_t(::timegm(&parts));
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(now - then).count();
  const auto unit = [](std::int64_t count, std::string_view noun) {
    return counted(static_cast<std::uint64_t>(count), noun) + " ago";
  };
  if (seconds < 60) return "just now";
  if (seconds < 3600) return unit(seconds / 60, "minute");
  if (seconds < 2 * 86400) return unit(seconds / 3600, "hour");
  return unit(seconds / 86400, "day");
}

std::string short_digest(std::string_view digest) {
  const std::size_t colon = digest.find(':');
  if (colon == std::string_view::npos) return std::string(digest);
  return std::string(digest.substr(0, colon + 13));
}

std::string rate(std::uint64_t bytes, std::chrono::milliseconds took) {
  const auto milliseconds = static_cast<std::uint64_t>(std::max<std::int64_t>(1, took.count()));
  return format_bytes(bytes * 1000 / milliseconds) + "/s";
}

std::string counted(std::uint64_t count, std::string_view noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

std::string bar(double share, std::size_t width) {
  share = std::clamp(share, 0.0, 1.0);
  const std::string percent = fmt::format("{:3.0f} %", 100 * share);
  if (width < percent.size() + 6) return percent;
  const std::size_t inside = width - percent.size() - 3;
  const auto filled = static_cast<std::size_t>(share * static_cast<double>(inside));
  std::string out = "[" + std::string(filled, '=') + std::string(inside - filled, ' ') + "] ";
  if (filled < inside && filled > 0) out[filled] = '>';
  return out + percent;
}

Progress::Progress(bool quiet) : quiet_(quiet), terminal_(::isatty(STDERR_FILENO) == 1) {
  // The first plain line is not due at once: what is quick says nothing.
  next_ = std::chrono::steady_clock::now() + (terminal_ ? 0ms : std::chrono::milliseconds(kPlainInterval));
}

void Progress::show(std::string_view label, std::uint64_t done, std::uint64_t total, std::string_view more) {
  if (quiet_) return;
  const auto now = std::chrono::steady_clock::now();
  if (now < next_) return;
  next_ = now + (terminal_ ? std::chrono::milliseconds(kTerminalInterval) : std::chrono::milliseconds(kPlainInterval));
  const double share = total == 0 ? 0 : static_cast<double>(done) / static_cast<double>(total);
  const std::string counts =
      fmt::format("{} of {}{}{}", format_bytes(done), format_bytes(total), more.empty() ? "" : ", ", more);
  if (!terminal_) {
    std::fputs(fmt::format("{}: {:.0f} %, {}\n", label, 100 * share, counts).c_str(), stderr);
    return;
  }
  const std::size_t width = terminal_width();
  std::string line = fmt::format("{} {} {}", label, bar(share, 30), counts);
  if (line.size() >= width) line = fmt::format("{} {}", bar(share, 12), counts);
  if (line.size() >= width) line.resize(width - 1);
  std::fputs(("\r\x1b[K" + line).c_str(), stderr);
  std::fflush(stderr);
  shown_ = true;
}

void Progress::finish() {
  if (!shown_) return;
  std::fputs("\r\x1b[K", stderr);
  std::fflush(stderr);
  shown_ = false;
}

}  // namespace sluice::app
