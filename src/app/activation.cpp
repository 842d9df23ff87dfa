#include "app/activation.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

#include <fmt/format.h>

namespace sluice::app {
namespace {

constexpr int kFirst = 3;  // SD_LISTEN_FDS_START
constexpr int kMost = 64;

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

std::optional<int> number(std::string_view text) {
  int out = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return out;
}

// The next of the names, which have colons between them.
std::string_view take_name(std::string_view& names) {
  const std::size_t colon = names.find(':');
  const std::string_view name = names.substr(0, colon);
  names.remove_prefix(colon == std::string_view::npos ? names.size() : colon + 1);
  return name;
}

}  // namespace

Result<Activation> take_activation() {
  const std::string pid = variable("LISTEN_PID");
  const std::string count = variable("LISTEN_FDS");
  const std::string all_names = variable("LISTEN_FDNAMES");
  for (const char* name : {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}) ::unsetenv(name);
  Activation out;
  // Meant for another process that has started this one.
  if (pid.empty() || number(pid) != ::getpid()) return out;
  const std::optional<int> sockets = number(count);
  if (!sockets || *sockets < 0 || *sockets > kMost) {
    return Error(Errc::config_invalid, fmt::format("LISTEN_FDS: \"{}\" is no number from 0 to {}", count, kMost));
  }
  std::string_view names = all_names;
  for (int fd = kFirst; fd < kFirst + *sockets; ++fd) {
    if (::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
      return Error(Errc::config_invalid, fmt::format("LISTEN_FDS: descriptor {}: {}", fd, std::strerror(errno)));
    }
    (take_name(names) == "admin" ? out.admin : out.registry).push_back(fd);
  }
  return out;
}

}  // namespace sluice::app
