"""What /v2/ answers: writes, bad input, ranges and conditionals, HEAD without a download."""

import json
import socket

from harness import client, faults, images, origin, sluice

DIGEST = "sha256:" + "0" * 64


def start(case):
    registry = origin.Registry(case)
    proxy = faults.FaultProxy(case, registry.port)
    return proxy, sluice.Sluice(case, proxy.url)


def test_writes_are_refused(case):
    proxy, cache = start(case)
    for method, path in (("POST", "/v2/test/oci/blobs/uploads/"), ("PUT", "/v2/test/oci/manifests/1"),
                         ("PATCH", "/v2/test/oci/blobs/uploads/x"), ("DELETE", "/v2/test/oci/manifests/" + DIGEST),
                         ("DELETE", "/v2/test/oci/blobs/" + DIGEST)):
        answer = cache.get(path, {"Content-Length": "0"}, method)
        assert answer.status == 405 and answer.codes() == ["UNSUPPORTED"], f"{method} {path}: {answer}"
        allowed = {word.strip() for word in answer.headers["allow"].split(",")}
        assert allowed == {"GET", "HEAD"}, answer.headers["allow"]
    # With a body that is larger than any buffer; what follows on that connection must not be taken for a request.
    head = "PUT /v2/test/oci/manifests/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n".encode()
    answer = client.raw_exchange(cache.port, head + b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n" + b"x" * 100000, 3)
    assert answer.startswith(b"HTTP/1.1 405 ") and answer.count(b"HTTP/1.1 ") == 1, answer
    assert proxy.count() == 0, "a write reached upstream"


# Target, status, code. A set of statuses or codes where the specification leaves the choice.
BAD_TARGETS = [
    ("/v2/test/oci/blobs/sha256:abc", 400, "DIGEST_INVALID"),
    ("/v2/test/oci/blobs/md5:" + "0" * 32, 400, "DIGEST_INVALID"),
    ("/v2/test/oci/blobs/sha256:" + "A" * 64, 400, "DIGEST_INVALID"),
    ("/v2/test/oci/blobs/sha256:" + "0" * 65, 400, "DIGEST_INVALID"),
    ("/v2/test/oci/blobs/sha256:", 400, "DIGEST_INVALID"),
    ("/v2/test/oci/blobs/sha512:" + "0" * 64, 400, "DIGEST_INVALID"),
    ("/v2/test/oci/blobs/latest", 400, "DIGEST_INVALID"),
    ("/v2/test/oci/manifests/sha256:xyz", 400, "DIGEST_INVALID"),
    ("/v2/TEST/oci/manifests/1", 400, "NAME_INVALID"),
    ("/v2/a..b/manifests/1", 400, "NAME_INVALID"),
    ("/v2/-a/manifests/1", 400, "NAME_INVALID"),
    ("/v2/a//b/manifests/1", {400, 404}, "NAME_INVALID"),
    ("/v2/" + "a" * 300 + "/manifests/1", 400, "NAME_INVALID"),
    ("/v2/" + "a/" * 200 + "b/blobs/" + DIGEST, 400, "NAME_INVALID"),
    ("/v2/test/../oci/manifests/1", 400, "NAME_INVALID"),
    ("/v2/../../../etc/passwd", {400, 404}, None),
    ("/v2/test/%2e%2e/oci/manifests/1", 400, "NAME_INVALID"),
    ("/v2/%2e%2e%2f%2e%2e%2fetc/manifests/passwd", 400, "NAME_INVALID"),
    ("/v2/test/oci/blobs/sha256:%2e%2e%2f%2e%2e%2fetc%2fpasswd", 400, "DIGEST_INVALID"),
    ("/v2/test/oci/blobs/..%2f..%2fetc%2fpasswd", {400, 404}, None),
    ("/v2/te%00st/oci/manifests/1", 400, "NAME_INVALID"),
    ("/v2/test/oci/blobs/sha256:" + "0" * 63 + "%00", 400, "DIGEST_INVALID"),
    ("/v2/test/oci/manifests/.hidden", 404, "MANIFEST_UNKNOWN"),
    ("/v2/test/oci/manifests/" + "a" * 129, 404, "MANIFEST_UNKNOWN"),
    ("/v2/test/oci/manifests/nope", 404, "MANIFEST_UNKNOWN"),
    ("/v2/test/oci/manifests/" + DIGEST, 404, "MANIFEST_UNKNOWN"),
    ("/v2/test/oci/blobs/" + DIGEST, 404, "BLOB_UNKNOWN"),
    ("/v2/test/nothing-here/manifests/1", 404, {"NAME_UNKNOWN", "MANIFEST_UNKNOWN"}),
    ("/v2/test/oci/nonsense/1", 404, None),
    ("/v3/", 404, None),
    ("/", 404, None),
    ("/etc/passwd", 404, None),
]

# What is not HTTP as it has to be: 400 (or 431 for too much of it) and the connection ends.
BAD_REQUESTS = [
    ("no Host", b"GET /v2/ HTTP/1.1\r\n\r\n"),
    ("two Hosts", b"GET /v2/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    ("an empty Host", b"GET /v2/ HTTP/1.1\r\nHost:\r\n\r\n"),
    ("a Host with a path", b"GET /v2/ HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    ("a Host with a login", b"GET /v2/ HTTP/1.1\r\nHost: user@a\r\n\r\n"),
    ("bare line feeds", b"GET /v2/ HTTP/1.1\nHost: a\n\n"),
    ("a folded field", b"GET /v2/ HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n"),
    ("both lengths", b"POST /v2/ HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("an unknown coding", b"POST /v2/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    ("a NUL in the target", b"GET /v2/te\0st/manifests/1 HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("bytes outside ASCII", b"GET /v2/\xc3\xa4/manifests/1 HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("CONNECT", b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"),
    ("a head without end", b"GET /v2/ HTTP/1.1\r\nHost: a\r\n" + b"X: " + b"x" * 200000 + b"\r\n\r\n"),
    ("not HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 64),
]


def test_bad_input(case):
    _, cache = start(case)
    wrong = []
    for target, status, code in BAD_TARGETS:
        answer = cache.get(target)
        statuses = status if isinstance(status, set) else {status}
        codes = {code} if isinstance(code, str) else code
        try:
            said = answer.codes()[0]
        except (ValueError, KeyError, IndexError):
            said = f"no OCI error: {answer.body[:80]!r}"
        if answer.status not in statuses or (codes and said not in codes) or said.startswith("no OCI"):
            wrong.append(f"{target[:70]}: {answer.status} {said}, expected {status} {code}")
    for what, data in BAD_REQUESTS:
        answer = client.raw_exchange(cache.port, data)
        good = answer[:13] in (b"HTTP/1.1 400 ", b"HTTP/1.1 431 ")
        if not good or answer.count(b"HTTP/1.1 ") > 1:
            wrong.append(f"{what}: {answer[:60]!r}")
    assert not wrong, "\n".join(wrong)

    assert cache.get("/v2/").status == 200 and cache.process.alive()
    assert list(cache.work.iterdir()) == [], "it left something in its working directory"
    assert not cache.kept() and not cache.incoming(), (cache.kept(), cache.incoming())
    assert {path.name for path in cache.home.iterdir()} == {"data", "work"}


def test_tls_hello_on_the_plain_port(case):
    """podman and skopeo try https first, and wait ten seconds for a port that says nothing; docker's containerd store goes
    on with http only after an answer in HTTP."""
    _, cache = start(case)
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", cache.port), timeout=8) as connection:
            connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 505)
            # A time-out or a reset is an exception, which fails the test.
            answer = b"".join(iter(lambda: connection.recv(4096), b""))
            assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert cache.get("/v2/").status == 200


def test_ranges_and_conditions(case):
    image = case.images["test/medium:1"]
    digest, size = image.layers[0], images.MEDIUM_BYTES
    proxy, cache = start(case)
    whole = cache.blob(image.repository, digest)
    assert whole.status == 200 and whole.headers["accept-ranges"] == "bytes"
    etag = whole.headers["etag"]
    assert etag.startswith('"') and etag.endswith('"'), etag
    for spec, first, last in (("0-0", 0, 0), ("100-299", 100, 299), (f"{size - 10}-", size - 10, size - 1),
                              ("-7", size - 7, size - 1), (f"5-{size * 2}", 5, size - 1), (f"-{size * 2}", 0, size - 1)):
        answer = cache.blob(image.repository, digest, {"Range": f"bytes={spec}"})
        assert answer.status == 206, f"{spec}: {answer.status}"
        assert answer.headers["content-range"] == f"bytes {first}-{last}/{size}", answer.headers["content-range"]
        assert answer.body == whole.body[first : last + 1], f"{spec}: other bytes"
    answer = cache.blob(image.repository, digest, {"Range": f"bytes={size}-"})
    assert answer.status == 416 and answer.headers["content-range"] == f"bytes */{size}", answer
    answer = cache.blob(image.repository, digest, {"Range": "lines=1-2"})
    assert answer.status == 200 and len(answer.body) == size
    assert cache.blob(image.repository, digest, {"If-None-Match": etag}).status == 304
    answer = cache.blob(image.repository, digest, {"Range": "bytes=1-2", "If-Range": '"other"'})
    assert answer.status == 200 and len(answer.body) == size
    assert cache.blob(image.repository, digest, {"Range": "bytes=1-2", "If-Range": etag}).status == 206
    assert proxy.count("GET", digest) == 1


def test_head_of_a_blob_downloads_nothing(case):
    image = case.images["test/big:1"]
    digest, size = image.layers[0], images.BIG_BYTES
    proxy, cache = start(case)
    for _ in range(2):
        answer = cache.get(f"/v2/{image.repository}/blobs/{digest}", method="HEAD")
        assert answer.status == 200 and answer.headers["content-length"] == str(size)
        assert answer.headers["docker-content-digest"] == digest
    assert proxy.count("GET", digest) == 0 and proxy.count("HEAD", digest) <= 1, proxy.seen(match=digest)


def test_a_repository_reads_only_what_upstream_says_it_has(case):
    image = case.images["test/medium:1"]
    digest = image.layers[0]
    _, cache = start(case)
    assert cache.download(image.repository, digest).drain() == digest
    answer = cache.blob("test/oci", digest)
    assert answer.status == 404 and answer.codes() == ["BLOB_UNKNOWN"], answer
    assert cache.blob(image.repository, digest).status == 200


def test_pipelined_requests_are_answered_in_order(case):
    image = case.images["test/oci:1"]
    _, cache = start(case)
    paths = ["/v2/", f"/v2/{image.repository}/blobs/{image.config}", "/v2/TEST/manifests/1", "/v2/"]
    data = "".join(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n" for path in paths[:-1])
    data += f"GET {paths[-1]} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    rest, statuses = client.raw_exchange(cache.port, data.encode()), []
    while rest:
        head, rest = rest.split(b"\r\n\r\n", 1)
        status, headers = client.parse_head(head)
        statuses.append(status)
        body, rest = rest[: int(headers["content-length"])], rest[int(headers["content-length"]) :]
        if len(statuses) == 2:
            assert images.sha256(body) == image.config
        elif status >= 400:
            json.loads(body)
    assert statuses == [200, 200, 400, 200], statuses
