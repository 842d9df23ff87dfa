#!/usr/bin/python3
"""Compares sluice with what people would use in its place: ./dev bench [--quick] [--part NAME …] [--write FILE]

Everything runs on this machine, in a network namespace of its own where root allows it: congestion control there is
reno, because the pacing of bbr makes all servers on loopback look alike. The server under test has core 0, the origin
and the load have core 1. The samples of one table are taken in turns, in a shuffled order for each round; files are read
once before a sample, so that the disk is out of the picture. What is printed is the median of the rounds, its spread,
and the median of the ratios round by round. CPU is the scheduler's account of all threads of the server, and holds the
kernel's work for it; memory is the peak resident size.

With --target ADDR:PORT --pid N it measures one server that runs already, with --path as the object to ask for.
"""

import argparse
import hashlib
import http.client
import json
import os
import pathlib
import platform
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import processes  # noqa: E402
import servers  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
REPOSITORY = "bench/image"
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

# What has to be reached: (row, peer) → the most that sluice may have of the peer's figure.
GOALS = {
    ("GET 528 B, CPU", "floor"): 1.25, ("HEAD, CPU", "floor"): 1.25,
    ("GET 528 B, CPU", "nginx static"): 0.70, ("HEAD, CPU", "nginx static"): 0.80,
    ("GET 528 B, CPU", "nginx cache"): 0.50, ("HEAD, CPU", "nginx cache"): 0.75,
    ("GET 528 B, CPU", "Varnish"): 0.30, ("HEAD, CPU", "Varnish"): 0.30,
    ("GET 528 B, CPU", "docker-registry"): 0.005, ("HEAD, CPU", "docker-registry"): 0.005,
    ("64 KiB, CPU", "floor"): 1.3, ("1 MiB, CPU", "floor"): 1.05, ("100 MiB, CPU", "floor"): 1.05,
    ("64 KiB, CPU", "nginx static"): 0.80, ("1 MiB, CPU", "nginx static"): 1.05, ("100 MiB, CPU", "nginx static"): 1.05,
    ("64 KiB, CPU", "nginx cache"): 0.90, ("1 MiB, CPU", "nginx cache"): 0.95, ("100 MiB, CPU", "nginx cache"): 0.95,
    ("64 KiB, CPU", "Varnish"): 0.6, ("1 MiB, CPU", "Varnish"): 0.8, ("100 MiB, CPU", "Varnish"): 0.8,
    ("64 KiB, CPU", "docker-registry"): 0.005, ("1 MiB, CPU", "docker-registry"): 0.2,
    ("100 MiB, CPU", "docker-registry"): 0.2,
    ("cold, one core, wall", "nginx cache"): 1.4, ("cold, two cores, wall", "nginx cache"): 0.95,
    ("cold, one core, wall", "Varnish"): 1.2, ("cold, two cores, wall", "Varnish"): 0.85,
    ("cold, one core, CPU", "docker-registry"): 0.4,
    ("50 readers, wall", "nginx cache"): 0.70, ("500 readers, wall", "nginx cache"): 0.65,
    ("50 readers, CPU", "nginx cache"): 0.9, ("500 readers, CPU", "nginx cache"): 0.9,
    ("50 readers, wall", "Varnish"): 0.75, ("500 readers, wall", "Varnish"): 0.55,
    ("50 readers, wall", "docker-registry"): 0.2, ("500 readers, wall", "docker-registry"): 0.08,
    ("TLS GET 528 B, CPU", "nginx static"): 0.9, ("TLS 100 MiB, CPU", "nginx static"): 1.0,
    ("TLS GET 528 B, CPU", "nginx cache"): 0.8, ("TLS 100 MiB, CPU", "nginx cache"): 1.0,
}


