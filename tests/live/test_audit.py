"""tandemctl audit and doctor: a sound system has no violations, under load too; faults planted by hand
are named, and repaired where that is safe. Faults that do not affect each other are planted together, so
that one run, which costs a process, finds many."""
import contextlib
import re
import socket
import subprocess
import threading

import tandem
from tandem import Record

ORDER, STOCK, HELD, TIMERS = (
    Record.KEY,
    "inventory:{0}:stock",
    "inventory:{0}:r",
    "order:{0}:timers",
)


class AuditAndDoctor(tandem.Live):
    ENV = {
        "TANDEM_ORDER_RETRY_MIN": "500ms",
        "TANDEM_ORDER_RETRY_MAX": "2s",
        "TANDEM_ORDER_TIMERS_EVERY": "50ms",
    }

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.ops = cls.tandem.redis_as("ops")

    def setUp(self):
        self.sku = self.id().rpartition(".")[2][:50]
        self.expected, self.undo = set(), []
        self.addCleanup(self.restore)

    def restore(self):
        """Removes what was planted."""
        for command in self.undo:
            self.ops(*command)
        self.expected, self.undo = set(), []

    def audit(self, *args, env=None):
        """What audit names, as a set of (violation, order id or SKU), and its last line."""
        # Without the archive, which damage done by hand makes differ: test_archive.py compares it.
        env = {"TANDEM_GATEWAY_LISTEN": "127.0.0.1:1", **(env or {})}
        code, lines = self.tandem.ctl_json("audit", "--window", "300ms", *args, env=env)
        summary = lines.pop()
        named = {(line["violation"], line.get("order_id") or line["sku"]) for line in lines}
        self.assertEqual(code, 1 if named else 0, lines)
        self.assertEqual(summary["violations"], len(lines))
        return named, summary

    def is_clean(self):
        named, summary = self.audit()
        self.assertEqual(named, set())
        return summary

    def finds(self):
        """What was planted is named, and nothing else."""
        self.assertEqual(self.audit()[0], self.expected)

    def in_status(self, status, sku):
        """An order that stays in a status."""
        quantity = 1000000 if status == "REJECTED" else 2
        order_id = self.place(sku, quantity).order_id
        self.decided([order_id])
        if status == "CONFIRMED":
            self.order.ConfirmOrder(order_id=order_id)
        elif status == "CANCELLED":
            self.order.CancelOrder(order_id=order_id)
        order = self.get(order_id) if status == "RESERVED" else self.settled(order_id)
        self.assertEqual(self.name(order), status)
        return order_id

    def new(self, status, name):
        """A SKU of its own, and an order for two of it."""
        sku = f"{self.sku}-{name}"
        self.stock(sku, 1000)
        return sku, self.in_status(status, sku)

    def held(self, order_id):
        return self.ops("HGET", HELD, order_id)

    def change_order(self, order_id, change):
        """Changes the Record of an order."""
        good = self.ops("HGET", ORDER, order_id)
        self.undo.append(("HSET", ORDER, order_id, good))
        self.ops("HSET", ORDER, order_id, change(Record.read(good)))

    def count(self, sku, *by):
        """Adds to a SKU's counters, which may then be wrong: available, reserved, committed, received."""
        good = self.ops("HGET", STOCK, sku)
        numbers = [int(number) for number in good.split()]
        for at, more in enumerate(by):
            numbers[at] += more
        self.ops("HSET", STOCK, sku, " ".join(map(str, numbers)))
        self.undo.append(("HSET", STOCK, sku, good))
        return numbers

    @contextlib.contextmanager
    def before_command(self, word, act):
        """The environment for a tandemctl whose commands pass through here; `act` runs before one that
        contains the word is passed on."""

        def forward(from_, to, check):
            with contextlib.suppress(OSError):
                while data := from_.recv(1 << 20):
                    if check and word in data:
                        act()
                    to.sendall(data)
            with contextlib.suppress(OSError):
                to.shutdown(socket.SHUT_RDWR)

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    redis = socket.create_connection(("127.0.0.1", self.tandem.redis_port))
                    sockets.extend((client, redis))
                    for pair in ((client, redis, True), (redis, client, False)):
                        threads.append(threading.Thread(target=forward, args=pair))
                        threads[-1].start()

        listener = socket.create_server(("127.0.0.1", 0))
        sockets, threads = [listener], [threading.Thread(target=serve)]
        threads[0].start()
        try:
            yield {"TANDEM_REDIS_PORT": str(listener.getsockname()[1])}
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()
            for each in sockets:
                each.close()

    # ---- a sound system ----

    def test_a_clean_system(self):
        self.stock(self.sku, 1000)
        before = self.is_clean()
        for status in ("RESERVED", "CONFIRMED", "CANCELLED", "REJECTED"):
            self.in_status(status, self.sku)
        after = self.is_clean()
        self.assertEqual(after["orders"], before["orders"] + 4)
        self.assertEqual(after["reservations"], before["reservations"] + 4)
        self.assertEqual(after["timers"], before["timers"] + 1)
        self.assertGreaterEqual(after["skus"], 1)
        for status in ("RESERVED", "CONFIRMED", "CANCELLED", "REJECTED"):
            self.assertEqual(after["states"][status], before["states"][status] + 1)

    def test_without_the_password(self):
        """The default user finds the same, and repairs nothing."""
        nameless = {"TANDEM_VAR": "/nonexistent"}
        sku, order_id = self.new("RESERVED", "nameless")
        named, summary = self.audit(env=nameless)
        self.assertEqual((named, summary["not_checked_skus"]), (set(), 0))
        self.assertEqual(summary, self.audit()[1])
        self.undo.append(("ZADD", TIMERS, self.ops("ZSCORE", TIMERS, order_id), order_id))
        self.count(sku, 1)
        self.ops("ZREM", TIMERS, order_id)
        expected = {("stock-sum", sku), ("no-timer", order_id)}
        self.assertEqual(self.audit("--repair", "--yes", env=nameless)[0], expected)
        self.assertEqual(self.audit(env=nameless)[0], expected)
        ended = self.tandem.ctl("audit", "--repair", "--yes", env=nameless)
        self.assertIn("/nonexistent/secrets/ops", ended.stdout)
        self.assertIn("/nonexistent/secrets/ops", ended.stderr)
        self.restore()
        self.is_clean()

    def test_under_load(self):
        """While orders for one SKU are placed."""
        self.stock(self.sku, 1000000)
        loads = tandem.Loads(
            tandem.Load(self.connect()[0], self.sku, f"load-{n}") for n in range(4)
        )
        with loads:
            for _ in range(4):
                self.is_clean()
        self.decided(loads.placed)
        self.is_clean()

    def test_what_never_rests_is_summed_together(self):
        """SKUs that change during every look: one call sums them all, since it reads every reservation."""
        skus = [self.new("RESERVED", f"restless-{n}")[0] for n in range(5)]
        calls = lambda: int(re.search(rb"cmdstat_eval:calls=(\d+)", self.ops("INFO", "commandstats"))[1])

        def change():
            for sku in skus:
                numbers = self.ops("HGET", STOCK, sku).split()
                numbers[4] = b"%d" % (int(numbers[4]) + 1)
                self.ops("HSET", STOCK, sku, b" ".join(numbers))

        self.assertEqual(self.is_clean()["hot_skus"], 0)
        before = calls()
        self.is_clean()
        quiet, before = calls() - before, calls()
        # Before each reading of the reservations from their beginning on.
        with self.before_command(HELD.encode() + b"\r\n$1\r\n0\r\n", change) as env:
            named, summary = self.audit(env=env)
        self.assertEqual((named, summary["hot_skus"]), (set(), len(skus)))
        self.assertEqual(calls() - before, quiet + 1)

    def test_in_flight_is_no_violation(self):
        """Inventory does not run: orders wait, and that is no violation."""
        with self.tandem.away("inventory"):
            ids = [self.place(self.sku).order_id for _ in range(5)]
            self.order.CancelOrder(order_id=ids[0])
            summary = self.is_clean()
            self.assertGreaterEqual(summary["states"]["PENDING"], 4)
        self.decided(ids)

    def test_what_is_set_aside_is_under_way(self):
        """A cancellation that fails and is retried is a violation only as a dead letter."""
        sku, order_id = self.new("RESERVED", "aside")
        good = self.held(order_id)
        self.undo.append(("HSET", HELD, order_id, good))
        self.ops("HSET", HELD, order_id, "damaged")
        self.order.CancelOrder(order_id=order_id)
        tandem.until(lambda: self.ops("XLEN", tandem.ASIDE[0]), 20 * tandem.SLOW, "set aside")
        for _ in range(6):  # its order repeats its request, which is also under way
            self.assertEqual(self.audit()[0] & {("reservation-damaged", order_id)}, set())
        self.assertGreater(self.ops("XLEN", tandem.ASIDE[0]), 0, "it still is")
        self.restore()
        tandem.until(lambda: self.get(order_id).settled, 20 * tandem.SLOW, "settled")
        self.caught_up()
        self.is_clean()
        self.assertEqual(self.adds_up(sku).reserved, 0)

    # ---- what an operator must repair ----

    def plant_counters(self):
        for at, named in enumerate(
            (["stock-sum"], ["stock-sum", "reserved-sum"], ["stock-sum", "committed-sum"], ["stock-sum"])
        ):
            sku, _ = self.new("RESERVED", f"one-more-{at}")
            self.count(sku, *[int(n == at) for n in range(4)])
            self.expected |= {(name, sku) for name in named}

    def plant_sold_without_order(self):
        _, order_id = self.new("CONFIRMED", "sold")
        self.undo.append(("HSET", ORDER, order_id, self.ops("HGET", ORDER, order_id)))
        self.ops("HDEL", ORDER, order_id)
        self.expected.add(("sold-without-order", order_id))

    def plant_damaged_counters(self):
        for text in (b"", b"1 2 3", b"1 2 3 4 5 0", b"1 2 3 4 5 6 7", b"-1 0 0 0 1", b"a b c d e", b"\xff\x00", None):
            name = "counters-none" if text is None else f"counters-{text.hex()}"
            sku, _ = self.new("RESERVED" if text is None else "CANCELLED", name)
            self.undo.append(("HSET", STOCK, sku, self.ops("HGET", STOCK, sku)))
            if text is None:
                self.ops("HDEL", STOCK, sku)
                self.expected.add(("stock-missing", sku))
            else:
                self.ops("HSET", STOCK, sku, text)
                self.expected.add(("stock-damaged", sku))

    def plant_damaged_reservations(self):
        for text in (b"", b"x", b"RELEASED", b"HELD 1 2 apple=1", b"RELEASED one 2 apple=1"):
            _, order_id = self.new("CANCELLED", "records")
            self.undo.append(("HSET", HELD, order_id, self.held(order_id)))
            self.ops("HSET", HELD, order_id, text)
            self.expected.add(("reservation-damaged" if text else "ended-without-record", order_id))
        sku, order_id = self.new("RESERVED", "other-lines-than-ordered")
        good = self.held(order_id)
        self.undo.append(("HSET", HELD, order_id, good))
        self.ops("HSET", HELD, order_id, good.replace(b"=2", b"=3"))
        self.expected |= {("lines-differ", order_id), ("reserved-sum", sku)}

    def plant_damaged_orders(self):
        for change in (
            lambda order: order.change(state=b"LOST"),
            lambda order: order.change(version=b"x"),
            lambda order: order.change(version=b"0"),
            lambda order: order.change(hold=b""),
            lambda order: order.change(hold=b"0"),
            lambda order: order.change(attempt=b" attempt=x"),
            lambda order: order.change(placed=b"\xff\xff"),
            lambda order: order.change(placed=b"", detail=b""),
            lambda order: order.text().replace(b"\n%d\n" % len(order.placed), b"\n999\n"),
            lambda order: order.text().partition(b"\n")[0],
            lambda order: b"not an order",
            lambda order: b"\x00",
        ):
            _, order_id = self.new("CANCELLED", "orders")
            self.change_order(order_id, change)
            self.expected.add(("order-damaged", order_id))

    def plant_gaps_in_versions(self):
        for change in (
            lambda order: order.change(version=b"9"),
            lambda order: order.change(history=b" ".join(order.history.split()[:-1])),
            lambda order: order.change(history=order.history.replace(b"cancelled", b"reserved")[:-3]),
            lambda order: order.change(history=b""),
            lambda order: order.change(history=order.history.replace(b"settled", b"again")),
        ):
            _, order_id = self.new("CANCELLED", "versions")
            self.change_order(order_id, change)
            self.expected.add(("version-gap", order_id))

    def test_what_is_only_named(self):
        """It is named, and left as it is even where --repair could guess the right value."""
        self.plant_damaged_counters()
        self.plant_damaged_reservations()
        self.plant_damaged_orders()
        self.plant_gaps_in_versions()
        self.finds()
        self.restore()
        self.plant_counters()
        self.plant_sold_without_order()
        self.finds()
        self.audit("--repair", "--yes")
        self.finds()
        self.restore()
        self.is_clean()

    def test_counters_are_repaired_when_asked_for(self):
        sku, _ = self.new("RESERVED", "counted")
        self.in_status("CONFIRMED", sku)
        available = int(self.ops("HGET", STOCK, sku).split()[0])
        self.inventory.SetLowStockThreshold(sku=sku, low_stock_threshold=available + 1)
        good = [int(number) for number in self.ops("HGET", STOCK, sku).split()]
        self.count(sku, 1, 1, -2)
        told = self.tandem.ctl_json("events", "tail", "--type", "StockLow", "--order", sku)[1]
        self.expected = {("reserved-sum", sku), ("committed-sum", sku)}
        self.finds()
        self.audit("--repair-counters", "--yes")
        self.is_clean()
        self.undo.clear()
        repaired = [int(number) for number in self.ops("HGET", STOCK, sku).split()]
        self.assertEqual((repaired[:4], repaired[5]), (good[:4], available + 1))
        # As the counters said before, it was not low.
        again = self.tandem.ctl_json("events", "tail", "--type", "StockLow", "--order", sku)[1]
        self.assertEqual(([event["seq"] for event in again[len(told):]], len(told)), ([repaired[4]], 1))

    # ---- what is repaired ----

    def repair_no_answer(self):
        """An order waits for an answer without a timer: the repair repeats the request."""
        sku = f"{self.sku}-asked"
        self.stock(sku, 5)
        with self.tandem.away("inventory"):
            order_id = self.place(sku).order_id
            self.ops("XTRIM", tandem.ORDERS, "MAXLEN", 0)
            self.ops("ZREM", TIMERS, order_id)
        self.expected.add(("no-timer", order_id))
        yield
        self.assertEqual(self.decided([order_id])[order_id], "RESERVED")

    def repair_no_timer(self):
        _, order_id = self.new("RESERVED", "no-timer")
        due = self.ops("ZSCORE", TIMERS, order_id)
        self.ops("ZREM", TIMERS, order_id)
        self.expected.add(("no-timer", order_id))
        yield
        self.assertEqual(self.ops("ZSCORE", TIMERS, order_id), due, "the hold runs as it did")

    def repair_a_timer_too_many(self):
        _, order_id = self.new("CANCELLED", "timer")
        _, bytes_id = self.new("CANCELLED", "bytes")
        self.ops("HSET", ORDER, bytes_id, self.ops("HGET", ORDER, bytes_id) + b"\x7a\x00")
        for name in (order_id, bytes_id, "ord_nobody"):
            self.ops("ZADD", TIMERS, 4102444800000, name)
        self.expected |= {("timer-of-settled", order_id), ("timer-of-settled", bytes_id)}
        self.expected.add(("timer-without-order", "ord_nobody"))
        yield
        for name in (order_id, bytes_id, "ord_nobody"):
            self.assertIsNone(self.ops("ZSCORE", TIMERS, name))

    def repair_a_reservation_without_order(self):
        """The order is deleted: its stock is released, its timer removed."""
        sku, order_id = self.new("RESERVED", "no-order")
        self.ops("HDEL", ORDER, order_id)
        self.expected |= {("reservation-without-order", order_id), ("timer-without-order", order_id)}
        yield
        self.assertEqual(self.adds_up(sku).reserved, 0)
        self.assertTrue(self.held(order_id).startswith(b"RELEASED "))
        self.assertIsNone(self.ops("ZSCORE", TIMERS, order_id))

    def repair_an_order_without_reservation(self):
        """Its record is deleted, its stock back in the counters: it is reserved again."""
        sku, order_id = self.new("RESERVED", "no-record")
        self.ops("HDEL", HELD, order_id)
        self.count(sku, 2, -2)
        self.expected.add(("order-without-reservation", order_id))
        yield
        self.assertEqual(self.adds_up(sku).reserved, 2)
        self.assertEqual(self.name(self.get(order_id)), "RESERVED")

    def repair_a_reservation_that_was_released(self):
        """RESERVED on one side only: the order is reported, and cancelled."""
        sku, order_id = self.new("RESERVED", "released")
        self.ops("HSET", HELD, order_id, self.held(order_id).replace(b"RESERVED", b"RELEASED"))
        self.count(sku, 2, -2)
        self.expected.add(("order-without-reservation", order_id))
        yield
        self.assertEqual(self.name(self.get(order_id)), "CANCELLED")

    def repair_holds_of_orders_that_ended(self):
        skus = []
        for status in ("CANCELLED", "REJECTED"):
            sku, order_id = self.new(status, status)
            self.ops("HSET", HELD, order_id, f"RESERVED 1 1700000000000 {sku}=2")
            self.count(sku, -2, 2)
            self.expected.add(("hold-of-ended", order_id))
            skus.append(sku)
        yield
        for sku in skus:
            self.assertEqual(self.adds_up(sku).reserved, 0)

    def repair_an_ended_order_that_inventory_forgot(self):
        _, order_id = self.new("CANCELLED", "forgot")
        self.ops("HDEL", HELD, order_id)
        self.expected.add(("ended-without-record", order_id))
        yield
        self.assertIsNotNone(self.held(order_id))

    def repair_confirmed_and_only_held(self):
        sku, order_id = self.new("CONFIRMED", "only-held")
        self.ops("HSET", HELD, order_id, self.held(order_id).replace(b"COMMITTED", b"RESERVED"))
        self.count(sku, 0, 2, -2)
        self.expected.add(("confirmed-not-sold", order_id))
        yield
        self.assertEqual(self.adds_up(sku).committed, 2)

    def test_what_is_repaired(self):
        """Each generator plants a fault, and checks the outcome after the repair."""
        plants = [
            self.repair_no_answer(),  # first: it empties the stream
            self.repair_no_timer(),
            self.repair_a_timer_too_many(),
            self.repair_a_reservation_without_order(),
            self.repair_an_order_without_reservation(),
            self.repair_a_reservation_that_was_released(),
            self.repair_holds_of_orders_that_ended(),
            self.repair_an_ended_order_that_inventory_forgot(),
            self.repair_confirmed_and_only_held(),
        ]
        for plant in plants:
            next(plant)
        self.finds()
        self.audit("--repair")
        self.finds()  # without --yes nothing is changed
        self.audit("--repair", "--yes")
        tandem.until(lambda: not self.audit()[0], 20 * tandem.SLOW, "clean", every=0.2)
        self.undo.clear()
        for plant in plants:
            self.assertIsNone(next(plant, None))

    def test_a_timer_that_is_needed_meanwhile(self):
        """The order is stored just before its timer would be removed: the timer stays."""
        _, order_id = self.new("RESERVED", "needed")
        name, acted = "ord_" + "n" * 26, []

        def store():
            self.ops("HSET", ORDER, name, self.ops("HGET", ORDER, order_id))
            acted.append(True)

        self.ops("ZADD", TIMERS, 4102444800000, name)
        self.undo += [("ZREM", TIMERS, name), ("HDEL", ORDER, name)]
        self.expected.add(("timer-without-order", name))
        self.finds()
        with self.before_command(b"drop_timer", store) as env:
            self.audit("--repair", "--yes", env=env)
        self.assertEqual(acted, [True])
        self.assertIsNotNone(self.ops("ZSCORE", TIMERS, name))

    def test_wrong_use(self):
        for args in (["--yes"], ["--window", "soon"], ["everything"]):
            ended = self.tandem.ctl("audit", *args)
            self.assertEqual(ended.returncode, 2, ended.stderr)

    # ---- doctor ----

    def doctor(self):
        """The checks that are not ok: {check: result}."""
        code, lines = self.tandem.ctl_json("doctor")
        self.assertGreater(len(lines), 10)
        bad = [line for line in lines if line["result"] != "ok"]
        self.assertTrue(all("fix" in line for line in bad))
        found = {line["check"]: line["result"] for line in bad}
        self.wrong_rights = [line["detail"] for line in bad if line["check"] == "users"]
        self.assertEqual(code, 1 if "bad" in found.values() else 0, lines)
        return found

    def is_well(self):
        self.becomes(self.doctor, {})

    def test_doctor_of_services_that_load_their_functions(self):
        """The user that they are told to log in as must be able to, and be no other."""

        def wrong(user):
            _, rows = self.tandem.ctl_json("doctor", env={"TANDEM_REDIS_DEPLOY_USER": user})
            return [row["detail"] for row in rows if row["check"] == "users" and row["result"] == "bad"]

        self.addCleanup(subprocess.run, [tandem.OPEN], env=self.tandem.env, check=True)
        self.assertEqual(wrong("deploy"), [])
        cannot = "cannot load functions, and services log in as it to do that"
        self.assertEqual(wrong("nobody"), [f"nobody {cannot}"])
        self.assertIn("order can write order's keys", wrong("order"))
        self.ops("ACL", "SETUSER", "deploy", "-function|load")
        self.assertEqual(wrong("deploy"), [f"deploy {cannot}"])

    def test_doctor_what_is_wrong_in_redis(self):
        """Settings, users, groups, dead letters: each has a row of its own."""
        self.is_well()
        expected = {}
        for name, bad, result in (
            ("appendonly", "no", "bad"),
            ("appendfsync", "no", "bad"),
            ("aof-load-truncated", "yes", "bad"),
            ("maxmemory-policy", "allkeys-lru", "bad"),
            ("save", "900 1", "warn"),
            ("maxmemory", 0, "warn"),
        ):
            self.undo.append(("CONFIG", "SET", name, self.ops("CONFIG", "GET", name)[1]))
            self.ops("CONFIG", "SET", name, bad)
            expected["redis memory" if name == "maxmemory" else name] = result
        users = (
            (["order", "~inventory:*"], "order can delete inventory's keys"),
            (["inventory", "~order:*"], "inventory can write order's keys"),
            (["order", "-hset"], "order cannot write its own keys"),
            (["order", "+flushall"], "order can delete everything"),
            (["inventory", "+eval"], "inventory can run scripts of any kind"),
            (["inventory", "+function|load"], "inventory can load functions"),
            (["default", "allkeys", "+set"], "the user default can write"),
            (["deploy", "+function|flush"], "deploy can delete functions"),
            (["deploy", "~order:*", "+hget"], "deploy can read order's keys"),
            (["deploy", "~inventory:*", "+hset"], "deploy can write inventory's keys"),
            (["deploy", "+fcall"], "deploy can call functions on order's keys"),
        )
        self.addCleanup(subprocess.run, [tandem.OPEN], env=self.tandem.env, check=True)
        for change, _ in users:
            self.ops("ACL", "SETUSER", *change)
        self.ops("XGROUP", "CREATE", tandem.ORDERS, "billing", "0")
        self.ops("XADD", "order:{0}:dead", "*", "id", "x")
        self.ops("DEL", tandem.ASIDE[1])
        self.ops("XADD", tandem.ASIDE[1], "1764000000000-1", "id", "x")
        expected.update({"users": "bad", "group billing": "warn", "dead letters": "warn"})
        expected[tandem.ASIDE[1]] = "warn"
        self.becomes(self.doctor, expected)
        for _, detail in users:
            self.assertIn(detail, self.wrong_rights)
        self.restore()
        subprocess.run([tandem.OPEN], env=self.tandem.env, check=True)
        self.ops("DEL", "order:{0}:dead", tandem.ASIDE[1])
        self.ops("XGROUP", "CREATECONSUMER", tandem.ORDERS, "billing", "clerk")
        self.is_well()  # a group with a consumer is well, too
        self.ops("XGROUP", "DESTROY", tandem.ORDERS, "billing")

    def test_doctor_functions(self):
        """A version that no service calls is named and pruned; those in use stay."""
        self.is_well()
        before = set(self.libraries())
        library = self.tandem.library("order")
        code = tandem.pairs(self.ops("FUNCTION", "LIST", "LIBRARYNAME", library, "WITHCODE")[0])
        code = code[b"library_code"]
        version = library.rpartition("_")[2]
        self.ops("FUNCTION", "LOAD", code.replace(version.encode(), b"00000000"))
        self.becomes(self.doctor, {"functions of order": "warn"})
        code, lines = self.tandem.ctl_json("functions", "list")
        found = {(line["version"], line["own"], line["instances"]) for line in lines}
        self.assertEqual(code, 0)
        self.assertLessEqual({(version, True, 1), ("00000000", False, 0)}, found)
        self.assertEqual(self.tandem.ctl_json("functions", "prune")[0], 0)
        self.assertEqual(set(self.libraries()), before)
        self.is_well()

    def libraries(self):
        """The names of the libraries in Redis."""
        return [tandem.pairs(library)[b"library_name"] for library in self.ops("FUNCTION", "LIST")]

    def test_doctor_services(self):
        self.is_well()
        with self.tandem.away("inventory"):
            found = lambda: {check: result for check, result in self.doctor().items() if check != "group inventory"}  # noqa: E731
            self.becomes(found, {"inventory": "bad", "gateway": "bad"})


if __name__ == "__main__":
    tandem.main()
