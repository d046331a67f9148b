"""A store of several partitions, on one Redis."""
import json
import os
import subprocess
import unittest

import tandem
from collector import Collector


class Disagreements:
    """Data made by hand in a store of 8 partitions without services: what tandemctl says about it. For a class
    with a started `tandem`."""

    MS = "1700000000000"

    def setUp(self):
        self.ops = self.tandem.redis_as("ops")
        for context in tandem.CONTEXTS:
            self.write("SET", f"{context}:{{0}}:partitions", 8)

    def write(self, command, key, *arguments):
        self.ops(command, key, *arguments)
        self.addCleanup(self.ops, "DEL", key)

    def reservation(self, p, name, text):
        self.write("HSET", f"inventory:{{{p}}}:r", name, text)

    def part(self, q, name, text):
        self.write("HSET", f"inventory:{{{q}}}:parts", name, text)

    def stock(self, q, sku, *counters):
        self.write("HSET", f"inventory:{{{q}}}:stock", sku, " ".join(map(str, counters)))

    def audit(self, code, *arguments):
        """{(subject, partition): names of its violations}, and the summary."""
        ended, rows = self.tandem.ctl_json("audit", "--window", "1ms", *arguments)
        self.assertEqual(ended, code, rows)
        found = {}
        for row in rows[:-1]:
            place = row.get("order_id", row.get("sku")), row["partition"]
            found.setdefault(place, set()).add(row["violation"])
        return found, rows[-1]

    def test_each_disagreement_of_parts_is_named(self):
        held, sold, ended = "reservation-without-order", "sold-without-order", None
        rows = (
            # Reservation, {partition: part}, what is wrong besides that there is no order.
            ("RESERVED", {1: "RESERVED 0 a=1", 2: "RESERVED 0 b=2"}, held, set()),
            ("COMMITTED", {1: "COMMITTED 0 a=1", 2: "COMMITTED 0 b=2"}, sold, set()),
            ("RELEASED", {1: "RELEASED 0 ", 2: "UNAVAILABLE 0 b=2"}, ended, set()),
            ("RESERVED", {1: "RESERVED 0 a=1"}, held, {"part-missing"}),
            ("RESERVED", {1: "RESERVED 0 a=1", 2: "RELEASED 0 b=2"}, held, {"part-missing"}),
            ("COMMITTED", {1: "COMMITTED 0 a=1"}, sold, {"part-missing"}),
            ("RESERVED", {1: "COMMITTED 0 a=1", 2: "RESERVED 0 b=2"}, held, {"part-sold-unconfirmed"}),
            ("COMMITTED", {1: "COMMITTED 0 a=1", 2: "RESERVED 0 b=2"}, sold, {"part-not-sold"}),
            ("RELEASED", {1: "RELEASED 0 a=1", 2: "RESERVED 0 b=2"}, ended, {"part-held"}),
            ("UNAVAILABLE", {1: "COMMITTED 0 a=1"}, ended, {"part-sold"}),
            ("RESERVED", {1: "RESERVED 0 a=2", 2: "RESERVED 0 b=2"}, held, {"part-differs"}),
            ("RESERVED", {1: "RESERVED 0 a=1", 2: "RESERVED 0 b=2", 5: "RESERVED 0 c=1"}, held,
             {"part-without-record"}),
            (None, {5: "RESERVED 0 c=1"}, None, {"part-without-record"}),
            (None, {5: "COMMITTED 0 c=1"}, None, {"part-sold-without-record"}),
            (None, {5: "RELEASED 0 "}, None, set()),
            ("RESERVED", {1: "RESERVED 0 a=1", 2: "what"}, held, {"part-missing"}),
            # Counted last: of a part that cannot be read nobody knows whose it is.
        )
        expected, sums = {}, {}
        for number, (state, parts, without, wrong) in enumerate(rows):
            name = f"order-{number}"
            if state:
                self.reservation(0, name, f"{state} 1 {self.MS} a=1@1 b=2@2")
            for q, text in parts.items():
                word, _, rest = text.partition(" 0 ")
                self.part(q, name, f"{word} 0 {self.MS} {rest}" if rest or " 0 " in text else text)
                if word in ("RESERVED", "COMMITTED"):
                    sku, _, quantity = rest.partition("=")
                    sums.setdefault((q, sku), [0, 0])[word == "COMMITTED"] += int(quantity)
            wrong = wrong | ({without} if without else set())
            if "what" in parts.values():
                wrong = (wrong - {"part-missing"}) | {"part-damaged"}
                expected[name, 2] = {"part-damaged"}
            if wrong:
                expected[name, 0] = wrong
        for (q, sku), (reserved, committed) in sums.items():
            self.stock(q, sku, 10, reserved, committed, 10 + reserved + committed, 1)
        found, summary = self.audit(1)
        self.assertEqual(found, expected)
        self.assertEqual(summary["parts"], sum(len(parts) for _, parts, _, _ in rows))
        self.assertEqual(summary["partitions"], 8)

    def test_counters_are_compared_with_parts_and_whole_reservations(self):
        self.reservation(3, "whole", f"RESERVED 1 {self.MS} d=4")
        self.reservation(0, "split", f"RESERVED 1 {self.MS} d=3@3 e=1@0")
        self.part(3, "split", f"RESERVED 0 {self.MS} d=3")
        self.part(0, "split", f"RESERVED 0 {self.MS} e=1")
        self.stock(3, "d", 1, 7, 0, 8, 1)
        self.stock(0, "e", 1, 1, 0, 2, 1)
        without = {("whole", 3): {"reservation-without-order"}, ("split", 0): {"reservation-without-order"}}
        self.assertEqual(self.audit(1)[0], without)
        self.stock(3, "d", 4, 4, 0, 8, 1)
        self.stock(0, "e", 2, 0, 0, 2, 1)
        self.stock(7, "f", 2, 0, 0, 3, 1)
        wrong = {("d", 3): {"reserved-sum"}, ("e", 0): {"reserved-sum"}, ("f", 7): {"stock-sum"}}
        self.assertEqual(self.audit(1)[0], {**without, **wrong})
        # The counters become the sums, and what is held is released.
        self.assertEqual(self.audit(1, "--repair-counters", "--yes")[0], {**without, **wrong})
        self.assertEqual(self.audit(0)[0], {})
        self.assertEqual(self.ops("HGET", "inventory:{3}:stock", "d"), b"8 0 0 8 4")
        for partition in (0, 3):
            self.ops("DEL", f"inventory:{{{partition}}}:events")

    def test_what_is_split_is_repaired(self):
        rows = (
            # What is repaired: reservation, {partition: part before}; both after it; what is left.
            ("RESERVED", {0: "RESERVED", 3: "RESERVED"}, "RELEASED", {0: "RELEASED", 3: "RELEASED"}, set()),
            ("RESERVED", {0: "RESERVED"}, "RELEASED", {0: "RELEASED", 3: "RELEASED"}, set()),
            ("RESERVED", {0: "RESERVED", 3: "RESERVED", 7: "RESERVED"}, "RELEASED",
             {0: "RELEASED", 3: "RELEASED", 7: "RELEASED"}, set()),
            ("COMMITTED", {0: "COMMITTED", 3: "RESERVED"}, "COMMITTED", {0: "COMMITTED", 3: "COMMITTED"},
             {"sold-without-order"}),
            ("COMMITTED", {0: "COMMITTED"}, "COMMITTED", {0: "COMMITTED", 3: "COMMITTED"}, {"sold-without-order"}),
            ("COMMITTED", {0: "COMMITTED", 3: "COMMITTED", 7: "RESERVED"}, "COMMITTED",
             {0: "COMMITTED", 3: "COMMITTED", 7: "RELEASED"}, {"sold-without-order"}),
            ("RELEASED", {0: "RELEASED", 3: "RESERVED"}, "RELEASED", {0: "RELEASED", 3: "RELEASED"}, set()),
            ("UNAVAILABLE", {0: "COMMITTED", 3: "UNAVAILABLE"}, "UNAVAILABLE", {0: "RELEASED", 3: "UNAVAILABLE"},
             set()),
            (None, {7: "RESERVED"}, "RELEASED", {7: "RELEASED"}, set()),
            # Nobody knows who bought it.
            (None, {7: "COMMITTED"}, None, {7: "COMMITTED"}, {"part-sold-without-record"}),
        )
        skus = {0: "e", 3: "d", 7: "f"}
        counts = {q: [0, 0] for q in skus}
        for number, (state, parts, *_) in enumerate(rows):
            if state:
                self.reservation(1, f"order-{number}", f"{state} 1 {self.MS} e=2@0 d=3@3")
            for q, word in parts.items():
                self.part(q, f"order-{number}", f"{word} 1 {self.MS} {skus[q]}={2 if q == 0 else 3}")
                if word in ("RESERVED", "COMMITTED"):
                    counts[q][word == "COMMITTED"] += 2 if q == 0 else 3
        for q, (reserved, committed) in counts.items():
            self.stock(q, skus[q], 50, reserved, committed, 50 + reserved + committed, 1)
        before, _ = self.audit(1)
        self.assertEqual(set(before), {(f"order-{number}", 1) for number in range(len(rows))})
        self.audit(1, "--repair", "--yes")
        after, _ = self.audit(1)
        for number, (_, _, state, parts, left) in enumerate(rows):
            record = self.ops("HGET", "inventory:{1}:r", f"order-{number}") or b""
            found = {}
            for q in skus:
                text = self.ops("HGET", f"inventory:{{{q}}}:parts", f"order-{number}")
                if text:
                    found[q] = text.decode().split()[0]
            self.assertEqual((record.decode().partition(" ")[0], found), (state or "", parts), number)
            self.assertEqual(after.pop((f"order-{number}", 1), set()), left, number)
        self.assertEqual(after, {})
        # Sold, and not available: it is owed.
        self.stock(3, "d", 1, 0, 9, 10, 9)
        self.ops("HDEL", "inventory:{3}:parts", "order-4")
        self.stock(3, "d", 1, 0, 6, 7, 9)
        owed = {"sold-without-order", "part-missing"}
        self.assertEqual(self.audit(1, "--repair", "--yes")[0]["order-4", 1], owed)
        self.assertEqual(self.audit(1)[0]["order-4", 1], owed)
        for p in (0, 1, 3, 7):
            self.ops("DEL", f"inventory:{{{p}}}:events")

    def test_contexts_with_different_partitions(self):
        self.write("SET", "inventory:{0}:partitions", 4)
        for command in (["audit"], ["events", "tail"], ["dead", "list"], ["explain", "ord_x"], ["doctor"]):
            ended = self.tandem.ctl(*command)
            self.assertEqual(ended.returncode, 3, command)
            self.assertIn("inventory:{0}:partitions is 4, and that of order is 8", ended.stderr)

    def test_instances_are_counted_by_the_consumers_of_all_partitions(self):
        version = self.tandem.library("inventory").partition("_")[2]
        for p, names in ((3, "a"), (5, "ab")):
            stream = f"order:{{{p}}}:events"
            self.write("DEL", stream)
            self.ops("XGROUP", "CREATE", stream, "inventory", "0", "MKSTREAM")
            for name in names:
                self.ops("XGROUP", "CREATECONSUMER", stream, "inventory", f"{name}@{version}")
        code, rows = self.tandem.ctl_json("functions", "list")
        found = {row["context"]: row["instances"] for row in rows if row["version"] == version}
        self.assertEqual((code, found), (0, {"inventory": 2}))

    def test_dead_letters_are_named_by_partition(self):
        for p in (2, 6):
            self.write("DEL", f"inventory:{{{p}}}:events")
            self.write("XADD", f"order:{{{p}}}:dead", "5-1", "id", f"a{p}/1", "type", "t", "subject", f"a{p}",
                       "seq", 1, "data", "", "stream", f"inventory:{{{p}}}:events", "stream_id", "4-1",
                       "group", "order", "reason", "why", "deliveries", 8, "dead_time", "then")
        code, rows = self.tandem.ctl_json("dead", "list")
        self.assertEqual([(row["partition"], row["stream_id"]) for row in rows], [(2, "5-1"), (6, "5-1")])
        table = self.tandem.ctl("dead", "list").stdout
        self.assertIn("\n2/5-1 ", table)
        code, rows = self.tandem.ctl_json("dead", "show", "6/5-1")
        self.assertEqual([row["event_id"] for row in rows], ["a6/1"])
        self.assertEqual(self.tandem.ctl("dead", "show", "3/5-1").returncode, 1)
        code, rows = self.tandem.ctl_json("dead", "replay", "6/5-1")
        self.assertEqual((code, rows[0]["outcome"], rows[0]["partition"]), (0, "replayed to", 6))
        self.assertEqual(self.ops("XLEN", "inventory:{6}:events"), 1)
        code, rows = self.tandem.ctl_json("events", "tail", "--order", "a6")
        self.assertEqual([(row["partition"], row["event_id"]) for row in rows], [(6, "a6/1")])
        code, rows = self.tandem.ctl_json("dead", "discard", "--all", "--yes", "--why", "w")
        self.assertEqual([(row["outcome"], row["partition"]) for row in rows], [("discarded", 2)])
        self.assertEqual(self.tandem.ctl("dead", "list").stdout, "no dead letters\n")


