// Text in HTML. Pure.
#pragma once

#include <string>
#include <string_view>

namespace sluice::admin {

// The text with what means something in HTML escaped, for elements and for attributes in quotes.
std::string html_escaped(std::string_view text);

}  // namespace sluice::admin
