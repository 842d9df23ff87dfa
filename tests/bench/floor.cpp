// What no server can be faster than, for `./dev bench`: an epoll loop that parses nothing.
//
//   bench_floor ADDR:PORT bytes N          answers each request with a head and N bytes from memory, in one send
//   bench_floor ADDR:PORT file PATH        answers each request with a head, and the file by sendfile
//
// A request is whatever one recv gives; HEAD is recognised by its first byte. It runs until it is killed.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <unordered_map>

#include <fmt/format.h>

namespace {

struct Floor {
  std::string head;
  std::string body;  // sent with the head in one send
  int file = -1;     // sent behind the head
  off_t file_size = 0;
  int epoll = -1;
  std::unordered_map<int, off_t> sending;  // connections in the middle of the file, with the offset
};

[[noreturn]] void fail(const char* what) {
  fmt::print(stderr, "bench_floor: {}: {}\n", what, std::strerror(errno));
  std::exit(1);
}

int listen_on(const std::string& text) {
  const std::size_t colon = text.rfind(':');
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(std::atoi(text.substr(colon + 1).c_str())));
  ::inet_pton(AF_INET, text.substr(0, colon).c_str(), &address.sin_addr);
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  const int on = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) fail("bind");
  if (::listen(fd, 4096) != 0) fail("listen");
  return fd;
}

void watch(const Floor& floor, int fd, std::uint32_t events, int operation) {
  epoll_event event{events, {}};
  event.data.fd = fd;
  ::epoll_ctl(floor.epoll, operation, fd, &event);
}

void drop(Floor& floor, int fd) {
  floor.sending.erase(fd);
  ::close(fd);
}

void send_file(Floor& floor, int fd, off_t at) {
  // In turns, as every server must that has more than one connection.
  const ssize_t sent = ::sendfile(fd, floor.file, &at, std::size_t{1} << 20);
  if (sent < 0 && errno != EAGAIN) return drop(floor, fd);
  const bool was_sending = floor.sending.contains(fd);
  if (at < floor.file_size) {
    floor.sending[fd] = at;
    if (!was_sending) watch(floor, fd, EPOLLOUT, EPOLL_CTL_MOD);
  } else if (was_sending) {
    floor.sending.erase(fd);
    watch(floor, fd, EPOLLIN, EPOLL_CTL_MOD);
  }
}

void answer(Floor& floor, int fd) {
  char buffer[4096];
  const ssize_t n = ::recv(fd, buffer, sizeof buffer, 0);
  if (n <= 0) return drop(floor, fd);
  const bool is_head = buffer[0] == 'H';
  if (floor.file < 0) {
    const std::string& whole = floor.body;
    if (::send(fd, whole.data(), is_head ? floor.head.size() : whole.size(), MSG_NOSIGNAL) < 0) drop(floor, fd);
    return;
  }
  if (::send(fd, floor.head.data(), floor.head.size(), MSG_NOSIGNAL | (is_head ? 0 : MSG_MORE)) < 0)
    return drop(floor, fd);
  if (!is_head) send_file(floor, fd, 0);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    fmt::print(stderr, "usage: bench_floor ADDR:PORT bytes N | file PATH\n");
    return 2;
  }
  Floor floor;
  std::size_t size = 0;
  if (std::string_view(argv[2]) == "file") {
    floor.file = ::open(argv[3], O_RDONLY | O_CLOEXEC);
    struct stat status{};
    if (floor.file < 0 || ::fstat(floor.file, &status) != 0) fail(argv[3]);
    floor.file_size = status.st_size;
    size = static_cast<std::size_t>(status.st_size);
  } else {
    size = static_cast<std::size_t>(std::atoll(argv[3]));
  }
  // About as long as the head of a manifest or blob.
  floor.head = fmt::format("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nX-Fill: {}\r\n\r\n", size, std::string(330, 'x'));
  if (floor.file < 0) floor.body = floor.head + std::string(size, 'x');

  ::signal(SIGPIPE, SIG_IGN);  // of sendfile to a client that has left; send() has MSG_NOSIGNAL
  const int listener = listen_on(argv[1]);
  floor.epoll = ::epoll_create1(EPOLL_CLOEXEC);
  watch(floor, listener, EPOLLIN, EPOLL_CTL_ADD);
  epoll_event events[256];
  for (;;) {
    const int ready = ::epoll_wait(floor.epoll, events, 256, -1);
    for (int i = 0; i < ready; ++i) {
      const int fd = events[i].data.fd;
      if (fd == listener) {
        const int accepted = ::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
        const int on = 1;
        ::setsockopt(accepted, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (accepted >= 0) watch(floor, accepted, EPOLLIN, EPOLL_CTL_ADD);
      } else if (const auto at = floor.sending.find(fd); at != floor.sending.end()) {
        send_file(floor, fd, at->second);
      } else {
        answer(floor, fd);
      }
    }
  }
}
