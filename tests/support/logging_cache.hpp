// A streaming cache that remembers its look-ups, for tests of what stands in front of it. The log only grows.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "streamcache/cache.hpp"

namespace sluice::streamcache {

// Passes everything on to another cache, which outlives it. Thread-safe.
class LoggingCache final : public Cache {
 public:
  struct Entry {
    std::string key;
    bool created = false;
    std::optional<Error> error;
  };

  explicit LoggingCache(Cache& beneath) : beneath_(beneath) {}

  using Cache::find_or_create;
  runtime::Task<Result<Lookup>> find_or_create(std::string key, Create create, OpenFile open) override {
    Result<Lookup> lookup = co_await beneath_.find_or_create(key, std::move(create), std::move(open));
    Entry entry{std::move(key), lookup && lookup->created, {}};
    if (!lookup) entry.error = lookup.error();
    const std::scoped_lock lock(mutex_);
    entries_.push_back(std::move(entry));
    co_return lookup;
  }

  Result<std::unique_ptr<Stream>> find(std::string_view key) override { return beneath_.find(key); }

  [[nodiscard]] std::optional<std::uint64_t> readable(std::string_view key) const override {
    return beneath_.readable(key);
  }

  void stop() override { beneath_.stop(); }

  [[nodiscard]] std::vector<Entry> entries() const {
    const std::scoped_lock lock(mutex_);
    return entries_;
  }

 private:
  Cache& beneath_;
  mutable std::mutex mutex_;  // guards entries_
  std::vector<Entry> entries_;
};

}  // namespace sluice::streamcache
