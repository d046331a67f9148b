"""What must be refused: requests beyond every limit of the contract, and bytes that are not a message.

Whatever came in, the next good call works: the last line of every test.
"""
import os
import random
import socket
import struct

import grpc
import http2
import tandem
from http2 import (
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PREFACE, RST_STREAM, SETTINGS,
)

INVALID = grpc.StatusCode.INVALID_ARGUMENT


def line(sku="limits", quantity=1):
    return {"sku": sku, "quantity": quantity}


def good(**changed):
    return {"customer_id": "c", "lines": [line()], **changed}


# Each fault of PlaceOrder: the fields that must be named, and the request.
PLACE = [
    (["customer_id"], good(customer_id="")),
    (["customer_id"], good(customer_id="c" * 129)),
    (["customer_id"], good(customer_id="a\nb")),
    (["customer_id"], good(customer_id="a\x7fb")),
    (["request_id"], good(request_id="r" * 129)),
    (["request_id"], good(request_id="\t")),
    (["lines"], good(lines=[])),
    (["lines"], good(lines=[line(f"s{n}") for n in range(101)])),
    (["lines[0].sku"], good(lines=[line("")])),
    (["lines[0].sku"], good(lines=[line("s" * 65)])),
    (["lines[0].sku"], good(lines=[line("a b")])),
    (["lines[0].sku"], good(lines=[line("tée")])),
    (["lines[1].sku"], good(lines=[line(), line("a/b")])),
    (["lines[0].quantity"], good(lines=[line(quantity=0)])),
    (["lines[0].quantity"], good(lines=[line(quantity=1000001)])),
    (["lines[0].quantity"], good(lines=[line(quantity=2**32 - 1)])),
    (["lines[1].quantity"], good(lines=[line(quantity=600000), line(quantity=400001)])),
    (["labels"], good(labels={f"k{n}": "v" for n in range(17)})),
    (['labels[""].key'], good(labels={"": "v"})),
    ([f'labels["{"k" * 64}"].key'], good(labels={"k" * 65: "v"})),
    (['labels["k"].value'], good(labels={"k": "v" * 257})),
    (["hold"], good(hold={"seconds": 0})),
    (["hold"], good(hold={"nanos": 999999999})),
    (["hold"], good(hold={"seconds": -5})),
    (["hold"], good(hold={"seconds": 30 * 86400, "nanos": 1})),
    (["hold"], good(hold={"seconds": 2**62})),
    (["hold"], good(hold={"seconds": 60, "nanos": -1})),
    (
        ["request_id", "customer_id", "lines[0].sku", "lines[0].quantity", "hold"],
        {"request_id": "\n", "lines": [line("!", 0)], "hold": {}},
    ),
]
# What each limit just allows.
INSIDE = [
    good(customer_id="c" * 128),
    good(customer_id="ü" * 128),
    good(request_id="r" * 128),
    good(lines=[line(f"s{n}") for n in range(100)]),
    good(lines=[line("s" * 64), line("A-Z.a_z-0.9")]),
    good(lines=[line(quantity=1000000)]),
    good(lines=[line(quantity=600000), line(quantity=400000)]),
    good(labels={f"{n:064}": "v" * 256 for n in range(16)}),
    good(hold={"seconds": 1}),
    good(hold={"seconds": 30 * 86400}),
]
# The other methods: name, the fields that must be named, the request.
OTHERS = [
    ("GetOrder", ["order_id"], {}),
    ("ListOrders", ["customer_id"], {}),
    ("ListOrders", ["page_size"], {"customer_id": "c", "page_size": -1}),
    ("ListOrders", ["page_token"], {"customer_id": "c", "page_token": "t" * 513}),
    ("ListOrders", ["status"], {"customer_id": "c", "status": 99}),
    ("WatchOrder", ["order_id"], {}),
    ("ConfirmOrder", ["order_id"], {"order_id": "o" * 129}),
    ("CancelOrder", ["order_id", "reason"], {"reason": "r" * 257}),
    ("BatchConfirmOrders", ["requests"], {}),
    ("BatchConfirmOrders", ["requests"], {"requests": [{"order_id": "o"}] * 1001}),
    ("BatchCancelOrders", ["requests"], {}),
    ("BatchCancelOrders", ["requests"], {"requests": [{"order_id": "o"}] * 1001}),
    ("ExtendHold", ["hold_expire_time"], {"order_id": "o"}),
    ("ExtendHold", ["order_id", "hold_expire_time"], {"hold_expire_time": {"seconds": -1}}),
    ("ReturnOrder", ["order_id", "return_id"], {}),
    ("ReturnOrder", ["lines[0].quantity"], {"order_id": "o", "return_id": "r", "lines": [line(quantity=0)]}),
    ("ReturnOrder", ["reason"], {"order_id": "o", "return_id": "r", "reason": "r" * 257}),
    ("ExplainOrder", ["order_id"], {}),
    ("BatchPlaceOrders", ["requests"], {}),
    ("BatchPlaceOrders", ["requests"], {"requests": [good()] * 1001}),
    ("AdjustStock", ["sku"], {"delta": 1}),
    ("AdjustStock", ["sku"], {"sku": "a b", "delta": 1}),
    ("AdjustStock", ["delta"], {"sku": "s"}),
    ("AdjustStock", ["delta"], {"sku": "s", "delta": 1000000001}),
    ("AdjustStock", ["delta"], {"sku": "s", "delta": -(2**63)}),
    ("AdjustStock", ["request_id"], {"sku": "s", "delta": 1, "request_id": "r" * 129}),
    ("AdjustStock", ["reason"], {"sku": "s", "delta": 1, "reason": "r" * 257}),
    ("BatchAdjustStock", ["requests"], {"requests": [{"sku": "s", "delta": 1}] * 1001}),
    ("SetLowStockThreshold", ["sku"], {"low_stock_threshold": 1}),
    ("SetLowStockThreshold", ["low_stock_threshold"], {"sku": "s", "low_stock_threshold": 1000000000001}),
    ("SetLowStockThreshold", ["reason"], {"sku": "s", "reason": "r" * 257}),
    ("GetStock", ["sku"], {"sku": "*"}),
    ("ListStock", ["page_size"], {"page_size": -2147483648}),
    ("GetReservation", ["order_id"], {}),
    ("ListReservations", ["sku"], {}),
    ("ListReservations", ["page_size"], {"sku": "s", "page_size": -1}),
]


