"""A reverse proxy between the program under test and its origin: it counts, throttles, and does what registries do not.

What upstream saw is observed here, from outside. The proxy runs an event loop in a thread of its own; the methods of
FaultProxy may be called from the test's thread at any time.
"""

import asyncio
import dataclasses
import socket
import ssl
import threading
import typing

from harness import client

CHUNK = 64 * 1024


@dataclasses.dataclass
class Request:
    """One request as upstream saw it. `sent` grows while the body of the answer goes out."""

    method: str
    path: str
    headers: dict
    status: int = 0
    sent: int = 0
    done: bool = False


@dataclasses.dataclass
class Fault:
    """What happens to GETs, and with `heads` to HEADs too, whose path contains `match`, `times` times (None: always)."""

    match: str
    cut_after: int | None = None  # close after so many bytes of the body
    corrupt_at: int | None = None  # flip the byte at this offset of the blob
    status: int | None = None  # answer this instead, without asking the origin
    location: typing.Callable[[str], str] | None = None  # with `status`: where it sends who asks for that path
    hold: threading.Event | None = None  # answer only when it is set
    times: int | None = 1
    heads: bool = False


class FaultProxy:
    def __init__(self, case, origin_port, send_buffer=256 * 1024, certificate=None):
        """`certificate`, (certificate file, key file): it speaks TLS. The origin is always asked in plain HTTP."""
        self.port = case.port()
        self.url = f"{'https' if certificate else 'http'}://127.0.0.1:{self.port}"
        self._tls = None
        if certificate:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(*certificate)
        self.origin_port = origin_port
        self.requests = []
        self.one_range_only = False  # several ranges in one header are answered with 501, as CDNs do
        self._send_buffer = send_buffer
        self._faults = []
        self._rate = None
        self._next_free = 0.0
        self._tasks = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = None
        self.accept()
        case.defer(self._close)

    # --- for tests ---

    def seen(self, method=None, match=""):
        """The requests so far, oldest first. The question whether there is a registry at all is left out, unless it is
        `match`: sluice puts it whenever it starts."""
        return [r for r in list(self.requests) if (method is None or r.method == method) and match in r.path
                and (r.path != "/v2/" or match == "/v2/")]

    def count(self, method=None, match=""):
        return len(self.seen(method, match))

    def bytes_sent(self, match=""):
        """Bytes of bodies that went out for paths that contain `match`."""
        return sum(r.sent for r in list(self.requests) if match in r.path)

    def throttle(self, bytes_per_second):
        """All connections share this rate. None: as fast as it goes."""
        self._rate = bytes_per_second

    def fault(self, match, **what):
        fault = Fault(match, **what)
        self._faults.append(fault)
        return fault

    def mend(self):
        self._faults.clear()

    def refuse(self):
        """From now on connections are refused; those that are open break."""
        self._call(self._stop_listening())

    def accept(self):
        self._call(self._start_listening())

    # --- inside ---

    def _call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _start_listening(self):
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self.port, limit=1 << 20, backlog=512, ssl=self._tls)

    async def _stop_listening(self):
        if self._server:
            self._server.close()
            self._server = None
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _close(self):
        self._call(self._stop_listening())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _take_fault(self, method, path):
        for fault in self._faults:
            if method != "GET" and not fault.heads:
                continue
            if fault.match in path and fault.times != 0:
                if fault.times is not None:
                    fault.times -= 1
                return fault
        return None

    async def _pace(self, count):
        rate = self._rate
        if rate is None:
            return
        now = self._loop.time()
        self._next_free = max(now, self._next_free) + count / rate
        if self._next_free - now > 0.002:
            await asyncio.sleep(self._next_free - now)

    async def _serve(self, reader, writer):
        if self._server is None:  # accepted in the moment before refuse()
            writer.transport.abort()
            return
        task = asyncio.current_task()
        self._tasks.add(task)
        # Small buffers: what counts as sent should have been wanted by the other side.
        writer.transport.set_write_buffer_limits(high=CHUNK)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._send_buffer)
        try:
            while await self._exchange(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError, client.Broken):
            pass
        finally:
            writer.transport.abort() if self._server is None else writer.close()
            self._tasks.discard(task)

    async def _exchange(self, reader, writer):
        """One request and its answer. Returns whether the connection may carry another one."""
        raw = await reader.readexactly(1)
        if raw == b"\x16":  # TLS is tried first, by clients that would wait for an answer
            return False
        raw += await reader.readuntil(b"\r\n\r\n")
        line, *fields = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
        method, path, _ = line.split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
        request = Request(method, path, headers)
        self.requests.append(request)
        fault = self._take_fault(method, path)

        if fault and fault.hold:
            while not fault.hold.is_set():
                await asyncio.sleep(0.01)
        if fault and fault.status:
            request.status, request.done = fault.status, True
            where = f"Location: {fault.location(path)}\r\n" if fault.location else ""
            writer.write(f"HTTP/1.1 {fault.status} Scripted\r\n{where}Content-Length: 0\r\n\r\n".encode())
            await writer.drain()
            return True

        if self.one_range_only and "," in headers.get("range", ""):
            request.status, request.done = 501, True
            writer.write(b"HTTP/1.1 501 Not Implemented\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            return True

        origin_reader, origin_writer = await asyncio.open_connection("127.0.0.1", self.origin_port, limit=1 << 20)
        try:
            kept = [f for f in fields if f.partition(":")[0].lower() != "connection"]
            origin_writer.write("\r\n".join([line, *kept, "Connection: close", "", ""]).encode("latin-1"))
            await origin_writer.drain()
            head = (await origin_reader.readuntil(b"\r\n\r\n"))[:-4]
            request.status, answer = client.parse_head(head)
            kept = [f for f in head.decode("latin-1").split("\r\n") if f.partition(":")[0].lower() != "connection"]
            framed = "content-length" in answer or request.status in (204, 304)
            writer.write("\r\n".join([*kept, *([] if framed else ["Connection: close"]), "", ""]).encode("latin-1"))
            if method != "HEAD" and request.status not in (204, 304):
                whole = await self._body(origin_reader, writer, request, fault, answer)
                if not whole:
                    return False
            await writer.drain()
            request.done = True
            return framed and headers.get("connection", "").lower() != "close"
        finally:
            origin_writer.close()

    async def _body(self, reader, writer, request, fault, answer):
        """Relays the body. Returns False when a fault cut it."""
        start = 0
        if request.status == 206:
            start = int(answer["content-range"].removeprefix("bytes ").split("-")[0])
        while piece := await reader.read(CHUNK):
            if fault and fault.corrupt_at is not None:
                at = fault.corrupt_at - start - request.sent
                if 0 <= at < len(piece):
                    piece = piece[:at] + bytes([piece[at] ^ 0xFF]) + piece[at + 1 :]
            cut = fault is not None and fault.cut_after is not None and request.sent + len(piece) >= fault.cut_after
            if cut:
                piece = piece[: fault.cut_after - request.sent]
            await self._pace(len(piece))
            # Before it can arrive: whoever has the last byte finds it counted.
            request.sent += len(piece)
            writer.write(piece)
            await writer.drain()
            if cut:
                return False
        return True
