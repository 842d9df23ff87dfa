// The program's log: one line for each event, on standard error.
//
// Thread-safe. Lines are built by the caller (fmt::format) and written whole. `component` is the folder that speaks
// ("upstream", "store"). Nothing secret is ever passed in: no credentials, tokens, or query strings of redirects.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace sluice::log {

enum class Level : std::uint8_t { debug, info, warn, error, off };
enum class Format : std::uint8_t { text, json };

struct Params {
  Level level = Level::info;
  Format format = Format::text;
};

// Called once by main before any thread starts. Without it, lines at warn and above go to standard error as text.
void configure(const Params& params);

// Whether a line of that level would be written: for callers that build expensive lines.
bool enabled(Level level) noexcept;

// What `message` holds of control characters is escaped, and passwords in URLs are masked (base/mask.hpp).
void write(Level level, std::string_view component, std::string_view message);

inline void debug(std::string_view component, std::string_view message) { write(Level::debug, component, message); }
inline void info(std::string_view component, std::string_view message) { write(Level::info, component, message); }
inline void warn(std::string_view component, std::string_view message) { write(Level::warn, component, message); }
inline void error(std::string_view component, std::string_view message) { write(Level::error, component, message); }

// "debug", "info", "warn" (or "warning"), "error", "off". Errors: config_invalid.
Result<Level> parse_level(std::string_view text);

// Appends `text` to `out` as the inside of a JSON string: quotes, backslashes, control characters, what is invisible or
// changes the direction of writing (Unicode's controls and formats), and bytes that are not UTF-8 are escaped.
void append_json_escaped(std::string& out, std::string_view text);

// The same for a line that people read: quotes and backslashes stay.
void append_text_escaped(std::string& out, std::string_view text);

}  // namespace sluice::log