def follow_orders(test, order, inventory, ctl):
    """Orders of one SKU and of three, which lie in several partitions: placed, confirmed, cancelled, refused,
    listed and explained; then the audit finds nothing. `ctl` runs tandemctl, and returns its exit code and
    what it prints with --json."""
    skus = [f"sku-{n}" for n in range(12)]
    for sku in skus:
        inventory.AdjustStock(sku=sku, delta=1000, reason="test", request_id=f"first-{sku}")

    def place(customer, *lines):
        return order.PlaceOrder(
            customer_id=customer,
            lines=[{"sku": sku, "quantity": 2} for sku in lines],
            wait_for_decision=True,
        ).order

    def settled(order_id, status):
        def is_settled():
            return order.GetOrder(order_id=order_id).order.settled

        tandem.until(is_settled, 20 * tandem.SLOW, f"{order_id} settled")
        found = order.GetOrder(order_id=order_id).order
        test.assertEqual(test.status_names[found.status], status)

    orders = {}
    for n in range(12):
        customer = f"customer-{n}"
        one, three = place(customer, skus[n]), place(customer, *(skus[(n + i) % 12] for i in (0, 3, 7)))
        for placed in (one, three):
            test.assertEqual(test.status_names[placed.status], "RESERVED")
        orders[customer] = (one.order_id, three.order_id)
    partitions = set()
    for n, (customer, (one, three)) in enumerate(orders.items()):
        first, second = (order.ConfirmOrder, order.CancelOrder)[:: 1 if n % 2 else -1]
        first(order_id=one)
        second(order_id=three)
        settled(one, "CONFIRMED" if n % 2 else "CANCELLED")
        settled(three, "CANCELLED" if n % 2 else "CONFIRMED")
        listed = [found.order_id for found in order.ListOrders(customer_id=customer).orders]
        test.assertEqual(sorted(listed), sorted((one, three)))
        code, (story,) = ctl("explain", three)
        test.assertEqual(code, 0)
        state = "RELEASED" if n % 2 else "COMMITTED"
        test.assertEqual(story["reservation"].partition(" ")[0], state)
        if not n % 2:  # one of two comes back; a part stays sold, and says so
            for _ in range(2):
                order.ReturnOrder(order_id=three, return_id="r", lines=[{"sku": skus[n], "quantity": 1}])
            settled(three, "CONFIRMED")
            code, (story,) = ctl("explain", three)
            test.assertEqual(story["reservation"].partition(" ")[0], "RETURNED")
        for part in story["parts"]:
            test.assertEqual(part["text"].split(" ")[:2], [state, str(story["partition"])])
        partitions.add(story["partition"])
        test.assertEqual(
            [event["kind"] for event in story["events"] if event["context"] == "order"][0], "OrderPlaced"
        )
    test.assertGreater(len(partitions), 1)
    refused = place("customer-x", skus[0], skus[1], "unknown")
    test.assertEqual(test.status_names[refused.status], "REJECTED")
    # Of each SKU 2 are sold for each confirmed order that has it, unless one came back.
    sold = dict.fromkeys(skus, 0)
    for n in range(12):
        for i in (0,) if n % 2 else (0, 3, 7):
            sold[skus[(n + i) % 12]] += 2 if i or n % 2 else 1
    listed = {stock.sku: stock for stock in inventory.ListStock(page_size=1000).stocks}
    for sku in skus:
        test.assertEqual(listed[sku].committed, sold[sku], sku)
        test.assertEqual(listed[sku].reserved, 0, sku)
        test.assertEqual(listed[sku].available, 1000 - sold[sku], sku)
    code, rows = ctl("audit")
    test.assertEqual(code, 0, json.dumps(rows))
    test.assertEqual(rows[-1]["orders"], 25)
    test.assertGreater(rows[-1]["parts"], 12)


