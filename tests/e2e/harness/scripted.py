"""A registry that a test scripts: what it has, under which names, and whom it refuses. Blobs alone, over plain HTTP."""

import hashlib
import http.server
import re
import socket
import threading


class Registry:
    """`blobs[repository][digest]` are bytes; all of it may be changed at any time."""

    def __init__(self, case):
        self.port = case.port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.blobs = {}
        self.refused = {}  # repository: status
        self.canonical = {}  # digest: what Docker-Content-Digest calls it
        self.requests = []  # (method, path)
        self._lock = threading.Lock()
        self._connections = set()
        registry = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                super().setup()
                registry._connections.add(self.connection)

            def finish(self):
                registry._connections.discard(self.connection)
                try:
                    super().finish()
                except OSError:
                    pass  # stop() was faster

            def do_GET(self):
                registry._answer(self)

            do_HEAD = do_GET

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        case.defer(self.stop)

    def add(self, repository, data, *algorithms):
        """Under its digests by these algorithms, sha256 where none is named. Returns them."""
        digests = [f"{name}:{hashlib.new(name, data).hexdigest()}" for name in algorithms or ("sha256",)]
        for digest in digests:
            self.blobs.setdefault(repository, {})[digest] = data
        return digests

    def count(self, method=None, match=""):
        with self._lock:
            return sum((method is None or method == seen) and match in path for seen, path in self.requests)

    def stop(self):
        """Connections are refused from now on; those that are open end."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        for connection in list(self._connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def _answer(self, request):
        with self._lock:
            self.requests.append((request.command, request.path))
        found = re.fullmatch(r"/v2/(.+)/blobs/([a-z0-9]+:[0-9a-f]+)", request.path)
        repository, digest = found.groups() if found else (None, None)
        data = self.blobs.get(repository, {}).get(digest)
        status = self.refused.get(repository, 404 if data is None else 200)
        body = data if status == 200 else b'{"errors":[]}'
        request.send_response(status)
        request.send_header("Content-Length", str(len(body)))
        if status == 200:
            request.send_header("Content-Type", "application/octet-stream")
            request.send_header("Docker-Content-Digest", self.canonical.get(digest, digest))
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(body)
