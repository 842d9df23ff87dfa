"""The admin API and the status page: what is in the store, who may ask, and what long work does meanwhile."""

import json
import signal
import urllib.parse

from harness import case as cases
from harness import client, faults, images, origin, sluice

JSON = {"Content-Type": "application/json"}


def start(case, **options):
    registry = origin.Registry(case)
    proxy = faults.FaultProxy(case, registry.port)
    return proxy, sluice.Sluice(case, proxy.url, **options)


def ask(cache, path, method="GET", headers=None, status=200):
    answer = client.request(cache.admin_port, "/api/v1" + path, headers, method)
    assert answer.status == status, f"{method} {path}: {answer}"
    assert answer.headers["content-type"] == "application/json"
    return json.loads(answer.body)


def pull(cache, image):
    manifest = cache.get(f"/v2/{image.repository}/manifests/{image.tag}", {"Accept": images.ACCEPT})
    assert manifest.status == 200
    for digest in image.manifests:
        assert cache.get(f"/v2/{image.repository}/manifests/{digest}", {"Accept": images.ACCEPT}).status == 200
    for digest in image.blobs:
        assert cache.blob(image.repository, digest).status == 200
    # Who reads has the last byte a moment before the file has its name.
    cases.poll("all downloads are over", lambda: cache.metrics()["sluice_fills_in_flight"] == 0, 10)


def test_what_is_stored(case):
    image, other = case.images["test/oci:1"], case.images["test/docker:1"]
    _, cache = start(case)
    assert ask(cache, "/repositories") == {"repositories": []}
    pull(cache, image)
    pull(cache, other)
    size = sum(image.blobs.values()) + sum(image.manifests.values())

    listed = ask(cache, "/repositories")["repositories"]
    assert [row["name"] for row in listed] == ["docker.io/test/docker", "docker.io/test/oci"]
    assert listed[1]["bytes"] == size and listed[1]["tags"] == 1, listed[1]
    assert listed[1]["blobs"] == len(image.blobs) + len(image.manifests)
    first = ask(cache, "/repositories?limit=1")
    assert first["next"] == "docker.io/test/docker" and len(first["repositories"]) == 1
    rest = ask(cache, "/repositories?limit=1&after=" + urllib.parse.quote(first["next"], safe=""))
    assert [row["name"] for row in rest["repositories"]] == ["docker.io/test/oci"] and "next" not in rest

    tags = ask(cache, "/tags?repository=test/oci")
    assert tags["repository"] == "docker.io/test/oci"
    assert [(row["tag"], row["digest"], row["bytes"]) for row in tags["tags"]] == [("1", image.digest, size)]
    blobs = ask(cache, "/blobs?repository=test/oci")["blobs"]
    assert {row["digest"] for row in blobs} == {*image.blobs, *image.manifests}
    assert all(row["state"] == "at rest" and "last_used" in row for row in blobs)
    # Every blob once, page by page.
    seen, after = [], ""
    while True:
        page = ask(cache, "/blobs?limit=2&after=" + urllib.parse.quote(after, safe=""))
        seen += [row["digest"] for row in page["blobs"]]
        if "next" not in page:
            break
        after = page["next"]
    everything = {*image.blobs, *image.manifests, *other.blobs, *other.manifests}
    assert seen == sorted(everything), f"{len(seen)} of {len(everything)}"

    stat = ask(cache, "/stat?name=test/oci:1")
    assert stat["bytes"] == size and stat["manifest"]["digest"] == image.digest
    assert {blob["digest"] for blob in stat["blobs"]} == set(image.blobs)
    shared = image.config if image.config in other.blobs else image.layers[0]
    stat = ask(cache, "/stat?name=" + shared)
    assert stat["repositories"] == ["docker.io/test/docker", "docker.io/test/oci"], stat
    assert stat["size"] == image.blobs[shared] and stat["file"].endswith(shared[7:])
    stat = ask(cache, "/stat?name=" + image.digest)
    assert stat["tags"] == ["docker.io/test/oci:1"], stat

    for path in ("/stat?name=test/nothing:1", "/tags?repository=nothing", "/stat?name=sha256:" + "0" * 64, "/nothing"):
        assert ask(cache, path, status=404)["error"]["message"]
    for path in ("/stat?name=UPPER/case", "/repositories?limit=0", "/blobs?after=x", "/stat?name=sha256:abc", "/tags"):
        assert ask(cache, path, status=400)["error"]["message"]


