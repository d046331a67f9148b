"""tandemctl audit and doctor: what is right is found right, under load too; what was made wrong by
hand is named, and repaired where that is safe."""
import json
import os
import subprocess
import unittest

import tandem

ORDER, STOCK, HELD, TIMERS = (
    "order:{0}:o:",
    "inventory:{0}:stock",
    "inventory:{0}:r",
    "order:{0}:timers",
)


class Tool(tandem.Live):
    ENV = {
        "TANDEM_ORDER_RETRY_MIN": "500ms",
        "TANDEM_ORDER_RETRY_MAX": "2s",
        "TANDEM_ORDER_TIMERS_EVERY": "50ms",
    }

    def ctl(self, *args, env=None):
        """tandemctl's exit code and its lines of JSON."""
        ended = subprocess.run(
            [os.path.join(tandem.BUILD, "tandemctl"), *args, "--json"],
            env={**self.tandem.env, **(env or {})},
            capture_output=True,
            text=True,
            timeout=120 * tandem.SLOW,
            check=False,
        )
        self.assertIn(ended.returncode, (0, 1), ended.stdout + ended.stderr)
        return ended.returncode, [json.loads(line) for line in ended.stdout.splitlines()]

    def audit(self, *args, env=None):
        """What audit names, as a set of (violation, order id or SKU), and its last line."""
        code, lines = self.ctl("audit", "--window", "300ms", *args, env=env)
        summary = lines.pop()
        named = {(line["violation"], line.get("order_id") or line["sku"]) for line in lines}
        self.assertEqual(code, 1 if named else 0, lines)
        self.assertEqual(summary["violations"], len(lines))
        return named, summary

    def in_status(self, status, sku="apple"):
        """An order that has come to rest in a status."""
        quantity = 1000000 if status == "REJECTED" else 2
        order_id = self.place(sku, quantity).order_id
        self.decided([order_id])
        if status == "CONFIRMED":
            self.order.ConfirmOrder(order_id=order_id)
        elif status == "CANCELLED":
            self.order.CancelOrder(order_id=order_id)

        def rests():
            order = self.get(order_id)
            self.assertEqual(self.name(order), status)
            return order.settled or status == "RESERVED"

        tandem.until(rests, 10 * tandem.SLOW, f"{status} and settled")
        return order_id


