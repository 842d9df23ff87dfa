"""What the terminal shows of a running sluice: top and pulls."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import time

from harness import sluice
from harness.live import MIB, noted, pull, start


def run(case, cache, command, *options):
    arguments = [sluice.binary(), command, "--admin", f"127.0.0.1:{cache.admin_port}", *options]
    return case.run(*arguments, environment=cache.environment()).stdout


def test_pulls(case):
    _, cache, (small, medium, _) = start(case)
    assert "no client has asked for anything" in run(case, cache, "pulls")
    pull(cache, [small, medium])
    noted(cache, 3)
    table = run(case, cache, "pulls").splitlines()
    assert len(table) == 2 and "docker.io/team/app:1.0" in table[1] and "0 cached, 3 fetched" in table[1], table
    assert [line.split()[:1] for line in run(case, cache, "pulls", "--requests").splitlines()[2:]] == [["GET"]] * 3
    said = json.loads(run(case, cache, "pulls", "--json"))["pulls"]
    assert len(said) == 1 and said[0]["client"] == "127.0.0.1" and said[0]["reference"] == "1.0", said
    assert [request["reference"] for request in said[0]["requests"]] == ["1.0", small, medium]
    for request in said[0]["requests"]:
        parts = request["first_byte_s"] + request["upstream_s"] + request["client_s"]
        assert abs(parts - request["total_s"]) < 1e-5, request
    assert said[0]["bytes"] == sum(request["bytes"] for request in said[0]["requests"]) > 3 * MIB


def test_pulls_tell_who_was_slow(case):
    """Upstream in the middle of a blob, or the client."""
    upstream, cache, (_, _, large) = start(case)
    upstream.hold(10 * MIB)
    download = cache.download("team/app", large)
    download.read_exactly(9 * MIB)
    time.sleep(1)  # what is waited for is time itself
    upstream.release()
    assert download.drain() == large
    slow = cache.download("team/app", large, receive_buffer=4096)
    time.sleep(1)
    assert slow.drain() == large
    noted(cache, 2)
    first, second = json.loads(run(case, cache, "pulls", "--json"))["pulls"][0]["requests"]
    assert first["upstream_s"] > 0.3 and first["bytes"] == 24 * MIB, first
    assert second["client_s"] > 0.5 and second["upstream_s"] < second["client_s"], second


def test_top_once(case):
    _, cache, (small, medium, _) = start(case)
    pull(cache, [small, medium])
    noted(cache, 3)
    for options in ((), ("--once",)):
        text = run(case, cache, "top", *options)
        assert "1 client, 1 pull, 3 requests" in text and "docker.io/team/app" in text and "\x1b" not in text, text
    said = json.loads(run(case, cache, "top", "--json"))
    assert said["ready"] is True and said["last_hour"]["pulls"] == 1 and said["hot"][0]["requests"] == 3, said
    assert {row["name"] for row in said["largest"]} == {"docker.io/team/app"}, said["largest"]
    done = case.run(sluice.binary(), "top", "--admin", f"127.0.0.1:{case.port()}", check=False)
    assert done.returncode == 1 and "no answer from" in done.stdout, done


class Terminal:
    """`sluice top` on a terminal."""

    def __init__(self, case, cache):
        self.end, its = pty.openpty()
        self.process = subprocess.Popen([sluice.binary(), "top", "--admin", f"127.0.0.1:{cache.admin_port}"], stdin=its,
                                        stdout=its, stderr=its, env=cache.environment(), start_new_session=True)
        os.close(its)
        self.text = ""
        case.defer(lambda: self.process.poll() is None and self.process.kill())
        case.defer(lambda: os.close(self.end))

    def read_until(self, found, seconds=60):
        deadline = time.monotonic() + seconds
        while not found(self.text):
            ready, _, _ = select.select([self.end], [], [], max(0, deadline - time.monotonic()))
            assert ready, self.text[-2000:]
            try:
                piece = os.read(self.end, 65536)
            except OSError:  # the other side is closed
                piece = b""
            if not piece:
                assert found(self.text), self.text[-2000:]
                return
            self.text += piece.decode(errors="replace")


def test_top_lives_and_leaves(case):
    _, cache, (small, medium, _) = start(case)
    for leave in ("q", "signal"):
        top = Terminal(case, cache)
        top.read_until(lambda text: re.search(r"\d+ requests?;", text))
        assert top.text.startswith("\x1b[?1049h\x1b[?25l"), top.text[:50]
        before = int(re.findall(r"(\d+) requests?;", top.text)[-1])
        pull(cache, [small, medium])
        top.read_until(lambda text: int(re.findall(r"(\d+) requests?;", text)[-1]) == before + 3)
        if leave == "q":
            os.write(top.end, b"q")
        else:
            top.process.send_signal(signal.SIGINT)
        top.read_until(lambda text: text.endswith("\x1b[?25h\x1b[?1049l"))
        assert top.process.wait(30) == 0
