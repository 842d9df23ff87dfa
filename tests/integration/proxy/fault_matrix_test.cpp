// Tries each cell of the fault matrix. A cell alone:
//
//   test_fault_matrix "Fault matrix: a cold blob" -c "reset before the head" --rng-seed 17
//
// What is random in a cell (bytes, places) follows from that seed and the cell's name.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <mutex>
#include <optional>
#include <sstream>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include <openssl/ssl.h>
#include <catch2/catch.hpp>

#include "client.hpp"
#include "fault_matrix.hpp"
#include "fixture.hpp"
#include "oci/media_type.hpp"
#include "support/test_ca.hpp"
#include "upstream/http_registry.hpp"

// Clang's sanitizers, where they are: standard error belongs to a cell while it runs.
extern "C" __attribute__((weak)) void __sanitizer_set_report_fd(void* fd);

using namespace sluice;
using namespace sluice::test;
using namespace sluice::test::faults;
using namespace std::chrono_literals;

namespace {

using std::chrono::milliseconds;
using enum Question;

// Before anything reads them: no disk's syncs are waited for, where memory serves, and a thousand caches do not load
// the system's authorities.
const bool kEnvironment = [] {
  if (::access("/dev/shm", W_OK) == 0) ::setenv("TMPDIR", "/dev/shm", 1);
  ::setenv("SSL_CERT_FILE", "/dev/null", 1);
  ::setenv("SSL_CERT_DIR", "/nonexistent", 1);
  return true;
}();

constexpr std::size_t kReaders = 20;
constexpr std::size_t kPrefix = 60'000;  // of a download that is held
constexpr std::size_t kRangeBytes = 1'000;
constexpr std::size_t kMostRequests = 40;  // upstream, for one question: no fault makes a storm of ours
constexpr auto kPatience = 20s;

// ----------------------------------------------------------------------------------------------------------- the log

// What the program writes to standard error from now on, down to the level debug.
class LogCapture {
 public:
  LogCapture() : file_(::memfd_create("log", MFD_CLOEXEC)), before_(::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3)) {
    static const bool configured = [] {
      log::configure({.level = log::Level::debug});
      return true;
    }();
    static_cast<void>(configured);
    if (__sanitizer_set_report_fd != nullptr) {
      // NOLINTNEXTLINE(performance-no-int-to-ptr): that is how it takes a descriptor.
      __sanitizer_set_report_fd(reinterpret_cast<void*>(static_cast<std::intptr_t>(before_)));
    }
    ::dup2(file_, STDERR_FILENO);
  }
  LogCapture(const LogCapture&) = delete;
  LogCapture& operator=(const LogCapture&) = delete;
  ~LogCapture() {
    ::dup2(before_, STDERR_FILENO);
    if (__sanitizer_set_report_fd != nullptr) {
      // NOLINTNEXTLINE(performance-no-int-to-ptr)
      __sanitizer_set_report_fd(reinterpret_cast<void*>(static_cast<std::intptr_t>(STDERR_FILENO)));
    }
    ::close(before_);
    ::close(file_);
  }

  [[nodiscard]] std::string text() const {
    std::string out(static_cast<std::size_t>(::lseek(file_, 0, SEEK_END)), '\0');
    out.resize(static_cast<std::size_t>(std::max<ssize_t>(::pread(file_, out.data(), out.size(), 0), 0)));
    return out;
  }
  // "warning upstream: …"
  [[nodiscard]] std::vector<std::string> lines() const {
    std::vector<std::string> out;
    std::istringstream in(text());
    for (std::string line; std::getline(in, line);)
      out.push_back(line.substr(std::min(line.find(' ') + 1, line.size())));
    return out;
  }
  // Forgets what was written so far.
  void clear() {
    if (::ftruncate(file_, 0) == 0) ::lseek(file_, 0, SEEK_SET);
  }

 private:
  int file_;
  int before_;
};

bool is_line(const std::string& written, const Promise::Line& line) {
  constexpr std::array<std::string_view, 4> kNames{"debug ", "info ", "warning ", "error "};
  return written.starts_with(kNames.at(static_cast<std::size_t>(line.level))) &&
         written.find(line.text) != std::string::npos;
}

