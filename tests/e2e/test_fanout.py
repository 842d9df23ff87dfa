"""Many clients that want one cold blob: one download for all of them."""

import statistics

from harness import fanout, faults, images, origin, sluice

MIB = 1 << 20


def test_fifty_clients_one_download(case):
    image = case.images["test/big:1"]
    digest, size = image.layers[0], images.BIG_BYTES
    registry = origin.Registry(case)
    proxy = faults.FaultProxy(case, registry.port)
    proxy.throttle(30e6)
    cache = sluice.Sluice(case, proxy.url)

    results = fanout.run(cache.port, f"/v2/{image.repository}/blobs/{digest}", 50, registry.blob_file(digest))
    wrong = [r for r in results if (r["status"], r["bytes"], r["good"]) != (200, size, True)]
    assert len(results) == 50 and not wrong, f"{len(wrong)} of {len(results)} did not get the blob: {wrong[:3]}"
    assert proxy.count("GET", digest) == 1, f"{proxy.count('GET', digest)} downloads"
    assert proxy.bytes_sent(digest) == size, f"{proxy.bytes_sent(digest)} bytes from upstream"

    totals = sorted(r["total"] for r in results)
    first_bytes = sorted(r["first_byte"] for r in results)
    case.say(f"first client done after {totals[0]:.2f} s, last after {totals[-1]:.2f} s "
             f"({100 * (totals[-1] / totals[0] - 1):.1f} % later); first byte after "
             f"{1000 * statistics.median(first_bytes):.0f} ms in the median, {1000 * first_bytes[-1]:.0f} ms at worst")
    if not sluice.STANDIN:
        peak = cache.peak_rss()
        case.say(f"peak memory {peak / MIB:.1f} MiB")
        assert peak < 64 * MIB, f"{peak / MIB:.1f} MiB of memory"


def test_late_clients_join_from_the_first_byte(case):
    image = case.images["test/medium:1"]
    digest, size = image.layers[0], images.MEDIUM_BYTES
    registry = origin.Registry(case)
    proxy = faults.FaultProxy(case, registry.port)
    proxy.throttle(30e6)
    cache = sluice.Sluice(case, proxy.url)

    early = cache.download(image.repository, digest)
    early.read_exactly(size // 2)
    late = cache.download(image.repository, digest)
    late.read_exactly(1 << 20)
    tail = cache.download(image.repository, digest, headers={"Range": f"bytes={size - 1000}-"})
    assert (tail.status, tail.headers["content-range"]) == (206, f"bytes {size - 1000}-{size - 1}/{size}")
    assert late.drain() == digest and early.drain() == digest
    assert len(tail.body()) == 1000
    assert proxy.count("GET", digest) == 1 and proxy.bytes_sent(digest) == size
