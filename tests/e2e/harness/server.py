"""An HTTP server whose answers a test scripts, down to what http.server would not send."""

import http.server
import socket
import threading


class Server:
    """`answer(request)` of a subclass answers each GET and HEAD, on a thread of its connection."""

    def __init__(self, case):
        self.port = case.port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.requests = []  # (method, path with query, fields)
        self._lock = threading.Lock()
        self._connections = set()
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                super().setup()
                server._connections.add(self.connection)

            def finish(self):
                server._connections.discard(self.connection)
                try:
                    super().finish()
                except OSError:
                    pass  # the client, or stop(), was faster

            def do_GET(self):
                with server._lock:
                    server.requests.append((self.command, self.path, dict(self.headers)))
                try:
                    server.answer(self)
                except OSError:
                    self.close_connection = True

            do_HEAD = do_GET

            def log_message(self, *_):
                pass

            def say(self, status, fields, body=b"", behind=b""):
                """A head with exactly these fields, and the body unless it was a HEAD."""
                lines = [f"HTTP/1.1 {status} Said", *(f"{name}: {value}" for name, value in fields), "", ""]
                self.wfile.write("\r\n".join(lines).encode())
                if self.command != "HEAD":
                    self.wfile.write(body + behind)
                if behind:
                    self.close_connection = True

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        case.defer(self.stop)

    def count(self, method=None, match=""):
        with self._lock:
            return sum((method is None or method == seen) and match in path for seen, path, _ in self.requests)

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
