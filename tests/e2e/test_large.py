"""What takes gigabytes and minutes: run with SLUICE_E2E_LARGE=1."""

import hashlib
import os
import pathlib
import random
import re
import sqlite3
import subprocess
import sys
import threading
import time

from harness import case as cases
from harness import client, pattern, sluice

MIB = 1 << 20
OFF = "store:\n  max_size: off\n  min_free: off\n  scrub:\n    rate: 0\n"

# Prints the most that the file system has had in use, and how often it looked, when its standard input ends.
SAMPLER = """
import os, sys, threading
done = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), done.set()), daemon=True).start()
peak = count = 0
while not done.wait(0.01):
    now = os.statvfs(sys.argv[1])
    peak, count = max(peak, (now.f_blocks - now.f_bfree) * now.f_frsize), count + 1
print(peak, count)
"""


def wanted(case):
    if sluice.STANDIN or not os.environ.get("SLUICE_E2E_LARGE"):
        case.skip("takes gigabytes and minutes: SLUICE_E2E_LARGE=1")


def mount(case, folder, size):
    folder.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},nr_inodes=0", "tmpfs", str(folder)],
                          capture_output=True, text=True, check=False)
    if done.returncode != 0:
        case.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    case.defer(lambda: subprocess.run(["umount", "-l", str(folder)], check=False))


def resident(cache):
    status = pathlib.Path(f"/proc/{cache.process.pid}/status").read_text()
    return int(re.search(r"^VmRSS:\s+(\d+) kB", status, re.M).group(1)) * 1024


def timed_start(cache):
    """Seconds until it is ready, and of CPU until then: the second says more on a machine that does other things too.

    From the moment the process was there, as the kernel has it: to fork a test that holds a million digests takes time.
    """
    cache.process = cache.case.spawn("sluice", cache.arguments, cache.environment(), cache.work)
    cases.poll("sluice is ready", cache._ready, 60, 0.002)
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    fields = pathlib.Path(f"/proc/{cache.process.pid}/stat").read_text().rpartition(") ")[2].split()
    user, system, started = (int(fields[n]) / os.sysconf("SC_CLK_TCK") for n in (11, 12, 19))
    return now - started, user + system


def pull(cache, digest):
    download = client.Download(cache.port, f"/v2/some/repository/blobs/{digest}").head()
    seen = download.drain()
    download.close()
    assert seen == digest and download.complete, f"{download.status} for {digest}"


def test_million_blobs(case):
    wanted(case)
    count = int(os.environ.get("SLUICE_E2E_BLOBS", "1000000"))
    origin = pattern.Origin(case, [])
    origin.content = lambda n, _: str(n).encode()
    cache = sluice.Sluice(case, origin.url, config=OFF)
    cache.stop()
    mount(case, cache.data, "9g")
    cache.start()
    empty = resident(cache)
    cache.stop()
    shelf = {}
    for number in range(count):
        content = str(number).encode()
        name = hashlib.sha256(content).hexdigest()
        origin.sizes["sha256:" + name] = (number, len(content))
        if name[:2] not in shelf:
            shelf[name[:2]] = cache.data / "blobs" / "sha256" / name[:2]
            shelf[name[:2]].mkdir(parents=True)
        with open(f"{shelf[name[:2]]}/{name}", "wb", buffering=0) as file:
            file.write(content)
    digests = random.Random(1).sample(list(origin.sizes), 200)
    database = sqlite3.connect(cache.data / "catalog.db")
    rows = [(bytes.fromhex(digest[7:]), size) for digest, (_, size) in origin.sizes.items()]
    database.executemany("INSERT INTO blobs VALUES(?, ?, 'application/octet-stream', 1700000000, 1700000000)", rows)
    database.executemany("INSERT INTO memberships(scope, digest, size, media_type, checked_at) VALUES("
                         "'docker.io/some/repository', ?, ?, 'application/octet-stream', ?)",
                         [(*row, int(time.time())) for row in rows])
    database.execute("UPDATE meta SET value = 1 WHERE key = 'complete'")
    database.commit()
    database.close()
    del rows

    seconds, cpu = timed_start(cache)
    each = (resident(cache) - empty) / count
    for digest in digests:
        pull(cache, digest)
    assert not origin.asked
    case.say(f"{count} blobs with a membership each: ready after {seconds:.2f} s "
             f"({cpu:.2f} s of CPU), {each:.0f} bytes of memory each")
    cases.poll("the walk has ended", lambda: "sluice_store_rebuilding 0" in
               cache.admin("/metrics").body.decode(), 60)
    cache.stop()
    for path in cache.data.glob("catalog.db*"):
        path.unlink()
    seconds, _ = timed_start(cache)
    rebuilding = cache.metrics()["sluice_store_rebuilding"]
    began = time.monotonic()
    for digest in digests:
        pull(cache, digest)
    pulled = time.monotonic() - began
    still = cache.metrics()["sluice_store_rebuilding"]
    cases.poll("the index is whole", lambda: cache.metrics()["sluice_store_rebuilding"] == 0, 120, 0.1)
    case.say(f"without the catalog: serving after {seconds:.2f} s; {len(digests)} pulls took {pulled:.2f} s, "
             f"rebuilding before and after them: {rebuilding:.0f}, {still:.0f}; whole after "
             f"{time.monotonic() - began:.1f} s")
    assert not origin.asked, "a blob that is there was fetched"
    assert cache.metrics()["sluice_store_entries"] == count
    assert each < 200
    cache.stop()


def test_ten_gigabytes_in_one(case):
    wanted(case)
    limit = 1024 * MIB
    draw = random.Random(7)
    origin = pattern.Origin(case, [draw.randrange(1000, 52 * MIB) for _ in range(400)])
    cache = sluice.Sluice(case, origin.url,
                          config=f"store:\n  max_size: {limit}\n  min_free: off\n  fsync: false\n")
    cache.stop()
    mount(case, cache.data, "2g")
    cache.start()
    sampler = subprocess.Popen([sys.executable, "-c", SAMPLER, str(cache.data)], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True)
    case.defer(sampler.kill)
    digests = list(origin.sizes)
    wrong = []

    def run(start):
        mine = digests[start::4] + random.Random(start).sample(digests, len(digests) // 10)
        for digest in mine:
            try:
                pull(cache, digest)
            except (AssertionError, OSError, client.Broken) as error:
                wrong.append((digest, str(error)))

    threads = [threading.Thread(target=run, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cases.poll("no fill runs", lambda: cache.metrics()["sluice_store_reserved_bytes"] == 0, 20)
    peak, samples = (int(word) for word in sampler.communicate("", timeout=30)[0].split())
    series = cache.metrics()
    evicted = series['sluice_store_evicted_total{reason="size"}']
    case.say(f"{origin.total / MIB:.0f} MiB in {len(digests)} blobs: at most {peak / MIB:.2f} MiB in use on a file system "
             f"of its own, {samples} samples, {evicted:.0f} evictions")
    assert not wrong, wrong[:3]
    assert peak <= limit, f"{peak} bytes in use, the limit is {limit}"
    cache.stop()
