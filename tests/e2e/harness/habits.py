"""A registry with the habits of many real ones, all at once, and a front door that redirects to it.

What it has is right. What it says about it is not: types, codings, lengths, digests, and the outcome of every HEAD.
"""

import gzip
import json
import re

from harness import images
from harness.server import Server

ELSE = images.sha256(b"something else")


class FrontDoor(Server):
    """Sends everybody to another registry."""

    def __init__(self, case, to):
        self.to = to
        super().__init__(case)

    def answer(self, request):
        request.say(307, [("Location", self.to + request.path), ("Content-Length", 0)])


def length_of(body):
    return [("Content-Length", len(body))]


def page(request, body):
    """Its HEAD is 404. A blob is a page, and its length stands there twice."""
    if request.command == "HEAD":
        return request.say(404, length_of(b""))
    return request.say(200, [("Content-Type", "text/html; charset=utf-8"), *length_of(body), *length_of(body)], body)


def encoded(request, body):
    """Its HEAD is 405. Names a coding that the bytes do not have and another digest; more comes behind the end."""
    if request.command == "HEAD":
        return request.say(405, length_of(b""))
    return request.say(200, [("Content-Encoding", "gzip"), ("Docker-Content-Digest", ELSE), *length_of(body)], body,
                       b"HTTP/1.1 200 OK\r\n\r\n")


def chunked(request, body):
    """Its HEAD is 500. Tells no length, and knows no ranges."""
    if request.command == "HEAD":
        return request.say(500, length_of(b""))
    pieces = [body[at:at + 50_000] for at in range(0, len(body), 50_000)]
    framed = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    return request.say(200, [("Transfer-Encoding", "chunked")], framed)


def stored(request, body):
    """The bytes are at a place whose address is good for GET alone: a HEAD that is led there ends with 403."""
    return request.say(307, [("Location", f"{request.storage}/{images.sha256(body)}?signature=get"), *length_of(b"")])


def typed(request, body):
    """Its HEAD says that nothing is there. The type is a vendor's, the coding that of its upload."""
    if request.command == "HEAD":
        return request.say(200, length_of(b""))
    return request.say(200, [("Content-Type", "application/vnd.example.layer+json"),
                             ("Content-Encoding", "aws-chunked"), *length_of(body)], body)


def compressed(request, body):
    """Its HEAD is 429. Compresses what it was asked for as it is."""
    if request.command == "HEAD":
        return request.say(429, length_of(b""))
    sent = gzip.compress(body)
    return request.say(200, [("Content-Encoding", "gzip"), *length_of(sent)], sent)


class Storage(Server):
    """As S3: the signature is for GET, and a token besides it is an error."""

    def __init__(self, case, blobs):
        self.blobs = blobs
        super().__init__(case)

    def answer(self, request):
        if request.command == "HEAD":
            return request.say(403, length_of(b""))
        if request.headers.get("Authorization"):
            return request.say(400, length_of(b""))
        body = self.blobs[request.path.partition("?")[0].strip("/")]
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
        if asked is None:
            return request.say(200, length_of(body), body)
        first, last = int(asked.group(1)), min(int(asked.group(2) or len(body) - 1), len(body) - 1)
        part = body[first:last + 1]
        return request.say(206, [("Content-Range", f"bytes {first}-{last}/{len(body)}"), *length_of(part)], part)


class Registry(Server):
    """Has the images of another registry. Each blob has a habit of its own, in turn."""

    HABITS = (page, encoded, chunked, stored, typed, compressed)

    def __init__(self, case, source, wanted):
        self.tags = {(image.repository, image.tag): image.digest for image in wanted}
        self.manifests, self.blobs, self.types = {}, {}, {}
        self.tokens = 0
        for image in wanted:
            for digest in image.manifests:
                answer = source.get(f"/v2/{image.repository}/manifests/{digest}", {"Accept": images.ACCEPT})
                self.manifests[digest] = answer.body
                self.types[digest] = answer.headers["content-type"]
            for digest in image.blobs:
                self.blobs[digest] = source.get(f"/v2/{image.repository}/blobs/{digest}").body
        self.habits = {digest: self.HABITS[i % len(self.HABITS)] for i, digest in enumerate(self.blobs)}
        self._storage = Storage(case, self.blobs)
        super().__init__(case)

    def stop(self):
        self._storage.stop()
        super().stop()

    def add_manifest(self, body, said, digest=None):
        """One that is said to be of that type; by its digest alone."""
        digest = digest or images.sha256(body)
        self.manifests[digest], self.types[digest] = body, said
        return digest

    def answer(self, request):
        path = request.path.partition("?")[0]
        if path == "/token":
            self.tokens += 1
            body = json.dumps({"token": "let-me-in"}).encode()
            return request.say(200, length_of(body), body)
        if request.headers.get("Authorization") != "Bearer let-me-in":
            return request.say(401, [("WWW-Authenticate", f'Bearer realm="{self.url}/token",service="habits"'),
                                     *length_of(b"")])
        found = re.fullmatch(r"/v2/(.+)/(blobs|manifests)/(.+)", path)
        if found is None:
            return request.say(200 if path == "/v2/" else 404, length_of(b"{}"), b"{}")
        repository, kind, reference = found.groups()
        if kind == "blobs" and reference in self.blobs:
            request.storage = self._storage.url
            return self.habits[reference](request, self.blobs[reference])
        if kind == "manifests":
            return self._manifest(request, self.tags.get((repository, reference)), reference)
        return request.say(404, length_of(b""))

    def _manifest(self, request, digest, reference):
        if digest is not None:
            # A tag: the HEAD names another digest and no bytes, the GET sends it compressed, without a type and a digest.
            if request.command == "HEAD":
                return request.say(200, [("Content-Type", self.types[digest]), ("Docker-Content-Digest", ELSE),
                                         *length_of(b"")])
            sent = gzip.compress(self.manifests[digest])
            return request.say(200, [("Content-Type", "application/json"), ("Content-Encoding", "gzip"),
                                     *length_of(sent)], sent)
        if reference not in self.manifests:
            return request.say(404, length_of(b""))
        body = self.manifests[reference]
        if request.command == "HEAD":
            return request.say(200, [("Content-Type", self.types[reference]), ("Connection", "close")])
        return request.say(200, [("Content-Type", self.types[reference]), ("Docker-Content-Digest", ELSE),
                                 *length_of(body)], body, b"more")
