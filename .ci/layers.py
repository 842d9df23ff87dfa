"""Checks that the folders of src/ include only what lies below them.

The order is the one in which CMakeLists.txt adds the folders, from the bottom up. On top of it stand the exceptions
below: some neighbours must not know each other although one of them is built first.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
INCLUDE = re.compile(r'^\s*#\s*include\s+["<]([a-z_]+)/[^">]+[">]')
LINK = re.compile(r"\bsluice::([a-z_]+)\b")

# folder → what it must not include although the order would allow it, and why.
FORBIDDEN = {
    "oci": {"runtime": "oci is pure: it parses and prints, without I/O"},
    "doctor": {room: "the doctor reads files of clients, with base and the pure parts of http" for room in
               ("runtime", "oci", "descriptors", "streamcache", "store", "upstream", "config")},
    "admin": {room: "the admin listener does not depend on the API that it watches" for room in ("access", "pull", "api")},
}


def order():
    text = (ROOT / "CMakeLists.txt").read_text()
    found = re.search(r"foreach\(module IN ITEMS ([a-z_ \n]+)\)", text)
    if not found:
        sys.exit("layers: CMakeLists.txt has no list of modules any more")
    return found.group(1).split()


def allowed(module, modules):
    below = set(modules[: modules.index(module)])
    return (below | {module}) - set(FORBIDDEN.get(module, {}))


def complaints(modules):
    for folder in sorted(path for path in (ROOT / "src").iterdir() if path.is_dir()):
        module = folder.name
        if module not in modules:
            yield f"{folder.relative_to(ROOT)}: not in the list of modules in CMakeLists.txt"
            continue
        may = allowed(module, modules)
        for path in sorted(folder.rglob("*")):
            if path.suffix in (".cpp", ".hpp"):
                pattern = INCLUDE
            elif path.name == "CMakeLists.txt":
                pattern = LINK
            else:
                continue
            for number, line in enumerate(path.read_text().splitlines(), 1):
                matches = [pattern.match(line)] if pattern is INCLUDE else pattern.finditer(line)
                for match in matches:
                    target = match.group(1) if match else None
                    if target in modules and target not in may:
                        reason = FORBIDDEN.get(module, {}).get(target, f"{target} is built after {module}")
                        yield f"{path.relative_to(ROOT)}:{number}: {module} may not use {target}: {reason}"


def main():
    found = list(complaints(order()))
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
