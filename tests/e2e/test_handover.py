"""A process that ends while others read from it, and the one that takes its place; and who may read the data."""

import os
import signal
import socket
import stat
import subprocess
import threading

from harness import case as cases
from harness import client, pattern, sluice

MIB = 1 << 20


def start(case, sizes=(32 * MIB, 3000), rate=None, config=None):
    if sluice.STANDIN:
        case.skip("not what a docker-registry promises")
    origin = pattern.Origin(case, sizes, rate)
    return origin, list(origin.sizes), sluice.Sluice(case, origin.url, config=config)


def stalled(cache, digest):
    reader = cache.download("some/repository", digest, receive_buffer=64 * 1024)
    reader.read_exactly(64 * 1024)
    return reader


def pull(cache, digest):
    reader = cache.download("some/repository", digest)
    assert reader.drain() == digest and reader.complete, f"{reader.received} bytes of {digest} came"
    reader.close()


def test_successor_starts_while_a_slow_reader_drains(case):
    """The same port and the same data: at once, and without a byte from upstream."""
    origin, (large, small), cache = start(case)
    pull(cache, large)
    pull(cache, small)
    cases.poll("both are kept", lambda: cache.keeps(large) and cache.keeps(small), 10)
    reader = stalled(cache, large)
    old = cache.process
    old.popen.send_signal(signal.SIGTERM)
    asked = origin.sent
    cache.start()  # waits until it is ready
    assert old.alive(), "the old process did not wait for its reader"
    pull(cache, large)
    pull(cache, small)
    assert origin.sent == asked, f"{origin.sent - asked} bytes from upstream for what is stored"
    assert reader.drain() == large and reader.complete, f"{reader.received} bytes came"
    reader.close()
    assert old.wait(20) == 0
    pull(cache, large)


def test_download_in_flight_goes_on_and_is_taken_over(case):
    """The old process ends what it fetches for its reader; the successor does not touch it, and has it afterwards."""
    origin, (large, _), cache = start(case, rate=12 * MIB)
    reader = cache.download("some/repository", large)
    reader.read_exactly(MIB)
    old = cache.process
    old.popen.send_signal(signal.SIGTERM)
    cache.start()
    assert old.alive()
    assert reader.drain() == large and reader.complete, f"{reader.received} bytes came"
    reader.close()
    assert old.wait(20) == 0
    asked = origin.sent
    pull(cache, large)
    assert origin.sent == asked, f"{origin.sent - asked} bytes were fetched again"
    cases.poll("it is kept", lambda: cache.keeps(large), 10)


