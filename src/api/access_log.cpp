#include "api/access_log.hpp"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <ctime>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/log.hpp"

namespace sluice::api {
namespace {

constexpr int kStandardOutput = STDOUT_FILENO;
// No text of a client takes more of a line than this; what is longer is cut and ends with "...".
constexpr std::size_t kMaxValueBytes = 512;
// What waits at most for a pipe whose reader is slow.
constexpr std::size_t kMaxPendingBytes = std::size_t{1} << 20;
constexpr std::chrono::milliseconds kNoPatience{0};
constexpr std::chrono::milliseconds kLastPatience{1000};

// One thread's lines. `mutex` is only ever contended by flush().
struct Buffer {
  std::mutex mutex;  // guards text
  std::string text;
};

void append_number(std::string& out, std::uint64_t number) {
  std::array<char, 20> digits{};
  const auto [end, ec] = std::to_chars(digits.data(), digits.data() + digits.size(), number);
  out.append(digits.data(), end);
}

// Seconds with microseconds: "0.000213".
void append_seconds(std::string& out, std::chrono::nanoseconds duration) {
  const auto us = static_cast<std::uint64_t>(std::max<std::int64_t>(duration.count(), 0)) / 1000;
  append_number(out, us / 1'000'000);
  std::array<char, 7> fraction{'.'};
  std::uint64_t rest = us % 1'000'000;
  for (std::size_t i = 6; i >= 1; --i) {
    fraction[i] = static_cast<char>('0' + rest % 10);
    rest /= 10;
  }
  out.append(fraction.data(), fraction.size());
}

// "2026-11-20T23:19:28.123Z". The part up to the seconds is kept per thread, because gmtime costs more than all the
// rest.
void append_time(std::string& out) {
  thread_local std::time_t cached_second = -1;
  thread_local std::array<char, 20> cached{};
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  if (now.tv_sec != cached_second) {
    std::tm parts{};
    ::gmtime_r(&now.tv_sec, &parts);
    std::strftime(cached.data(), cached.size(), "%Y-%m-%dT%H:%M:%S", &parts);
    cached_second = now.tv_sec;
  }
  const auto ms = static_cast<unsigned>(now.tv_nsec / 1'000'000);
  const std::array<char, 5> fraction{'.', static_cast<char>('0' + ms / 100), static_cast<char>('0' + ms / 10 % 10),
                                     static_cast<char>('0' + ms % 10), 'Z'};
  out.append(cached.data(), 19).append(fraction.data(), fraction.size());
}

// What a value of logfmt may hold without quotes.
constexpr std::array<bool, 256> kPlain = [] {
  std::array<bool, 256> out{};
  for (std::size_t c = 0x21; c < 0x7F; ++c) out[c] = c != '"' && c != '\\' && c != '=';
  return out;
}();

bool is_plain(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return kPlain[static_cast<unsigned char>(c)]; });
}

// A field's name as it stands before its value.
struct Key {
  std::string_view text;
  std::string_view json;
};

// A text that came from outside, so cut to a bound; escaped by JSON's rules, which let no control character through.
void append_value(std::string& out, std::string_view text, bool quotes) {
  const bool cut = text.size() > kMaxValueBytes;
  if (cut) text = text.substr(0, kMaxValueBytes);
  if (quotes) out += '"';
  log::append_json_escaped(out, text);
  if (cut) out += "...";
  if (quotes) out += '"';
}

class TextLine {
 public:
  explicit TextLine(std::string& out) : out_(out) {
    out_ += "time=";
    append_time(out_);
  }
  void text(Key key, std::string_view value) {
    if (value.empty()) return;
    start(key);
    append_value(out_, value, !is_plain(value));
  }
  void number(Key key, std::uint64_t value) {
    start(key);
    append_number(out_, value);
  }
  void seconds(Key key, std::chrono::nanoseconds value) {
    start(key);
    append_seconds(out_, value);
  }
  void end() { out_ += '\n'; }

 private:
  void start(Key key) { out_ += key.text; }
  std::string& out_;
};

class JsonLine {
 public:
  explicit JsonLine(std::string& out) : out_(out) {
    out_ += R"({"time":")";
    append_time(out_);
    out_ += '"';
  }
  void text(Key key, std::string_view value) {
    if (value.empty()) return;
    start(key);
    append_value(out_, value, true);
  }
  void number(Key key, std::uint64_t value) {
    start(key);
    append_number(out_, value);
  }
  void seconds(Key key, std::chrono::nanoseconds value) {
    start(key);
    append_seconds(out_, value);
  }
  void end() { out_ += "}\n"; }

 private:
  void start(Key key) { out_ += key.json; }
  std::string& out_;
};

template <class Line>
void format(std::string& out, const AccessRecord& record) {
  Line line(out);
  line.text({" id=", R"(,"id":)"}, record.request_id);
  line.text({" client=", R"(,"client":)"}, record.client);
  line.text({" method=", R"(,"method":)"}, record.method);
  if (record.repository.empty()) line.text({" target=", R"(,"target":)"}, record.target);
  line.text({" upstream=", R"(,"upstream":)"}, record.upstream);
  line.text({" repository=", R"(,"repository":)"}, record.repository);
  line.text({" reference=", R"(,"reference":)"}, record.reference);
  line.number({" status=", R"(,"status":)"}, record.status);
  line.number({" bytes=", R"(,"bytes":)"}, record.bytes);
  if (!record.complete) line.text({" end=", R"(,"end":)"}, "broken");
  line.text({" cache=", R"(,"cache":)"}, name(record.cache));
  line.seconds({" first_byte_s=", R"(,"first_byte_s":)"}, record.first_byte);
  line.seconds({" total_s=", R"(,"total_s":)"}, record.total);
  line.text({" user_agent=", R"(,"user_agent":)"}, record.user_agent);
  line.end();
}

