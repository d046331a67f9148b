"""Attacks on the gateway's gRPC port, and on the admin port; what no client of gRPC sends."""
import struct

from attacker import GET, LIST, STREAM, WATCH

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 8, 9
END_STREAM, END_HEADERS = 1, 4


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0)


def literal(name, value, index):
    """A header as a literal; `index`: later blocks name it by a number."""
    return b"%c%c%b%c%b" % (0x40 if index else 0, len(name), name, len(value), value)


def blocks(path, *more):
    """The headers of a gRPC call, packed: of the first call of a connection, and of every later one, which are a few
    bytes. `more`: further (name, value)."""
    pairs = [(b":path", path.encode()), (b":authority", b"test"), (b"content-type", b"application/grpc"),
             (b"te", b"trailers"), *more]
    first = b"\x83\x86" + b"".join(literal(name, value, True) for name, value in pairs)
    # What was added last has the lowest number, 62.
    return first, b"\x83\x86" + bytes(0x80 | 62 + n for n in reversed(range(len(pairs))))


def calls(path, count, build):
    """What `count` calls are: build(stream, block of headers) for each of them."""
    first, later = blocks(path)
    return b"".join(build(1 + 2 * n, later if n else first) for n in range(count))


def message(data, compressed=0):
    return struct.pack(">BI", compressed, len(data)) + data


def field(number, text):
    """A string in protobuf's wire format."""
    return bytes([number << 3 | 2, len(text)]) + text.encode()


def rapid_reset(a):
    """calls that are reset at once"""
    reset = struct.pack(">I", 8)
    call = lambda s, block: frame(HEADERS, END_HEADERS, s, block) + frame(RST_STREAM, 0, s, reset)  # noqa: E731
    a.again(PREFACE + calls(GET, a.size, call))


def reset_calls(a):
    """complete calls that are reset at once"""
    body = message(field(1, a.order_id))
    reset = struct.pack(">I", 8)
    a.again(PREFACE + calls(GET, a.size, lambda s, block: frame(HEADERS, END_HEADERS, s, block)
                            + frame(DATA, END_STREAM, s, body) + frame(RST_STREAM, 0, s, reset)))


def continuation(a):
    """headers that never end"""
    piece = b"".join(literal(b"x-%05d" % n, b"v" * 100, False) for n in range(140))
    start = PREFACE + frame(HEADERS, 0, 1, blocks(GET)[0])
    a.again(start, then=frame(CONTINUATION, 0, 1, piece) * a.size)


def empty_continuation(a):
    """headers in empty pieces"""
    start = PREFACE + frame(HEADERS, 0, 1, blocks(GET)[0])
    a.again(start, then=frame(CONTINUATION, 0, 1) * a.size)


def headers_only(a):
    """calls without a message"""
    a.again(PREFACE + calls(GET, a.size, lambda s, block: frame(HEADERS, END_HEADERS, s, block)))


def settings(a):
    """SETTINGS without end"""
    a.again(PREFACE, then=frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 65535)) * a.size, reads=False)


def ping(a):
    """PING without end, answers unread"""
    a.again(PREFACE, then=frame(PING, 0, 0, bytes(8)) * a.size, reads=False)


def pings_and_calls(a):
    """PING without end, with a call now and then, so that gRPC counts them anew"""
    first, later = blocks(GET)
    pings = frame(PING, 0, 0, bytes(8)) * 200
    a.again(PREFACE + b"".join(frame(HEADERS, END_HEADERS | END_STREAM, 1 + 2 * n, later if n else first) + pings
                               for n in range(a.size)), reads=False)


def window_updates(a):
    """WINDOW_UPDATE without end"""
    a.again(PREFACE, then=frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1)) * a.size)


def priorities(a):
    """PRIORITY without end"""
    a.again(PREFACE, then=frame(PRIORITY, 0, 1, struct.pack(">IB", 0, 1)) * a.size)


def empty_data(a):
    """DATA frames with nothing in them"""
    start = PREFACE + frame(HEADERS, END_HEADERS, 1, blocks(STREAM)[0])
    a.again(start, then=frame(DATA, 0, 1) * a.size)


def one_byte_frames(a):
    """messages in frames of one byte"""
    start = PREFACE + frame(HEADERS, END_HEADERS, 1, blocks(GET)[0])
    start += frame(DATA, 0, 1, struct.pack(">BI", 0, 4 << 20))
    a.again(start + frame(DATA, 0, 1, b"x") * a.size)


def half_messages(a):
    """large messages of which the last byte is missing"""
    part = b"x" * 16384
    starts = calls(GET, a.size, lambda s, block: frame(HEADERS, END_HEADERS, s, block)
                   + frame(DATA, 0, s, struct.pack(">BI", 0, 4 << 20)))
    rest = b"".join(frame(DATA, 0, 1 + 2 * n, part) for n in range(a.size))
    a.again(PREFACE + starts + rest, then=rest)


