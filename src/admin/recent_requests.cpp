#include "admin/recent_requests.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "base/network.hpp"

namespace sluice::admin {
namespace {

using namespace std::chrono_literals;

constexpr std::uint32_t kHour = 60;  // in minutes
// The hour that repositories are counted in comes in pieces of this many minutes.
constexpr std::uint32_t kPieceMinutes = 10;
constexpr std::size_t kPieces = kHour / kPieceMinutes;
// How many places are looked at for one entry of a table.
constexpr std::size_t kProbes = 16;

// A text without memory of its own; what does not fit is cut.
template <std::size_t N>
class FixedText {
 public:
  void assign(std::string_view text) {
    size_ = std::min(text.size(), N);
    std::memcpy(bytes_.data(), text.data(), size_);
  }
  [[nodiscard]] std::string str() const { return {bytes_.data(), size_}; }

 private:
  std::array<char, N> bytes_{};
  std::size_t size_ = 0;
};

struct Place {
  Clock::Wall ended;
  FixedText<48> client;
  FixedText<8> method;
  FixedText<64> upstream;
  FixedText<128> repository;
  FixedText<136> reference;
  std::string_view cache;
  unsigned status = 0;
  bool complete = true;
  std::uint64_t bytes = 0;
  std::chrono::nanoseconds first_byte{0};
  std::chrono::nanoseconds upstream_wait{0};
  std::chrono::nanoseconds total{0};
};

// Which minutes something was seen in: bit 0 is `minute`, bit 1 the one before.
struct Seen {
  std::uint64_t pair = 0;  // 0: the place is free
  std::uint64_t client = 0;
  std::uint64_t minutes = 0;
  std::uint32_t minute = 0;

  // The bits of the hour that ends with `now`.
  [[nodiscard]] std::uint64_t within_hour(std::uint32_t now) const {
    const std::uint32_t age = now > minute ? now - minute : 0;
    constexpr std::uint64_t kMask = (std::uint64_t{1} << kHour) - 1;
    return age >= kHour ? 0 : (minutes << age) & kMask;
  }
  // In all minutes from `from` to `now`.
  void touch(std::uint32_t from, std::uint32_t now) {
    const std::uint32_t length = std::min(now - std::min(from, now), kHour - 1) + 1;
    minutes = within_hour(now) | ((std::uint64_t{1} << length) - 1);
    minute = std::max(now, minute);
  }
};

struct Repository {
  struct Piece {
    std::uint32_t number = 0;  // of the piece of time, since 1970
    std::uint32_t requests = 0;
    std::uint64_t bytes = 0;
  };
  std::uint64_t hash = 0;  // 0: the place is free
  std::uint32_t minute = 0;
  FixedText<64> upstream;
  FixedText<128> name;
  std::array<Piece, kPieces> pieces;

