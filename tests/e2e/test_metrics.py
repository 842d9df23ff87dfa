"""What /metrics counts while images are pulled."""

import pathlib
import re
import shutil
import subprocess

from harness import case as cases
from harness import client, faults, images, origin, scripted, sluice
from test_redis import Redis


def grown(before, after, series):
    """How much a series has grown; without labels in `series`, all of that name together."""
    return sum(value - before.get(name, 0) for name, value in after.items()
               if name == series or name.startswith(series + "{"))


def test_counts_what_happened(case):
    image = case.images["test/medium:1"]
    digest, size = image.layers[0], images.MEDIUM_BYTES
    registry = origin.Registry(case)
    proxy = faults.FaultProxy(case, registry.port)
    proxy.throttle(60e6)
    cache = sluice.Sluice(case, proxy.url)

    start = cache.metrics()
    first = cache.download(image.repository, digest)
    first.read_exactly(1 << 20)
    second = cache.download(image.repository, digest)
    second.read_exactly(1 << 20)
    during = cache.metrics()
    assert during["sluice_fills_in_flight"] == 1, during["sluice_fills_in_flight"]
    assert during["sluice_fill_readers"] == 2, during["sluice_fill_readers"]
    assert first.drain() == digest and second.drain() == digest
    # Clients have the last byte before the blob has its name on the disk; whoever asks in between joins the fill.
    cases.poll("the blob is stored", lambda: grown(start, cache.metrics(), "sluice_fills_completed_total") == 1, 30)
    assert cache.blob(image.repository, digest).status == 200
    manifest = cache.get(f"/v2/{image.repository}/manifests/{image.tag}", {"Accept": images.ACCEPT})
    assert manifest.status == 200

    # A request is counted when its answer is over, which its client may see a moment earlier.
    sent = 3 * size + len(manifest.body)
    after = cases.poll("all that was sent is counted", lambda: (
        series if grown(start, series := cache.metrics(), "sluice_client_sent_bytes_total") >= sent else None), 10)
    wanted = {
        'sluice_blob_requests_total{upstream="docker.io",result="join"}': 1,
        'sluice_blob_requests_total{upstream="docker.io",result="hit"}': 1,
        'sluice_http_first_byte_seconds_count{kind="blob",result="join"}': 1,
        'sluice_http_request_duration_seconds_count{kind="blob",result="hit"}': 1,
        'sluice_fill_duration_seconds_count{result="completed"}': 1,
        "sluice_fill_readers_per_fill_sum": 2,
        "sluice_fill_stored_bytes_total": size + len(manifest.body),
        'sluice_tag_checks_total{result="added"}': 1,
        'registry_proxy_hits_total{type="blob"}': 1,
        'registry_proxy_pushed_bytes_total{type="blob"}': 3 * size,
        "sluice_fills_completed_total": 1,
        "sluice_fills_failed_total": 0,
        "sluice_cache_sent_bytes_total": size,
        "sluice_fill_received_bytes_total": size + len(manifest.body),
    }
    wrong = {name: grown(start, after, name) for name, value in wanted.items() if grown(start, after, name) != value}
    assert not wrong, f"{wrong} instead of {[wanted[name] for name in wrong]}"
    assert grown(start, after, 'sluice_blob_requests_total{upstream="docker.io",result="miss"}') >= 1
    assert grown(start, after, "sluice_manifest_requests_total") == 1
    assert after["sluice_fills_in_flight"] == 0
    cases.poll("the readers are gone", lambda: cache.metrics()["sluice_fill_readers"] == 0, 10)


# One series at least of each is there from the start.
FAMILIES = [
    "sluice_blob_requests_total", "sluice_manifest_requests_total", "sluice_cache_sent_bytes_total",
    "sluice_fill_received_bytes_total", "sluice_client_sent_bytes_total", "sluice_fills_in_flight",
    "sluice_fill_readers", "sluice_fill_backpressure_wait_seconds_total", "sluice_descriptor_cache_requests_total",
    "sluice_descriptor_cache_hits_total", "sluice_descriptor_cache_misses_total",
    "sluice_descriptor_cache_errors_total", "sluice_build_info",
]


def test_families_are_there(case):
    cache = sluice.Sluice(case, "http://127.0.0.1:1")
    answer = cache.admin("/metrics")
    assert answer.status == 200 and answer.headers["content-type"].startswith("text/plain"), answer.headers
    text = answer.body.decode()
    missing = [name for name in FAMILIES if f"# TYPE {name} " not in text]
    assert not missing, f"not in /metrics: {missing}"
    for line in text.splitlines():
        assert not any(label in line for label in ("repository=", "digest=", "tag=")), f"a label clients choose: {line}"


def test_answers_while_clients_stall(case):
    image = case.images["test/big:1"]
    registry = origin.Registry(case)
    cache = sluice.Sluice(case, registry.url)
    for _ in range(4):
        cache.download(image.repository, image.layers[0], receive_buffer=65536).read_exactly(1 << 20)
    assert client.request(cache.admin_port, "/metrics", timeout=10).status == 200


# --- docs/metrics.md ---

ROOT = pathlib.Path(__file__).resolve().parents[2]
ROW = re.compile(r"^\| `(\w+)` \| (counter|gauge|histogram) \| (.*?) \| (.+) \|$", re.M)


class Metered(scripted.Registry):
    """A registry that counts pulls, as Docker Hub does."""

    def answer(self, request):
        end_headers = request.end_headers

        def with_limit():
            request.send_header("ratelimit-limit", "100;w=21600")
            request.send_header("ratelimit-remaining", f"{max(0, 100 - len(self.requests))};w=21600")
            request.send_header("docker-ratelimit-source", "192.0.2.1")
            end_headers()

        request.end_headers = with_limit
        super().answer(request)


def exposed(text):
    """{family: (type, the names of its labels)}."""
    types = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.M))
    out = {name: (kind, set()) for name, kind in types.items()}
    for series, labels in re.findall(r"^(\w+)\{([^}]*)\} ", text, re.M):
        name = series if series in out else re.sub(r"_(bucket|sum|count)$", "", series)
        out[name][1].update(set(re.findall(r'(\w+)="', labels)) - {"le"})
    return out


def test_every_family_is_documented(case):
    redis = Redis(case)
    registry = Metered(case)
    digest, = registry.add("some/app", b"something")
    # With everything that has metrics of its own.
    cache = sluice.Sluice(case, registry.url, config=f"""
descriptors: {{ cache: redis }}
redis: {{ addresses: ['127.0.0.1:{redis.port}'] }}
upstreams:
  docker.io: {{ username: alice, password: secret }}
""")
    assert cache.blob("some/app", digest).status == 200
    text = cache.admin("/metrics").body.decode()
    found = exposed(text)
    documented = {name: (kind, set(re.findall(r"`(\w+)`", labels)))
                  for name, kind, labels, _ in ROW.findall((ROOT / "docs/metrics.md").read_text())}
    assert set(found) == set(documented), f"exposed or documented, not both: {sorted(set(found) ^ set(documented))}"
    wrong = {name: (found[name], documented[name]) for name in found if found[name] != documented[name]}
    assert not wrong, wrong


def test_promtool_has_nothing_to_say(case):
    if not shutil.which("promtool"):
        case.skip("promtool is not installed")
    cache = sluice.Sluice(case, "http://127.0.0.1:1")
    text = case.file("metrics.txt", cache.admin("/metrics").body.decode())
    with open(text) as metrics:
        done = subprocess.run(["promtool", "check", "metrics"], stdin=metrics, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=60)
    assert done.returncode == 0 and not done.stdout, done.stdout
