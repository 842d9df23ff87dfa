// Names to addresses, with getaddrinfo on threads of its own.
//
// Asio resolves on one thread for each loop, and joins it when the loop is destroyed: a name server that does not
// answer would hold up every other name, and the end of the program, for as long as getaddrinfo tries (a minute is
// common). Here every name has a thread while it is looked up, whoever asks for it, and nobody waits for that thread to
// end.
//
// Owned by a pool of connections. Threads: resolve() may be awaited and inquire() called on any loop, and the tasks
// that await the one end before the Resolver does. What is still being looked up then is left behind.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <boost/asio/ip/address.hpp>

#include "base/result.hpp"
#include "runtime/task.hpp"

namespace sluice::runtime {

class Resolver {
 public:
  using Addresses = std::vector<boost::asio::ip::address>;

  // Redirects choose names, so the threads are bounded.
  static constexpr std::size_t kMaxLookups = 32;

  // What blocks: the addresses of a name. Called on a thread that may outlive the Resolver.
  using LookUp = std::function<Result<Addresses>(const std::string& host)>;

  // With getaddrinfo.
  Resolver();
  explicit Resolver(LookUp look_up);
  Resolver(const Resolver&) = delete;
  Resolver& operator=(const Resolver&) = delete;
  ~Resolver();

  // Suspends at most until `until`. Never an empty list.
  // Errors: upstream_unreachable, no such name; upstream_timeout; overloaded, too many names at once; cancelled.
  Task<Result<Addresses>> resolve(std::string host, std::chrono::steady_clock::time_point until);

  // The same for code that is no coroutine: `done` is called on `executor` once, unless the inquiry was destroyed
  // before, which must happen on that executor's thread. Without an end of its own: who waits has a deadline.
  // Errors of the call itself: overloaded.
  class Inquiry;
  Result<std::shared_ptr<Inquiry>> inquire(std::string host, Executor executor,
                                           std::function<void(Result<Addresses>)> done);

 private:
  struct State;
  const std::shared_ptr<State> state_;  // shared with the threads
};

}  // namespace sluice::runtime
