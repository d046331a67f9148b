"""tandemctl: every command against a running system; its output as JSON, its exit codes."""
import datetime
import json
import os
import pty
import re
import signal
import subprocess
import time

import tandem

FINE, NO, WRONG, AWAY = 0, 1, 2, 3


class Ctl(tandem.Live):
    def ctl(self, *args, code=FINE, env=None):
        """Runs a command that must end with `code`; what it printed."""
        done = self.tandem.ctl(*args, env=env)
        self.assertEqual(done.returncode, code, f"{args}: {done.stdout}{done.stderr}")
        if code != FINE:
            self.assertNotEqual(done.stdout + done.stderr, "", "it must say why")
        self.said = done.stderr
        return done.stdout

    def json(self, *args, code=FINE, env=None):
        """The values that a command prints with --json."""
        return [json.loads(line) for line in self.ctl(*args, "--json", code=code, env=env).splitlines()]

    def one(self, *args, code=FINE):
        values = self.json(*args, code=code)
        self.assertEqual(len(values), 1, values)
        return values[0]

    def pages(self, *args):
        """What a list prints with --json, page by page, without the tokens."""
        items, token = [], ""
        while token is not None:
            page = self.json(*args, "--page-token", token)
            token = page.pop()["next_page_token"] if page and "next_page_token" in page[-1] else None
            items += page
        return items

    def test_orders(self):
        self.stock("o-apple", 10)
        order = self.one("order", "place", "--wait", "-c", "carol", "--label", "a=b", "o-apple=2")
        self.assertEqual(order["status"], "ORDER_STATUS_RESERVED")
        self.assertEqual(order["lines"], [{"sku": "o-apple", "quantity": 2}])
        self.assertEqual(order["labels"], {"a": "b"})
        number = order["order_id"]
        self.assertEqual(self.one("order", "get", number), order)
        self.assertIn("RESERVED", self.ctl("order", "get", number))
        self.ctl("order", "confirm", "--expected-version", "7", number, code=NO)
        # --version is an option of tandemctl, not of a command.
        self.ctl("order", "confirm", "--version", "2", number, code=WRONG)
        self.ctl("order", "cancel", "--version", number, code=WRONG)
        self.assertEqual(
            self.one("order", "confirm", "--expected-version", "2", number)["status"],
            "ORDER_STATUS_CONFIRMED",
        )
        self.ctl("order", "cancel", number, code=NO)
        self.assertIn("FAILED_PRECONDITION", self.said)
        versions = [o["version"] for o in self.json("order", "watch", "--after", "2", number)]
        self.assertEqual(versions[-1], 4)
        self.assertIn("settled", self.ctl("order", "watch", number))

    def test_several_orders(self):
        self.stock("o-several", 3)
        orders = [self.place("o-several", wait_for_decision=True).order_id for _ in range(3)]
        self.ctl("order", "confirm", "--expected-version", "2", *orders, code=WRONG)
        confirmed = self.json("order", "confirm", *orders[:2])
        self.assertEqual([order["status"] for order in confirmed], ["ORDER_STATUS_CONFIRMED"] * 2)
        text = self.ctl("order", "cancel", "--reason", "enough", *orders[1:], code=NO)
        self.assertIn(f"{orders[1]}: FAILED_PRECONDITION", self.said)
        self.assertRegex(text, f"{orders[2]} +CANCELLED")

    def test_a_hold_is_extended(self):
        self.stock("o-held", 1)
        order = self.place("o-held", wait_for_decision=True)
        until = order.hold_expire_time.ToJsonString()
        longer = self.one("order", "extend", "--by", "10m", order.order_id)
        self.assertEqual(longer["version"], 3)
        self.assertGreater(longer["hold_expire_time"], until)
        self.assertEqual(self.one("order", "extend", "--until", longer["hold_expire_time"], order.order_id), longer)
        self.ctl("order", "extend", "--by", "31d", order.order_id, code=NO)
        self.assertIn("2592000 s in all", self.said)
        self.ctl("order", "extend", order.order_id, code=WRONG)
        explained = self.ctl("explain", order.order_id)
        self.assertIn("OrderHoldExtended", explained)

    def test_items_come_back(self):
        self.stock("o-worn", 3)
        number = self.place("o-worn", quantity=3, wait_for_decision=True).order_id
        self.order.ConfirmOrder(order_id=number)
        self.settled(number)
        self.ctl("order", "return", number, "o-worn", code=WRONG)
        self.ctl("order", "return", "--return-id", "r1", "--all", number, "o-worn", code=WRONG)
        back = self.one("order", "return", "--return-id", "r1", "--reason", "torn", number, "o-worn=2")
        self.assertEqual([(r["return_id"], r["reason"]) for r in back["returns"]], [("r1", "torn")])
        self.settled(number)
        self.ctl("order", "return", "--return-id", "r2", "--all", number)
        self.settled(number)
        self.assertRegex(self.ctl("order", "get", number), "came back .*o-worn=2, return r1: torn")
        self.assertIn("OrderReturned", self.ctl("explain", number))
        self.assertIn("3 came back", self.ctl("explain", "--reservation", number))
        self.ctl("audit")

    def test_orders_that_fail(self):
        order = self.one("order", "place", "--wait", "o-none=3", code=NO)
        self.assertEqual(
            order["shortages"],
            [{"sku": "o-none", "requested": 3, "available": 0, "unknown": True}],
        )
        self.assertIn("unknown SKU: o-none", order["status_reason"])
        self.assertIn("o-none: no such SKU", self.ctl("order", "get", order["order_id"]))
        self.ctl("order", "get", "ord_" + "e" * 26, code=NO)
        self.ctl("order", "place", "no spaces", code=WRONG)
        self.assertIn("lines[0].sku", self.said)
        self.ctl("order", "place", "--request-id", "r", "-c", "d", "o-none")
        self.ctl("order", "place", "--request-id", "r", "-c", "d", "o-none=2", code=NO)

    def test_order_list(self):
        self.stock("l-apple", 10)
        placed = [
            self.place("l-apple", customer_id="lister", wait_for_decision=True).order_id
            for _ in range(5)
        ]
        listed = [o["order_id"] for o in self.json("order", "list", "lister")]
        self.assertEqual(listed, placed[::-1])
        self.assertEqual(len(self.json("order", "list", "-n", "2", "lister")), 3)
        text = self.ctl("order", "list", "-n", "2", "lister")
        token = re.search("--page-token (.*)", text)[1]
        self.assertTrue(text.startswith("ORDER_ID "), text)
        rest = self.json("order", "list", "-n", "2", "--page-token", token, "lister")
        self.assertEqual([o["order_id"] for o in rest[:2]], placed[2:0:-1])
        paged = [o["order_id"] for o in self.pages("order", "list", "-n", "2", "lister")]
        self.assertEqual(paged, placed[::-1])
        self.assertEqual(self.json("order", "list", "-s", "rejected", "lister"), [])
        self.ctl("order", "list", "-s", "lost", "lister", code=WRONG)

    def test_stock(self):
        kept = self.one("stock", "adjust", "--request-id", "once", "s-pear=+7")
        again = self.one("stock", "adjust", "--request-id", "once", "s-pear=+7")
        self.assertEqual(kept, again)
        self.assertEqual((kept["available"], kept["received"]), (7, 7))
        self.ctl("stock", "adjust", "s-pear=-8", "s-plum=+1", code=NO)
        self.assertIn("s-pear", self.said)
        self.assertEqual(
            [(s["sku"], s["available"]) for s in self.json("stock", "get", "s-pear", "s-plum")],
            [("s-pear", 7), ("s-plum", 1)],
        )
        self.ctl("stock", "get", "s-nothing", code=NO)
        skus = [s["sku"] for s in self.json("stock", "list")]
        self.assertEqual(skus, sorted(skus))
        self.assertIn("s-plum", skus)
        paged = [s["sku"] for s in self.pages("stock", "list", "-n", "3")]
        self.assertTrue(set(skus) <= set(paged), "other tests may have added some")
        self.assertEqual(paged, sorted(paged))
        for bad in ("s-pear", "s-pear=", "s-pear=x", "s-pear=0"):
            self.ctl("stock", "adjust", bad, code=WRONG)

    def test_threshold(self):
        self.stock("t-jam", 10)
        self.assertEqual(self.one("stock", "threshold", "--why", "spring", "t-jam=4")["low_stock_threshold"], 4)
        self.assertEqual(self.one("stock", "get", "t-jam")["low_stock_threshold"], 4)
        order = self.place("t-jam", 7, wait_for_decision=True)
        self.place("t-jam", wait_for_decision=True)
        self.assertIn("4, low", self.ctl("stock", "get", "t-jam"))
        told = self.json("events", "tail", "--type", "StockLow", "--order", "t-jam")
        self.assertEqual([(e["data"]["stock"]["available"], e["data"]["stock"]["low_stock_threshold"]) for e in told], [(3, 4)])
        self.order.CancelOrder(order_id=order.order_id)
        self.settled(order.order_id)
        self.assertNotIn("low", self.ctl("stock", "get", "t-jam").splitlines()[1])
        entries = self.json("trail", "--action", "stock.threshold", "--subject", "t-jam")
        self.assertEqual([(e["why"], e["result"]) for e in entries], [("spring", "0 to 4")])
        self.ctl("stock", "threshold", "t-nothing=1", code=NO)
        for bad in ("t-jam", "t-jam=", "t-jam=-1"):
            self.ctl("stock", "threshold", bad, code=WRONG)

    def test_holders(self):
        """Who holds a SKU, and what ends that."""
        self.stock("h-tea", 10)
        for name in ("explain", "--sku"), ("stock", "holders"):
            self.assertIn("held" if "explain" in name else "no order holds it", self.ctl(*name, "h-tea"))
        held = self.place("h-tea", 2, customer_id="anna", wait_for_decision=True)
        more = [self.place("h-tea", customer_id="bert", wait_for_decision=True).order_id for _ in range(3)]
        sold = self.place("h-tea", 4, wait_for_decision=True).order_id
        self.order.ConfirmOrder(order_id=sold)
        self.settled(sold)
        listed = {row["order_id"]: row for row in self.json("stock", "holders", "h-tea")}
        self.assertEqual(set(listed), {held.order_id, *more})
        self.assertEqual(listed[held.order_id]["lines"], [{"sku": "h-tea", "quantity": 2, "returned": 0}])
        paged = self.pages("stock", "holders", "h-tea", "-n", "1")
        self.assertEqual({row["order_id"] for row in paged}, set(listed))
        found = self.one("explain", "--sku", "h-tea")
        self.assertEqual((found["stock"]["reserved"], found["held"], found["holders"]), (5, 5, 4))
        row = next(row for row in found["reservations"] if row["order_id"] == held.order_id)
        self.assertEqual((row["quantity"], row["customer_id"], row["status"]), (2, "anna", "RESERVED"))
        self.assertIn("the first hold runs out at", found["next"])
        text = self.ctl("explain", "--sku", "h-tea")
        self.assertIn("5 are held by 4 orders", text)
        self.assertIn("anna", text)
        # One reservation.
        found = self.one("explain", "--reservation", held.order_id)
        self.assertEqual(found["reservation"]["state"], "RESERVATION_STATE_RESERVED")
        self.assertEqual(found["order"]["customer_id"], "anna")
        self.assertIn("comes back when it is cancelled", found["next"])
        self.assertIn("this is sold", self.ctl("explain", "--reservation", sold))
        short = self.place("h-tea", 9, wait_for_decision=True).order_id
        self.assertIn("9 were asked for and 1 available", self.ctl("explain", "--reservation", short))
        self.ctl("explain", "--reservation", "ord_" + "e" * 26, code=NO)
        self.ctl("explain", "--sku", "h-nothing", code=NO)
        self.ctl("explain", "--sku", "h-tea", held.order_id, code=WRONG)
        self.ctl("stock", "holders", code=WRONG)

    def test_top(self):
        """One frame: what was done in its interval, by service, and how far groups are behind."""
        self.stock("t-tea", 100000)
        with tandem.Loads([tandem.Load(self.order, "t-tea", "top")]) as loads:
            loads.go_on(20)
            frame, services = {}, {}

            def some_are_decided():
                """Not in each interval: the machine may do something else then."""
                frame.update(self.one("top", "--once", "--interval", "500ms"))
                services.update((row["service"], row) for row in frame["services"])
                rates = (services["gateway"]["calls_per_s"], services["gateway"]["p99_ms"],
                         *(frame["orders"][of] for of in ("placed_per_s", "reserved_per_s", "decision_p50_ms")))
                return all(rate is not None and rate > 0 for rate in rates)

            tandem.until(some_are_decided, 20 * tandem.SLOW, lambda: frame)
            self.assertEqual(set(services), {"gateway", *tandem.CONTEXTS})
            orders = frame["orders"]
            self.assertLessEqual(orders["decision_p50_ms"], orders["decision_p99_ms"])
            self.assertEqual(set(frame["refused"]["load"]), {"events", "age", "storing", "arriving", "memory"})
            self.assertEqual(frame["refused"]["share"], 0)
            streams = {(row["of"], row["reader"]) for row in frame["streams"]}
            self.assertEqual(streams, {("order", "inventory"), ("inventory", "order"), ("archive", "order"),
                                       ("order", "archive"), ("inventory", "archive")})
            steps = {row["step"]: row for row in frame["batches"]}
            self.assertGreaterEqual(steps["order_place"]["items"], 1)
            self.assertIn("PlaceOrder", [row["method"] for row in frame["methods"]])
            text = self.ctl("top", "--once", "--interval", "200ms")
            for word in ("SERVICE", "PLACED/S", "REFUSED", "OLDEST", "BATCHES OF", "SLOWEST OF", "order_place"):
                self.assertIn(word, text)
            self.assertNotIn("\x1b", text, "this is no terminal")
        # A service that does not answer is said to do so, the others are shown.
        frame = self.json("top", "--once", "-i", "100ms", env={"TANDEM_ORDER_ADMIN_LISTEN": "127.0.0.1:1"})[0]
        away = next(row for row in frame["services"] if row["service"] == "order")
        self.assertIn("127.0.0.1:1: Connection refused", away["why"])
        self.assertIsNone(frame["orders"]["unsettled"])
        self.ctl("top", "--interval", "1ms", code=WRONG)

    def test_top_goes_on(self):
        """At a terminal a frame replaces the one before; Ctrl-C ends it."""
        master, slave = pty.openpty()
        popen = subprocess.Popen(
            [tandem.CTL, "top", "--interval", "100ms"], env=self.tandem.env, stdout=slave, stderr=slave,
            # Who runs in the background of a script ignores it, and so do its children.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
        os.close(slave)
        seen = b""
        while seen.count(b"\x1b[H") < 3:
            seen += os.read(master, 65536)
        popen.send_signal(signal.SIGINT)
        popen.wait(20 * tandem.SLOW)
        os.close(master)

    def test_events(self):
        self.stock("e-apple", 10)
        number = self.place("e-apple", 2, wait_for_decision=True).order_id
        events = self.json("events", "tail", "--order", number)
        self.assertEqual(
            sorted(e["type"].split(".")[-1] for e in events),
            ["InventoryReserved", "OrderPlaced", "OrderReserved"],
        )
        placed = next(e for e in events if e["type"].endswith("OrderPlaced"))
        self.assertEqual(
            placed["data"]["content"]["lines"], [{"sku": "e-apple", "quantity": 2}]
        )
        self.assertEqual(placed["event_id"], f"{number}/1")
        self.assertEqual(placed["seq"], 1)
        self.assertEqual(self.one("events", "show", f"{number}/1", "-c", "order"), placed)
        self.assertEqual(self.one("events", "show", placed["stream_id"]), placed)
        self.ctl("events", "show", "1-1", code=NO)
        only = self.json("events", "tail", "--type", "StockAdjusted", "-n", "1")
        self.assertEqual([e["type"] for e in only], ["tandem.inventory.v1.StockAdjusted"])
        self.assertEqual(self.json("events", "tail", "--order", number, "--since", "1h"), events)
        stored = int(placed["stream_id"].split("-")[0])
        for late, found in ((0, [placed]), (-1, [])):
            at = datetime.datetime.fromtimestamp((stored + late) / 1000, datetime.timezone.utc)
            older = self.json("events", "tail", "--order", number, "--until", at.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z")
            self.assertEqual([e for e in older if e["type"] == placed["type"]], found)
        self.ctl("events", "tail", "--until", "yesterday", code=WRONG)
        self.ctl("events", "tail", "--follow", "--until", "2026-11-23T01:02:03.004Z", code=WRONG)
        for args in (
            ("events", "tail"), ("events", "aside"), ("dead", "list"), ("dead", "discard", "--all", "--why", "w")
        ):
            self.ctl(*args, "--type", "OrderPlced", code=WRONG)
            self.assertIn("OrderPlaced, OrderReserved", self.said)
        self.ctl("events", "tail", "--type", "tandem.order.v1.OrderPlced", code=WRONG)
        text = self.ctl("events", "tail", "--order", number).splitlines()
        self.assertEqual(
            text[0].split(), ["TIME", "CONTEXT", "STREAM_ID", "TYPE", "EVENT_ID", "DATA"]
        )
        self.assertEqual(len(text), 4)
        self.assertEqual(text[1].index("order "), text[0].index("CONTEXT"))
        self.assertEqual(text[1].index("OrderPlaced"), text[0].index("TYPE"))
        self.assertEqual(text[1].index(f"{number}/1"), text[0].index("EVENT_ID"))
        self.assertEqual(self.ctl("events", "tail", "--order", "nobody"), "no events\n")
        lag = {row["group"]: row for row in self.json("events", "lag")}
        self.assertEqual(set(lag), {"order", "inventory", "archive"})
        self.assertGreaterEqual(lag["inventory"]["consumers"], 1)
        self.assertEqual(len(lag["inventory"]["consumer_list"]), lag["inventory"]["consumers"])
        self.assertEqual(set(lag["inventory"]["consumer_list"][0]), {"name", "pending", "seen_ms"})

    def test_a_group_behind_a_trimmed_stream(self):
        """Its lag is what is left of the stream, not all that was ever written."""
        self.stock("lag", 10)
        for _ in range(3):
            self.place("lag", wait_for_decision=True)
        self.caught_up()
        ops = self.tandem.redis_as("ops")
        self.addCleanup(ops, "XGROUP", "DESTROY", tandem.ORDERS, "late")

        def behind():
            """What events lag and doctor say; doctor warns from half of the limit on."""
            [lag] = [row["lag"] for row in self.json("events", "lag") if row["group"] == "late"]
            _, rows = self.tandem.ctl_json(
                "doctor", env={"TANDEM_ORDER_STREAM_LENGTH_MAX": str(2 * lag)}
            )
            [held] = [row["detail"] for row in rows if row["check"] == "group late"]
            return lag, int(re.search(r"has not acknowledged (\d+) events", held)[1])

        ops("XTRIM", tandem.ORDERS, "MAXLEN", "2")
        ops("XGROUP", "CREATE", tandem.ORDERS, "late", "0")
        self.assertEqual(behind(), (2, 2))
        ops("XREADGROUP", "GROUP", "late", "c", "COUNT", "1", "STREAMS", tandem.ORDERS, ">")
        self.assertEqual(behind(), (1, 2))
        ops("XTRIM", tandem.ORDERS, "MAXLEN", "1")
        self.assertEqual(behind(), (1, 1))

    def test_events_follow(self):
        self.stock("f-apple", 10000)
        follow = subprocess.Popen(
            [tandem.CTL, "events", "tail", "-f", "-n", "0", "--type", "OrderReserved", "--json"],
            env=self.tandem.env,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            deadline = time.monotonic() + 20 * tandem.SLOW
            clients = self.tandem.redis_as("ops")
            while b"name=tandemctl" not in clients("CLIENT", "LIST"):
                self.assertLess(time.monotonic(), deadline)
            # Events before its first read are not shown, so orders are placed until one is shown.
            placed = set()
            os.set_blocking(follow.stdout.fileno(), False)
            line = ""
            while not line:
                self.assertLess(time.monotonic(), deadline)
                placed.add(self.place("f-apple", wait_for_decision=True).order_id)
                line = follow.stdout.readline()
            self.assertIn(json.loads(line)["subject"], placed)
            clients.close()
        finally:
            follow.terminate()
            follow.wait()
            follow.stdout.close()

    def test_explain(self):
        self.stock("x-apple", 10)
        number = self.place("x-apple", 2, wait_for_decision=True).order_id
        life = self.one("explain", number)
        self.assertEqual(
            [(e["context"], e["kind"]) for e in life["events"]],
            [
                ("order", "OrderPlaced"),
                ("inventory", "InventoryReserved"),
                ("order", "OrderReserved"),
                ("order", "timer"),
            ],
        )
        self.assertEqual(life["trace_id"], tandem.trace_of(number))
        self.assertIn("RESERVED", life["reservation"])
        self.assertIn("inventory holds every line", life["because"])
        self.assertIn("ConfirmOrder or CancelOrder", life["next"])
        self.ctl("order", "cancel", "--reason", "x", number)
        self.settled(number)
        text = self.ctl("explain", number)
        self.assertIn("InventoryReleased", text)
        self.assertEqual(text.splitlines()[-1], "Next: Nothing: the order is settled.")
        self.ctl("explain", "ord_" + "b" * 26, code=NO)

    def test_explain_without_inventory(self):
        """The order cannot be decided: the last lines say why."""
        with self.tandem.away("inventory"):
            number = self.place("w-apple").order_id
            life = self.one("explain", number)
            self.assertIn("inventory has not read OrderPlaced yet", life["because"])
            self.assertIn("is asked again", life["next"])
            redis = self.tandem.redis_as("ops")

            def lost():
                """Until the order asks again, after a pause that grows."""
                redis("XTRIM", "order:{0}:events", "MAXLEN", 0)
                life.update(self.one("explain", number))
                return "was lost from the stream" in life["because"]

            tandem.until(lost, 60 * tandem.SLOW, lambda: life["because"])
            redis.close()

    def test_what_is_set_aside(self):
        """A cancellation that inventory cannot process, and another one behind it: explain shows both, and
        once the cause is gone the order is settled."""
        self.stock("a-apple", 10)
        number = self.place("a-apple", 2, wait_for_decision=True).order_id
        self.assertEqual(self.json("events", "aside", "--order", number), [])
        ops = self.tandem.redis_as("ops")
        good = ops("HGET", "inventory:{0}:r", number)
        ops("HSET", "inventory:{0}:r", number, "damaged")
        self.ctl("order", "cancel", "--reason", "x", number)

        def aside():
            return self.json("events", "aside", "--context", "inventory", "--order", number)

        tandem.until(lambda: any(row["failed"] for row in aside()), 20 * tandem.SLOW, aside, every=0.1)
        kind, time_ = "tandem.order.v1.OrderCancelled", "2026-01-01T00:00:00.000Z"
        ops("XADD", tandem.ORDERS, "*", kind, f"{number}/3", "time", time_)
        tandem.until(lambda: len(aside()) > 1, 20 * tandem.SLOW, aside, every=0.1)
        first, second, *_ = aside()  # the order may have asked again meanwhile
        self.assertEqual(first["event_id"], f"{number}/3")
        self.assertEqual(first["type"], kind)
        self.assertEqual((first["behind"], second["behind"]), (None, f"{number}/3"))
        [placed] = [event for event in self.events(tandem.ORDERS, number) if event.seq == 3][:1]
        self.assertEqual(first["entry_stream_id"], placed.stream_id)
        self.assertNotIn("original_stream_id", first)
        self.assertTrue(first["consumer"], first)
        waits = (
            r"CANCELLED .*; inventory has set OrderCancelled aside for .*: it failed \d+ times?, "
            r"and waits for its next try\."
        )
        # While the first one is tried again it is not the reason.
        life = tandem.until(
            lambda: next((life for life in [self.one("explain", number)] if re.search(waits, life["because"])), None),
            20 * tandem.SLOW,
            lambda: self.one("explain", number)["because"],
        )
        rows = [event["text"] for event in life["events"] if event["kind"] == "set aside"]
        self.assertGreaterEqual(len(rows), 2)
        self.assertRegex(rows[0], r"OrderCancelled \(.*\) failed \d+ times? and waits for its next try")
        self.assertIn(f"waits for OrderCancelled ({number}/3), which is tried again", rows[1])
        [lag] = [row for row in self.json("events", "lag") if row["group"] == "inventory"]
        self.assertGreaterEqual(lag["aside"], 2)
        self.assertEqual(lag["pending"], 0)
        text = self.ctl("events", "aside")
        self.assertTrue(text.startswith("STREAM_ID "), text)
        self.assertIn("its next try", text)
        ops("HSET", "inventory:{0}:r", number, good)
        ops.close()
        tandem.until(lambda: self.get(number).settled, 20 * tandem.SLOW, "settled")
        self.caught_up()
        self.assertEqual(aside(), [])
        self.assertIn("nothing is set aside", self.ctl("events", "aside"))
        self.assertEqual(self.one("stock", "get", "a-apple")["available"], 10)

    def test_what_is_set_aside_while_nobody_reads(self):
        """What is pending, for whom, and behind what, with any filter; the deliveries of all events are one
        command."""
        ops = self.tandem.redis_as("ops")
        stream, first, last = "inventory:{0}:aside:order", "ord_" + "a" * 26, "ord_" + "z" * 26

        def add(subject, seq, type_):
            return ops(
                *("XADD", stream, "*", "id", f"{subject}/{seq}", "type", f"tandem.order.v1.{type_}"),
                *("subject", subject, "seq", seq, "time", "2026-01-01T00:00:00.000Z", "data", ""),
            ).decode()

        def pending_commands():
            calls = re.search(rb"cmdstat_xpending:calls=(\d+)", ops("INFO", "commandstats"))
            return int(calls[1]) if calls else 0

        with self.tandem.away("inventory", "order"):
            ops("DEL", stream)  # other tests may have left their group, with nothing in it
            ops("XGROUP", "CREATE", stream, "inventory", "0", "MKSTREAM")
            try:
                ids = [add(first, 3, "OrderCancelled"), add(first, 4, "OrderReserved")]
                # An entry with several events, as an operator may add it.
                kind, time_ = "tandem.order.v1.OrderConfirmed", "2026-01-01T00:00:00.000Z"
                ids += [ops("XADD", stream, "*", kind, "p/2 q/2", "time", time_).decode()] * 2
                ops("XREADGROUP", "GROUP", "inventory", "reader", "STREAMS", stream, ">")
                ops("XCLAIM", stream, "inventory", "other", 0, ids[1], "RETRYCOUNT", 6, "JUSTID")
                ids.append(add(last, 5, "OrderRejected"))
                before = pending_commands()
                rows = self.json("events", "aside")
                self.assertEqual(pending_commands() - before, 1)
                self.assertEqual([row["stream_id"] for row in rows], ids)
                self.assertEqual(
                    [(row["event_id"], row["consumer"], row["failed"], row["behind"]) for row in rows],
                    [
                        (f"{first}/3", "reader", 0, None),
                        (f"{first}/4", "other", 5, f"{first}/3"),
                        ("p/2", "reader", 0, None),
                        ("q/2", "reader", 0, None),
                        (f"{last}/5", "", 0, None),
                    ],
                )
                only = self.json("events", "aside", "--type", "OrderReserved")
                self.assertEqual(only, [rows[1]])
                self.assertEqual(self.json("events", "aside", "--order", "q"), [rows[3]])
                text = self.ctl("events", "aside", "--type", "OrderReserved")
                self.assertIn(f"OrderCancelled ({first}/3), which is tried again", text)
                self.assertNotIn("its next try", text)
            finally:
                ops("DEL", stream)

    def add_dead_letter(self):
        """Adds an entry that inventory cannot process; its id as a dead letter."""
        redis = self.tandem.redis_as("ops")
        subject = "ord_" + "a" * 26
        redis(
            *("XADD", "order:{0}:events", "*", "id", f"{subject}/1", "subject", subject),
            *("type", "tandem.order.v1.OrderPlaced", "seq", 1, "data", b"\x0a\x7fnonsense"),
            *("time", "2026-01-01T00:00:00.000Z", "extra", b"\x1b[2J\xff"),
        )
        redis.close()
        return self.dead()["stream_id"]

    def dead(self):
        """The one dead letter; waits for it."""
        there = self.tandem.redis_as()
        tandem.until(lambda: there("XLEN", "inventory:{0}:dead"), 20 * tandem.SLOW, "a dead letter")
        return self.one("dead", "list", "-c", "inventory")

    def test_dead_letters(self):
        number = self.add_dead_letter()
        letter = self.one("dead", "show", number)
        self.assertEqual(letter["stream"], "order:{0}:events")
        self.assertEqual(letter["extra"], "\\x1b[2J\\xff")
        self.assertIn("undecoded", letter)
        self.assertNotIn("\x1b", self.ctl("dead", "show", number) + self.ctl("dead", "list"))
        self.ctl("dead", "replay", code=WRONG)
        self.ctl("dead", "replay", "--all", number, code=WRONG)
        self.ctl("dead", "replay", "nonsense", code=WRONG)
        self.ctl("dead", "show", "1-1", code=NO)
        self.assertEqual(
            self.one("dead", "replay", "--all", "--dry-run")["outcome"], "would be replayed to"
        )
        # It fails again each time; the fourth replay is refused.
        for replayed in (1, 2, 3):
            self.assertEqual(self.one("dead", "replay", number)["outcome"], "replayed to")
            self.ctl("dead", "replay", number, code=NO)
            letter = self.dead()
            self.assertEqual(letter["replayed"], replayed)
            self.assertEqual(letter["extra"], "\\x1b[2J\\xff")
            number = letter["stream_id"]
        self.assertEqual(self.one("dead", "replay", number, code=NO)["outcome"], "refused")
        self.assertEqual(self.one("dead", "replay", "--force", number)["outcome"], "replayed to")
        number = self.dead()["stream_id"]
        self.assertEqual(self.json("dead", "discard", "--all", "--type", "OrderExpired", "--why", "w"), [])
        self.assertEqual(
            self.one("dead", "discard", "--all", "--dry-run")["outcome"], "would be discarded"
        )
        # Without --yes, --all asks if standard input is a terminal, else it is refused.
        self.assertEqual(self.ctl("dead", "discard", "--all", "--why", "w", code=WRONG), "")
        self.assertIn("--yes", self.said)
        for answer, code in ((b"n\n", NO), (b"\n", NO), (b"yes\n", FINE)):
            here, there = pty.openpty()
            os.write(here, answer)
            done = subprocess.run(
                [tandem.CTL, "dead", "discard", "--all", "--why", "w", "--json"], env=self.tandem.env, stdin=there,
                capture_output=True, text=True,
            )
            os.close(here)
            os.close(there)
            self.assertEqual(done.returncode, code, done.stderr)
            self.assertIn("delete 1 dead letters for good? [y/N]", done.stderr)
        self.assertEqual(json.loads(done.stdout)["outcome"], "discarded")
        self.assertEqual(self.json("dead", "discard", "--all", "--why", "w"), [])
        self.add_dead_letter()
        self.assertEqual(self.one("dead", "discard", "--all", "--yes", "--why", "w")["event_id"],
                         "ord_" + "a" * 26 + "/1")
        number = self.add_dead_letter()
        self.assertEqual(self.one("dead", "discard", "--why", "w", number)["outcome"], "discarded")
        self.assertEqual(self.json("dead", "list"), [])
        self.assertIn("no dead letters", self.ctl("dead", "list"))

    def test_replay_of_what_took_effect(self):
        """A good event that is among the dead letters: its replay changes nothing."""
        self.stock("r-apple", 5)
        number = self.place("r-apple", 2, wait_for_decision=True).order_id
        redis = self.tandem.redis_as("ops")
        [placed] = [event for event in self.events(tandem.ORDERS, number) if event.seq == 1]
        for _ in range(2):
            redis(
                *("XADD", "inventory:{0}:dead", "*", *placed.fields(), "stream", tandem.ORDERS),
                *("stream_id", placed.stream_id, "group", "inventory", "reason", "by hand"),
            )
        redis.close()
        self.assertEqual(len(self.json("dead", "replay", "--all", "--reason", "by hand")), 2)
        tandem.until(
            lambda: not any(row["lag"] or row["pending"] for row in self.json("events", "lag")),
            20 * tandem.SLOW,
            "all is read",
            every=0.2,
        )
        self.assertEqual(self.json("dead", "list"), [])
        stock = self.one("stock", "get", "r-apple")
        self.assertEqual((stock["available"], stock["reserved"]), (3, 2))
        self.assertEqual(self.one("order", "get", number)["version"], 2)

    def test_used_wrongly(self):
        for args in ((), ("order",), ("nothing",), ("order", "nothing"), ("order", "get"),
                      ("order", "get", "a", "b"), ("--nothing",), ("events", "tail", "x"),
                      ("events", "lag", "x"), ("events", "lag", "--timeout", "soon"),
                      ("stock", "list", "--redis-port", "0"),
                      ("load", "--rate", "5", "--saturate"), ("load", "--saturate=5", "--rate=5"),
                      ("load", "--rate", "0"), ("load", "what")):
            self.ctl(*args, code=WRONG)
        self.ctl("load", "--rate", "2000000", code=WRONG)
        self.assertIn("--rate: 2000000 is not within 0 … 1000000\n", self.said)

    def test_help(self):
        """Every command has help, on standard output, with exit code 0."""
        text = self.ctl("--help")
        commands = re.findall(r"^  ((?:[a-z]+ )?[a-z-]+) +[A-Z]", text.split("Commands:")[1], re.M)
        self.assertGreater(len(commands), 15)
        for command in commands:
            text = self.ctl(*command.split(), "--help")
            self.assertIn(f"tandemctl {command}", text)
            self.assertIn("Options of every command:", text)
            self.assertIn("--json", text)
            self.ctl(*command.split(), "--no-such-option", code=WRONG)
        for group in {command.split()[0] for command in commands if " " in command}:
            self.assertIn(f"  {group} ", self.ctl(group, "--help"))

    def test_a_reader_that_ends(self):
        """`tandemctl … | head -1` ends as `cat … | head -1` does."""
        self.ctl("stock", "adjust", *[f"pipe-{n}=+1" for n in range(60)])
        for command in (
            "order --help",
            "--help",
            "--print-manual",
            "stock list --json",
            "events tail -n 100 --json",
            "doctor --json",
            "doctor",
        ):
            # The reader ends before the first line is written.
            done = subprocess.run(
                ["bash", "-c", f"exec 3> >(exec true); wait $!; '{tandem.CTL}' {command} >&3"],
                env=self.tandem.env, capture_output=True, text=True,
            )
            self.assertEqual((done.returncode, done.stderr), (141, ""), command)
        self.assertRegex(self.ctl("--version"), r"^tandemctl \d+\.\d+")

    def test_services_that_do_not_run(self):
        self.ctl("order", "get", "x", "--gateway", "127.0.0.1:1", "--timeout", "2s", code=AWAY)
        for args in (("events", "lag"), ("dead", "list"), ("explain", "x")):
            self.ctl(*args, "--redis-port", "1", code=AWAY)
        self.ctl("events", "lag", "--redis-password-file", "/nonexistent", code=AWAY)

    def test_without_the_password(self):
        """Commands that read need none; those that write do."""
        env = {"TANDEM_VAR": "/nonexistent"}
        self.assertIn("order:{0}:events", self.ctl("events", "lag", env=env))
        number = self.add_dead_letter()
        self.ctl("dead", "replay", number, env=env, code=AWAY)
        self.assertIn("/nonexistent/secrets/ops", self.said)
        self.assertNotIn("NOPERM", self.said)
        self.ctl("audit", env=env)
        # What the default user can read is checked, the rest is reported as unchecked.
        rows = {row["check"]: row for row in self.json("doctor", env=env)}
        self.assertEqual(
            {row["result"] for row in rows.values()} - {"ok", "warn", "unchecked"}, set(), rows
        )
        unchecked = [row for row in rows.values() if row["result"] == "unchecked"]
        self.assertIn("users", [row["check"] for row in unchecked])
        for row in unchecked:
            self.assertIn("/nonexistent/secrets/ops", row["detail"])
        self.assertEqual(rows["redis version"]["result"], "ok")
        self.ctl("dead", "discard", "--why", "w", number)

    def test_output_that_cannot_be_written(self):
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [tandem.CTL, "events", "lag"], env=self.tandem.env, stdout=full, stderr=subprocess.PIPE
            )
        self.assertEqual(done.returncode, AWAY)

    def test_completion(self):
        script = os.path.join(tandem.ROOT, "packaging", "bash-completion", "tandemctl")
        for args, expected in (
            (["tandemctl", "or"], "order"),
            (["tandemctl", "order", "pl"], "place"),
            (["tandemctl", "dead", "replay", "--dr"], "--dry-run"),
            (["tandemctl", "explain", "--js"], "--json"),
            (["tandemctl", "groups", "remove", "--wh"], "--why"),
            (["tandemctl", "trail", "--wh"], ""),
            (["tandemctl", "events", "tail", "--context", "inv"], "inventory"),
            (["tandemctl", "order", "list", "--status", "=", "PEN"], "PENDING"),
            (["tandemctl", "orders", ""], ""),
            (["tandemctl", "load", "what"], ""),
            (["tandemctl", "o"], "order"),
            (["tandemctl", "events", "lag", "--jso"], "--json"),
        ):
            line = " ".join(f"'{word}'" for word in args)
            done = subprocess.run(
                ["bash", "-c", f". '{script}'; COMP_WORDS=({line}); COMP_CWORD={len(args) - 1}; "
                 "_tandemctl; printf '%s\\n' \"${COMPREPLY[@]}\""],
                env={**self.tandem.env, "PATH": f"{tandem.BUILD}:{os.environ['PATH']}"},
                capture_output=True, text=True,
            )
            self.assertEqual(done.stdout.strip(), expected, done.stderr)


if __name__ == "__main__":
    tandem.main()
