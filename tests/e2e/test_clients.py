"""Every client in front of sluice: cold, warm, and with what goes wrong on a bad day. None of them has another way."""

import time

from harness import case as cases
from harness import clients, faults, origin, sluice
from test_upstreams import config

# What upstream sends where it is slow: a pull then takes more than a second, and can be caught in the middle.
SLOW = 3_000_000


class World:
    """A registry, sluice, and one client that has never pulled anything."""

    def __init__(self, case, make):
        self.image = case.images["test/layers:1"]
        registry = origin.Registry(case)
        self.files = clients.contents(registry, self.image)
        self.proxy = faults.FaultProxy(case, registry.port)
        self.cache = sluice.Sluice(case, config="tags:\n  ttl: 0s\n" + config(self.proxy.url))
        self.client = make(case, self.cache.port)
        self.before = 0

    def nothing_cached(self):
        self.cache.stop()
        self.cache.forget()
        self.cache.start()
        self.before = len(self.proxy.requests)

    def sent(self, digest):
        """What upstream answered with since then, and how many bytes of it."""
        seen = [r for r in self.proxy.requests[self.before:] if r.method == "GET" and digest in r.path]
        return [r.status for r in seen], sum(r.sent for r in seen)

    def pull(self):
        self.client.pull(self.image)
        self.client.verify(self.image, self.files)

    def once(self):
        for digest, size in self.image.blobs.items():
            assert self.sent(digest) == ([200], size), f"{digest}: {self.sent(digest)} for {size} bytes"


def cold(at):
    at.nothing_cached()
    at.pull()
    at.once()


def warm(at):
    at.client.wipe()
    at.pull()
    at.once()


def origin_stopped(at):
    at.client.wipe()
    at.proxy.refuse()
    at.pull()
    at.once()
    at.proxy.accept()


def layers_cut_half_way(at):
    at.client.wipe()
    at.nothing_cached()
    for layer in at.image.layers:
        at.proxy.fault(layer, cut_after=at.image.blobs[layer] // 2)
    at.pull()
    for layer in at.image.layers:
        statuses, _ = at.sent(layer)
        assert statuses == [200, 206], f"{layer}: {statuses}"


def blobs_throttled(at):
    at.client.wipe()
    at.nothing_cached()
    at.proxy.throttle(SLOW)
    at.pull()
    at.once()
    at.proxy.throttle(None)


def client_killed_and_started_again(at):
    at.client.wipe()
    at.nothing_cached()
    at.proxy.throttle(SLOW)
    at.client.begin(at.image)
    some = sum(at.image.blobs.values()) // 3
    cases.poll("a third has been sent", lambda: sum(at.sent(layer)[1] for layer in at.image.layers) > some)
    at.client.kill()
    at.proxy.throttle(None)
    at.pull()
    for digest, size in at.image.blobs.items():
        # Where the fill was given up meanwhile it goes on; what was on its way then may come twice.
        assert size <= at.sent(digest)[1] <= size + (1 << 20), f"{digest}: {at.sent(digest)} for {size} bytes"


SITUATIONS = (cold, warm, origin_stopped, layers_cut_half_way, blobs_throttled, client_killed_and_started_again)


def matrix(case, make):
    def row(situation, result):
        case.say(f"{make.name:<10} × {situation:<31} × {result}")

    try:
        at = World(case, make)
    except cases.Skip as skip:
        row("all of it", f"SKIP: {skip}")
        raise
    for situation in SITUATIONS:
        name, started = situation.__name__.replace("_", " "), time.monotonic()
        try:
            situation(at)
            assert not at.client.dead_end.wanted, f"it looked for another way: {at.client.dead_end.wanted}"
        except Exception as error:
            row(name, "FAIL")
            # A daemon that has run once has no excuse.
            raise AssertionError(f"{make.name}, {name}: {error}") from error
        row(name, f"pass, {time.monotonic() - started:.1f} s")


def test_docker(case):
    matrix(case, clients.Docker)


def test_buildkit(case):
    matrix(case, clients.BuildKit)


def test_containerd(case):
    matrix(case, clients.Containerd)


def test_kubernetes(case):
    matrix(case, clients.Kubernetes)


def test_podman(case):
    matrix(case, clients.Podman)


def test_buildah(case):
    matrix(case, clients.Buildah)


def test_skopeo(case):
    matrix(case, clients.Skopeo)


def test_a_tls_hello_on_the_plain_port_costs_no_wait(case):
    """podman, buildah and skopeo try TLS on a mirror that may be insecure, and wait 10 s for an answer."""
    at = World(case, clients.Podman)
    for at.client in (at.client, clients.Skopeo(case, at.cache.port)):
        started = time.monotonic()
        at.pull()
        took = time.monotonic() - started
        case.say(f"{at.client.name}'s pull: {took:.1f} s")
        assert took < 10, f"{at.client.name} waited for an answer to its hello"
