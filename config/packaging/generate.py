#!/usr/bin/env python3
"""Man pages and shell completions from the help texts of the program: generate.py PROGRAM VERSION FOLDER.

The program is asked for its help and for that of each command, so what is generated cannot say anything else. Writes
into FOLDER: man1/*.1, bash/sluice, zsh/_sluice, fish/sluice.fish.
"""

import dataclasses
import pathlib
import re
import subprocess
import sys

SECTION = re.compile(r"^(\S[^:]*):$")
ENTRY = re.compile(r"^  (\S.*?)(?:  +(\S.*))?$")
NO_COMMANDS = ("Options", "Positionals")


@dataclasses.dataclass
class Option:
    names: list  # "-c", "--config"
    argument: str  # "FILE"; empty for a flag
    help: str


@dataclasses.dataclass
class Page:
    """One help text, taken apart."""

    summary: str
    usage: str = ""
    options: list = dataclasses.field(default_factory=list)
    positionals: list = dataclasses.field(default_factory=list)  # (name, help)
    commands: list = dataclasses.field(default_factory=list)  # (name, help)
    footer: str = ""


def help_of(program, *command):
    done = subprocess.run([program, "help", *command], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          check=True)
    return done.stdout


def entries(lines):
    """(what stands left, what stands right); a left side that is too long has its right side on the next line."""
    out = []
    for line in lines:
        if line.startswith("   ") and out and line.strip():
            left, right = out[-1]
            out[-1] = (left, f"{right} {line.strip()}".strip())
        elif found := ENTRY.match(line):
            out.append((found[1], found[2] or ""))
    return out


def parse(text):
    before, usage, rest = text.partition("Usage: ")
    page = Page(" ".join(before.split("\n\n")[0].split()))
    page.description = before.split("\n\n", 1)[1].strip() if "\n\n" in before.strip() else ""
    if not usage:
        return page
    page.usage, _, rest = rest.partition("\n")
    blocks = rest.strip("\n").split("\n\n")
    while blocks and (found := SECTION.match(blocks[0].split("\n")[0])) and all(
            line.startswith("  ") for line in blocks[0].split("\n")[1:]) and not found[1].startswith("Example"):
        if found[1] not in NO_COMMANDS and any("--" in line for line in blocks[0].split("\n")[1:]):
            break
        lines = blocks.pop(0).split("\n")[1:]
        if found[1] == "Options":
            page.options = [option(left, right) for left, right in entries(lines)]
        elif found[1] == "Positionals":
            page.positionals = [(left.replace(" REQUIRED", ""), right) for left, right in entries(lines)]
        else:
            page.commands += entries(lines)
    page.footer = "\n\n".join(blocks).rstrip()
    return page


def option(left, right):
    names, _, argument = left.partition(" ")
    # CLI11 adds what it checks, and whether there may be more: "N:INT in [1 - 64] ...".
    argument = re.sub(r":(INT|UINT|FLOAT|TEXT)\b.*", "", argument).removesuffix(" ...")
    return Option(names.split(","), argument, right)


# --- man ---


