"""Many clients that ask for one path at the same moment, in a process of their own: python3 fanout.py PORT PATH COUNT

Prints a JSON list with, for each client: status, bytes, digest, first_byte and total in seconds since the start.
"""

import hashlib
import json
import pathlib
import socket
import subprocess
import sys
import threading
import time


def pull(port, path, barrier, results):
    buffer = bytearray(256 * 1024)
    view, digest, received, first = memoryview(buffer), hashlib.sha256(), 0, None
    barrier.wait()
    started = time.monotonic()
    result = {"status": 0, "bytes": 0, "digest": "", "first_byte": None, "total": None, "error": ""}
    results.append(result)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=120) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
            head = b""
            while b"\r\n\r\n" not in head:
                piece = connection.recv(4096)
                if not piece:
                    raise OSError("closed before the head")
                head += piece
            head, body = head.split(b"\r\n\r\n", 1)
            result["status"] = int(head.split(b" ", 2)[1])
            length = int([line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")][0][15:])
            digest.update(body)
            received = len(body)
            while received < length:
                count = connection.recv_into(view)
                if not count:
                    raise OSError(f"cut after {received} of {length}")
                first = first or time.monotonic() - started
                digest.update(view[:count])
                received += count
    except (OSError, ValueError, IndexError) as error:
        result["error"] = str(error)
    result.update(bytes=received, digest="sha256:" + digest.hexdigest(), first_byte=first,
                  total=time.monotonic() - started)


def main():
    port, path, count = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    barrier, results = threading.Barrier(count), []
    threads = [threading.Thread(target=pull, args=(port, path, barrier, results)) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    json.dump(results, sys.stdout)


def run(port, path, count, seconds=150):
    """For tests: runs it and returns the list."""
    done = subprocess.run([sys.executable, str(pathlib.Path(__file__)), str(port), path, str(count)],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=seconds, check=True)
    return json.loads(done.stdout)


if __name__ == "__main__":
    main()