bool has_line(const std::vector<std::string>& lines, const Promise::Line& line) {
  return std::any_of(lines.begin(), lines.end(), [&](const std::string& written) { return is_line(written, line); });
}

bool is_trouble(const std::string& written) { return written.starts_with("warning ") || written.starts_with("error "); }

// ---------------------------------------------------------------------------------------------------------- the times

struct Times {
  milliseconds endpoint = kPatience;
  milliseconds request = kPatience;
  milliseconds headers = kPatience;
  milliseconds first_byte = kPatience;
  milliseconds stall = kPatience;
  std::size_t retries = 1;
  std::size_t attempts = 2;
};

// Short where the fault is that something takes long, and only there: on a busy machine all else may take long too.
Times times_of(const Fault& fault, Question question) {
  Times times;
  switch (fault.cause) {
    case Cause::silence:
      if (question == blob_in_flight && fault.passes) return {.headers = 600ms, .attempts = 5};
      if (question == blob_in_flight) return {.headers = 600ms, .retries = 0, .attempts = 1};
      times.endpoint = 100ms;
      if (fault.passes) break;
      times.request = times.first_byte = question == range_in_flight ? 800ms : 250ms;
      if (question == range_in_flight) times.endpoint = 400ms;
      break;
    case Cause::stalling:
      if (question == range_in_flight) return {.request = 800ms};
      times.stall = question == blob_in_flight ? 1'500ms : 150ms;
      times.attempts = fault.passes ? 5 : 1;
      break;
    case Cause::dripping:
      if (question == blob || question == blob_in_flight || question == six_blobs) {
        times.stall = 150ms;
        times.attempts = 5;
      } else {
        times.request = question == range_in_flight ? 800ms : 250ms;
      }
      break;
    default:
      if (fault.name == "HEAD: silent") times.endpoint = 100ms;
  }
  return times;
}

bool takes_long(const Fault& fault) {
  return fault.cause == Cause::silence || fault.cause == Cause::stalling || fault.cause == Cause::dripping;
}

// ----------------------------------------------------------------------------------------------------------- the cell

std::uint64_t hash_of(std::string_view text) {
  std::uint64_t hash = 14695981039346656037ULL;  // FNV-1a: the same everywhere
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
  return hash;
}

const TestCa& authority() {
  static const TestCa ca;
  return ca;
}

std::unique_ptr<ScriptedOrigin> make_origin(Line line) {
  static const TestCa stranger;
  ScriptedOrigin::Params params;
  const std::vector<std::string> here{"IP:127.0.0.1"};
  if (line == Line::tls) params.tls = authority().server_context(here);
  if (line == Line::untrusted) params.tls = stranger.server_context(here);
  if (line == Line::old_tls) {
    params.tls = authority().server_context(here);
    SSL_CTX_set_max_proto_version(params.tls.get(), TLS1_1_VERSION);
  }
  if (line == Line::expired) params.tls = authority().expired_context(here);
  if (line == Line::other_name) params.tls = authority().server_context({"DNS:other.test"});
  return std::make_unique<ScriptedOrigin>(params);
}

class Cell {
 public:
  Cell(const Fault& fault, Question question, std::uint64_t seed);
  void run();

 private:
  struct Asked {
    std::string method = "GET";
    std::string path;
    Fields fields = {};
  };

  std::string make_blob(unsigned number);
  void open_storage();
  Reply answer(const Request& request);
  Reply well(const Request& request) const;
  Reply elsewhere(const Request& request) const;
  bool meets(const Request& request) const;
  void hold(Reply& reply);

  Fixture& open(const Times& times, const std::string& url);
  std::string bad_url() const;
  Asked asked() const;
  Response ask(bool drips = false);
  void prepare();
  void arm();
  std::vector<Response> ask_what_fails();
  std::vector<Response> ask_in_flight();
  std::vector<Response> ask_for_range_in_flight();

  void check_response(const Response& response, const Promise& promise) const;
  void check_state(const Promise& promise);
  void check_log(const Promise& promise);
  void check_files();
  void heal(bool lies);

