"""Several addresses of one upstream, and what becomes of an outage."""

import signal
import time

from harness import case as cases
from harness import faults, images, origin, sluice
from test_skopeo import copy, same


def config(url, endpoints=(), extra="", **settings):
    lines = ["default_upstream: docker.io", "upstreams:", "  docker.io:", f"    url: {url}"]
    if endpoints:
        lines.append(f"    endpoints: [{', '.join(endpoints)}]")
    return "\n".join(lines + [f"    {key}: {value}" for key, value in settings.items()]) + "\n" + extra


def up(cache, url):
    endpoint = url.partition("://")[2]
    return cache.metrics()[f'sluice_upstream_endpoint_up{{upstream="docker.io",endpoint="{endpoint}"}}']


def test_download_goes_on_at_the_next(case):
    image = case.images["test/medium:1"]
    registry, other = origin.Registry(case), origin.Registry(case)
    first, second = faults.FaultProxy(case, registry.port), faults.FaultProxy(case, other.port)
    cache = sluice.Sluice(case, config=config(first.url, [second.url]))
    digest = image.layers[0]
    first.fault(f"/blobs/{digest}", cut_after=300_000)
    reader = cache.download(image.repository, digest)
    assert reader.drain() == digest and reader.complete
    resumed = second.seen("GET", digest)
    assert [r.headers.get("range") for r in resumed] == [f"bytes={first.seen('GET', digest)[0].sent}-"], resumed
    assert first.count("GET", digest) == 1
    sent = first.bytes_sent(digest) + second.bytes_sent(digest)
    size = int(reader.headers["content-length"])
    assert sent == size, f"{sent} bytes for a blob of {size}"


def test_pull_while_the_first_is_gone_and_back(case):
    image = case.images["test/oci:1"]
    registry = origin.Registry(case)
    first, second = faults.FaultProxy(case, registry.port), faults.FaultProxy(case, registry.port)
    first.refuse()
    cache = sluice.Sluice(case, config=config(first.url, [second.url]))
    same(copy(case, registry.port, image, case.tmp / "origin"), copy(case, cache.port, image, case.tmp / "cold"))
    assert second.count("GET", "/blobs/") == len(image.layers) + 1, second.seen()
    first.accept()

    def back():
        # Each of these is unknown here, so upstream is asked.
        cache.get(f"/v2/{image.repository}/manifests/none-{time.monotonic_ns()}")
        return up(cache, first.url) == 1 and first.count() > 0

    cases.poll("the first is asked again", back)
    log = cache.process.log()
    # Of the endpoint; that the upstream as a whole could not say what is unknown is another line.
    assert log.count("is down; only probes") == log.count(f"{first.url.removeprefix('http://')} answers again") <= 1, log


def test_outage_costs_one_wait(case):
    """A registry that is stopped takes connections and never answers."""
    image = case.images["test/oci:1"]
    registry = origin.Registry(case)
    cache = sluice.Sluice(case, config=config(registry.url, extra="tags: {ttl: 0s}\n", headers_timeout="2s", retries=0))
    path, headers = f"/v2/{image.repository}/manifests/{image.tag}", {"Accept": images.ACCEPT}
    assert cache.get(path, headers).status == 200
    registry.process.popen.send_signal(signal.SIGSTOP)
    case.defer(lambda: registry.process.popen.send_signal(signal.SIGCONT))

    started = time.monotonic()
    for _ in range(20):
        answer = cache.get(path, headers)
        assert answer.status == 200 and images.sha256(answer.body) == image.digest, answer
        assert "warning" in answer.headers, answer.headers
    case.say(f"20 stale answers in {time.monotonic() - started:.1f} s")
    unknown = cache.get(f"/v2/{image.repository}/manifests/other", headers)
    assert unknown.status in (503, 504), unknown.status
    metrics = cache.metrics()
    asked = metrics['sluice_upstream_requests_total{upstream="docker.io",status="error"}']
    case.say(f"{asked:.0f} requests timed out")
    assert asked <= 5, f"each of 21 requests would have been 21: {asked}"
    assert up(cache, registry.url) == 0

    registry.process.popen.send_signal(signal.SIGCONT)
    cases.poll("the registry is asked again", lambda: "warning" not in cache.get(path, headers).headers, 40)
    assert up(cache, registry.url) == 1


def test_cache_behind_a_cache(case):
    image = case.images["test/oci:1"]
    registry = origin.Registry(case)
    outer_origin = faults.FaultProxy(case, registry.port)
    inner = sluice.Sluice(case, config=config(outer_origin.url))
    cache = sluice.Sluice(case, upstream=f"http://127.0.0.1:{inner.port}")
    digest = image.layers[0]
    size = int(registry.get(f"/v2/{image.repository}/blobs/{digest}", method="HEAD").headers["content-length"])
    # Cold: a HEAD, a range, and all of it.
    head = cache.get(f"/v2/{image.repository}/blobs/{digest}", method="HEAD")
    assert head.status == 200 and int(head.headers["content-length"]) == size, head
    part = cache.blob(image.repository, digest, {"Range": "bytes=5-9"})
    assert part.status == 206 and part.headers["content-range"] == f"bytes 5-9/{size}", part
    same(copy(case, registry.port, image, case.tmp / "origin"), copy(case, cache.port, image, case.tmp / "through"))
    for layer in image.layers:
        asked = [request.headers.get("range") for request in outer_origin.seen("GET", layer)]
        assert asked == (["bytes=5-9", None] if layer == digest else [None]), asked
