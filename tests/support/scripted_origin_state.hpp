// The inside of ScriptedOrigin: shared by its two sources, not for tests.
#pragma once

#include <atomic>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "support/scripted_origin.hpp"

struct ssl_st;

namespace sluice::test {

// A connection's socket, with or without TLS. Blocking; write and read give up when the socket is shut down.
class Wire {
 public:
  Wire(int fd, ssl_ctx_st* tls);
  ~Wire();
  Wire(const Wire&) = delete;
  Wire& operator=(const Wire&) = delete;

  bool accept_tls();
  // Bytes read, 0 at the end or an error.
  std::size_t read(char* into, std::size_t size);
  bool write(std::string_view bytes);
  // Whether the client has closed. Plain connections only; false when in doubt.
  [[nodiscard]] bool peer_gone() const;
  // The destructor resets the connection instead of ending it.
  void reset_on_close();

 private:
  int fd_;
  ssl_ctx_st* tls_context_;
  ssl_st* tls_ = nullptr;
};

struct ScriptedOrigin::State {
  struct Item {
    std::string content;
    std::string media_type;
    std::string digest;
  };
  struct Connection {
    int fd = -1;
    std::thread thread;
    bool finished = false;
  };

  explicit State(Params settings);
  ~State();

  void listen();
  void accept_all();
  void serve(std::size_t number, int fd);
  bool answer(Wire& wire, const Request& request);
  bool send_reply(Wire& wire, const Request& request, const Reply& reply);
  bool send_body(Wire& wire, const Reply& reply, std::string_view body, std::uint64_t first);
  std::optional<Reply> refuse(const Request& request);
  Reply token(const Request& request);
  Reply decide(const Request& request);
  [[nodiscard]] Reply from_table(const Request& request) const;
  void count_body(std::size_t bytes);

  const Params params;
  int listener = -1;
  std::uint16_t port = 0;
  std::atomic<bool> stopping{false};
  std::thread acceptor;

  mutable std::mutex mutex;  // guards everything below
  mutable std::condition_variable changed;
  Seen seen;
  std::map<std::size_t, Connection> connections;
  std::unordered_map<std::string, Item> items;  // by path
  std::unordered_map<std::string, std::deque<Reply>> scripts;
  std::unordered_map<std::string, Responder> responders;
  Responder everywhere;
  std::string realm;  // empty: no token needed
  std::string service;
  std::string token_authorization;
  std::string basic_authorization;
  std::size_t tokens = 0;
  std::set<std::string> valid_tokens;
};

}  // namespace sluice::test