class Objects:
    """Files with true digests under the URL space of the API. Each is a shared base with a stamp of its own in front."""

    def __init__(self, root, size_limit):
        self.root = root
        self.base = random.Random(1).randbytes(min(size_limit, 64 * MIB))
        self.count = 0

    def blob(self, size):
        self.count += 1
        folder = self.root / "v2" / REPOSITORY / "blobs"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"new-{self.count}"
        hasher = hashlib.sha256()
        with open(path, "wb") as file:
            left, piece = size, self.count.to_bytes(8, "big") + self.base[8:]
            while left > 0:
                part = piece[:left]
                file.write(part)
                hasher.update(part)
                left -= len(part)
                piece = self.base
        return self._named(path, hasher.hexdigest())

    def manifest(self, size=528):
        folder = self.root / "v2" / REPOSITORY / "manifests"
        folder.mkdir(parents=True, exist_ok=True)
        digest = "sha256:" + "0" * 64
        document = {"schemaVersion": 2, "mediaType": servers.MANIFEST_TYPE,
                    "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": 2},
                    "layers": [], "annotations": {"fill": ""}}
        document["annotations"]["fill"] = "x" * (size - len(json.dumps(document)))
        text = json.dumps(document).encode()
        path = folder / "new"
        path.write_bytes(text)
        return self._named(path, hashlib.sha256(text).hexdigest())

    def _named(self, path, hex_digest):
        digest = f"sha256:{hex_digest}"
        target = path.parent / digest
        path.rename(target)
        return Object(target, f"/v2/{REPOSITORY}/{path.parent.name}/{digest}", digest)


class Object:
    def __init__(self, file, path, digest):
        self.file, self.path, self.digest, self.size = file, path, digest, file.stat().st_size

    def read_once(self):
        with open(self.file, "rb") as file:
            while file.read(4 * MIB):
                pass


class Run:
    """The servers of one part, the rounds over them, and what came out."""

    def __init__(self, bench, rounds, random_source):
        self.bench, self.rounds, self.random = bench, rounds, random_source
        self.figures = {}  # row → peer → list of figures, one for each round
        self.order = []

    def note(self, row, peer, value):
        if row not in self.order:
            self.order.append(row)
        self.figures.setdefault(row, {}).setdefault(peer, []).append(value)

    def _load_arguments(self, mode, port, path, *options):
        return ["taskset", "-c", "1", str(self.bench.binaries / "bench_load"), mode, f"127.0.0.1:{port}", path,
                *map(str, options)]

    def start_load(self, *what):
        """As load, in the background: returns the process."""
        return subprocess.Popen(self._load_arguments(*what), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def load(self, *what):
        arguments = self._load_arguments(*what)
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=900)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(arguments)}: {done.stderr.strip()}")
        return json.loads(done.stdout)

    def in_turns(self, peers, sample):
        """sample(name, server) for each peer, in a new order each round."""
        for _ in range(self.rounds):
            names = list(peers)
            self.random.shuffle(names)
            for name in names:
                sample(name, peers[name])


class Started:
    """Servers that run for a `with`: name → (process, port)."""

    def __init__(self, bench, starts, cores, origin_port, first_port, tls=False):
        self.bench, self.starts, self.cores, self.origin, self.port, self.tls = bench, starts, cores, origin_port, first_port, tls

    def __enter__(self):
        self.running = {}
        try:
            for offset, (name, start) in enumerate(self.starts.items()):
                port = self.port + offset
                self.running[name] = (start(self.bench, port, self.cores, self.origin, self.tls), port)
        except BaseException:
            self.__exit__()
            raise
        return self.running

    def __exit__(self, *_):
        for process, port in self.running.values():
            process.stop()
            for left in self.bench.folder.glob(f"*-{port}.*"):  # gigabytes of cached blobs
                if left.is_dir():
                    shutil.rmtree(left, ignore_errors=True)


CACHES = {"sluice": servers.sluice, "nginx cache": servers.nginx_cache, "Varnish": servers.varnish,
          "docker-registry": servers.registry}