class Orders(tandem.Live):
    """With the services."""

    LAYOUT = (1, 0, 8)

    @classmethod
    def prepare(cls):
        cls.collector = Collector()
        cls.collector.listen()
        cls.tandem.env["TANDEM_OTLP"] = f"127.0.0.1:{cls.collector.port}"

    def test_1_orders(self):
        follow_orders(self, self.order, self.inventory, self.tandem.ctl_json)

    def test_2_the_trace_of_a_split_order(self):
        """Each call that was made for it and its parts is there."""
        trace, root = "b" * 32, "00f067aa0ba902b7"
        placed = self.order.PlaceOrder(
            customer_id="traced",
            lines=[{"sku": f"sku-{n}", "quantity": 1} for n in range(6)],
            wait_for_decision=True,
            _metadata=[("traceparent", f"00-{trace}-{root}-01")],
        ).order
        self.order.CancelOrder(order_id=placed.order_id, _metadata=[("traceparent", f"00-{trace}-{root}-01")])
        _, (story,) = self.tandem.ctl_json("explain", placed.order_id)
        parts = len(story["parts"])
        self.assertGreater(parts, 1)

        def calls(event):
            spans = self.collector.of(trace)
            event = [span.id for span in spans if span.name.startswith("process order:events")
                     and span.attributes["tandem.event.type"] == f"tandem.order.v1.{event}"]
            return sorted(span.name[6:] for span in spans if span.parent in event and span.name.startswith("FCALL "))

        # All partitions are in one Redis.
        held = ["inventory_reserve"]
        tandem.until(lambda: calls("OrderPlaced") == held, 15 * tandem.SLOW, lambda: calls("OrderPlaced"))
        # The record is read first, and then says which parts there are.
        released = sorted(["inventory_request", "inventory_conclude"] + ["inventory_part"] * parts)
        tandem.until(lambda: calls("OrderCancelled") == released, 15 * tandem.SLOW, lambda: calls("OrderCancelled"))

    def test_2_the_events_of_all_partitions_in_order_of_time(self):
        code, rows = self.tandem.ctl_json("events", "tail", "--since", "1h")
        times = [int(row["stream_id"].partition("-")[0]) for row in rows]
        self.assertEqual(times, sorted(times))
        self.assertGreater(len({row["partition"] for row in rows}), 4)
        self.caught_up()
        code, rows = self.tandem.ctl_json("events", "lag")
        self.assertEqual({row["partition"] for row in rows}, set(range(8)))
        self.assertEqual([row for row in rows if row["lag"] or row["pending"] or row["aside"]], [])
        self.assertIn("\norder, all ", self.tandem.ctl("events", "lag").stdout)
        self.becomes(lambda: [row for row in self.tandem.doctor() if row["result"] != "ok"], [])

    def test_2_what_redis_says_of_itself(self):
        """Partitions of one master have its numbers, each its own dead letters."""
        for name in tandem.CONTEXTS:
            process = self.tandem.processes[name]
            metric = lambda p, process=process: process.metric("tandem_redis_memory_used_bytes", partition=p)
            tandem.until(lambda: metric(0) > 0, 20 * tandem.SLOW, f"{name} asks Redis")
            self.becomes(lambda: len({metric(p) for p in range(8)}), 1)  # it is asked again and again
            dead = [process.metric("tandem_dead_letters", stream=f"{name}:{{{p}}}:dead") for p in range(8)]
            self.assertEqual(dead, [0] * 8)
            self.assertEqual(process.metric("tandem_redis_replicas_wanted"), 0)

    def test_3_load(self):
        ended = self.tandem.ctl("load", "--rate", "50", "--duration", "1s", "--warmup", "100ms", "--lines",
                                "3", "--skus", "20", "--customers", "20", "--yes")
        self.assertEqual(ended.returncode, 0, ended.stdout + ended.stderr)
        self.assertIn("balances", ended.stdout)

    def test_5_parts_that_are_lost(self):
        """Beside services that run: held again, or, when there is no stock any more, cancelled."""
        ops = self.tandem.redis_as("ops")
        for sku in ("lost-0", "lost-1", "lost-2"):
            self.stock(sku, 10)
        for available in (10, 1):
            lines = [{"sku": f"lost-{n}", "quantity": 2} for n in range(3)]
            order = self.order.PlaceOrder(customer_id="c", lines=lines, wait_for_decision=True).order
            self.assertEqual(self.name(order), "RESERVED")
            (story,) = self.tandem.ctl_json("explain", order.order_id)[1]
            part = next(part for part in story["parts"] if "lost-1=2" in part["text"])
            q = part["partition"]
            for line in part["text"].split()[3:]:
                sku, _, quantity = line.partition("=")
                free, reserved, committed, _, version = map(int, ops("HGET", f"inventory:{{{q}}}:stock", sku).split())
                free, reserved = min(free + 2, available), reserved - 2
                counters = [free, reserved, committed, free + reserved + committed, version + 1]
                ops("HSET", f"inventory:{{{q}}}:stock", sku, " ".join(map(str, counters)))
            ops("HDEL", f"inventory:{{{q}}}:parts", order.order_id)
            code, rows = self.tandem.ctl_json("audit", "--window", "100ms", "--repair", "--yes")
            self.assertEqual((code, [row["violation"] for row in rows[:-1]]), (1, ["part-missing"]))
            if available > 1:
                self.order.ConfirmOrder(order_id=order.order_id)
            state = "CONFIRMED" if available > 1 else "CANCELLED"
            self.assertEqual(self.name(self.settled(order.order_id)), state)
            code, rows = self.tandem.ctl_json("audit")
            self.assertEqual(code, 0, rows)

    def test_4_another_number_of_partitions_is_refused(self):
        process = tandem.Process(self.tandem, "order3", "order", {
            "TANDEM_ORDER_LISTEN": "127.0.0.1:0", "TANDEM_ORDER_ADMIN_LISTEN": "127.0.0.1:0"})
        process.arguments = ["--partitions", "4"]
        process.start()
        self.assertEqual(process.wait(), 1)
        self.assertIn("has 8 partitions", process.text())