class Audit(Tool):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.ops = cls.tandem.redis_as("ops")

    @classmethod
    def tearDownClass(cls):
        cls.ops.close()
        super().tearDownClass()

    def setUp(self):
        self.sku = self.id().rpartition(".")[2][:60]
        self.stock(self.sku, 1000)

    def is_clean(self):
        named, summary = self.audit()
        self.assertEqual(named, set())
        return summary

    def finds(self, *expected):
        """Nothing else is named; and repair leaves what a person must do."""
        named, _ = self.audit()
        self.assertEqual(named, set(expected))

    def becomes_clean(self):
        """After a repair, once what it asked for has happened."""
        tandem.until(lambda: not self.audit()[0], 20 * tandem.SLOW, "clean", every=0.2)

    def repairs(self, *expected):
        self.finds(*expected)
        self.finds(*expected)  # looking changes nothing
        self.audit("--repair", "--yes")
        self.becomes_clean()

    def field(self, order_id):
        return self.ops("HGET", HELD, order_id)

    def test_a_clean_system(self):
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
        """The default user proves the same, and repairs nothing."""
        nameless = {"TANDEM_VAR": "/nonexistent"}
        order_id = self.in_status("RESERVED", self.sku)
        named, summary = self.audit(env=nameless)
        self.assertEqual((named, summary["not_checked_skus"]), (set(), 0))
        self.assertEqual(summary, self.audit()[1])
        good = self.ops("HGET", STOCK, self.sku)
        numbers = [int(number) for number in good.split()]
        numbers[0] += 1
        self.ops("HSET", STOCK, self.sku, " ".join(map(str, numbers)))
        self.ops("ZREM", TIMERS, order_id)
        expected = {("stock-sum", self.sku), ("no-timer", order_id)}
        self.assertEqual(self.audit(env=nameless)[0], expected)
        self.assertEqual(self.audit("--repair", "--yes", env=nameless)[0], expected)
        self.assertEqual(self.audit(env=nameless)[0], expected)
        ended = subprocess.run(
            [os.path.join(tandem.BUILD, "tandemctl"), "audit", "--repair", "--yes"],
            env={**self.tandem.env, **nameless},
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertIn("/nonexistent/secrets/ops", ended.stdout)
        self.assertIn("/nonexistent/secrets/ops", ended.stderr)
        self.ops("HSET", STOCK, self.sku, good)
        self.audit("--repair", "--yes")
        self.becomes_clean()

    def test_under_load(self):
        """Orders of one hot SKU all the while."""
        self.stock(self.sku, 1000000)
        loads = [tandem.Load(self.connect()[0], self.sku, f"load-{n}") for n in range(4)]
        for load in loads:
            load.start()
        try:
            tandem.until(lambda: loads[0].placed, 20 * tandem.SLOW, "load")
            for _ in range(4):
                self.is_clean()
        finally:
            for load in loads:
                load.end()
        self.decided(order_id for load in loads for order_id in load.placed)
        self.is_clean()

    def test_in_flight_is_no_violation(self):
        """Inventory stands still: orders wait, nothing is wrong."""
        self.assertEqual(self.tandem.inventory.terminate(), 0)
        try:
            ids = [self.place(self.sku).order_id for _ in range(5)]
            self.order.CancelOrder(order_id=ids[0])
            summary = self.is_clean()
            self.assertGreaterEqual(summary["states"]["PENDING"], 4)
        finally:
            self.tandem.inventory.start()
            self.tandem.inventory.wait_ready()
            self.tandem.gateway.wait_ready()
        self.decided(ids)

    # ---- counters ----

    def test_a_counter_is_off_by_one(self):
        self.in_status("RESERVED", self.sku)
        for at, named in (
            (0, ["stock-sum"]),
            (1, ["stock-sum", "reserved-sum"]),
            (2, ["stock-sum", "committed-sum"]),
            (3, ["stock-sum"]),
        ):
            good = self.ops("HGET", STOCK, self.sku)
            numbers = [int(number) for number in good.split()]
            numbers[at] += 1
            self.ops("HSET", STOCK, self.sku, " ".join(map(str, numbers)))
            self.finds(*((name, self.sku) for name in named))
            self.audit("--repair", "--yes")
            self.finds(*((name, self.sku) for name in named))  # never touched silently
            self.ops("HSET", STOCK, self.sku, good)
        self.is_clean()

    def test_counters_are_repaired_when_asked_for(self):
        self.in_status("RESERVED", self.sku)
        self.in_status("CONFIRMED", self.sku)
        good = [int(number) for number in self.ops("HGET", STOCK, self.sku).split()]
        bad = [good[0] + 1, good[1] + 1, good[2] - 2, good[3], good[4]]
        self.ops("HSET", STOCK, self.sku, " ".join(map(str, bad)))
        self.finds(("reserved-sum", self.sku), ("committed-sum", self.sku))
        self.audit("--repair-counters", "--yes")
        self.is_clean()
        repaired = [int(number) for number in self.ops("HGET", STOCK, self.sku).split()]
        self.assertEqual(repaired[:4], good[:4])

    def test_counters_are_damaged(self):
        for text in (b"", b"1 2 3", b"1 2 3 4 5 6", b"-1 0 0 0 1", b"a b c d e", b"\xff\x00"):
            good = self.ops("HGET", STOCK, self.sku)
            self.ops("HSET", STOCK, self.sku, text)
            self.finds(("stock-damaged", self.sku))
            self.ops("HSET", STOCK, self.sku, good)
        self.in_status("RESERVED", self.sku)
        good = self.ops("HGET", STOCK, self.sku)
        self.ops("HDEL", STOCK, self.sku)
        self.finds(("stock-missing", self.sku))
        self.ops("HSET", STOCK, self.sku, good)
        self.is_clean()

    # ---- reservations ----

    def test_a_reservation_without_order(self):
        """The order's hash vanishes: its stock is released, its timer goes."""
        order_id = self.in_status("RESERVED", self.sku)
        self.ops("DEL", ORDER + order_id)
        self.repairs(("reservation-without-order", order_id), ("timer-without-order", order_id))
        self.assertEqual(self.adds_up(self.sku).reserved, 0)
        self.assertTrue(self.field(order_id).startswith(b"RELEASED "))
        self.assertIsNone(self.ops("ZSCORE", TIMERS, order_id))

    def test_sold_without_order(self):
        order_id = self.in_status("CONFIRMED", self.sku)
        placed = self.ops("DUMP", ORDER + order_id)
        self.ops("DEL", ORDER + order_id)
        self.finds(("sold-without-order", order_id))
        self.audit("--repair", "--yes")
        self.finds(("sold-without-order", order_id))
        self.ops("RESTORE", ORDER + order_id, 0, placed)
        self.is_clean()

    def test_an_order_without_reservation(self):
        """Its record is gone, and so is what the counters say of it: it is reserved again."""
        order_id = self.in_status("RESERVED", self.sku)
        counters = [int(number) for number in self.ops("HGET", STOCK, self.sku).split()]
        self.ops("HDEL", HELD, order_id)
        counters[0], counters[1] = counters[0] + 2, counters[1] - 2
        self.ops("HSET", STOCK, self.sku, " ".join(map(str, counters)))
        self.repairs(("order-without-reservation", order_id))
        self.assertEqual(self.adds_up(self.sku).reserved, 2)
        self.assertEqual(self.name(self.get(order_id)), "RESERVED")

    def test_a_reservation_that_was_released(self):
        """RESERVED on one side only: the order learns of it."""
        order_id = self.in_status("RESERVED", self.sku)
        self.ops("HSET", HELD, order_id, self.field(order_id).replace(b"RESERVED", b"RELEASED"))
        counters = [int(number) for number in self.ops("HGET", STOCK, self.sku).split()]
        counters[0], counters[1] = counters[0] + 2, counters[1] - 2
        self.ops("HSET", STOCK, self.sku, " ".join(map(str, counters)))
        self.repairs(("order-without-reservation", order_id))
        self.assertEqual(self.name(self.get(order_id)), "CANCELLED")

    def test_a_hold_of_an_order_that_ended(self):
        for status in ("CANCELLED", "REJECTED"):
            order_id = self.in_status(status, self.sku)
            self.ops("HSET", HELD, order_id, f"RESERVED 1 1700000000000 {self.sku}=2")
            counters = [int(number) for number in self.ops("HGET", STOCK, self.sku).split()]
            counters[0], counters[1] = counters[0] - 2, counters[1] + 2
            self.ops("HSET", STOCK, self.sku, " ".join(map(str, counters)))
            self.repairs(("hold-of-ended", order_id))
            self.assertEqual(self.adds_up(self.sku).reserved, 0)

    def test_an_ended_order_that_inventory_forgot(self):
        order_id = self.in_status("CANCELLED", self.sku)
        self.ops("HDEL", HELD, order_id)
        self.repairs(("ended-without-record", order_id))

    def test_confirmed_and_only_held(self):
        order_id = self.in_status("CONFIRMED", self.sku)
        self.ops("HSET", HELD, order_id, self.field(order_id).replace(b"COMMITTED", b"RESERVED"))
        counters = [int(number) for number in self.ops("HGET", STOCK, self.sku).split()]
        counters[1], counters[2] = counters[1] + 2, counters[2] - 2
        self.ops("HSET", STOCK, self.sku, " ".join(map(str, counters)))
        self.repairs(("confirmed-not-sold", order_id))
        self.assertEqual(self.adds_up(self.sku).committed, 2)

    def test_other_lines_than_ordered(self):
        order_id = self.in_status("RESERVED", self.sku)
        good = self.field(order_id)
        self.ops("HSET", HELD, order_id, good.replace(b"=2", b"=3"))
        self.finds(("lines-differ", order_id), ("reserved-sum", self.sku))
        self.ops("HSET", HELD, order_id, good)
        self.is_clean()

    def test_a_damaged_reservation(self):
        order_id = self.in_status("CANCELLED", self.sku)
        good = self.field(order_id)
        for text in (b"", b"x", b"RELEASED", b"HELD 1 2 apple=1", b"RELEASED one 2 apple=1"):
            self.ops("HSET", HELD, order_id, text)
            name = "reservation-damaged" if text else "ended-without-record"
            self.finds((name, order_id))
        self.ops("HSET", HELD, order_id, good)
        self.is_clean()

    # ---- orders ----

    def test_an_order_without_timer(self):
        order_id = self.in_status("RESERVED", self.sku)
        due = self.ops("ZSCORE", TIMERS, order_id)
        self.ops("ZREM", TIMERS, order_id)
        self.repairs(("no-timer", order_id))
        self.assertEqual(self.ops("ZSCORE", TIMERS, order_id), due, "the hold runs as it did")
        # One that waits for an answer, too: the timer asks again, and it is answered.
        self.assertEqual(self.tandem.inventory.terminate(), 0)
        order_id = self.place(self.sku).order_id
        self.ops("XTRIM", "order:{0}:events", "MAXLEN", 0)
        self.ops("ZREM", TIMERS, order_id)
        self.tandem.inventory.start()
        self.tandem.inventory.wait_ready()
        self.tandem.gateway.wait_ready()
        self.repairs(("no-timer", order_id))
        self.assertEqual(self.decided([order_id])[order_id], "RESERVED")

    def test_a_timer_too_many(self):
        order_id = self.in_status("CANCELLED", self.sku)
        self.ops("ZADD", TIMERS, 4102444800000, order_id, 4102444800000, "ord_nobody")
        self.repairs(("timer-of-settled", order_id), ("timer-without-order", "ord_nobody"))

    def test_a_damaged_order(self):
        order_id = self.in_status("CANCELLED", self.sku)
        key = ORDER + order_id
        good = self.ops("DUMP", key)
        for field, text in (
            ("status", "LOST"),
            ("version", "x"),
            ("version", "0"),
            ("hold", ""),
            ("placed", b"\xff\xff"),
            ("placed", b""),
        ):
            self.ops("HSET", key, field, text)
            self.finds(("order-damaged", order_id))
            self.ops("RESTORE", key, 0, good, "REPLACE")
        self.ops("HDEL", key, "placed")
        self.finds(("order-damaged", order_id))
        self.ops("DEL", key)
        self.ops("SET", key, "not an order")
        self.finds(("order-damaged", order_id))
        self.ops("RESTORE", key, 0, good, "REPLACE")
        self.is_clean()

    def test_a_gap_in_the_versions(self):
        order_id = self.in_status("CANCELLED", self.sku)
        key = ORDER + order_id
        good = self.ops("HGETALL", key)
        history = good[good.index(b"history") + 1]
        for field, text in (
            ("version", 9),
            ("history", b" ".join(history.split()[:-1])),
            ("history", history.replace(b"cancelled", b"reserved")[:-3]),
            ("history", b""),
            ("status", "EXPIRED"),
        ):
            if field == "status":
                text, field = history.replace(b"settled", b"again"), "history"
            self.ops("HSET", key, field, text)
            self.finds(("version-gap", order_id))
            self.ops("HSET", key, *good)
        self.is_clean()

    def test_wrong_use(self):
        for args in (["--yes"], ["--window", "soon"], ["everything"]):
            ended = subprocess.run(
                [os.path.join(tandem.BUILD, "tandemctl"), "audit", *args],
                env=self.tandem.env,
                capture_output=True,
                text=True,
                check=False,
            )
            self.assertEqual(ended.returncode, 2, ended.stderr)
        # Nothing is repaired without a yes.
        order_id = self.in_status("RESERVED", self.sku)
        self.ops("ZREM", TIMERS, order_id)
        self.audit("--repair")
        self.finds(("no-timer", order_id))
        self.audit("--repair", "--yes")
        self.becomes_clean()


class Doctor(Tool):
    def doctor(self, *args):
        """The checks that are not ok: {check: result}."""
        code, lines = self.ctl("doctor", *args)
        self.assertGreater(len(lines), 10)
        found = {line["check"]: line["result"] for line in lines if line["result"] != "ok"}
        self.assertTrue(all("fix" in line for line in lines if line["result"] != "ok"))
        self.assertEqual(code, 1 if "bad" in found.values() else 0, lines)
        return found

    def setUp(self):
        self.ops = self.tandem.redis_as("ops")
        self.addCleanup(self.ops.close)
        tandem.until(lambda: not self.doctor(), 20 * tandem.SLOW, self.doctor)

    def test_settings(self):
        for name, bad, result in (
            ("appendonly", "no", "bad"),
            ("appendfsync", "no", "bad"),
            ("aof-load-truncated", "yes", "bad"),
            ("maxmemory-policy", "allkeys-lru", "bad"),
            ("save", "900 1", "warn"),
        ):
            good = self.ops("CONFIG", "GET", name)[1]
            self.ops("CONFIG", "SET", name, bad)
            self.assertEqual(self.doctor(), {name: result})
            self.ops("CONFIG", "SET", name, good)
        good = self.ops("CONFIG", "GET", "maxmemory")[1]
        self.ops("CONFIG", "SET", "maxmemory", 0)
        self.assertEqual(self.doctor(), {"redis memory": "warn"})
        self.ops("CONFIG", "SET", "maxmemory", good)

    def test_users(self):
        for change in (
            ["order", "~inventory:*"],
            ["inventory", "~order:*"],
            ["order", "-hset"],
            ["order", "+flushall"],
            ["inventory", "+eval"],
            ["default", "allkeys", "+set"],
        ):
            self.ops("ACL", "SETUSER", *change)
            self.assertEqual(self.doctor(), {"users": "bad"}, change)
            subprocess.run([tandem.OPEN], env=self.tandem.env, check=True, capture_output=True)
        self.assertEqual(self.doctor(), {})

    def test_functions(self):
        """A version that nobody calls is named, and taken away; those that are called stay."""
        before = set(self.libraries())
        library = self.tandem.library("order")
        code = self.ops("FUNCTION", "LIST", "LIBRARYNAME", library, "WITHCODE")[0]
        code = code[code.index(b"library_code") + 1]
        version = library.rpartition("_")[2]
        self.ops("FUNCTION", "LOAD", code.replace(version.encode(), b"00000000"))
        self.assertEqual(self.doctor(), {"functions of order": "warn"})
        code, lines = self.ctl("functions", "list")
        found = {(line["version"], line["own"], line["instances"]) for line in lines}
        self.assertEqual(code, 0)
        self.assertLessEqual({(version, True, 1), ("00000000", False, 0)}, found)
        self.assertEqual(self.ctl("functions", "prune")[0], 0)
        self.assertEqual(set(self.libraries()), before)
        self.assertEqual(self.doctor(), {})

    def libraries(self):
        """The names of the libraries in Redis."""
        return [library[library.index(b"library_name") + 1] for library in self.ops("FUNCTION", "LIST")]

    def test_groups(self):
        events = "order:{0}:events"
        self.ops("XGROUP", "CREATE", events, "billing", "0")
        self.assertEqual(self.doctor(), {"group billing": "warn"})
        self.ops("XGROUP", "CREATECONSUMER", events, "billing", "clerk")
        self.assertEqual(self.doctor(), {})
        self.ops("XGROUP", "DESTROY", events, "billing")

    def test_services(self):
        self.assertEqual(self.tandem.inventory.terminate(), 0)
        try:
            found = self.doctor()
            self.assertEqual((found.pop("inventory"), found.pop("gateway")), ("bad", "bad"))
            self.assertLessEqual(set(found), {"group inventory"})
        finally:
            self.tandem.inventory.start()
            self.tandem.inventory.wait_ready()
            self.tandem.gateway.wait_ready()

    def test_dead_letters(self):
        self.ops("XADD", "order:{0}:dead", "*", "id", "x")
        self.assertEqual(self.doctor(), {"dead letters": "warn"})
        self.ops("DEL", "order:{0}:dead")


if __name__ == "__main__":
    unittest.main(verbosity=2)
