"""Hostile data in Redis: every subcommand of tandemctl that reads, with and without --json, must end
with a documented exit code and print nothing that a terminal would act on; the services keep running."""
import concurrent.futures
import json
import re
import subprocess

import tandem

# One character of each invisible kind: they would end a line, colour it, reverse it or hide.
HIDDEN = "a\x1b[31m\x07\x7f\x9b\u00ad\u061c\u200b\u200d\u200f\u2028\u2029\u202e\u2066\u2060\ufeff\U000e0041z"
# OrderActors: who placed the order.
ACTORS = b"\x08\x01\x12" + bytes([len(HIDDEN.encode())]) + HIDDEN.encode()
ACTORS = b"z" + bytes([len(ACTORS)]) + ACTORS
TYPES = (
    "tandem.order.v1.OrderPlaced",
    "tandem.order.v1.OrderCancelled",
    "tandem.inventory.v1.InventoryReserved",
    "tandem.inventory.v1.InventoryUnavailable",
    "tandem.inventory.v1.StockAdjusted",
    "google.rpc.BadRequest",
    "nobody.knows.This",
)
STREAMS = (tandem.ORDERS, tandem.STOCK, "order:{0}:dead", "inventory:{0}:dead", *tandem.ASIDE)
EVENTS, DEAD, ASIDE = STREAMS[:2], STREAMS[2:4], STREAMS[4:]
TRAILS = ("order:{0}:trail", "inventory:{0}:trail")
CUSTOMER = "victim"
CUSTOMERS = f"order:{{0}}:customer:{CUSTOMER}"
TIMERS, HELD, STOCK, SKUS = "order:{0}:timers", "inventory:{0}:r", "inventory:{0}:stock", "inventory:{0}:skus"
KEYS = (
    *STREAMS,
    tandem.Record.KEY,
    TIMERS,
    "order:{0}:cursor",
    CUSTOMERS,
    "order:{0}:excluded_groups",
    HELD,
    STOCK,
    SKUS,
    "inventory:{0}:cursor",
    "inventory:{0}:excluded_groups",
)

# Invisible characters, and those that move visible ones; newlines are allowed.
UNSEEN = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e007f]"
)


def varint(n):
    """A number as protobuf writes it."""
    text = b""
    while n > 0x7F:
        text += bytes([n & 0x7F | 0x80])
        n >>= 7
    return text + bytes([n])