def part_small(run, objects, origin, quick):
    """A manifest of 528 bytes by digest, from the cache: µs of CPU for each request, 64 keep-alive connections."""
    manifest = objects.manifest()
    starts = {"floor": servers.floor_bytes, "nginx static": servers.nginx_static, "haproxy": servers.haproxy, **CACHES}
    seconds = 0.6 if quick else 2
    with Started(run.bench, starts, 1, origin, 20100) as peers:
        def sample(name, peer):
            process, port = peer
            for row, method in (("GET 528 B, CPU", "GET"), ("HEAD, CPU", "HEAD")):
                options = ("--method", method, "--connections", 64)
                run.load("repeat", port, manifest.path, "--seconds", 0.2, *options)
                before = process.cpu_seconds()
                done = run.load("repeat", port, manifest.path, "--seconds", seconds, *options)
                run.note(row, name, (process.cpu_seconds() - before) / done["requests"] * 1e6)
        run.in_turns(peers, sample)


def part_blob(run, objects, origin, quick):
    """Blobs at rest: seconds of CPU for each GiB, 8 keep-alive connections."""
    for row, size in (("64 KiB, CPU", 64 * KIB), ("1 MiB, CPU", MIB), ("100 MiB, CPU", 100 * MIB)):
        blob = objects.blob(size)
        starts = {"floor": servers.floor_file(blob.file), "nginx static": servers.nginx_static, **CACHES}
        with Started(run.bench, starts, 1, origin, 20200) as peers:
            def sample(name, peer, row=row, blob=blob):
                process, port = peer
                run.load("once", port, blob.path, "--connections", 1)
                before = process.cpu_seconds()
                done = run.load("repeat", port, blob.path, "--seconds", 0.6 if quick else 2, "--connections", 8)
                run.note(row, name, (process.cpu_seconds() - before) / (done["body_bytes"] / GIB))
            run.in_turns(peers, sample)


def upstream_bytes(origin_process, path):
    total = 0
    for line in origin_process.access_log.read_text().splitlines():
        fields = line.split()
        if len(fields) >= 3 and fields[2] == path and fields[0] in ("200", "206"):
            total += int(fields[1])
    return total


def cold_sample(run, origin, rows, name, peer, blob, connections):
    process, port = peer
    blob.read_once()
    before = process.cpu_seconds()
    done = run.load("once", port, blob.path, "--connections", connections, "--digest", blob.digest)
    time.sleep(0.2)  # what a server still does after the last byte is its work too
    run.note(rows + ", wall", name, done["seconds"])
    run.note(rows + ", CPU", name, process.cpu_seconds() - before)
    run.note(rows + ", first byte (median)", name, done["first_byte_median"] * 1e3)
    run.note(rows + ", upstream ÷ blob", name, upstream_bytes(origin, blob.path) / blob.size)


def part_cold(run, objects, origin, quick):
    """A cold blob of 1 GiB for one reader who hashes it. sluice verifies the digest before the last byte; nginx and
    Varnish verify nothing. Seconds."""
    size = 128 * MIB if quick else GIB
    for rows, cores in (("cold, one core", 1), ("cold, two cores", 2)):
        with Started(run.bench, CACHES, cores, origin.port, 20300) as peers:
            for _ in range(run.rounds):
                names = list(peers)
                run.random.shuffle(names)
                for name in names:
                    blob = objects.blob(size)
                    cold_sample(run, origin, rows, name, peers[name], blob, 1)
                    blob.file.unlink()


def part_fanout(run, objects, origin, quick):
    """One cold blob for many readers at once, who take it as fast as it comes. Seconds."""
    for rows, readers, size in (("50 readers", 50, 20 * MIB if quick else 100 * MIB),
                                ("500 readers", 500, 4 * MIB if quick else 16 * MIB)):
        with Started(run.bench, CACHES, 1, origin.port, 20400) as peers:
            for process, _ in peers.values():
                process.forget_peak_memory()
            for _ in range(run.rounds):
                names = list(peers)
                run.random.shuffle(names)
                for name in names:
                    blob = objects.blob(size)
                    cold_sample(run, origin, rows, name, peers[name], blob, readers)
                    blob.file.unlink()
            for name, (process, _) in peers.items():
                run.note(rows + ", peak memory", name, process.peak_memory_mib())