class Limits(tandem.Live):
    def violations(self, error):
        found = self.details(error)
        self.assertIn("ErrorInfo", found)
        return [violation.field for violation in found["BadRequest"].field_violations]

    def test_placing(self):
        for fields, request in PLACE:
            with self.subTest(fields=fields):
                error = self.fails(INVALID, self.order.PlaceOrder, **request)
                self.assertEqual(self.violations(error), fields)
                self.assertIn(fields[0], error.details())
        self.assertNotEqual(self.place("limits").order_id, "")

    def test_placing_in_a_batch(self):
        """Each item has an outcome of its own: the same details, in google.rpc.Status."""
        answer = self.order.BatchPlaceOrders(requests=[request for _, request in PLACE] + [good()])
        bad_request = self.protos.message("google.rpc.BadRequest")
        for (fields, _), item in zip(PLACE, answer.orders):
            with self.subTest(fields=fields):
                self.assertEqual(item.error.code, INVALID.value[0])
                packed = [d for d in item.error.details if d.type_url.endswith("BadRequest")]
                found = bad_request.FromString(packed[0].value)
                self.assertEqual([v.field for v in found.field_violations], fields)
        self.assertNotEqual(answer.orders[-1].order.order_id, "")

    def test_just_inside(self):
        for request in INSIDE:
            with self.subTest(request=str(request)[:80]):
                self.assertNotEqual(self.order.PlaceOrder(**request).order.order_id, "")

    def test_the_others(self):
        for method, fields, request in OTHERS:
            with self.subTest(method=method, fields=fields):
                call = getattr(self.order, method, None) or getattr(self.inventory, method)
                if method == "WatchOrder":
                    error = self.fails(INVALID, lambda: list(call(**request)))
                else:
                    error = self.fails(INVALID, call, **request)
                self.assertEqual(self.violations(error), fields)
        self.assertNotEqual(self.place("limits").order_id, "")

    def test_services_check_too(self):
        """The order service has a port of its own, so it checks what the gateway checks."""
        order, _ = self.connect("order")
        for fields, request in PLACE:
            with self.subTest(fields=fields):
                error = self.fails(INVALID, order.PlaceOrder, **request)
                self.assertEqual(self.violations(error), fields)
        self.assertNotEqual(order.PlaceOrder(**good()).order.order_id, "")


