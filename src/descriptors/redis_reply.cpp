#include "descriptors/redis_reply.hpp"

#include <charconv>

#include <hiredis/hiredis.h>

#include <fmt/format.h>

namespace sluice::descriptors {
namespace {

constexpr std::size_t kMaxMediaTypeBytes = 255;  // RFC 6838 section 4.2: twice 127 and a slash

std::string_view name(RedisReply::Type type) {
  switch (type) {
    case RedisReply::Type::nil: return "nothing";
    case RedisReply::Type::integer: return "a number";
    case RedisReply::Type::text: return "a text";
    case RedisReply::Type::status: return "a status";
    case RedisReply::Type::error: return "an error";
    case RedisReply::Type::array: break;
  }
  return "an array";
}

Error unexpected(std::string_view command, const RedisReply& reply) {
  if (reply.type == RedisReply::Type::error) {
    return {Errc::corrupt, fmt::format("Redis answers {} with: {}", command, reply.text.substr(0, 200))};
  }
  return {Errc::corrupt, fmt::format("Redis answers {} with {}", command, name(reply.type))};
}

bool is_media_type(std::string_view text) {
  for (const char c : text) {
    if (c <= ' ' || c > '~') return false;
  }
  return text.size() <= kMaxMediaTypeBytes;
}

}  // namespace

RedisReply RedisReply::from(const redisReply& reply) {
  RedisReply out;
  const auto text = [&] { return reply.str == nullptr ? std::string() : std::string(reply.str, reply.len); };
  switch (reply.type) {
    case REDIS_REPLY_NIL: break;
    case REDIS_REPLY_INTEGER:
      out.type = Type::integer;
      out.integer = reply.integer;
      break;
    case REDIS_REPLY_STRING:
      out.type = Type::text;
      out.text = text();
      break;
    case REDIS_REPLY_STATUS:
      out.type = Type::status;
      out.text = text();
      break;
    case REDIS_REPLY_ERROR:
      out.type = Type::error;
      out.text = text();
      break;
    case REDIS_REPLY_ARRAY:
      out.type = Type::array;
      for (std::size_t i = 0; i < reply.elements; ++i) out.elements.push_back(from(*reply.element[i]));
      break;
    default: out.type = Type::error; out.text = "an answer of an unknown type";
  }
  return out;
}

RedisVerdict verdict_on(const RedisReply& reply) {
  if (reply.type == RedisReply::Type::array) {
    for (const RedisReply& element : reply.elements) {
      if (const RedisVerdict verdict = verdict_on(element); verdict != RedisVerdict::fine) return verdict;
    }
  }
  if (reply.type != RedisReply::Type::error) return RedisVerdict::fine;
  if (reply.text.starts_with("WRONGTYPE")) return RedisVerdict::wrong_type;
  if (reply.text.starts_with("OOM")) return RedisVerdict::full;
  // EXECABORT follows an error that was told when the command was queued, which counts.
  if (reply.text.starts_with("EXECABORT")) return RedisVerdict::fine;
  return RedisVerdict::refused;
}

Result<bool> read_membership(const RedisReply& reply) {
  if (reply.type != RedisReply::Type::integer || reply.integer < 0 || reply.integer > 1) {
    return unexpected("SISMEMBER", reply);
  }
  return reply.integer == 1;
}

Result<oci::Descriptor> read_descriptor(const RedisReply& reply) {
  using Type = RedisReply::Type;
  if (reply.type != Type::array || reply.elements.size() != 3) return unexpected("HMGET", reply);
  for (const RedisReply& element : reply.elements) {
    if (element.type != Type::nil && element.type != Type::text) return unexpected("HMGET", element);
  }
  // distribution, too, takes a hash without a size for none: the field was once called length.
  if (reply.elements[0].type == Type::nil || reply.elements[1].type == Type::nil) return Error(Errc::blob_unknown);

  oci::Descriptor out;
  const Result<oci::Digest> digest = oci::Digest::parse(reply.elements[0].text);
  if (!digest) return Error(Errc::corrupt, "invalid digest in Redis");
  out.digest = *digest;
  const std::string& size = reply.elements[1].text;
  const auto [end, ec] = std::from_chars(size.data(), size.data() + size.size(), out.size);
  if (ec != std::errc{} || end != size.data() + size.size() || out.size >> 63U != 0) {
    return Error(Errc::corrupt, "invalid size in Redis");
  }
  out.media_type = reply.elements[2].text;
  if (!is_media_type(out.media_type)) return Error(Errc::corrupt, "invalid media type in Redis");
  return out;
}

Result<Clock::Wall> read_repository(const RedisReply& reply, oci::Descriptor& descriptor) {
  using Type = RedisReply::Type;
  const std::size_t values = reply.elements.size();
  if (reply.type != Type::array || values < 2 || values > 3) return unexpected("HMGET", reply);
  for (const RedisReply& element : reply.elements) {
    if (element.type != Type::nil && element.type != Type::text) return unexpected("HMGET", element);
  }
  if (reply.elements[0].type == Type::nil) return Error(Errc::blob_unknown);
  const std::string& media_type = reply.elements[0].text;
  if (!is_media_type(media_type)) return Error(Errc::corrupt, "invalid media type in Redis");
  Clock::Wall checked_at{};
  if (const std::string& text = reply.elements[1].text; reply.elements[1].type == Type::text) {
    std::uint32_t seconds = 0;
    const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), seconds);
    if (ec != std::errc{} || end != text.data() + text.size() || seconds == 0) {
      return Error(Errc::corrupt, "invalid date in Redis");
    }
    checked_at += std::chrono::seconds(seconds);
  }
  if (!media_type.empty()) descriptor.media_type = media_type;
  return checked_at;
}

std::string_view read_mark(const RedisReply& reply) {
  const bool has_mark = reply.elements.size() == 3 && reply.elements[2].type == RedisReply::Type::text;
  return has_mark ? std::string_view(reply.elements[2].text) : std::string_view();
}

std::string write_time(Clock::Wall time) {
  return fmt::to_string(std::chrono::duration_cast<std::chrono::seconds>(time.time_since_epoch()).count());
}

Result<std::int64_t> read_count(const RedisReply& reply) {
  if (reply.type != RedisReply::Type::integer) return unexpected("a removal", reply);
  return reply.integer;
}

}  // namespace sluice::descriptors
