// docker's config.json and the answers of credential helpers: what is refused is not repeated, what is taken can be
// sent. And what is blotted out of a text is not there any more.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "fuzz/expect.hpp"
#include "upstream/credentials.hpp"
#include "upstream/docker_config.hpp"

using namespace sluice;
using namespace sluice::upstream;

namespace {

void check(const Credentials& credentials) {
  const std::string basic = basic_authorization(credentials);
  if (basic.empty()) return;
  SLUICE_EXPECT(basic.starts_with("Basic "));
  for (const char c : basic) SLUICE_EXPECT(c >= 0x20 && c < 0x7f);
  const Result<std::string> back = decode_base64(std::string_view(basic).substr(6));
  std::string sent = credentials.username + ":" + credentials.password;
  while (!sent.empty() && sent.back() == '\0') sent.pop_back();
  SLUICE_EXPECT(back && *back == sent);
  if (credentials.password.size() >= 4 && credentials.password.find("***") == std::string::npos) {
    const std::string text = without_secrets("<" + credentials.password + "> " + basic, credentials);
    SLUICE_EXPECT(text.find(basic.substr(6)) == std::string::npos || basic.size() < 10);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const Result<DockerConfig> config = DockerConfig::parse(text)) {
    for (const auto& [server, credentials] : config->auths) {
      SLUICE_EXPECT(server.find('/') == std::string::npos && !credentials.empty());
      check(credentials);
      const std::string servers[] = {server};
      const auto found = config->find(servers);
      SLUICE_EXPECT(found && (!found->helper.empty() || found->credentials == credentials));
    }
  } else {
    SLUICE_EXPECT(config.error().code == Errc::config_invalid && config.error().message.size() < 100);
  }
  if (const Result<Credentials> answer = parse_helper_answer(text)) {
    SLUICE_EXPECT(!answer->empty());
    check(*answer);
  }
  // A pattern fits itself when it has no stars, and ** fits everything.
  const std::string_view half = text.substr(0, size / 2);
  if (half.find('*') == std::string_view::npos) SLUICE_EXPECT(matches_repository(half, half));
  SLUICE_EXPECT(matches_repository("**", text));
  if (size < 200) static_cast<void>(matches_repository(half, text.substr(size / 2)));
  return 0;
}
