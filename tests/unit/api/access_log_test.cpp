#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <string>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "api/access_log.hpp"
#include "support/temp_directory.hpp"

using namespace sluice;
using namespace sluice::access;
using namespace sluice::api;
using namespace std::chrono_literals;

namespace {

struct Folder {
  test::TempDirectory directory;
  std::filesystem::path operator/(const char* name) const { return path() / name; }
  const std::filesystem::path& path() const { return directory.path(); }
};

std::string read(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

std::vector<std::string> lines(const std::string& text) {
  std::vector<std::string> out;
  std::size_t from = 0;
  for (std::size_t end = text.find('\n'); end != std::string::npos; end = text.find('\n', from)) {
    out.push_back(text.substr(from, end - from));
    from = end + 1;
  }
  return out;
}

AccessLog::Params params(const std::filesystem::path& file, log::Format format = log::Format::text) {
  AccessLog::Params out;
  out.file = file;
  out.format = format;
  return out;
}

AccessRecord blob_hit() {
  AccessRecord out;
  out.request_id = "7f-12";
  out.client = "127.0.0.1:4711";
  out.method = "GET";
  out.target = "/v2/library/alpine/blobs/sha256:abc";
  out.upstream = "docker.io";
  out.repository = "library/alpine";
  out.reference = "sha256:abc";
  out.user_agent = "containerd/2.1.9+unknown";
  out.status = 200;
  out.bytes = 3'000'000'000;
  out.cache = CacheResult::hit;
  out.first_byte = 213us;
  out.total = 12'345'678us;
  return out;
}

// One record through a log and back, without its time stamp.
std::string one_line(const AccessRecord& record, log::Format format = log::Format::text) {
  const Folder folder;
  {
    const auto log = AccessLog::open(params(folder / "log", format)).value();
    log->write(record);
  }
  return read(folder / "log");
}

}  // namespace

TEST_CASE("Access log: a line of text is logfmt", "[api]") {
  const std::string line = one_line(blob_hit());
  CHECK(std::regex_match(line, std::regex(R"(time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z .*\n)")));
  CHECK(line.substr(line.find(' ') + 1) ==
        "id=7f-12 client=127.0.0.1:4711 method=GET upstream=docker.io repository=library/alpine reference=sha256:abc "
        "status=200 bytes=3000000000 cache=hit first_byte_s=0.000213 total_s=12.345678 "
        "user_agent=containerd/2.1.9+unknown\n");
}

TEST_CASE("Access log: a line of JSON has the same fields", "[api]") {
  AccessRecord record = blob_hit();
  record.complete = false;
  const nlohmann::json line = nlohmann::json::parse(one_line(record, log::Format::json));
  CHECK(line["id"] == "7f-12");
  CHECK(line["status"] == 200);
  CHECK(line["bytes"] == 3'000'000'000);
  CHECK(line["end"] == "broken");
  CHECK(line["cache"] == "hit");
  CHECK(line["first_byte_s"] == Approx(0.000213));
  CHECK(line["total_s"] == Approx(12.345678));
  CHECK_FALSE(line.contains("target"));
}

TEST_CASE("Access log: empty fields are left out, and the target stands in for a repository", "[api]") {
  AccessRecord record;
  record.method = "GET";
  record.target = "/v2/";
  record.status = 200;
  const std::string line = one_line(record);
  CHECK(line.substr(line.find(' ') + 1) ==
        "method=GET target=/v2/ status=200 bytes=0 cache=none first_byte_s=0.000000 total_s=0.000000\n");
}

TEST_CASE("Access log: what a client sends can neither break a line nor add a field", "[api]") {
  AccessRecord record = blob_hit();
  record.user_agent = std::string_view("x\r\nstatus=500 \"\\\x1b[31m\x7f\0y", 24);
  record.repository = "";
  record.target = "/v2/a b\xff=c";
  const std::string text = one_line(record);
  CHECK(std::count(text.begin(), text.end(), '\n') == 1);
  CHECK(text.back() == '\n');
  CHECK(std::none_of(text.begin(), text.end() - 1,
                     [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; }));
  CHECK(text.find(R"( target="/v2/a b\u00ff=c" )") != std::string::npos);
  CHECK(text.find(R"( user_agent="x\u000d\u000astatus=500 \"\\\u001b[31m\u007f\u0000y")") != std::string::npos);

  const std::string json = one_line(record, log::Format::json);
  CHECK(std::count(json.begin(), json.end(), '\n') == 1);
  CHECK(nlohmann::json::parse(json)["user_agent"] == std::string("x\r\nstatus=500 \"\\\x1b[31m\x7f\0y", 24));
}

TEST_CASE("Access log: a text without end is cut", "[api]") {
  AccessRecord record;
  const std::string endless(100'000, 'a');
  record.user_agent = endless;
  const std::string line = one_line(record);
  CHECK(line.size() < 1000);
  CHECK(line.find("aaa...\n") != std::string::npos);
}

TEST_CASE("Access log: lines wait for flush, or until the buffer is full", "[api]") {
  const Folder folder;
  AccessLog::Params small = params(folder / "log");
  small.buffer_bytes = 1000;
  const auto log = AccessLog::open(small).value();
  log->write(blob_hit());
  CHECK(read(folder / "log").empty());
  log->flush();
  CHECK(lines(read(folder / "log")).size() == 1);
  for (int i = 0; i < 10; ++i) log->write(blob_hit());
  const std::size_t written = lines(read(folder / "log")).size();
  CHECK(written > 1);
  CHECK(written < 11);
  log->flush();
  CHECK(lines(read(folder / "log")).size() == 11);
}

TEST_CASE("Access log: threads do not mix their lines, and flush finds those of threads that are gone", "[api]") {
  const Folder folder;
  AccessLog::Params small = params(folder / "log", log::Format::json);
  small.buffer_bytes = 700;
  const auto log = AccessLog::open(small).value();
  std::vector<std::thread> threads;
  for (int t = 0; t < 6; ++t) {
    threads.emplace_back([&log] {
      for (int i = 0; i < 301; ++i) log->write(blob_hit());
    });
  }
  for (int i = 0; i < 50; ++i) log->flush();
  for (std::thread& thread : threads) thread.join();
  log->flush();
  log->flush();
  const std::vector<std::string> all = lines(read(folder / "log"));
  CHECK(all.size() == 6 * 301);
  CHECK(std::all_of(all.begin(), all.end(), [](const auto& line) { return nlohmann::json::accept(line); }));
}

TEST_CASE("Access log: after reopen() lines go to the new file", "[api]") {
  const Folder folder;
  const auto log = AccessLog::open(params(folder / "log")).value();
  log->write(blob_hit());
  std::filesystem::rename(folder / "log", folder / "log.1");
  REQUIRE(log->reopen().has_value());
  log->write(blob_hit());
  log->write(blob_hit());
  log->flush();
  CHECK(lines(read(folder / "log.1")).size() == 1);
  CHECK(lines(read(folder / "log")).size() == 2);
}

TEST_CASE("Access log: when reopen() fails, the old file goes on", "[api]") {
  const Folder folder;
  std::filesystem::create_directory(folder / "d");
  const auto log = AccessLog::open(params(folder / "d/log")).value();
  std::filesystem::rename(folder / "d", folder / "e");
  CHECK(log->reopen().has_error());
  log->write(blob_hit());
  log->flush();
  CHECK(lines(read(folder / "e/log")).size() == 1);
}

TEST_CASE("Access log: a file that cannot be opened is an error, unless nothing is logged", "[api]") {
  const Folder folder;
  AccessLog::Params bad = params(folder / "none/log");
  CHECK(AccessLog::open(bad).error().code == Errc::not_found);
  bad.enabled = false;
  const auto log = AccessLog::open(bad).value();
  log->write(blob_hit());
  log->flush();
  CHECK(log->reopen().has_value());
}

TEST_CASE("Access log: who else gets each record, gets it whether it is logged or not", "[api]") {
  const Folder folder;
  AccessLog::Params both = params(folder / "log");
  both.enabled = GENERATE(true, false);
  std::vector<std::string> got;
  both.also = [&](const AccessRecord& record) { got.emplace_back(record.request_id); };
  AccessLog::open(both).value()->write(blob_hit());
  CHECK(got == std::vector<std::string>{"7f-12"});
  CHECK(lines(read(folder / "log")).size() == (both.enabled ? 1 : 0));
}

TEST_CASE("Access log: a full disk loses lines and nothing else", "[api]") {
  log::configure({log::Level::off, log::Format::text});
  const auto log = AccessLog::open(params("/dev/full")).value();
  for (int i = 0; i < 1000; ++i) log->write(blob_hit());
  log->flush();
  log::configure({log::Level::warn, log::Format::text});
  SUCCEED("nothing was thrown");
}

TEST_CASE("Access log: a pipe that nobody empties stops nobody, and gets whole lines in the end", "[api]") {
  log::configure({log::Level::off, log::Format::text});
  const Folder folder;
  const std::filesystem::path fifo = folder / "fifo";
  REQUIRE(::mkfifo(fifo.c_str(), 0600) == 0);
  const int reader = ::open(fifo.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  REQUIRE(reader >= 0);
  std::string got;
  const auto empty = [&] {
    std::string chunk(65536, '\0');
    for (ssize_t n = ::read(reader, chunk.data(), chunk.size()); n > 0;
         n = ::read(reader, chunk.data(), chunk.size())) {
      got.append(chunk, 0, static_cast<std::size_t>(n));
    }
  };
  {
    const auto log = AccessLog::open(params(fifo)).value();
    for (int i = 0; i < 20'000; ++i) log->write(blob_hit());  // far more than a pipe and what may wait
    for (int i = 0; i < 100; ++i) {
      empty();
      log->flush();
    }
    empty();
  }
  empty();
  ::close(reader);
  const std::vector<std::string> all = lines(got);
  CHECK(all.size() > 1000);
  CHECK(all.size() < 20'000);
  CHECK(got.back() == '\n');
  CHECK(std::all_of(all.begin(), all.end(), [](const auto& line) {
    return line.starts_with("time=") && line.ends_with("user_agent=containerd/2.1.9+unknown");
  }));
  log::configure({log::Level::warn, log::Format::text});
}
