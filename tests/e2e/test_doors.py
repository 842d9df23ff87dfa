"""What servers and people outside try: to be led inside, to be believed in the log, to see a password."""

import hashlib
import http.client
import http.server
import json
import os
import re
import threading

from harness import case as cases
from harness import client, scripted, server, sluice

BLOB = b"what is right " * 1000


class Hostile:
    """A registry that answers every HEAD of a blob with a size, and every GET with a redirect to `location`."""

    def __init__(self, case, size=155):
        self.location = ""
        hostile = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self):
                self.send_response(200)
                self.send_header("Content-Length", str(size))
                self.send_header("Content-Type", "application/octet-stream")
                self.end_headers()

            def do_GET(self):
                self.send_response(307)
                self.send_header("Location", hostile.location)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        case.defer(lambda: (self._server.shutdown(), self._server.server_close()))


def digest_of(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def admin_requests(cache):
    series = cache.metrics()
    return series['sluice_http_requests_total{listener="admin"}']


def test_nobody_is_led_to_our_own_listeners(case):
    """An accomplice asks for a blob that its registry redirects to the admin API: not a byte of it, by no name of it."""
    hostile = Hostile(case)
    config = (f"upstreams: {{ docker.io: {{ url: '{hostile.url}', retries: 0, "
              "redirect_networks: ['0.0.0.0/0', '::/0'] } }\n")
    cache = sluice.Sluice(case, config=config)
    closed = case.port()
    said = set()
    before = admin_requests(cache)
    places = [f"http://{host}:{port}{path}" for port, path in ((cache.admin_port, "/readyz"), (cache.port, "/v2/"))
              for host in ("127.0.0.1", "localhost", "0.0.0.0", "[::ffff:127.0.0.1]", "2130706433")]
    places += [f"http://127.0.0.1:{closed}/", f"http://[::1]:{closed}/"]
    for number, place in enumerate(places):
        hostile.location = place
        digest = digest_of(str(number).encode())
        answer = cache.blob("evil/app", digest)
        assert answer.status == 502, f"{place}: {answer.status} {answer.body}"
        assert b"ready" not in answer.body and place.encode() not in answer.body, answer.body
        said.add((answer.body.replace(digest.encode(), b""), answer.headers.get("retry-after")))
        ranged = cache.blob("evil/app", digest, {"Range": "bytes=0-99"})
        assert ranged.status == 502, f"{place}: {ranged.status} {ranged.body}"
    # Whether something listens there makes no difference, and the admin API was asked by nobody but us.
    assert len(said) == 1, said
    assert admin_requests(cache) == before + 1


def test_a_small_answer_of_something_else(case):
    """What the registry redirects to is permitted, but not the blob: its bytes stay here."""
    hostile = Hostile(case)
    inside = scripted.Registry(case)
    (secret,) = inside.add("a/b", b"s" * 155)
    cache = sluice.Sluice(case, config=f"upstreams: {{ docker.io: {{ url: '{hostile.url}', retries: 0 }} }}\n")
    hostile.location = f"{inside.url}/v2/a/b/blobs/{secret}"
    download = client.Download(cache.port, f"/v2/evil/app/blobs/{digest_of(b'another')}")
    case.defer(download.close)
    download.head()
    download.drain()
    assert download.status != 200 or download.received == 0, "bytes of another server's answer came through"
    # The same from a registry that tells the truth.
    answer = cache.blob("evil/app", secret)
    assert answer.status == 200 and answer.body == b"s" * 155, answer


class Closed(sluice.Sluice):
    """Started as some supervisors do it: without standard input, output and error."""

    @property
    def arguments(self):
        return ["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *super().arguments]


def test_started_with_closed_descriptors(case):
    upstream = scripted.Registry(case)
    (digest,) = upstream.add("team/a", BLOB)
    cache = Closed(case, upstream.url, options=["--log-level", "debug"])
    for number in range(3):
        assert os.readlink(f"/proc/{cache.process.pid}/fd/{number}") == "/dev/null"
    for _ in range(20):
        assert cache.blob("team/a", digest).body == BLOB
    # The access log goes to standard output once a second: into nothing, and not into what has got its number.
    cases.poll("the blob is stored", lambda: cache.keeps(digest))
    lines = b"cache=hit"
    for path in cache.data.rglob("*"):
        assert not path.is_file() or lines not in path.read_bytes(), path
    assert cache.blob("team/a", digest).body == BLOB
    assert cache.stop() == 0


def test_what_clients_write_does_not_disguise_a_line(case):
    upstream = scripted.Registry(case)
    cache = sluice.Sluice(case, upstream.url)
    agent = "good\u202eevil\u2066\u200b\u0085".encode().decode("latin-1")
    cache.get("/v2/", {"User-Agent": agent})
    cases.poll("the access log has it", lambda: "good\\u202eevil\\u2066\\u200b\\u0085" in cache.process.log())
    for mark in "\u202e\u2066\u200b\u0085":
        assert mark not in cache.process.log()


class Portal(server.Server):
    """Answers everything with a page that is no manifest, in JSON."""

    def answer(self, request):
        body = b'{"please": "log in"}'
        request.say(200, [("Content-Type", "application/json"), ("Content-Length", len(body))], body)


def test_what_is_no_manifest_fills_no_log(case):
    """Each request for it is answered with the reason. The log has that at debug."""
    upstream = Portal(case)
    quiet, chatty = (sluice.Sluice(case, upstream.url, options=["--log-level", level]) for level in ("warn", "debug"))
    for cache in (quiet, chatty):
        for _ in range(3):
            answer = cache.get("/v2/team/a/manifests/latest")
            assert answer.status == 502 and answer.codes() == ["MANIFEST_INVALID"], answer.body
    assert "sent no manifest" in chatty.process.log()
    assert "sent no manifest" not in quiet.process.log()


def test_times_of_hits(case):
    """Also of those that a session answers by itself: the first byte takes time, and no more than the last."""
    upstream = scripted.Registry(case)
    (digest,) = upstream.add("team/a", BLOB)
    cache = sluice.Sluice(case, upstream.url)
    connection = http.client.HTTPConnection("127.0.0.1", cache.port, timeout=20)
    case.defer(connection.close)

    def ready():
        connection.request("GET", f"/v2/team/a/blobs/{digest}")
        assert connection.getresponse().read() == BLOB
        return sum(value for name, value in cache.metrics().items() if name.startswith("sluice_http_ready_answers_total"))

    cases.poll("hits are ready answers", lambda: ready() >= 3, 20)
    lines = []

    def logged():
        lines[:] = [line for line in cache.process.log().splitlines() if "cache=hit" in line and "first_byte_s=" in line]
        return len(lines) >= 3

    cases.poll("they are in the access log", logged, 20)
    for line in lines:
        first, total = (float(re.search(rf"{key}=([0-9.]+)", line)[1]) for key in ("first_byte_s", "total_s"))
        assert 0 < first <= total, line


def test_admin_pages_and_names(case):
    """A page of another name that leads here (DNS rebinding) reads nothing; Prometheus asks by address, or by a name."""
    upstream = scripted.Registry(case)
    cache = sluice.Sluice(case, upstream.url)

    def status(path, host):
        return client.request(cache.admin_port, path, {"Host": host}).status

    for path in ("/metrics", "/readyz", "/", "/api/v1"):
        assert status(path, f"127.0.0.1:{cache.admin_port}") == 200, path
        assert status(path, "attacker.example") == 403, path
    assert status("/healthz", "attacker.example") == 200
    config = f"upstreams: {{ docker.io: {{ url: '{upstream.url}' }} }}\nadmin: {{ hosts: [sluice.example] }}\n"
    named = sluice.Sluice(case, config=config)
    answer = client.request(named.admin_port, "/metrics", {"Host": "sluice.example:5001"})
    assert answer.status == 200, answer


def test_admin_on_every_address_is_warned_about(case):
    upstream = scripted.Registry(case)
    quiet = sluice.Sluice(case, upstream.url)
    assert "every address of this machine" not in quiet.process.log()
    port = case.port()

    class Open(sluice.Sluice):
        @property
        def arguments(self):
            self.admin_port = port
            return [f":{port}" if text == f"127.0.0.1:{port}" else text for text in super().arguments]

    cache = Open(case, upstream.url)
    assert re.search(r" warn\w* config: admin\.listen is :\d+, every address of this machine", cache.process.log())


def test_a_password_in_the_wrong_place_is_shown_to_nobody(case):
    upstream = scripted.Registry(case)
    config = f"upstreams: {{ docker.io: {{ url: '{upstream.url}' }} }}\n"
    cache = sluice.Sluice(case, config=config)
    secret = "hunter2-and-more"
    (cache.home / "sluice.yml").write_text(config + f"proxy: http://me:{secret}@proxy.example:3128\n")
    request = (f"POST /api/v1/reload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
               "Content-Length: 0\r\nConnection: close\r\n\r\n")
    said = client.raw_exchange(cache.admin_port, request.encode()).decode()
    assert " 400 " in said.splitlines()[0] and "proxy: found a single value, expected a mapping" in said, said
    assert secret not in said
    assert json.loads(said.partition("\r\n\r\n")[2])
    assert secret not in cache.process.log() and "expected a mapping" in cache.process.log()