class Hostile(tandem.Live):
    @classmethod
    def setUpClass(cls):
        """An order that is RESERVED, and one that is settled."""
        super().setUpClass()
        cls.redis = cls.tandem.redis_as("ops")
        cls.stock("tea", 100000)
        lines = [{"sku": "tea", "quantity": 1}]
        place = lambda **more: cls.order.PlaceOrder(  # noqa: E731
            customer_id=CUSTOMER, lines=lines, wait_for_decision=True, **more
        ).order.order_id
        cls.good = place(labels={HIDDEN: HIDDEN, "k": "\x1b[2J\x00"[:-1]})
        cls.ended = place()
        cls.order.CancelOrder(order_id=cls.ended, reason=HIDDEN)
        cls.settled(cls.ended)

    def faults(self, args):
        """Runs one command; what is wrong with its end or its output, as a list of texts."""
        try:
            done = self.tandem.ctl(*args, stdin=subprocess.DEVNULL, text=False)
        except (AssertionError, subprocess.TimeoutExpired) as error:
            return [str(error)]
        found = []
        for name, text in (("stdout", done.stdout), ("stderr", done.stderr)):
            try:
                bad = sorted({f"U+{ord(c):04X}" for c in UNSEEN.findall(text.decode())})
                if bad:
                    found.append(f"{name} holds {bad}")
            except UnicodeDecodeError as error:
                found.append(f"{name} is not UTF-8: {error}")
        if done.returncode != 0 and not done.stdout and not done.stderr:
            found.append(f"ended with {done.returncode} and did not say why")
        if "--json" in args:
            if not done.stdout.isascii():
                found.append("its JSON is not pure ASCII")
            for line in done.stdout.splitlines():
                try:
                    json.loads(line)
                except ValueError as error:
                    found.append(f"not JSON: {line[:200]!r}: {error}")
        return [f"{' '.join(map(repr, args))}: {text}" for text in found]

    def survive(self, commands):
        """Runs all of these commands, each with and without --json."""
        runs = [[*args, *more] for args in commands for more in ((), ("--json",))]
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            found = [text for texts in pool.map(self.faults, runs) for text in texts]
        self.assertEqual(found, [], "\n".join(found))

    # ---- what is planted ----

    def entry(self, stream, *fields, id="*"):
        return self.redis("XADD", stream, id, *fields).decode()

    def event(self, to, type_, subject, data=b"", seq=1, **more):
        """Adds an entry with the fields of an event."""
        fields = {"type": type_, "subject": subject, "seq": seq, "data": data}
        fields.update({"id": "x/1", "time": "2026-01-01T00:00:00.000Z", **more})
        return self.entry(to, *[part for pair in fields.items() for part in pair])

    def plant_entries(self):
        """Entries in all streams; the services move those in the event streams to the dead letters."""
        lines = b"".join(b"\x12\x05\x0a\x01a\x10\x01" for _ in range(2000))
        contents = {
            "not a message": b"\xff" * 40,
            "cut off": b"\x0a\x7fx",
            "nothing but tags": b"\x0a" * 1000,
            "nested deep": b"".join(b"\x0a" + bytes([n]) for n in range(126, 0, -2)),
            "many lines": b"\x0a" + varint(len(lines)) + lines,
            "no UTF-8": b"\x0a\x05\x0a\x03\xed\xa0\x80",
            "a NUL": b"\x0a\x04\x0a\x02a\x00",
            "directions": b"\x0a" + bytes([len(HIDDEN.encode()) + 2]) + b"\x0a"
            + bytes([len(HIDDEN.encode())]) + HIDDEN.encode(),
            "a hold out of range": b"\x0a\x0d\x22\x0b\x08" + b"\xff" * 9 + b"\x7f",
            "nothing": b"",
        }
        binary = bytes(range(256))
        self.ids = []
        for stream in (*STREAMS, *TRAILS):
            add = lambda *fields: self.ids.append(self.entry(stream, *fields))  # noqa: E731
            add("x", bytes(64))
            add("", "")
            add(b"\x00", b"\x00")
            add(binary, binary)
            if stream in STREAMS[1:3]:
                add("big", b"\x00" * (1 << 20))
                add(b"k" * (1 << 20), "v")
                add("data", b"\x0a\x80\xb5\x18" + b"\x0a\x04abcd" * 66666, "type", TYPES[0])
            add("type", "t" * 3000, "subject", "s" * 3000, "seq", "9" * 3000)
            add(*[word for n in range(3000) for word in (f"f{n}", "v")])
            add("context", "elsewhere", "stream_id", "0-0", "undecoded", "yes", "type", "a\0b")
            add("type", HIDDEN, "subject", HIDDEN, "seq", HIDDEN, "time", HIDDEN, "id", HIDDEN,
                "attempt", HIDDEN, "traceparent", HIDDEN, "actor", HIDDEN, "reason", HIDDEN, "replayed", HIDDEN)
            for number, content in enumerate(contents.values()):
                self.ids.append(self.event(stream, TYPES[0], self.good, content))
                self.ids.append(self.event(stream, TYPES[1 + number % 6], self.good, content))
            for number in ("-1", "0", "1e9", "nan", "18446744073709551615", "99999999999999999999"):
                self.ids.append(self.event(stream, TYPES[0], self.good, seq=number, attempt=number,
                                           replayed=number, deliveries=number, stream=stream,
                                           stream_id=number, dead_time=number))
            # Many events, with a batch of another length, or invalid names.
            for number, content in enumerate(contents.values()):
                names = f"{self.good}/{number} {HIDDEN}/1 /2 x//3"
                add(TYPES[number % len(TYPES)], names, "time", HIDDEN, "batch", content)
            add(TYPES[0], self.good + "/1 " * 5000)
            add(TYPES[0], f"{self.good}/99999999999999999999", TYPES[1], "a/1", TYPES[0], " / /")
            # Like a dead letter, from a stream into which it may be replayed.
            self.ids.append(self.event(stream, TYPES[0], "\x1b[2J", stream=STREAMS[0],
                                       stream_id="1-1", group=HIDDEN, reason=HIDDEN))

    def plant_orders(self):
        """Orders, reservations, timers and stock that make no sense; their ids."""
        sound = self.record(self.good)
        sound.history = b"placed@1764000000000-1 reserved+5-2"
        faults = [
            {"state": "LOST"}, {"state": b"\x00" * 50}, {"state": HIDDEN},
            {"version": "-1"}, {"version": "9" * 30}, {"version": "18446744073709551615"},
            {"hold": "-5"}, {"hold": "9223372036854775807"}, {"hold": "x"}, {"hold": b"\x00"},
            {"attempt": " attempt=-7"}, {"attempt": " attempt=99999999999"}, {"attempt": b" \xff"},
            {"history": ""}, {"history": b"\x00placed"}, {"history": "x" * (1 << 20)},
            {"history": "placed@9223372036854775807-1 reserved+9223372036854775807-2"},
            {"history": "placed@99999999999999999999-1 reserved+0-2"},
            {"history": "placed@-9223372036854775808-1 reserved+-1-2"},
            {"history": "placed@0-18446744073709551615 reserved+0-18446744073709551615"},
            {"history": "placed@1-1 " + "again+1-2 " * 50000 + "reserved+5-2"},
            {"placed": b""}, {"placed": b"\xff" * 9}, {"placed": b"\x0a\x03\x0a\x01\xff"},
            {"placed": b"\x0a\x04\x0a\x02a\x00"}, {"placed": b"\x0a" * 5000},
            {"placed": b"p" * (1 << 20)},
            {"state": "REJECTED", "history": "placed@1-1 rejected+5-2",
             "detail": b"\xff" * 50},
            {"state": "CANCELLED~", "history": "placed@1-1 cancelled+5-2",
             "detail": b"\x0a" + bytes([len(HIDDEN.encode())]) + HIDDEN.encode()},
            {"state": "CANCELLED~", "history": "placed@1-1 cancelled+5-2", "detail": b"\x0a\x01\xff"},
            {"detail": ACTORS}, {"detail": ACTORS[:-1]}, {"detail": b"z" + b"\xff" * 20},
            {"state": "CANCELLED~", "history": "placed@1-1 cancelled+5-2", "detail": ACTORS + b"\x0a\x01x"},
        ]
        names = []
        for number, fault in enumerate(faults):
            names.append("ord_" + "a" * 23 + f"{number:03}".translate(str.maketrans("0189", "wxyz")))
            fault = {k: v if isinstance(v, bytes) else v.encode() for k, v in fault.items()}
            self.redis("HSET", tandem.Record.KEY, names[-1], sound.change(**fault))
            self.redis("ZADD", CUSTOMERS, "0", names[-1])
            self.redis("ZADD", TIMERS, ("inf", "-inf", "-1", "1e300")[number % 4], names[-1])
        strange = ["x", HIDDEN, "", " ", "\x1b[31m"]
        for name in [*strange, b"a\x00b", b"\x00", b"\xff\xfe", b"n" * 5000]:
            name = name if isinstance(name, bytes) else name.encode()
            self.redis("HSET", tandem.Record.KEY, name, "PENDING")
            self.redis("ZADD", TIMERS, "5", name)
            self.redis("HSET", HELD, name, "RESERVED 1 1 tea=1")
            self.redis("HSET", STOCK, name, "1 0 0 1 1")
            self.redis("ZADD", SKUS, "0", name)
            self.redis("ZADD", CUSTOMERS, "0", name)
        records = ["", "x", "RESERVED", "RESERVED 1", "RESERVED -1 -1 tea=1", "LOST 1 1 tea=1",
                   "RESERVED 99999999999999999999 99999999999999999999 tea=1",
                   "RESERVED 1 1 tea=99999999999999999999 =5 = a=b=c", "RESERVED 1 1 " + HIDDEN,
                   b"RESERVED 1 1 tea=1\x00tea=1", b"\x00", b"\xff" * 300, "RESERVED 1 1 " + "a=1 " * 50000]
        for number, record in enumerate(records):
            self.redis("HSET", HELD, names[number], record)
        line = b"PENDING 1 5 placed@1-1\n"
        for letter, text in zip("bcdefgh", (b"a text", b"", b"\n", line, line + b"-1\n",
                                            line + b"99999999999\n", line + b"5\nab")):
            names.append("ord_" + letter * 26)
            self.redis("HSET", tandem.Record.KEY, names[-1], text)
        counters = ["", "1 2 3", "-1 0 0 -1 1", "9" * 400, "1 0 0 1 1 ", b"1 0 0 1 1\x001", HIDDEN,
                    "18446744073709551615 1 0 0 1", b"\xff" * 200]
        for number, text in enumerate(counters):
            self.redis("HSET", STOCK, f"strange-{number}", text)
            self.redis("ZADD", SKUS, "0", f"strange-{number}")
        return names

    def plant_groups(self):
        for stream in STREAMS[:2]:
            for name in (b"g\x00h", HIDDEN.encode(), b"\xff\xfe", b" ", b"g" * 3000):
                self.redis("XGROUP", "CREATE", stream, name, "0")
                self.redis("XREADGROUP", "GROUP", name, name, "COUNT", "3", "STREAMS", stream, ">")
            own = "inventory" if stream.startswith("order") else "order"
            for name in (b"c\x00d", HIDDEN.encode(), b"\xff"):
                self.redis("XGROUP", "CREATECONSUMER", stream, own, name)

    # ---- what reads it ----

    def commands(self, *keys):
        """Every subcommand that reads; with keys, those that read one of these."""
        ends = ("18446744073709551615-18446744073709551615", "0-0")
        commands = [
            (["order", "get", self.good], ()),
            (["order", "list", CUSTOMER], (CUSTOMERS,)),
            (["order", "watch", self.ended], EVENTS[:1]),
            (["stock", "get", "tea"], (STOCK,)),
            (["stock", "list"], (STOCK, SKUS)),
            (["events", "tail"], EVENTS),
            (["events", "tail", "-n", "100000"], EVENTS),
            (["events", "tail", "--order", self.good, "--since", "1h"], EVENTS),
            (["events", "lag"], (*EVENTS, *ASIDE)),
            (["events", "aside"], (*EVENTS, *ASIDE)),
            (["events", "aside", "--order", self.good], (*EVENTS, *ASIDE)),
            *[(["events", "show", i], EVENTS) for i in (*ends, f"{self.good}/1", HIDDEN, "/")],
            (["dead", "list"], DEAD),
            (["dead", "list", "--reason", "\u202e"], DEAD),
            (["dead", "show", *ends], DEAD),
            (["dead", "replay", "--all", "--dry-run"], DEAD),
            (["dead", "discard", "--all", "--dry-run"], DEAD),
            (["audit", "--window", "10ms"], KEYS),
            (["doctor"], KEYS),
            (["trail"], TRAILS),
            (["trail", "--subject", HIDDEN], TRAILS),
            (["explain", self.good], (*STREAMS, tandem.Record.KEY, TIMERS, HELD)),
        ]
        return [args for args, reads in commands if not keys or set(keys) & set(reads)]

    def lives(self):
        """The services accept and decide orders, and have not crashed."""
        for service in tandem.SERVICES:
            self.assertIsNone(self.tandem.processes[service].popen.poll(), service)
        order = self.place("tea")
        self.assertEqual(self.decided([order.order_id], 30), {order.order_id: "RESERVED"})

    # ---- in this order, because each leaves more behind ----

    def wrong(self, key, command, *values):
        """Replaces the key by what the command makes of these values, while the commands that read it run."""
        with self.subTest(key=key):
            there = self.redis("EXISTS", key)
            if there:
                self.redis("RENAME", key, "kept:" + key)
            # One step: a service may write the key at any moment.
            self.redis("EVAL", "redis.call('DEL', KEYS[1]) return redis.call(ARGV[1], KEYS[1], unpack(ARGV, 2))", 1, key, command, *values)
            try:
                self.survive([args for args in self.commands(key) if "show" not in args])
            finally:
                self.redis("DEL", key)
                if there:
                    self.redis("RENAME", "kept:" + key, key)

    def test_0_wrong_types(self):
        """A string or a list where another type is expected, key by key; afterwards orders are decided."""
        for number, key in enumerate(KEYS):
            if number % 2:
                self.wrong(key, "SET", b"\x00\xff" + HIDDEN.encode())
            else:
                self.wrong(key, "RPUSH", b"\x00", HIDDEN)
        self.lives()

    def test_1_all_of_it(self):
        """Entries, orders, reservations, counters and groups that Tandem would not write."""
        self.plant_groups()
        self.plant_entries()
        orders = self.plant_orders()
        self.survive(self.commands() + [["explain", order] for order in (HIDDEN, "", *orders)])
        some = self.ids[:: max(1, len(self.ids) // 15)]
        self.survive([["dead", "show", i] for i in some] + [["events", "show", i] for i in some])
        audit = self.tandem.ctl("audit", "--window", "10ms", "--json").stdout
        for fault in ("order-damaged", "reservation-damaged", "stock-damaged", "no-order-id"):
            self.assertIn(fault, audit)
        for order in orders:
            for call in (self.order.GetOrder, self.order.ExplainOrder):
                try:
                    call(order_id=order)
                except tandem.grpc.RpcError as error:
                    self.assertIn(error.code().name, ("DATA_LOSS", "INTERNAL", "NOT_FOUND"))
        self.order.ListOrders(customer_id=CUSTOMER, page_size=1000)
        self.lives()

    def test_2_replayed_and_thrown_away(self):
        self.survive([["dead", "replay", "--all", "--limit", "50"], ["dead", "list"]])
        self.survive([["dead", "discard", "--all", "--yes", "--why", HIDDEN], ["dead", "list"]])
        self.lives()

    def test_3_streams_at_the_last_id_there_is(self):
        for stream in STREAMS[::-1]:
            self.entry(stream, "x", bytes(8), id="18446744073709551615-18446744073709551615")
        self.survive(self.commands(*STREAMS))
        for service in tandem.SERVICES:
            self.assertIsNone(self.tandem.processes[service].popen.poll(), service)


if __name__ == "__main__":
    tandem.main()
