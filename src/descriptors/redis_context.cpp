#include "descriptors/redis_context.hpp"

#include <exception>
#include <utility>

#include <boost/asio/post.hpp>

namespace sluice::descriptors {
namespace {

namespace asio = boost::asio;

// The longest array that we ask for has a handful of elements.
constexpr int kMaxElements = 1024;
// Nor is any answer of ours longer than a few hundred bytes.
constexpr std::size_t kMaxUnparsedBytes = 1024 * 1024;

}  // namespace

// What hiredis calls. Each is called from within step() or close().
struct RedisContext::Hooks {
  static RedisContext& of(void* data) noexcept { return *static_cast<RedisContext*>(data); }

  static void add_read(void* data) noexcept {
    of(data).want_read_ = true;
    of(data).wait_to_read();
  }
  static void del_read(void* data) noexcept { of(data).want_read_ = false; }
  static void add_write(void* data) noexcept {
    RedisContext& self = of(data);
    self.want_write_ = true;
    // What is in the buffer now is usually taken by the socket at once, without asking the reactor; only when that
    // did not work out, or before there is a connection, is it waited for.
    if (self.in_hiredis_ || !self.is_connected()) {
      self.wait_to_write();
    } else {
      self.flush_soon();
    }
  }
  static void del_write(void* data) noexcept { of(data).want_write_ = false; }

  // The context is about to be freed, with its socket, by whatever way.
  static void cleanup(void* data) noexcept {
    RedisContext& self = of(data);
    try {
      if (self.why_.empty()) self.why_ = self.context_->err != 0 ? self.context_->errstr : "closed";
      // hiredis closes the socket itself.
      if (self.descriptor_.is_open()) self.descriptor_.release();
    } catch (const std::exception&) {
      // Without memory for the reason, it goes without one.
    }
    self.context_ = nullptr;
    self.want_read_ = self.want_write_ = false;
  }

  static void on_connect(const redisAsyncContext*, int) noexcept {}

  static void on_reply(redisAsyncContext*, void* reply, void* data) noexcept {
    if (reply == nullptr) return;  // the connection is being given up, which is told once for all
    RedisContext& self = of(data);
    try {
      self.replies_.push_back(RedisReply::from(*static_cast<redisReply*>(reply)));
    } catch (const std::exception&) {
      self.why_ = "out of memory";
    }
  }

