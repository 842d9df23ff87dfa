"""The store's limits, measured from outside: the blocks of all files in the data directory, every 10 ms."""

import hashlib
import http.server
import random
import subprocess
import sys
import threading

from harness import case as cases
from harness import client, sluice

MIB = 1 << 20

# Prints the largest sum that it has seen, and how often it looked, when its standard input ends. The process under test
# is halted for each look: a walk past files that come, go and are renamed would count some of them twice. What is
# deleted but still open takes room too. Blocks are counted once for each inode.
SAMPLER = """
import os, signal, sys, threading
folder, pid = sys.argv[1], int(sys.argv[2])
done = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), done.set()), daemon=True).start()
def halted():
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/stat") as file:
            if file.read().rpartition(")")[2].split()[0] not in "TtZX":
                return False
    return True
def used():
    blocks = {}
    def add(found):
        blocks[found.st_dev, found.st_ino] = found.st_blocks
    for path, _, names in os.walk(folder):
        add(os.lstat(path))
        for name in names:
            add(os.lstat(os.path.join(path, name)))
    for name in os.listdir(f"/proc/{pid}/fd"):
        if os.readlink(f"/proc/{pid}/fd/{name}").startswith(folder):
            add(os.stat(f"/proc/{pid}/fd/{name}"))
    return sum(blocks.values())
peak = count = 0
while not done.wait(0.01):
    os.kill(pid, signal.SIGSTOP)
    try:
        while not halted():
            pass
        peak, count = max(peak, used()), count + 1
    finally:
        os.kill(pid, signal.SIGCONT)
print(peak * 512, count)
"""


class Origin:
    """A registry of blobs that are made when they are asked for."""

    def __init__(self, case, count, smallest, largest):
        draw = random.Random(7)
        self.seeds = {}
        for n in range(count):
            size = draw.randrange(smallest, largest)
            self.seeds["sha256:" + hashlib.sha256(self.content(n, size)).hexdigest()] = (n, size)
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                self.answer(True)

            def do_HEAD(self):
                self.answer(False)

            def answer(self, with_body):
                digest = self.path.rpartition("/")[2]
                found = digest in outer.seeds
                body = outer.content(*outer.seeds[digest]) if found else b""
                self.send_response(200 if found or self.path == "/v2/" else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if with_body:
                    self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        case.defer(self.server.shutdown)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    @staticmethod
    def content(n, size):
        block = hashlib.sha512(str(n).encode()).digest() * 1024
        return (block * (size // len(block) + 1))[:size]


def pull_everything(case, limit, count, smallest, largest, clients=4):
    if sluice.STANDIN:
        case.skip("a docker-registry has no such limits")
    origin = Origin(case, count, smallest, largest)
    total = sum(size for _, size in origin.seeds.values())
    cache = sluice.Sluice(case, origin.url, config=f"store:\n  max_size: {limit}\n  min_free: off\n  fsync: false\n")
    sampler = Sampler(case, cache)

    digests = list(origin.seeds)
    wrong = []

    def pull(start):
        # Each in an order of its own, with some overlap: joins, hits and misses.
        mine = digests[start::clients] + random.Random(start).sample(digests, len(digests) // 10)
        for digest in mine:
            download = client.Download(cache.port, f"/v2/some/repository/blobs/{digest}").head()
            if download.drain() != digest:
                wrong.append(digest)
            download.close()

    threads = [threading.Thread(target=pull, args=(n,)) for n in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cases.poll("no fill runs", lambda: cache.metrics()["sluice_store_reserved_bytes"] == 0, 20)
    peak, samples = sampler.stop()
    series = cache.metrics()
    evicted = series['sluice_store_evicted_total{reason="size"}']
    case.say(f"{total / MIB:.0f} MiB pulled within {limit / MIB:.0f} MiB: at most {peak / MIB:.2f} MiB on the disk in "
             f"{samples} samples, {evicted:.0f} blobs evicted, {series['sluice_store_bytes'] / MIB:.1f} MiB at the end")
    assert not wrong, f"wrong digests: {wrong[:3]}"
    assert peak <= limit, f"{peak} bytes on the disk, the limit is {limit}"
    assert evicted > 0 and series["sluice_store_max_bytes"] == limit

    def counted_right():
        # Room for what may come is still being made.
        series, sizes = cache.metrics(), []
        for path in cache.kept().values():
            try:
                sizes.append(path.stat().st_size)
            except FileNotFoundError:
                return False
        return series["sluice_store_bytes"] == sum(sizes) and series["sluice_store_entries"] == len(sizes)

    cases.poll("the counters tell what is there", counted_right)


class Sampler:
    def __init__(self, case, cache):
        self.process = subprocess.Popen([sys.executable, "-c", SAMPLER, str(cache.data), str(cache.process.pid)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        case.defer(self.process.kill)

    def stop(self):
        peak, samples = self.process.communicate("", timeout=30)[0].split()
        return int(peak), int(samples)


def test_disk_use_stays_below_max_size(case):
    pull_everything(case, 64 * MIB, 220, 1000, 6 * MIB)
