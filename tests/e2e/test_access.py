"""Who may see what, under which name, for how long; and that known blobs cost neither upstream nor the disk."""

import collections
import hashlib
import pathlib
import random
import shutil
import socket
import time

from harness import case as cases
from harness import client, faults, images, origin, scripted, sluice

BLOB = random.Random(7).randbytes(300_000)


def test_what_a_has_is_not_given_to_b(case):
    upstream = scripted.Registry(case)
    (digest,) = upstream.add("team/a", BLOB)
    cache = sluice.Sluice(case, upstream.url)
    assert cache.blob("team/a", digest).body == BLOB
    assert upstream.count("GET", digest) == 1

    # Upstream says no: it does not have it there, or does not give it to us.
    for status, code in ((404, "BLOB_UNKNOWN"), (401, "UNAUTHORIZED"), (403, "DENIED")):
        repository = f"team/b{status}"
        upstream.refused[repository] = status
        for method in ("GET", "HEAD"):
            answer = cache.get(f"/v2/{repository}/blobs/{digest}", method=method)
            assert answer.status == status, f"{method} {repository}: {answer.status}"
            assert method == "HEAD" or answer.codes() == [code], answer.body
            # One that no client answers with somebody's login (RFC 9110 section 11.6.1).
            challenge = answer.headers.get("www-authenticate", "")
            assert (status == 401) == bool(challenge), challenge
            assert not challenge.lower().startswith(("basic", "bearer")), challenge
    assert cache.blob("team/a", digest).body == BLOB

    # Nobody answers: B has to wait for upstream's word, A does not. What B hears is what it would hear of a blob that is
    # nowhere.
    upstream.stop()
    for method in ("GET", "HEAD"):
        for asked in (digest, "sha256:" + 64 * "0"):
            answer = cache.get(f"/v2/team/c/blobs/{asked}", method=method)
            assert answer.status in (502, 503) and int(answer.headers["retry-after"]) > 0, f"{method}: {answer}"
            assert method == "HEAD" or answer.codes() == ["UNAVAILABLE"], answer.body
            assert b"cached" not in answer.body, answer.body
    assert cache.blob("team/a", digest).body == BLOB
    cache.restart()
    assert cache.blob("team/a", digest).body == BLOB
    assert cache.get(f"/v2/team/c/blobs/{digest}").status in (502, 503)


def test_upstream_takes_its_word_back(case):
    upstream = scripted.Registry(case)
    (digest,) = upstream.add("team/a", BLOB)
    (other,) = upstream.add("team/z", BLOB)
    config = f"upstreams: {{ docker.io: {{ url: '{upstream.url}', retries: 0 }} }}\ndescriptors: {{ ttl: 1s }}\n"
    cache = sluice.Sluice(case, config=config)
    for repository in ("team/a", "team/z"):
        assert cache.blob(repository, digest).status == 200
    upstream.refused["team/a"] = 403
    cases.poll("upstream's no is heard", lambda: cache.blob("team/a", digest).status == 403)
    assert cache.get(f"/v2/team/a/blobs/{digest}", method="HEAD").status == 403
    # While it is out, the one that it has not taken back is served.
    upstream.stop()
    cases.poll("upstream is missed", lambda: cache.blob("team/z", digest).status == 200 and
               cache.metrics().get('sluice_membership_checks_total{result="stale"}', 0) > 0)
    assert cache.blob("team/z", other).body == BLOB
    assert cache.blob("team/a", digest).status in (502, 503)


def test_two_names_of_one_blob(case):
    upstream = scripted.Registry(case)
    canonical, other = upstream.add("team/a", BLOB, "sha256", "sha512")
    cache = sluice.Sluice(case, upstream.url)
    cold = cache.blob("team/a", other)
    assert cold.body == BLOB and cold.headers["docker-content-digest"] == other
    cases.poll("the fill ends", lambda: cache.metrics()["sluice_fills_in_flight"] == 0)
    asked = upstream.count()
    for name in (other, canonical):
        answer = cache.blob("team/a", name)
        assert answer.body == BLOB and answer.headers["docker-content-digest"] == name, answer.headers
        assert cache.get(f"/v2/team/a/blobs/{name}", method="HEAD").headers["docker-content-digest"] == name
        part = cache.blob("team/a", name, {"Range": "bytes=100-199"})
        assert part.status == 206 and part.body == BLOB[100:200]
    assert upstream.count() == asked and upstream.count("GET", "/blobs/") == 1
    assert len(cache.kept()) == 1, cache.kept()
    cache.restart()
    upstream.stop()
    assert cache.blob("team/a", other).body == BLOB

    # A word of upstream about bytes that lie here for others hands them out to nobody.
    liar = scripted.Registry(case)
    mine = random.Random(8).randbytes(1000)
    (claimed,) = liar.add("evil/a", mine, "sha512")
    liar.canonical[claimed] = canonical
    config = f"upstreams: {{ liar.test: {{ url: '{liar.url}' }} }}\n"
    config += f"default_upstream: liar.test\ndata: {cache.data}\n"
    assert cache.stop() == 0
    cache.options, cache.upstream = [], None
    path = cache.home / "liar.yml"
    path.write_text(config)
    cache.options = ["--config", str(path)]
    cache.start()
    assert cache.blob("evil/a", claimed).body == mine
    assert cache.blob("evil/a", canonical).status == 404


