"""Calls over HTTP: JSON as curl sends it, the Connect protocol and gRPC-Web as buf speaks them, byte by byte where nobody
does; whose pages may call; callers, roles, budgets and TLS as at the gRPC port."""
import base64
import concurrent.futures
import http.client
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys

import grpc
import tandem
from secured import Secured

ORDERS, INVENTORY = (f"/{name}/" for name in (tandem.ORDER_SERVICE, tandem.INVENTORY_SERVICE))
PAGE = "https://shop.example"
JSON, PROTO, STREAM, WEB, TEXT = ("application/" + kind for kind in (
    "json", "proto", "connect+json", "grpc-web+proto", "grpc-web-text"))
WEB_JSON = "application/grpc-web+json"
END, TRAILERS = 2, 0x80


def envelope(content, flags=0):
    return struct.pack(">BI", flags, len(content)) + content


def envelopes(body):
    """[(flags, content)]"""
    found = []
    while body:
        flags, length = struct.unpack(">BI", body[:5])
        found.append((flags, body[5 : 5 + length]))
        body = body[5 + length :]
    return found


def trailers(content):
    return dict(line.split(": ", 1) for line in content.decode().split("\r\n") if line)


class Calls:
    """What both classes have."""

    def port(self):
        return self.tandem.http_ports["gateway"]

    def connection(self):
        made = http.client.HTTPConnection("127.0.0.1", self.port(), timeout=20 * tandem.SLOW)
        self.addCleanup(made.close)
        return made

    def ask(self, path, body=b"", connection=None, method="POST", **headers):
        """(status, headers, body)"""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        headers.setdefault("content-type", JSON)
        connection = connection or self.connection()
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()

    def json(self, path, request, **headers):
        """(status, answer)"""
        status, found, body = self.ask(path, json.dumps(request).encode(), **headers)
        self.assertEqual(found["content-type"], JSON)
        return status, json.loads(body)

    def refused(self, status, code, *asked, **headers):
        got, answer = self.json(*asked, **headers)
        self.assertEqual((got, answer["code"]), (status, code), answer)
        return answer


