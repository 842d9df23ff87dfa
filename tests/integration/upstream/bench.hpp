// What each test of the upstream needs: origins, loops, a client, a registry.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <catch2/catch.hpp>

#include "base/clock.hpp"
#include "base/metrics.hpp"
#include "http/client.hpp"
#include "runtime/task_group.hpp"
#include "support/catch_result.hpp"
#include "support/loop_runner.hpp"
#include "support/scripted_origin.hpp"
#include "upstream/http_registry.hpp"

namespace sluice::upstream {

using runtime::Task;
using test::Framing;
using test::Gate;
using test::LoopRunner;
using test::Reply;
using test::Request;
using test::ScriptedOrigin;

// What a download gave: everything up to the end or the error.
struct Download {
  std::optional<Error> opening;  // open_blob failed
  std::optional<Error> error;    // a read failed
  std::string bytes;
  std::optional<std::uint64_t> size;
  std::uint64_t offset = 0;
  std::string media_type;
};

inline Task<Download> drain(Result<std::unique_ptr<BlobBody>> body, std::size_t piece) {
  Download out;
  if (!body) {
    out.opening = body.error();
    co_return out;
  }
  out.size = (*body)->size();
  out.offset = (*body)->offset();
  out.media_type = (*body)->media_type();
  std::vector<std::byte> buffer(piece);
  while (true) {
    const Result<std::size_t> n = co_await (*body)->read(buffer);
    if (!n) {
      out.error = n.error();
      // It stays failed.
      const Result<std::size_t> again = co_await (*body)->read(buffer);
      if (again || again.error().code != n.error().code) out.error = Error(Errc::internal, "the error did not stay");
      co_return out;
    }
    if (*n == 0) co_return out;
    out.bytes.append(reinterpret_cast<const char*>(buffer.data()), *n);
  }
}

inline Task<Download> download(Registry& registry, oci::Repository repository, oci::Digest digest, std::uint64_t offset,
                               std::size_t piece) {
  auto body = co_await registry.open_blob(std::move(repository), digest, offset);
  co_return co_await drain(std::move(body), piece);
}

inline Task<Download> download_range(Registry& registry, oci::Repository repository, oci::Digest digest,
                                     std::uint64_t first, std::uint64_t last) {
  auto body = co_await registry.open_blob_range(std::move(repository), digest, first, last);
  co_return co_await drain(std::move(body), 64 << 10);
}

inline oci::Repository repository(std::string_view text) { return *oci::Repository::parse(text); }
inline oci::Digest digest(std::string_view text) { return *oci::Digest::parse(text); }
inline oci::Reference reference(std::string_view text) { return *oci::Reference::parse(text); }

// Content that differs everywhere.
inline std::string content_of(std::size_t size) {
  std::string out(size, '\0');
  std::uint32_t state = 12345;
  for (char& c : out) {
    state = state * 1664525 + 1013904223;
    c = static_cast<char>(state >> 24);
  }
  return out;
}

// One upstream, whose origin the test scripts.
class Bench {
 public:
  static HttpRegistry::Params params_for(const ScriptedOrigin& origin) {
    HttpRegistry::Params params;
    params.name = "test";
    params.base = *http::Url::parse(origin.url("/"));
    params.backoff_base = std::chrono::milliseconds(1);
    params.jitter = [] { return 0.0; };
    return params;
  }

  explicit Bench(std::size_t loop_count = 1, ScriptedOrigin::Params origin_params = {})
      : origin(std::move(origin_params)),
        loops(loop_count),
        client({.loops = loop_count}),
        params(params_for(origin)) {}
  ~Bench() {
    background.cancel();
    background.wait_for(std::chrono::seconds(30));
    loops.stop();
  }
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  // Made at the first use, from `params`.
  HttpRegistry& registry() {
    if (!registry_) registry_ = std::make_unique<HttpRegistry>(params, client, clock, metrics);
    return *registry_;
  }

  Download get(const std::string& text, std::uint64_t offset = 0, std::size_t piece = 64 << 10) {
    return loops.run(download(registry(), repository("app"), digest(text), offset, piece));
  }
  Result<oci::Descriptor> stat(const std::string& text) {
    return loops.run(registry().stat_blob(repository("app"), digest(text)));
  }
  Result<ManifestAnswer> manifest(const std::string& text) {
    return loops.run(registry().get_manifest(repository("app"), reference(text), {}));
  }
  Result<ManifestHead> manifest_head(const std::string& text) {
    return loops.run(registry().stat_manifest(repository("app"), reference(text), {}));
  }
  static std::string blob(const std::string& text) { return ScriptedOrigin::blob_path("app", text); }
  static std::string manifest_path(const std::string& text) { return ScriptedOrigin::manifest_path("app", text); }

  // The value of a counter or gauge, with the upstream's label and maybe a status.
  double metric(std::string_view name, std::string_view status = {}) const {
    for (const auto& family : metrics.collect()) {
      if (family.name != name) continue;
      for (const auto& sample : family.samples) {
        bool fits = status.empty();
        for (const auto& [key, value] : sample.labels) fits = fits || (key == "status" && value == status);
        if (fits)
          return family.kind == metrics::Kind::histogram ? static_cast<double>(sample.histogram.count) : sample.value;
      }
    }
    return -1;
  }

  ScriptedOrigin origin;
  metrics::Registry metrics;
  ManualClock clock;
  LoopRunner loops;
  runtime::TaskGroup background{"upstream"};  // for params.background
  http::Client client;
  HttpRegistry::Params params;

 private:
  std::unique_ptr<HttpRegistry> registry_;
};

}  // namespace sluice::upstream