def part_tls(run, objects, origin, quick):
    """As small and blob, over TLS 1.3."""
    manifest, blob = objects.manifest(), objects.blob(100 * MIB)
    starts = {"nginx static": servers.nginx_static, "nginx cache": servers.nginx_cache, "sluice": servers.sluice}
    seconds = 0.6 if quick else 2
    with Started(run.bench, starts, 1, origin, 20500, tls=True) as peers:
        def sample(name, peer):
            process, port = peer
            for row, path, connections in (("TLS GET 528 B, CPU", manifest.path, 64), ("TLS 100 MiB, CPU", blob.path, 8)):
                run.load("once", port, path, "--connections", 1, "--tls")
                before = process.cpu_seconds()
                done = run.load("repeat", port, path, "--seconds", seconds, "--connections", connections, "--tls")
                work = done["requests"] / 1e6 if path == manifest.path else done["body_bytes"] / GIB
                run.note(row, name, (process.cpu_seconds() - before) / work)
        run.in_turns(peers, sample)


def drop_pages(folder, most_bytes=128 * KIB):
    """Takes the files under that folder out of the page cache, but for larger ones."""
    for path in folder.rglob("*"):
        try:
            if not path.is_file() or path.stat().st_size > most_bytes:
                continue
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def latencies(port, objects):
    """Seconds until the end of each answer, one request after another on one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    found = []
    for one in objects:
        began = time.perf_counter()
        connection.request("GET", one.path)
        answer = connection.getresponse()
        if answer.status != 200 or len(answer.read()) != one.size:
            raise RuntimeError(f"{one.path}: status {answer.status}")
        found.append(time.perf_counter() - began)
    connection.close()
    return found


def p99(values):
    return sorted(values)[int(0.99 * len(values))]


def part_tail(run, objects, origin, quick):
    """What bulk work does to those who want little, on two cores: HEADs while 8 connections read 100 MiB again and again,
    and blobs of 64 KiB whose pages are not in memory while four cold layers of 2 GiB are fetched and stored. The worst
    1 % of answers, in milliseconds."""
    manifest, large = objects.manifest(), objects.blob(100 * MIB)
    small = [objects.blob(64 * KIB) for _ in range(60 if quick else 300)]
    layer_bytes = (128 * MIB) if quick else 2 * GIB
    starts = {"sluice": servers.sluice, "nginx cache": servers.nginx_cache}
    folders = {"sluice": "sluice-{}.data", "nginx cache": "nginx-cache-{}.cache"}
    with Started(run.bench, starts, 2, origin, 20600) as peers:
        def beside_bulk(name, peer):
            _, port = peer
            head = ("--method", "HEAD", "--connections", 4, "--seconds", 0.6 if quick else 2)
            run.load("once", port, large.path, "--connections", 1)
            run.load("repeat", port, manifest.path, "--seconds", 0.2)
            run.note("HEAD quiet, p99", name, run.load("repeat", port, manifest.path, *head)["p99"] * 1e3)
            bulk = run.start_load("repeat", port, large.path, "--connections", 8, "--seconds", 1.5 if quick else 3)
            time.sleep(0.3)
            run.note("HEAD beside bulk, p99", name, run.load("repeat", port, manifest.path, *head)["p99"] * 1e3)
            bulk.communicate()

        def beside_fills(name, peer):
            _, port = peer
            folder = run.bench.folder / folders[name].format(port)
            layers = [objects.blob(layer_bytes) for _ in range(4)]
            latencies(port, small)
            drop_pages(folder)
            run.note("cold page cache quiet, p99", name, p99(latencies(port, small)) * 1e3)
            pulls = [run.start_load("once", port, layer.path, "--connections", 1) for layer in layers]
            found, busy_until = [], None
            while busy_until is None or time.monotonic() < busy_until:
                drop_pages(folder)
                found += latencies(port, small)
                if busy_until is None and all(pull.poll() is not None for pull in pulls):
                    busy_until = time.monotonic() + 1  # what is done after the last byte counts too
            run.note("cold page cache beside four fills, p99", name, p99(found) * 1e3)
            run.note("cold page cache beside four fills, worst", name, max(found) * 1e3)
            for pull, layer in zip(pulls, layers):
                if pull.returncode != 0:
                    raise RuntimeError(f"{name}: {pull.stderr.read()}")
                layer.file.unlink()

        run.in_turns(peers, beside_bulk)
        run.rounds = 1  # some 20 GiB are written and read
        run.in_turns(peers, beside_fills)


def part_ranges(run, objects, origin, quick):
    """Ranges of a cold blob, on two cores: twenty of 16 MiB side by side that make up the whole (as SOCI and containerd
    pull), and one of 64 KiB in the middle (as lazy pullers do). nginx slice keeps pieces of 1 MiB, unverified; sluice
    verifies what it keeps."""
    piece = (1 if quick else 16) * MIB
    starts = {**CACHES, "nginx slice": servers.nginx_slice}
    with Started(run.bench, starts, 2, origin.port, 20700) as peers:
        def sample(name, peer):
            process, port = peer
            blob = objects.blob(20 * piece)
            blob.read_once()
            before, began = process.cpu_seconds(), time.perf_counter()
            pulls = [run.start_load("once", port, blob.path, "--connections", 1, "--range",
                                    f"{first}-{first + piece - 1}") for first in range(0, blob.size, piece)]
            for pull in pulls:
                if pull.wait(900) != 0:
                    raise RuntimeError(f"{name}: {pull.stderr.read()}")
            run.note("20 ranges at once, wall", name, time.perf_counter() - began)
            time.sleep(1)  # what is fetched beyond them is work too
            run.note("20 ranges at once, CPU", name, process.cpu_seconds() - before)
            run.note("20 ranges at once, upstream ÷ blob", name, upstream_bytes(origin, blob.path) / blob.size)
            blob.file.unlink()

            blob = objects.blob(20 * piece)
            blob.read_once()
            middle = blob.size // 2
            done = run.load("once", port, blob.path, "--connections", 1, "--range", f"{middle}-{middle + 64 * KIB - 1}")
            run.note("64 KiB in the middle, wall", name, done["seconds"])
            time.sleep(1)
            run.note("64 KiB in the middle, upstream", name, upstream_bytes(origin, blob.path) / MIB)
            blob.file.unlink()
        run.in_turns(peers, sample)


def part_scale(run, objects, origin, quick):
    """What a client costs that does nothing, or little: resident memory for each of 2,000 keep-alive connections that
    have asked for one manifest, and for each of 200 that read a stored blob of 100 MiB at 256 KiB/s."""
    manifest, blob = objects.manifest(), objects.blob(100 * MIB)
    idle, readers = (200, 20) if quick else (2000, 200)
    starts = {"nginx static": servers.nginx_static, **CACHES}
    with Started(run.bench, starts, 1, origin, 20800) as peers:
        def sample(name, peer):
            process, port = peer
            run.load("repeat", port, manifest.path, "--seconds", 0.3, "--connections", 64)
            run.load("once", port, blob.path, "--connections", 1)
            before, connections = process.memory_mib(), []
            try:
                for _ in range(idle):
                    one = socket.create_connection(("127.0.0.1", port), timeout=30)
                    connections.append(one)
                    one.sendall(f"GET {manifest.path} HTTP/1.1\r\nHost: bench\r\n"
                                f"Accept: {servers.MANIFEST_TYPE}\r\n\r\n".encode())
                for one in connections:
                    if not one.recv(64 * KIB).startswith(b"HTTP/1.1 200"):
                        raise RuntimeError(f"{name}: no 200 for a manifest")
                run.note("idle connection, memory", name, (process.memory_mib() - before) * 1024 / idle)
            finally:
                for one in connections:
                    one.close()
            time.sleep(0.5)
            before = process.memory_mib()
            load = run.start_load("once", port, blob.path, "--connections", readers, "--rate", 256 * KIB)
            try:
                time.sleep(3)
                if load.poll() is not None:
                    raise RuntimeError(f"{name}: {load.stderr.read()}")
                run.note("slow reader, memory", name, max(process.memory_mib() - before, 0) * 1024 / readers)
            finally:
                load.kill()
                load.communicate()
        run.in_turns(peers, sample)


PARTS = {"small": part_small, "blob": part_blob, "cold": part_cold, "fanout": part_fanout, "ranges": part_ranges,
         "tls": part_tls, "scale": part_scale, "tail": part_tail}
NEED_ORIGIN = ("cold", "fanout", "ranges")  # its log is read, too
UNITS = {", wall": "s", ", CPU": "s", ", first byte (median)": "ms", ", upstream ÷ blob": "×", ", peak memory": "MiB",
         ", p99": "ms", ", worst": "ms", ", upstream": "MiB", ", memory": "KiB"}


def unit_of(part, row):
    if row in ("GET 528 B, CPU", "HEAD, CPU", "TLS GET 528 B, CPU"):
        return "µs a request"
    if part in ("blob", "tls"):
        return "s a GiB"
    return next(unit for ending, unit in UNITS.items() if row.endswith(ending))


def table(part, run):
    """Markdown: a row for each work and peer, with the ratio of sluice to the peer and the goal where there is one."""
    out = ["| work | server | median | min–max | sluice ÷ it | goal | |", "|---|---|---|---|---|---|---|"]
    for row in run.order:
        ours = run.figures[row].get("sluice", [])
        for peer, values in run.figures[row].items():
            ratio, goal, mark = "", "", ""
            if peer != "sluice" and ours:
                of_rounds = [a / b for a, b in zip(ours, values) if b > 0]
                if of_rounds:
                    found = statistics.median(of_rounds)
                    ratio = f"{found:.3g}"
                    if (row, peer) in GOALS:
                        goal = f"≤ {GOALS[(row, peer)]}"
                        mark = "reached" if found <= GOALS[(row, peer)] else "**short**"
            out.append(f"| {row}, {unit_of(part, row)} | {peer} | {statistics.median(values):.3g} | {min(values):.3g}–{max(values):.3g} "
                       f"| {ratio} | {goal} | {mark} |")
    return "\n".join(out)


def versions():
    def first_line(*command):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=20)
            return (done.stdout + done.stderr).strip().splitlines()[0]
        except (OSError, IndexError):
            return "absent"
    commit = first_line("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD")
    model = next((line.split(":", 1)[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.machine())
    return [f"sluice {commit}", first_line("nginx", "-v"), first_line("varnishd", "-V"), first_line("haproxy", "-v"),
            first_line("docker-registry", "--version"), f"Linux {platform.release()}", f"{os.cpu_count()} × {model}"]


def certificate(folder):
    paths = folder / "cert.pem", folder / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-subj", "/CN=127.0.0.1", "-keyout", paths[1], "-out", paths[0]], check=True, capture_output=True)
    return paths


def enter_namespace():
    """Starts this program again in a network namespace of its own. Returns there, and where that is not possible."""
    if os.environ.get("SLUICE_BENCH_NAMESPACE") or os.geteuid() != 0 or shutil.which("unshare") is None:
        return
    if subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode != 0:
        return
    environment = {**os.environ, "SLUICE_BENCH_NAMESPACE": "1"}
    script = ("ip link set lo up; echo reno >/proc/sys/net/ipv4/tcp_congestion_control; "
              "echo '32768 60999' >/proc/sys/net/ipv4/ip_local_port_range; exec \"$@\"")
    os.execvpe("unshare", ["unshare", "--net", "sh", "-c", script, "sh", sys.executable, *sys.argv], environment)


def measure_target(options, binaries):
    bench = servers.Bench(None, None, binaries)
    run = Run(bench, options.rounds, random.Random(options.seed))
    host, _, port = options.target.rpartition(":")
    assert host in ("127.0.0.1", "localhost"), "--target is on this machine: its CPU time is read from /proc"
    for connections, method in ((64, "GET"), (64, "HEAD"), (8, "GET")):
        before = processes.cpu_seconds(options.pid)
        done = run.load("repeat", port, options.path, "--seconds", 2, "--connections", connections, "--method", method)
        cpu = processes.cpu_seconds(options.pid) - before
        print(f"{method} by {connections}: {done['requests'] / done['seconds']:.0f} requests/s, "
              f"{cpu / done['requests'] * 1e6:.2f} µs CPU a request, p99 {done['p99'] * 1e3:.2f} ms")


TABLES_BELOW = "<!-- What stands below is written by ./dev bench --write. -->\n"


def write_tables(path, text):
    """Keeps what the file says in front of the mark."""
    before = path.read_text().partition(TABLES_BELOW)[0] if path.exists() else ""
    path.write_text(before + TABLES_BELOW + "\n" + "\n".join(text))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller and fewer samples: a look, not a result")
    parser.add_argument("--part", action="append", choices=sorted(PARTS), help="only this one (may be repeated)")
    parser.add_argument("--rounds", type=int, default=0, help="samples of each figure [5, with --quick 2]")
    parser.add_argument("--seed", type=int, default=0, help="of the order of samples [the time]")
    parser.add_argument("--write", type=pathlib.Path, help="write the tables to this file too, behind its mark, as in docs/benchmarks.md")
    parser.add_argument("--binaries", type=pathlib.Path, default=ROOT / "build/release")
    parser.add_argument("--target", help="ADDR:PORT of a server that runs already")
    parser.add_argument("--pid", type=int, help="its process")
    parser.add_argument("--path", help="what to ask it for")
    options = parser.parse_args()
    options.rounds = options.rounds or (2 if options.quick else 5)
    options.seed = options.seed or int(time.time())
    if options.target:
        if not options.pid or not options.path:
            parser.error("--target takes --pid and --path")
        return measure_target(options, options.binaries)
    if options.write and options.part:
        parser.error("--write replaces all tables, so it takes no --part")

    enter_namespace()
    congestion = pathlib.Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
    if congestion == "bbr":
        print("warning: no network namespace (not root?), and bbr paces all servers to the same speed", file=sys.stderr)
    text = [f"Machine and versions: {'; '.join(versions())}; {congestion}; {options.rounds} rounds"
            f"{', quick' if options.quick else ''}; seed {options.seed}.\n"]
    print(text[0])
    folder = pathlib.Path(tempfile.mkdtemp(prefix="sluice-bench-"))
    try:
        os.chmod(folder, 0o755)
        objects = Objects(folder / "objects", GIB)
        bench = servers.Bench(folder, objects.root, options.binaries.resolve(), certificate(folder))
        origin = servers.origin(bench)
        try:
            for name in options.part or PARTS:
                run = Run(bench, options.rounds, random.Random(options.seed))
                part = PARTS[name]
                part(run, objects, origin if name in NEED_ORIGIN else origin.port, options.quick)
                about = " ".join(part.__doc__.split())
                text.append(f"### {name}\n\n{about}\n\n{table(name, run)}\n")
                print(text[-1], flush=True)
                if options.write:
                    write_tables(options.write, text)  # what is measured stands, whatever the next part does
        finally:
            origin.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
