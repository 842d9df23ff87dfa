"""Many clients that ask for one blob at the same moment, in a process of their own:

    python3 fanout.py PORT PATH COUNT REFERENCE

Each compares every byte with the file REFERENCE as it comes; every tenth hashes what it gets instead, which costs ten
times as much: fifty of those would measure the clients. Prints a JSON list with, for each client: status, bytes, good
(all bytes were there and right), error, first_byte and total in seconds since the start.
"""

import ctypes
import hashlib
import json
import mmap
import pathlib
import socket
import subprocess
import sys
import threading
import time

# Called through ctypes it releases the interpreter lock, which comparing two memoryviews does not.
_memcmp = ctypes.CDLL(None).memcmp
_memcmp.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]


class Client:
    def __init__(self, port, path, hashes):
        self.port, self.path, self.hashes = port, path, hashes
        self.result = {"status": 0, "bytes": 0, "good": False, "error": "", "first_byte": None, "total": None}

    def pull(self, reference, digest, barrier):
        barrier.wait()
        started = time.monotonic()
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=120) as connection:
                self.exchange(connection, reference, digest, started)
        except (OSError, ValueError, IndexError) as error:
            self.result["error"] = str(error)
        self.result["total"] = time.monotonic() - started

    def exchange(self, connection, reference, digest, started):
        connection.sendall(
            f"GET {self.path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nConnection: close\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            piece = connection.recv(4096)
            if not piece:
                raise OSError("closed before the head")
            head += piece
        head, body = head.split(b"\r\n\r\n", 1)
        self.result["status"] = int(head.split(b" ", 2)[1])
        length = int([line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")][0][15:])
        if self.result["status"] != 200 or length != len(reference):
            raise OSError(f"status {self.result['status']}, {length} bytes")

        buffer = bytearray(256 * 1024)
        view, address = memoryview(buffer), ctypes.addressof(ctypes.c_char.from_buffer(buffer))
        wanted = ctypes.addressof(ctypes.c_char.from_buffer(reference))
        hasher, received, count = hashlib.sha256(), 0, len(body)
        view[:count] = body
        while True:
            if self.hashes:
                hasher.update(view[:count])
            elif _memcmp(address, wanted + received, count) != 0:
                raise OSError(f"wrong bytes between {received} and {received + count}")
            received += count
            self.result["bytes"] = received
            if received == length:
                break
            count = connection.recv_into(view, min(len(view), length - received))
            if not count:
                raise OSError(f"cut after {received} of {length}")
            if self.result["first_byte"] is None:
                self.result["first_byte"] = time.monotonic() - started
        self.result["good"] = not self.hashes or hasher.hexdigest() == digest


def main():
    port, path, count = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    with open(sys.argv[4], "rb") as file:
        # Copy on write, because ctypes wants memory that may be written to.
        reference = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    digest = hashlib.sha256(reference).hexdigest()
    if not path.endswith(digest):
        sys.exit(f"{sys.argv[4]} is not the blob of {path}")
    barrier = threading.Barrier(count)
    clients = [Client(port, path, number % 10 == 0) for number in range(count)]
    threads = [threading.Thread(target=client.pull, args=(reference, digest, barrier)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    json.dump([client.result for client in clients], sys.stdout)


def run(port, path, count, reference, seconds=150):
    """For tests: runs it and returns the list."""
    done = subprocess.run([sys.executable, str(pathlib.Path(__file__)), str(port), path, str(count), str(reference)],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=seconds, check=True)
    return json.loads(done.stdout)


if __name__ == "__main__":
    main()
