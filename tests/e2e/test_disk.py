"""A disk that fails below a running cache, and blobs that are damaged on it."""

import fcntl
import os
import shutil
import struct
import subprocess

from harness import case as cases
from harness import pattern, sluice

MIB = 1 << 20
EXT4_IOC_SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32)
SMALL, LARGE = 3000, 5 * MIB


def start(case, config="", sizes=(SMALL, LARGE, LARGE + 1, LARGE + 2, LARGE + 3)):
    if sluice.STANDIN:
        case.skip("not what a docker-registry promises")
    origin = pattern.Origin(case, sizes)
    return origin, list(origin.sizes), sluice.Sluice(case, origin.url, config=config or None)


def pull(cache, digest):
    reader = cache.download("some/repository", digest)
    assert reader.drain() == digest and reader.complete, f"{reader.received} bytes of {digest} came"
    reader.close()


def pull_stored(cache, digest):
    pull(cache, digest)
    cases.poll("the blob is kept", lambda: cache.keeps(digest), 10)


def readiness(cache):
    answer = cache.admin("/readyz")
    return answer.status, answer.body.decode()


def degraded(cache, reason):
    return cache.metrics()[f'sluice_store_degraded{{reason="{reason}"}}'] == 1


def path_of(cache, digest):
    return cache.kept()[digest.removeprefix("sha256:")]