Result<int> open_for_append(const std::filesystem::path& file) {
  if (file == "-") return kStandardOutput;
  const int fd = ::open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
  if (fd < 0) return errno_error(errno, "open access log " + file.string());
  return fd;
}

bool is_regular(int fd) {
  struct stat st{};
  return ::fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

std::uint64_t next_identity() {
  static std::atomic<std::uint64_t> next{1};
  return next.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace

struct AccessLog::State {
  State(const Params& p, int opened) : params(p), fd(opened) {}
  ~State() {
    if (fd != kStandardOutput) ::close(fd);
  }

  // The calling thread's buffer in this log. A thread remembers the log it wrote to last; the program has one.
  Buffer& buffer() {
    thread_local std::uint64_t remembered_identity = 0;
    thread_local std::shared_ptr<Buffer> remembered;
    if (remembered_identity != identity) {
      auto made = std::make_shared<Buffer>();
      made->text.reserve(params.buffer_bytes + 4 * kMaxValueBytes);
      {
        const std::scoped_lock lock(buffers_mutex);
        buffers.push_back(made);
      }
      remembered = std::move(made);
      remembered_identity = identity;
    }
    return *remembered;
  }

  void flush(std::chrono::milliseconds patience) {
    const std::scoped_lock lock(buffers_mutex);
    // Held by nobody else: that of a thread that has ended, so that these are its last lines. Asked before they are
    // taken, because it may write and end in between.
    std::erase_if(buffers, [&](const std::shared_ptr<Buffer>& buffer) {
      const bool last = buffer.use_count() == 1;
      const std::scoped_lock buffer_lock(buffer->mutex);
      put(buffer->text, patience);
      return last;
    });
  }

  // Empties `text`, whole lines, into the file. What a pipe does not take within `patience` waits in `pending` for the
  // next call, so that a reader of ours that stalls stops no event loop; what exceeds that bound is dropped.
  void put(std::string& text, std::chrono::milliseconds patience) {
    const std::scoped_lock lock(file_mutex);
    if (pending.empty()) {
      pending.swap(text);
    } else if (pending.size() + text.size() <= kMaxPendingBytes) {
      pending += text;
    } else {
      complain("access log " + params.file.string() + " takes nothing: lines are dropped");
    }
    text.clear();
    drain(patience);
  }

 private:
  void drain(std::chrono::milliseconds patience) {
    std::string_view rest = pending;
    while (!rest.empty()) {
      // POLLOUT promises a pipe room for PIPE_BUF bytes, so a write of no more does not block.
      pollfd ready{fd, POLLOUT, 0};
      if (!regular && ::poll(&ready, 1, static_cast<int>(patience.count())) == 0) break;
      const ssize_t n = ::write(fd, rest.data(), regular ? rest.size() : std::min<std::size_t>(rest.size(), PIPE_BUF));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) {
        complain(errno_error(errno, "write access log " + params.file.string()).message);
        pending.clear();
        return;
      }
      rest.remove_prefix(static_cast<std::size_t>(n));
    }
    if (rest.empty()) failing = false;
    pending.erase(0, pending.size() - rest.size());
  }

  // Once for each row of failures.
  void complain(const std::string& message) {
    if (!failing) log::warn("proxy", message);
    failing = true;
  }

 public:
  const Params params;
  const std::uint64_t identity = next_identity();

  std::mutex buffers_mutex;  // guards buffers; taken before a buffer's own
  std::vector<std::shared_ptr<Buffer>> buffers;

  std::mutex file_mutex;  // guards what is below; taken after a buffer's
  int fd;
  bool regular = is_regular(fd);
  bool failing = false;
  std::string pending;  // starts with the rest of a line when a write was short
};

Result<std::unique_ptr<AccessLog>> AccessLog::open(const Params& params) {
  int fd = kStandardOutput;
  if (params.enabled) {
    const Result<int> opened = open_for_append(params.file);
    if (!opened) return opened.error();
    fd = *opened;
  }
  return std::unique_ptr<AccessLog>(new AccessLog(std::make_unique<State>(params, fd)));
}

AccessLog::AccessLog(std::unique_ptr<State> state) : state_(std::move(state)) {}

AccessLog::~AccessLog() { state_->flush(kLastPatience); }

void AccessLog::write(const AccessRecord& record) {
  if (state_->params.also) state_->params.also(record);
  if (!state_->params.enabled) return;
  Buffer& buffer = state_->buffer();
  const std::scoped_lock lock(buffer.mutex);
  if (state_->params.format == log::Format::json) {
    format<JsonLine>(buffer.text, record);
  } else {
    format<TextLine>(buffer.text, record);
  }
  if (buffer.text.size() > state_->params.buffer_bytes) state_->put(buffer.text, kNoPatience);
}

void AccessLog::flush() { state_->flush(kNoPatience); }

Result<void> AccessLog::reopen() {
  if (!state_->params.enabled || state_->params.file == "-") return {};
  flush();  // lines from before belong into the old file
  const Result<int> opened = open_for_append(state_->params.file);
  if (!opened) return opened.error();
  const std::scoped_lock lock(state_->file_mutex);
  ::close(std::exchange(state_->fd, *opened));
  state_->regular = is_regular(state_->fd);
  return {};
}

}  // namespace sluice::api
