// The coroutine type of the program, and how it waits.
//
// A Task runs on one Loop and stays there: no strands, no type-erased executor. It is lazy: nothing happens until it
// is awaited, or spawned into a TaskGroup. Rules for writing one (docs/architecture.md, "Coroutines"):
//  - parameters by value, unless the caller awaits the task in the same full expression;
//  - a lambda that is a coroutine captures nothing;
//  - no lock is held across co_await, nothing blocks.
#pragma once

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace sluice::runtime {

namespace asio = boost::asio;

using Executor = asio::io_context::executor_type;

template <class T = void>
using Task = asio::awaitable<T, Executor>;

// Completion tokens: `co_await socket.async_wait(…, kAwait)` throws system_error, kAwaitTuple gives (error_code, …).
inline constexpr asio::use_awaitable_t<Executor> kAwait{};
inline constexpr asio::as_tuple_t<asio::use_awaitable_t<Executor>> kAwaitTuple{};

}  // namespace sluice::runtime
