"""Starting, refusing to start, and stopping."""

import json
import os
import re
import signal
import socket

from harness import case as cases
from harness import client, faults, images, origin, sluice


def refused(case, arguments, *expected):
    """Starts the program, which has to end with one line that holds all that is expected.

    What it logged on its way there (" info ") is no complaint.
    """
    process = case.spawn("sluice", [sluice.binary(), *arguments], sluice.Sluice.environment())
    code = process.wait(20)
    lines = [line for line in process.log().splitlines() if line.strip() and " info " not in line]
    assert code not in (0, None) and code > 0, f"exit code {code}: {lines}"
    assert len(lines) == 1, f"{len(lines)} lines instead of one: {lines}"
    for text in expected:
        assert text in lines[0], f"{text!r} is not in: {lines[0]}"
    case.say(lines[0].replace(str(case.tmp), "…"))


def serve(case, *arguments):
    return ["serve", "--listen", f"127.0.0.1:{case.port()}", "--admin", f"127.0.0.1:{case.port()}",
            "--data", case.tmp / "data", *arguments]


def test_unknown_key_in_the_configuration(case):
    path = case.file("bad.yml", "# a comment\nno_such_key: 1\n")
    refused(case, serve(case, "--config", path), f"{path}:2", "no_such_key")


def test_wrong_value_in_the_configuration(case):
    path = case.file("bad.yml", "upstreams:\n  docker.io:\n    url: [not, a, url]\n")
    refused(case, serve(case, "--config", path), f"{path}:3", "upstreams", "url")


def test_configuration_that_is_not_yaml(case):
    path = case.file("bad.yml", "upstreams: {\n")
    refused(case, serve(case, "--config", path), str(path))


def test_configuration_that_is_not_there(case):
    refused(case, serve(case, "--config", case.tmp / "none.yml"), "none.yml")


def test_upstream_that_is_not_a_url(case):
    refused(case, serve(case, "--upstream", "ftp://nowhere?token=secret"), "--upstream", "expected a URL")


def test_port_in_use(case):
    with socket.create_server(("127.0.0.1", case.port()), reuse_port=False) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        refused(case, ["serve", "--listen", address, "--admin", f"127.0.0.1:{case.port()}", "--data", case.tmp / "data"],
                address)
        refused(case, ["serve", "--listen", f"127.0.0.1:{case.port()}", "--admin", address, "--data", case.tmp / "data"],
                address)


def test_port_in_use_by_another_sluice(case):
    running = sluice.Sluice(case, "http://127.0.0.1:1")
    address = f"127.0.0.1:{running.port}"
    refused(case, ["serve", "--listen", address, "--admin", f"127.0.0.1:{case.port()}", "--data", case.tmp / "data"],
            address)
    assert running.get("/v2/").status == 200


def test_data_folder_that_cannot_be_written(case):
    file = case.file("file", "")
    refused(case, ["serve", "--listen", f"127.0.0.1:{case.port()}", "--admin", f"127.0.0.1:{case.port()}",
                   "--data", file / "data"], str(file))
    if os.geteuid() == 0:
        # Even root cannot write here.
        refused(case, ["serve", "--listen", f"127.0.0.1:{case.port()}", "--admin", f"127.0.0.1:{case.port()}",
                       "--data", "/proc/sluice"], "/proc/sluice")


def test_data_folder_of_another_sluice(case):
    running = sluice.Sluice(case, "http://127.0.0.1:1")
    refused(case, ["serve", "--listen", f"127.0.0.1:{case.port()}", "--admin", f"127.0.0.1:{case.port()}",
                   "--data", running.data], str(running.data))
    assert running.get("/v2/").status == 200


def test_says_what_it_cannot_understand(case):
    process = case.spawn("sluice", [sluice.binary(), "serve", "--no-such-option"], sluice.Sluice.environment())
    assert process.wait() > 0
    assert "--no-such-option" in process.log()


def test_term_drains(case):
    image = case.images["test/medium:1"]
    digest = image.layers[0]
    registry = origin.Registry(case)
    proxy = faults.FaultProxy(case, registry.port)
    proxy.throttle(24e6)
    cache = sluice.Sluice(case, proxy.url)

    reader = cache.download(image.repository, digest)
    reader.read_exactly(1 << 20)
    cache.process.popen.send_signal(signal.SIGTERM)
    cases.poll("new connections are refused", lambda: not cases.listens(cache.port), 10)
    assert not reader.complete, "the transfer was over before it could be drained"
    assert reader.drain() == digest and reader.complete, f"{reader.received} bytes came"
    reader.close()
    code = cache.process.wait(20)
    assert code == 0, f"exit code {code}"


def test_term_with_idle_connections(case):
    cache = sluice.Sluice(case, "http://127.0.0.1:1")
    idle = socket.create_connection(("127.0.0.1", cache.port))
    case.defer(idle.close)
    kept = client.Download(cache.port, "/v2/", {"Connection": "keep-alive"}).head()
    case.defer(kept.close)
    kept.drain()
    cache.process.popen.send_signal(signal.SIGTERM)
    assert cache.process.wait(10) == 0


def test_health_and_banner(case):
    cache = sluice.Sluice(case, "http://127.0.0.1:1")
    for path in ("/healthz", "/readyz"):
        assert cache.admin(path).status == 200
    assert cache.admin("/nothing").status == 404
    answer = cache.get("/v2/")
    assert answer.status == 200 and json.loads(answer.body) == {}
    assert answer.headers["docker-distribution-api-version"] == "registry/2.0"
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", answer.headers["date"])


def test_killed_in_the_middle_of_a_download(case):
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

    cache.start()
    again = cache.download(image.repository, digest)
    assert again.drain() == digest and again.complete
    cases.poll("nothing is left in incoming", lambda: not cache.incoming(), 10)
    case.say(f"{proxy.bytes_sent(digest)} bytes from upstream for {size}, in {proxy.count('GET', digest)} requests")
