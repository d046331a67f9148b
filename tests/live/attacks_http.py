"""Attacks on the gateway's port for calls over HTTP."""
import contextlib
import json
import struct

from attacker import GET, LIST, STREAM, WATCH
from attacks_http2 import PREFACE

JSON = "application/json"


def request(path, body=b"", *lines, method="POST", kind=JSON, length=True):
    """A request of HTTP/1.1. `lines`: further headers, as they are."""
    head = [f"{method} {path} HTTP/1.1", "host: test", *([f"content-type: {kind}"] if kind else []),
            *([f"content-length: {len(body)}"] if length else []), *lines]
    return "\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body


def ask(a):
    return json.dumps({"orderId": a.order_id}).encode()


def envelope(data):
    return struct.pack(">BI", 0, len(data)) + data


def in_turn(a, requests):
    """Each on a connection of its own, again and again; its answer is read, for as long as that may take."""
    while a.left() > 0:
        for data in requests:
            if a.left() <= 0:
                return
            with contextlib.suppress(OSError), a.connect("http") as connection:
                if not a.send(connection, data):
                    continue
                connection.settimeout(min(0.3, max(0.01, a.left())))
                a.note(connection.recv(65536))


def http_idle(a):
    """connections that ask for nothing"""
    a.many(b"", to="http", handshake=False)


def http_slow_headers(a):
    """requests whose headers come byte by byte"""
    a.many(request(GET)[:-4] + b"\r\nx-slow: ", again=b"a", every=0.3, to="http")


def http_slow_bodies(a):
    """requests whose body comes byte by byte"""
    a.many(request(GET, b"", "content-length: 1000000", length=False), again=b" ", every=0.3, to="http")


def http_large_headers(a):
    """headers without end"""
    a.again(request(GET)[:-2], then=(b"x-large: " + b"v" * 1000 + b"\r\n") * a.size, to="http")


def http_large_bodies(a):
    """bodies larger than allowed"""
    a.again(request(GET, b" " * (a.size << 20)), to="http")


def http_endless_bodies(a):
    """bodies in chunks without end"""
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    a.again(request(GET, b"", "transfer-encoding: chunked", length=False), then=chunk * a.size, to="http")


def http_many_bodies(a):
    """large bodies that are never complete, on many connections"""
    a.many(request(GET, b" " * (1 << 20), "content-length: 1048577", length=False), to="http")


def http_bad_chunks(a):
    """chunks that are none, and two lengths"""
    chunked = request(GET, b"", "transfer-encoding: chunked", length=False)
    bad = [chunked + rest for rest in (
        b"ffffffffffffffffff\r\n", b"-1\r\n", b"zz\r\n", b"5;" + b"e=x;" * 20000 + b"\r\n", b"2\r\n{}0\r\n\r\n",
        b"\n\n\n", b"2\n{}\n0\n\n", b"0x2\r\n{}\r\n0\r\n\r\n")]
    bad += [request(GET, b"{}", "content-length: 3"), request(GET, b"{}", "transfer-encoding: chunked"),
            request(GET, b"{}", "content-length: -1", length=False), request(GET, b"", "transfer-encoding: gzip, x", length=False),
            request(GET, b"{}", "content-length: 99999999999999999999999", length=False)]
    in_turn(a, bad)


def http_trailers(a):
    """trailers behind a body in chunks, more and more of them"""
    body = b"2\r\n{}\r\n0\r\n" + b"".join(b"x-trailer-%d: %s\r\n" % (n, b"v" * 50) for n in range(a.size)) + b"\r\n"
    start = request(GET, b"", "transfer-encoding: chunked", "trailer: x-trailer-0", length=False)
    few = start + b"2\r\n{}\r\n0\r\nauthorization: Bearer x\r\ncontent-length: 5\r\n\r\n"
    in_turn(a, [few, start + body])


def http_pipelines(a):
    """requests one behind the other, without waiting for answers"""
    a.again(request(GET, ask(a)) * a.size, to="http")


def http_unread_pipelines(a):
    """the same, and nobody reads the answers"""
    a.again(request(LIST, b'{"customerId":"big","pageSize":1000}') * a.size, reads=False, then=b"\r\n", to="http")


def http_unread_answers(a):
    """large answers that nobody reads, on many connections"""
    a.many(request(LIST, b'{"customerId":"big","pageSize":1000}'), to="http")


def http_unread_watches(a):
    """watches that nobody reads"""
    a.many(request(WATCH, envelope(ask(a)), kind="application/connect+json"), to="http")


