// The pool of one loop: turns to talk to a host, of which there are so many, and connections that are kept between
// them.
//
// Owner: the Client. Threads: its loop's alone.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "http/client.hpp"
#include "http/client_connection.hpp"
#include "runtime/deadline.hpp"
#include "runtime/loop.hpp"
#include "runtime/resolver.hpp"

namespace sluice::http {

class Client::Pool {
 public:
  struct Host;
  class Waiter;

  Pool(runtime::Loop& loop, const Params& params) : loop_(loop), params_(params), reaper_(loop, [this] { reap(); }) {}

  // A turn to talk to `host`, waiting in line where need be, for `patience` at most. Every success is matched by one
  // release().
  Task<Result<Host*>> enter(const Url& url, std::shared_ptr<const Channel> channel,
                            std::chrono::steady_clock::duration patience);
  // A kept connection that looks alive and leads where `referral` permits, or null.
  std::unique_ptr<ClientConnection> take_idle(Host& host, const std::optional<Referral>& referral);
  void put_idle(Host& host, std::unique_ptr<ClientConnection> connection);
  void drop_one_idle(Host& host);
  void drop_all_idle(Host& host);
  void release(Host& host) noexcept;

  [[nodiscard]] runtime::Loop& loop() noexcept { return loop_; }
  [[nodiscard]] runtime::Resolver& resolver() noexcept { return resolver_; }
  [[nodiscard]] std::size_t idle() const;
  [[nodiscard]] std::size_t hosts() const { return hosts_.size(); }

 private:
  using Key = std::tuple<const Channel*, std::string, std::string, std::uint16_t>;

  void reap();

  runtime::Loop& loop_;
  const Params params_;
  runtime::Resolver resolver_;
  std::map<Key, Host> hosts_;
  runtime::Deadline reaper_;
  bool reaping_ = false;
};

// The connections to one scheme, host and port of one channel.
struct Client::Pool::Host {
  std::map<Key, Host>::iterator at;
  std::shared_ptr<const Channel> channel;               // keeps the address in the key from being used again
  std::size_t active = 0;                               // turns given out
  std::size_t limit = 1;                                // of turns
  std::list<Waiter*> waiters;                           // first come, first served
  std::vector<std::unique_ptr<ClientConnection>> idle;  // the one used last at the back
};

}  // namespace sluice::http
