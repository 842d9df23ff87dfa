// Runs a producer. Internal to this folder.
#pragma once

#include <memory>

#include "streamcache/cache.hpp"

namespace sluice::streamcache {

// The result of `create`; an exception becomes an error: cancelled where it is one, else internal.
runtime::Task<Result<void>> run_producer(Create create, std::shared_ptr<Writer> writer);

}  // namespace sluice::streamcache
