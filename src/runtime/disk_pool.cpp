#include "runtime/disk_pool.hpp"

#include <boost/asio/thread_pool.hpp>

namespace sluice::runtime {

struct DiskPool::Threads {
  explicit Threads(std::size_t count) : pool(count) {}
  asio::thread_pool pool;
};

DiskPool::DiskPool(std::size_t threads) : threads_(std::make_unique<Threads>(threads == 0 ? 1 : threads)) {}

DiskPool::~DiskPool() { stop(); }

void DiskPool::post(std::function<void()> work) { asio::post(threads_->pool, std::move(work)); }

void DiskPool::stop() { threads_->pool.join(); }

}  // namespace sluice::runtime
