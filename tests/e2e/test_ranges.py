"""Ranges cold, in flight and at rest: what lazy pullers ask for costs no more than that, and harms no fill."""

import hashlib
import re

from harness import case as cases
from harness import client, faults, images, origin, sluice


def start(case, config=None):
    registry = origin.Registry(case)
    proxy = faults.FaultProxy(case, registry.port)
    return registry, proxy, sluice.Sluice(case, proxy.url, config=config)


def truth(registry, image, spec):
    """The bytes of a layer as the origin has them."""
    path = f"/v2/{image.repository}/blobs/{image.layers[0]}"
    answer = client.request(registry.port, path, {"Range": f"bytes={spec}"})
    assert answer.status == 206, answer.status
    return answer.body


def parts_of(answer):
    """[(Content-Range, bytes)] of a multipart/byteranges body, and nothing around it."""
    assert answer.status == 206 and answer.complete, answer.status
    boundary = re.fullmatch(r"multipart/byteranges; boundary=(\S+)", answer.headers["content-type"]).group(1).encode()
    first, *parts, last = answer.body.split(b"\r\n--" + boundary)
    assert first == b"" and last == b"--\r\n", (first[:40], last[:40])
    found = []
    for part in parts:
        head, body = part.split(b"\r\n\r\n", 1)
        found.append((re.search(rb"Content-Range: ([^\r]+)", head).group(1).decode(), body))
    return found


def ranged(proxy, digest):
    return [request.headers["range"] for request in proxy.seen("GET", digest) if "range" in request.headers]


def test_the_end_of_a_layer_that_is_being_fetched(case):
    image = case.images["test/medium:1"]
    digest, size = image.layers[0], images.MEDIUM_BYTES
    registry, proxy, cache = start(case)
    end = truth(registry, image, "-100")
    proxy.throttle(4e6)
    slow = cache.download(image.repository, digest)
    slow.read_exactly(1 << 20)

    answer = cache.blob(image.repository, digest, {"Range": "bytes=-100"})
    assert answer.status == 206 and answer.body == end, answer.status
    assert answer.headers["content-range"] == f"bytes {size - 100}-{size - 1}/{size}"
    assert answer.headers["docker-content-digest"] == digest
    # The fill is far from it, asks for nothing twice, and goes on as it was.
    fill, probe = proxy.seen("GET", digest)
    assert fill.sent < size // 2, f"the fill had come to {fill.sent} of {size}"
    assert probe.headers["range"] == f"bytes={size - 100}-{size - 1}" and probe.sent == 100
    proxy.throttle(None)
    assert slow.drain() == digest and slow.complete
    cases.poll("the layer is kept", lambda: cache.keeps(digest))
    assert proxy.count("GET", digest) == 2 and proxy.bytes_sent(digest) == size + 100
    assert cache.total("sluice_blob_requests_total", result="range") == 1
    assert cache.blob(image.repository, digest, {"Range": "bytes=-100"}).body == end
    assert proxy.count("GET", digest) == 2


def test_a_probe_of_a_cold_layer_costs_the_probe(case):
    image = case.images["test/big:1"]
    digest, size = image.layers[0], images.BIG_BYTES
    registry, proxy, cache = start(case)
    accept = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json"
    assert cache.get(f"/v2/{image.repository}/manifests/1", {"Accept": accept}).status == 200
    for spec in ("0-1", "-100", f"{size // 2}-{size // 2 + 299_999}"):
        answer = cache.blob(image.repository, digest, {"Range": f"bytes={spec}"})
        assert answer.status == 206 and answer.body == truth(registry, image, spec), f"{spec}: {answer.status}"
    # As podman asks for a layer of zstd:chunked.
    answer = cache.blob(image.repository, digest, {"Range": "bytes=1251-2042,2051-5650"})
    expected = [(f"bytes {spec}/{size}", truth(registry, image, spec)) for spec in ("1251-2042", "2051-5650")]
    assert parts_of(answer) == expected
    answer = cache.blob(image.repository, digest, {"Range": f"bytes={size}-{size + 5}"})
    assert answer.status == 416 and answer.headers["content-range"] == f"bytes */{size}", answer
    # The eight bytes between the two are fetched with them, and one that confirms the length before a 416.
    assert proxy.bytes_sent(digest) == 102 + 300_000 + (5650 - 1251 + 1) + 1, proxy.seen(match=digest)
    assert len(ranged(proxy, digest)) == proxy.count("GET", digest) == 5
    # The manifest has said that the repository has it, but the size that it names is a claim until upstream tells it.
    assert proxy.count("HEAD", digest) == 1, proxy.seen(match=digest)
    assert not cache.keeps(digest) and not cache.incoming(), cache.incoming()
    # Who may not have it gets none of it either.
    answer = cache.blob("test/oci", digest, {"Range": "bytes=0-1"})
    assert answer.status == 404 and answer.codes() == ["BLOB_UNKNOWN"], answer


