"""A registry that a test scripts: what it has, under which names, and whom it refuses. Blobs alone, over plain HTTP."""

import hashlib
import re

from harness.server import Server


class Registry(Server):
    """`blobs[repository][digest]` are bytes; all of it may be changed at any time."""

    def __init__(self, case):
        self.blobs = {}
        self.refused = {}  # repository: status
        self.canonical = {}  # digest: what Docker-Content-Digest calls it
        super().__init__(case)

    def add(self, repository, data, *algorithms):
        """Under its digests by these algorithms, sha256 where none is named. Returns them."""
        digests = [f"{name}:{hashlib.new(name, data).hexdigest()}" for name in algorithms or ("sha256",)]
        for digest in digests:
            self.blobs.setdefault(repository, {})[digest] = data
        return digests

    def answer(self, request):
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