def roff(text):
    """One line of text, so that nothing in it is taken for a request."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("…", "...")
    return "\\&" + text if text[:1] in ".'" else text


def man(name, page, version, see_also):
    out = [f'.TH "{name.upper()}" "1" "" "sluice {version}" "sluice"', ".SH NAME",
           f"{roff(name)} \\- {roff(page.summary[:1].lower() + page.summary[1:].rstrip('.'))}", ".SH SYNOPSIS",
           f".B {roff(page.usage)}"]
    if page.description:
        out += [".SH DESCRIPTION", *map(roff, page.description.split("\n"))]
    if page.positionals:
        out.append(".SH ARGUMENTS")
        for left, right in page.positionals:
            out += [".TP", f".B {roff(left)}", roff(right)]
    if page.commands:
        out.append(".SH COMMANDS")
        for left, right in page.commands:
            out += [".TP", f".B {roff(left)}", roff(right)]
    if page.options:
        out.append(".SH OPTIONS")
        for each in page.options:
            names = ", ".join(each.names) + (f" {each.argument}" if each.argument else "")
            out += [".TP", f".B {roff(names)}", roff(each.help)]
    if page.footer:
        out += [".SH NOTES", ".nf", *map(roff, page.footer.split("\n")), ".fi"]
    out += [".SH SEE ALSO", ",\n".join(f".BR {roff(other)} (1)" for other in see_also)]
    return "\n".join(out).replace("(1),\n", "(1),\n") + "\n"


# --- completions ---


def first_sentence(text):
    return text.split(" [")[0].split(";")[0]


def bash(commands):
    lines = ["# bash completion for sluice, generated from its help texts", "_sluice() {",
             "  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} words",
             "  COMPREPLY=()",
             "  case $previous in",
             "    -c|--config) mapfile -t COMPREPLY < <(compgen -f -- \"$current\"); return ;;",
             "    --data) mapfile -t COMPREPLY < <(compgen -d -- \"$current\"); return ;;",
             "  esac",
             "  case ${COMP_WORDS[1]} in"]
    for name, page in commands.items():
        words = " ".join(word for each in page.options for word in each.names)
        if name == "help":
            words = " ".join(commands)
        lines.append(f"    {name}) words='{words}' ;;")
    lines += [f"    *) words='{' '.join(commands)} --help --version' ;;", "  esac",
              "  if ((COMP_CWORD == 1)); then", f"    words='{' '.join(commands)} --help --version'", "  fi",
              "  mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$current\")", "}",
              "complete -o default -F _sluice sluice"]
    return "\n".join(lines) + "\n"


def zsh_text(text):
    return re.sub(r"(['\[\]:\\])", lambda found: {"'": "'\\''"}.get(found[1], "\\" + found[1]), text)


def zsh(commands):
    lines = ["#compdef sluice", "# generated from its help texts", "local -a commands", "commands=("]
    lines += [f"  '{name}:{zsh_text(first_sentence(page.summary))}'" for name, page in commands.items()]
    lines += [")", "if ((CURRENT == 2)); then", "  _describe command commands", "  return", "fi", "case $words[2] in"]
    for name, page in commands.items():
        specs = []
        for each in page.options:
            action = {"FILE": ":file:_files", "DIR": ":directory:_directories"}.get(
                each.argument, f":{each.argument.lower().replace(':', ' ')}: " if each.argument else "")
            specs += [f"'{word}[{zsh_text(first_sentence(each.help))}]{action}'" for word in each.names]
        rest = "'*:command:(" + " ".join(commands) + ")'" if name == "help" else "'*:name:_default'"
        lines.append(f"  {name}) shift words; ((CURRENT--)); _arguments {' '.join([*specs, rest])} ;;")
    return "\n".join([*lines, "esac"]) + "\n"


def fish(commands):
    def text(words):
        return "'" + words.replace("\\", "\\\\").replace("'", "\\'") + "'"

    lines = ["# generated from its help texts", "complete -c sluice -n __fish_use_subcommand -f"]
    for name, page in commands.items():
        lines.append(f"complete -c sluice -n __fish_use_subcommand -a {name} -d {text(first_sentence(page.summary))}")
        for each in page.options:
            words = "".join(f" -l {word[2:]}" if word.startswith("--") else f" -s {word[1:]}" for word in each.names)
            takes = "" if not each.argument else " -r" if each.argument in ("FILE", "DIR") else " -x"
            lines.append(f"complete -c sluice -n '__fish_seen_subcommand_from {name}'{words}{takes} "
                         f"-d {text(first_sentence(each.help))}")
    return "\n".join(lines) + "\n"


def main():
    program, version, folder = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
    overview = parse(help_of(program))
    overview.summary = overview.summary.partition(": ")[2] or overview.summary
    commands = {name: parse(help_of(program, name)) for name, _ in overview.commands}
    assert "serve" in commands and commands["serve"].options, "the help texts have another form than this expects"
    for name in ("man1", "bash", "zsh", "fish"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    pages = {f"sluice-{name}": page for name, page in commands.items() if page.options}
    (folder / "man1/sluice.1").write_text(man("sluice", overview, version, pages))
    for name, page in pages.items():
        (folder / f"man1/{name}.1").write_text(man(name, page, version, ["sluice"]))
    (folder / "bash/sluice").write_text(bash(commands))
    (folder / "zsh/_sluice").write_text(zsh(commands))
    (folder / "fish/sluice.fish").write_text(fish(commands))


if __name__ == "__main__":
    main()
