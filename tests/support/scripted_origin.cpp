#include "support/scripted_origin.hpp"

#include <algorithm>

#include <openssl/evp.h>

#include "support/scripted_origin_state.hpp"

namespace sluice::test {
namespace {

bool same_name(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

std::string decode(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size()) {
      out += static_cast<char>(std::stoi(std::string(text.substr(i + 1, 2)), nullptr, 16));
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

std::string basic(const std::string& username, const std::string& password) {
  const std::string text = username + ":" + password;
  std::string out(4 * ((text.size() + 2) / 3) + 1, '\0');
  const int n = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                                reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
  out.resize(static_cast<std::size_t>(n));
  return "Basic " + out;
}

}  // namespace

// --------------------------------------------------------------------------------------------------------------- Gate

void Gate::allow(std::uint64_t bytes) {
  const std::scoped_lock lock(mutex_);
  allowed_ += bytes;
  moved_.notify_all();
}

void Gate::open() {
  const std::scoped_lock lock(mutex_);
  allowed_ = std::uint64_t{1} << 62;
  moved_.notify_all();
}

std::uint64_t Gate::wait_beyond(std::uint64_t sent, const std::function<bool()>& give_up) {
  std::unique_lock lock(mutex_);
  while (allowed_ <= sent) {
    // A short wait, because nobody signals that the client has gone.
    moved_.wait_for(lock, std::chrono::milliseconds(5));
    if (allowed_ > sent) break;
    lock.unlock();
    if (give_up()) return 0;
    lock.lock();
  }
  return allowed_;
}

// ------------------------------------------------------------------------------------------------------------ Request

std::string Request::field(std::string_view name) const {
  for (const auto& [key, value] : fields) {
    if (same_name(key, name)) return value;
  }
  return {};
}

std::string Request::query(std::string_view name) const {
  const std::size_t mark = target.find('?');
  if (mark == std::string::npos) return {};
  std::string_view rest = std::string_view(target).substr(mark + 1);
  while (!rest.empty()) {
    const std::size_t end = std::min(rest.find('&'), rest.size());
    const std::string_view pair = rest.substr(0, end);
    const std::size_t equals = std::min(pair.find('='), pair.size());
    if (pair.substr(0, equals) == name) return decode(pair.substr(std::min(equals + 1, pair.size())));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return {};
}

// ----------------------------------------------------------------------------------------------------- ScriptedOrigin

std::size_t ScriptedOrigin::Seen::count(std::string_view path, std::string_view method) const {
  return static_cast<std::size_t>(std::count_if(requests.begin(), requests.end(), [&](const Request& request) {
    return request.path() == path && (method.empty() || request.method == method);
  }));
}

ScriptedOrigin::ScriptedOrigin(Params params) : state_(std::make_unique<State>(std::move(params))) {}
ScriptedOrigin::~ScriptedOrigin() = default;

std::uint16_t ScriptedOrigin::port() const noexcept { return state_->port; }

std::string ScriptedOrigin::authority() const { return state_->params.host + ":" + std::to_string(state_->port); }

std::string ScriptedOrigin::url(std::string_view path) const {
  return (state_->params.tls ? "https://" : "http://") + authority() + std::string(path);
}

std::string ScriptedOrigin::digest_of(std::string_view content) {
  unsigned char raw[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  EVP_Digest(content.data(), content.size(), raw, &size, EVP_sha256(), nullptr);
  std::string out = "sha256:";
  for (unsigned i = 0; i < size; ++i) {
    out += "0123456789abcdef"[raw[i] >> 4];
    out += "0123456789abcdef"[raw[i] & 15];
  }
  return out;
}

std::string ScriptedOrigin::blob_path(std::string_view repository, std::string_view digest) {
  return "/v2/" + std::string(repository) + "/blobs/" + std::string(digest);
}

std::string ScriptedOrigin::manifest_path(std::string_view repository, std::string_view reference) {
  return "/v2/" + std::string(repository) + "/manifests/" + std::string(reference);
}

std::string ScriptedOrigin::add_blob(const std::string& repository, std::string content) {
  const std::string digest = digest_of(content);
  const std::scoped_lock lock(state_->mutex);
  state_->items[blob_path(repository, digest)] = {std::move(content), "application/octet-stream", digest};
  return digest;
}

std::string ScriptedOrigin::add_manifest(const std::string& repository, const std::string& tag, std::string content,
                                         std::string media_type) {
  const std::string digest = digest_of(content);
  const std::scoped_lock lock(state_->mutex);
  const State::Item item{std::move(content), std::move(media_type), digest};
  state_->items[manifest_path(repository, digest)] = item;
  if (!tag.empty()) state_->items[manifest_path(repository, tag)] = item;
  return digest;
}

void ScriptedOrigin::script(const std::string& path, Reply reply) { script(path, 1, std::move(reply)); }

void ScriptedOrigin::script(const std::string& path, std::size_t times, Reply reply) {
  const std::scoped_lock lock(state_->mutex);
  for (std::size_t i = 0; i < times; ++i) state_->scripts[path].push_back(reply);
}

void ScriptedOrigin::respond(const std::string& path, Responder responder) {
  const std::scoped_lock lock(state_->mutex);
  state_->responders[path] = std::move(responder);
}

void ScriptedOrigin::respond_everywhere(Responder responder) {
  const std::scoped_lock lock(state_->mutex);
  state_->everywhere = std::move(responder);
}

Reply ScriptedOrigin::regular(const Request& request) const { return state_->from_table(request); }

void ScriptedOrigin::require_token(const std::string& realm, const std::string& service) {
  const std::scoped_lock lock(state_->mutex);
  state_->realm = realm;
  state_->service = service;
}

void ScriptedOrigin::set_token_credentials(std::string username, std::string password) {
  const std::scoped_lock lock(state_->mutex);
  state_->token_authorization = basic(username, password);
}

void ScriptedOrigin::revoke_tokens() {
  const std::scoped_lock lock(state_->mutex);
  state_->valid_tokens.clear();
}

void ScriptedOrigin::require_basic(std::string username, std::string password) {
  const std::scoped_lock lock(state_->mutex);
  state_->basic_authorization = basic(username, password);
}

std::size_t ScriptedOrigin::tokens_given() const {
  const std::scoped_lock lock(state_->mutex);
  return state_->tokens;
}

ScriptedOrigin::Seen ScriptedOrigin::seen() const {
  const std::scoped_lock lock(state_->mutex);
  return state_->seen;
}

std::size_t ScriptedOrigin::count(std::string_view path, std::string_view method) const {
  const std::scoped_lock lock(state_->mutex);
  return state_->seen.count(path, method);
}

bool ScriptedOrigin::wait_until(const std::function<bool(const Seen&)>& done, std::chrono::milliseconds limit) const {
  std::unique_lock lock(state_->mutex);
  return state_->changed.wait_for(lock, limit, [&] { return done(state_->seen); });
}

}  // namespace sluice::test