def field(number, data):
    """A length-delimited protobuf field; data shorter than 128 bytes."""
    return bytes([number << 3 | 2, len(data)]) + data


class Bytes(tandem.Live):
    """Requests that no generated code would make."""

    def setUp(self):
        channel = self.tandem.channel()
        self.addCleanup(channel.close)
        self.raw = {
            name: channel.unary_unary(f"/{tandem.ORDER_SERVICE}/{name}")
            for name in ("PlaceOrder", "BatchPlaceOrders", "GetOrder")
        }

    def tearDown(self):
        self.assertNotEqual(self.place("bytes").order_id, "", "the next good call works")

    def send(self, data, method="PlaceOrder"):
        """The status the bytes end with."""
        try:
            self.raw[method](data, timeout=10 * tandem.SLOW)
        except grpc.RpcError as error:
            self.assertNotEqual(error.details(), "")
            return error.code()
        return grpc.StatusCode.OK

    def test_text_that_is_not_utf8(self):
        lines = field(3, field(1, b"bytes") + b"\x10\x01")
        self.assertEqual(self.send(field(2, b"c") + lines), grpc.StatusCode.OK)
        wrong = [
            b"\xff",
            b"a\xc3",
            b"\xc0\xaf",  # overlong
            b"\xed\xa0\x80",  # a surrogate
            b"\xf4\x90\x80\x80",  # past U+10FFFF
            b"a\x00b",
        ]
        for text in wrong:
            with self.subTest(text=text):
                self.assertEqual(self.send(field(2, text) + lines), INVALID)
                self.assertEqual(
                    self.send(field(2, b"c") + field(3, field(1, b"s" + text) + b"\x10\x01")),
                    INVALID,
                )
                label = field(4, field(1, b"k") + field(2, text))
                self.assertEqual(self.send(field(2, b"c") + lines + label), INVALID)
                self.assertEqual(self.send(field(1, text), "GetOrder"), INVALID)

    def test_random_bytes(self):
        seed = random.SystemRandom().randrange(2**32)
        print("seed", seed)
        dice = random.Random(seed)
        allowed = (
            INVALID,
            grpc.StatusCode.INTERNAL,
            grpc.StatusCode.OK,
            grpc.StatusCode.NOT_FOUND,
        )
        for _ in range(600):
            data = dice.randbytes(dice.randrange(200))
            self.assertIn(self.send(data, dice.choice(list(self.raw))), allowed, data.hex())

    def test_damaged_requests(self):
        """A good request cut at every byte, and with every byte changed."""
        request = self.protos.message("tandem.order.v1.PlaceOrderRequest")(
            request_id="cut",
            customer_id="c",
            lines=[{"sku": "bytes", "quantity": 1}],
            labels={"k": "v"},
            hold={"seconds": 60},
        ).SerializeToString()
        allowed = (INVALID, grpc.StatusCode.OK, grpc.StatusCode.ALREADY_EXISTS)
        self.assertEqual(self.send(request), grpc.StatusCode.OK)
        for at in range(len(request)):
            self.assertIn(self.send(request[:at]), allowed, at)
            for flip in (0x01, 0x80, 0xFF):
                changed = request[:at] + bytes([request[at] ^ flip]) + request[at + 1 :]
                self.assertIn(self.send(changed), allowed, changed.hex())

    def test_unknown_fields_are_ignored(self):
        """A client of a later version sends a field that this version does not know."""
        request = field(2, b"c") + field(3, field(1, b"bytes") + b"\x10\x01") + field(15, b"new")
        self.assertEqual(self.send(request), grpc.StatusCode.OK)

    def test_deep_nesting(self):
        """Messages nested thousands of levels deep: an unknown field is skipped, a known one is
        invalid. Nothing recurses."""
        data = b""
        for _ in range(20000):
            size, length = len(data), b""
            while True:
                length += bytes([size & 0x7F | (0x80 if size > 0x7F else 0)])
                size >>= 7
                if not size:
                    break
            data = b"\x1a" + length + data
        self.assertEqual(self.send(data), INVALID)

    def test_too_large(self):
        self.assertEqual(self.send(os.urandom(5 << 20)), grpc.StatusCode.RESOURCE_EXHAUSTED)
        requests = {"requests": [good(labels={"k": "v" * 256}) for _ in range(1000)]}
        answer = self.order.BatchPlaceOrders(**requests)
        self.assertEqual(len(answer.orders), 1000, "the largest batch is not too large")


