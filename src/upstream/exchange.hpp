// HttpRegistry::Exchange: one operation upstream, over one or several endpoints: which is asked, what is tried again,
// when to wait. Used by the sources of HttpRegistry alone.
//
// Threads: all functions from tasks on any loop.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "upstream/broken_downloads.hpp"
#include "upstream/encoded_body.hpp"
#include "upstream/endpoint.hpp"
#include "upstream/head_hints.hpp"
#include "upstream/http_registry.hpp"
#include "upstream/throttled.hpp"

namespace sluice::upstream {

class HttpRegistry::Exchange : public std::enable_shared_from_this<HttpRegistry::Exchange> {
 public:
  using Request = Endpoint::Request;
  struct Answer : Transport::Answer {
    std::size_t endpoint = 0;  // which one gave it
  };

  Exchange(Params settings, http::Client& client, Clock& clock, metrics::Registry& registry);

  // The answer, whatever its status, but for 401, 408, 429 and 5xx (not 501): those are errors, after retries where
  // they may help. A 404 is an error too where another endpoint could not be asked whether it has more, and so is
  // everything but 2xx and 416 from behind a redirect, as upstream_failed.
  runtime::Task<Result<Answer>> ask(Request request);

  struct Hint {
    std::optional<Answer> answer;       // that can be used; nothing: a GET decides
    bool passes = false;                // no answer, because of something that may be over soon
    std::chrono::milliseconds wait{0};  // after which upstream wants to be asked again
  };
  // Asks by HEAD. Errors: what a GET would not do better.
  runtime::Task<Result<Hint>> hint(Request request, std::function<bool(const http::ClientResponse&)> is_usable);

  // For how long that path is not to be asked for again, as a 429 has said; zero where none has.
  [[nodiscard]] std::chrono::milliseconds throttled_for(const std::string& path) { return throttled_.left(path); }

  // The error of an answer that ask() let through; reads its body for what upstream says.
  runtime::Task<Error> refuse(Transport::Answer answer, Wanted wanted);

  [[nodiscard]] std::string upstream_name(const oci::Repository& repository) const {
    const bool one_part = repository.str().find('/') == std::string::npos;
    return params.docker_hub_library_prefix && one_part ? "library/" + repository.str() : repository.str();
  }

  // Where the Link of an answer to `path` leads (next_page.hpp).
  [[nodiscard]] Result<std::string> next_path(const Answer& answer, const std::string& path,
                                              const std::string& link) const;

  // The error of an answer that ask() let through and that is of no use: `why`, unless the answer came from behind a
  // redirect (Transport::failed_behind).
  [[nodiscard]] Error useless(const Answer& answer, const Error& why) const;

  // What an endpoint sent of a blob broke off or was not what it should be.
  void download_broke(const std::string& digest, std::size_t endpoint, const Error& why);
  [[nodiscard]] std::uint64_t broken_at(const std::string& digest) const { return broken_.of(digest); }
  void download_begun(const std::string& digest, std::size_t endpoint) { broken_.came_from(digest, endpoint); }
  // What was downloaded last did not have the digest: another endpoint may have the blob.
  void download_was_wrong(const std::string& digest) { broken_.was_wrong(digest, endpoints_.size()); }
  [[nodiscard]] bool has_several_endpoints() const noexcept { return endpoints_.size() > 1; }

  HeadHints blob_heads;
  HeadHints manifest_heads;
  HeadHints tag_digests;  // Docker-Content-Digest of a tag's manifest: whether it is what the body has
  EncodedBlobs encoded_blobs;

  Params params;
  std::atomic<int> large_lists{0};  // that are being read; see kMaxTagListBytes

 private:
  // What one endpoint, or all of them in turn, gave.
  struct Tried {
    std::optional<Answer> answer;
    std::optional<Error> error;
    bool again = false;                 // another try may help
    bool elsewhere = false;             // another endpoint may do better
    bool is_odd = false;                // `answer` is one that others may better (Request::oddity)
    std::chrono::milliseconds wait{0};  // at least, before another try
    bool told_against = false;          // a bad answer was counted against the endpoint
    std::uint64_t silent = 0;           // the endpoints, by their bits, that took it and gave no head in time
    bool timed_out = false;             // the endpoint gave no answer in a fair time, or could not be reached in it
  };
  // What one try at an endpoint has shown besides its answer.
  struct Course {
    bool failed_behind = false;
    bool timed_out_behind = false;
    bool not_asked = false;
    bool connected = false;
    std::chrono::steady_clock::duration waited{0};
  };

  // `moves_on`: ends at once when another request finds the endpoint silent, so that the next one is asked.
  runtime::Task<Tried> attempt(std::size_t endpoint, const Request& request, Breaker::Permit permit,
                               bool moves_on = false);
  runtime::Task<Tried> judge(std::size_t endpoint, const Request& request, Transport::Answer answer,
                             Breaker::Permit permit);
  // How an error is counted by the endpoint's breaker.
  void tell(std::size_t endpoint, const Request& request, const Error& error, const Course& course,
            Breaker::Permit permit, Tried& tried);
  runtime::Task<Tried> go_round(const Request& request, std::size_t round);
  runtime::Task<Tried> ask_odd_again(std::size_t endpoint, const Request& request);
  // Asks once more and waits for as long as a slow blob may take, while the breaker is closed or spares others. Nothing
  // where too many requests wait so, or the endpoint is down.
  runtime::Task<std::optional<Tried>> ask_slowly(Request request, std::uint64_t silent);
  runtime::Task<Error> refuse_client(std::size_t endpoint, const Request& request, Transport::Answer answer);
  // How an endpoint answers GET /v2/, which no client has chosen: nothing wrong; the error; or nothing, where that was
  // not found out.
  runtime::Task<std::optional<Result<void>>> ask_about_endpoint(std::size_t endpoint, Request request);
  // After a failure: where it leaves in doubt whether the endpoint is down, that is settled.
  runtime::Task<void> settle_doubt(std::size_t endpoint, Request request, Error last);
  // An endpoint gave no answer in time: where there are others they come first, until it answers again.
  runtime::Task<void> found_silent(std::size_t endpoint);
  // Asks it in the background, as long as it is silent and somebody needs the Exchange.
  static runtime::Task<void> ask_while_silent(std::weak_ptr<Exchange> exchange, std::size_t endpoint);
  // Whether GET /v2/ is answered there; the breaker hears of it. `number`: how often it was asked so before.
  runtime::Task<void> ask_plain_once(std::size_t endpoint, std::size_t number);
  void rest(const Request& request, std::uint64_t silent);
  [[nodiscard]] std::vector<std::size_t> order(const Request& request) const;
  // The same for a round, with those behind the others that are silent.
  [[nodiscard]] std::vector<std::size_t> order_of_round(const Request& request) const;
  [[nodiscard]] Tried all_down(const Request& request) const;
  [[nodiscard]] std::chrono::milliseconds backoff(std::size_t retry) const;

  Clock& clock_;
  Metrics metrics_;
  Admission admission_;
  std::vector<std::unique_ptr<Endpoint>> endpoints_;
  BrokenDownloads broken_;
  Throttled throttled_;
  std::atomic<int> slow_{0};  // those in ask_slowly
};

}  // namespace sluice::upstream
