// What commands print: tables, times, and how far something is. Pure, but for Progress.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::app {

// Columns as wide as what is in them, two spaces apart.
class Table {
 public:
  // A name that starts with '>' is a column of numbers, aligned to the right.
  explicit Table(std::vector<std::string> columns);

  void add(std::vector<std::string> row);
  // With its head; nothing at all without rows.
  [[nodiscard]] std::string str() const;
  [[nodiscard]] bool empty() const noexcept { return rows_.empty(); }

 private:
  std::vector<std::string> columns_;
  std::vector<bool> right_;
  std::vector<std::vector<std::string>> rows_;
};

// "just now", "5 minutes ago", "3 days ago" of an RFC 3339 time of the API; "-" where there is none.
std::string ago(std::string_view time, std::chrono::system_clock::time_point now);

// "sha256:0123456789ab" of a digest.
std::string short_digest(std::string_view digest);

// "12.3 MiB/s"
std::string rate(std::uint64_t bytes, std::chrono::milliseconds took);

// "1 blob", "2 blobs"
std::string counted(std::uint64_t count, std::string_view noun);

// "[=====>    ]  42 %" of `width` columns.
std::string bar(double share, std::size_t width);

// How far something is, on standard error: on a terminal a line that is written over, elsewhere a line every few
// seconds. One at a time, from one thread.
class Progress {
 public:
  explicit Progress(bool quiet);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress() { finish(); }

  // Cheap when nothing is due.
  void show(std::string_view label, std::uint64_t done, std::uint64_t total, std::string_view more);
  // Takes the line away, so that something else may be printed.
  void finish();

 private:
  const bool quiet_;
  const bool terminal_;
  std::chrono::steady_clock::time_point next_{};
  bool shown_ = false;
};

}  // namespace sluice::app
