"""HTTP/2 by hand: frames that no gRPC client sends."""
import contextlib
import socket
import struct

import tandem

DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY, CONTINUATION = 0, 1, 3, 4, 7, 9
END_STREAM, END_HEADERS, ACK = 1, 4, 1


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0)


def string(text):
    """As HPACK has it, without Huffman's code."""
    rest, length = len(text) - 127, bytes([min(len(text), 127)])
    while rest >= 128:
        length, rest = length + bytes([128 | rest & 127]), rest >> 7
    return (length + bytes([rest]) if rest >= 0 else length) + text.encode()


def block(path, *more):
    """The headers of a gRPC call, packed; `more`: further (name, value)."""
    pairs = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "test"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        *more,
    ]
    packed = b""
    for name, value in pairs:  # literals without indexing
        packed += b"\0" + string(name) + string(value)
    return packed


def call(path, body, *more):
    """All that a client sends for a call with one message, on stream 1 of a new connection."""
    headers = frame(HEADERS, END_HEADERS, 1, block(path, *more))
    return PREFACE + headers + frame(DATA, END_STREAM, 1, body)


def message(data, compressed=0):
    """A message of gRPC."""
    return struct.pack(">BI", compressed, len(data)) + data


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=10 * tandem.SLOW)


def frames(connection):
    """The frames that come back, as (kind, flags, stream, payload), until the connection is closed."""
    buffer = b""
    while True:
        try:
            data = connection.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            return
        buffer += data
        while len(buffer) >= 9 and len(buffer) >= 9 + int.from_bytes(buffer[:3], "big"):
            size = int.from_bytes(buffer[:3], "big")
            kind, flags, stream = buffer[3], buffer[4], int.from_bytes(buffer[5:9], "big")
            payload, buffer = buffer[9 : 9 + size], buffer[9 + size :]
            if kind == SETTINGS and not flags & ACK:
                with contextlib.suppress(OSError):  # we may have ended our half
                    connection.sendall(frame(SETTINGS, ACK, 0))
            yield kind, flags, stream, payload