class OneRedis(Disagreements, unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.tandem = tandem.Tandem(layout=(1, 0, 8))
        cls.addClassCleanup(cls.tandem.remove)
        cls.addClassCleanup(cls.tandem.stop)
        cls.tandem.start("redis")

    def sentinel(self, name):
        """The port of a sentinel that watches our Redis under this name."""
        (port,) = tandem.free_ports(1)
        folder = os.path.join(self.tandem.folder, f"sentinel-{port}")
        os.mkdir(folder)
        with open(os.path.join(folder, "sentinel.conf"), "w") as file:
            file.write(
                f"port {port}\nbind 127.0.0.1\n"
                f"sentinel monitor {name} 127.0.0.1 {self.tandem.redis_port} 1\n"
            )
        command = ["redis-server", "sentinel.conf", "--sentinel"]
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)

        def answers():
            try:
                return tandem.Redis(port)("PING")
            except OSError:
                return None

        tandem.until(answers, 20 * tandem.SLOW, "the sentinel answers")
        return port

    def test_where_redis_is(self):
        """Each way of saying it; errors name what is wrong."""
        port, sentinel = self.tandem.redis_port, self.sentinel("shop")
        (closed,) = tandem.free_ports(1)
        reached = "no dead letters\n"
        cases = (
            (f"redis://127.0.0.1:{port}", 0, reached),
            (f"cluster://127.0.0.1:{closed},127.0.0.1:{closed},127.0.0.1:{port}", 0, reached),
            (f"sentinel://127.0.0.1:{closed},127.0.0.1:{sentinel}/shop", 0, reached),
            (f"sentinel://127.0.0.1:{sentinel}/other", 3, "no sentinel says where the master other is"),
            (f"redis://127.0.0.1:{closed}", 3, f"Redis at 127.0.0.1:{closed}: "),
            ("redis://127.0.0.1", 2, "not an address"),
            ("http://127.0.0.1:1", 2, "--redis: "),
        )
        for url, code, said in cases:
            with self.subTest(url=url):
                ended = self.tandem.ctl("dead", "list", "--redis", url)
                self.assertEqual(ended.returncode, code, ended.stderr)
                self.assertIn(said, ended.stdout + ended.stderr)
                by_variable = self.tandem.ctl("dead", "list", env={"TANDEM_REDIS": url})
                self.assertEqual(by_variable.returncode, code, by_variable.stderr)


if __name__ == "__main__":
    tandem.main()
