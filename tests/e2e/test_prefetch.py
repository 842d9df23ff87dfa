"""What an image needs is fetched while its client still reads the manifest (fill.prefetch)."""

import json
import time

from harness import case as cases
from harness import faults, images, line, origin, sluice

LAYERS = 8
LAYER_BYTES = 500_000
PREFETCH = "fill:\n  prefetch: layers\n"


def eight_layers(case):
    """A registry of the test's own with one image of eight layers, test/eight:1."""
    registry = origin.Registry(case, storage=case.folder("origin"), writable=True)
    layout = images.Layout(case.tmp / "layout")
    layers = [layout.add_random(images.OCI_LAYER, LAYER_BYTES) for _ in range(LAYERS)]
    layout.tag(layout.manifest(layers, [layer["digest"] for layer in layers]), "eight")
    case.run("skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false", "--preserve-digests",
             f"oci:{case.tmp / 'layout'}:eight", f"docker://127.0.0.1:{registry.port}/test/eight:1")
    return registry


def pull(case, port, folder):
    """Seconds that skopeo takes."""
    begin = time.monotonic()
    case.run("skopeo", "--insecure-policy", "copy", "-q", "--src-tls-verify=false", "--preserve-digests",
             f"docker://127.0.0.1:{port}/test/eight:1", f"dir:{case.tmp / folder}")
    return time.monotonic() - begin


def prefetched(cache, result):
    return cache.metrics().get(f'sluice_prefetch_blobs_total{{result="{result}"}}', 0)


def test_everything_before_it_is_asked_for(case):
    registry = eight_layers(case)
    proxy = faults.FaultProxy(case, registry.port)
    cache = sluice.Sluice(case, proxy.url, config=PREFETCH)
    headers = {"Accept": images.ACCEPT}

    assert cache.get("/v2/test/eight/manifests/1", headers, method="HEAD").status == 200
    answer = cache.get("/v2/test/eight/manifests/1", headers)
    manifest = json.loads(answer.body)
    blobs = [manifest["config"]["digest"], *(layer["digest"] for layer in manifest["layers"])]
    cases.poll("all blobs are here before one was asked for", lambda: prefetched(cache, "fetched") == LAYERS + 1)
    for digest in blobs:
        assert proxy.count("GET", digest) == 1 and cache.keeps(digest), digest

    proxy.refuse()
    pull(case, cache.port, "pulled")
    assert not proxy.count("HEAD", "/blobs/")
    cache.restart()
    assert cache.get("/v2/test/eight/manifests/1", headers).status == 200
    cases.poll("what is here is looked at", lambda: prefetched(cache, "present") == LAYERS + 1)


def test_a_serial_pull_over_a_slow_line(case):
    registry = eight_layers(case)
    proxy = faults.FaultProxy(case, registry.port)
    # A window of 64 KiB over 50 ms.
    slow = line.Line(case, proxy.port, round_trip=0.05, bytes_per_second=1_300_000)
    direct = pull(case, slow.port, "direct")
    asked = proxy.count("GET", "/blobs/")

    plain = sluice.Sluice(case, slow.url)
    without = pull(case, plain.port, "without")
    plain.stop()
    cache = sluice.Sluice(case, slow.url, config=PREFETCH)
    begin = len(proxy.seen("GET", "/blobs/"))
    ahead = pull(case, cache.port, "ahead")
    blobs = [r.path for r in proxy.seen("GET", "/blobs/")[begin:]]
    assert asked == LAYERS + 1, "skopeo asked more than once"
    assert len(blobs) == len(set(blobs)) == LAYERS + 1, f"not each blob once: {blobs}"
    used = prefetched(cache, "fetched") + prefetched(cache, "handed_over")
    assert used >= LAYERS - 1, cache.metrics()
    case.say(f"{LAYERS} layers of {LAYER_BYTES} bytes over a line of 50 ms: direct {direct:.2f} s, through a cold cache "
             f"{without:.2f} s, with prefetch {ahead:.2f} s ({ahead / direct:.2f} of direct)")