class Plain(Calls, tandem.Live):
    ENV = {"TANDEM_GATEWAY_HTTP_ALLOW_ORIGIN": PAGE, "TANDEM_MESSAGE_MAX": "16KiB", "TANDEM_DRAIN_DELAY": "0s",
           "TANDEM_DRAIN_TIMEOUT": "1s"}
    LIST_MANY = json.dumps({"customerId": "many", "pageSize": 400}).encode()

    def setUp(self):
        self.stock("tea", 100)

    def place_request(self, **more):
        return {"customerId": "customer", "lines": [{"sku": "tea", "quantity": 1}], **more}

    def test_json(self):
        status, answer = self.json(ORDERS + "PlaceOrder", self.place_request(waitForDecision=True, hold="90.5s", labels={"a": "b"}))
        order = answer["order"]
        self.assertEqual((status, order["status"], order["version"]), (200, "ORDER_STATUS_RESERVED", "2"))
        self.assertEqual(self.get(order["orderId"]).labels, {"a": "b"})
        self.assertEqual(self.json(ORDERS + "GetOrder", {"order_id": order["orderId"]}), (200, answer))
        self.assertEqual(self.json("/grpc.health.v1.Health/Check", {}), (200, {"status": "SERVING"}))

    def test_a_connection_is_used_again(self):
        connection = self.connection()
        for _ in range(3):
            self.assertEqual(self.ask(INVENTORY + "GetStock", b'{"sku":"tea"}', connection)[0], 200)
            self.assertEqual(self.ask(INVENTORY + "GetStock", b'{"sku":', connection)[0], 400)
            self.assertEqual(self.ask("/nothing", b"{}", connection)[0], 404)

    def test_protobuf(self):
        request = self.protos.message("tandem.inventory.v1.GetStockRequest")(sku="tea")
        status, headers, body = self.ask(INVENTORY + "GetStock", request.SerializeToString(), content_type=PROTO)
        self.assertEqual((status, headers["content-type"]), (200, PROTO))
        answer = self.protos.message("tandem.inventory.v1.GetStockResponse").FromString(body)
        self.assertGreaterEqual(answer.stock.received, 100)

    def test_what_is_wrong_is_named(self):
        for request, field, what in (
            (self.place_request(lines=[{"sku": "tea", "quantity": 0}]), "lines[0].quantity", "is 0: 1 to 1000000"),
            (self.place_request(lines=[{"sku": "tea", "many": 1}]), "lines[0].many", "is no field of its message"),
            (self.place_request(hold="soon"), "hold", 'is not a duration in seconds, like "90s" or "1.5s"'),
        ):
            answer = self.refused(400, "invalid_argument", ORDERS + "PlaceOrder", request)
            bad = next(d for d in answer["details"] if d["type"] == "google.rpc.BadRequest")
            self.assertEqual(bad["debug"]["fieldViolations"], [{"field": field, "description": what}])
        self.refused(404, "not_found", ORDERS + "GetOrder", {"orderId": "ord_" + 26 * "a"})
        self.refused(404, "unimplemented", ORDERS + "Nothing", {})
        self.refused(404, "unimplemented", "/tandem.order.v1.PlacementService/Place", {})
        self.refused(405, "unimplemented", ORDERS + "GetOrder", {}, method="PUT")
        self.refused(415, "invalid_argument", ORDERS + "GetOrder", {}, content_type="text/plain")
        self.refused(415, "invalid_argument", ORDERS + "WatchOrder", {})
        self.refused(400, "invalid_argument", ORDERS + "GetOrder", {}, connect_protocol_version="2")
        self.refused(400, "invalid_argument", ORDERS + "GetOrder", {}, connect_timeout_ms="soon")
        self.refused(501, "unimplemented", ORDERS + "GetOrder", {}, content_encoding="gzip")

    def test_a_deadline(self):
        self.tandem.processes["inventory"].signal(tandem.signal.SIGSTOP)
        self.addCleanup(self.tandem.processes["inventory"].signal, tandem.signal.SIGCONT)
        self.refused(504, "deadline_exceeded", INVENTORY + "GetStock", {"sku": "tea"}, connect_timeout_ms="50")
        status, _, body = self.ask(INVENTORY + "GetStock", envelope(b"\x0a\x03tea"), content_type=WEB, grpc_timeout="50m")
        self.assertEqual((status, trailers(envelopes(body)[-1][1])["grpc-status"]), (200, "4"))

    def test_a_body_that_is_too_large(self):
        large = {"sku": "tea" + 20000 * "a"}
        answer = self.refused(429, "resource_exhausted", INVENTORY + "GetStock", large)
        self.assertEqual(answer["message"], "the body is larger than 16384 bytes")
        status, _, body = self.ask(INVENTORY + "GetStock", envelope(20000 * b"a"), content_type=WEB)
        self.assertEqual((status, trailers(envelopes(body)[-1][1])["grpc-status"]), (200, "8"))
        self.assertEqual(self.json(INVENTORY + "GetStock", {"sku": "tea"})[0], 200)

    def test_a_watch(self):
        """Its updates come while it lasts."""
        order = self.place("tea", wait_for_decision=True)
        connection = self.connection()
        body = envelope(json.dumps({"orderId": order.order_id}).encode())
        connection.request("POST", ORDERS + "WatchOrder", body, {"content-type": STREAM})
        answer = connection.getresponse()

        def next_one():
            flags, length = struct.unpack(">BI", answer.read(5))
            return flags, json.loads(answer.read(length))

        self.assertEqual(next_one()[1]["order"]["status"], "ORDER_STATUS_RESERVED")
        self.order.ConfirmOrder(order_id=order.order_id)
        seen = [next_one()]
        while seen[-1][0] != END:
            seen.append(next_one())
        self.assertEqual(seen[-1], (END, {}))
        self.assertEqual(seen[-2][1]["order"]["status"], "ORDER_STATUS_CONFIRMED")
        self.assertEqual(answer.read(), b"")

    def test_a_watcher_that_goes(self):
        """The call ends, although nothing happens to its order."""
        open_watches = lambda: self.tandem.gateway.metric(  # noqa: E731
            "grpc_server_started_total", grpc_method="WatchOrder") - self.tandem.gateway.metric(
            "grpc_server_handled_total", grpc_method="WatchOrder")
        tandem.until(lambda: open_watches() == 0, 20 * tandem.SLOW, "no watch is open")
        order = self.place("tea", wait_for_decision=True)
        body = envelope(json.dumps({"orderId": order.order_id}).encode())
        connection = self.connection()
        connection.request("POST", ORDERS + "WatchOrder", body, {"content-type": STREAM})
        connection.getresponse().read(5)
        self.assertEqual(open_watches(), 1)
        connection.sock.shutdown(socket.SHUT_RDWR)
        connection.close()
        tandem.until(lambda: open_watches() == 0, 20 * tandem.SLOW, "the watch ends")

    def test_a_stream_of_orders(self):
        """All that the client has to say comes first; then the answers."""
        body = b"".join(envelope(json.dumps({"sequence": str(n), "request": self.place_request()}).encode()) for n in range(1, 4))
        status, headers, answer = self.ask(ORDERS + "StreamOrders", body, content_type=STREAM)
        found = envelopes(answer)
        self.assertEqual((status, headers["content-type"]), (200, STREAM))
        self.assertEqual(sorted(json.loads(content)["sequence"] for flags, content in found[:-1]), ["1", "2", "3"])
        self.assertEqual((found[-1][0], json.loads(found[-1][1])), (END, {}))

    def test_grpc_web(self):
        for kind, coded in ((WEB, lambda b: b), ("application/grpc-web", lambda b: b), (TEXT, base64.b64encode)):
            for sku, code in ((b"tea", "0"), (b"", "3")):
                with self.subTest(kind=kind, sku=sku):
                    body = coded(envelope(b"\x0a" + bytes([len(sku)]) + sku))
                    status, headers, answer = self.ask(INVENTORY + "GetStock", body, content_type=kind, x_grpc_web="1")
                    if kind == TEXT:
                        self.assertTrue(headers["content-type"].startswith(TEXT))
                        answer = b"".join(base64.b64decode(piece + b"==") for piece in answer.split(b"=") if piece)
                    found = envelopes(answer)
                    self.assertEqual((status, found[-1][0]), (200, TRAILERS))
                    self.assertEqual(trailers(found[-1][1])["grpc-status"], code)
                    self.assertEqual([flags for flags, _ in found[:-1]], [0] if code == "0" else [])

    def test_bodies_that_are_nothing(self):
        for kind, body in ((JSON, b""), (JSON, b"[1]"), (JSON, b'{"sku":"a","sku":"b"}'), (JSON, 1000 * b"["), (PROTO, b"\xff"),
                           (WEB, b"\0\0"), (WEB, envelope(b"abc")[:-1]), (WEB, envelope(b"", 1)), (WEB, envelope(b"", 4)),
                           (WEB, b""), (WEB, 2 * envelope(b"")), (TEXT, b"abc"), (TEXT, b"****")):
            with self.subTest(kind=kind, body=body[:20]):
                status, _, answer = self.ask(INVENTORY + "GetStock", body, content_type=kind)
                if kind in (WEB, TEXT):
                    if kind == TEXT:
                        answer = base64.b64decode(answer)
                    self.assertIn(trailers(envelopes(answer)[-1][1])["grpc-status"], ("3", "12"))
                else:
                    self.assertEqual((status, json.loads(answer)["code"]), (400, "invalid_argument"))

    def test_what_says_twice_where_it_ends(self):
        """A proxy may take the other length: what comes behind is no request. The connection ends."""
        request = b'{"sku":"tea"}'
        for headers in (b"Content-Length: 2\r\nContent-Length: 13\r\n", b"Content-Length: 13\r\nTransfer-Encoding: chunked\r\n",
                        b"Host: b\r\nContent-Length: 13\r\n"):
            body = b"d\r\n" + request + b"\r\n0\r\n\r\n" if b"chunked" in headers else request
            with self.subTest(headers=headers), socket.create_connection(("127.0.0.1", self.port()), 20 * tandem.SLOW) as made:
                made.sendall(b"POST %sGetStock HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n%s\r\n%s"
                             % (INVENTORY.encode(), headers, body))
                answer = b"".join(iter(lambda: made.recv(4096), b""))
                self.assertEqual(answer.count(b"HTTP/1.1 "), 1)
                self.assertTrue(answer.startswith(b"HTTP/1.1 400 "), answer)
                self.assertIn(b'"code":"invalid_argument","message":"the request has more than one of ', answer)

    def test_half_a_request(self):
        """A client that goes in the middle leaves nothing behind."""
        for request in (b"POST / HTT", b"POST %sGetStock HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
                        b"Content-Length: 100\r\n\r\n{" % INVENTORY.encode()):
            with socket.create_connection(("127.0.0.1", self.port())) as half:
                half.sendall(request)
        tandem.until(lambda: self.tandem.gateway.metric("tandem_http_held_bytes") == 0, 20 * tandem.SLOW, "nothing is held")

    def test_pages_of_others(self):
        """A page may call if its origin is listed. What is no page may always."""
        asked = INVENTORY + "GetStock", {"sku": "tea"}
        status, headers, _ = self.ask(asked[0], json.dumps(asked[1]).encode(), origin=PAGE)
        self.assertEqual((status, headers["access-control-allow-origin"], headers["vary"]), (200, PAGE, "Origin"))
        for name in ("grpc-status", "retry-after"):
            self.assertIn(name, headers["access-control-expose-headers"])
        for origin in ("https://other.example", "http://shop.example", "null", PAGE + ".evil.example"):
            for method in ("POST", "OPTIONS"):
                status, headers, body = self.ask(asked[0], b"{}", method=method, origin=origin)
                self.assertEqual((status, json.loads(body)["code"]), (403, "permission_denied"))
                self.assertIsNone(headers["access-control-allow-origin"])
        status, headers, _ = self.ask(asked[0], method="OPTIONS", origin=PAGE, access_control_request_method="POST")
        self.assertEqual((status, headers["access-control-allow-methods"]), (204, "POST"))
        self.assertEqual(headers["allow"], "POST, OPTIONS")
        for name in ("content-type", "authorization", "connect-protocol-version", "x-grpc-web"):
            self.assertIn(name, headers["access-control-allow-headers"])

    def test_buf(self):
        buf = subprocess.run([os.path.join(tandem.ROOT, "scripts", "lib", "buf")], capture_output=True, text=True, check=False)
        if buf.returncode != 0:
            print("buf is left out: neither it nor npm with a network", file=sys.stderr)
            return
        image = os.path.join(self.tandem.folder, "contract.binpb")
        with open(image, "wb") as file:
            file.write(self.protos.descriptors.SerializeToString())

        def curl(protocol, path, request):
            done = subprocess.run([buf.stdout.strip(), "curl", "--schema", image, "--protocol", protocol, "-d", json.dumps(request),
                                   f"http://127.0.0.1:{self.port()}{path}"],
                                  capture_output=True, text=True, check=False, timeout=60 * tandem.SLOW)
            return done.returncode, done.stdout, done.stderr

        settled = self.place("tea", wait_for_decision=True)
        self.order.CancelOrder(order_id=settled.order_id)
        for protocol in ("connect", "grpcweb"):
            with self.subTest(protocol=protocol):
                code, out, err = curl(protocol, ORDERS + "PlaceOrder", self.place_request(waitForDecision=True))
                self.assertEqual((code, json.loads(out)["order"]["status"]), (0, "ORDER_STATUS_RESERVED"), err)
                code, out, err = curl(protocol, ORDERS + "GetOrder", {"orderId": "ord_" + 26 * "a"})
                self.assertEqual(json.loads(err)["code"], "not_found")
                code, out, err = curl(protocol, ORDERS + "WatchOrder", {"orderId": settled.order_id})
                self.assertEqual(code, 0, err)
                self.assertEqual(json.loads(out)["order"]["status"], "ORDER_STATUS_CANCELLED")

    def test_the_page_of_documentation(self):
        """Its commands and its program give what it says."""
        with open(os.path.join(tandem.ROOT, "docs", "http.md"), encoding="utf-8") as page:
            text = page.read().replace("127.0.0.1:50080", f"127.0.0.1:{self.port()}")
        blocks = re.findall(r"^```(\w+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
        commands = [block for kind, block in blocks if kind == "sh" and block.startswith("curl")]
        done = [subprocess.run(["bash", "-ec", command], capture_output=True, text=True, check=True).stdout for command in commands]
        self.assertIn('"status":"ORDER_STATUS_RESERVED"', done[0])
        self.assertIn('"field":"lines[0].quantity","description":"is 0: 1 to 1000000"', done[1])
        (program,) = [block for kind, block in blocks if kind == "js"]
        if shutil.which("node") is None:
            print("the page's program is left out: there is no Node.js", file=sys.stderr)
            return
        ran = subprocess.run(["node", "--input-type=module"], input=program, capture_output=True, text=True, check=False)
        self.assertRegex(ran.stdout, "^ord_[0-9a-z]{26} ORDER_STATUS_RESERVED\n$", ran.stderr)

    def place_many(self):
        """LIST_MANY is answered by half a MiB."""
        same = {"customer_id": "many", "lines": [{"sku": "tea", "quantity": 1}], "labels": {f"key{n}": 250 * "v" for n in range(4)}}
        for batch in range(40):
            self.order.BatchPlaceOrders(requests=[same | {"request_id": f"{batch}-{n}"} for n in range(10)])

    def ask_for_long_answers(self, count):
        """[(connection, kind)]: so many calls whose answers are not read."""
        asked = []
        for n in range(count):
            kind, body = ((JSON, self.LIST_MANY), (WEB_JSON, envelope(self.LIST_MANY)))[n % 2]
            connection = self.connection()
            connection.request("POST", ORDERS + "ListOrders", body, {"content-type": kind})
            asked.append((connection, kind))
        return asked

    def test_long_answers(self):
        """They are written one after the other: each comes, whichever of the clients before went away, or does not read."""
        self.place_many()
        unread = socket.create_connection(("127.0.0.1", self.port()))
        self.addCleanup(unread.close)
        unread.sendall(40 * (b"POST %sListOrders HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                             % (ORDERS.encode(), len(self.LIST_MANY), self.LIST_MANY)))
        for _ in range(40):  # until no more goes to the one that does not read
            self.assertEqual(self.ask(ORDERS + "ListOrders", self.LIST_MANY)[0], 200)
        asked = self.ask_for_long_answers(48)
        for connection, _ in asked[::3]:
            connection.close()
        for n, (connection, kind) in enumerate(asked):
            if n % 3 == 0:
                continue
            with connection.getresponse() as answer:
                self.assertEqual(answer.status, 200)
                body = answer.read()
            if kind == WEB_JSON:
                (_, body), (flags, end) = envelopes(body)
                self.assertEqual((flags, trailers(end)["grpc-status"]), (TRAILERS, "0"))
            self.assertEqual(len(json.loads(body)["orders"]), 400)
        unread.close()
        tandem.until(lambda: self.tandem.gateway.metric("tandem_http_held_bytes") == 0, 20 * tandem.SLOW, "nothing is held")

    def test_many_at_once_and_the_end(self):
        """Calls under way end with an answer when the gateway does."""
        order = self.place("tea", wait_for_decision=True)
        body = envelope(json.dumps({"orderId": order.order_id}).encode())
        watches = []
        for _ in range(8):
            connection = self.connection()
            connection.request("POST", ORDERS + "WatchOrder", body, {"content-type": STREAM})
            watches.append(connection.getresponse())
            watches[-1].read(5)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(self.json, INVENTORY + "GetStock", {"sku": "tea"}) for _ in range(200)]
            self.assertEqual({one.result()[0] for one in asked}, {200})
        self.place_many()
        self.ask_for_long_answers(200)
        self.assertEqual(self.tandem.processes["gateway"].terminate(), 0)
        tails = [watch.read() for watch in watches]
        self.tandem.start("gateway")
        type(self).order, type(self).inventory = self.connect()
        for tail in tails:
            self.assertEqual(json.loads(tail[tail.rindex(b'{"error"'):])["error"]["code"], "unavailable")


class Callers(Calls, Secured):
    """With certificates, tokens and keys."""

    ENV = {**Secured.ENV, "TANDEM_GATEWAY_RATE_PER_CALLER": "20", "TANDEM_GATEWAY_CALLS_PER_CONNECTION": "7"}

    def connection(self, *files):
        context = self.tandem.tls_context(None)
        if files:
            context.load_cert_chain(*(self.tandem.tls(file) for file in files))
        made = http.client.HTTPSConnection("127.0.0.1", self.port(), timeout=20 * tandem.SLOW, context=context)
        self.addCleanup(made.close)
        return made

    def role(self, caller):
        return self.connection(f"{caller}.crt", f"{caller}.key")

    def bearer(self, token):
        return {"authorization": f"Bearer {token}"}

    def code(self, path, request, connection=None, **headers):
        status, _, body = self.ask(path, json.dumps(request).encode(), connection, **headers)
        return status, json.loads(body).get("code")

    def test_who_may_what(self):
        listed = ORDERS + "ListOrders"
        mine, other = {"customerId": "cust_a"}, {"customerId": "cust_b"}
        key = self.bearer(self.api_keys[0])
        token = self.bearer(self.issuer.token(role="customer", customer_id="cust_a"))
        unknown = (401, "unauthenticated")
        for name, expected, path, request, connection, headers in (
            ("nobody", unknown, listed, mine, None, {}),
            ("a key that nobody has", unknown, listed, mine, None, self.bearer("tandem_" + 52 * "a")),
            ("its key", (200, None), listed, mine, None, key),
            ("its token", (200, None), listed, mine, None, token),
            ("another's orders", (403, "permission_denied"), listed, other, None, key),
            ("another role", (403, "permission_denied"), INVENTORY + "AdjustStock", {"sku": "a", "delta": 1}, None, key),
            ("an operator's certificate", (200, None), listed, other, self.role("ops"), {}),
            ("a customer's certificate", (403, "permission_denied"), listed, other, self.role("shop"), {}),
            ("its own", (200, None), listed, {"customerId": "cust_c"}, self.role("shop"), {}),
            ("a certificate that is not listed", unknown, listed, mine, self.role("stranger"), {}),
            ("the word of a gateway", unknown, listed, mine, None,
             {"tandem-caller-bin": base64.b64encode(b"operator\0\0ops").decode()}),
            ("health", (200, None), "/grpc.health.v1.Health/Check", {}, None, {}),
        ):
            with self.subTest(name):
                self.assertEqual(self.code(path, request, connection, **headers), expected)

    def test_how_to_show_who_calls(self):
        status, headers, _ = self.ask(ORDERS + "ListOrders", b'{"customerId":"cust_a"}')
        self.assertEqual((status, headers["www-authenticate"]), (401, "Bearer"))

    def test_a_budget_is_the_caller_s_however_it_calls(self):
        headers = self.bearer(self.api_keys[1])
        connections = [self.connection() for _ in range(8)]

        def ask(connection):
            return self.ask(ORDERS + "ListOrders", b'{"customerId":"cust_b"}', connection, **headers)

        with concurrent.futures.ThreadPoolExecutor(len(connections)) as pool:
            def refused():
                """One call after the other may be too slow for it."""
                return [(found["retry-after"], json.loads(body)) for status, found, body in pool.map(ask, connections)
                        if status == 429]

            answers = tandem.until(refused, 20 * tandem.SLOW, "too many calls in a second", every=0)
        retry_after, answer = answers[0]
        self.assertEqual(retry_after, "1")
        reasons = [d["debug"]["reason"] for d in answer["details"] if d["type"] == "google.rpc.ErrorInfo"]
        self.assertEqual(reasons, ["RATE_PER_CALLER"])

        def refused_over_grpc():
            calls = [self.order.ListOrders.future(customer_id="cust_b", _metadata=(("authorization", headers["authorization"]),))
                     for _ in range(5)]
            return [call.exception() for call in calls if call.exception() is not None]

        for error in tandem.until(refused_over_grpc, 20 * tandem.SLOW, "too many calls in a second", every=0):
            self.assertEqual(error.code(), grpc.StatusCode.RESOURCE_EXHAUSTED)
            self.assertEqual(self.details(error)["ErrorInfo"].reason, "RATE_PER_CALLER")

    def test_bodies_that_never_end_keep_none_but_large_ones_out(self):
        """What is held is bounded; small requests are always taken."""
        large = 4 << 20
        for _ in range(13):
            connection = self.connection()
            connection.putrequest("POST", ORDERS + "PlaceOrder")
            connection.putheader("content-type", JSON)
            connection.putheader("content-length", str(large))
            connection.endheaders(b" " * (large - 1))
        held = lambda: self.tandem.gateway.metric("tandem_http_held_bytes")  # noqa: E731
        tandem.until(lambda: held() > 48 << 20, 20 * tandem.SLOW, held)
        headers = self.bearer(self.api_keys[0])
        self.assertEqual(self.code(ORDERS + "ListOrders", {"customerId": "cust_a"}, **headers), (200, None))
        self.assertEqual(self.code(ORDERS + "ListOrders", {"customerId": "a" * (1 << 20)}, **headers), (429, "resource_exhausted"))

    def test_the_trail_knows_who_and_from_where(self):
        connection = self.role("ops")
        connection.connect()
        address = "127.0.0.1:%d" % connection.sock.getsockname()[1]
        status, _, _ = self.ask(INVENTORY + "AdjustStock", b'{"sku":"trail","delta":5}', connection)
        self.assertEqual(status, 200)
        rows = self.tandem.ctl_json("trail")[1]
        row = next(row for row in rows if "trail" in json.dumps(row))
        self.assertIn("ops", json.dumps(row))
        self.assertIn(address, json.dumps(row))

    def test_a_certificate_is_required_where_it_is(self):
        self.tandem.env["TANDEM_GATEWAY_TLS_CLIENT_CERT"] = "required"
        self.addCleanup(self.tandem.env.update, {"TANDEM_GATEWAY_TLS_CLIENT_CERT": "optional"})
        for again in (True, False):
            self.tandem.processes["gateway"].terminate()
            self.tandem.start("gateway")
            if again:
                self.assertEqual(self.code(ORDERS + "ListOrders", {"customerId": "cust_a"}, **self.bearer(self.api_keys[0])),
                                 (401, "unauthenticated"))
                self.assertEqual(self.code(ORDERS + "ListOrders", {"customerId": "cust_a"}, self.role("stranger"),
                                           **self.bearer(self.api_keys[0])), (200, None))
                self.tandem.env["TANDEM_GATEWAY_TLS_CLIENT_CERT"] = "optional"


if __name__ == "__main__":
    tandem.unittest.main()
