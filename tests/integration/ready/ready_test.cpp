// Ready answers: the same as the long way gives, for no longer than it would give them, and without an allocation.
#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>

#include "allocations.hpp"
#include "client.hpp"
#include "fixture.hpp"
#include "oci/media_type.hpp"

using namespace sluice;
using namespace sluice::test;
using namespace std::chrono_literals;

namespace {

const std::string kOciManifest(oci::media_type::kOciManifest);
const std::string kSchema2(oci::media_type::kDockerSchema2);
constexpr std::string_view kReady = "sluice_http_ready_answers_total";

struct Asked {
  std::string method;
  std::string target;
  Fields fields = {};
  std::string version = "HTTP/1.1";
};

// One connection, so one loop and its table; a new one where the server has ended it.
class Conversation {
 public:
  explicit Conversation(Fixture& cache) : cache_(cache) {}

  Response ask(const Asked& asked) {
    if (!client_) client_.emplace(cache_.port());
    client_->send(asked.method, asked.target, asked.fields, asked.version);
    Response response = client_->read_response(asked.method == "HEAD");
    const bool keeps = asked.version == "HTTP/1.1" && response.field("connection") != "close";
    if (!keeps || !response.complete) client_.reset();
    return response;
  }
  Response get(const std::string& target) { return ask({"GET", target}); }
  Response head(const std::string& target) { return ask({"HEAD", target}); }