def largest(customer="answers", lines=100, labels=16, **more):
    """An order as large as the contract lets it be."""
    return {
        "customer_id": customer.ljust(128, "c"),
        "lines": [line(f"{n:03}".ljust(64, "s"), 1000000) for n in range(lines)],
        "labels": {f"{n:064}": "v" * 256 for n in range(labels)},
        **more,
    }


class Answers(tandem.Live):
    """What was accepted is answered in messages that fit the default limits of a client."""

    def setUp(self):
        channel = grpc.insecure_channel(f"127.0.0.1:{self.tandem.ports['gateway']}")
        self.addCleanup(channel.close)
        self.order = self.protos.stub(channel, tandem.ORDER_SERVICE)
        self.inventory = self.protos.stub(channel, tandem.INVENTORY_SERVICE)

    def refused(self, call, requests):
        """As a whole: INVALID_ARGUMENT that names the limit."""
        error = self.fails(INVALID, call, requests=requests, _timeout=30 * tandem.SLOW)
        violations = error.found["BadRequest"].field_violations
        self.assertEqual([violation.field for violation in violations], ["requests"])
        self.assertIn("at most 4194304", violations[0].description)

    def test_an_answer_that_would_be_too_large(self):
        """Refused before anything is stored, by the gateway and by the order service."""
        behind, _ = self.connect("order")
        batches = [
            [largest("refused", labels=0, request_id=f"r{n}") for n in range(330)],
            [largest("refused", lines=1, labels=12, request_id=f"s{n}") for n in range(1000)],
        ]
        for requests in batches:
            for order in (self.order, behind):
                with self.subTest(count=len(requests), gateway=order is self.order):
                    self.refused(order.BatchPlaceOrders, requests)
        page = self.order.ListOrders(customer_id="refused".ljust(128, "c"))
        self.assertEqual(len(page.orders), 0)

    def test_the_largest_batch(self):
        """It waits and lacks every line; a repeat is answered from the record."""
        requests = [largest(request_id=f"r{n}", wait_for_decision=True) for n in range(190)]
        seconds = 60 * tandem.SLOW
        first = self.order.BatchPlaceOrders(requests=requests, _timeout=seconds)
        ids = [item.order.order_id for item in first.orders]
        self.assertNotIn("", ids)
        names = self.decided(ids, 60)
        self.assertEqual(set(names.values()), {"REJECTED"})
        again = self.order.BatchPlaceOrders(requests=requests, _timeout=seconds)
        self.assertEqual([item.order.order_id for item in again.orders], ids)
        for item in again.orders:
            self.assertEqual(len(item.order.shortages), 100)
            self.assertEqual(len(item.order.labels), 16)

    def test_a_thousand(self):
        """1000 orders of 30 lines, as documented."""
        lines = [line(f"{n:02}".ljust(32, "s")) for n in range(30)]
        requests = [
            {"customer_id": "thousand", "lines": lines, "labels": {"k": "v" * 256, "l": "v" * 256}}
        ] * 1000
        answer = self.order.BatchPlaceOrders(requests=requests, _timeout=60 * tandem.SLOW)
        self.assertEqual({item.WhichOneof("result") for item in answer.orders}, {"order"})

    def test_a_thousand_errors(self):
        """Each item breaks as many limits as it can, with the longest descriptions there are."""
        bad = {
            "request_id": "\n",
            "lines": [line("no sku", 0)] * 5,
            "labels": {f"{n:02}".ljust(65, "k"): "v" for n in range(16)},
        }
        answer = self.order.BatchPlaceOrders(requests=[bad] * 1000, _timeout=60 * tandem.SLOW)
        self.assertEqual({item.error.code for item in answer.orders}, {INVALID.value[0]})
        requests = [
            {"request_id": "\n", "sku": "no sku", "delta": 0, "reason": "r" * 257},
            {"sku": "s" * 64, "delta": -1000000000, "reason": "r" * 256},
        ] * 500
        answer = self.inventory.BatchAdjustStock(requests=requests, _timeout=60 * tandem.SLOW)
        self.assertEqual(len(answer.stocks), 1000)

    def test_an_error_with_many_faults(self):
        """100 bad lines, 16 bad labels: details are cut to what a client accepts as metadata."""
        for letter in ("k", "ü"):
            error = self.fails(
                INVALID,
                self.order.PlaceOrder,
                customer_id="",
                lines=[line("no sku", 2**32 - 1)] * 100,
                labels={f"{n:02}".ljust(70, letter): "v" * 300 for n in range(16)},
            )
            self.assertEqual(len(error.found["BadRequest"].field_violations), 20)
            error = self.fails(
                INVALID,
                self.order.PlaceOrder,
                customer_id="c",
                lines=[line()],
                labels={f"{n:02}".ljust(70, letter): "v" * 300 for n in range(16)},
            )
            self.assertEqual(len(error.found["BadRequest"].field_violations), 20)
        error = self.fails(grpc.StatusCode.NOT_FOUND, self.order.GetOrder, order_id="🍏" * 128)
        self.assertIn("🍏", error.details())


