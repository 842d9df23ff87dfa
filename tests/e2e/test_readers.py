"""Clients that leave or stop reading: nobody else notices, and upstream goes no further than somebody reads."""

import pathlib
import time

from harness import faults, images, origin, sluice

# fill.window as it comes.
WINDOW = 8 << 20


def kernel_slack():
    """What may lie in buffers of the kernel on top of the window, by this machine's limits.

    Sent by upstream and not yet read, and handed to the kernel for the fastest client and not yet taken. The former is
    kept to about the window where the system lets a program do that.
    """
    received, sent = (int(pathlib.Path(f"/proc/sys/net/ipv4/tcp_{name}").read_text().split()[2])
                      for name in ("rmem", "wmem"))
    if int(pathlib.Path("/proc/sys/net/core/rmem_max").read_text()) >= 1 << 20:
        received = min(received, WINDOW)
    return received + sent + (2 << 20)


def start(case, rate):
    registry = origin.Registry(case)
    proxy = faults.FaultProxy(case, registry.port)
    proxy.throttle(rate)
    return proxy, sluice.Sluice(case, proxy.url)


def test_first_client_killed_half_way(case):
    image = case.images["test/medium:1"]
    digest, size = image.layers[0], images.MEDIUM_BYTES
    proxy, cache = start(case, 30e6)

    first = cache.download(image.repository, digest)
    first.read_exactly(1 << 20)
    others = [cache.download(image.repository, digest) for _ in range(3)]
    first.read_exactly(size // 2 - (1 << 20))
    first.close()
    # In turn, with back-pressure between them no further than the window.
    for other in others:
        assert other.drain() == digest and other.complete
    assert proxy.count("GET", digest) == 1 and proxy.bytes_sent(digest) == size


def test_only_client_killed_and_another_comes(case):
    image = case.images["test/medium:1"]
    digest, size = image.layers[0], images.MEDIUM_BYTES
    proxy, cache = start(case, 30e6)

    first = cache.download(image.repository, digest)
    first.read_exactly(size // 4)
    first.close()
    second = cache.download(image.repository, digest)
    assert second.drain() == digest and second.complete
    assert proxy.bytes_sent(digest) == size, f"{proxy.bytes_sent(digest)} bytes from upstream for {size}"


def test_client_that_stops_reading_holds_up_nobody(case):
    image = case.images["test/big:1"]
    digest, size = image.layers[0], images.BIG_BYTES
    proxy, cache = start(case, None)

    stalled = cache.download(image.repository, digest, receive_buffer=65536)
    stalled.read_exactly(1 << 20)
    others = [cache.download(image.repository, digest) for _ in range(2)]
    for other in others:
        assert other.drain() == digest and other.complete
    assert stalled.received < size
    assert stalled.drain() == digest and stalled.complete
    assert proxy.count("GET", digest) == 1 and proxy.bytes_sent(digest) == size


def test_upstream_stops_when_every_client_stops(case):
    image = case.images["test/big:1"]
    digest, size = image.layers[0], images.BIG_BYTES
    proxy, cache = start(case, None)

    readers = [cache.download(image.repository, digest, receive_buffer=65536) for _ in range(3)]
    for reader in readers:
        reader.read_exactly(1 << 20)
    # Until upstream's counter has stood still for a while.
    still, before, deadline = 0, -1, time.monotonic() + 30
    while still < 20 and time.monotonic() < deadline:
        now = proxy.bytes_sent(digest)
        still = still + 1 if now == before else 0
        before = now
        time.sleep(0.05)
    stood = proxy.bytes_sent(digest)
    case.say(f"upstream stood still after {stood / 2**20:.1f} MiB; the clients had read 1 MiB")
    assert stood < WINDOW + kernel_slack() < size, f"upstream went on to {stood / 2**20:.1f} MiB"

    for reader in readers:
        assert reader.drain() == digest and reader.complete
    assert proxy.count("GET", digest) == 1 and proxy.bytes_sent(digest) == size
