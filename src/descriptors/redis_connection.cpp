#include "descriptors/redis_connection.hpp"

#include <cassert>
#include <utility>

#include <boost/asio/ip/address.hpp>
#include <boost/asio/post.hpp>

#include <fmt/format.h>

namespace sluice::descriptors {
namespace {

namespace asio = boost::asio;
using Reason = RedisFailure::Reason;

// A hash in distribution's family of keys, so that an ACL for those allows it, and no digest's.
constexpr const char* kProbeKey = "blobs::probe";

}  // namespace

RedisConnection::RedisConnection(runtime::Loop& loop, runtime::Resolver& resolver, const RedisParams& params,
                                 Owner& owner)
    : loop_(loop), resolver_(resolver), params_(params), owner_(&owner), deadline_(loop, [this] { expired(); }) {}

RedisConnection::~RedisConnection() { close({Reason::closed, "closed"}); }

void RedisConnection::open(const RedisAddress& address, std::chrono::milliseconds patience) {
  assert(state_ == State::idle);
  const auto self = shared_from_this();
  address_ = address;
  patience_ = patience;
  boost::system::error_code not_an_ip;
  if (!address.path.empty()) {
    ips_.push_back(address.path);
  } else if (asio::ip::make_address(address.host, not_an_ip); !not_an_ip) {
    ips_.push_back(address.host);
  } else {
    resolve();
    return;
  }
  connect_next();
}

void RedisConnection::resolve() {
  state_ = State::resolving;
  deadline_.arm(params_.connect_timeout);
  auto inquiry = resolver_.inquire(address_.host, loop_.get_executor(),
                                   [weak = weak_from_this()](const Result<runtime::Resolver::Addresses>& found) {
                                     const auto self = weak.lock();
                                     if (!self || self->state_ != State::resolving) return;
                                     self->inquiry_.reset();
                                     if (!found) return self->fail(Reason::connect, found.error().message);
                                     for (const auto& ip : *found) self->ips_.push_back(ip.to_string());
                                     self->connect_next();
                                   });
  if (!inquiry) return fail(Reason::connect, inquiry.error().message);
  inquiry_ = std::move(*inquiry);
}

void RedisConnection::connect_next() {
  state_ = State::connecting;
  if (context_) std::exchange(context_, nullptr)->close();
  while (!ips_.empty()) {
    const std::string next = std::move(ips_.front());
    ips_.pop_front();
    Result<std::shared_ptr<RedisContext>> started = address_.path.empty()
                                                        ? RedisContext::connect(loop_, *this, next, address_.port)
                                                        : RedisContext::connect(loop_, *this, next);
    if (started) {
      context_ = std::move(*started);
      deadline_.arm(params_.connect_timeout);
      return;
    }
    last_failure_ = started.error().message;
  }
  fail(Reason::connect, last_failure_.empty() ? "its name has no address" : last_failure_);
}

void RedisConnection::connected() {
  if (state_ != State::connecting) return;
  state_ = State::greeting;
  deadline_.arm(patience_);
  greet();
}

void RedisConnection::greet() {
  const auto say = [&](RedisCommand command) {
    greeting_.push_back(command.front());
    return context_->send(command);
  };
  bool sent = true;
  // Only the first time.
  if (greeted_at_ == std::chrono::steady_clock::time_point{}) {
    if (!params_.username.empty()) {
      sent = say({"AUTH", params_.username, params_.password});
    } else if (!params_.password.empty()) {
      sent = say({"AUTH", params_.password});
    }
    if (params_.database != 0) sent = sent && say({"SELECT", std::to_string(params_.database)});
  }
  greeted_at_ = std::chrono::steady_clock::now();
  if (!sent || !say({"HDEL", kProbeKey, "digest"})) fail(Reason::broken, "the greeting could not be sent");
}

void RedisConnection::greeted(const RedisReply& reply) {
  const std::string command = std::move(greeting_.front());
  greeting_.pop_front();
  if (reply.type == RedisReply::Type::error) {
    return fail(Reason::refused, fmt::format("{} is refused: {}", command, reply.text.substr(0, 200)));
  }
  const RedisReply::Type expected = command == "HDEL" ? RedisReply::Type::integer : RedisReply::Type::status;
  if (reply.type != expected) return fail(Reason::nonsense, fmt::format("no proper answer to {}", command));
  if (!greeting_.empty()) return;
  // What comes so late would be given up if it were somebody's answer.
  if (std::chrono::steady_clock::now() - greeted_at_ > params_.command_timeout) return greet();
  deadline_.disarm();
  state_ = State::ready;
  owner_->ready(*this);
}

void RedisConnection::send(std::shared_ptr<RedisBatch> batch) {
  assert(state_ == State::ready);
  batch->connection = this;
  for (const RedisCommand& command : batch->commands) {
    if (context_->send(command)) continue;
    // hiredis has no memory, or is giving the connection up: half a batch must not be answered as a whole one.
    batches_.push_back(std::move(batch));
    asio::post(loop_.get_executor(), [weak = weak_from_this()] {
      if (const auto self = weak.lock()) self->fail(Reason::broken, "a command could not be sent");
    });
    return;
  }
  batches_.push_back(std::move(batch));
}

void RedisConnection::replied(RedisReply reply) {
  const auto self = shared_from_this();
  if (state_ == State::greeting) return greeted(reply);
  if (state_ != State::ready || batches_.empty()) return;
  RedisBatch& front = *batches_.front();
  front.replies.push_back(std::move(reply));
  if (front.replies.size() < front.commands.size()) return;
  const std::shared_ptr<RedisBatch> done = std::move(batches_.front());
  batches_.pop_front();
  done->complete();
}

void RedisConnection::broken(std::string why) {
  const auto self = shared_from_this();
  if (state_ == State::connecting) {
    last_failure_ = std::move(why);
    return connect_next();
  }
  fail(Reason::broken, why);
}

void RedisConnection::expired() {
  const auto self = shared_from_this();
  if (state_ == State::resolving) return fail(Reason::timeout, "its name could not be looked up in time");
  if (state_ == State::greeting) return fail(Reason::timeout, "no answer");
  if (state_ != State::connecting) return;
  last_failure_ = "connecting took too long";
  connect_next();
}

void RedisConnection::fail(RedisFailure::Reason reason, std::string_view why) {
  if (state_ == State::closed) return;
  const auto self = shared_from_this();
  const RedisFailure failure{reason, fmt::format("{}: {}", address_.to_string(), why)};
  close(failure);
  if (owner_ != nullptr) owner_->closed(*this, failure);
}

void RedisConnection::close(const RedisFailure& why) {
  if (state_ == State::closed) return;
  state_ = State::closed;
  deadline_.disarm();
  inquiry_.reset();
  if (context_) std::exchange(context_, nullptr)->close();
  for (const auto& batch : std::exchange(batches_, {})) batch->fail(why);
}

}  // namespace sluice::descriptors
