// A blocking HTTP client that tells exactly what came and how it ended. Every wait ends after twenty seconds, so that a
// hang is a failed test.
//
// Threads: one at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sluice::test {

using Fields = std::vector<std::pair<std::string, std::string>>;

struct Response {
  unsigned status = 0;  // 0: no head came
  Fields fields;        // names in lower case
  std::string body;
  bool complete = false;  // as long as its framing says; one that only the connection's end ends is always complete
  bool reset = false;     // the connection ended by RST

  // Joined by ", "; empty where there is none.
  [[nodiscard]] std::string field(std::string_view name) const;
};

class Client {
 public:
  // `receive_buffer` of 0 leaves it to the kernel. It comes from 127.0.0.`host`.
  explicit Client(std::uint16_t port, int receive_buffer = 0, std::uint8_t host = 1);
  Client(Client&& other) noexcept;
  Client& operator=(Client&&) = delete;
  ~Client();

  void send(std::string_view method, std::string_view target, const Fields& fields = {},
            std::string_view version = "HTTP/1.1");
  void send_raw(std::string_view bytes);

  // The head; `body`, `complete` and `reset` are not set yet.
  Response read_head();
  // Up to `count` bytes of a body with a length; fewer when the connection ends.
  std::string read_bytes(std::size_t count);
  // What is left of the answer whose head this is. `to_head`: it has no body.
  void read_rest(Response& response, bool to_head = false);
  Response read_response(bool to_head = false);

  // Closes with FIN, or with RST where unread bytes are left.
  void close();

 private:
  bool receive();
  bool take_line(std::string& line);
  void read_chunks(Response& response);

  int fd_;
  std::string buffer_;
  bool reset_ = false;
};

// One request on a connection of its own.
Response fetch(std::uint16_t port, std::string_view method, std::string_view target, const Fields& fields = {},
               std::string_view version = "HTTP/1.1");
inline Response get(std::uint16_t port, std::string_view target, const Fields& fields = {}) {
  return fetch(port, "GET", target, fields);
}
inline Response head(std::uint16_t port, std::string_view target, const Fields& fields = {}) {
  return fetch(port, "HEAD", target, fields);
}

}  // namespace sluice::test