def header_bomb(a):
    """headers that are small on the wire, and large unpacked"""
    name, value = b"x-bomb", b"v" * 3900
    length = b"\x7f" + bytes([(len(value) - 127) & 0x7F | 0x80, (len(value) - 127) >> 7])
    stored = b"\x40" + bytes([len(name)]) + name + length + value
    start = b"\x83\x86" + literal(b":path", GET.encode(), False) + literal(b":authority", b"test", False)
    parts = [PREFACE, frame(HEADERS, END_HEADERS, 1, start + stored)]
    for n in range(1, a.size):
        parts.append(frame(HEADERS, 0, 1 + 2 * n, start + b"\xbe" * 15000))
        parts.append(frame(CONTINUATION, END_HEADERS, 1 + 2 * n, b"\xbe" * 16000))
    a.again(b"".join(parts))


def gzip_bomb(a):
    """messages that are small on the wire, and large unpacked"""
    import gzip

    bomb = message(gzip.compress(bytes(64 << 20)), 1)
    parts = [bomb[start : start + 16384] for start in range(0, len(bomb), 16384)]
    first, later = blocks(GET, (b"grpc-encoding", b"gzip"))

    def call(n):
        s = 1 + 2 * n
        body = b"".join(frame(DATA, END_STREAM if part is parts[-1] else 0, s, part) for part in parts)
        return frame(HEADERS, END_HEADERS, s, later if n else first) + body

    a.again(PREFACE + b"".join(call(n) for n in range(a.size)))


def large_frames(a):
    """frames larger than allowed"""
    start = PREFACE + frame(HEADERS, END_HEADERS, 1, blocks(GET)[0])
    a.again(start + frame(DATA, 0, 1, bytes((1 << 24) - 1)) * a.size)


def idle(a):
    """connections that send nothing"""
    a.many(b"", handshake=False)


def idle_http2(a):
    """connections that only say that they speak HTTP/2, and ping"""
    a.many(PREFACE, again=frame(PING, 0, 0, bytes(8)), every=6)


def slow(a):
    """connections that send a byte now and then"""
    start = PREFACE[:5] if "grpc" not in a.contexts else b"\x16\3\1\2\0\1\0\1\xfc"  # of a ClientHello
    a.many(start, again=b"\0", every=0.3, handshake=False)


def slow_admin(a):
    """connections to the admin port that send a byte now and then"""
    a.many(b"GET /met", again=b"r", every=0.3, to="admin")


def slow_readers(a):
    """large answers that nobody reads"""
    no_window = frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0))
    body = message(field(1, "big") + b"\x10\xe8\x07")
    a.again(PREFACE + no_window + calls(LIST, a.size, lambda s, block: frame(HEADERS, END_HEADERS, s, block)
                                        + frame(DATA, END_STREAM, s, body)), reads=False)


def watches(a):
    """watches of one order, on one connection"""
    body = message(field(1, a.order_id))
    a.again(PREFACE + calls(WATCH, a.size, lambda s, block: frame(HEADERS, END_HEADERS, s, block)
                            + frame(DATA, END_STREAM, s, body)))


# function: the size (small, full), and the reasons for which the gateway closes connections: at least one of them
# must be counted; () where it bears the attack, or gRPC ends it.
ATTACKS = {
    rapid_reset: (20_000, 87_200, ("resets",)),
    reset_calls: (20_000, 87_200, ()),
    continuation: (20, 100, ("header_block",)),
    empty_continuation: (1000, 10_000, ("continuations",)),
    headers_only: (20_000, 400_000, ("streams", "unfinished_requests")),
    settings: (1000, 10_000, ("settings",)),
    ping: (1000, 10_000, ("pings",)),
    pings_and_calls: (300, 3000, ("pings",)),
    window_updates: (1000, 10_000, ("window_updates",)),
    priorities: (1000, 10_000, ("useless_frames",)),
    empty_data: (1000, 10_000, ("small_data",)),
    one_byte_frames: (100_000, 1_000_000, ("small_data",)),
    half_messages: (50, 500, ()),
    header_bomb: (100, 2000, ()),
    gzip_bomb: (10, 100, ()),
    large_frames: (1, 2, ()),
    idle: (150, 4500, ("idle",)),
    idle_http2: (150, 4500, ("idle",)),
    slow: (150, 4500, ("idle",)),
    slow_admin: (200, 2000, ()),
    slow_readers: (300, 3000, ()),
    watches: (1000, 10_000, ()),
}
