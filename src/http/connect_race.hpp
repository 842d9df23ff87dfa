// A TCP connection to whichever of several addresses answers first (RFC 8305, "Happy Eyeballs"). Internal to the
// client.
#pragma once

#include <chrono>
#include <vector>

#include <boost/asio/basic_stream_socket.hpp>
#include <boost/asio/ip/tcp.hpp>

#include "runtime/task.hpp"

namespace sluice::http {

using TcpSocket = boost::asio::basic_stream_socket<boost::asio::ip::tcp, runtime::Executor>;
using TcpEndpoints = std::vector<boost::asio::ip::tcp::endpoint>;

// RFC 8305 section 5.
inline constexpr std::chrono::milliseconds kConnectionAttemptDelay{250};

// As they come, but with the two families in turn (section 4): one that leads nowhere costs one delay.
TcpEndpoints alternate_families(const TcpEndpoints& endpoints);

struct RaceOutcome {
  TcpSocket socket;  // connected, unless there is an error
  boost::system::error_code error;
  bool timed_out = false;
};

// Tries the first one; each further one when the one before has failed, or has not answered for `delay`. All attempts
// but the one that wins are closed. `endpoints` is not empty. Suspends at most until `until`; cancelled:
// operation_aborted.
runtime::Task<RaceOutcome> race_to_connect(TcpEndpoints endpoints, std::chrono::steady_clock::time_point until,
                                           std::chrono::milliseconds delay);

}  // namespace sluice::http
