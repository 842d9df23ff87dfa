#include "app/service_manager.hpp"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstring>

#include <fmt/format.h>

#include "base/log.hpp"

namespace sluice::app {
namespace {

std::string value(const ServiceManager::Environment& environment, const char* name) {
  const auto at = environment.find(name);
  return at == environment.end() ? std::string() : at->second;
}

std::optional<long> number(const std::string& text) {
  long out = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return out;
}

// One line: a line break would begin another variable.
std::string one_line(std::string_view text) {
  std::string out(text);
  std::replace_if(out.begin(), out.end(), [](char c) { return c == '\n' || c == '\r'; }, ' ');
  return out;
}

}  // namespace

ServiceManager::ServiceManager(const Environment& environment) : address_(value(environment, "NOTIFY_SOCKET")) {
  // A path, or with "@" in front a name in the abstract namespace.
  const bool usable = !address_.empty() && (address_.front() == '/' || address_.front() == '@') &&
                      address_.size() < sizeof(sockaddr_un::sun_path);
  if (!usable) {
    address_.clear();
    return;
  }
  fd_ = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  // sd_watchdog_enabled(3): WATCHDOG_PID names who is watched, where it is set.
  const std::optional<long> watched = number(value(environment, "WATCHDOG_PID"));
  const std::optional<long> microseconds = number(value(environment, "WATCHDOG_USEC"));
  if (microseconds && *microseconds > 0 && (!watched || *watched == ::getpid())) {
    watchdog_ = std::chrono::microseconds(*microseconds);
  }
}

ServiceManager::~ServiceManager() {
  if (fd_ >= 0) ::close(fd_);
}

void ServiceManager::ready(std::string_view status) const { send("READY=1\nSTATUS=" + one_line(status)); }

void ServiceManager::status(std::string_view text) const { send("STATUS=" + one_line(text)); }

void ServiceManager::stopping(std::chrono::microseconds drain) const {
  send(fmt::format("STOPPING=1\nSTATUS=Waiting for running requests to end\nEXTEND_TIMEOUT_USEC={}", drain.count()));
}

void ServiceManager::alive() const { send("WATCHDOG=1"); }

void ServiceManager::send(const std::string& message) const {
  if (fd_ < 0) return;
  sockaddr_un to{};
  to.sun_family = AF_UNIX;
  std::memcpy(to.sun_path, address_.data(), address_.size());
  if (address_.front() == '@') to.sun_path[0] = '\0';
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + address_.size());
  const ssize_t sent =
      ::sendto(fd_, message.data(), message.size(), MSG_NOSIGNAL, reinterpret_cast<const sockaddr*>(&to), length);
  if (sent < 0) log::debug("app", fmt::format("cannot notify the service manager: {}", std::strerror(errno)));
}

}  // namespace sluice::app