def test_damaged_at_rest(case):
    """Missing, shorter, longer: the same request gets the right bytes."""
    origin, digests, cache = start(case)
    for digest in digests[:4]:
        pull_stored(cache, digest)
    cache.stop()
    path_of(cache, digests[0]).write_bytes(b"x" * SMALL)
    path_of(cache, digests[1]).unlink()
    with open(path_of(cache, digests[2]), "r+b") as file:
        file.truncate(LARGE // 2)
    with open(path_of(cache, digests[3]), "ab") as file:
        file.write(b"more")
    cache.start()
    for digest in digests[:4]:
        pull_stored(cache, digest)
    assert len(origin.asked) == 8, origin.asked
    assert cache.metrics()["sluice_store_dropped_total"] == 4
    assert len(list((cache.data / "quarantine").iterdir())) == 3


def test_scrub(case):
    """A large blob with a changed byte is found, set aside, and fetched again."""
    origin, digests, cache = start(case, "store:\n  scrub:\n    rate: 0\n")
    for digest in digests[:3]:
        pull_stored(cache, digest)
    cache.stop()
    with open(path_of(cache, digests[1]), "r+b") as file:
        file.seek(LARGE // 2)
        file.write(b"\0\0\0\0")
    (cache.home / "sluice.yml").write_text("store:\n  scrub:\n    rate: 1GiB\n")
    cache.start()
    cases.poll("all blobs are read again",
               lambda: cache.metrics()["sluice_scrub_last_pass_timestamp_seconds"] > 0, 20)
    series = cache.metrics()
    assert series['sluice_scrub_damaged_total{kind="damaged"}'] == 1, series
    assert series["sluice_scrub_blobs_total"] == 3
    assert digests[1] in cache.process.log()
    assert not cache.keeps(digests[1])
    set_aside = [path.name for path in (cache.data / "quarantine").iterdir()]
    assert set_aside == [digests[1].replace(":", "-")], set_aside
    pull_stored(cache, digests[1])
    assert len(origin.asked) == 4


def test_data_directory_removed(case):
    """Taken away while it runs: pulls go on, it is made again, and what is learnt from then on is kept."""
    origin, digests, cache = start(case)
    pull_stored(cache, digests[0])
    pull_stored(cache, digests[1])
    shutil.rmtree(cache.data)
    for digest in digests[1:4]:
        pull(cache, digest)
    cases.poll("the directory is there again", lambda: (cache.data / "catalog.db").exists(), 10)
    pull_stored(cache, digests[2])
    pull_stored(cache, digests[4])
    cases.poll("the catalog is written", lambda: cache.metrics()["sluice_catalog_pending"] == 0, 10)
    assert readiness(cache)[0] == 200
    asked = len(origin.asked)
    origin.server.shutdown()
    origin.server.server_close()
    cache.restart()
    # With its memberships: nobody is there to ask.
    pull(cache, digests[2])
    pull(cache, digests[4])
    assert len(origin.asked) == asked


def mount(case, folder, *arguments):
    done = subprocess.run(["mount", *arguments, str(folder)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        case.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    case.defer(lambda: subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False))


def unmount(folder):
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_read_only(case):
    """Nothing can be written any more: pulls go on uncached, /readyz says why, and all is well again afterwards."""
    _, digests, cache = start(case)
    pull_stored(cache, digests[1])
    # Over what is there, because a file system that is written to refuses to become read-only.
    mount(case, cache.data, "-t", "tmpfs", "-o", "ro", "tmpfs")
    for _ in range(2):
        pull(cache, digests[2])
    assert degraded(cache, "io")
    status, text = readiness(cache)
    case.say(" ".join(text.split()))
    assert status == 200 and "not stored" in text, text
    unmount(cache.data)
    cases.poll("it is well again", lambda: not degraded(cache, "io") and "not stored" not in readiness(cache)[1], 20)
    pull_stored(cache, digests[2])
    pull(cache, digests[1])
    assert cache.restart()
    pull(cache, digests[2])


def test_disk_dies(case):
    """Every access fails with EIO: pulls go on; a new disk in its place is taken."""
    _, digests, cache = start(case)
    cache.stop()
    image = cache.home / "image"
    with open(image, "wb") as file:
        file.truncate(96 * MIB)
    shutil.rmtree(cache.data)
    cache.data.mkdir()
    made = subprocess.run(["mkfs.ext4", "-q", str(image)], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        case.skip(f"no file system can be made here: {made.stderr.strip()}")
    mount(case, cache.data, "-o", "loop", str(image))
    cache.start()
    pull_stored(cache, digests[0])
    pull_stored(cache, digests[1])
    folder = os.open(cache.data, os.O_RDONLY)
    try:
        fcntl.ioctl(folder, EXT4_IOC_SHUTDOWN, struct.pack("I", 1))
    except OSError as error:
        case.skip(f"the file system cannot be shut down: {error}")
    finally:
        os.close(folder)
    for digest in digests[:3]:
        for _ in range(2):
            pull(cache, digest)
    assert degraded(cache, "io")
    status, text = readiness(cache)
    assert status == 200 and "not stored" in text, text
    cases.poll("the catalog is in trouble too", lambda: degraded(cache, "catalog"), 20)
    case.say(" ".join(readiness(cache)[1].split()))
    unmount(cache.data)
    mount(case, cache.data, "-t", "tmpfs", "-o", "size=96m", "tmpfs")
    cases.poll("it is well again", lambda: not degraded(cache, "io") and not degraded(cache, "catalog"), 30)
    pull_stored(cache, digests[1])
    cases.poll("the catalog is written", lambda: cache.metrics()["sluice_catalog_pending"] == 0, 10)
    assert cache.restart()
    pull(cache, digests[1])
    cache.stop()


def test_catalog_removed(case):
    """The database is deleted while it is open: it is made again from memory."""
    origin, digests, cache = start(case)
    pull_stored(cache, digests[1])
    for path in cache.data.glob("catalog.db*"):
        path.unlink()
    cases.poll("the catalog is there again", lambda: (cache.data / "catalog.db").exists(), 10)
    cases.poll("and is written", lambda: cache.metrics()["sluice_catalog_pending"] == 0
               and "written again from memory" in cache.process.log(), 10)
    asked = len(origin.asked)
    origin.server.shutdown()
    origin.server.server_close()
    cache.restart()
    pull(cache, digests[1])
    assert len(origin.asked) == asked
