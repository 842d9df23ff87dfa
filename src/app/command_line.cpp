#include "app/command_line.hpp"

#include <algorithm>
#include <array>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "app/exit_status.hpp"
#include "app/version.hpp"

namespace sluice::app {
namespace {

constexpr const char* kDescription =
    "sluice: a pull-through cache for container registries.\n\n"
    "Point docker, containerd, podman or buildkit at it as a mirror; it fetches each layer from the\n"
    "registry once, hands it to everybody who waits for it, and keeps it.";

constexpr const char* kFooter =
    "To try it:\n"
    "  sluice serve --data /tmp/sluice\n"
    "and follow what it prints. \"sluice help COMMAND\" explains a command, with examples.\n"
    "Exit status: 0 fine, 1 could not start or failed, 2 wrong usage, 78 wrong configuration, 130 interrupted.";

constexpr const char* kServeFooter =
    "Everything has a default, so no option and no file is needed. Options override the environment\n"
    "(SLUICE_SERVER_LISTEN and so on), the environment overrides the file.\n"
    "SIGTERM and SIGINT let running transfers end before the program does; a second one stops it at once. SIGHUP\n"
    "reopens the access log and reloads the configuration, as \"sluice reload\" does.";

constexpr const char* kListFooter =
    "Examples:\n"
    "  sluice ls                            repositories, with their sizes\n"
    "  sluice ls busybox                    its tags (docker.io/library/busybox)\n"
    "  sluice ls ghcr.io/owner/app:1.2      what one image is made of\n"
    "  sluice ls --blobs --json             every stored blob, as JSON\n"
    "  sluice ls --data /var/lib/sluice     while no sluice runs on it";

constexpr const char* kStatFooter =
    "Examples:\n"
    "  sluice stat alpine:3.18\n"
    "  sluice stat ghcr.io/owner/app@sha256:0123…\n"
    "  sluice stat sha256:0123…             which repositories have it, and where its file is";

constexpr const char* kRemoveFooter =
    "Removes an image together with the blobs that no other image of its repository needs. A file is deleted when no\n"
    "repository has it any more. Upstream is not touched: a later pull fetches it again. Running pulls are not cut.\n\n"
    "Examples:\n"
    "  sluice rm alpine:3.18\n"
    "  sluice rm sha256:0123…               from every repository\n"
    "  sluice rm --all ghcr.io/owner/app    a whole repository";

constexpr const char* kGcFooter =
    "Evicts blobs down to the limits (store.max_size, min_free, max_age) at once, and deletes dangling rows: blobs\n"
    "without a file, memberships and tags of blobs that are not stored. Removes expired parts of downloads.\n\n"
    "Examples:\n"
    "  sluice gc\n"
    "  sluice gc --min-age 0s --json        including what upstream has just confirmed";

constexpr const char* kVerifyFooter =
    "Moves damaged blobs to quarantine/ below the data directory; they are fetched again when a client asks.\n"
    "Exit status: 0 no damage, 1 damage was found or the command failed.\n\n"
    "Examples:\n"
    "  sluice verify\n"
    "  sluice verify --sample 5% --rate 50MiB\n"
    "  sluice verify --data /var/lib/sluice   while no sluice runs on it";

constexpr const char* kWarmFooter =
    "Pulls manifests, configurations and layers through the cache, checks their digests and discards the bytes.\n"
    "Of an image for several platforms it pulls this machine's, unless --platform or --all says otherwise.\n\n"
    "Examples:\n"
    "  sluice warm alpine:3.18 ghcr.io/owner/app:1.2\n"
    "  sluice warm --platform linux/amd64 --platform linux/arm64 registry.k8s.io/pause:3.9\n"
    "  sluice warm --all --server cache.example:5000 busybox\n"
    "  sluice warm --server https://cache.example:5000 --user ci --password-stdin busybox < password";

constexpr const char* kImportFooter =
    "DIR is the rootdirectory of a stopped registry:2 or registry:3 that was a pull-through cache. Every blob is\n"
    "hashed. On the same file system blobs are hard-linked and take no room, elsewhere they are copied. Stored blobs\n"
    "are kept, so the command may be run again. Before sluice serves an image it asks upstream, if it can.\n"
    "Exit status: 0 everything was imported, 1 something was damaged or there was no room.\n\n"
    "Examples:\n"
    "  sluice import --config /etc/docker/registry/config.yml /var/lib/registry\n"
    "  sluice import --data /var/lib/sluice --upstream ghcr.io /srv/old-cache";

constexpr const char* kReloadFooter =
    "Upstreams, logins, lists, limits, certificates and the log level take effect at once, for new requests. If the\n"
    "file has a mistake, nothing changes: the mistake is printed, and the exit status is 78. Changed settings that\n"
    "need a restart are named. Running downloads go on. SIGHUP does the same; its outcome is in the log.";

constexpr const char* kHealthFooter =
    "Asks /readyz of the admin listener, for health checks of containers that have no shell and no curl. Prints what\n"
    "is not ready. Exit status: 0 it serves, 1 it does not serve, or does not answer.";

constexpr const char* kDoctorFooter =
    "Reads the configuration of docker, containerd, podman, buildah, skopeo, CRI-O, BuildKit, k3s and RKE2, and says "
    "for\n"
    "each client and each registry that the cache serves whether the client asks the cache: used; partly; unused; "
    "falls\n"
    "back (it goes to the registry without a word); fails. Then it asks for a manifest by each way that is used, as "
    "that\n"
    "client does, and looks up in the cache whether the request has arrived. Nothing is changed.\n"
    "Exit status: 0 nothing is wrong, 1 something is, or no client uses the cache.\n\n"
    "Examples:\n"
    "  sluice doctor                                    this machine, and the cache on it\n"
    "  sluice doctor --server 192.0.2.7:5000 --admin 192.0.2.7:5001\n"
    "  sluice doctor --root /mnt --server 192.0.2.7:5000  the files of another machine; no request is sent";

constexpr const char* kTopFooter =
    "On a terminal the figures are renewed every second, until q or Ctrl-C; elsewhere they are printed once.";

constexpr const char* kPullsFooter =
    "A pull is what one client asks of one repository, until it has asked nothing for a minute. Where the time of\n"
    "its requests went: FIRST BYTE, until the answer began (the access check, the queue for the upstream, its token\n"
    "and its first byte together); UPSTREAM, waiting for the rest of a blob; TO CLIENT, sending to the client. These\n"
    "are sums: requests that run side by side add up to more than TOOK. sluice remembers the last 256 requests of\n"
    "each thread.\n\n"
    "Examples:\n"
    "  sluice pulls\n"
    "  sluice pulls --requests --limit 1    each request of the last pull\n"
    "  sluice pulls --json";

template <class T>
void optional(CLI::App& app, const char* name, std::optional<T>& target, const char* placeholder,
              const std::string& help) {
  // An empty argument is kept, so that it is refused where the key is named.
  app.add_option_function<std::string>(
         name, [&target](const std::string& text) { target = T(text); }, help)
      ->type_name(placeholder)
      ->expected(1);
}

bool is_command(const CLI::App& app, std::string_view word) {
  const auto commands = app.get_subcommands({});
  return std::any_of(commands.begin(), commands.end(),
                     [&](const auto* command) { return command->get_name() == word; });
}

constexpr std::string_view kCommands =
    "serve, check-config, ls, stat, rm, gc, verify, warm, import, reload, health, doctor, top, pulls, help and version";
constexpr std::string_view kMore = "Run with --help for more information.\n";

// What stands on the line and fits nowhere, the first as it was typed: CLI11 names them from the back.
std::string unexpected(const std::vector<std::string>& left_over, const std::string& command, int argc,
                       const char* const* argv) {
  const auto first = std::find_first_of(argv + 1, argv + argc, left_over.begin(), left_over.end(),
                                        [](std::string_view a, std::string_view b) { return a == b; });
  const std::string word = first == argv + argc ? left_over.front() : *first;
  if (!word.starts_with('-') && command != "serve" && command != "check-config") {
    return fmt::format("\"{}\" is not expected here\n", word);
  }
  if (!word.starts_with('-')) {
    return fmt::format("\"{}\" is not expected here; a configuration file is named with --config FILE\n", word);
  }
  if (first < std::find(argv + 1, argv + argc, command)) {
    return fmt::format("{0} stands before the command; options follow it: sluice {1} {0} …\n", word, command);
  }
  return fmt::format("{} is no option of {}\n", word, command);
}

void add_settings(CLI::App& app, CommandLine& out) {
  optional(app, "-c,--config", out.config, "FILE",
           "Configuration: sluice's own YAML, or a config.yml of distribution with a proxy section "
           "(or name it in SLUICE_CONFIG)");
  optional(app, "--listen", out.overrides.listen, "ADDR:PORT", "Address for clients [127.0.0.1:5000]");
  optional(app, "--admin", out.overrides.admin, "ADDR:PORT",
           "Address for metrics, health and the admin API [127.0.0.1:5001]");
  optional(app, "--data", out.overrides.data, "DIR", "Directory for everything that is cached [/var/lib/sluice]");
  optional(app, "--upstream", out.overrides.upstream, "URL",
           "The default upstream registry, http or https [https://registry-1.docker.io]");
  optional(app, "--log-level", out.overrides.log_level, "LEVEL", "debug, info, warn, error or off [info]");
  optional(app, "--log-format", out.overrides.log_format, "FORMAT", "text or json [text]");
}

// Which sluice, or which data directory.
void add_place(CLI::App& app, CommandLine& out) {
  CommandOptions& options = out.options;
  optional(app, "--admin", options.admin, "ADDR:PORT", "The admin listener to ask [127.0.0.1:5001]");
  optional(app, "--data", out.overrides.data, "DIR", "Read this data directory; for a sluice that does not run");
  optional(app, "-c,--config", out.config, "FILE", "Take both from this configuration (or SLUICE_CONFIG)");
  app.add_flag("--json", options.json, "One JSON document on standard output");
}

// Which sluice, where only a running one can answer.
void add_running(CLI::App& app, CommandLine& out) {
  optional(app, "--admin", out.options.admin, "ADDR:PORT", "The admin listener to ask [127.0.0.1:5001]");
  optional(app, "-c,--config", out.config, "FILE", "Take the address from this configuration (or SLUICE_CONFIG)");
}

// An option that takes a list would take what does not belong there.
CLI::Option* one_name(CLI::App& app, CommandOptions& options, const char* help, const char* placeholder) {
  return app
      .add_option_function<std::string>(
          "name", [&options](const std::string& name) { options.names = {name}; }, help)
      ->type_name(placeholder);
}

void add_doctor(CLI::App& app, CommandLine& line) {
  CommandOptions& options = line.options;
  CLI::App* doctor = app.add_subcommand("doctor", "Check whether the clients on this machine use the cache");
  doctor->footer(kDoctorFooter);
  optional(*doctor, "--server", options.server, "ADDR:PORT", "Where clients reach the cache [127.0.0.1:5000]");
  optional(*doctor, "--admin", options.admin, "ADDR:PORT", "Its admin listener [127.0.0.1:5001]");
  optional(*doctor, "-c,--config", line.config, "FILE", "Take both from this configuration (or SLUICE_CONFIG)");
  optional(*doctor, "--root", options.root, "DIR", "Read the files below this folder; no request is sent");
  doctor->add_flag("--canary", options.canary, "With --root: send the requests all the same");
  doctor->add_flag("--offline", options.offline, "Read files alone, and send no request");
  doctor->add_flag("--json", options.json, "One JSON document on standard output");
}

void add_watching(CLI::App& app, CommandLine& line) {
  CommandOptions& options = line.options;
  CLI::App* top = app.add_subcommand("top", "Watch what the running sluice does");
  top->footer(kTopFooter);
  add_running(*top, line);
  top->add_flag("--once", options.once, "Print the figures once");
  top->add_flag("--json", options.json, "Print them once, as one JSON document");

  CLI::App* pulls = app.add_subcommand("pulls", "List the last pulls, with where their time went");
  pulls->footer(kPullsFooter);
  pulls->add_option("--limit", options.limit, "At most this many [20]")->type_name("N")->check(CLI::Range(1, 1000));
  pulls->add_flag("--requests", options.requests, "Each request of each pull");
  add_running(*pulls, line);
  pulls->add_flag("--json", options.json, "One JSON document on standard output");
}

void add_commands(CLI::App& app, CommandLine& line) {
  CommandOptions& options = line.options;
  CLI::App* list = app.add_subcommand("ls", "List repositories, the tags of one, or what an image is made of");
  list->footer(kListFooter);
  one_name(*list, options, "A repository or an image", "REPO[:TAG]");
  list->add_flag("--blobs", options.blobs, "Blobs rather than repositories or tags");
  add_place(*list, line);

  CLI::App* stat = app.add_subcommand("stat", "Show what is known of an image or a digest");
  stat->footer(kStatFooter);
  one_name(*stat, options, "An image, or a digest", "IMAGE|DIGEST")->required();
  add_place(*stat, line);

  CLI::App* remove = app.add_subcommand("rm", "Remove images or digests from the cache");
  remove->footer(kRemoveFooter);
  remove->add_option("name", options.names, "Images, or digests")->type_name("IMAGE|DIGEST")->required();
  remove->add_flag("--all", options.all, "All that the repository has");
  add_place(*remove, line);

  CLI::App* gc = app.add_subcommand("gc", "Make room now, and delete dangling rows");
  gc->footer(kGcFooter);
  gc->add_option("--min-age", options.min_age, "Keep what upstream has confirmed within this time [10m]")
      ->type_name("DURATION");
  add_place(*gc, line);

  CLI::App* verify = app.add_subcommand("verify", "Read what is stored, and check its digests");
  verify->footer(kVerifyFooter);
  verify->add_option("--sample", options.sample, "A share of the blobs, chosen at random [100%]")->type_name("SHARE");
  verify->add_option("--rate", options.rate, "At most this many bytes per second [no limit]")->type_name("BYTES");
  verify->add_option("--seed", options.seed, "The same seed chooses the same blobs [0]")->type_name("NUMBER");
  verify->add_flag("-q,--quiet", options.quiet, "No progress");
  add_place(*verify, line);

  CLI::App* take_over = app.add_subcommand("import", "Import what a registry:2 or registry:3 has cached");
  take_over->footer(kImportFooter);
  one_name(*take_over, options, "The rootdirectory of the registry", "DIR")->required();
  optional(*take_over, "--upstream", options.upstream, "NAME",
           "The upstream that the repositories belong to [the default upstream]");
  take_over->add_flag("--dry-run", options.dry_run, "Only print what there is");
  optional(*take_over, "--data", line.overrides.data, "DIR",
           "The data directory, which no sluice may use [/var/lib/sluice]");
  optional(*take_over, "-c,--config", line.config, "FILE", "The configuration (or SLUICE_CONFIG)");
  take_over->add_flag("--json", options.json, "One JSON document on standard output");
  take_over->add_flag("-q,--quiet", options.quiet, "No progress");

  CLI::App* reload = app.add_subcommand("reload", "Reload the configuration of the running sluice");
  reload->footer(kReloadFooter);
  add_running(*reload, line);
  reload->add_flag("--json", options.json, "One JSON document on standard output");

  CLI::App* health = app.add_subcommand("health", "Check whether the running sluice serves");
  health->footer(kHealthFooter);
  add_running(*health, line);
  health->add_flag("--json", options.json, "One JSON document on standard output");
  health->add_flag("-q,--quiet", options.quiet, "The exit status alone");

  add_doctor(app, line);

  add_watching(app, line);

  CLI::App* warm = app.add_subcommand("warm", "Pull images through the cache, so that they are there");
  warm->footer(kWarmFooter);
  warm->add_option("image", options.names, "Images, named as docker names them")->type_name("IMAGE")->required();
  warm->add_option("--platform", options.platforms, "One of these platforms; may be given again [this machine's]")
      ->type_name("OS/ARCH")
      ->allow_extra_args(false);
  warm->add_flag("--all", options.all, "All platforms");
  warm->add_option("--parallel", options.parallel, "Downloads at the same time [4]")
      ->type_name("N")
      ->check(CLI::Range(1, 64));
  optional(*warm, "--server", options.server, "ADDR:PORT", "The sluice that is warmed [127.0.0.1:5000]");
  optional(*warm, "-c,--config", line.config, "FILE",
           "Take the address, and whether it speaks TLS, from this configuration (or SLUICE_CONFIG)");
  optional(*warm, "--user", options.user, "NAME",
           "The login at the cache; its password comes from --password-stdin or SLUICE_PASSWORD");
  warm->add_flag("--password-stdin", options.password_stdin, "Read the password from standard input");
  optional(*warm, "--ca-file", options.ca_file, "FILE",
           "PEM certificates to trust besides the system's [server.tls.cert_file]");
  warm->add_flag("--json", options.json, "One JSON document on standard output");
  warm->add_flag("-q,--quiet", options.quiet, "No progress");
}

CommandLine::Command command_of(const CLI::App& app) {
  using enum CommandLine::Command;
  static constexpr std::array<std::pair<std::string_view, CommandLine::Command>, 15> kByName{
      {{"serve", serve},
       {"check-config", check_config},
       {"version", version},
       {"ls", list},
       {"stat", stat},
       {"rm", remove},
       {"gc", gc},
       {"verify", verify},
       {"warm", warm},
       {"import", take_over},
       {"reload", reload},
       {"health", health},
       {"doctor", doctor},
       {"top", top},
       {"pulls", pulls}}};
  for (const auto& [name, command] : kByName) {
    if (app.get_subcommand(std::string(name))->parsed()) return command;
  }
  return serve;
}

}  // namespace

ParsedCommandLine parse_command_line(int argc, const char* const* argv) {
  ParsedCommandLine out;
  CommandLine line;
  CLI::App app(kDescription, "sluice");
  app.footer(kFooter);
  app.set_version_flag("--version", fmt::format("sluice {}", version()), "Print the version");
  app.require_subcommand(1);
  app.get_formatter()->column_width(28);
  app.get_formatter()->label("SUBCOMMAND", "COMMAND");
  app.get_formatter()->label("OPTIONS", "options");

  CLI::App* serve = app.add_subcommand("serve", "Serve until told to stop");
  serve->footer(kServeFooter);
  add_settings(*serve, line);
  CLI::App* check = app.add_subcommand(
      "check-config", "Check the configuration: print its mistakes, or what would be in force, without secrets");
  add_settings(*check, line);
  add_commands(app, line);
  std::string topic;
  CLI::App* help = app.add_subcommand("help", "Explain a command");
  help->add_option("command", topic, "Which one")->type_name("COMMAND");
  app.add_subcommand("version", "Print the version");

  for (const char* name : {"serve", "check-config"}) app.get_subcommand(name)->group("Serving");
  for (const char* name : {"ls", "stat", "rm", "warm", "import"}) app.get_subcommand(name)->group("What is stored");
  for (const char* name : {"gc", "verify", "reload", "health", "doctor"}) app.get_subcommand(name)->group("Upkeep");
  for (const char* name : {"top", "pulls"}) app.get_subcommand(name)->group("Watching");
  for (const char* name : {"help", "version"}) app.get_subcommand(name)->group("More");
  // Later it would be that of the command that was given.
  const std::string overview = app.help();

  // CLI11 would only say that a subcommand is missing.
  if (const std::string_view first = argc > 1 ? argv[1] : "-"; !first.starts_with('-') && !is_command(app, first)) {
    out.exit_status = kExitUsage;
    out.to_stderr = fmt::format("\"{}\" is no command; there are {}\n{}", first, kCommands, kMore);
    return out;
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ExtrasError&) {
    const auto given = app.get_subcommands();
    out.exit_status = kExitUsage;
    out.to_stderr = unexpected(app.remaining(true), given.empty() ? "serve" : given.front()->get_name(), argc, argv);
    out.to_stderr += kMore;
    return out;
  } catch (const CLI::RequiredError& error) {
    const auto given = app.get_subcommands();
    out.exit_status = kExitUsage;
    if (given.empty()) {
      out.to_stderr = fmt::format("a command is missing; there are {}\n{}", kCommands, kMore);
    } else {
      const std::string name = given.front()->get_name();
      out.to_stderr = fmt::format("{}: {}; see: sluice help {}\n", name, error.what(), name);
    }
    return out;
  } catch (const CLI::ParseError& error) {
    std::ostringstream text;
    std::ostringstream errors;
    const int status = app.exit(error, text, errors);
    out.exit_status = status == 0 ? kExitOk : kExitUsage;
    out.to_stdout = text.str();
    out.to_stderr = errors.str();
    return out;
  }
  if (help->parsed()) {
    if (!topic.empty() && !is_command(app, topic)) {
      out.exit_status = kExitUsage;
      out.to_stderr = fmt::format("\"{}\" is no command; there are {}\n{}", topic, kCommands, kMore);
    } else {
      out.to_stdout = topic.empty() ? overview : app.get_subcommand(topic)->help("sluice");
    }
    return out;
  }
  line.command = command_of(app);
  out.command = std::move(line);
  return out;
}

}  // namespace sluice::app
