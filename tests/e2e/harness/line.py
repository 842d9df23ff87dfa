"""A line to a distant place: a TCP relay that delays what it carries, and caps what each connection gets.

Half of `round_trip` lies in each direction. A connection costs a round trip before the first byte passes, as the
handshake would; that the caller is told earlier that it stands makes no difference, because it has to wait for the
answer anyway. The cap is what one connection's window allows over such a line.
"""

import asyncio
import threading

CHUNK = 64 * 1024


class Line:
    def __init__(self, case, to_port, round_trip=0.05, bytes_per_second=None):
        self.port = case.port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._to_port, self._delay, self._rate = to_port, round_trip / 2, bytes_per_second
        self._tasks = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._call(asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=512))
        case.defer(self._close)

    def _call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _stop(self):
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _close(self):
        self._call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _serve(self, reader, writer):
        self._tasks.add(asyncio.current_task())
        there = None
        try:
            there_reader, there = await asyncio.open_connection("127.0.0.1", self._to_port)
            await asyncio.gather(self._carry(reader, there, 3 * self._delay, None),
                                 self._carry(there_reader, writer, self._delay, self._rate))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for end in (writer, there):
                if end is not None:
                    end.close()
            self._tasks.discard(asyncio.current_task())

    async def _carry(self, reader, writer, first_delay, rate):
        """What comes in goes out `_delay` later, the first of it `first_delay` later, in order and at most at `rate`."""
        under_way = asyncio.Queue(maxsize=256)

        async def arrive():
            while (item := await under_way.get()) is not None:
                due, piece = item
                await asyncio.sleep(max(0.0, due - self._loop.time()))
                writer.write(piece)
                await writer.drain()
            writer.write_eof()

        arrival = asyncio.ensure_future(arrive())
        try:
            opened, free = self._loop.time() + first_delay, 0.0
            while piece := await reader.read(CHUNK):
                now = self._loop.time()
                free = max(free, now) + (len(piece) / rate if rate else 0.0)
                await under_way.put((max(free + self._delay, opened), piece))
            await under_way.put(None)
            await arrival
        finally:
            arrival.cancel()
