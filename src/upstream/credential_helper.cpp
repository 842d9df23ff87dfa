#include "upstream/credential_helper.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "upstream/docker_config.hpp"

namespace sluice::upstream {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::size_t kMaxAnswerBytes = std::size_t{64} << 10;
constexpr std::string_view kNotFound = "credentials not found in native keychain";

class Descriptor {
 public:
  explicit Descriptor(int fd = -1) noexcept : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() { close(); }
  void close() noexcept {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }
  [[nodiscard]] int get() const noexcept { return fd_; }

 private:
  int fd_;
};

// A running program; killed and waited for when it goes out of scope.
class Child {
 public:
  explicit Child(pid_t pid) noexcept : pid_(pid) {}
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() {
    if (pid_ <= 0) return;
    // With its process group: helpers are often scripts.
    ::kill(-pid_, SIGKILL);
    while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
  // Whether it ended with 0 before `until`.
  bool ends_well(steady_clock::time_point until) {
    int status = 0;
    pid_t ended = 0;
    while ((ended = ::waitpid(pid_, &status, WNOHANG)) == 0 && steady_clock::now() < until) {
      std::this_thread::sleep_for(milliseconds(1));
    }
    if (ended != pid_) return false;
    pid_ = -1;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
  }

 private:
  pid_t pid_;
};

struct Ends {
  Descriptor ours;
  Descriptor theirs;
};

// For what it reads: a socket, because writing to a pipe that nobody reads any more raises a signal.
Result<Ends> make_input() {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) return errno_error(errno, "socketpair");
  return Ends{Descriptor(ends[0]), Descriptor(ends[1])};
}

// For what it prints: a pipe, because a socket loses that when the program ends without having read its input.
Result<Ends> make_output() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return errno_error(errno, "pipe");
  return Ends{Descriptor(ends[0]), Descriptor(ends[1])};
}

Result<pid_t> spawn(const std::string& program, int standard_in, int standard_out) {
  posix_spawn_file_actions_t actions{};
  posix_spawnattr_t attributes{};
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawnattr_init(&attributes);
  ::posix_spawn_file_actions_adddup2(&actions, standard_in, STDIN_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, standard_out, STDOUT_FILENO);
  ::posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  // What we block or ignore is no business of its.
  sigset_t none;
  sigset_t all;
  sigemptyset(&none);
  sigfillset(&all);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setsigdefault(&attributes, &all);
  ::posix_spawnattr_setpgroup(&attributes, 0);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);

  std::string name = program;
  std::string verb = "get";
  std::array<char*, 3> arguments{name.data(), verb.data(), nullptr};
  pid_t pid = -1;
  const int failed = ::posix_spawnp(&pid, program.c_str(), &actions, &attributes, arguments.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  ::posix_spawnattr_destroy(&attributes);
  if (failed != 0) {
    return Error(Errc::config_invalid,
                 fmt::format("{} cannot be run: {}", program, std::generic_category().message(failed)));
  }
  return pid;
}

// Up to the end of what it prints.
Result<std::string> read_to_end(int fd, const std::string& program, steady_clock::time_point until) {
  std::string out;
  std::array<char, 4096> piece{};
  while (true) {
    const auto left = std::chrono::ceil<milliseconds>(until - steady_clock::now());
    pollfd waiting{fd, POLLIN, 0};
    const int ready = left.count() <= 0 ? 0 : ::poll(&waiting, 1, static_cast<int>(left.count()));
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return Error(Errc::timeout, program + " did not end in time");
    const ssize_t n = ::read(fd, piece.data(), piece.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno_error(errno, "read from " + program);
    if (n == 0) return out;
    out.append(piece.data(), static_cast<std::size_t>(n));
    if (out.size() > kMaxAnswerBytes) return Error(Errc::config_invalid, program + " printed more than an answer");
  }
}

}  // namespace

std::string helper_program(const std::string& name) {
  constexpr std::string_view kPrefix = "docker-credential-";
  if (name.find('/') != std::string::npos || name.starts_with(kPrefix)) return name;
  return std::string(kPrefix) + name;
}

Result<Credentials> ask_credential_helper(const std::string& name, const std::string& server, milliseconds timeout) {
  const auto until = steady_clock::now() + timeout;
  const std::string program = helper_program(name);
  Result<Ends> input = make_input();
  if (!input) return input.error();
  Result<Ends> output = make_output();
  if (!output) return output.error();
  const Result<pid_t> pid = spawn(program, input->theirs.get(), output->theirs.get());
  if (!pid) return pid.error();
  Child child(*pid);
  input->theirs.close();
  output->theirs.close();
  // Fits into the socket's buffer, so this does not block. One that does not read it has its reasons.
  const std::string question = server + "\n";
  if (::send(input->ours.get(), question.data(), question.size(), MSG_NOSIGNAL | MSG_DONTWAIT) >= 0) {
    ::shutdown(input->ours.get(), SHUT_WR);
  }
  const Result<std::string> answer = read_to_end(output->ours.get(), program, until);
  if (!answer) return answer.error();
  const bool good = child.ends_well(until);
  if (answer->find(kNotFound) != std::string::npos) {
    return Error(Errc::not_found, fmt::format("{} knows no credentials for {}", program, server));
  }
  if (!good) return Error(Errc::config_invalid, program + " has failed");
  Result<Credentials> credentials = parse_helper_answer(*answer);
  if (!credentials) return credentials.error().in(program);
  return credentials;
}

}  // namespace sluice::upstream
