#include "oci/json.hpp"

#include <nlohmann/json.hpp>

namespace sluice::oci {
namespace {

using nlohmann::json;

// Counts depth and values, keeps nothing.
class Measure : public nlohmann::json_sax<json> {
 public:
  explicit Measure(const JsonBounds& bounds) : bounds_(bounds) {}

  [[nodiscard]] bool too_much() const noexcept { return too_much_; }

  bool null() override { return value(); }
  bool boolean(bool) override { return value(); }
  bool number_integer(number_integer_t) override { return value(); }
  bool number_unsigned(number_unsigned_t) override { return value(); }
  bool number_float(number_float_t, const string_t&) override { return value(); }
  bool string(string_t&) override { return value(); }
  bool binary(binary_t&) override { return value(); }
  bool key(string_t&) override { return value(); }
  bool start_object(std::size_t) override { return deeper(); }
  bool start_array(std::size_t) override { return deeper(); }
  bool end_object() override { return --depth_, true; }
  bool end_array() override { return --depth_, true; }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override { return false; }

 private:
  bool value() {
    too_much_ = too_much_ || ++values_ > bounds_.values;
    return !too_much_;
  }
  bool deeper() {
    too_much_ = too_much_ || ++depth_ > bounds_.depth;
    return value();
  }

  const JsonBounds& bounds_;
  std::size_t depth_ = 0;
  std::size_t values_ = 0;
  bool too_much_ = false;
};

}  // namespace

Result<json> parse_json(std::string_view text, const JsonBounds& bounds) {
  if (text.size() > bounds.bytes) return Error(Errc::upstream_protocol, "the JSON is larger than the limit");
  // nlohmann takes a zero byte for the end of its input and would not look at what follows it.
  if (text.find('\0') != std::string_view::npos) return Error(Errc::upstream_protocol, "not JSON");
  Measure measure(bounds);
  if (!json::sax_parse(text.begin(), text.end(), &measure)) {
    return Error(Errc::upstream_protocol,
                 measure.too_much() ? "JSON that is nested too deep or holds too many values" : "not JSON");
  }
  // Said outright which of the two it is: a json converts to anything.
  return Result<json>(boost::system::in_place_value,
                      json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false));
}

}  // namespace sluice::oci
