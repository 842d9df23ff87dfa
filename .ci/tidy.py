"""Runs clang-tidy over src/, skipping what has not changed since it last passed.

A file passed when clang-tidy, its configuration, the compile command, the file and every header behind it were what
they are now. The headers come from the compiler itself (-M), asked right before the check.
"""

import argparse
import concurrent.futures
import functools
import hashlib
import json
import os
import pathlib
import shlex
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TIDY = "clang-tidy-19"
# Options that only matter to the build: the precompiled header may not be there yet, and -o and -c are replaced.
DROPPED_PAIRS = {"-o", "-MF", "-MT", "-MQ"}
DROPPED = {"-c", "-MD", "-MMD", "-Winvalid-pch", "-fpch-instantiate-templates", "-fpch-instantiate-templates=yes"}


@functools.lru_cache(maxsize=None)
def digest_of(path):
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except OSError:
        return None


def clean(command):
    """The compiler and its options: no compiler cache in front, no outputs, no precompiled header."""
    words = shlex.split(command)
    start = next(i for i, word in enumerate(words) if "clang++" in os.path.basename(word) or word.endswith("/c++"))
    kept = [words[start]]
    rest = iter(words[start + 1 :])
    for word in rest:
        if word in DROPPED_PAIRS:
            next(rest, None)
        elif word == "-include":
            # The compiler would take the precompiled header beside it, which hides what it includes.
            value = next(rest, "")
            kept += ["-include", str(ROOT / "src/runtime/pch.hpp") if value.endswith("cmake_pch.hxx") else value]
        elif word not in DROPPED:
            kept.append(word)
    return kept


class Checker:
    def __init__(self, cache, base):
        self.cache = cache
        self.base = base  # the hash of what every check depends on

    def entry(self, source):
        return self.cache / (hashlib.sha256(source.encode()).hexdigest()[:24] + ".json")

    def passed_before(self, source, command):
        try:
            saved = json.loads(self.entry(source).read_text())
        except (OSError, ValueError):
            return False
        if saved["base"] != self.base or saved["command"] != command:
            return False
        return all(digest_of(path) == digest for path, digest in saved["files"].items())

    def check(self, source, directory, command):
        """Returns (seconds, what clang-tidy complained about or an empty string)."""
        started = time.monotonic()
        make_rule = subprocess.run(command + ["-M", "-MT", "x"], cwd=directory, capture_output=True, text=True)
        tidy = subprocess.run(
            [TIDY, "--quiet", f"--config-file={ROOT / '.clang-tidy'}", source, "--", *command[1:-1]],
            cwd=directory, capture_output=True, text=True)
        seconds = time.monotonic() - started
        if tidy.returncode != 0:
            said = (tidy.stdout + tidy.stderr).strip().splitlines()
            return seconds, "\n".join(line for line in said if not line.endswith("generated."))
        if make_rule.returncode == 0:
            names = make_rule.stdout.replace("\\\n", " ").split()[1:]
            files = {str((pathlib.Path(directory) / name).resolve()): None for name in names}
            files = {path: digest_of(path) for path in files}
            self.entry(source).write_text(json.dumps({"base": self.base, "command": command, "files": files}))
        return seconds, ""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", required=True, type=pathlib.Path)
    parser.add_argument("--cache", required=True, type=pathlib.Path)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    started = time.monotonic()

    arguments.cache.mkdir(parents=True, exist_ok=True)
    version = subprocess.run([TIDY, "--version"], capture_output=True, text=True, check=True).stdout
    base = hashlib.sha256((version + (ROOT / ".clang-tidy").read_text()).encode()).hexdigest()
    checker = Checker(arguments.cache, base)

    work, unchanged = [], 0
    for item in json.loads((arguments.build / "compile_commands.json").read_text()):
        source = item["file"]
        if not source.startswith(str(ROOT / "src") + os.sep) or not os.path.exists(source):
            continue
        command = clean(item["command"])
        if checker.passed_before(source, command):
            unchanged += 1
        else:
            # The largest first, so that no long one is left alone at the end.
            work.append((-os.path.getsize(source), source, item["directory"], command))
    work.sort()

    failed = 0
    terminal = sys.stdout.isatty()
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        running = {pool.submit(checker.check, source, directory, command): source
                   for _, source, directory, command in work}
        for count, future in enumerate(concurrent.futures.as_completed(running), 1):
            name = os.path.relpath(running[future], ROOT)
            seconds, complaint = future.result()
            if complaint:
                failed += 1
                print(f"{name}:\n{complaint}\n", flush=True)
            elif terminal:
                print(f"\r\x1b[K[{count}/{len(work)}] {name} {seconds:.0f} s", end="", flush=True)
    if terminal and work:
        print("\r\x1b[K", end="")
    print(f"    {len(work)} checked, {unchanged} unchanged, {failed} with findings, {time.monotonic() - started:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
