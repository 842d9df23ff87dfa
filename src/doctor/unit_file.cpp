#include "doctor/unit_file.hpp"

#include <algorithm>
#include <cctype>
#include <sstream>

#include "base/ascii.hpp"

namespace sluice::doctor {
namespace {

// The first stands above the others.
std::vector<std::string> folders_of(const std::string& home) {
  if (!home.empty()) return {home + "/.config/systemd/user", "/etc/systemd/user", "/usr/lib/systemd/user"};
  return {"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system",
          "/lib/systemd/system"};
}

// Words as systemd splits them: by spaces, with either kind of quotes.
std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> out;
  std::string word;
  bool open = false;
  char quote = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quote != 0 && c == quote) {
      quote = 0;
    } else if (quote == 0 && (c == '"' || c == '\'')) {
      quote = c;
      open = true;
    } else if (c == '\\' && i + 1 < text.size()) {
      word += text[++i];
      open = true;
    } else if (quote == 0 && (c == ' ' || c == '\t')) {
      if (open) out.push_back(std::move(word));
      word.clear();
      open = false;
    } else {
      word += c;
      open = true;
    }
  }
  if (open) out.push_back(std::move(word));
  return out;
}

// Lines without comments, with those that end in a backslash joined.
std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> out;
  std::istringstream in(text);
  std::string line;
  std::string joined;
  while (std::getline(in, line)) {
    if (line.ends_with('\r')) line.pop_back();
    const std::string_view content = trim(line);
    if (joined.empty() && (content.empty() || content.front() == '#' || content.front() == ';')) continue;
    if (line.ends_with('\\')) {
      joined += line.substr(0, line.size() - 1) + " ";
      continue;
    }
    out.push_back(joined + line);
    joined.clear();
  }
  if (!joined.empty()) out.push_back(joined);
  return out;
}

void set(std::map<std::string, std::string>& environment, const std::string& assignment) {
  const std::size_t equals = assignment.find('=');
  if (equals != std::string::npos) environment[assignment.substr(0, equals)] = assignment.substr(equals + 1);
}

struct Raw {
  std::string command;
  std::string file;
  std::map<std::string, std::string> environment;
  std::map<std::string, std::string> from_files;  // stands above the other
};

void read_unit(const Files& files, const std::string& path, const std::string& text, Raw& out) {
  bool service = false;
  for (const std::string& line : lines_of(text)) {
    const std::string_view content = trim(line);
    if (content.starts_with('[')) {
      service = content == "[Service]";
      continue;
    }
    const std::size_t equals = content.find('=');
    if (!service || equals == std::string_view::npos) continue;
    const std::string_view key = trim(content.substr(0, equals));
    const std::string value(trim(content.substr(equals + 1)));
    if (key == "ExecStart") {
      out.command = value;
      out.file = path;
    } else if (key == "Environment") {
      if (value.empty()) out.environment.clear();
      for (const std::string& word : words_of(value)) set(out.environment, word);
    } else if (key == "EnvironmentFile") {
      const Result<std::string> named = files.read(value.starts_with('-') ? value.substr(1) : value);
      if (!named) continue;
      for (auto& [name, assigned] : parse_environment(*named)) out.from_files[name] = assigned;
    }
  }
}

bool is_name(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

// $NAME as a word of its own is split, ${NAME} is put in.
std::vector<std::string> fill_in(const std::vector<std::string>& words,
                                 const std::map<std::string, std::string>& environment) {
  const auto value_of = [&](const std::string& name) {
    const auto at = environment.find(name);
    return at == environment.end() ? std::string() : at->second;
  };
  std::vector<std::string> out;
  for (const std::string& word : words) {
    if (word.size() > 1 && word[0] == '$' && std::all_of(word.begin() + 1, word.end(), is_name)) {
      for (std::string& part : words_of(value_of(word.substr(1)))) out.push_back(std::move(part));
      continue;
    }
    std::string filled = word;
    for (std::size_t begin = filled.find("${"); begin != std::string::npos; begin = filled.find("${", begin)) {
      const std::size_t end = filled.find('}', begin);
      if (end == std::string::npos) break;
      const std::string value = value_of(filled.substr(begin + 2, end - begin - 2));
      filled.replace(begin, end - begin + 1, value);
      begin += value.size();
    }
    out.push_back(std::move(filled));
  }
  return out;
}

}  // namespace

std::map<std::string, std::string> parse_environment(const std::string& text) {
  std::map<std::string, std::string> out;
  for (const std::string& line : lines_of(text)) {
    std::string_view content = trim(line);
    if (content.starts_with("export ")) content.remove_prefix(7);
    const std::size_t equals = content.find('=');
    if (equals == std::string_view::npos) continue;
    std::string value(trim(content.substr(equals + 1)));
    if (value.size() > 1 && (value.front() == '"' || value.front() == '\'') && value.back() == value.front()) {
      value = value.substr(1, value.size() - 2);
    }
    out[std::string(trim(content.substr(0, equals)))] = value;
  }
  return out;
}

std::vector<std::string> Service::option(const std::string& name) const {
  std::vector<std::string> out;
  for (std::size_t i = 0; i < command.size(); ++i) {
    if (command[i].starts_with(name + "=")) {
      out.push_back(command[i].substr(name.size() + 1));
    } else if (command[i] == name && i + 1 < command.size()) {
      out.push_back(command[++i]);
    }
  }
  return out;
}

Service read_service(const Files& files, const std::string& name, const std::string& home) {
  Raw raw;
  Service out;
  const std::vector<std::string> folders = folders_of(home);
  for (const std::string& folder : folders) {
    const std::string path = below(folder, name);
    const Result<std::string> text = files.read(path);
    if (!text) continue;
    out.found = true;
    read_unit(files, path, *text, raw);
    break;
  }
  // Sorted by name whatever folder they are in; of two with the same name the first folder's counts.
  std::map<std::string, std::string> drop_ins;
  for (const std::string& folder : folders) {
    const std::string beside = below(folder, name).append(".d");
    for (const std::string& file : files.list(beside)) {
      if (file.ends_with(".conf")) drop_ins.emplace(file, below(beside, file));
    }
  }
  for (const auto& [file, path] : drop_ins) {
    const Result<std::string> text = files.read(path);
    if (!text) continue;
    out.found = true;
    read_unit(files, path, *text, raw);
  }
  out.environment = std::move(raw.environment);
  for (auto& [key, value] : raw.from_files) out.environment[key] = value;
  out.command = fill_in(words_of(raw.command), out.environment);
  out.file = raw.file;
  return out;
}

}  // namespace sluice::doctor