  const Fault& fault_;
  const Question question_;
  std::mt19937_64 random_;
  std::vector<std::string> blobs_;
  std::string manifest_;
  std::string list_;  // of referrers
  std::string blob_digest_;
  std::string manifest_digest_;
  std::size_t range_at_ = 0;
  Place place_;
  std::mutex mutex_;  // guards place_.random
  std::atomic<bool> armed_{false};
  std::atomic<bool> holds_{false};
  std::atomic<int> met_{0};
  std::shared_ptr<Gate> held_;
  TempDirectory data_;
  LogCapture log_;
  std::string bad_;  // the address while the fault lasts, where it is another
  std::unique_ptr<ScriptedOrigin> storage_;
  std::unique_ptr<ScriptedOrigin> storage_tls_;
  std::unique_ptr<ScriptedOrigin> origin_;
  std::unique_ptr<ScriptedOrigin> bad_origin_;
  std::optional<Fixture> cache_;
};

constexpr std::string_view kRepository = "library/app";

Cell::Cell(const Fault& fault, Question question, std::uint64_t seed)
    : fault_(fault),
      question_(question),
      random_(seed),
      held_(std::make_shared<Gate>(kPrefix)),
      origin_(make_origin(fault.line == Line::tls ? Line::tls : Line::plain)) {
  const std::size_t count = question == six_blobs ? 6 : 1;
  for (unsigned i = 0; i < count; ++i) blobs_.push_back(make_blob(i));
  blob_digest_ = ScriptedOrigin::digest_of(blobs_.front());
  const std::string type(oci::media_type::kOciManifest);
  manifest_ = image_manifest(static_cast<unsigned>(random_()), type);
  manifest_digest_ = ScriptedOrigin::digest_of(manifest_);
  list_ = index_manifest(oci::digest_of(oci::Algorithm::sha256, "a signature"), 1'000);
  place_.cut_at = blobs_.front().size() / 4 + random_() % 100;
  range_at_ = question == range_in_flight ? blobs_.front().size() - 5'000 : blobs_.front().size() * 3 / 4;
  place_.other_content = content(blobs_.front().size(), static_cast<unsigned>(random_()));
  place_.other_digest = ScriptedOrigin::digest_of(place_.other_content);
  place_.origin = origin_->url();
  place_.nobody = "http://127.0.0.1:1";
  place_.drip = std::make_shared<Gate>();
  place_.random = &random_;
  if (fault.line != Line::plain && fault.line != Line::tls && fault.line != Line::no_name) {
    bad_origin_ = make_origin(fault.line);
  }
  bad_ = origin_->url();
  if (bad_origin_) bad_ = bad_origin_->url();
  if (fault.line == Line::no_name) bad_ = "http://" + std::string(70, 'a') + ".test/";  // too long to be asked for
  if (fault.line == Line::refused) bad_origin_.reset();
  for (ScriptedOrigin* one : {origin_.get(), bad_origin_.get()}) {
    if (one == nullptr) continue;
    for (const std::string& blob : blobs_) one->add_blob(std::string(kRepository), blob);
    one->add_manifest(std::string(kRepository), "latest", manifest_, type);
    one->respond_everywhere([this](const Request& request) { return answer(request); });
  }
  if (fault.name.starts_with("redirect: ")) open_storage();
}

void Cell::open_storage() {
  storage_ = make_origin(Line::plain);
  storage_tls_ = make_origin(Line::tls);
  for (ScriptedOrigin* one : {storage_.get(), storage_tls_.get()}) {
    one->respond_everywhere([this](const Request& request) { return elsewhere(request); });
  }
  place_.storage = storage_->url();
  place_.storage_tls = storage_tls_->url();
}

std::string Cell::make_blob(unsigned number) {
  const bool is_asked_for = asked().path.find("/blobs/") != std::string::npos;
  const std::size_t least = question_ == range_in_flight ? 700'000 : is_asked_for ? 300'000 : 4'000;
  const std::size_t size = least + random_() % (least / 4);
  return content(size, static_cast<unsigned>(random_()) + number);
}

Reply Cell::well(const Request& request) const {
  Reply reply;
  const std::string path = request.path();
  reply.fields = {{"Content-Type", "application/json"}};
  if (path == "/token") {
    reply.body = R"({"token":"never-good"})";
  } else if (path == "/500/token") {
    reply.status = 500;
  } else if (path.ends_with("/tags/list")) {
    // Longer than what drips in the time of a request.
    reply.body = R"({"name":"library/app","tags":[)";
    for (int i = 0; i < 100; ++i) reply.body += "\"1." + std::to_string(i) + "\",";
    reply.body += R"("latest"]})";
  } else if (path.ends_with("/referrers/" + manifest_digest_)) {
    reply.fields = {{"Content-Type", std::string(oci::media_type::kOciIndex)}};
    reply.body = list_;
  } else {
    return origin_->regular(request);
  }
  return reply;
}

Reply Cell::elsewhere(const Request& request) const {
  Reply reply;
  reply.ranges = false;
  for (const int status : {403, 404, 500}) {
    if (!request.target.starts_with("/" + std::to_string(status))) continue;
    reply.status = status;
    return reply;
  }
  if (request.target.starts_with("/loop")) {
    reply.status = 307;
    reply.fields = {{"Location", request.target}};
    return reply;
  }
  Request inner = request;
  inner.target.erase(0, std::string_view("/storage").size());
  return well(inner);
}

bool Cell::meets(const Request& request) const {
  if (!armed_ || !fault_.spoil || request.path().ends_with("/token")) return false;
  if (fault_.whole_only && !request.field("Range").empty()) return false;
  if (question_ == range_in_flight && request.field("Range").empty()) return false;  // that is the download
  return fault_.reach == Reach::answers || (request.method == "HEAD") == (fault_.reach == Reach::heads);
}

Reply Cell::answer(const Request& request) {
  Reply reply = well(request);
  if (holds_ && request.method == "GET" && request.path().find("/blobs/") != std::string::npos &&
      request.field("Range").empty()) {
    reply.gate = held_;
    if (question_ == blob_in_flight) reply.cut_after = kPrefix + 1;
    return reply;
  }
  if (!meets(request) || (fault_.passes && met_.fetch_add(1) > 0)) return reply;
  const std::scoped_lock lock(mutex_);
  fault_.spoil(reply, request, place_);
  return reply;
}

Fixture& Cell::open(const Times& times, const std::string& url) {
  cache_.reset();
  Fixture::Params params;
  params.data = data_.path() / "data";
  params.resume_attempts = times.attempts;
  params.negative_ttl = 1'000ms;
  params.origin_url = url;
  params.origin_request_timeout = times.request;
  params.tune_origin = [times](upstream::HttpRegistry::Params& origin) {
    origin.ca_file = authority().certificate_file();
    origin.retries = times.retries;
    origin.request_timeout = times.request;
    origin.endpoint_timeout = times.endpoint;
    origin.headers_timeout = times.headers;
    origin.first_byte_timeout = times.first_byte;
    origin.stall_timeout = times.stall;
    origin.sleep = [](milliseconds) -> runtime::Task<bool> { co_return true; };
  };
  return cache_.emplace(std::move(params));
}

Cell::Asked Cell::asked() const {
  const std::string base = "/v2/origin.test/" + std::string(kRepository);
  const std::string method =
      question_ == head_blob || question_ == head_tag || question_ == head_tag_expired || question_ == head_digest
          ? "HEAD"
          : "GET";
  const std::string last = std::to_string(range_at_ + kRangeBytes - 1);
  switch (question_) {
    case blob:
    case blob_in_flight:
    case blob_expired:
    case six_blobs:
    case head_blob: return {method, base + "/blobs/" + blob_digest_};
    case range:
    case range_in_flight:
      return {method, base + "/blobs/" + blob_digest_, {{"Range", "bytes=" + std::to_string(range_at_) + "-" + last}}};
    case tag:
    case tag_fresh:
    case tag_expired:
    case head_tag:
    case head_tag_expired: return {method, base + "/manifests/latest"};
    case digest:
    case digest_expired:
    case head_digest: return {method, base + "/manifests/" + manifest_digest_};
    case tags:
    case tags_expired: return {method, base + "/tags/list"};
    case referrers:
    case referrers_expired: return {method, base + "/referrers/" + manifest_digest_};
  }
  return {};
}

// `drips`: the whole is let through when some has come.
Response Cell::ask(bool drips) {
  const Asked what = asked();
  Client client(cache_->port());
  client.send(what.method, what.path, what.fields);
  if (!drips) return client.read_response(what.method == "HEAD");
  Response response = client.read_head();
  response.body = client.read_bytes(50);
  place_.drip->open();
  client.read_rest(response);
  return response;
}

// What was asked for before, by another run of the cache.
void Cell::prepare() {
  const bool warm = question_ == tag_fresh || question_ == tag_expired || question_ == digest_expired ||
                    question_ == blob_expired || question_ == head_tag_expired || question_ == tags_expired ||
                    question_ == referrers_expired;
  if (!warm) return;
  open({}, origin_->url());
  if (question_ == tags_expired || question_ == referrers_expired) {
    REQUIRE(get(cache_->port(), "/v2/origin.test/" + std::string(kRepository) + "/manifests/latest").status == 200);
  }
  REQUIRE(ask().status == 200);
  if (question_ == digest_expired || question_ == head_tag_expired) {
    REQUIRE(get(cache_->port(), asked().path).status == 200);
  }
  REQUIRE(cache_->wait_idle());
  REQUIRE(cache_->stop());
}

void Cell::arm() {
  armed_ = true;
  if (fault_.line == Line::refused && question_ == blob_in_flight) origin_.reset();
}

std::vector<Response> Cell::ask_in_flight() {
  holds_ = true;
  std::vector<Client> clients;
  for (std::size_t i = 0; i < kReaders; ++i) {
    clients.emplace_back(cache_->port());
    clients.back().send("GET", asked().path);
  }
  std::vector<Response> responses;
  for (Client& client : clients) {
    responses.push_back(client.read_head());
    responses.back().body = client.read_bytes(kPrefix - 1);
  }
  holds_ = false;
  arm();
  held_->allow(1);
  if (fault_.cause == Cause::dripping) {
    responses.front().body += clients.front().read_bytes(50);
    place_.drip->open();
  }
  for (std::size_t i = 0; i < kReaders; ++i) clients[i].read_rest(responses[i]);
  return responses;
}

std::vector<Response> Cell::ask_for_range_in_flight() {
  holds_ = true;
  Client whole(cache_->port());
  whole.send("GET", asked().path);
  Response all = whole.read_head();
  all.body = whole.read_bytes(kPrefix - 1);
  arm();
  Client client(cache_->port());
  const Asked what = asked();
  client.send(what.method, what.path, what.fields);
  const auto is_range = [](const Request& request) { return !request.field("Range").empty(); };
  CHECK(origin_->wait_until(
      [&](const auto& seen) { return std::any_of(seen.requests.begin(), seen.requests.end(), is_range); }));
  held_->open();
  const Response response = client.read_response();
  whole.read_rest(all);
  CHECK(all.complete);
  CHECK((all.body == blobs_.front()));
  return {response};
}

std::vector<Response> Cell::ask_what_fails() {
  if (question_ == blob_in_flight) return ask_in_flight();
  if (question_ == range_in_flight) return ask_for_range_in_flight();
  arm();
  const bool drips = fault_.cause == Cause::dripping && (question_ == blob || question_ == six_blobs);
  if (question_ != six_blobs) return {ask(drips)};
  Response last;
  for (const std::string& blob : blobs_) {
    blob_digest_ = ScriptedOrigin::digest_of(blob);
    last = ask(drips);
    CHECK(cache_->wait_idle());
  }
  std::swap(blobs_.front(), blobs_.back());
  return {last};
}

void Cell::check_response(const Response& response, const Promise& promise) const {
  CHECK(response.status == promise.status);
  CHECK_FALSE(response.reset);
  CHECK(response.field("retry-after").empty() != promise.retry_after);
  CHECK(response.field("warning").starts_with("110 ") == promise.stale);
  const bool is_head = asked().method == "HEAD";
  if (promise.bytes != Bytes::cut) CHECK(response.complete);
  std::string right = asked().path.find("/blobs/") == std::string::npos ? manifest_ : blobs_.front();
  if (question_ == range || question_ == range_in_flight) right = right.substr(range_at_, kRangeBytes);
  switch (promise.bytes) {
    case Bytes::whole:
      if (is_head) {
        CHECK(response.field("content-length") == std::to_string(right.size()));
        CHECK(response.field("docker-content-digest") == ScriptedOrigin::digest_of(right));
      } else if (question_ == tags || question_ == tags_expired) {
        CHECK(response.body.find(R"("latest"])") != std::string::npos);
      } else if (question_ == referrers || question_ == referrers_expired) {
        CHECK(response.body.find(ScriptedOrigin::digest_of("a signature")) != std::string::npos);
      } else {
        CHECK((response.body == right));
      }
      break;
    case Bytes::cut:
      CHECK_FALSE(response.complete);
      CHECK(response.body.size() <= right.size());
      if (fault_.cause != Cause::damage) CHECK((response.body == right.substr(0, response.body.size())));
      break;
    case Bytes::unverified:
      if (!is_head) CHECK(response.body.size() == right.size());
      break;
    case Bytes::empty_list: CHECK(response.body.find(R"("manifests":[])") != std::string::npos); break;
    case Bytes::error:
      if (!is_head) CHECK(error_code(response.body).find(' ') == std::string::npos);
      break;
  }
}

// Nothing lies there that does not have its name's digest, and no part that is not the beginning of the blob.
void Cell::check_files() {
  const auto bytes_of = [](const std::filesystem::path& file) {
    std::ifstream in(file, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(in), {});
  };
  for (const auto& entry : std::filesystem::recursive_directory_iterator(cache_->store().layout().blobs())) {
    if (!entry.is_regular_file() || entry.path().filename().string().size() != 64) continue;
    CHECK(ScriptedOrigin::digest_of(bytes_of(entry.path())) == "sha256:" + entry.path().filename().string());
  }
  for (const auto& entry : std::filesystem::recursive_directory_iterator(cache_->store().layout().incoming())) {
    if (!entry.is_regular_file()) continue;
    const std::string part = bytes_of(entry.path());
    CHECK(std::any_of(blobs_.begin(), blobs_.end(), [&](const std::string& blob) { return blob.starts_with(part); }));
  }
}

void Cell::check_state(const Promise& promise) {
  CHECK(cache_->wait_idle());
  const bool is_blob = asked().path.find("/blobs/") != std::string::npos;
  const oci::Digest digest = oci::Digest::parse(is_blob ? blob_digest_ : manifest_digest_).value();
  if (promise.stored) CHECK(cache_->store().find(digest).has_value() == *promise.stored);
  const auto scope = descriptors::Scope::repository("origin.test/" + std::string(kRepository)).value();
  if (promise.revoked) CHECK_FALSE(cache_->store().catalog().membership(scope, digest).has_value());
  CHECK((cache_->metric("sluice_upstream_endpoint_up") == 0) == promise.down);
  check_files();
}

void Cell::check_log(const Promise& promise) {
  // A question may go on for a moment when its client has been answered.
  const auto until = std::chrono::steady_clock::now() + kPatience;
  const auto complete = [&] {
    const std::vector<std::string> lines = log_.lines();
    return std::all_of(promise.lines.begin(), promise.lines.end(),
                       [&](const Promise::Line& line) { return has_line(lines, line); });
  };
  while (!complete() && std::chrono::steady_clock::now() < until) std::this_thread::sleep_for(5ms);
  const std::vector<std::string> lines = log_.lines();
  for (const Promise::Line& line : promise.lines) {
    INFO(line.text);
    CHECK(has_line(lines, line));
  }
  for (const std::string& written : lines) {
    if (!is_trouble(written)) continue;
    INFO(written);
    const auto fits = [&](const Promise::Line& line) { return is_line(written, line); };
    CHECK((std::any_of(promise.lines.begin(), promise.lines.end(), fits) ||
           std::any_of(promise.may.begin(), promise.may.end(), fits)));
  }
}

// When the fault is over, the next client gets what it asks for.
void Cell::heal(bool lies) {
  armed_ = false;
  if (fault_.line != Line::plain || takes_long(fault_)) {
    if (!origin_) return;
    REQUIRE(cache_->stop());
    open({}, origin_->url());
  }
  // As long as anything is remembered of a registry that has no referrers API, which is the longest.
  cache_->clock().advance(fault_.cause == Cause::missing ? 11min : 2min);
  const Response response = ask();
  Promise promise;
  if (question_ == range || question_ == range_in_flight) promise.status = 206;
  if (lies) promise.bytes = Bytes::unverified;
  INFO("after the fault");
  check_response(response, promise);
  CHECK(cache_->wait_idle());
  CHECK(cache_->metric("sluice_upstream_endpoint_up") == 1);
  check_files();
}

void Cell::run() {
  const std::optional<Promise> promise = faults::promise(fault_, question_);
  if (!promise) return;
  prepare();
  const bool at_once = question_ != blob_in_flight && question_ != range_in_flight;
  open(times_of(fault_, question_), at_once ? bad_ : origin_->url());
  if (question_ == blob_expired || question_ == digest_expired) cache_->clock().advance(25h);
  if (question_ == tag_expired || question_ == head_tag_expired || question_ == tags_expired ||
      question_ == referrers_expired) {
    cache_->clock().advance(61s);
  }
  log_.clear();
  const std::size_t before = origin_->requests().size();
  std::jthread drip;
  if (fault_.cause == Cause::dripping) {
    drip = std::jthread([this](const std::stop_token& ends) {
      while (!ends.stop_requested()) {
        if (armed_) place_.drip->allow(1);
        std::this_thread::sleep_for(5ms);
      }
    });
  }
  const std::vector<Response> responses = ask_what_fails();
  drip = {};
  const std::string text = log_.text();
  INFO(text);
  CHECK(responses.size() == (question_ == blob_in_flight ? kReaders : 1));
  for (const Response& response : responses) check_response(response, *promise);
  check_state(*promise);
  check_log(*promise);
  const std::size_t most = kMostRequests * (question_ == six_blobs ? 6 : 1);
  if (origin_) CHECK(origin_->requests().size() - before <= most);
  heal(promise->lies);
}

void try_all(Question question, std::string_view name) {
  for (const Fault& fault : all()) {
    if (!faults::promise(fault, question)) continue;  // the two mean nothing together
    DYNAMIC_SECTION(fault.name) {
      INFO("seed " << Catch::rngSeed() << ", cell: " << name << " / " << fault.name);
      Cell(fault, question, Catch::rngSeed() ^ hash_of(std::string(name) + fault.name)).run();
    }
  }
}

}  // namespace

