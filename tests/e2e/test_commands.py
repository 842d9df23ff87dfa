"""The commands: ls, stat, rm, gc, verify and warm, on a sluice that runs and on the data of one that does not."""

import json
import os
import pty
import re
import signal
import subprocess

from harness import case as cases
from harness import faults, images, origin, sluice


def start(case, **options):
    registry = origin.Registry(case)
    proxy = faults.FaultProxy(case, registry.port)
    return proxy, sluice.Sluice(case, proxy.url, **options)


def run(case, *arguments, status=0):
    """(standard output, standard error) of `sluice …`."""
    done = subprocess.run([sluice.binary(), *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=120, env=sluice.Sluice.environment(), cwd=case.tmp)
    assert done.returncode == status, f"{arguments} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout, done.stderr


def document(case, *arguments, status=0):
    return json.loads(run(case, *arguments, "--json", status=status)[0])


def at(cache):
    return ["--admin", f"127.0.0.1:{cache.admin_port}"]


def warm(case, cache, *arguments, status=0):
    said = run(case, "warm", "--server", f"127.0.0.1:{cache.port}", *arguments, status=status)
    # Who reads has the last byte a moment before the file has its name.
    cases.poll("all downloads are over", lambda: cache.metrics()["sluice_fills_in_flight"] == 0, 10)
    return said


def damage(path):
    with open(path, "r+b") as file:
        byte = file.read(1)
        file.seek(0)
        file.write(bytes([byte[0] ^ 1]))


def test_help(case):
    text = run(case, "--help")[0]
    for command in ("serve", "check-config", "ls", "stat", "rm", "gc", "verify", "warm", "help", "version"):
        assert re.search(rf"^  {command} +\w", text, re.M), f"{command} is not in:\n{text}"
        assert run(case, "help", command)[0], command
        assert run(case, command, "--help")[0], command
    assert run(case, "help")[0] == text
    assert "sluice warm alpine:3.18" in run(case, "help", "warm")[0]
    for wrong in (["stat"], ["rm"], ["warm"], ["ls", "a", "b"], ["help", "nothing"], ["gc", "--nothing"], ["nothing"]):
        _, errors = run(case, *wrong, status=2)
        assert errors, wrong


def test_nobody_answers(case):
    address = f"127.0.0.1:{case.port()}"
    _, errors = run(case, "ls", "--admin", address, status=1)
    assert f"no sluice answers on {address}" in errors and "--admin" in errors and "--data" in errors, errors
    _, errors = run(case, "warm", "--server", address, "busybox", status=1)
    assert f"no sluice answers on {address}" in errors and "--server" in errors, errors
    _, errors = run(case, "ls", "--data", case.folder("empty"), status=1)
    assert "no data directory of sluice" in errors, errors
    # Something else answers there.
    cache = sluice.Sluice(case, "http://127.0.0.1:1")
    _, errors = run(case, "ls", "--admin", f"127.0.0.1:{cache.port}", status=1)
    assert "admin" in errors, errors
    for wrong in ("nonsense", "127.0.0.1", "http://127.0.0.1:5001/path"):
        run(case, "ls", "--admin", wrong, status=2)


def test_look_and_take_out(case):
    image = case.images["test/oci:1"]
    proxy, cache = start(case)
    assert "nothing is stored yet" in run(case, "ls", *at(cache))[0]
    warm(case, cache, "test/oci:1", "test/docker:1")
    text = run(case, "ls", *at(cache))[0]
    assert re.search(r"^REPOSITORY +TAGS +BLOBS +SIZE +LAST USED$", text, re.M), text
    assert re.search(r"^docker.io/test/oci +1 +\d+ +[\d.]+ \w+ +just now$", text, re.M), text
    assert image.digest[:19] in run(case, "ls", "test/oci", *at(cache))[0]
    assert image.layers[0] in run(case, "ls", "docker.io/test/oci:1", *at(cache))[0]
    assert image.config in run(case, "ls", "--blobs", *at(cache))[0]
    assert {row["name"] for row in document(case, "ls", *at(cache))["repositories"]} == {
        "docker.io/test/oci", "docker.io/test/docker"}
    stat = document(case, "stat", "test/oci@" + image.digest, *at(cache))
    assert stat["manifest"]["digest"] == image.digest
    text = run(case, "stat", image.layers[0], *at(cache))[0]
    assert "docker.io/test/oci" in text and "at rest" in text, text
    for name in ("test/nothing", "test/oci:nothing", "sha256:" + "0" * 64):
        _, errors = run(case, "stat", name, *at(cache), status=1)
        assert "nothing is known here" in errors, errors
    run(case, "stat", "Not/A/Name", *at(cache), status=2)

    removed = document(case, "rm", "test/oci:1", *at(cache))
    assert removed[0]["tags"] == 1 and removed[0]["digests"] == len(image.blobs) + 1, removed
    _, errors = run(case, "rm", "test/oci:1", *at(cache), status=1)
    assert "nothing is known here" in errors
    assert "taken out" in run(case, "rm", "--all", "test/docker", *at(cache))[0]
    assert not cache.kept()
    assert {request.method for request in proxy.seen()} <= {"GET", "HEAD"}


def test_ls_of_blobs_that_no_repository_is_known_to_have(case):
    image = case.images["test/oci:1"]
    _, cache = start(case)
    warm(case, cache, "test/oci:1")
    cache.stop()
    for file in cache.data.glob("catalog.db*"):
        file.unlink()
    cache.start()
    cases.poll("the files are found", lambda: image.config in run(case, "ls", "--blobs", *at(cache))[0])
    text = run(case, "ls", *at(cache))[0]
    assert "no repository is known yet, but blobs are stored" in text, text


def test_warm_platforms(case):
    image = case.images["test/multi:1"]
    proxy, cache = start(case)
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    text, _ = warm(case, cache, "test/multi:1")
    assert f"linux/{machine}" in text and "/s)" in text, text
    one = set(cache.kept())
    assert image.digest[7:] in one
    everything = {digest[7:] for digest in (*image.blobs, *image.manifests)}
    assert one < everything
    other = "arm64" if machine == "amd64" else "amd64"
    warm(case, cache, "test/multi:1", "--platform", f"linux/{other}")
    assert set(cache.kept()) == everything
    fetched = proxy.count("GET", "/blobs/")
    summary = json.loads(warm(case, cache, "--all", "test/multi:1", "test/oci:1", "--json")[0])
    assert [entry["image"] for entry in summary["images"]] == ["test/multi:1", "test/oci:1"]
    assert summary["images"][0]["blobs"] == len(image.blobs) and summary["bytes"] > 0, summary
    # Each layer came once, all in all.
    wanted = {*image.blobs, *case.images["test/oci:1"].blobs}
    assert proxy.count("GET", "/blobs/") == len(wanted), f"{fetched} before, {proxy.count('GET', '/blobs/')} after"
    _, errors = warm(case, cache, "test/multi:1", "--platform", "linux/s390x", status=1)
    assert "no image for linux/s390x" in errors and "linux/amd64" in errors, errors
    _, errors = warm(case, cache, "test/nothing:1", "test/oci:1", status=1)
    assert "test/nothing:1" in errors, errors
    warm(case, cache, "test/oci:1", "--platform", "not a platform", status=2)


def test_warm_by_any_name(case):
    """As docker names images: library/, docker.io, another registry, a digest."""
    image = case.images["library/busybox:latest"]
    registry = origin.Registry(case)
    hub, other = faults.FaultProxy(case, registry.port), faults.FaultProxy(case, registry.port)
    config = f"upstreams:\n  docker.io: {{ url: '{hub.url}' }}\n  other.example: {{ url: '{other.url}' }}\n"
    cache = sluice.Sluice(case, config=config)
    warm(case, cache, "busybox")
    assert hub.count("GET", image.layers[0]) == 1 and hub.count(match="/v2/library/busybox/manifests/latest") > 0
    warm(case, cache, "docker.io/busybox:latest", "index.docker.io/library/busybox@" + image.digest)
    assert hub.count("GET", image.layers[0]) == 1
    assert other.count() == 0
    warm(case, cache, "other.example/test/oci:1")
    assert other.count(match="/v2/test/oci/manifests/1") > 0
    assert {row["name"] for row in document(case, "ls", *at(cache))["repositories"]} == {
        "docker.io/library/busybox", "other.example/test/oci"}
    assert image.digest[:19] in run(case, "ls", "busybox", *at(cache))[0]
    _, errors = warm(case, cache, "unknown.example/a/b", status=1)
    assert "unknown.example" in errors, errors


def test_warm_is_interrupted(case):
    proxy, cache = start(case)
    proxy.throttle(10e6)
    process = case.spawn("warm", [sluice.binary(), "warm", "--server", f"127.0.0.1:{cache.port}", "test/medium:1"],
                         sluice.Sluice.environment())
    cases.poll("it downloads", lambda: proxy.bytes_sent(case.images["test/medium:1"].layers[0]) > 1 << 20)
    process.popen.send_signal(signal.SIGINT)
    assert process.wait(10) == 130
    assert "interrupted" in process.log(), process.log()


def test_progress_on_a_terminal(case):
    """A bar that is written over on a terminal; elsewhere nothing for what is quick."""
    proxy, cache = start(case)
    proxy.throttle(48e6)
    leader, follower = pty.openpty()
    process = subprocess.Popen([sluice.binary(), "warm", "--server", f"127.0.0.1:{cache.port}", "test/medium:1"],
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=follower,
                               env=sluice.Sluice.environment())
    os.close(follower)
    shown = b""
    while True:
        try:
            piece = os.read(leader, 65536)
        except OSError:  # the other side has closed
            break
        if not piece:
            break
        shown += piece
    os.close(leader)
    assert process.wait(60) == 0
    process.stdout.close()
    assert b"\r" in shown and b"[" in shown and b"%" in shown, shown[:300]
    assert shown.rstrip().endswith(b"\r\x1b[K"), f"the bar stays: {shown[-100:]}"
    assert not warm(case, cache, "test/medium:1")[1]


def test_verify_and_gc_while_it_serves(case):
    image = case.images["test/oci:1"]
    _, cache = start(case)
    warm(case, cache, "test/oci:1")
    text = run(case, "verify", "--sample", "100%", "--rate", "200MiB", *at(cache))[0]
    assert "all as they should be" in text, text
    damage(cache.kept()[image.layers[0][7:]])
    text = run(case, "verify", *at(cache), status=1)[0]
    assert image.layers[0] in text and "1 damaged" in text, text
    assert "all as they should be" in run(case, "verify", *at(cache))[0]
    _, errors = run(case, "verify", "--sample", "nonsense", *at(cache), status=2)
    assert "sample" in errors and "5%" in errors, errors

    cache.kept()[image.layers[1][7:]].unlink()
    collected = document(case, "gc", "--min-age", "0s", *at(cache))
    assert collected["missing_files"] == 1 and collected["memberships"] >= 2, collected
    assert "left " in run(case, "gc", *at(cache))[0]
    warm(case, cache, "test/oci:1")
    assert len(cache.kept()) == len(image.blobs) + len(image.manifests)


def test_verify_is_interrupted(case):
    _, cache = start(case)
    warm(case, cache, "test/medium:1")
    process = case.spawn("verify", [sluice.binary(), "verify", "--rate", "1MiB", *at(cache)],
                         sluice.Sluice.environment())
    state = lambda: json.loads(cache.admin("/api/v1/verify").body)["state"]  # noqa: E731
    cases.poll("it runs", lambda: state() == "running")
    process.popen.send_signal(signal.SIGINT)
    assert process.wait(15) == 130
    assert state() == "cancelled"


def test_on_data_that_nobody_uses(case):
    image = case.images["test/oci:1"]
    _, cache = start(case)
    warm(case, cache, "test/oci:1", "library/busybox:latest")
    # While it runs, the one that uses the directory is asked, when it can be found.
    text, errors = run(case, "ls", "--data", cache.data, status=1)
    assert "in use" in errors or "pid" in errors, errors
    config = case.file("where.yml", f"admin:\n  listen: 127.0.0.1:{cache.admin_port}\n")
    text, errors = run(case, "ls", "--data", cache.data, "--config", config)
    assert "docker.io/test/oci" in text and f"127.0.0.1:{cache.admin_port}" in errors, errors
    cache.stop()

    text, errors = run(case, "ls", "--data", cache.data)
    assert "docker.io/test/oci" in text and "which no sluice uses" in errors, errors
    assert image.digest[:19] in run(case, "ls", "test/oci", "--data", cache.data)[0]
    damage(cache.kept()[image.layers[0][7:]])
    text = run(case, "verify", "--data", cache.data, status=1)[0]
    assert image.layers[0] in text and "quarantine" in text, text
    assert "all as they should be" in run(case, "verify", "--data", cache.data)[0]
    run(case, "rm", "busybox", "--data", cache.data)
    collected = document(case, "gc", "--min-age", "0s", "--data", cache.data)
    assert collected["memberships"] >= 1, collected
    kept = set(cache.kept())
    assert kept == {digest[7:] for digest in {*image.blobs, *image.manifests} - {image.layers[0]}}
    # It serves what is left, and fetches the rest.
    cache.start()
    warm(case, cache, "test/oci:1", "library/busybox:latest")


def test_check_config_reads_the_certificates(case):
    path = case.file("not.pem", "this is no certificate\n")
    config = case.file("ca.yml", f"upstreams:\n  docker.io:\n    ca_file: {path}\n")
    _, errors = run(case, "check-config", "--config", config, status=78)
    assert "docker.io" in errors and "ca_file" in errors and "not.pem" in errors, errors


def test_serve_without_a_place_for_its_data(case):
    file = case.file("file", "")
    _, errors = run(case, "serve", "--listen", f"127.0.0.1:{case.port()}", "--admin", f"127.0.0.1:{case.port()}",
                    "--data", file / "data", status=1)
    assert str(file) in errors and "--data DIR names another place" in errors, errors