  void count(std::uint32_t now, std::uint64_t bytes) {
    minute = now;
    const std::uint32_t number = now / kPieceMinutes;
    Piece& piece = pieces[number % kPieces];
    if (piece.number != number) piece = {number, 0, 0};
    ++piece.requests;
    piece.bytes += bytes;
  }
};

std::uint64_t hash_of(std::string_view text) {
  // 0 means a free place.
  return static_cast<std::uint64_t>(std::hash<std::string_view>{}(text)) | 1U;
}

std::uint64_t mixed(std::uint64_t a, std::uint64_t b) {
  std::uint64_t out = a ^ (b + 0x9E3779B97F4A7C15ULL + (a << 6U) + (a >> 2U));
  out ^= out >> 32U;
  return out | 1U;
}

std::uint32_t minute_of(Clock::Wall time) {
  return static_cast<std::uint32_t>(
      std::max<std::int64_t>(0, std::chrono::floor<std::chrono::minutes>(time.time_since_epoch()).count()));
}

// The place of `hash`, or a free one, or the one that was used longest ago.
template <class Entry, std::size_t kSize>
Entry& place_of(std::array<Entry, kSize>& table, std::uint64_t hash, std::uint64_t Entry::* key) {
  Entry* oldest = nullptr;
  for (std::size_t i = 0; i < kProbes; ++i) {
    Entry& entry = table[((hash >> 1U) + i) % kSize];  // the lowest bit is always set
    if (entry.*key == hash || entry.*key == 0) return entry;
    if (oldest == nullptr || entry.minute < oldest->minute) oldest = &entry;
  }
  return *oldest;
}

RequestRecord record_of(const Place& place) {
  return {place.ended,           place.client.str(),  place.method.str(), place.upstream.str(), place.repository.str(),
          place.reference.str(), place.cache,         place.status,       place.bytes,          place.complete,
          place.first_byte,      place.upstream_wait, place.total};
}

std::uint64_t next_identity() {
  static std::atomic<std::uint64_t> next{1};
  return next.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace

// One thread's memory.
struct RecentRequests::Thread {
  struct Ring {
    std::array<Place, kRing> places;
    std::uint64_t noted = 0;
  };
  struct Pairs {
    std::array<Seen, kSeen> places;
    std::uint32_t forgot_at = 0;  // the minute in which one that had been seen within the hour last made room
  };

  mutable std::mutex mutex;  // guards all below
  Ring ring;
  Pairs pairs;
  std::array<Repository, kRepositories> repositories;

  void remember(const Noted& request, std::string_view client, Clock::Wall now) {
    Place& place = ring.places[ring.noted++ % kRing];
    place.ended = now;
    place.client.assign(client);
    place.method.assign(request.method);
    place.upstream.assign(request.upstream);
    place.repository.assign(request.repository);
    place.reference.assign(request.reference);
    place.cache = request.cache;
    place.status = request.status;
    place.complete = request.complete;
    place.bytes = request.bytes;
    place.first_byte = request.first_byte;
    place.upstream_wait = request.upstream_wait;
    place.total = request.total;
  }

  void count(const Noted& request, std::string_view client, std::uint32_t from, std::uint32_t minute) {
    const std::uint64_t who = hash_of(client);
    const std::uint64_t what = mixed(hash_of(request.upstream), hash_of(request.repository));
    const std::uint64_t pair = mixed(who, what);
    Seen& seen = place_of(pairs.places, pair, &Seen::pair);
    if (seen.pair != pair) {
      if (seen.within_hour(minute) != 0) pairs.forgot_at = minute;
      seen = {pair, who, 0, minute};
    }
    seen.touch(from, minute);
    Repository& repository = place_of(repositories, what, &Repository::hash);
    if (repository.hash != what) {
      repository = {};
      repository.hash = what;
      repository.upstream.assign(request.upstream);
      repository.name.assign(request.repository);
    }
    repository.count(minute, request.bytes);
  }
};

struct RecentRequests::State {
  explicit State(const Clock& c) : clock(c) {}

  // Visits a copy of what each thread has: nobody who notes waits for longer than the copy takes.
  template <class Part, class F>
  void each(Part Thread::* part, F visit) const {
    std::unique_lock lock(mutex);
    const std::vector<std::shared_ptr<Thread>> all = threads;
    lock.unlock();
    const auto copy = std::make_unique<Part>();
    for (const std::shared_ptr<Thread>& thread : all) {
      std::unique_lock own(thread->mutex);
      *copy = (*thread).*part;
      own.unlock();
      visit(std::as_const(*copy));
    }
  }

  const Clock& clock;
  const std::uint64_t identity = next_identity();
  mutable std::mutex mutex;  // guards threads
  std::vector<std::shared_ptr<Thread>> threads;
};

RecentRequests::RecentRequests(const Clock& clock) : state_(std::make_unique<State>(clock)) {}

RecentRequests::~RecentRequests() = default;

// A thread remembers where it noted last; the program has one.
RecentRequests::Thread& RecentRequests::here() {
  thread_local std::uint64_t remembered_identity = 0;
  thread_local std::shared_ptr<Thread> remembered;
  if (remembered_identity != state_->identity) {
    auto made = std::make_shared<Thread>();
    {
      const std::scoped_lock lock(state_->mutex);
      state_->threads.push_back(made);
    }
    remembered = std::move(made);
    remembered_identity = state_->identity;
  }
  return *remembered;
}

void RecentRequests::note(const Noted& request) {
  if (request.repository.empty()) return;
  Thread& thread = here();
  const Clock::Wall now = state_->clock.wall();
  const Clock::Wall began = now - std::chrono::duration_cast<Clock::Wall::duration>(request.total);
  const std::string_view client = without_port(request.client);
  const std::scoped_lock lock(thread.mutex);
  thread.remember(request, client, now);
  if (request.status >= 200 && request.status < 400) thread.count(request, client, minute_of(began), minute_of(now));
}

std::vector<RequestRecord> RecentRequests::last() const {
  std::vector<RequestRecord> out;
  state_->each(&Thread::ring, [&](const Thread::Ring& ring) {
    const std::uint64_t count = std::min<std::uint64_t>(ring.noted, kRing);
    for (std::uint64_t i = 0; i < count; ++i) out.push_back(record_of(ring.places[(ring.noted - 1 - i) % kRing]));
  });
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.ended > b.ended; });
  return out;
}

Use RecentRequests::use() const {
  const std::uint32_t now = minute_of(state_->clock.wall());
  Use out;
  std::unordered_set<std::uint64_t> clients;
  std::unordered_map<std::uint64_t, std::uint64_t> minutes_of;
  state_->each(&Thread::pairs, [&](const Thread::Pairs& pairs) {
    if (pairs.forgot_at != 0 && now - std::min(now, pairs.forgot_at) < kHour) out.at_least = true;
    for (const Seen& seen : pairs.places) {
      const std::uint64_t minutes = seen.pair == 0 ? 0 : seen.within_hour(now);
      if (minutes == 0) continue;
      clients.insert(seen.client);
      minutes_of[seen.pair] |= minutes;
    }
  });
  out.clients = clients.size();
  // Minutes in a row are one pull: each begins where the minute before (the next bit) is empty.
  for (const auto& [pair, minutes] : minutes_of) {
    out.pulls += static_cast<std::size_t>(std::popcount(minutes & ~(minutes >> 1U)));
  }
  return out;
}

std::vector<HotRepository> RecentRequests::hottest(std::size_t most) const {
  const std::uint32_t piece_now = minute_of(state_->clock.wall()) / kPieceMinutes;
  std::map<std::string, HotRepository, std::less<>> by_name;
  state_->each(&Thread::repositories, [&](const auto& repositories) {
    for (const Repository& repository : repositories) {
      if (repository.hash == 0) continue;
      HotRepository sum;
      for (const Repository::Piece& piece : repository.pieces) {
        if (piece.number + kPieces <= piece_now) continue;
        sum.requests += piece.requests;
        sum.bytes += piece.bytes;
      }
      if (sum.requests == 0) continue;
      const std::string name = repository.upstream.str() + "/" + repository.name.str();
      HotRepository& out = by_name[name];
      out.name = name;
      out.requests += sum.requests;
      out.bytes += sum.bytes;
    }
  });
  std::vector<HotRepository> out;
  out.reserve(by_name.size());
  for (auto& [name, repository] : by_name) out.push_back(std::move(repository));
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) {
    return a.requests != b.requests ? a.requests > b.requests : a.name < b.name;
  });
  if (out.size() > most) out.resize(most);
  return out;
}

}  // namespace sluice::admin
