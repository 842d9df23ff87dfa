"""Descriptors in a Redis: shared with another sluice, shared with docker-registry, and in trouble."""

import json
import os
import shutil
import signal
import socket
import threading
import time

from harness import case as cases
from harness import client, faults, images, origin, scripted, sluice


class Redis:
    def __init__(self, case):
        if not shutil.which("redis-server"):
            case.skip("redis-server is not installed")
        self.port = case.port()
        self.process = case.spawn("redis", ["redis-server", "--port", self.port, "--bind", "127.0.0.1", "--save", "",
                                            "--appendonly", "no", "--dir", case.folder("redis")])
        self.process.wait_for_port(self.port)
        case.defer(self.resume)  # one that is stopped does not hear SIGTERM

    def pause(self):
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self):
        if self.process.alive():
            os.kill(self.process.pid, signal.SIGCONT)

    def keys(self):
        """The names of all keys, sorted."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            reader = connection.makefile("rb")
            connection.sendall(b"*2\r\n$4\r\nKEYS\r\n$1\r\n*\r\n")
            count = int(reader.readline()[1:])
            names = []
            for _ in range(count):
                length = int(reader.readline()[1:])
                names.append(reader.read(length + 2)[:-2].decode())
            return sorted(names)

    def ask(self, *words):
        """Runs a command; returns its answer as Redis writes it."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            text = f"*{len(words)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
            connection.sendall(text.encode())
            return connection.recv(65536).decode()

    def config(self, **settings):
        more = "".join(f", {name}: {value}" for name, value in settings.items())
        return f"descriptors: {{ cache: redis }}\nredis: {{ addresses: ['127.0.0.1:{self.port}']{more} }}\n"


def sluice_on(case, redis, upstream, **settings):
    return sluice.Sluice(case, upstream, config=redis.config(**settings))


def docker_registry_on(case, redis, upstream):
    """Debian's docker-registry as a proxy of `upstream`; returns its port."""
    port = case.port()
    settings = {
        "version": 0.1,
        "log": {"level": "info", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(case.folder(f"proxy-{port}"))},
                    "cache": {"blobdescriptor": "redis"}},
        "redis": {"addr": f"127.0.0.1:{redis.port}", "dialtimeout": "5s", "readtimeout": "5s", "writetimeout": "5s",
                  "pool": {"maxidle": 4, "maxactive": 16, "idletimeout": "60s"}},
        "http": {"addr": f"127.0.0.1:{port}", "secret": "not one"},
        "proxy": {"remoteurl": upstream},
    }
    config = case.file(f"proxy-{port}.yml", json.dumps(settings))
    environment = {"PATH": "/usr/bin:/bin", "OTEL_TRACES_EXPORTER": "none"}
    case.spawn("docker-registry-proxy", ["docker-registry", "serve", config], environment).wait_for_port(port)
    return port


def upstream_of(case):
    return faults.FaultProxy(case, origin.Registry(case).port)


def test_second_sluice_asks_nobody(case):
    image = case.images["test/medium:1"]
    redis, upstream = Redis(case), upstream_of(case)
    path = f"/v2/{image.repository}/blobs/{image.layers[0]}"
    first = sluice_on(case, redis, upstream.url)
    known = first.get(path, method="HEAD")
    assert known.status == 200, known
    asked = upstream.count(match="/blobs/")

    second = sluice_on(case, redis, upstream.url)
    answer = second.get(path, method="HEAD")
    assert answer.status == 200, answer
    for field in ("content-length", "docker-content-digest"):
        assert answer.headers[field] == known.headers[field], field
    assert upstream.count(match="/blobs/") == asked
    # What the one repository has is not another's.
    other = second.get(f"/v2/test/nowhere/blobs/{image.layers[0]}", method="HEAD")
    assert other.status == 404, other
    assert upstream.count(match="/v2/test/nowhere/blobs/") > 0