#define FAULT_MATRIX(question, name) \
  TEST_CASE("Fault matrix: " name, "[faults]") { try_all(question, name); }

FAULT_MATRIX(blob, "a cold blob")
FAULT_MATRIX(blob_in_flight, "a blob in flight for twenty clients")
FAULT_MATRIX(blob_expired, "a stored blob to be asked about again")
FAULT_MATRIX(six_blobs, "six cold blobs")
FAULT_MATRIX(range, "a range of a cold blob")
FAULT_MATRIX(range_in_flight, "a range of a blob in flight")
FAULT_MATRIX(tag, "a cold tag")
FAULT_MATRIX(tag_fresh, "a fresh tag")
FAULT_MATRIX(tag_expired, "an expired tag")
FAULT_MATRIX(digest, "a cold manifest by digest")
FAULT_MATRIX(digest_expired, "a stored manifest to be asked about again")
FAULT_MATRIX(head_blob, "HEAD of a cold blob")
FAULT_MATRIX(head_tag, "HEAD of a cold tag")
FAULT_MATRIX(head_tag_expired, "HEAD of an expired tag")
FAULT_MATRIX(head_digest, "HEAD of a cold manifest by digest")
FAULT_MATRIX(tags, "a list of tags")
FAULT_MATRIX(tags_expired, "a list of tags that are known")
FAULT_MATRIX(referrers, "referrers")
FAULT_MATRIX(referrers_expired, "referrers that are known")
