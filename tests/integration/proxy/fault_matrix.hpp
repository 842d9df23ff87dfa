// The fault matrix: what an origin does wrong × what a client asks for, and what the documentation promises for each
// pair. fault_list.cpp names the faults, fault_promises.cpp derives the promises from what docs/architecture.md and
// docs/upstreams.md say, fault_matrix_test.cpp tries each pair, a cell, and compares.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "base/log.hpp"
#include "support/scripted_origin.hpp"

namespace sluice::test::faults {

// What a client asks for. `expired`: it was asked for before, and its TTL is over.
enum class Question : std::uint8_t {
  blob,
  blob_in_flight,  // by twenty clients; the fault meets the download in its middle
  blob_expired,
  six_blobs,  // one after the other: what the breaker makes of the fault
  range,
  range_in_flight,  // of a blob whose download is held; the fault meets the range
  tag,
  tag_fresh,
  tag_expired,
  digest,
  digest_expired,
  head_blob,
  head_tag,
  head_tag_expired,
  head_digest,
  tags,
  tags_expired,
  referrers,
  referrers_expired,
};

// How the documentation calls what is wrong.
enum class Cause : std::uint8_t {
  nothing,      // an odd form of a right answer, or a HEAD that lies: the digest decides, and the GET
  unreachable,  // no connection, or it breaks before the head of an answer
  certificate,  // the server's is not valid
  silence,      // no head of an answer
  failing,      // 5xx
  throttling,   // 429
  no_token,     // the token server fails
  login,        // 401 that nothing mends
  denied,       // 403
  missing,      // 404
  storage,      // the server behind a redirect fails
  odd,          // an answer that nobody can use
  loop,         // 508
  breaking,     // the connection breaks in the body, each time at the same byte
  pieces,       // the connection breaks in the body, each time some bytes later
  stalling,     // the body stops
  dripping,     // the body comes a byte at a time
  damage,       // bytes that do not have the digest
};

// Which answers it meets.
enum class Reach : std::uint8_t { answers, gets, heads };

// How the registry is reached while the fault lasts.
enum class Line : std::uint8_t {
  plain,
  tls,
  no_name,    // its name does not resolve
  refused,    // nobody listens
  untrusted,  // TLS, with a certificate of another authority
  expired,
  other_name,  // TLS, with a certificate for another host
  old_tls,     // TLS of a version that nobody speaks any more
};

// The cell's own values, which follow from its seed.
struct Place {
  std::size_t cut_at = 0;  // in a body: where it breaks or stops
  std::string other_content;
  std::string other_digest;
  std::string origin;       // http://127.0.0.1:port
  std::string storage;      // of another server, whose /storage/<path> has what the registry has at <path>
  std::string storage_tls;  // the same over TLS
  std::string nobody;       // where nothing listens
  std::shared_ptr<Gate> drip;
  std::mt19937_64* random = nullptr;  // under the cell's lock
};

struct Fault {
  std::string name;
  Cause cause = Cause::nothing;
  Reach reach = Reach::answers;
  bool passes = false;  // it meets one answer, and the next one is right
  Line line = Line::plain;
  // Changes a right answer into what the fault makes of it; empty where `line` is all.
  std::function<void(Reply&, const Request&, const Place&)> spoil = {};
  bool whole_only = false;  // it does not meet answers to a Range
};

// All of them, with different names.
const std::vector<Fault>& all();

enum class Bytes : std::uint8_t {
  whole,       // the right ones, all of them
  cut,         // some of the right ones, and the client can tell that there should be more
  error,       // an error's body
  unverified,  // of a range: right or not, nobody can check them; of a HEAD: upstream's length
  empty_list,
};

struct Promise {
  unsigned status = 200;
  Bytes bytes = Bytes::whole;
  bool retry_after = false;
  bool stale = false;               // Warning: 110
  std::optional<bool> stored = {};  // what was asked for is at rest afterwards; nothing: either
  bool revoked = false;             // the repository may not have it any more
  bool down = false;                // the breaker is open afterwards
  bool lies = false;                // a length that upstream has told wrongly is believed until the blob is here
  struct Line {
    log::Level level;
    std::string text;
  };
  std::vector<Line> lines;  // the log has each; at the levels warn and error it has nothing else, but:
  std::vector<Line> may = {};
};

// Nothing: the cell means nothing, and is left out.
[[nodiscard]] std::optional<Promise> promise(const Fault& fault, Question question);

}  // namespace sluice::test::faults
