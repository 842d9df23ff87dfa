"""kill -9 at a random moment of eight downloads, again and again.

SLUICE_E2E_CRASHES says how often; SLUICE_E2E_SEED when.
"""

import os
import random
import threading

from harness import case as cases
from harness import client, pattern, sluice

MIB = 1 << 20
WINDOW = 2 * MIB
FILLS = 8
LEAST_PART = 64 * 1024
RATE = 60e6


def pull_all(cache, digests):
    """All at once; {digest: (whole, digest of what came)}."""
    results = {}

    def pull(digest):
        try:
            download = client.Download(cache.port, f"/v2/some/repository/blobs/{digest}").head()
            seen = download.drain()
            results[digest] = (download.status == 200 and download.complete, seen)
            download.close()
        except (OSError, client.Broken):
            results[digest] = (False, None)

    threads = [threading.Thread(target=pull, args=(digest,)) for digest in digests]
    for thread in threads:
        thread.start()
    return threads, results


def parts_of(cache):
    """{digest: bytes} of what lies in incoming/."""
    out = {}
    for path in (cache.data / "incoming").glob("*.part"):
        try:
            out["sha256:" + path.name.removeprefix("sha256-").partition(".")[0]] = path.stat().st_size
        except FileNotFoundError:
            pass  # it became a blob just now
    return out


def test_killed_at_random(case):
    if sluice.STANDIN:
        case.skip("a docker-registry keeps no parts")
    rounds = int(os.environ.get("SLUICE_E2E_CRASHES", "5"))
    draw = random.Random(int(os.environ.get("SLUICE_E2E_SEED", "1")))
    origin = pattern.Origin(case, [draw.randrange(3 * MIB, 9 * MIB) for _ in range(rounds * FILLS)])
    cache = sluice.Sluice(case, origin.url, config="fill:\n  window: 2MiB\nstore:\n  max_size: off\n  min_free: off\n")
    digests = list(origin.sizes)
    in_parts = 0
    for number in range(rounds):
        these = digests[number * FILLS:(number + 1) * FILLS]
        size = sum(origin.sizes[digest][1] for digest in these)
        before = origin.sent
        origin.rate = RATE
        threads, results = pull_all(cache, these)
        cases.poll("bytes come", lambda: origin.sent > before)
        # Some before much has come, some when all of it has.
        threading.Event().wait(draw.uniform(0, 1.1) * size / RATE)
        cache.process.kill()
        for thread in threads:
            thread.join()
        wrong = [digest for digest, (whole, seen) in results.items() if whole and seen != digest]
        assert not wrong, f"round {number}: wrong bytes as a whole body: {wrong}"
        left = {digest: size for digest, size in parts_of(cache).items() if size >= LEAST_PART}
        in_parts += sum(left.values())

        origin.rate = None
        asked = len(origin.asked)
        cache.start()
        assert cache.metrics()["sluice_parts_bytes"] == sum(left.values()), f"round {number}: parts are lost"
        threads, results = pull_all(cache, these)
        for thread in threads:
            thread.join()
        bad = [digest for digest in these if results[digest] != (True, digest)]
        assert not bad, f"round {number}: {len(bad)} blobs did not come whole after the restart: {bad[:2]}"
        begun = dict(reversed(origin.asked[asked:]))  # where the first download of each began
        for digest, size_then in left.items():
            expected = None if size_then == origin.sizes[digest][1] else size_then
            assert begun.get(digest, expected) in (expected, size_then), \
                f"round {number}: {digest} had {size_then} bytes, and was asked for from {begun.get(digest)}"
        spent = origin.sent - before
        allowed = 1.1 * size + FILLS * WINDOW
        assert spent <= allowed, (f"round {number}: {spent} bytes from upstream for {size}; parts {left}, asked for "
                                  f"{origin.asked[asked:]}")
        cases.poll("nothing is left in incoming", lambda: not parts_of(cache), 10)
    kept = cache.kept()
    missing = [digest for digest in digests if digest.removeprefix("sha256:") not in kept]
    assert not missing, f"{len(missing)} blobs are not stored"
    case.say(f"{rounds} crashes, {rounds * FILLS} downloads: {origin.sent / origin.total:.4f} of the set came from "
             f"upstream; {in_parts / MIB:.0f} of {origin.total / MIB:.0f} MiB had arrived when it was killed")
