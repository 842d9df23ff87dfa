// What a client costs that asks for something large and reads nothing of it.
#include <malloc.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "client.hpp"
#include "fixture.hpp"
#include "oci/media_type.hpp"

#if !__has_feature(address_sanitizer) && !__has_feature(thread_sanitizer)

using namespace sluice;
using namespace sluice::test;
using nlohmann::json;
using Operation = runtime::FaultyFilesystem::Operation;

namespace {

const std::string kManifest(oci::media_type::kOciManifest);

// Has asked, and has been answered as far as the kernel takes it.
class IdleClient {
 public:
  // `fields`: further lines of the request.
  IdleClient(std::uint16_t port, const std::string& target, const std::string& fields)
      : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const int small = 4096;
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const std::string request = "GET " + target + " HTTP/1.1\r\nHost: cache\r\n" + fields + "\r\n";
    answered_ = ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &small, sizeof small) == 0 &&
                ::connect(fd_, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0 &&
                ::send(fd_, request.data(), request.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(request.size());
    pollfd readable{fd_, POLLIN, 0};
    answered_ = answered_ && ::poll(&readable, 1, 20'000) == 1;
  }
  IdleClient(IdleClient&& other) noexcept : fd_(std::exchange(other.fd_, -1)), answered_(other.answered_) {}
  IdleClient& operator=(IdleClient&&) = delete;
  ~IdleClient() {
    if (fd_ >= 0) ::close(fd_);
  }
  [[nodiscard]] bool answered() const { return answered_; }

 private:
  int fd_;
  bool answered_ = false;
};

std::int64_t heap() {
  const auto info = ::mallinfo2();
  return static_cast<std::int64_t>(info.uordblks + info.hblkhd);
}

std::string descriptor(const std::string& of) {
  return json{{"mediaType", kManifest},
              {"digest", oci::digest_of(oci::Algorithm::sha256, of).to_string()},
              {"size", 10},
              {"artifactType", "a/b"}}
      .dump();
}

std::string joined(std::size_t count) {
  std::string out;
  for (std::size_t i = 0; i < count; ++i) out += (i == 0 ? "" : ",") + descriptor(std::to_string(i));
  return out;
}

// What each costs, once some have brought what is shared, and whatever the program makes once.
// `settled` waits until that is there.
std::int64_t cost_of_each(
    const Fixture& cache, const std::string& target, const std::string& fields = {},
    const std::function<bool()>& settled = [] { return true; }) {
  constexpr std::size_t kClients = 60;
  std::vector<IdleClient> clients;
  clients.reserve(kClients + 20);
  for (int i = 0; i < 20; ++i) clients.emplace_back(cache.port(), target, fields);
  REQUIRE(settled());
  const std::int64_t before = heap();
  for (std::size_t i = 0; i < kClients; ++i) clients.emplace_back(cache.port(), target, fields);
  const std::int64_t each = (heap() - before) / static_cast<std::int64_t>(kClients);
  for (const IdleClient& client : clients) REQUIRE(client.answered());
  return each;
}

}  // namespace

TEST_CASE("Proxy: a client that reads nothing costs at most 16 KiB beyond what all share", "[proxy]") {
  const std::string what = GENERATE("referrers", "referrers, filtered", "tags", "manifest", "manifest by tag");
  Fixture cache;
  std::string target;
  if (what == "tags") {
    for (int i = 0; i < 15'000; ++i) {
      const std::string tag = "v" + std::to_string(100'000 + i) + std::string(100, 'x');
      cache.hub().add_manifest("library/app", tag, "{}", kManifest);
    }
    target = "/v2/library/app/tags/list";
  } else if (what.starts_with("referrers")) {
    const oci::Digest subject = oci::digest_of(oci::Algorithm::sha256, "subject");
    cache.hub().set_referrers("library/app", subject, R"({"schemaVersion":2,"manifests":[)" + joined(18'000) + "]}");
    target = "/v2/library/app/referrers/" + subject.to_string();
    if (what != "referrers") target += "?artifactType=a%2Fb";
  } else {
    // Larger than all of the memory for manifests.
    const std::string manifest = R"({"schemaVersion":2,"mediaType":")" + kManifest + R"(","config":)" +
                                 descriptor("config") + R"(,"layers":[)" + joined(14'000) + "]}";
    const oci::Digest digest = cache.hub().add_manifest("library/app", "large", manifest, kManifest);
    target = manifest_path("library/app", what == "manifest" ? digest.to_string() : std::string("large"));
  }
  INFO(what);
  REQUIRE(get(cache.port(), target).status == 200);  // so that it is at rest
  const std::int64_t each = cost_of_each(cache, target);
  WARN(what << ": " << each << " bytes for each client");
  CHECK(each <= 16 * 1024);
}

TEST_CASE("Proxy: a client that reads nothing of a manifest that nobody else reads costs at most 16 KiB", "[proxy]") {
  constexpr std::size_t kClients = 60;
  constexpr std::size_t kSize = 256 << 10;
  const std::string what = GENERATE("warm", "cold", "prefetched");
  // The sockets take less than one of them.
  Fixture cache({.prefetch = what == "prefetched" ? access::Prefetch::layers : access::Prefetch::none});
  std::vector<std::string> targets;
  for (std::size_t i = 0; i < kClients + 20; ++i) {
    const std::string manifest = R"({"schemaVersion":2,"mediaType":")" + kManifest + R"(","config":)" +
                                 descriptor("config") + R"(,"layers":[],"annotations":{"a":")" + std::to_string(i) +
                                 std::string(kSize, 'x') + "\"}}";
    const oci::Digest digest = cache.hub().add_manifest("library/app", "t" + std::to_string(i), manifest, kManifest);
    targets.push_back(manifest_path("library/app", digest.to_string()));
  }
  INFO(what);
  if (what == "warm") {
    for (const std::string& target : targets) REQUIRE(get(cache.port(), target).status == 200);
  }
  std::vector<IdleClient> clients;
  clients.reserve(targets.size());
  // Some bring what the program makes once.
  for (std::size_t i = 0; i < 20; ++i) clients.emplace_back(cache.port(), targets[i], "");
  const std::int64_t before = heap();
  for (std::size_t i = 20; i < targets.size(); ++i) clients.emplace_back(cache.port(), targets[i], "");
  for (const IdleClient& client : clients) REQUIRE(client.answered());
  // What fetches and reads them ends a moment after the client's first byte.
  std::int64_t each = 0;
  for (int i = 0; i < 200; ++i) {
    each = (heap() - before) / static_cast<std::int64_t>(kClients);
    if (each <= 16 * 1024) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  WARN(what << ": " << each << " bytes for each client");
  CHECK(each <= 16 * 1024);
}

TEST_CASE("Proxy: a client that reads nothing of what passes through costs at most 24 KiB", "[proxy][doors]") {
  constexpr std::size_t kSize = 4 << 20;
  Fixture cache({.window_bytes = 8 << 20, .range_limit_bytes = 1'000'000'000});
  const oci::Digest digest = cache.hub().add_blob("library/app", content(kSize));
  const std::string target = blob_path("library/app", digest);
  std::int64_t each = 0;
  std::string what;
  SECTION("unstored") {
    what = "a blob that cannot be stored";
    cache.filesystem().set_rule([](Operation operation, const runtime::Path&) {
      return operation == Operation::create || operation == Operation::write_at ? ENOSPC : 0;
    });
    // All of it stays in the window, so that everybody joins.
    cache.hub().hold(digest, kSize - 1);
    each = cost_of_each(cache, target, {}, [&cache] {
      return cache.hub().wait_until([](const auto& seen) { return seen.bytes >= kSize - 1; });
    });
    // The clients have left by now, and the fill may have ended with them.
    CHECK(cache.hub().seen().downloads == 1);
    cache.hub().release(digest);
  }
  SECTION("cold range") {
    what = "a range of a cold blob";
    each = cost_of_each(cache, target, "Range: bytes=1000000-1999999\r\n");
    CHECK(cache.hub().seen().ranges.size() == 80);
  }
  WARN(what << ": " << each << " bytes for each client");
  CHECK(each <= 24 * 1024);
}

#endif
