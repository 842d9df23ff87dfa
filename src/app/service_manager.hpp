// ServiceManager: what the process tells systemd, where it was started by a unit with Type=notify (sd_notify(3)).
//
// The protocol is a datagram of text to the Unix socket that NOTIFY_SOCKET names, so it is written here rather than
// linked from libsystemd, which would bring five more libraries into the image for it. Where nobody listens, every call
// does nothing.
//
// Threads: all functions are thread-safe; they send without waiting, so any thread may call them.
#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace sluice::app {

class ServiceManager {
 public:
  using Environment = std::map<std::string, std::string>;

  // By NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID of `environment`.
  explicit ServiceManager(const Environment& environment);
  ServiceManager(const ServiceManager&) = delete;
  ServiceManager& operator=(const ServiceManager&) = delete;
  ~ServiceManager();

  // Requests are served; `status` is what `systemctl status` shows.
  void ready(std::string_view status) const;
  void status(std::string_view text) const;
  // It ends, which may take as long as `drain`.
  void stopping(std::chrono::microseconds drain) const;
  // It is alive. To be called more often than every watchdog().
  void alive() const;

  // After how long without alive() it is killed and started again; nothing where the unit has no WatchdogSec.
  [[nodiscard]] std::optional<std::chrono::microseconds> watchdog() const noexcept { return watchdog_; }

 private:
  void send(const std::string& message) const;

  std::string address_;  // of the socket; empty: nobody listens
  std::optional<std::chrono::microseconds> watchdog_;
  int fd_ = -1;
};

}  // namespace sluice::app
