#include "redis_server.hpp"

#include <unistd.h>
#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <stdexcept>
#include <thread>

#include <arpa/inet.h>
#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

namespace sluice::test {
namespace {

using namespace std::chrono_literals;

constexpr std::array<const char*, 2> kPrograms{"/usr/bin/redis-server", "/usr/local/bin/redis-server"};

const char* program() {
  for (const char* path : kPrograms) {
    if (::access(path, X_OK) == 0) return path;
  }
  return nullptr;
}

// Polls; true as soon as `probe` is.
template <class Probe>
bool comes_true(Probe probe) {
  const auto end = std::chrono::steady_clock::now() + 20s;
  while (!probe()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(2ms);
  }
  return true;
}

}  // namespace

std::uint16_t free_port() {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  const bool bound = ::bind(fd, reinterpret_cast<const sockaddr*>(&address), length) == 0 &&
                     ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) == 0;
  ::close(fd);
  if (!bound) throw std::runtime_error("no free port");
  return ntohs(address.sin_port);
}

bool RedisServer::installed() { return program() != nullptr; }

RedisServer::RedisServer(std::vector<std::string> options)
    : options_(std::move(options)), socket_((directory_.path() / "redis.sock").string()) {
  for (std::size_t i = 0; i + 1 < options_.size(); ++i) {
    if (options_[i] == "--requirepass") password = options_[i + 1];
  }
  // Somebody else may take the port before it does.
  for (int i = 0; i < 5; ++i) {
    port_ = free_port();
    try {
      start();
      return;
    } catch (const std::runtime_error&) {
      kill();
    }
  }
  throw std::runtime_error("redis-server does not start");
}

RedisServer::~RedisServer() { kill(); }

void RedisServer::start() {
  std::vector<std::string> words{program(),
                                 "--port",
                                 std::to_string(port_),
                                 "--bind",
                                 "127.0.0.1",
                                 "--unixsocket",
                                 socket_,
                                 "--save",
                                 "",
                                 "--appendonly",
                                 "no",
                                 "--dir",
                                 directory_.path(),
                                 "--daemonize",
                                 "no",
                                 "--loglevel",
                                 "warning",
                                 "--maxclients",
                                 "256"};
  words.insert(words.end(), options_.begin(), options_.end());
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  const std::string log = directory_.path() / "log";
  pid_ = ::fork();
  if (pid_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    const int out = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    ::dup2(out, STDOUT_FILENO);
    ::dup2(out, STDERR_FILENO);
    ::execv(arguments[0], arguments.data());
    ::_exit(127);
  }
  const bool up = comes_true([this] {
    if (::waitpid(pid_, nullptr, WNOHANG) == pid_) {
      pid_ = 0;
      return true;
    }
    return answers();
  });
  if (!up || pid_ == 0) throw std::runtime_error("redis-server has ended");
}

void RedisServer::kill() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
  pid_ = 0;
}

void RedisServer::pause() {
  ::kill(pid_, SIGSTOP);
  ::waitpid(pid_, nullptr, WUNTRACED);
}

void RedisServer::resume() { ::kill(pid_, SIGCONT); }

bool RedisServer::answers() {
  try {
    return run({"PING"}).text == "PONG";
  } catch (const std::exception&) {
    return false;
  }
}

descriptors::RedisReply RedisServer::run(const descriptors::RedisCommand& command, unsigned database) {
  const std::unique_ptr<redisContext, decltype(&::redisFree)> context(::redisConnectUnix(socket_.c_str()),
                                                                      &::redisFree);
  if (context == nullptr || context->err != 0) throw std::runtime_error("no connection to redis-server");
  const auto call = [&](const descriptors::RedisCommand& words) {
    std::vector<const char*> texts;
    std::vector<std::size_t> lengths;
    for (const std::string& word : words) {
      texts.push_back(word.data());
      lengths.push_back(word.size());
    }
    void* const reply = ::redisCommandArgv(context.get(), static_cast<int>(texts.size()), texts.data(), lengths.data());
    if (reply == nullptr) throw std::runtime_error("redis-server hangs up");
    const std::unique_ptr<void, decltype(&::freeReplyObject)> owner(reply, &::freeReplyObject);
    return descriptors::RedisReply::from(*static_cast<redisReply*>(reply));
  };
  if (!username.empty()) {
    call({"AUTH", username, password});
  } else if (!password.empty()) {
    call({"AUTH", password});
  }
  if (database != 0) call({"SELECT", std::to_string(database)});
  return call(command);
}

std::string RedisServer::ask(const descriptors::RedisCommand& command, unsigned database) {
  const auto text = [](const descriptors::RedisReply& reply) {
    return reply.type == descriptors::RedisReply::Type::integer ? std::to_string(reply.integer) : reply.text;
  };
  const descriptors::RedisReply reply = run(command, database);
  if (reply.type != descriptors::RedisReply::Type::array) return text(reply);
  std::vector<std::string> parts;
  for (const auto& element : reply.elements) parts.push_back(text(element));
  std::sort(parts.begin(), parts.end());
  std::string out;
  for (const std::string& part : parts) out += (out.empty() ? "" : " ") + part;
  return out;
}

RedisClient::RedisClient(descriptors::RedisParams params, std::size_t loop_count, const descriptors::RightsMarks* marks)
    : loops(loop_count),
      cache(std::make_unique<descriptors::RedisDescriptorCache>(std::move(params), loops.pool(), clock, registry,
                                                                marks)) {}

RedisClient::~RedisClient() {
  cache->close();
  loops.stop();
}

std::uint64_t RedisClient::errors(const std::string& reason) {
  return registry.counter("sluice_descriptor_redis_errors_total", "", {{"reason", reason}}).value();
}
std::uint64_t RedisClient::skipped() { return registry.counter("sluice_descriptor_redis_skipped_total", "").value(); }
std::uint64_t RedisClient::connects() { return registry.counter("sluice_descriptor_redis_connects_total", "").value(); }
bool RedisClient::breaker_open() { return registry.gauge("sluice_descriptor_redis_breaker_open", "").value() != 0; }

bool RedisClient::recovers() {
  return comes_true([this] {
    clock.advance(10s);
    static_cast<void>(run(cache->stat(oci::Digest())));
    return !breaker_open();
  });
}

descriptors::RedisParams params_for(const descriptors::RedisAddress& address) {
  descriptors::RedisParams params;
  params.addresses = {address};
  params.connect_timeout = 10s;
  params.command_timeout = 10s;
  params.strip_prefix = "docker.io/";
  params.upstreams = {"docker.io", "ghcr.io"};
  return params;
}

}  // namespace sluice::test
