"""Asks a container runtime for an image as the kubelet does: cri.py SOCKET IMAGE.

PullImage of the Container Runtime Interface, gRPC over HTTP/2 (RFC 9113) on a Unix socket, as far as one call needs it:
the answer's head is not read, for only an answer that is no error has a message.
"""

import socket
import sys

DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY = 0, 1, 3, 4, 7
ACK = END_STREAM = 1
END_HEADERS = 4


def frame(kind, flags, stream, payload):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def text(value):
    """An HPACK string that is short and not compressed (RFC 7541, section 5.2)."""
    assert len(value) < 127
    return bytes([len(value)]) + value.encode()


def field(number, data):
    """A length-delimited field of protocol buffers."""
    assert len(data) < 128
    return bytes([number << 3 | 2, len(data)]) + data


def pull(path, image):
    """Whether the runtime says that it has pulled `image`."""
    heads = {":method": "POST", ":scheme": "http", ":path": "/runtime.v1.ImageService/PullImage",
             ":authority": "localhost", "content-type": "application/grpc", "te": "trailers"}
    request = field(1, field(1, image.encode()))  # PullImageRequest { ImageSpec { image } }
    message = b"\0" + len(request).to_bytes(4, "big") + request
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        connection.sendall(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, b"")
            + frame(HEADERS, END_HEADERS, 1, b"".join(b"\0" + text(k) + text(v) for k, v in heads.items()))
            + frame(DATA, END_STREAM, 1, message))
        stream, answer = connection.makefile("rb"), b""
        while len(head := stream.read(9)) == 9:
            kind, flags = head[3], head[4]
            payload = stream.read(int.from_bytes(head[:3], "big"))
            if kind == SETTINGS and not flags & ACK:
                connection.sendall(frame(SETTINGS, ACK, 0, b""))
            elif kind == DATA:
                answer += payload
            if kind in (RST_STREAM, GOAWAY) or (kind in (DATA, HEADERS) and flags & END_STREAM):
                break
        return len(answer) > 5


if __name__ == "__main__":
    sys.exit(0 if pull(*sys.argv[1:]) else f"{sys.argv[2]} was not pulled; the runtime's log says why")
