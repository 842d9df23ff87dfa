// Result<T>: a value or an Error. Boost.System's result with our error type.
//
//   Result<Digest> d = Digest::parse(text);
//   if (!d) return d.error();
//   use(*d);
//
// `value()` on an error throws std::logic_error: it is for places where an error would be a bug.
#pragma once

#include <boost/system/result.hpp>

#include "base/errc.hpp"

namespace sluice {

template <class T>
using Result = boost::system::result<T, Error>;

// Called by boost::system::result (found by argument-dependent lookup).
[[noreturn]] void throw_exception_from_error(const Error& error, const boost::source_location& where);

}  // namespace sluice
