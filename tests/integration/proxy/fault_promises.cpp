#include <algorithm>
#include <initializer_list>

#include "fault_matrix.hpp"

namespace sluice::test::faults {
namespace {

using enum Question;
using log::Level;

bool is_one_of(Question question, std::initializer_list<Question> some) {
  return std::find(some.begin(), some.end(), question) != some.end();
}

bool is_head(Question q) { return is_one_of(q, {head_blob, head_tag, head_tag_expired, head_digest}); }
bool is_expired(Question q) {
  return is_one_of(q, {blob_expired, tag_expired, digest_expired, head_tag_expired, tags_expired, referrers_expired});
}
bool is_list(Question q) { return is_one_of(q, {tags, tags_expired, referrers, referrers_expired}); }
bool is_of_referrers(Question q) { return is_one_of(q, {referrers, referrers_expired}); }
bool is_in_flight(Question q) { return is_one_of(q, {blob_in_flight, range_in_flight}); }
bool is_download(Question q) { return is_one_of(q, {blob, six_blobs, blob_in_flight}); }
// Answered by what a HEAD says, where that can be used.
bool is_by_head(Question q) { return is_head(q) || is_one_of(q, {blob_expired, tag_expired, digest_expired}); }

// base/errc_kind.hpp: what a failed question upstream means.
enum class Kind : std::uint8_t { good, outage, odd, verdict };

struct Answer {
  unsigned status;
  Kind kind;
};

// docs/architecture.md ("Decisions"), docs/upstreams.md ("Outages", "Redirects and realms"): what a client hears of a
// question that upstream was asked and that came to this. Of a body that is read as a whole.
Answer answer_to(Cause cause) {
  switch (cause) {
    case Cause::nothing:
    case Cause::pieces: return {200, Kind::good};
    case Cause::unreachable:
    case Cause::failing:
    case Cause::no_token:
    case Cause::storage:
    case Cause::breaking: return {502, Kind::outage};
    case Cause::silence:
    case Cause::stalling:
    case Cause::dripping: return {504, Kind::outage};
    case Cause::throttling: return {503, Kind::outage};
    case Cause::certificate:
    case Cause::odd:
    case Cause::damage: return {502, Kind::odd};
    case Cause::loop: return {508, Kind::odd};
    case Cause::login: return {401, Kind::verdict};
    case Cause::denied: return {403, Kind::verdict};
    case Cause::missing: return {404, Kind::verdict};
  }
  return {500, Kind::odd};
}

// About the bytes of an answer whose head is well.
bool is_in_the_body(Cause cause) {
  return cause == Cause::breaking || cause == Cause::pieces || cause == Cause::stalling || cause == Cause::dripping ||
         cause == Cause::damage;
}

// "It opens after five failures in a row of different things (connections that are refused or break count too); after
// two different things that got no answer." Storage behind a redirect, and token servers, do not count.
bool counts_for_breaker(Cause cause) {
  return cause == Cause::unreachable || cause == Cause::failing || cause == Cause::silence;
}

const Promise::Line kOutage{Level::warn, "; serving from cache"};
const Promise::Line kOdd{Level::warn, "upstream: origin.test sends answers that cannot be used: "};
const Promise::Line kBehind{Level::warn, "leads to another server, which failed: "};
const Promise::Line kMismatch{Level::error, " upstream sent bytes that do not have the digest "};
const Promise::Line kFillEnded{Level::warn, " ended after "};
const Promise::Line kResumed{Level::info, "; going on from byte "};
const Promise::Line kUnchecked{Level::info, "access: cannot revalidate "};
const Promise::Line kDown{Level::warn, " is down; only probes are sent until it answers"};

void add_lines_of(Promise& promise, const Fault& fault, Cause cause) {
  const Kind kind = answer_to(cause).kind;
  if (kind == Kind::outage) promise.lines.push_back(kOutage);
  if (kind == Kind::odd) promise.lines.push_back(kOdd);
  if (fault.cause == Cause::storage) promise.lines.push_back(kBehind);
}

Promise served(Question question) {
  Promise promise;
  if (question == range || question == range_in_flight) promise.status = 206;
  if (question == blob_in_flight) promise.lines.push_back(kResumed);
  // A HEAD stores nothing, and a range may have been passed through.
  if (!is_head(question) && !is_list(question) && question != range) promise.stored = true;
  return promise;
}

Promise refused(const Fault& fault, Question question, Cause cause) {
  const Answer answer = answer_to(cause);
  Promise promise;
  promise.status = answer.status;
  promise.bytes = Bytes::error;
  promise.retry_after = answer.kind == Kind::outage;
  promise.revoked = answer.kind == Kind::verdict && is_one_of(question, {blob_expired, digest_expired});
  if (!is_expired(question) && !is_list(question)) promise.stored = false;
  add_lines_of(promise, fault, cause);
  return promise;
}

// "While a registry does not answer, what is cached is served, tags with a Warning."
Promise stale(const Fault& fault, Question question, Cause cause) {
  Promise promise;
  promise.stale = true;
  if (!is_list(question)) promise.stored = true;
  add_lines_of(promise, fault, cause);
  if (is_one_of(question, {blob_expired, digest_expired})) promise.lines.push_back(kUnchecked);
  return promise;
}

// A download whose head has been passed on: "no client ever has a complete wrong body of a download".
Promise broken_off(Cause cause) {
  Promise promise;
  promise.bytes = Bytes::cut;
  promise.stored = false;
  promise.lines.push_back(cause == Cause::damage ? kMismatch : kFillEnded);
  return promise;
}

Promise of_download(const Fault& fault, Question question, Cause cause) {
  if (is_in_the_body(cause)) {
    if (cause == Cause::pieces || cause == Cause::dripping) return served(question);  // "a fill survives interruptions"
    Promise promise = broken_off(cause);
    if (question == blob_in_flight) promise.lines.push_back(kResumed);
    return promise;
  }
  if (answer_to(cause).kind == Kind::good) return served(question);
  if (question == blob_in_flight) {
    Promise promise = broken_off(cause);
    promise.lines.push_back(kResumed);
    if (answer_to(cause).kind == Kind::verdict)
      std::erase_if(promise.lines, [](const auto& line) { return line.text == kFillEnded.text; });
    add_lines_of(promise, fault, cause);
    return promise;
  }
  Promise promise = refused(fault, question, cause);
  if (answer_to(cause).kind != Kind::verdict) promise.lines.push_back(kFillEnded);
  if (question == six_blobs && counts_for_breaker(cause)) {
    // "What is not cached gets 503 at once."
    promise.status = 503;
    promise.down = true;
    promise.lines.push_back(kDown);
  }
  return promise;
}

Promise of_range(const Fault& fault, Question question, Cause cause) {
  const Kind kind = answer_to(cause).kind;
  const bool whole_is_running = question == range_in_flight;
  Promise promise = served(question);
  // "Without storing it, because it cannot be verified."
  if (cause == Cause::damage) {
    promise.bytes = Bytes::unverified;
    return promise;
  }
  if (kind == Kind::good || cause == Cause::pieces) return promise;
  if (whole_is_running && kind != Kind::verdict) {
    // The download has another connection, and brings these bytes too.
    if (!is_in_the_body(cause)) add_lines_of(promise, fault, cause);
    return promise;
  }
  promise = refused(fault, question, cause);
  if (whole_is_running) promise.stored = true;
  // The head was an answer, and what was read as a range is no download.
  if (is_in_the_body(cause)) promise.lines.clear();
  // Upstream has answered, but the range is no use: what there is a download of the whole finds out.
  if (kind == Kind::odd) promise.lines.push_back(kFillEnded);
  return promise;
}

Promise of_list(const Fault& fault, Question question, Cause cause) {
  const Answer answer = answer_to(cause);
  if (answer.kind == Kind::good) return served(question);
  if (is_of_referrers(question) && cause == Cause::missing) {
    // Neither the API nor the tag that stands in for it.
    Promise promise = served(question);
    promise.bytes = Bytes::empty_list;
    return promise;
  }
  if (answer.kind == Kind::verdict) return refused(fault, question, cause);
  if (is_expired(question)) return stale(fault, question, cause);
  Promise promise = refused(fault, question, cause);
  if (is_of_referrers(question) && cause != Cause::loop) {
    // "The stored list, or 503; never an empty list."
    promise.status = 503;
    promise.retry_after = true;
  }
  return promise;
}

Promise of_expired(const Fault& fault, Question question, Cause cause) {
  const Kind kind = answer_to(cause).kind;
  if (kind == Kind::good) return served(question);
  // "Anything else, such as an odd answer about that blob, is the answer: it lets nobody in." But a tag: "no usable
  // answer".
  const bool is_of_tag = is_one_of(question, {tag_expired, head_tag_expired});
  if (kind == Kind::outage || (kind == Kind::odd && is_of_tag)) return stale(fault, question, cause);
  return refused(fault, question, cause);
}

// What of the fault the question meets.
Cause met(const Fault& fault, Question question) {
  // What is read as a whole has time for one stall and no more.
  const bool read_whole = !is_download(question) && question != range && question != range_in_flight;
  if (fault.passes && fault.cause == Cause::stalling && read_whole && !is_by_head(question) && question != tag_fresh) {
    return fault.cause;
  }
  if (fault.passes || question == tag_fresh) return Cause::nothing;
  if (is_by_head(question) && fault.reach == Reach::gets) return Cause::nothing;
  if (fault.whole_only && is_in_flight(question)) return Cause::nothing;
  if (fault.whole_only && question == range && fault.reach == Reach::gets) return Cause::nothing;
  // Cut off, or a page: it is no list, and there is no digest to say more.
  if (is_list(question) && fault.cause == Cause::damage) return Cause::odd;
  return fault.cause;
}

bool is_first_of_its_cause(const Fault& fault) {
  const auto first =
      std::find_if(all().begin(), all().end(), [&fault](const Fault& other) { return other.cause == fault.cause; });
  return first->name == fault.name;
}

bool means_something(const Fault& fault, Question question) {
  // A HEAD that lies concerns who sends one.
  if (fault.reach == Reach::heads && !is_by_head(question) && question != range) return false;
  if (question == six_blobs && met(fault, question) == Cause::nothing) return false;
  if (question == tag_fresh && !is_first_of_its_cause(fault)) return false;  // nobody is asked
  // A connection is there already.
  const bool other_line = fault.line != Line::plain && fault.line != Line::tls;
  if (is_in_flight(question) && other_line && (fault.line != Line::refused || question == range_in_flight))
    return false;
  // Nobody can tell a damaged list from another one.
  return !is_list(question) || fault.cause != Cause::damage || fault.reach != Reach::gets;
}

struct Exception {
  std::string_view fault;
  Question question;
  std::string_view reason;
  void (*change)(Promise&);
};

// A HEAD is answered with it.
void believe_length(Promise& promise) {
  promise = served(head_blob);
  promise.bytes = Bytes::unverified;
  promise.lies = true;
}

void renew(Promise& promise) { promise = served(head_tag); }

// What a HEAD says of the digest is passed on.
void believe_digest(Promise& promise) {
  promise = served(head_tag);
  promise.bytes = Bytes::unverified;
}

void be_silent(Promise& promise) { promise.lines.clear(); }

const std::vector<Exception>& exceptions() {
  constexpr std::string_view kLength = "a HEAD's 200 with a length is used (docs/upstreams.md)";
  constexpr std::string_view kDigest = "of a tag's HEAD the digest counts, and that is right";
  constexpr std::string_view kInside = "whether a list is one is found out by its reader, who answers and logs nothing";
  constexpr std::string_view kAsked = "upstream's word on the length decides a 416, and is not kept";
  static const std::vector<Exception> list = {
      {"length: one less", head_blob, kLength, believe_length},
      {"length: one less", head_tag, kLength, believe_length},
      {"length: one less", head_digest, kLength, believe_length},
      {"HEAD: one byte more", head_blob, kLength, believe_length},
      {"HEAD: one byte more", head_tag, kLength, believe_length},
      {"HEAD: one byte more", head_digest, kLength, believe_length},
      {"digest: the field lies", head_tag, "a HEAD's digest is upstream's word", believe_digest},
      {"HEAD: other digest", head_tag, "a HEAD's digest is upstream's word", believe_digest},
      {"HEAD: one byte more", blob_expired, "a GET settles it, and the log tells of the HEAD",
       [](Promise& promise) { promise.may = {kOdd}; }},
      {"refused", blob_in_flight, "each connection that is refused counts, and taking up the download makes many",
       [](Promise& promise) {
         promise.down = true;
         promise.lines.push_back(kDown);
       }},
      {"a login page", blob_in_flight, "the whole where a part was asked for, and shorter: its digest is not looked at",
       [](Promise& promise) { promise.lines = {kResumed, kFillEnded}; }},
      {"length: one less", tag_expired, kDigest, renew},
      {"length: one less", head_tag_expired, kDigest, renew},
      {"length: one less", range, "the range itself is well; the length is found wrong by the download behind it",
       [](Promise& promise) { promise.may = {kMismatch, kFillEnded}; }},
      {"length: zero", range_in_flight, "a 200 to a range is a registry that knows none", be_silent},
      {"length: one less", tags, kInside, be_silent},
      {"length: one less", tags_expired, kInside, be_silent},
      {"length: zero", tags, kInside, be_silent},
      {"length: zero", tags_expired, kInside, be_silent},
      {"length: one less", referrers, kInside, be_silent},
      {"length: one less", referrers_expired, kInside, be_silent},
      {"length: zero", referrers, kInside, be_silent},
      {"length: zero", referrers_expired, kInside, be_silent},
      {"a login page", range, kAsked,
       [](Promise& promise) {
         promise.status = 416;
         promise.bytes = Bytes::error;
         promise.may = {kOdd, kMismatch, kFillEnded};
       }},
  };
  return list;
}

}  // namespace

std::optional<Promise> promise(const Fault& fault, Question question) {
  if (!means_something(fault, question)) return std::nullopt;
  const Cause cause = met(fault, question);
  Promise out;
  if (is_download(question)) {
    out = of_download(fault, question, cause);
  } else if (question == range || question == range_in_flight) {
    out = of_range(fault, question, cause);
  } else if (is_list(question)) {
    out = of_list(fault, question, cause);
  } else if (is_expired(question)) {
    out = of_expired(fault, question, cause);
  } else {
    out = answer_to(cause).kind == Kind::good ? served(question) : refused(fault, question, cause);
  }
  if (fault.name == "HEAD: redirect nowhere") out.may.push_back(kBehind);
  for (const Exception& exception : exceptions()) {
    if (exception.fault == fault.name && exception.question == question) exception.change(out);
  }
  return out;
}

}  // namespace sluice::test::faults