  static RedisContext& of(const redisReadTask* task) noexcept { return of(task->privdata); }
  static void* create_string(const redisReadTask* task, char* text, std::size_t length) noexcept {
    RedisContext& self = of(task);
    return self.may_begin(*task) ? self.default_functions_->createString(task, text, length) : nullptr;
  }
  static void* create_array(const redisReadTask* task, int elements) noexcept {
    RedisContext& self = of(task);
    if (elements > kMaxElements || !self.may_begin(*task)) return nullptr;
    return self.default_functions_->createArray(task, elements);
  }
  static void* create_integer(const redisReadTask* task, long long value) noexcept {
    RedisContext& self = of(task);
    return self.may_begin(*task) ? self.default_functions_->createInteger(task, value) : nullptr;
  }
  static void* create_nil(const redisReadTask* task) noexcept {
    RedisContext& self = of(task);
    return self.may_begin(*task) ? self.default_functions_->createNil(task) : nullptr;
  }
};

RedisContext::RedisContext(runtime::Loop& loop, Listener& listener)
    : loop_(loop), listener_(&listener), descriptor_(loop.get_executor()) {}

RedisContext::~RedisContext() { close(); }

Result<std::shared_ptr<RedisContext>> RedisContext::connect(runtime::Loop& loop, Listener& listener,
                                                            const std::string& ip, std::uint16_t port) {
  auto made = std::make_shared<RedisContext>(loop, listener);
  // An address in digits, so that getaddrinfo inside asks nobody.
  if (Result<void> attached = made->attach(::redisAsyncConnect(ip.c_str(), port)); !attached) return attached.error();
  return made;
}

Result<std::shared_ptr<RedisContext>> RedisContext::connect(runtime::Loop& loop, Listener& listener,
                                                            const std::string& path) {
  auto made = std::make_shared<RedisContext>(loop, listener);
  if (Result<void> attached = made->attach(::redisAsyncConnectUnix(path.c_str())); !attached) return attached.error();
  return made;
}

Result<void> RedisContext::attach(redisAsyncContext* context) {
  if (context == nullptr) return Error(Errc::upstream_unreachable, "out of memory");
  if (context->err != 0) {
    Error error(Errc::upstream_unreachable, context->errstr);
    ::redisAsyncFree(context);
    return error;
  }
  boost::system::error_code ec;
  descriptor_.assign(context->c.fd, ec);
  if (ec) {
    ::redisAsyncFree(context);
    return Error(Errc::upstream_unreachable, ec.message());
  }
  context_ = context;
  context_->ev.data = this;
  context_->ev.addRead = &Hooks::add_read;
  context_->ev.delRead = &Hooks::del_read;
  context_->ev.addWrite = &Hooks::add_write;
  context_->ev.delWrite = &Hooks::del_write;
  context_->ev.cleanup = &Hooks::cleanup;
  redisReader& reader = *context_->c.reader;
  default_functions_ = reader.fn;
  functions_ = *reader.fn;
  functions_.createString = &Hooks::create_string;
  functions_.createArray = &Hooks::create_array;
  functions_.createInteger = &Hooks::create_integer;
  functions_.createNil = &Hooks::create_nil;
  reader.fn = &functions_;
  reader.privdata = this;
  // Has it wait for the end of connecting.
  ::redisAsyncSetConnectCallback(context_, &Hooks::on_connect);
  return {};
}

bool RedisContext::is_connected() const noexcept {
  return context_ != nullptr && (context_->c.flags & REDIS_CONNECTED) != 0;
}

// Whether an answer may begin here; one that nobody asked for, and is no error, may not.
bool RedisContext::may_begin(const redisReadTask& task) noexcept {
  if (task.parent != nullptr) return true;
  if (expected_ == 0) return task.type == REDIS_REPLY_ERROR;
  --expected_;
  return true;
}

bool RedisContext::send(const RedisCommand& command) {
  if (context_ == nullptr) return false;
  std::vector<const char*> words;
  std::vector<std::size_t> lengths;
  words.reserve(command.size());
  lengths.reserve(command.size());
  for (const std::string& word : command) {
    words.push_back(word.data());
    lengths.push_back(word.size());
  }
  const int sent = ::redisAsyncCommandArgv(context_, &Hooks::on_reply, this, static_cast<int>(words.size()),
                                           words.data(), lengths.data());
  if (sent != REDIS_OK) return false;
  ++expected_;
  return true;
}

void RedisContext::close() noexcept {
  listener_ = nullptr;
  // Completes what is in flight with nothing, and calls cleanup.
  if (context_ != nullptr) ::redisAsyncFree(context_);
}

// Lets hiredis work, and tells afterwards what came of it.
template <class Step>
void RedisContext::step(Step step) {
  in_hiredis_ = true;
  step(context_);
  in_hiredis_ = false;
  // A half answer grows without bound only when somebody means harm.
  if (context_ != nullptr && context_->c.reader->len - context_->c.reader->pos > kMaxUnparsedBytes) {
    why_ = "an answer without end";
  }
  if (context_ != nullptr && !why_.empty()) ::redisAsyncFree(context_);
  deliver();
}

void RedisContext::deliver() {
  if (listener_ != nullptr && !told_connected_ && is_connected()) {
    told_connected_ = true;
    listener_->connected();
  }
  std::vector<RedisReply> replies = std::exchange(replies_, {});
  for (RedisReply& reply : replies) {
    if (listener_ == nullptr) return;
    listener_->replied(std::move(reply));
  }
  if (context_ != nullptr) return;
  if (Listener* const listener = std::exchange(listener_, nullptr)) listener->broken(std::move(why_));
}

void RedisContext::wait_to_read() {
  if (reading_ || context_ == nullptr) return;
  reading_ = true;
  descriptor_.async_wait(asio::posix::descriptor_base::wait_read,
                         [self = shared_from_this()](const boost::system::error_code& ec) {
                           self->reading_ = false;
                           if (ec || self->context_ == nullptr || !self->want_read_) return;
                           self->step(&::redisAsyncHandleRead);
                           if (self->want_read_) self->wait_to_read();
                         });
}

void RedisContext::wait_to_write() {
  if (writing_ || context_ == nullptr) return;
  writing_ = true;
  descriptor_.async_wait(asio::posix::descriptor_base::wait_write,
                         [self = shared_from_this()](const boost::system::error_code& ec) {
                           self->writing_ = false;
                           if (ec || self->context_ == nullptr || !self->want_write_) return;
                           self->step(&::redisAsyncHandleWrite);
                           if (self->want_write_) self->wait_to_write();
                         });
}

// At the end of this turn of the loop, with all that was queued in it.
void RedisContext::flush_soon() {
  if (flush_posted_) return;
  flush_posted_ = true;
  asio::post(loop_.get_executor(), [self = shared_from_this()] {
    self->flush_posted_ = false;
    if (self->context_ == nullptr || !self->want_write_) return;
    self->step(&::redisAsyncHandleWrite);
  });
}

}  // namespace sluice::descriptors
