// DigestMap: a hash map by digest that keeps 32 bytes for a sha256, which nearly all digests are, rather than the 65
// of a Digest. Not thread-safe.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include <boost/unordered/unordered_flat_map.hpp>

#include "oci/digest.hpp"

namespace sluice::store {

template <class Value>
class DigestMap {
 public:
  // Null when it is not there. Valid until the next insert.
  Value* find(const oci::Digest& digest) {
    if (digest.algorithm() == oci::Algorithm::sha256) {
      const auto it = short_.find(digest);
      return it == short_.end() ? nullptr : &it->second;
    }
    const auto it = others_.find(digest);
    return it == others_.end() ? nullptr : &it->second;
  }
  const Value* find(const oci::Digest& digest) const { return const_cast<DigestMap*>(this)->find(digest); }

  // The value of the digest, made from `value` when it is not there; whether it was made.
  std::pair<Value*, bool> try_emplace(const oci::Digest& digest, const Value& value) {
    if (digest.algorithm() == oci::Algorithm::sha256) {
      const auto [it, made] = short_.try_emplace(Key(digest), value);
      return {&it->second, made};
    }
    const auto [it, made] = others_.try_emplace(digest, value);
    return {&it->second, made};
  }

  bool erase(const oci::Digest& digest) {
    if (digest.algorithm() != oci::Algorithm::sha256) return others_.erase(digest) != 0;
    const auto it = short_.find(digest);
    if (it == short_.end()) return false;
    short_.erase(it);
    return true;
  }

  [[nodiscard]] std::size_t size() const noexcept { return short_.size() + others_.size(); }
  [[nodiscard]] bool empty() const noexcept { return size() == 0; }
  void reserve(std::size_t count) { short_.reserve(count); }

  // `visit(const oci::Digest&, Value&)` for each entry, in no order. It must not change the map.
  template <class F>
  void for_each(F visit) {
    for (auto& [key, value] : short_) visit(key.digest(), value);
    for (auto& [digest, value] : others_) visit(digest, value);
  }
  template <class F>
  void for_each(F visit) const {
    for (const auto& [key, value] : short_) visit(key.digest(), value);
    for (const auto& [digest, value] : others_) visit(digest, value);
  }

 private:
  struct Key {
    Key() = default;
    explicit Key(const oci::Digest& digest) { std::memcpy(bytes.data(), digest.raw().data(), bytes.size()); }
    [[nodiscard]] oci::Digest digest() const { return oci::Digest::from_raw(oci::Algorithm::sha256, bytes); }
    std::array<std::byte, 32> bytes;
  };
  struct Hash {
    using is_transparent = void;
    using is_avalanching = void;
    std::size_t operator()(const oci::Digest& digest) const noexcept { return hash_value(digest); }
    std::size_t operator()(const Key& key) const { return hash_value(key.digest()); }
  };
  struct Equal {
    using is_transparent = void;
    bool operator()(const Key& a, const Key& b) const noexcept { return a.bytes == b.bytes; }
    bool operator()(const Key& a, const oci::Digest& b) const noexcept {
      return std::memcmp(a.bytes.data(), b.raw().data(), a.bytes.size()) == 0;
    }
    bool operator()(const oci::Digest& a, const Key& b) const noexcept { return (*this)(b, a); }
  };

  boost::unordered_flat_map<Key, Value, Hash, Equal> short_;
  boost::unordered_flat_map<oci::Digest, Value> others_;
};

// SmallDigestMap: the same for maps that mostly hold a few sha256 digests, of which there are many: up to kFew of them
// stand in a row of their own size, and only more, or another digest, become a hash map.
template <class Value>
class SmallDigestMap {
 public:
  Value* find(const oci::Digest& digest) {
    if (many_) return many_->find(digest);
    if (digest.algorithm() != oci::Algorithm::sha256) return nullptr;
    for (Few& entry : few_) {
      if (std::memcmp(entry.bytes.data(), digest.raw().data(), entry.bytes.size()) == 0) return &entry.value;
    }
    return nullptr;
  }
  const Value* find(const oci::Digest& digest) const { return const_cast<SmallDigestMap*>(this)->find(digest); }

  std::pair<Value*, bool> try_emplace(const oci::Digest& digest, const Value& value) {
    if (Value* known = find(digest)) return {known, false};
    if (!many_ && (few_.size() == kFew || digest.algorithm() != oci::Algorithm::sha256)) become_many();
    if (many_) return many_->try_emplace(digest, value);
    Few entry;
    std::memcpy(entry.bytes.data(), digest.raw().data(), entry.bytes.size());
    entry.value = value;
    few_.push_back(entry);
    return {&few_.back().value, true};
  }

  bool erase(const oci::Digest& digest) {
    if (many_) return many_->erase(digest);
    const Value* known = find(digest);
    if (known == nullptr) return false;
    const auto at = std::find_if(few_.begin(), few_.end(), [&](const Few& entry) { return &entry.value == known; });
    *at = few_.back();
    few_.pop_back();
    return true;
  }

  [[nodiscard]] std::size_t size() const noexcept { return many_ ? many_->size() : few_.size(); }
  [[nodiscard]] bool empty() const noexcept { return size() == 0; }

  template <class F>
  void for_each(F visit) const {
    if (many_) {
      std::as_const(*many_).for_each(visit);
      return;
    }
    for (const Few& entry : few_) visit(oci::Digest::from_raw(oci::Algorithm::sha256, entry.bytes), entry.value);
  }

 private:
  static constexpr std::size_t kFew = 16;

  struct Few {
    std::array<std::byte, 32> bytes{};
    Value value{};
  };

  void become_many() {
    auto many = std::make_unique<DigestMap<Value>>();
    many->reserve(2 * kFew);
    for_each([&](const oci::Digest& digest, const Value& value) { many->try_emplace(digest, value); });
    many_ = std::move(many);
    few_ = {};
  }

  std::vector<Few> few_;
  std::unique_ptr<DigestMap<Value>> many_;
};

}  // namespace sluice::store