class Pages(tandem.Live):
    """AIP-158, for every list there is."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for n in range(7):
            for customer in ("ann", "bob"):
                cls.order.PlaceOrder(customer_id=customer, lines=[line()])
            cls.inventory.AdjustStock(sku=f"page-{n}", delta=1)

    def lists(self):
        """Method, the fields that name the list, what is listed, ways to name another list."""
        return [
            (self.order.ListOrders, {"customer_id": "ann"}, "orders",
             [{"customer_id": "bob"}, {"customer_id": "ann", "status": 1}]),
            (self.inventory.ListStock, {}, "stocks", []),
        ]

    def test_sizes(self):
        """The size of a page may change from page to page; every item comes once."""
        for call, fields, items, _ in self.lists():
            everything = list(getattr(call(**fields), items))
            for sizes in ((1, 2, 3), (3, 1000, 1), (0, 1), (2, 2**31 - 1), (1, 0)):
                with self.subTest(items=items, sizes=sizes):
                    seen, token = [], ""
                    for size in sizes:
                        page = call(page_size=size, page_token=token, **fields)
                        got = list(getattr(page, items))
                        self.assertLessEqual(len(got), size or 50)
                        seen, token = seen + got, page.next_page_token
                        if not token:
                            break
                    self.assertEqual(seen, everything[: len(seen)])
                    self.assertEqual(token == "", len(seen) == len(everything))
            for size in (-1, -(2**31)):
                error = self.fails(INVALID, call, page_size=size, **fields)
                self.assertEqual(error.found["BadRequest"].field_violations[0].field, "page_size")

    def test_tokens(self):
        """A token of another list, or no token at all: the error names page_token."""
        tokens = {
            items: call(page_size=2, **fields).next_page_token
            for call, fields, items, _ in self.lists()
        }
        for call, fields, items, others in self.lists():
            token = tokens[items]
            wrong = [(fields, text) for text in ("x", "0", "page-1", "a/ü", token[1:], token[:-1])]
            wrong += [(fields, token + "a"), (fields, token.swapcase()), (fields, token * 2)]
            wrong += [(fields, other) for name, other in tokens.items() if name != items]
            wrong += [(other, token) for other in others]
            for asked, text in wrong:
                with self.subTest(items=items, token=text, asked=asked):
                    error = self.fails(INVALID, call, page_size=2, page_token=text, **asked)
                    violations = error.found["BadRequest"].field_violations
                    self.assertEqual([v.field for v in violations], ["page_token"])
                    self.assertIn("ErrorInfo", error.found)
            self.assertGreater(len(getattr(call(page_token=token, **fields), items)), 0)


class SmallRequests(tandem.Live):
    """A gateway that accepts only small requests still accepts large answers of the services."""

    ENV = {"TANDEM_GATEWAY_MESSAGE_MAX": "16KiB"}

    def test_answers_are_larger_than_requests(self):
        skus = [f"{n:02}".ljust(64, "s") for n in range(15)]
        requests = [
            {"customer_id": "small", "request_id": f"r{n}", "lines": [line(sku) for sku in skus]}
            for n in range(14)
        ]
        placed = self.order.BatchPlaceOrders(requests=requests)
        self.decided([item.order.order_id for item in placed.orders])
        again = self.order.BatchPlaceOrders(requests=requests)
        self.assertGreater(again.ByteSize(), 16384)
        page = self.order.ListOrders(customer_id="small")
        self.assertEqual(len(page.orders), 14)
        self.assertGreater(page.ByteSize(), 16384)


class Frames(tandem.Live):
    """Connections that break the rules of HTTP/2 or of gRPC on top of it."""

    PATH = f"/{tandem.ORDER_SERVICE}/PlaceOrder"

    def tearDown(self):
        self.assertNotEqual(self.place("frames").order_id, "", "the next good call works")

    def open(self):
        connection = http2.connect(self.tandem.ports["gateway"])
        self.addCleanup(connection.close)
        return connection

    def answers(self, connection):
        """The kinds of frames that come until the stream or the connection ends: headers, data and
        reset of stream 1, GOAWAY, or "closed"."""
        got = []
        try:
            for kind, flags, stream, _ in http2.frames(connection):
                if kind == GOAWAY or (stream == 1 and kind in (HEADERS, DATA, RST_STREAM)):
                    got.append(kind)
                if kind in (RST_STREAM, GOAWAY) or (stream == 1 and flags & END_STREAM):
                    return got
        except socket.timeout:
            self.fail(f"no end came: {got}")
        return got + ["closed"]

    def call(self, path, body):
        """What a call on a connection of its own is answered with."""
        connection = self.open()
        connection.sendall(http2.call(path, body))
        return self.answers(connection)

    def test_a_call_by_hand(self):
        """A good call, so that the failures below are not due to the way these frames are made."""
        order = field(2, b"c") + field(3, field(1, b"frames") + b"\x10\x01")
        self.assertEqual(self.call(self.PATH, http2.message(order)), [HEADERS, DATA, HEADERS])

    def test_a_message_cut_short(self):
        """gRPC's own frame says 100 bytes, 10 come, the stream ends."""
        for body in (b"\0\0\0\0\x64" + b"x" * 10, b"\0\0\0", b"", b"\x07\0\0\0\x01x"):
            with self.subTest(body=body):
                kinds = self.call(self.PATH, body)
                self.assertIn(kinds[-1], (HEADERS, RST_STREAM))
                self.assertNotIn(DATA, kinds, "no order was placed")

    def test_frames_cut_short(self):
        """The connection ends in the middle of every kind of frame."""
        whole = http2.call(self.PATH, b"\0\0\0\0\x64" + b"x" * 50)
        for cut in range(0, len(whole), 7):
            connection = self.open()
            connection.sendall(whole[:cut])
            connection.close()

    def test_bytes_that_are_not_http2(self):
        junk = [
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100,  # TLS
            os.urandom(1000),
            PREFACE + http2.frame(DATA, 0, 0, b"data on stream 0"),
            PREFACE + http2.frame(HEADERS, END_HEADERS, 1, b"\xff" * 40),
            PREFACE + http2.frame(CONTINUATION, END_HEADERS, 1, http2.block(self.PATH)),
            PREFACE + http2.frame(SETTINGS, 0, 0, b"\0" * 5),
            PREFACE + struct.pack(">I", 0xFFFFFF)[1:] + bytes(6),
        ]
        for data in junk:
            with self.subTest(data=data[:30]):
                connection = self.open()
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
                self.answers(connection)

    def test_unknown_methods(self):
        """UNIMPLEMENTED, as trailers without a message."""
        for path in ("/tandem.order.v1.OrderService/Nothing", "/nothing", "nothing"):
            with self.subTest(path=path):
                self.assertNotIn(DATA, self.call(path, http2.message(b"")))
        channel = self.tandem.channel()
        self.addCleanup(channel.close)
        self.fails(
            grpc.StatusCode.UNIMPLEMENTED, channel.unary_unary("/tandem.order.v1.Nothing/Do"), b""
        )