def test_docker_registry_reads_what_sluice_wrote(case):
    image = case.images["test/medium:1"]
    redis, upstream = Redis(case), upstream_of(case)
    digest = image.layers[0]
    path = f"/v2/{image.repository}/blobs/{digest}"
    known = sluice_on(case, redis, upstream.url).get(path, method="HEAD")
    assert known.status == 200, known
    assert redis.keys() == [f"blobs::{digest}", f"repository::{image.repository}::blobs",
                            f"repository::{image.repository}::blobs::{digest}"], redis.keys()

    proxy = docker_registry_on(case, redis, upstream.url)
    asked = upstream.count(match="/blobs/")
    answer = client.request(proxy, path, method="HEAD")
    assert answer.status == 200, answer
    assert answer.headers["content-length"] == known.headers["content-length"]
    assert upstream.count(match="/blobs/") == asked, "it was asked upstream, not read from Redis"


def test_sluice_reads_what_docker_registry_wrote(case):
    image = case.images["test/medium:1"]
    redis, upstream = Redis(case), upstream_of(case)
    digest = image.layers[0]
    path = f"/v2/{image.repository}/blobs/{digest}"
    proxy = docker_registry_on(case, redis, upstream.url)

    def written():
        # It keeps what it has served in the background, and caches the descriptor when that is asked for again.
        answer = client.request(proxy, path)
        assert answer.status == 200 and answer.complete, answer.status
        return f"repository::{image.repository}::blobs::{digest}" in redis.keys()

    cases.poll("docker-registry has written to Redis", written, 30, 0.2)
    asked = upstream.count(match="/blobs/")
    cache = sluice_on(case, redis, upstream.url)
    answer = cache.get(path, method="HEAD")
    assert answer.status == 200, answer
    assert int(answer.headers["content-length"]) == image.blobs[digest]
    assert upstream.count(match="/blobs/") == asked, "it was asked upstream, not read from Redis"


def test_paused_under_load(case):
    image = case.images["test/medium:1"]
    redis, upstream = Redis(case), upstream_of(case)
    # Each request asks Redis.
    cache = sluice_on(case, redis, upstream.url, memory_ttl="0s")
    path = f"/v2/{image.repository}/blobs/{image.layers[0]}"
    assert cache.blob(image.repository, image.layers[0]).status == 200
    assert cache.get(path, method="HEAD").status == 200
    asked = upstream.count()
    times, wrong, slowest = [], [], [0.0]
    stop = threading.Event()

    def load():
        while not stop.is_set():
            start = time.monotonic()
            answer = cache.get(path, method="HEAD")
            end = time.monotonic()
            slowest[0] = max(slowest[0], end - start)
            times.append(end)
            if answer.status != 200:
                wrong.append(answer.status)

    def rate(since, until):
        return sum(since <= at < until for at in times) / (until - since)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    breaker = "sluice_descriptor_redis_breaker_open"
    try:
        cases.poll("there is load", lambda: len(times) > 500)
        started = time.monotonic()
        redis.pause()
        cases.poll("the breaker opens", lambda: cache.metrics()[breaker] == 1)
        before = len(times)
        cases.poll("requests go on without Redis", lambda: len(times) > before + 500)
        cases.poll("it has been away for 10 s", lambda: time.monotonic() > started + 10, interval=0.1)
        resumed = time.monotonic()
        redis.resume()
        cases.poll("the breaker closes", lambda: cache.metrics()[breaker] == 0)
        closed = time.monotonic()
        cases.poll("there is load", lambda: time.monotonic() > resumed + 2, interval=0.1)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    case.say(f"{len(times)} requests, the slowest {slowest[0] * 1000:.0f} ms; a second: "
             f"{rate(times[0], started):.0f} before, {rate(started + 1, resumed):.0f} without Redis, "
             f"{rate(resumed, resumed + 1):.0f} in the first second with it again, "
             f"{rate(resumed + 1, resumed + 2):.0f} in the next; asked again {(closed - resumed) * 1000:.0f} ms after")
    assert not wrong, wrong
    assert upstream.count() == asked
    log = cache.process.log()
    assert log.count("Redis unavailable, bypassing it") == 1 and log.count("Redis answers again") == 1, log
    assert "cannot look up a blob in the descriptor cache" not in log, log
    assert cache.admin("/readyz").status == 200