def test_two_names_at_docker_registry(case):
    """distribution takes uploads by sha512 and calls them by their sha256."""
    registry = origin.Registry(case, storage=case.folder("writable"), writable=True)
    digest = "sha512:" + hashlib.sha512(BLOB).hexdigest()
    canonical = images.sha256(BLOB)
    started = client.request(registry.port, "/v2/team/a/blobs/uploads/", {"Content-Length": "0"}, "POST")
    assert started.status == 202, started
    location = started.headers["location"].split(f":{registry.port}", 1)[1]
    put = f"PUT {location}&digest={digest.replace(':', '%3A')} HTTP/1.1\r\nHost: 127.0.0.1:{registry.port}\r\n"
    put += f"Connection: close\r\nContent-Type: application/octet-stream\r\nContent-Length: {len(BLOB)}\r\n\r\n"
    stored = client.request(registry.port, location, raw=put.encode() + BLOB)
    if stored.status != 201:
        case.skip(f"this docker-registry takes no sha512: {stored.status} {stored.body[:200]}")

    proxy = faults.FaultProxy(case, registry.port)
    cache = sluice.Sluice(case, proxy.url)
    # Known by its sha256 first; then upstream says that the sha512 is the same, and the bytes agree.
    if cache.blob("team/a", canonical).status != 200:
        case.say("this docker-registry links an upload under one name only")
    downloads = proxy.count("GET", "/blobs/")
    answer = cache.blob("team/a", digest)
    assert answer.body == BLOB, answer.status
    cases.poll("the fill ends", lambda: cache.metrics()["sluice_fills_in_flight"] == 0)
    again = cache.blob("team/a", digest)
    assert again.body == BLOB and again.headers["docker-content-digest"] == digest, again.headers
    assert len(cache.kept()) == 1
    case.say(f"{proxy.count('GET', '/blobs/') - downloads} more downloads for the second name")


def heads(port, path, count):
    """`count` HEADs over one connection, in batches. How many were answered with 200."""
    request = f"HEAD {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    answered, batch = 0, 100
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        for _ in range(count // batch):
            connection.sendall(request * batch)
            data = b""
            while data.count(b"\r\n\r\n") < batch:
                piece = connection.recv(1 << 16)
                if not piece:
                    return answered
                data += piece
            answered += data.count(b"HTTP/1.1 200 ")
    return answered


FILE_CALLS = "%file,pread64,preadv,preadv2,pwrite64,pwritev,fsync,fdatasync,sendfile,copy_file_range,connect"


def test_known_blobs_cost_neither_upstream_nor_disk(case):
    if not shutil.which("strace"):
        case.skip("strace is not installed")
    image = case.images["test/medium:1"]
    proxy = faults.FaultProxy(case, origin.Registry(case).port)
    # Its own look at the disk is of no interest here, and the access log is written anyway.
    cache = sluice.Sluice(case, proxy.url, config="log: { access: { enabled: false } }\n")
    path = f"/v2/{image.repository}/blobs/{image.layers[0]}"
    assert cache.blob(image.repository, image.layers[0]).status == 200
    assert heads(cache.port, path, 100) == 100
    asked = proxy.count()

    trace = case.tmp / "trace"
    tracer = case.spawn("strace", ["strace", "-f", "-p", cache.process.pid, "-e", f"trace={FILE_CALLS}", "-o", trace])

    def attached():
        if not tracer.alive():
            case.skip(f"strace may not look at other processes here: {tracer.log()[-300:]}")
        status = pathlib.Path(f"/proc/{cache.process.pid}/status").read_text()
        return "TracerPid:\t0\n" not in status

    cases.poll("strace has attached", attached)
    names = {int(task.name): (task / "comm").read_text().strip()
             for task in pathlib.Path(f"/proc/{cache.process.pid}/task").iterdir()}
    loops = [thread for thread, name in names.items() if name.startswith("loop-")]
    assert loops, names
    started = time.monotonic()
    answered = heads(cache.port, path, 10_000)
    took = time.monotonic() - started
    # SIGINT makes strace let go; SIGTERM would do as well, but says so in the trace.
    tracer.popen.send_signal(2)
    tracer.wait()
    calls = collections.Counter()
    by_loops = []
    for line in trace.read_text().splitlines():
        thread, _, call = line.partition(" ")
        if "(" not in call or call.lstrip().startswith(("+++", "---")):
            continue
        calls[names.get(int(thread), "?")] += 1
        if int(thread) in loops:
            by_loops.append(line)
    case.say(f"{answered} HEADs under strace in {took:.1f} s; calls on files by thread: {dict(calls)}")
    assert answered == 10_000
    assert not by_loops, "\n".join(by_loops[:10])
    # What upkeep does once in a second, and nothing for each request.
    assert sum(calls.values()) < 200, calls
    assert proxy.count() == asked, proxy.seen()[asked:]
