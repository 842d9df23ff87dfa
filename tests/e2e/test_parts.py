"""What has arrived stays, however the process ends; and a disk that is full ends no pull."""

import subprocess

from harness import case as cases
from harness import faults, images, origin, sluice


def test_killed_and_gone_on_with(case):
    """kill -9 half way: the next pull asks for the rest alone."""
    image = case.images["test/medium:1"]
    digest, size = image.layers[0], images.MEDIUM_BYTES
    registry = origin.Registry(case)
    proxy = faults.FaultProxy(case, registry.port)
    proxy.throttle(30e6)
    cache = sluice.Sluice(case, proxy.url)
    reader = cache.download(image.repository, digest)
    reader.read_exactly(size // 2)
    cache.process.kill()
    reader.drain()
    assert not reader.complete
    assert [name.rpartition(".")[2] for name in cache.incoming()] == ["part"], f"left behind: {cache.incoming()}"

    cache.start()
    proxy.throttle(None)
    again = cache.download(image.repository, digest)
    assert again.drain() == digest and again.complete
    cases.poll("nothing is left in incoming", lambda: not cache.incoming(), 10)
    sent = proxy.bytes_sent(digest)
    case.say(f"{sent} bytes from upstream for {size}: {sent / size:.3f}")
    # What upstream and the kernel had in flight when the process died, and no more.
    assert sent < 1.1 * size + (8 << 20), f"{sent} bytes from upstream for {size}"
    assert cache.metrics()["sluice_parts_adopted_total"] == 1


def test_full_file_system(case):
    """A blob of 300 MB through a cache that has 64 MiB for it."""
    image = case.images["test/big:1"]
    digest = image.layers[0]
    registry = origin.Registry(case)
    cache = sluice.Sluice(case, f"http://127.0.0.1:{registry.port}")
    cache.stop()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(cache.data)],
                             capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        case.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    case.defer(lambda: subprocess.run(["umount", "-l", str(cache.data)], check=False))
    cache.start()
    for _ in range(2):
        reader = cache.download(image.repository, digest)
        assert reader.drain() == digest and reader.complete, f"{reader.received} bytes came"
        reader.close()
        cases.poll("nothing is left in incoming", lambda: not cache.incoming(), 10)
    case.say(f"{cache.peak_rss() >> 20} MiB of memory at most")
    assert cache.peak_rss() < 128 << 20
    assert not cache.kept()
    assert cache.metrics()["sluice_fills_unstored_total"] == 2
    assert cache.admin("/readyz").status == 200
    cache.stop()