 private:
  Fixture& cache_;
  std::optional<Client> client_;
};

double ready(const Fixture& cache) { return cache.metric(kReady); }

// Asks until the answer is a ready one. The last answer.
Response make_ready(Fixture& cache, Conversation& conversation, const Asked& asked) {
  Response response;
  for (int round = 0; round < 4; ++round) {
    const double before = ready(cache);
    response = conversation.ask(asked);
    REQUIRE(response.status == 200);
    REQUIRE(response.complete);
    if (ready(cache) > before) return response;
    REQUIRE(cache.wait_idle());
  }
  FAIL(asked.method << " " << asked.target << " is never ready");
  return response;
}

// What both ways have in common of a line: all but times, ports and numbers.
std::string without_times(const std::string& line) {
  std::string out;
  std::size_t at = 0;
  while (at < line.size()) {
    const std::size_t end = std::min(line.find(' ', at), line.size());
    const std::string word = line.substr(at, end - at);
    const bool differs = std::ranges::any_of(std::array{"time=", "client=", "first_byte_s=", "total_s="},
                                             [&](const char* key) { return word.starts_with(key); });
    const bool own_id = word.starts_with("id=") && word != "id=my-own-id";
    if (!differs && !own_id) out += word + " ";
    at = end + 1;
  }
  return out;
}

// All counters, and how often each histogram was told.
std::map<std::string, double> counts(const Fixture& cache) {
  std::map<std::string, double> out;
  for (const metrics::Family& family : cache.registry().collect()) {
    if (family.name == kReady || family.kind == metrics::Kind::gauge) continue;
    for (const metrics::Sample& sample : family.samples) {
      std::string key = family.name;
      for (const auto& [name, value] : sample.labels) key += " " + name + "=" + value;
      const bool counts = family.kind == metrics::Kind::counter;
      out[key] += counts ? sample.value : static_cast<double>(sample.histogram.count);
    }
  }
  return out;
}

// Answered from its file.
std::string large_manifest() {
  std::string manifest = image_manifest(4, kOciManifest);
  return manifest.insert(manifest.rfind('}'), std::string(40'000, ' '));
}

struct Corpus {
  explicit Corpus(Fixture& cache);
  std::vector<Asked> requests;
};

Corpus::Corpus(Fixture& cache) {
  FakeRegistry& hub = cache.hub();
  const std::string manifest = image_manifest(1, kOciManifest);
  const oci::Digest digest = hub.add_manifest("library/app", "latest", manifest, kOciManifest);
  const oci::Digest other = hub.add_manifest("team/tool", "v1", image_manifest(2, kSchema2), kSchema2);
  const oci::Digest quay = cache.quay().add_manifest("team/tool", "v1", image_manifest(3, kOciManifest), kOciManifest);
  const oci::Digest large = hub.add_manifest("team/tool", "large", large_manifest(), kOciManifest);
  std::string escaped = digest.to_string();
  escaped.replace(escaped.find(':'), 1, "%3A");
  std::vector<std::string> targets{manifest_path("library/app", "latest"),
                                   manifest_path("app", "latest"),
                                   manifest_path("library/app", "latest") + "?ns=docker.io",
                                   manifest_path("library/app", "none"),
                                   manifest_path("library/app", "b@d"),
                                   manifest_path("library/app", digest),
                                   manifest_path("library/app", escaped),
                                   manifest_path("team/tool", other),
                                   manifest_path("team/tool", large),
                                   manifest_path("team/tool", "large"),
                                   manifest_path("quay.io/team/tool", quay),
                                   manifest_path("team/tool", "v1") + "?ns=quay.io",
                                   "/v2/",
                                   "/v2/library/app/tags/list",
                                   "/elsewhere"};
  for (const std::size_t size : {0, 500, 8192, 8193, 100'000, 700'000}) {
    targets.push_back(blob_path("library/app", hub.add_blob("library/app", content(size, size + 1))));
  }
  targets.push_back(blob_path("library/app", hub.add_blob("library/app", content(600, 7), oci::Algorithm::sha512)));
  const std::string tag = '"' + digest.to_string() + '"';
  const std::vector<Fields> variants{{},
                                     {{"Accept", kOciManifest}},
                                     {{"Accept", kSchema2}, {"Accept", "*/*;q=0.1"}},
                                     {{"Accept", kSchema2}},
                                     {{"User-Agent", "containerd/1.7.24"}, {"Accept-Encoding", "gzip"}},
                                     {{"X-Request-Id", "my-own-id"}},
                                     {{"User-Agent", std::string(700, 'u')}},
                                     {{"X-Long", std::string(3000, 'l')}},
                                     {{"Host", "other.example:5000"}},
                                     {{"Authorization", "Basic Zm9vOmJhcg=="}},
                                     {{"Range", "bytes=1-20"}},
                                     {{"If-None-Match", tag}},
                                     {{"Via", "1.1 another"}},
                                     {{"Connection", "close"}}};
  for (const std::string& target : targets) {
    for (const Fields& fields : variants) {
      for (const char* method : {"GET", "HEAD"}) requests.push_back({method, target, fields});
    }
    requests.push_back({"GET", target, {}, "HTTP/1.0"});
    requests.push_back({"GET", target, {{"Connection", "keep-alive"}}, "HTTP/1.0"});
    requests.push_back({"DELETE", target});
  }
}

}  // namespace

TEST_CASE("Ready answers: every request is answered, logged and counted as by the long way", "[ready]") {
  Fixture quick;
  Fixture slow({.ready_answers = false});
  const std::vector<Asked> requests = Corpus(quick).requests;
  REQUIRE(Corpus(slow).requests.size() == requests.size());
  Conversation with_quick(quick);
  Conversation with_slow(slow);
  for (const Asked& asked : requests) {
    for (int round = 0; round < 5; ++round) {
      INFO(asked.method << " " << asked.target << " " << asked.version << ", round " << round);
      Response one = with_quick.ask(asked);
      Response two = with_slow.ask(asked);
      for (Response* response : {&one, &two}) {
        std::erase_if(response->fields, [](const auto& field) { return field.first == "date"; });
        // Errors name the request.
        if (response->status >= 400) response->body.clear();
      }
      CHECK(one.status == two.status);
      CHECK(one.fields == two.fields);
      CHECK((one.body == two.body));
      CHECK(one.complete == two.complete);
      // A download goes on when its client has all of it.
      if (round == 0) REQUIRE((quick.wait_idle() && slow.wait_idle()));
    }
  }
  CHECK(ready(quick) > 300);
  CHECK(ready(slow) == 0);
  // What is counted is so after the last byte.
  for (const auto give_up = std::chrono::steady_clock::now() + 20s;
       counts(quick) != counts(slow) && std::chrono::steady_clock::now() < give_up;) {
    std::this_thread::yield();
  }
  const std::map<std::string, double> wanted = counts(slow);
  for (const auto& [name, value] : counts(quick)) {
    INFO(name);
    const auto found = wanted.find(name);
    CHECK((found != wanted.end() && found->second == value));
  }
  const std::vector<std::string> lines = quick.access_log();
  const std::vector<std::string> slow_lines = slow.access_log();
  REQUIRE(lines.size() == slow_lines.size());
  std::vector<std::string> both[2];
  for (const std::string& line : lines) both[0].push_back(without_times(line));
  for (const std::string& line : slow_lines) both[1].push_back(without_times(line));
  // Connections that end are on either loop, each with a buffer of its own.
  for (std::vector<std::string>& of : both) std::ranges::sort(of);
  for (std::size_t i = 0; i < both[0].size(); ++i) CHECK(both[0][i] == both[1][i]);
}

TEST_CASE("Ready answers: a tag and a membership are believed no longer than otherwise", "[ready]") {
  Fixture cache({.descriptor_ttl = 5s});
  Conversation conversation(cache);
  const std::string manifest = image_manifest(1, kOciManifest);
  const oci::Digest digest = cache.hub().add_manifest("library/app", "latest", manifest, kOciManifest);
  const oci::Digest blob = cache.hub().add_blob("library/app", content(500));
  const std::string what = GENERATE("tag", "manifest", "blob");
  const std::string path = what == "tag"        ? manifest_path("library/app", "latest")
                           : what == "manifest" ? manifest_path("library/app", digest)
                                                : blob_path("library/app", blob);
  const std::string method = GENERATE("GET", "HEAD");
  REQUIRE(conversation.get(path).status == 200);
  make_ready(cache, conversation, {method, path});
  const std::size_t asked = cache.hub().seen().all();
  cache.clock().advance(4s);
  CHECK(conversation.ask({method, path}).status == 200);
  CHECK(cache.hub().seen().all() == asked);
  cache.clock().advance(2s);
  cache.hub().refuse("library/app", Error{Errc::denied, "not any more"});
  CHECK(conversation.ask({method, path}).status == 403);
  CHECK(cache.hub().seen().all() > asked);
}

TEST_CASE("Ready answers: a tag that has moved is seen when its ttl is over", "[ready]") {
  Fixture cache({.tag_ttl = 5s});
  Conversation conversation(cache);
  const std::string path = manifest_path("library/app", "latest");
  cache.hub().add_manifest("library/app", "latest", image_manifest(1, kOciManifest), kOciManifest);
  make_ready(cache, conversation, {"GET", path});
  const std::string moved = image_manifest(2, kOciManifest);
  cache.hub().add_manifest("library/app", "latest", moved, kOciManifest);
  CHECK(make_ready(cache, conversation, {"GET", path}).body != moved);
  cache.clock().advance(6s);
  CHECK(conversation.get(path).body == moved);
  // Somebody else's question renews it as well.
  CHECK(make_ready(cache, conversation, {"GET", path}).body == moved);
}

TEST_CASE("Ready answers: what is taken out is not given any more", "[ready]") {
  Fixture cache({.delete_enabled = true});
  Conversation conversation(cache);
  const oci::Digest digest =
      cache.hub().add_manifest("library/app", "latest", image_manifest(1, kOciManifest), kOciManifest);
  const oci::Digest small = cache.hub().add_blob("library/app", content(500));
  const oci::Digest large = cache.hub().add_blob("library/app", content(100'000));
  const oci::Digest index = cache.hub().add_manifest("library/app", "large", large_manifest(), kOciManifest);
  const std::vector<std::string> paths{manifest_path("library/app", "latest"), manifest_path("library/app", digest),
                                       blob_path("library/app", small),        blob_path("library/app", large),
                                       manifest_path("library/app", "large"),  manifest_path("library/app", index)};
  const std::string method = GENERATE("GET", "HEAD");
  for (const std::string& path : paths) {
    REQUIRE(conversation.get(path).status == 200);
    REQUIRE(cache.wait_idle());
    make_ready(cache, conversation, {method, path});
    // By another connection, which may be on another loop.
    REQUIRE(fetch(cache.port(), "DELETE", path).status == 202);
    const double before = ready(cache);
    const std::size_t asked = cache.hub().seen().all();
    CHECK(conversation.ask({method, path}).status == 200);
    CHECK(ready(cache) == before);
    CHECK(cache.hub().seen().all() > asked);
  }
  // With its digest the tag goes too.
  REQUIRE(conversation.get(paths[0]).status == 200);
  make_ready(cache, conversation, {method, paths[0]});
  REQUIRE(fetch(cache.port(), "DELETE", paths[1]).status == 202);
  cache.hub().refuse("library/app", Error{Errc::denied, "not any more"});
  CHECK(conversation.ask({method, paths[0]}).status == 403);
}

TEST_CASE("Ready answers: a file that is evicted, removed or cut short is fetched again at once", "[ready]") {
  Fixture cache;
  Conversation conversation(cache);
  const std::string body = content(100'000);
  const oci::Digest digest = cache.hub().add_blob("library/app", body);
  const std::string path = blob_path("library/app", digest);
  make_ready(cache, conversation, {"GET", path});
  std::filesystem::resize_file(cache.store().layout().blob(digest), 5000);
  CHECK((conversation.get(path).body == body));
  CHECK(cache.hub().seen().downloads == 2);
  REQUIRE(cache.wait_idle());
  make_ready(cache, conversation, {"GET", path});
  make_ready(cache, conversation, {"HEAD", path});
  // As the evictor does it.
  const store::BlobStore::Checked::State state = [&] {
    std::filesystem::remove(cache.store().layout().blob(digest));
    return cache.store().check(digest, [](std::uint64_t) { return true; }).state;
  }();
  REQUIRE(state == store::BlobStore::Checked::State::missing);
  const double before = ready(cache);
  CHECK(conversation.head(path).status == 200);
  CHECK(ready(cache) == before);
  CHECK((conversation.get(path).body == body));
  CHECK(cache.hub().seen().downloads == 3);
}

TEST_CASE("Ready answers: rules, upstreams and logins that come into force count at once", "[ready]") {
  Fixture cache;
  Conversation conversation(cache);
  const std::string path = manifest_path("library/app", "latest");
  cache.hub().add_manifest("library/app", "latest", image_manifest(1, kOciManifest), kOciManifest);
  make_ready(cache, conversation, {"GET", path});
  cache.rules().set({{}, {"docker.io/library/*"}});
  CHECK(conversation.get(path).status == 403);
  cache.rules().set({});
  make_ready(cache, conversation, {"GET", path});

  const std::filesystem::path file = cache.data() / "htpasswd";
  std::ofstream(file) << "me:$2y$05$WmLdDX5yCWd5kJ7Ka8GIAOzwxmbFeI.Q5b2CwJTXjK7Qp7Mpxm.Ne\n";
  REQUIRE(cache.logins().set({.file = file}).has_value());
  CHECK(conversation.get(path).status == 401);
  REQUIRE(cache.logins().set({}).has_value());
  make_ready(cache, conversation, {"GET", path});

  access::Upstreams::Options passthrough;
  passthrough.library_prefix = true;
  passthrough.passthrough.emplace();
  cache.upstreams().replace(
      {{"docker.io", std::make_shared<const access::Upstreams::Upstream>(
                         access::Upstreams::Upstream{cache.upstreams().find("docker.io"), passthrough, nullptr})}});
  const double before = ready(cache);
  CHECK(conversation.get(path).status == 401);
  CHECK(ready(cache) == before);
}

TEST_CASE("Ready answers: a client that stalls or leaves is treated as otherwise", "[ready]") {
  Fixture cache;
  const std::string body = content(3'000'000);
  const oci::Digest digest = cache.hub().add_blob("library/app", body);
  const std::string path = blob_path("library/app", digest);
  Client client(cache.port(), 4096);
  for (int round = 0; round < 4; ++round) {
    client.send("GET", path);
    const Response response = client.read_response();
    CHECK((response.body == body));
    REQUIRE(cache.wait_idle());
  }
  CHECK(ready(cache) == 1);
  // The connection goes on after an answer that had to wait for its client.
  client.send("GET", path);
  REQUIRE(client.read_head().status == 200);
  client.close();
  REQUIRE(cache.wait_for_metric("sluice_http_broken_off_total", 1));
  CHECK(ready(cache) == 2);
  const std::vector<std::string> lines = cache.access_log();
  REQUIRE(lines.size() == 5);
  CHECK(lines.back().find("end=broken") != std::string::npos);
  CHECK(lines.back().find("status=200") != std::string::npos);
}

TEST_CASE("Ready answers: cost no allocation", "[ready]") {
  if (!allocations_are_counted()) {
    WARN("a sanitizer has its own operator new: not counted");
    return;
  }
  Fixture cache;
  Conversation conversation(cache);
  const oci::Digest digest =
      cache.hub().add_manifest("library/app", "latest", image_manifest(1, kOciManifest), kOciManifest);
  const oci::Digest small = cache.hub().add_blob("library/app", content(500));
  const oci::Digest large = cache.hub().add_blob("library/app", content(100'000));
  const Fields containerd{{"User-Agent", "containerd/1.7.24"},
                          {"Accept", kSchema2 + ", " + std::string(oci::media_type::kDockerList) + ", " + kOciManifest +
                                         ", " + std::string(oci::media_type::kOciIndex) + ", */*"},
                          {"Accept-Encoding", "gzip"}};
  const std::vector<Asked> all{{"GET", manifest_path("library/app", "latest")},
                               {"HEAD", manifest_path("library/app", "latest")},
                               {"GET", manifest_path("library/app", "latest"), containerd},
                               {"GET", manifest_path("library/app", digest)},
                               {"HEAD", manifest_path("library/app", digest)},
                               {"GET", blob_path("library/app", small)},
                               {"HEAD", blob_path("library/app", small)},
                               {"HEAD", blob_path("library/app", large)}};
  // More than the buffer of the access log takes, so that it has all its memory.
  for (const Asked& asked : all) {
    REQUIRE(conversation.get(asked.target).status == 200);
    REQUIRE(cache.wait_idle());
    make_ready(cache, conversation, asked);
    for (int i = 0; i < 100; ++i) REQUIRE(conversation.ask(asked).status == 200);
  }
  for (const Asked& asked : all) {
    INFO(asked.method << " " << asked.target);
    // A loop has other things to do now and then, such as a look at its deadlines: the quietest of some rounds counts.
    std::size_t fewest = SIZE_MAX;
    for (int round = 0; round < 5 && fewest != 0; ++round) {
      const double ready_before = ready(cache);
      const std::size_t before = allocations_on_loops();
      for (int i = 0; i < 100; ++i) REQUIRE(conversation.ask(asked).status == 200);
      fewest = std::min(fewest, allocations_on_loops() - before);
      CHECK(ready(cache) - ready_before == 100);
    }
    CHECK(fewest == 0);
  }
}
