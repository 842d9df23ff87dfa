"""Runs one end-to-end test, or lists them: run.py --list | run.py <module>.<test> [more…]

Environment: SLUICE_BINARY, the program under test; SLUICE_E2E_FIXTURES, the folder where the images are kept between
the tests of one build. A test that cannot run on this machine prints "SKIPPED: <reason>" and the exit code is 77.
"""

import ast
import importlib
import os
import pathlib
import signal
import sys
import time
import traceback

HERE = pathlib.Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(HERE))

from harness import case as cases  # noqa: E402
from harness import images  # noqa: E402

SKIPPED = 77


def tests():
    """"module.test" in the order of the files, without running anything."""
    for path in sorted(HERE.glob("test_*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                yield f"{path.stem.removeprefix('test_')}.{node.name.removeprefix('test_')}"


def run(name, fixtures):
    module_name, _, test_name = name.partition(".")
    case = cases.Case(name, fixtures)
    started = time.monotonic()
    print(f"--- {name}", flush=True)
    try:
        case.images = images.ready(case)
        if name != "fixtures":
            getattr(importlib.import_module("test_" + module_name), "test_" + test_name)(case)
    except cases.Skip as skip:
        print(f"SKIPPED: {skip}", flush=True)
        return SKIPPED
    except BaseException as error:  # an interrupt too has to leave nothing behind
        traceback.print_exc()
        for process, log in case.logs():
            print(f"\n--- the end of {process}'s log\n{log}", flush=True)
        return 1
    finally:
        case.close()
        print(f"    {time.monotonic() - started:.1f} s", flush=True)
    return 0


def interrupted(number, _):
    # Once: what follows is cleaning up.
    for each in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt(f"signal {number}")


def main():
    names = sys.argv[1:]
    if names == ["--list"]:
        print("\n".join(tests()))
        return 0
    unknown = set(names) - set(tests()) - {"fixtures"}
    if not names or unknown:
        print(__doc__, file=sys.stderr)
        return 2
    for each in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
        signal.signal(each, interrupted)
    # Before ctest loses its patience, so that everything gets stopped in order.
    signal.alarm(int(os.environ.get("SLUICE_E2E_TIMEOUT", "150")) * len(names))
    fixtures = pathlib.Path(os.environ.get("SLUICE_E2E_FIXTURES") or "/tmp/sluice-e2e-fixtures").resolve()
    results = [run(name, fixtures) for name in names]
    if any(result not in (0, SKIPPED) for result in results):
        return 1
    return SKIPPED if all(result == SKIPPED for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
