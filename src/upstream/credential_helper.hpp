// A credential helper: a program that knows a login, asked by docker's protocol (docker/docker-credential-helpers): it
// is run with the one argument `get`, reads the server from its standard input and prints JSON.
#pragma once

#include <chrono>
#include <string>

#include "base/result.hpp"
#include "upstream/credentials.hpp"

namespace sluice::upstream {

// What is run for a helper that is called `name`: a path stands for itself, all else for docker-credential-<name> in
// PATH, as in docker's config.json.
std::string helper_program(const std::string& name);

// Blocks for as long as the program runs, `timeout` at most; then it is killed with all that it has started. Run
// without a shell, with this program's environment; its standard error is not looked at. Any thread. Errors: not_found,
// it does not know that server; config_invalid, it cannot be run, failed or printed something else; timeout. No message
// holds anything that it printed.
Result<Credentials> ask_credential_helper(const std::string& name, const std::string& server,
                                          std::chrono::milliseconds timeout);

}  // namespace sluice::upstream