def test_membership_is_revoked_for_all_who_share(case):
    image = case.images["test/medium:1"]
    redis, upstream = Redis(case), upstream_of(case)
    digest = image.layers[0]
    members, own = f"repository::{image.repository}::blobs", f"repository::{image.repository}::blobs::{digest}"
    cache = sluice_on(case, redis, upstream.url)
    path = f"/v2/{image.repository}/blobs/{digest}"
    assert cache.get(path, method="HEAD").status == 200
    # A date that distribution neither reads nor minds.
    assert int(redis.ask("HGET", own, "sluice-checked").splitlines()[1]) > 1_700_000_000
    # Another sluice knows it from Redis alone, and asks upstream again when Redis has lost it.
    second = sluice_on(case, redis, upstream.url)
    asked = upstream.count(match="/blobs/")
    assert second.get(path, method="HEAD").status == 200
    assert upstream.count(match="/blobs/") == asked
    redis.ask("SREM", members, digest)
    cases.poll("its memory runs out",
               lambda: second.get(path, method="HEAD").status == 200 and upstream.count(match="/blobs/") > asked)


def test_two_names_are_written_as_distribution_does(case):
    redis, upstream = Redis(case), scripted.Registry(case)
    data = b"a blob with two names" * 1000
    canonical, other = upstream.add("team/a", data, "sha256", "sha512")
    cache = sluice_on(case, redis, upstream.url)
    assert cache.blob("team/a", other).body == data
    members = "repository::team/a::blobs"
    keys = sorted([members] + [f"{prefix}::{name}" for name in (canonical, other) for prefix in ("blobs", members)])
    # The client has everything a moment before the store and Redis do.
    cases.poll("the fill ends", lambda: cache.metrics()["sluice_fills_in_flight"] == 0)
    assert redis.keys() == keys, redis.keys()
    for name in (canonical, other):
        assert redis.ask("SISMEMBER", members, name) == ":1\r\n"
        assert redis.ask("HGET", f"blobs::{name}", "digest").splitlines()[1] == canonical
    # A sluice that has no file yet is told by Redis that they are one, and looks for itself.
    second = sluice_on(case, redis, upstream.url)
    assert second.blob("team/a", other).body == data
    cases.poll("the fill ends", lambda: second.metrics()["sluice_fills_in_flight"] == 0)
    assert second.blob("team/a", canonical).body == data
    assert upstream.count("GET", "/blobs/") == 2, upstream.requests


def test_poisoned_values_give_no_other_bytes(case):
    big, small = case.images["test/medium:1"], case.images["test/oci:1"]
    redis, upstream = Redis(case), upstream_of(case)
    cache = sluice_on(case, redis, upstream.url, memory_ttl="0s")
    secret, wanted = big.layers[0], small.config
    assert cache.blob(big.repository, secret).status == 200
    key = f"blobs::{wanted}"
    own = f"repository::{small.repository}::blobs::{wanted}"
    redis.ask("SADD", f"repository::{small.repository}::blobs", wanted)
    redis.ask("HSET", own, "mediatype", "application/octet-stream")
    for digest, size in ((secret, "10"), (wanted, "-1"), (wanted, "99999999999999999999"), ("sha512:" + "0" * 128, "1")):
        redis.ask("HSET", key, "digest", digest)
        redis.ask("HSET", key, "size", size)
        answer = cache.blob(small.repository, wanted)
        assert answer.status == 200 and images.sha256(answer.body) == wanted, answer.status
    # What is there already is told with its own length, whatever Redis says. The client has everything a moment before
    # the store does.
    cases.poll("the fill ends", lambda: cache.metrics()["sluice_fills_in_flight"] == 0)
    redis.ask("HSET", key, "digest", wanted)
    redis.ask("HSET", key, "size", "7")
    answer = cache.get(f"/v2/{small.repository}/blobs/{wanted}", method="HEAD")
    assert int(answer.headers["content-length"]) == small.blobs[wanted]


def test_never_there(case):
    image = case.images["test/medium:1"]
    upstream = upstream_of(case)
    port = case.port()
    cache = sluice.Sluice(case, upstream.url, config=(
        f"descriptors: {{ cache: redis }}\nredis: {{ addresses: ['127.0.0.1:{port}', 'unix:/nonexistent/redis'] }}\n"))
    answer = cache.blob(image.repository, image.layers[0])
    assert answer.status == 200 and answer.complete
    assert cache.blob(image.repository, image.layers[0]).status == 200
    assert upstream.count("GET", "/blobs/") == 1
    assert cache.stop() == 0
