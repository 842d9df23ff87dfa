#include "app/commands/platform.hpp"

#include <sys/utsname.h>

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>

namespace sluice::app {
namespace {

constexpr std::array<std::pair<std::string_view, std::string_view>, 12> kMachines{{{"x86_64", "amd64"},
                                                                                   {"aarch64", "arm64"},
                                                                                   {"armv7l", "arm/v7"},
                                                                                   {"armv6l", "arm/v6"},
                                                                                   {"i686", "386"},
                                                                                   {"i386", "386"},
                                                                                   {"ppc64le", "ppc64le"},
                                                                                   {"s390x", "s390x"},
                                                                                   {"riscv64", "riscv64"},
                                                                                   {"loongarch64", "loong64"},
                                                                                   {"mips64", "mips64le"},
                                                                                   {"x86-64", "amd64"}}};

bool is_word(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.';
  });
}

// What says the same: every arm64 is v8, as containerd normalises it.
std::string normal(const Platform& platform) {
  return platform.architecture == "arm64" && platform.variant.empty() ? "v8" : platform.variant;
}

}  // namespace

Result<Platform> Platform::parse(std::string_view text) {
  const Error wrong{
      Errc::config_invalid,
      fmt::format("--platform: found \"{}\", expected OS/ARCH or OS/ARCH/VARIANT, for example linux/arm64", text)};
  Platform out;
  const std::size_t first = text.find('/');
  if (first == std::string_view::npos) {
    out.os = "linux";
    out.architecture = text;
  } else {
    out.os = text.substr(0, first);
    const std::string_view rest = text.substr(first + 1);
    const std::size_t second = rest.find('/');
    out.architecture = rest.substr(0, second);
    if (second != std::string_view::npos) {
      out.variant = rest.substr(second + 1);
      if (!is_word(out.variant)) return wrong;
    }
  }
  // uname's words are taken for docker's.
  for (const auto& [machine, name] : kMachines) {
    if (out.architecture == machine && out.variant.empty()) {
      const std::size_t slash = name.find('/');
      out.architecture = name.substr(0, slash);
      if (slash != std::string_view::npos) out.variant = name.substr(slash + 1);
      break;
    }
  }
  if (!is_word(out.os) || !is_word(out.architecture)) return wrong;
  return out;
}

Platform Platform::this_machine() {
  utsname name{};
  ::uname(&name);
  const Result<Platform> parsed = parse(name.machine);
  return parsed ? *parsed : Platform{"linux", name.machine, {}};
}

bool Platform::takes(const Platform& other) const {
  if (os != other.os || architecture != other.architecture) return false;
  return variant.empty() || other.variant.empty() || normal(*this) == normal(other);
}

std::string Platform::to_string() const {
  return variant.empty() ? fmt::format("{}/{}", os, architecture) : fmt::format("{}/{}/{}", os, architecture, variant);
}

}  // namespace sluice::app
