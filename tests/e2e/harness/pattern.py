"""An upstream of blobs that are made when they are asked for: any number of them, at a pace, from any byte on.

What it has sent is counted here, from outside. Manifests and tags are what a test puts there.
"""

import hashlib
import http.server
import json
import socket
import threading
import time

from harness import images


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_):
        pass  # the other side has gone, which some tests are about


class Origin:
    """`sizes`: of the blobs, which are all different. All connections share `rate` bytes a second."""

    PIECE = 64 * 1024

    def __init__(self, case, sizes, rate=None):
        self.sizes = {"sha256:" + hashlib.sha256(self.content(n, size)).hexdigest(): (n, size)
                      for n, size in enumerate(sizes)}
        self.rate = rate
        self.sent = 0  # bytes of bodies
        self.ended = set()  # digests whose last piece was sent, or waits to be
        self.asked = []  # (digest, first byte) of each GET
        self.documents = {}  # path: (media type, text), for manifests
        self.hold_at = None  # so many bytes are sent, no more, until it is None again
        self._lock = threading.Condition()
        self._next_free = 0.0
        self.server = Server(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        case.defer(self.server.shutdown)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    @property
    def total(self):
        return sum(size for _, size in self.sizes.values())

    @staticmethod
    def content(n, size):
        block = hashlib.sha512(str(n).encode()).digest() * 1024
        return (block * (size // len(block) + 1))[:size]

    def pace(self, count):
        if self.rate is None:
            return
        with self._lock:
            now = time.monotonic()
            self._next_free = max(now, self._next_free) + count / self.rate
            wait = self._next_free - now
        if wait > 0.002:
            time.sleep(wait)

    def put_image(self, repository, tag, digests):
        """An image of these blobs, the first of which stands in for its config. Returns the manifest's digest."""
        blobs = [{"mediaType": images.OCI_LAYER, "digest": digest, "size": self.sizes[digest][1]} for digest in digests]
        text = json.dumps({"schemaVersion": 2, "mediaType": images.OCI_MANIFEST,
                           "config": {**blobs[0], "mediaType": images.OCI_CONFIG}, "layers": blobs[1:]}).encode()
        for name in (tag, images.sha256(text)):
            self.documents[f"/v2/{repository}/manifests/{name}"] = (images.OCI_MANIFEST, text)
        return images.sha256(text)

    def hold(self, count):
        """From now on it stops when it has sent `count` bytes, until release()."""
        with self._lock:
            self.hold_at = count

    def release(self):
        with self._lock:
            self.hold_at = None
            self._lock.notify_all()

    def reserve(self, count):
        """Counts `count` bytes that are about to be sent, and waits where they are held."""
        with self._lock:
            self._lock.wait_for(lambda: self.hold_at is None or self.sent + count <= self.hold_at)
            self.sent += count

    def _handler(self):
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                # Small: what counts as sent should have been wanted by the other side.
                self.request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 128 * 1024)
                super().setup()

            def do_GET(self):
                self.answer(True)

            def do_HEAD(self):
                self.answer(False)

            def answer(self, with_body):
                if self.path in outer.documents:
                    self.document(*outer.documents[self.path], with_body)
                    return
                digest = self.path.rpartition("/")[2]
                found = digest in outer.sizes
                body = outer.content(*outer.sizes[digest]) if found else b""
                first = 0
                wanted = self.headers.get("Range", "")
                if found and with_body:
                    if wanted.startswith("bytes="):
                        first = int(wanted[len("bytes="):].partition("-")[0])
                    with outer._lock:
                        outer.asked.append((digest, first))
                if first and first >= len(body):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(body)}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(206 if first else 200 if found or self.path == "/v2/" else 404)
                if first:
                    self.send_header("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
                self.send_header("Content-Length", str(len(body) - first))
                self.end_headers()
                if with_body:
                    self.send_pieces(digest, memoryview(body)[first:])

            def document(self, media_type, text, with_body):
                self.send_response(200)
                self.send_header("Content-Type", media_type)
                self.send_header("Content-Length", str(len(text)))
                self.send_header("Docker-Content-Digest", images.sha256(text))
                self.end_headers()
                if with_body:
                    self.wfile.write(text)

            def send_pieces(self, digest, body):
                for at in range(0, len(body), outer.PIECE):
                    piece = body[at:at + outer.PIECE]
                    outer.pace(len(piece))
                    if at + outer.PIECE >= len(body):
                        outer.ended.add(digest)
                    outer.reserve(len(piece))
                    try:
                        self.connection.sendall(piece)
                    except OSError:
                        with outer._lock:
                            outer.sent -= len(piece)
                        self.close_connection = True
                        return

            def log_message(self, *_):
                pass

        return Handler