def test_sockets_of_a_supervisor(case):
    """LISTEN_FDS: connections wait in the supervisor's socket while one process is replaced by another."""
    if sluice.STANDIN:
        case.skip("not what a docker-registry promises")
    origin = pattern.Origin(case, [3000])
    (digest,) = origin.sizes
    registry, admin = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))
    case.defer(registry.close)
    case.defer(admin.close)
    data = case.folder("data")
    case.defer(lambda: (os.close(60), os.close(61)))
    # The shell takes its own process id, as the supervisor knows it after the fork.
    os.dup2(registry.fileno(), 60)
    os.dup2(admin.fileno(), 61)
    script = 'exec 3<&60 4<&61 60<&- 61<&-; LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=web:admin exec "$@"'
    arguments = ["bash", "-c", script, "bash", sluice.binary(), "serve", "--data", str(data), "--upstream", origin.url]

    def run():
        process = subprocess.Popen(arguments, pass_fds=(60, 61), cwd=case.tmp,
                                   env=sluice.Sluice.environment(), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        case.defer(process.kill)
        return process

    port, admin_port = registry.getsockname()[1], admin.getsockname()[1]
    path = f"/v2/some/repository/blobs/{digest}"
    first = run()
    assert client.request(port, path).status == 200
    assert client.request(admin_port, "/healthz").status == 200
    first.send_signal(signal.SIGTERM)
    assert first.wait(20) == 0
    # Nobody accepts now, and nobody is refused.
    waiting = client.Download(port, path)
    case.defer(waiting.close)
    second = run()
    waiting.head()
    assert waiting.status == 200 and waiting.drain() == digest
    second.send_signal(signal.SIGTERM)
    assert second.wait(20) == 0


def test_nobody_else_may_read_the_data(case):
    """Whatever the umask and the directory were before."""
    if sluice.STANDIN:
        case.skip("not what a docker-registry promises")
    before = os.umask(0)
    case.defer(lambda: os.umask(before))
    origin = pattern.Origin(case, [32 * MIB, 3000])
    cache = sluice.Sluice(case, origin.url)
    os.umask(before)
    large, small = list(origin.sizes)
    pull(cache, small)
    reader = stalled(cache, large)
    modes = {}
    for path in [cache.data, *cache.data.rglob("*")]:
        modes[str(path.relative_to(cache.data))] = stat.S_IMODE(path.stat().st_mode) & 0o777
    for name, mode in modes.items():
        wanted = 0o700 if (cache.data / name).is_dir() else 0o600
        assert mode == wanted, f"{name or '.'} has the mode {mode:o}"
    assert {"catalog.db", "catalog.db-wal", "catalog.db-shm", "lock"} <= set(modes), modes.keys()
    reader.drain()


def test_fifo_and_hard_link_in_the_way(case):
    """A FIFO in a blob's place hangs nobody; a hard link in a part's place is not written through."""
    origin, (large, small), cache = start(case)
    pull(cache, small)
    cases.poll("it is kept", lambda: cache.keeps(small), 10)
    stalled(cache, large)
    (part,) = cache.incoming()
    cache.process.kill()
    blob = cache.kept()[small.removeprefix("sha256:")]
    blob.unlink()
    os.mkfifo(blob)
    precious = case.file("precious", "precious")
    (cache.data / "incoming" / part).unlink()
    os.link(precious, cache.data / "incoming" / part)
    cache.start()
    pull(cache, small)
    pull(cache, large)
    cases.poll("both are kept", lambda: cache.keeps(large) and blob.is_file(), 10)
    assert precious.read_text() == "precious"
    log = cache.process.log()
    assert "a FIFO" in log and ".part has 2 names" in log, log


def test_fifty_clients_and_no_room(case):
    """What cannot be stored is fetched once for all who keep up, though one has read much of it before the others come."""
    size = 48 * MIB
    origin, (large,), cache = start(case, [size], config="store:\n  max_size: 16MiB\n  min_free: off\n")
    wrong = []

    def read(download):
        if download.drain() != large:
            wrong.append(download.received)
        download.close()

    # More than a window (8 MiB) has passed, and less than half of fill.memory (64 MiB).
    origin.hold(16 * MIB)
    downloads, threads = [], []

    def begin(count):
        for _ in range(count):
            downloads.append(client.Download(cache.port, f"/v2/some/repository/blobs/{large}").head())
            threads.append(threading.Thread(target=read, args=(downloads[-1],)))
            threads[-1].start()
        downloads_begun = [first for _, first in origin.asked].count(0)
        assert downloads_begun == 1, f"{downloads_begun} downloads for {len(downloads)} clients"
        cases.poll("all have what there is", lambda: all(one.received >= 15 * MIB for one in downloads), 120)

    begin(1)
    begin(49)
    origin.release()
    for thread in threads:
        thread.join()
    assert not wrong, f"{len(wrong)} downloads broke: {wrong[:5]}"
    case.say(f"{origin.sent / size:.2f} times the blob from upstream, {cache.peak_rss() / MIB:.0f} MiB of memory")
    assert origin.sent < 1.1 * size, f"{origin.sent / size:.2f} times the blob from upstream"
    assert cache.peak_rss() < 200 * MIB, cache.peak_rss()