def test_a_layer_that_much_is_wanted_of_is_fetched_whole(case):
    image = case.images["test/medium:1"]
    digest, size = image.layers[0], images.MEDIUM_BYTES
    _, proxy, cache = start(case, config="fill:\n  range_limit: 1MiB\n")
    far = "bytes=40000000-40399999"
    for _ in range(2):
        assert len(cache.blob(image.repository, digest, {"Range": far}).body) == 400_000
    assert len(ranged(proxy, digest)) == proxy.count("GET", digest) == 2
    assert len(cache.blob(image.repository, digest, {"Range": far}).body) == 400_000
    cases.poll("the layer is kept", lambda: cache.keeps(digest))
    assert proxy.count("GET", digest) - len(ranged(proxy, digest)) == 1
    before = proxy.count("GET", digest)
    assert len(cache.blob(image.repository, digest, {"Range": far}).body) == 400_000
    assert proxy.count("GET", digest) == before


def test_ranges_can_be_left_to_the_fill(case):
    image = case.images["test/medium:1"]
    digest, size = image.layers[0], images.MEDIUM_BYTES
    registry, proxy, cache = start(case, config="fill:\n  ranges: fill\n")
    answer = cache.blob(image.repository, digest, {"Range": "bytes=-100"})
    assert answer.status == 206 and answer.body == truth(registry, image, "-100")
    cases.poll("the layer is kept", lambda: cache.keeps(digest))
    assert ranged(proxy, digest) == [] and proxy.bytes_sent(digest) == size


def test_several_ranges_in_flight_and_at_rest(case):
    image = case.images["test/medium:1"]
    digest, size = image.layers[0], images.MEDIUM_BYTES
    registry, proxy, cache = start(case)
    proxy.throttle(4e6)
    slow = cache.download(image.repository, digest)
    slow.read_exactly(1 << 20)
    specs = ("1251-2042", "2051-5650", "2000000-2000099")
    expected = [(f"bytes {spec}/{size}", truth(registry, image, spec)) for spec in specs]
    fields = {"Range": "bytes=" + ", ".join(specs)}
    assert parts_of(cache.blob(image.repository, digest, fields)) == expected
    proxy.throttle(None)
    assert slow.drain() == digest and slow.complete
    cases.poll("the layer is kept", lambda: cache.keeps(digest))
    assert parts_of(cache.blob(image.repository, digest, fields)) == expected
    assert proxy.count("GET", digest) == 1


def test_forty_ranges_without_an_end_that_are_cut_off(case):
    """As containerd 2.1 fetches with a buffer for each piece."""
    image = case.images["test/medium:1"]
    digest, size = image.layers[0], images.MEDIUM_BYTES
    _, proxy, cache = start(case)
    piece, hashed = -(-size // 40), hashlib.sha256()
    for at in range(0, size, piece):
        download = cache.download(image.repository, digest, headers={"Range": f"bytes={at}-"})
        assert download.status == 206 and download.headers["content-range"] == f"bytes {at}-{size - 1}/{size}"
        left = min(piece, size - at)
        while left:
            data = download.read(left)
            assert data, f"the range from {at} ended early"
            hashed.update(data)
            left -= len(data)
        download.close()
    assert "sha256:" + hashed.hexdigest() == digest
    cases.poll("the layer is kept", lambda: cache.keeps(digest))
    assert proxy.count("GET", digest) == 1 and proxy.bytes_sent(digest) == size
    cases.poll("nobody reads any more", lambda: cache.metrics()["sluice_fill_readers"] == 0)


def test_a_range_whose_upstream_breaks_off(case):
    image = case.images["test/big:1"]
    digest = image.layers[0]
    registry, proxy, cache = start(case)
    proxy.fault(digest, cut_after=500_000, times=2)
    spec = "200000000-201999999"
    answer = cache.blob(image.repository, digest, {"Range": f"bytes={spec}"})
    assert answer.status == 206 and answer.complete and answer.body == truth(registry, image, spec)
    assert proxy.bytes_sent(digest) == 2_000_000
    assert ranged(proxy, digest) == [f"bytes={at}-201999999" for at in (200000000, 200500000, 201000000)]