class Unread(tandem.Live):
    """Answers that a client does not read, because it grants no window for them."""

    LIST = "/tandem.order.v1.OrderService/ListOrders"
    CALLS, LIMIT = 20, 200_000
    ENV = {"TANDEM_GATEWAY_UNREAD_PER_CONNECTION": str(LIMIT)}

    def refused(self):
        return self.tandem.gateway.metric("tandem_calls_refused_total", reason="UNREAD_PER_CONNECTION")

    def are_refused(self, connection, count):
        """So many calls are answered that the connection has to read first."""
        for kind, flags, _, payload in http2.frames(connection):
            if kind == HEADERS and flags & END_STREAM:
                self.assertIn(b"UNREAD_PER_CONNECTION is used up", payload)
                count -= 1
                if count == 0:
                    return
        self.fail(f"{count} more should be refused")

    def test_some_wait_and_the_others_fail(self):
        labels = {f"k{n}": "v" * 250 for n in range(16)}
        requests = [good(request_id=f"unread-{n}", labels=labels) for n in range(10)]
        self.order.BatchPlaceOrders(requests=requests)
        answer = self.order.ListOrders(customer_id="c")
        self.assertEqual(len(answer.orders), 10)
        refused = self.refused()
        waiting = self.LIMIT // answer.ByteSize()  # so many there is room for
        connection = http2.connect(self.tandem.ports["gateway"])
        self.addCleanup(connection.close)
        sent = PREFACE + http2.frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0))  # no window
        for n in range(self.CALLS):
            sent += http2.frame(HEADERS, END_HEADERS, 1 + 2 * n, http2.block(self.LIST))
            sent += http2.frame(DATA, END_STREAM, 1 + 2 * n, http2.message(b"\n\1c"))
        connection.sendall(sent)
        self.are_refused(connection, self.CALLS - waiting)
        self.assertGreater(waiting, 1)
        self.assertEqual(self.refused() - refused, self.CALLS - waiting)
        # Others have their own; what was not read is forgotten with its connection.
        self.assertEqual(len(self.order.ListOrders(customer_id="c").orders), 10)

    def test_large_ones_are_not_asked_for(self):
        """Once an answer was large, calls for more than there is room for never reach the order service."""
        labels = {f"k{n}": "v" * 250 for n in range(16)}
        requests = [good(customer_id="large", request_id=f"large-{n}", labels=labels) for n in range(18)]
        self.order.BatchPlaceOrders(requests=requests)
        size = self.order.ListOrders(customer_id="large").ByteSize()
        self.assertGreater(size, 65536)
        connection = http2.connect(self.tandem.ports["gateway"])
        self.addCleanup(connection.close)
        connection.sendall(PREFACE + http2.frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0)))

        def ask(calls):
            for n in calls:
                connection.sendall(
                    http2.frame(HEADERS, END_HEADERS, 1 + 2 * n, http2.block(self.LIST))
                    + http2.frame(DATA, END_STREAM, 1 + 2 * n, http2.message(b"\n\5large"))
                )

        def asked():
            return self.tandem.order.metric("grpc_server_handled_total", grpc_method="ListOrders", grpc_code="OK")

        before = asked()
        ask(range(1))
        tandem.until(lambda: asked() == before + 1, 10 * tandem.SLOW, "the first answer is there")
        ask(range(1, self.CALLS))
        room = self.LIMIT // size
        self.are_refused(connection, self.CALLS - room)
        tandem.until(lambda: asked() == before + room, 10 * tandem.SLOW, "the order service has answered all that it was asked")


if __name__ == "__main__":
    tandem.main()
