"""An upstream that corrupts, breaks off, answers nonsense or is not there."""

from harness import case as cases
from harness import faults, images, origin, sluice


def start(case):
    registry = origin.Registry(case)
    proxy = faults.FaultProxy(case, registry.port)
    return registry, proxy, sluice.Sluice(case, proxy.url)


def corrupted_at(case, offset):
    image = case.images["test/medium:1"]
    digest, size = image.layers[0], images.MEDIUM_BYTES
    _, proxy, cache = start(case)
    # At the pace of a line, so that all three are there before it ends.
    proxy.throttle(60e6)
    # It stays corrupt as long as the three are waiting, however often the blob is fetched anew.
    proxy.fault(digest, corrupt_at=offset, times=None)

    readers = [cache.download(image.repository, digest) for _ in range(3)]
    for reader in readers:
        reader.drain()
        assert not reader.complete, f"a client got all {reader.received} bytes of a body that is not {digest}"
    case.say(f"{proxy.count('GET', digest)} downloads; bodies ended after {[r.received for r in readers]} of {size}")
    cases.poll("nothing is left in incoming", lambda: not cache.incoming(), 10)
    assert not cache.keeps(digest), "the wrong blob is kept"

    proxy.mend()
    again = cache.download(image.repository, digest)
    assert again.drain() == digest and again.complete
    cases.poll("the blob is kept", lambda: cache.keeps(digest), 10)


def test_corrupt_byte_in_the_middle(case):
    corrupted_at(case, images.MEDIUM_BYTES // 2)


def test_corrupt_last_byte(case):
    corrupted_at(case, images.MEDIUM_BYTES - 1)


def test_corrupt_manifest(case):
    image = case.images["test/oci:1"]
    _, proxy, cache = start(case)
    proxy.fault("/manifests/", corrupt_at=image.manifests[image.digest] // 2, times=None)
    path = f"/v2/{image.repository}/manifests/{image.digest}"
    answer = cache.get(path, {"Accept": images.ACCEPT})
    assert answer.status == 502 or not answer.complete, f"a manifest that is not {image.digest}: {answer}"
    proxy.mend()
    answer = cache.get(path, {"Accept": images.ACCEPT})
    assert answer.status == 200 and images.sha256(answer.body) == image.digest


def test_upstream_breaks_off_once(case):
    image = case.images["test/medium:1"]
    digest, size = image.layers[0], images.MEDIUM_BYTES
    _, proxy, cache = start(case)
    cut = size // 3 + 12345
    proxy.fault(digest, cut_after=cut)

    reader = cache.download(image.repository, digest)
    assert reader.drain() == digest and reader.complete
    gets = proxy.seen("GET", digest)
    assert [r.status for r in gets] == [200, 206], [(r.status, r.headers.get("range")) for r in gets]
    assert gets[1].headers["range"].startswith("bytes="), gets[1].headers
    # What was on its way when the connection ended may be asked for again.
    assert size <= proxy.bytes_sent(digest) <= size + (1 << 20), f"{proxy.bytes_sent(digest)} bytes for {size}"


def test_upstream_breaks_off_again_and_again(case):
    image = case.images["test/medium:1"]
    digest, size = image.layers[0], images.MEDIUM_BYTES
    _, proxy, cache = start(case)
    proxy.fault(digest, cut_after=size // 5, times=3)

    readers = [cache.download(image.repository, digest) for _ in range(2)]
    for reader in readers:
        assert reader.drain() == digest and reader.complete
    assert proxy.bytes_sent(digest) <= size + (4 << 20), f"{proxy.bytes_sent(digest)} bytes for {size}"


def test_upstream_down_and_nothing_cached(case):
    image = case.images["test/oci:1"]
    _, proxy, cache = start(case)
    proxy.refuse()
    for path in (f"/v2/{image.repository}/manifests/{image.tag}", f"/v2/{image.repository}/blobs/{image.layers[0]}"):
        for method in ("GET", "HEAD"):
            answer = cache.get(path, {"Accept": images.ACCEPT}, method)
            # 503 from where the breaker is open.
            assert answer.status in (502, 503) and answer.headers["retry-after"], f"{method} {path}: {answer}"
            assert answer.headers["content-type"].startswith("application/json")
            assert method == "HEAD" or answer.codes() == ["UNAVAILABLE"], answer.body
    assert cache.get("/v2/").status == 200, "/v2/ does not depend on upstream"
    assert cache.admin("/healthz").status == 200 and cache.admin("/readyz").status == 200
    # It is asked again, after the pause in which an upstream that is down is left alone; nothing is remembered as missing.
    proxy.accept()
    path = f"/v2/{image.repository}/manifests/{image.tag}"
    cases.poll("it is asked again", lambda: cache.get(path, {"Accept": images.ACCEPT}).status == 200)
    answer = cache.get(path, {"Accept": images.ACCEPT})
    assert images.sha256(answer.body) == image.digest


def test_starts_while_upstream_is_down(case):
    image = case.images["test/oci:1"]
    registry = origin.Registry(case)
    proxy = faults.FaultProxy(case, registry.port)
    proxy.refuse()
    cache = sluice.Sluice(case, proxy.url)
    assert cache.get("/v2/").status == 200
    proxy.accept()
    reader = cache.download(image.repository, image.layers[0])
    assert reader.drain() == image.layers[0]


def test_server_error_is_asked_again(case):
    image = case.images["test/oci:1"]
    _, proxy, cache = start(case)
    digest = image.layers[0]
    proxy.fault(digest, status=503, times=1)
    reader = cache.download(image.repository, digest)
    assert reader.status == 200 and reader.drain() == digest