def test_states(case):
    """In flight, in part, and at rest."""
    image = case.images["test/medium:1"]
    digest = image.layers[0]
    proxy, cache = start(case)
    proxy.throttle(20e6)
    reader = cache.download(image.repository, digest)
    reader.read_exactly(8 << 20)
    assert ask(cache, "/stat?name=" + digest)["state"] == "in flight"
    cache.process.kill()
    reader.close()
    cache.start()
    stat = ask(cache, "/stat?name=" + digest)
    assert stat["state"] == "part" and stat["part_bytes"] >= 4 << 20, stat
    proxy.throttle(None)
    again = cache.download(image.repository, digest)
    assert again.drain() == digest
    cases.poll("it is at rest", lambda: ask(cache, "/stat?name=" + digest)["state"] == "at rest", 10)


def test_taking_out(case):
    image, other = case.images["test/oci:1"], case.images["team/private:1"]
    proxy, cache = start(case)
    pull(cache, image)
    pull(cache, other)
    removed = ask(cache, "/content?name=test/oci:1", "DELETE")
    assert removed["tags"] == 1 and removed["files"] == 0, removed
    pulled = proxy.count("GET", "/blobs/")
    assert all(cache.keeps(digest) for digest in {*other.blobs, *other.manifests})
    assert [row["name"] for row in ask(cache, "/repositories")["repositories"]] == ["docker.io/team/private"]
    removed = ask(cache, "/content?name=team/private:1", "DELETE")
    assert removed["files"] == len(other.blobs) + len(other.manifests), removed
    assert not cache.kept()
    ask(cache, "/content?name=team/private:1", "DELETE", status=404)
    assert proxy.count("GET", "/blobs/") == pulled, "taking out asked upstream"
    pull(cache, image)
    removed = ask(cache, "/content?name=" + image.layers[0], "DELETE")
    assert (removed["digests"], removed["files"]) == (1, 1), removed
    assert not cache.keeps(image.layers[0]) and cache.keeps(image.layers[1])


def test_refuses_browsers(case):
    _, cache = start(case)
    port = cache.admin_port
    good = f"127.0.0.1:{port}"
    # (method, headers) that a web page could bring about.
    refused = [
        ("GET", {"Host": f"attacker.example:{port}"}),
        ("GET", {"Host": f"127.0.0.1.attacker.example:{port}"}),
        ("GET", {"Host": good, "Origin": "http://attacker.example"}),
        ("POST", {"Host": good, "Origin": "null", **JSON}),
        ("POST", {"Host": good, "Content-Type": "text/plain"}),
        ("POST", {"Host": good}),
        ("DELETE", {"Host": good, "Origin": f"http://{good}"}),
    ]
    for method, headers in refused:
        path = "/api/v1/repositories" if method == "GET" else "/api/v1/gc" if method == "POST" else "/api/v1/verify"
        answer = client.request(port, path, headers, method)
        assert answer.status == 403, f"{method} {headers}: {answer}"
    for host in (good, f"localhost:{port}", "localhost", "127.0.0.1"):
        assert client.request(port, "/api/v1/repositories", {"Host": host}).status == 200, host
    for method in ("POST", "DELETE", "PUT"):
        answer = client.request(port, "/api/v1/repositories", JSON, method)
        assert answer.status == 405 and answer.headers["allow"] == "GET, HEAD", answer
    assert client.request(port, "/api/v1/gc").status == 405


