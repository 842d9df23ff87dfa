#include "admin/pulls.hpp"

#include <algorithm>
#include <map>
#include <string_view>
#include <tuple>
#include <utility>

namespace sluice::admin {
namespace {

constexpr std::chrono::minutes kPause{1};

Clock::Wall began(const RequestRecord& request) {
  return request.ended - std::chrono::duration_cast<Clock::Wall::duration>(request.total);
}

bool is_digest(std::string_view reference) { return reference.find(':') != std::string_view::npos; }

bool has_failed(const RequestRecord& request) { return !request.complete || request.status >= 400; }

bool is_cached(const RequestRecord& request) {
  return request.cache == "hit" || request.cache == "join" || request.cache == "stale";
}

Pull begin_pull(const RequestRecord& first) {
  Pull out;
  out.client = first.client;
  out.upstream = first.upstream;
  out.repository = first.repository;
  out.reference = first.reference;
  out.started = began(first);
  out.ended = first.ended;
  return out;
}

void add(Pull& pull, RequestRecord request) {
  if (is_digest(pull.reference) && !is_digest(request.reference)) pull.reference = request.reference;
  pull.ended = std::max(pull.ended, request.ended);
  pull.bytes += request.bytes;
  if (has_failed(request)) {
    ++pull.failed;
  } else {
    ++(is_cached(request) ? pull.cached : pull.fetched);
  }
  pull.first_byte += request.first_byte;
  pull.upstream_wait += request.upstream_wait;
  pull.client_time += client_time(request);
  pull.requests.push_back(std::move(request));
}

}  // namespace

std::chrono::nanoseconds client_time(const RequestRecord& request) noexcept {
  return std::max(std::chrono::nanoseconds{0}, request.total - request.first_byte - request.upstream_wait);
}

std::vector<Pull> group_pulls(std::vector<RequestRecord> records, std::size_t most) {
  std::sort(records.begin(), records.end(), [](const auto& a, const auto& b) { return began(a) < began(b); });
  std::vector<Pull> out;
  std::map<std::tuple<std::string, std::string, std::string>, std::size_t> open;
  for (RequestRecord& request : records) {
    auto key = std::tuple(request.client, request.upstream, request.repository);
    const auto at = open.find(key);
    if (at == open.end() || began(request) - out[at->second].ended >= kPause) {
      open[std::move(key)] = out.size();
      out.push_back(begin_pull(request));
      add(out.back(), std::move(request));
    } else {
      add(out[at->second], std::move(request));
    }
  }
  std::sort(out.begin(), out.end(), [](const Pull& a, const Pull& b) { return a.started > b.started; });
  if (out.size() > most) out.resize(most);
  return out;
}

}  // namespace sluice::admin
