"""HTTP/1.1 clients for tests: one that is polite, and one that hands out every byte as it comes from the socket."""

import dataclasses
import hashlib
import socket
import time


@dataclasses.dataclass
class Response:
    status: int
    headers: dict  # names in lower case; of a repeated field the last value
    body: bytes
    complete: bool  # whether as many bytes came as Content-Length promised

    def codes(self):
        """The error codes of an OCI error body."""
        import json

        return [error["code"] for error in json.loads(self.body)["errors"]]


class Broken(Exception):
    """The connection ended before the head of an answer was there."""


def parse_head(head):
    lines = head.decode("latin-1").split("\r\n")
    version, status, *_ = lines[0].split(" ", 2)
    if not version.startswith("HTTP/1."):
        raise Broken(f"not an HTTP answer: {lines[0]!r}")
    headers = {}
    for line in lines[1:]:
        if line:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
    return int(status), headers


class Download:
    """A request whose answer the test reads at its own pace."""

    def __init__(self, port, path, headers=None, method="GET", timeout=60.0, receive_buffer=None, raw=None):
        self.socket = socket.socket()
        self.socket.settimeout(timeout)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.connect(("127.0.0.1", port))
        self.method = method
        self.digest = hashlib.sha256()
        self.received = 0
        self._early = b""
        if raw is None:
            fields = {"Host": f"127.0.0.1:{port}", "Connection": "close", **(headers or {})}
            raw = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in fields.items()) + "\r\n"
            raw = raw.encode("latin-1")
        self.socket.sendall(raw)

    def head(self):
        data = b""
        while b"\r\n\r\n" not in data:
            piece = self.socket.recv(65536)
            if not piece:
                raise Broken(f"closed after {data[:200]!r}")
            data += piece
        head, self._early = data.split(b"\r\n\r\n", 1)
        self.status, self.headers = parse_head(head)
        length = self.headers.get("content-length")
        self.length = int(length) if length is not None else None
        if self.method == "HEAD" or self.status in (204, 304):
            self.length = 0
        return self

    def read(self, count):
        """Up to `count` bytes more of the body; empty at its end, also when it is cut short."""
        if self.length is not None:
            count = min(count, self.length - self.received)
        if count == 0:
            return b""
        if self._early:
            piece, self._early = self._early[:count], self._early[count:]
        else:
            try:
                piece = self.socket.recv(min(count, 1 << 20))
            except ConnectionResetError:
                piece = b""
        self.received += len(piece)
        self.digest.update(piece)
        return piece

    def read_exactly(self, count):
        left = count
        while left:
            piece = self.read(left)
            if not piece:
                raise AssertionError(f"the body ended after {self.received} bytes")
            left -= len(piece)

    def drain(self):
        """Reads to the end. Returns "sha256:…" of what came."""
        while self.read(1 << 20):
            pass
        return self.sha256()

    def body(self):
        pieces = []
        while piece := self.read(1 << 20):
            pieces.append(piece)
        return b"".join(pieces)

    def sha256(self):
        return "sha256:" + self.digest.hexdigest()

    @property
    def complete(self):
        return self.length is not None and self.received == self.length

    def close(self):
        self.socket.close()


def request(port, path, headers=None, method="GET", timeout=60.0, raw=None):
    download = Download(port, path, headers, method, timeout, raw=raw)
    try:
        download.head()
        body = download.body()
        complete = download.complete or (download.length is None)
        return Response(download.status, download.headers, body, complete)
    finally:
        download.close()


def raw_exchange(port, data, timeout=10.0):
    """Sends bytes and returns all that comes back until the other side closes, or nothing more comes for `timeout`."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
        try:
            connection.sendall(data)
        except OSError:
            pass  # it has heard enough; what it said may still be there
        answer, deadline = b"", time.monotonic() + timeout
        while time.monotonic() < deadline:
            try:
                piece = connection.recv(65536)
            except (ConnectionResetError, TimeoutError):
                break
            if not piece:
                break
            answer += piece
        return answer
