"""What goes on while upstream does not answer, answers nonsense, throttles, or is not to be asked."""

import threading
import time

from harness import case as cases
from harness import faults, images, origin, sluice
from test_skopeo import copy, same
from test_upstreams import config

# Long enough that a registry on a busy machine is not taken for one that hangs.
IMPATIENT = {"retries": 0, "headers_timeout": "3s"}


def stale(cache):
    return cache.total("sluice_manifest_requests_total", result="stale")


def test_a_cached_image_outlives_each_kind_of_outage(case):
    image = case.images["test/oci:1"]
    registry = origin.Registry(case)
    proxy = faults.FaultProxy(case, registry.port)
    cache = sluice.Sluice(case, config="tags:\n  ttl: 0s\n" + config(proxy.url, **IMPATIENT))
    wanted = copy(case, cache.port, image, case.tmp / "warm")
    path = f"/v2/{image.repository}/manifests/{image.tag}"
    uncached = f"/v2/{image.repository}/manifests/none"
    let_go = threading.Event()
    case.defer(let_go.set)
    for number, (name, begin) in enumerate({
            "429": lambda: proxy.fault("/v2/", status=429, times=None, heads=True),
            "500": lambda: proxy.fault("/v2/", status=500, times=None, heads=True),
            "503": lambda: proxy.fault("/v2/", status=503, times=None, heads=True),
            "hanging": lambda: proxy.fault("/v2/", hold=let_go, times=None, heads=True),
            "refusing": proxy.refuse}.items()):
        # Anew, so that none profits from what was learnt of the one before.
        proxy.mend()
        cache.restart()
        begin()
        before = stale(cache)
        answer = cache.get(path, {"Accept": images.ACCEPT})
        assert answer.status == 200 and images.sha256(answer.body) == image.digest, f"{name}: {answer}"
        assert answer.headers["warning"].startswith("110 "), f"{name}: {answer.headers}"
        # Requests are counted when their answer is out, and the client may have it a moment before.
        cases.poll(f"{name}: counted as stale", lambda: stale(cache) == before + 1)
        same(wanted, copy(case, cache.port, image, case.tmp / f"copy-{number}"))

        started = time.monotonic()
        answer = cache.get(uncached, {"Accept": images.ACCEPT})
        took = time.monotonic() - started
        # By then the breaker may be open, which is 503 whatever has opened it.
        own = {"429": 503, "hanging": 504}.get(name, 502)
        assert answer.status in (own, 503) and answer.headers["retry-after"], f"{name}: {answer}"
        assert answer.codes() == ["TOOMANYREQUESTS" if name == "429" else "UNAVAILABLE"], f"{name}: {answer.body}"
        case.say(f"{name}: {took:.2f} s for what is not cached")


def test_upstreams_answers_are_no_outages(case):
    image = case.images["test/oci:1"]
    registry = origin.Registry(case)
    proxy = faults.FaultProxy(case, registry.port)
    cache = sluice.Sluice(case, config="tags:\n  ttl: 0s\n" + config(proxy.url, **IMPATIENT))
    path = f"/v2/{image.repository}/manifests/{image.tag}"
    assert cache.get(path, {"Accept": images.ACCEPT}).status == 200
    for status, code in ((403, "DENIED"), (404, "MANIFEST_UNKNOWN")):
        proxy.mend()
        proxy.fault("/manifests/", status=status, times=None, heads=True)
        answer = cache.get(path, {"Accept": images.ACCEPT})
        assert answer.status == status and answer.codes() == [code], f"{status}: {answer}"


def test_stale_no_longer_than_wanted(case):
    image = case.images["test/oci:1"]
    registry = origin.Registry(case)
    cache = sluice.Sluice(case, config="tags:\n  ttl: 0s\n  stale_for: 1ms\n" + config(registry.url, **IMPATIENT))
    path = f"/v2/{image.repository}/manifests/{image.tag}"
    assert cache.get(path, {"Accept": images.ACCEPT}).status == 200
    registry.stop()
    answer = cache.get(path, {"Accept": images.ACCEPT})
    assert answer.status in (502, 503), answer
    # By digest nothing is ever stale.
    answer = cache.get(f"/v2/{image.repository}/manifests/{image.digest}", {"Accept": images.ACCEPT})
    assert answer.status == 200 and "warning" not in answer.headers, answer


def test_offline_asks_nobody(case):
    image, other = case.images["test/oci:1"], case.images["test/zstd:1"]
    registry = origin.Registry(case)
    proxy = faults.FaultProxy(case, registry.port)
    settings = config(proxy.url) + f"  two.test:\n    url: {proxy.url}\n"
    cache = sluice.Sluice(case, config="tags:\n  ttl: 0s\n" + settings)
    wanted = copy(case, cache.port, image, case.tmp / "online")
    asked = proxy.count()

    def check(cache):
        same(wanted, copy(case, cache.port, image, case.tmp / f"offline-{cache.process.pid}"))
        answer = cache.get(f"/v2/{image.repository}/manifests/{image.tag}", {"Accept": images.ACCEPT})
        assert answer.headers["warning"].startswith("110 "), answer.headers
        for path in (f"manifests/{other.tag}", f"blobs/{other.layers[0]}", "tags/list"):
            answer = cache.get(f"/v2/{other.repository}/{path}", {"Accept": images.ACCEPT})
            assert answer.status == 503 and b"offline" in answer.body, f"{path}: {answer}"
        assert proxy.count() == asked, proxy.seen()[asked:]

    file = cache.home / "sluice.yml"
    file.write_text("offline: true\ntags:\n  ttl: 0s\n" + settings)
    cache.restart()
    check(cache)
    assert b"offline" in cache.admin("/readyz").body, cache.admin("/readyz").body

    # One of them alone.
    file.write_text("tags:\n  ttl: 0s\n" + settings.replace("  docker.io:\n", "  docker.io:\n    offline: true\n"))
    cache.restart()
    check(cache)
    answer = cache.get(f"/v2/two.test/{other.repository}/manifests/{other.tag}", {"Accept": images.ACCEPT})
    assert answer.status == 200 and proxy.count() > asked, answer


def test_starts_and_stops_without_any_upstream(case):
    image = case.images["test/oci:1"]
    registry = origin.Registry(case)
    proxy = faults.FaultProxy(case, registry.port)
    cache = sluice.Sluice(case, config="tags:\n  ttl: 0s\n" + config(proxy.url, **IMPATIENT))
    wanted = copy(case, cache.port, image, case.tmp / "warm")
    proxy.refuse()
    registry.stop()
    started = time.monotonic()
    cache.restart()
    case.say(f"restarted in {time.monotonic() - started:.1f} s")
    cases.poll("/readyz tells of the outage", lambda: b"docker.io" in cache.admin("/readyz").body)
    assert cache.admin("/readyz").status == 200, "it serves what it has"
    assert cache.get("/v2/").status == 200
    same(wanted, copy(case, cache.port, image, case.tmp / "cold-start"))
    assert cache.metrics()['sluice_upstream_up{upstream="docker.io"}'] == 0
    # And back, as soon as something is asked of it.
    registry.start()
    proxy.accept()

    def is_well():
        cache.get(f"/v2/{image.repository}/manifests/{image.tag}", {"Accept": images.ACCEPT})
        return b"docker.io" not in cache.admin("/readyz").body

    cases.poll("/readyz has nothing to tell", is_well)
    proxy.refuse()
    assert cache.stop() == 0