def test_verify_one_at_a_time(case):
    image = case.images["test/medium:1"]
    _, cache = start(case)
    pull(cache, image)
    assert ask(cache, "/verify") == {"state": "idle"}
    # So slow that it is still there for what follows.
    started = ask(cache, "/verify?rate=1MiB", "POST", JSON, 202)
    assert started["state"] == "running"
    assert ask(cache, "/verify", "POST", JSON, 409)["error"]["message"]
    assert client.request(cache.admin_port, "/metrics", timeout=10).status == 200
    ask(cache, "/verify", "DELETE", status=202)
    ended = cases.poll("it has ended", lambda: (s := ask(cache, "/verify"))["state"] != "running" and s, 10)
    assert ended["state"] == "cancelled", ended
    ask(cache, "/verify", "DELETE", status=404)

    damaged = cache.kept()[image.layers[0][7:]]
    with open(damaged, "r+b") as file:
        file.seek(12345)
        byte = file.read(1)
        file.seek(12345)
        file.write(bytes([byte[0] ^ 1]))
    ask(cache, "/verify", "POST", JSON, 202)
    ended = cases.poll("it has ended", lambda: (s := ask(cache, "/verify"))["state"] != "running" and s, 60)
    assert ended["state"] == "finished" and ended["progress"]["damaged"] == 1, ended
    assert [entry["digest"] for entry in ended["found"]] == [image.layers[0]]
    assert not damaged.exists()
    assert cache.blob(image.repository, image.layers[0]).status == 200
    for path in ("?sample=0", "?sample=200%25", "?rate=fast", "?seed=x"):
        ask(cache, "/verify" + path, "POST", JSON, 400)


def test_stops_while_it_verifies(case):
    image = case.images["test/medium:1"]
    _, cache = start(case)
    pull(cache, image)
    ask(cache, "/verify?rate=1MiB", "POST", JSON, 202)
    assert cache.stop() == 0


def test_status_page(case):
    image = case.images["test/oci:1"]
    proxy, cache = start(case)
    pull(cache, image)
    pull(cache, image)
    assert cache.get("/v2/test/nothing/manifests/1").status == 404
    page = cache.admin("/").body.decode()
    for text in ("Ready to serve", "From the cache, last hour", "docker.io", "answers", "Saved upstream", "Stored"):
        assert text in page, f"{text!r} is not in the page"
    assert cache.total("sluice_manifest_requests_total", result="unknown") == 1
    assert cache.total("sluice_manifest_requests_total", result="error") == 0


def test_outage_is_told_once(case):
    image = case.images["test/oci:1"]
    registry = origin.Registry(case)
    cache = sluice.Sluice(case, registry.url, config="upstreams:\n  docker.io:\n    retries: 0\ntags:\n  ttl: 0s\n")
    pull(cache, image)
    assert cache.metrics()['sluice_upstream_up{upstream="docker.io"}'] == 1
    registry.stop()
    for _ in range(5):
        assert cache.get(f"/v2/{image.repository}/manifests/1", {"Accept": images.ACCEPT}).status == 200
    assert cache.metrics()['sluice_upstream_up{upstream="docker.io"}'] == 0
    assert "no usable answers</span>" in cache.admin("/").body.decode()
    registry.start()

    def answers():
        cache.get(f"/v2/{image.repository}/manifests/1", {"Accept": images.ACCEPT})
        return cache.metrics()['sluice_upstream_up{upstream="docker.io"}'] == 1

    cases.poll("it is noticed that upstream answers", answers, 40)
    log = cache.process.log()
    assert log.count("docker.io does not answer: ") == 1, log
    assert log.count("docker.io answers again") == 1, log


def test_stopped_download_is_no_warning(case):
    image = case.images["test/medium:1"]
    proxy, cache = start(case)
    proxy.throttle(5e6)
    reader = cache.download(image.repository, image.layers[0])
    reader.read_exactly(1 << 20)
    for _ in range(2):
        cache.process.popen.send_signal(signal.SIGTERM)
        cases.poll("new connections are refused", lambda: not cases.listens(cache.port), 10)
    assert cache.process.wait(20) == 0
    told = [line for line in cache.process.log().splitlines() if "fill: " in line and image.layers[0] in line]
    assert told and all(" info " in line for line in told), told
