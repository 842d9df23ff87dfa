// ScriptedOrigin: a registry on loopback that does on demand what a real one will not.
//
// It serves `/v2/<repository>/blobs/<digest>` and `/v2/<repository>/manifests/<reference>` from a table, with Range,
// HEAD, Docker-Content-Digest; a test changes single answers by scripting a path:
//
//   ScriptedOrigin origin;
//   const std::string digest = origin.add_blob("library/alpine", content);
//   Reply reply;
//   reply.cut_after = 1000;                                             // closes after 1000 bytes of the body
//   origin.script(ScriptedOrigin::blob_path("library/alpine", digest), reply);   // once; the next request is served
//   well … use origin.url() as the base of an upstream … REQUIRE(origin.wait_until([](const auto& seen) { return
//   seen.requests.size() == 2; }));
//
// It uses blocking sockets, a thread for each connection, and OpenSSL: nothing of src/, whose client it is to test.
//
// Threads: all functions are thread-safe. Responders run on a connection's thread. Destroying it ends everything, also
// what waits at a Gate.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

struct ssl_ctx_st;

namespace sluice::test {

// Lets bytes through up to a mark that the test moves: a slow line without a clock, and a stall until released.
class Gate {
 public:
  explicit Gate(std::uint64_t bytes = 0) : allowed_(bytes) {}
  // `bytes` more.
  void allow(std::uint64_t bytes);
  // Everything, from now on.
  void open();

  // For the origin: how many bytes may go, at least one more than `sent`; 0 when `give_up` says so while waiting.
  std::uint64_t wait_beyond(std::uint64_t sent, const std::function<bool()>& give_up);

 private:
  std::mutex mutex_;
  std::condition_variable moved_;
  std::uint64_t allowed_;
};

struct Request {
  std::string method;
  std::string target;  // with the query
  std::vector<std::pair<std::string, std::string>> fields;
  std::size_t connection = 0;  // counted from 0 in the order of acceptance
  std::string body;            // as announced by Content-Length

  [[nodiscard]] std::string path() const { return target.substr(0, target.find('?')); }
  // The first field of that name (any case); empty when there is none.
  [[nodiscard]] std::string field(std::string_view name) const;
  // The value of a query parameter, percent-decoded; empty when there is none.
  [[nodiscard]] std::string query(std::string_view name) const;
};

enum class Framing : std::uint8_t { content_length, chunked, until_close };

// An answer. As it stands: 200 with an empty body and nothing wrong with it.
struct Reply {
  int status = 200;
  std::vector<std::pair<std::string, std::string>> fields;  // besides the framing's
  std::string body;                                         // a HEAD gets its length only
  Framing framing = Framing::content_length;
  bool ranges = true;  // a 200 with a Range asked for becomes a 206, or a 416
  bool close = false;  // Connection: close, and so it does

  // Faults.
  std::optional<std::uint64_t> announced;    // Content-Length, whatever the body's
  std::optional<std::string> content_range;  // instead of the right one of a 206
  std::optional<std::uint64_t> corrupt_at;   // this byte of the (whole) body is sent with its lowest bit flipped
  std::optional<std::uint64_t> cut_after;    // bytes of the body sent before the connection ends
  bool cut_with_reset = false;               // by RST instead of FIN
  bool body_on_head = false;                 // the body although a HEAD asked
  bool close_unannounced = false;            // ends the connection after the answer without having said so
  std::string behind_body;                   // bytes sent behind the stated end
  std::optional<std::string> raw;            // sent instead of everything above but cut and close
  std::shared_ptr<Gate> head_gate;           // the head waits until at least one byte is allowed
  std::shared_ptr<Gate> gate;                // the body goes as far as it allows
};

using Responder = std::function<Reply(const Request&)>;

class ScriptedOrigin {
 public:
  struct Params {
    std::shared_ptr<ssl_ctx_st> tls;  // null: plain
    // What stands in url(); must lead to 127.0.0.1.
    std::string host = "127.0.0.1";
    // Refuse what S3 refuses: 400 to any request with Authorization.
    bool refuse_authorization = false;
  };
  // Everything that happened so far; also what wait_until looks at.
  struct Seen {
    std::vector<Request> requests;   // in the order their heads were complete
    std::uint64_t body_bytes = 0;    // of bodies, handed to the kernel
    std::uint64_t behind_bytes = 0;  // of Reply::behind_body, likewise
    std::size_t connections = 0;     // accepted
    std::size_t open = 0;            // of those
    // Those to a path (without the query), of any method or of one.
    [[nodiscard]] std::size_t count(std::string_view path, std::string_view method = {}) const;
  };

  ScriptedOrigin() : ScriptedOrigin(Params{}) {}
  explicit ScriptedOrigin(Params params);
  ~ScriptedOrigin();
  ScriptedOrigin(const ScriptedOrigin&) = delete;
  ScriptedOrigin& operator=(const ScriptedOrigin&) = delete;

  [[nodiscard]] std::uint16_t port() const noexcept;
  // "http://127.0.0.1:1234" and the path.
  [[nodiscard]] std::string url(std::string_view path = {}) const;
  // "127.0.0.1:1234".
  [[nodiscard]] std::string authority() const;

  // Return the digest (sha256).
  std::string add_blob(const std::string& repository, std::string content);
  std::string add_manifest(const std::string& repository, const std::string& tag, std::string content,
                           std::string media_type);
  static std::string blob_path(std::string_view repository, std::string_view digest);
  static std::string manifest_path(std::string_view repository, std::string_view reference);
  static std::string digest_of(std::string_view content);  // "sha256:…"

  // The next answer at a path (without a query), once; further ones queue behind it.
  void script(const std::string& path, Reply reply);
  void script(const std::string& path, std::size_t times, Reply reply);
  // All answers at a path from now on, behind the scripted ones. Empty: none any more.
  void respond(const std::string& path, Responder responder);
  // All answers at paths that have no script and no responder of their own, /token included. Empty: none any more.
  void respond_everywhere(Responder responder);
  // What the table has for a request: for responders that only change a detail.
  [[nodiscard]] Reply regular(const Request& request) const;

  // Everything under /v2/ needs a token from `realm` (an URL; this or another origin's "/token"), for the scope
  // `repository:<name>:pull`. The token endpoint /token of this origin gives "token-<n>", n counted from 1; with
  // credentials set it wants them as Basic and answers 401 otherwise.
  void require_token(const std::string& realm, const std::string& service = "test");
  void set_token_credentials(std::string username, std::string password);
  // Takes back all tokens given so far.
  void revoke_tokens();
  // Everything under /v2/ needs Basic.
  void require_basic(std::string username, std::string password);
  [[nodiscard]] std::size_t tokens_given() const;

  [[nodiscard]] Seen seen() const;
  [[nodiscard]] std::vector<Request> requests() const { return seen().requests; }
  [[nodiscard]] std::size_t count(std::string_view path, std::string_view method = {}) const;
  // Blocks until `done` holds, at most `limit` (a bound for a broken test, not a time that passes). Whether it holds.
  bool wait_until(const std::function<bool(const Seen&)>& done,
                  std::chrono::milliseconds limit = std::chrono::seconds(20)) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace sluice::test