def http_deep_json(a):
    """JSON of many levels"""
    deep = 1 << 20
    in_turn(a, [request(LIST, body) for body in (
        b"[" * deep, b'{"a":' * (deep // 8), b"[" * 1000 + b"]" * 1000, b'{"filter":' * 1000 + b"{}" + b"}" * 1000)])


def http_wide_json(a):
    """JSON whose tree is many times as large as its text"""
    count = a.size << 10
    in_turn(a, [request(LIST, b'{"lines":[' + value * (count // len(value)) + value[:-1] + b"]}")
                for value in (b"{},", b"[],", b"0,", b'"",', b'{"a":1},')])


def http_odd_json(a):
    """JSON that is none, or of other types"""
    in_turn(a, [request(LIST, body) for body in (
        b"1" * (1 << 20), b"1e999999", b"-", b'"' + b"\\u0000" * 1000 + b'"', b"\xff\xfe", b"\0" * 1000, b'{"pageSize":1e308}',
        b'{"pageSize":"' + b"9" * 100000 + b'"}', b'{"customerId":{"a":[]}}', b'{"' + b"k" * 100000 + b'":1}', b"null", b"")])


def http_envelopes(a):
    """streams of empty messages, and messages that are longer than said"""
    kind = "application/connect+proto"
    in_turn(a, [request(STREAM, envelope(b"") * (a.size << 8), kind=kind), request(STREAM, b"\0\xff\xff\xff\xff", kind=kind),
                request(STREAM, envelope(b"{}") * (a.size << 6), kind="application/connect+json"),
                request(STREAM, b"\x02" + envelope(b"{}")[1:], kind=kind)])


def http_types(a):
    """methods, paths, content types and encodings that are served to nobody"""
    in_turn(a, [
        *(request(GET, b"{}", kind=kind) for kind in ("", "text/plain", "application/json; charset=" + "x" * 5000,
                                                      "application/grpc", "multipart/form-data; boundary=x", "application/grpc-web+thrift")),
        *(request(path, b"{}") for path in ("/", "//", "*", "/" + "x" * 20000, "/%00%ff", GET + "%2f..", "http://other" + GET)),
        *(request(GET, b"{}", method=method) for method in ("GET", "PUT", "CONNECT", "TRACE", "x" * 5000, "POST\t")),
        *(request(GET, b"{}", f"{name}: gzip") for name in ("content-encoding", "connect-content-encoding", "grpc-encoding")),
        request(GET, b"{}", "expect: 100-continue"), request(GET, b"{}", "upgrade: h2c", "connection: upgrade, http2-settings"),
        request(GET, b"{}").replace(b"HTTP/1.1", b"HTTP/9.9"), request(GET, b"{}").replace(b"\r\n", b"\n"), PREFACE,
    ])


def http_origins(a):
    """pages of other sites, in odd spellings"""
    origins = ("null", "", "https://shop.example", "https://shop.example.evil", "https://a, https://b", "*", "x" * 8000,
               "https://\xff\xfe", "http://127.0.0.1")
    in_turn(a, [request(GET, ask(a), f"origin: {origin}", f"access-control-request-method: {'POST' * 100}", method=method)
                for origin in origins for method in ("OPTIONS", "POST")]
            + [request(GET, ask(a), "origin: https://a", "origin: https://b")])


# function: the size (small, full), and what must have been seen: one of the reasons for which the gateway closes connections; each
# of the statuses. () where it bears the attack, or libmicrohttpd ends it.
ATTACKS = {
    http_idle: (1400, 4500, ("idle",)),
    http_slow_headers: (1400, 4500, ("idle",)),
    http_slow_bodies: (1400, 4500, ("idle",)),
    http_large_headers: (100, 1000, ("431",)),
    http_large_bodies: (8, 64, ("429",)),
    http_endless_bodies: (10, 100, ()),
    http_many_bodies: (150, 1000, ()),
    http_bad_chunks: (1, 1, ("400",)),
    http_trailers: (1000, 10_000, ("400",)),
    http_pipelines: (500, 5000, ("200",)),
    http_unread_pipelines: (100, 1000, ()),
    http_unread_answers: (100, 1000, ()),
    http_unread_watches: (300, 1000, ()),
    http_deep_json: (1, 1, ("400",)),
    http_wide_json: (1024, 4000, ("429",)),
    http_odd_json: (1, 1, ("400",)),
    http_envelopes: (1024, 3000, ("200",)),
    http_types: (1, 1, ("404", "405", "415")),
    http_origins: (1, 1, ("403",)),
}
