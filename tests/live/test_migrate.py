"""tandemctl migrate: a store of one partition becomes one of eight, on one Redis and on a cluster."""
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import threading

import grpc
import tandem

CUSTOMERS = 24
SKUS = [f"sku-{n}" for n in range(12)]
NOTED = 40000001  # the number of a bit
LONG, SHORT = {"seconds": 3600}, {"seconds": 1}


class Relay:
    """A port that passes everything on to a server, and holds the `nth` request that has `text` in it until
    it may go on."""

    def __init__(self, port, text, nth):
        self.port, self.text, self.left = port, text, nth
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self.listener.getsockname()[1]}"
        self.sockets = [self.listener]
        self.stopped, self.go_on = threading.Event(), threading.Event()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                server = socket.create_connection(("127.0.0.1", self.port))
                self.sockets += [client, server]
                threading.Thread(target=self.pump, args=(client, server, True), daemon=True).start()
                threading.Thread(target=self.pump, args=(server, client, False), daemon=True).start()

    def pump(self, source, to, asks):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self.left -= asks and self.text in data
                if self.left <= 0:
                    self.stopped.set()
                    self.go_on.wait()
                to.sendall(data)

    def close(self):
        for one in self.sockets:
            one.close()


class Migration(tandem.Live):
    """The source is the class's own Tandem, the target another one."""

    TARGET = (1, 0, 8)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.target = tandem.Tandem(cls.ENV, layout=cls.TARGET)
        cls.addClassCleanup(cls.target.remove)
        cls.addClassCleanup(cls.target.stop)
        cls.target.start(*(node.name for node in cls.target.nodes))

    @classmethod
    def arguments(cls, source=None):
        secret = os.path.join(cls.tandem.env["TANDEM_VAR"], "secrets", "ops")
        source = source or f"redis://127.0.0.1:{cls.tandem.redis_port}"
        return ["migrate", "--from", source, "--from-password-file", secret, "--partitions", "8", "--json"]

    def migrate(self, code=0, said=""):
        ended = self.target.ctl(*self.arguments())
        self.assertEqual(ended.returncode, code, ended.stdout + ended.stderr)
        self.assertIn(said, ended.stderr)
        return [json.loads(line) for line in ended.stdout.splitlines()]

    def order_of(self, n, *skus, order=None, quantity=2, hold=LONG, **fields):
        lines = [{"sku": sku, "quantity": quantity} for sku in skus]
        return (order or self.order).PlaceOrder(
            customer_id=f"customer-{n}", request_id=f"{n} {' '.join(skus)}", lines=lines, hold=hold, **fields
        ).order

    def fill(self):
        """Orders in every state. Those whose hold ends soon are expired; one hold ends a little later."""
        for sku in SKUS:
            self.inventory.AdjustStock(sku=sku, delta=1000, reason="test", request_id=f"first:{sku}")
        expected, made = [], {}
        for n in range(CUSTOMERS):
            three = [SKUS[(n + i) % 12] for i in (0, 3, 7)]
            kinds = (
                ("RESERVED", three, {}),
                ("CONFIRMED", three[:2], {}),
                ("CANCELLED", three[1:], {}),
                ("EXPIRED", three[:1], {"hold": SHORT}),
                ("REJECTED", [*three[2:], "unknown"], {}),
            )
            for state, skus, fields in kinds:
                placed = self.order_of(n, *skus, wait_for_decision=True, **fields)
                expected.append((placed.order_id, state))
                made[n, state] = placed.order_id
                if state == "CONFIRMED":
                    self.order.ConfirmOrder(order_id=placed.order_id)
                elif state == "CANCELLED":
                    self.order.CancelOrder(order_id=placed.order_id, reason="test")
        for order_id, state in expected:
            if state != "RESERVED":
                self.assertEqual(self.name(self.settled(order_id)), state)
        for n in range(0, CUSTOMERS, 3):  # some of which something came back
            self.order.ReturnOrder(order_id=made[n, "CONFIRMED"], return_id="r")
            self.settled(made[n, "CONFIRMED"])
        return expected, made

    def test_1_refusals(self):
        self.migrate(1, "is connected to the source")
        redis = self.target.redis_as("ops")
        redis("SET", "other", "1")
        type(self).orders, type(self).made = self.fill()
        # Some that inventory has not decided.
        self.tandem.inventory.kill()
        type(self).undecided = [self.order_of(n, SKUS[n], SKUS[n + 1]).order_id for n in range(5)]
        code, rows = self.tandem.ctl_json("drain", "--wait", "100ms")
        self.assertEqual((code, rows[0]["drained"]), (1, False))
        self.assertIn("order:{0}:orders: 5 orders wait for inventory", rows[0]["under_way"])
        self.assertIn("order:{0}:events: group inventory has 5 events not read", rows[0]["under_way"])
        self.assertEqual(self.tandem.gateway.terminate(), 0)
        self.assertEqual(self.tandem.order.terminate(), 0)
        self.assertEqual(self.tandem.archive.terminate(), 0)
        self.migrate(1, "5 orders wait for inventory")
        self.tandem.start(*tandem.CONTEXTS)
        self.assertEqual(self.tandem.ctl_json("drain")[0], 0)
        self.tandem.start("gateway")
        type(self).late = self.order_of(0, SKUS[0], SKUS[5], hold={"seconds": 20}, wait_for_decision=True).order_id
        ids = [order_id for order_id, _ in self.orders] + self.undecided + [self.late]
        type(self).before = {order_id: self.get(order_id) for order_id in ids}
        self.assertEqual({self.name(self.before[i]) for i in self.undecided}, {"RESERVED"})
        type(self).lists = {
            n: [order.order_id for order in self.listed(f"customer-{n}")] for n in range(CUSTOMERS)
        }
        type(self).stocks = {stock.sku: stock for stock in self.inventory.ListStock(page_size=1000).stocks}
        for name in ("gateway", *tandem.CONTEXTS):
            self.assertEqual(self.tandem.processes[name].terminate(), 0)
        source = self.tandem.redis_as("ops")
        source("XADD", "order:{0}:dead", "1-1", "a", "b")
        self.migrate(1, "the source has 1 dead letters")
        source("DEL", "order:{0}:dead")
        self.migrate(1, "the target holds 1 keys")
        redis("DEL", "other")
        # What is known of orders that were dropped.
        source("SETBIT", "order:{0}:dropped_ids", NOTED, 1)
        source("SET", "order:{0}:dropped", 5)
        source("SET", "inventory:{0}:dropped_until", 7)
        source("HSET", "inventory:{0}:dropped", SKUS[3], 0)
        code, rows = self.tandem.ctl_json("audit")
        self.assertEqual(code, 0, rows)
        type(self).audited = rows[-1]

    def changes(self):
        """How many writes the source has seen."""
        info = self.tandem.redis_as("ops")("INFO", "persistence").decode()
        return int(info.partition("rdb_changes_since_last_save:")[2].split()[0])

    def target_orders(self):
        redis = self.target.redis_as("ops")
        return sum(redis("HLEN", f"order:{{{p}}}:orders") for p in range(8))

    def customer_of(self, order_id):
        return self.before[order_id.decode()].customer_id

    def held(self):
        """A migration that has written all orders, and is about to read them again to compare."""
        relay = Relay(self.tandem.redis_port, b"\r\norder:{0}:orders\r\n$1\r\n0\r\n", 2)
        self.addCleanup(relay.close)
        process = subprocess.Popen(
            [tandem.CTL, *self.arguments(relay.url)],
            env=self.target.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for cleanup in (process.wait, process.kill, process.stdout.close, process.stderr.close):
            self.addCleanup(cleanup)
        self.assertTrue(relay.stopped.wait(30 * tandem.SLOW))
        self.assertIsNone(process.poll())
        return relay, process

    def test_2_killed_half_way(self):
        """No service starts on what is not complete; the next run begins anew."""
        source, target = self.tandem.redis_as("ops"), self.target.redis_as("ops")
        source("HSET", "order:{0}:orders", "ord_damaged", "x")
        self.migrate(1, "the order ord_damaged is damaged")
        source("HDEL", "order:{0}:orders", "ord_damaged")
        self.assertEqual(target("GET", "order:{0}:partitions"), b"migrating")
        relay, process = self.held()
        # A value is wrong, one is gone, one is too many.
        target("HSET", "inventory:{3}:stock", "other", "0 0 0 0 1")
        ids = [target("HKEYS", f"order:{{{p}}}:orders") for p in range(8)]
        first, second = [p for p in range(8) if ids[p]][:2]
        state = "CANCELLED~"
        was = target("HGET", f"order:{{{first}}}:orders", ids[first][0]).split()[0].decode()
        differ = [f"orders {name}" for name in ("RESERVED", "REJECTED", "CONFIRMED", state, "CANCELLED", "EXPIRED")
                  if name in (was, state)]
        target("HSET", f"order:{{{first}}}:orders", ids[first][0], state + " 9")
        target("ZREM", f"order:{{{second}}}:customer:{self.customer_of(ids[second][0])}", ids[second][0])
        relay.go_on.set()
        printed, said = process.communicate()
        self.assertEqual(process.returncode, 1, said)
        totals = [json.loads(line) for line in printed.splitlines() if '"total"' in line]
        self.assertEqual([row["total"] for row in totals if not row["same"]], [*differ, "SKUs"])
        self.assertIn(f"the target differs: order:{{{first}}}:orders {ids[first][0].decode()}\n", said)
        self.assertIn(f":customer:{self.customer_of(ids[second][0])} {ids[second][0].decode()}\n", said)
        self.assertIn("2 values differ", said)
        self.assertEqual(target("GET", "order:{0}:partitions"), b"migrating")
        relay, process = self.held()
        process.kill()
        self.assertEqual(process.wait(), -signal.SIGKILL)
        self.assertGreater(self.target_orders(), CUSTOMERS)
        self.target.order.start()
        self.assertEqual(self.target.order.wait(), 1)
        self.assertIn("tandemctl migrate has not ended", self.target.order.text())
        self.assertIn("is not a number of partitions: migrating", self.target.ctl("audit").stderr)
        # What the next run does not write would be left over.
        target("HSET", "order:{3}:orders", "left", "over")

    def test_3_migrated(self):
        before = self.changes()
        rows = self.migrate()
        self.assertEqual(self.changes(), before, "the source is only read")
        totals = {row["total"]: row for row in rows if "total" in row}
        self.assertEqual([row for row in totals.values() if not row["same"]], [])
        self.assertEqual(totals["orders RESERVED"]["target"], CUSTOMERS + 6)
        self.assertGreater(totals["sold by reservations"]["target"], 0)
        self.assertEqual(rows[-1]["migrated"], len(self.before))
        code, audited = self.target.ctl_json("audit")
        self.assertEqual(code, 0, audited)
        for name in ("orders", "states", "timers", "reservations", "skus", "violations", "dead_letters"):
            self.assertEqual(audited[-1][name], self.audited[name], name)
        self.assertGreater(audited[-1]["parts"], CUSTOMERS)
        self.migrate(1, "it must be empty")
        self.trails_are_copied(self.tandem, self.target, f"redis://127.0.0.1:{self.tandem.redis_port}")
        redis, skus = self.target.redis_as("ops"), []
        for p in range(8):
            skus += redis("HKEYS", f"inventory:{{{p}}}:dropped")
            self.assertEqual(redis("BITCOUNT", f"order:{{{p}}}:dropped_ids"), 1)
            self.assertEqual(redis("GETBIT", f"order:{{{p}}}:dropped_ids", NOTED % (67108864 // 8)), 1)
            self.assertEqual(redis("GET", f"order:{{{p}}}:dropped"), b"5")
            self.assertEqual(redis("GET", f"inventory:{{{p}}}:dropped_until"), b"7")
        self.assertEqual(skus, [SKUS[3].encode()])

    def trails_are_copied(self, source, target, url):
        """The source's entries and what the target's own trail said before, by time; then that it was migrated."""
        old, new = source.redis_as("ops"), target.redis_as("ops")
        for p in range(target.partitions):
            for context in tandem.CONTEXTS:
                trail = f"{context}:{{{p}}}:trail"
                before = old("XRANGE", trail, "-", "+") if p < source.partitions else []
                after = new("XRANGE", trail, "-", "+")
                self.assertEqual([entry for entry in after if entry in before], before, trail)
                more = [tandem.pairs(flat) for entry_id, flat in after if [entry_id, flat] not in before]
                expected = [b"functions.load"] if p == 0 else []
                if (context, p) == ("order", 0):
                    self.assertEqual(more[-1][b"subject"].decode(), url)
                    self.assertIn(f"to {target.partitions} partitions", more[-1][b"result"].decode())
                    expected.append(b"migrate")
                self.assertEqual([row[b"action"] for row in more], expected, trail)

    def test_4_everything_goes_on(self):
        """The archive's database goes along: what was dropped is in it alone, and what was not has its history there."""
        shutil.copy(os.path.join(self.tandem.env["TANDEM_VAR"], "archive.db"), self.target.env["TANDEM_VAR"])
        self.target.start()
        cls = type(self)
        channel = self.target.channel()
        cls.channels.append(channel)
        cls.order = self.protos.stub(channel, tandem.ORDER_SERVICE)
        cls.inventory = self.protos.stub(channel, tandem.INVENTORY_SERVICE)
        for order_id, order in self.before.items():
            if order_id != self.late:
                self.assertEqual(self.get(order_id), order)
        for n in range(CUSTOMERS):
            self.assertEqual([o.order_id for o in self.listed(f"customer-{n}")], self.lists[n])
        self.assertEqual(
            {stock.sku: stock.received for stock in self.inventory.ListStock(page_size=1000).stocks},
            {sku: stock.received for sku, stock in self.stocks.items()},
        )

    def test_5_requests_of_before(self):
        for n in range(CUSTOMERS):
            skus = [SKUS[(n + i) % 12] for i in (0, 3, 7)]
            again = self.order_of(n, *skus, wait_for_decision=True)
            self.assertEqual(again, self.before[self.made[n, "RESERVED"]])
        fields = {"customer_id": "customer-0", "request_id": f"0 {SKUS[0]} {SKUS[3]} {SKUS[7]}"}
        other = [{"sku": SKUS[1], "quantity": 1}]
        self.fails(grpc.StatusCode.ALREADY_EXISTS, self.order.PlaceOrder, lines=other, **fields)
        for sku in SKUS:
            adjusted = self.inventory.AdjustStock(sku=sku, delta=1000, reason="test", request_id=f"first:{sku}")
            self.assertEqual((adjusted.stock.received, adjusted.stock.available), (1000, 1000))
        self.assertEqual(sum(stock.received for stock in self.inventory.ListStock(page_size=99).stocks), 12000)

    def test_6_orders_of_before_and_new_ones(self):
        sold = sum(stock.committed for stock in self.inventory.ListStock(page_size=99).stocks)
        for n in range(CUSTOMERS):
            call = self.order.CancelOrder if n % 2 else self.order.ConfirmOrder
            call(order_id=self.made[n, "RESERVED"])
            state = "CANCELLED" if n % 2 else "CONFIRMED"
            self.assertEqual(self.name(self.settled(self.made[n, "RESERVED"])), state)
        fresh = self.order_of(3, *SKUS[4:7], wait_for_decision=True, quantity=5)
        self.assertEqual(self.name(fresh), "RESERVED")
        self.order.ConfirmOrder(order_id=fresh.order_id)
        self.assertEqual(self.name(self.settled(fresh.order_id)), "CONFIRMED")
        stocks = self.inventory.ListStock(page_size=99).stocks
        self.assertEqual(sum(stock.committed for stock in stocks), sold + CUSTOMERS // 2 * 6 + 15)
        tandem.until(lambda: self.name(self.get(self.late)) == "EXPIRED", 60 * tandem.SLOW, "the hold ran out")
        self.assertEqual(self.name(self.settled(self.late)), "EXPIRED")
        code, (story,) = self.target.ctl_json("explain", self.made[0, "RESERVED"])
        self.assertEqual(code, 0)
        self.assertEqual(story["reservation"].partition(" ")[0], "COMMITTED")
        kinds = [event["kind"] for event in story["events"] if event["context"] == "order"]
        self.assertEqual(kinds, ["OrderPlaced", "OrderReserved", "OrderConfirmed", "OrderSettled"])
        self.assertEqual(self.target.ctl_json("drain")[0], 0)
        code, rows = self.target.ctl_json("audit")
        self.assertEqual(code, 0, rows)
        self.assertEqual(rows[-1]["archive"]["orders"], rows[-1]["orders"])
        bad = [row for row in self.target.doctor() if row["result"] == "bad"]
        self.assertEqual(bad, [])

    def test_7_from_several_partitions_to_more(self):
        """The target becomes the source: what was split is split anew."""
        for name in ("gateway", *tandem.CONTEXTS):
            self.assertEqual(self.target.processes[name].terminate(), 0)
        before = self.target.ctl_json("audit")[1][-1]
        earlier = sum(self.target.redis_as("ops")("HLEN", f"order:{{{p}}}:earlier_ids") for p in range(8))
        self.assertGreaterEqual(earlier, len(self.before))
        third = tandem.Tandem(layout=(1, 0, 16))
        self.addCleanup(third.remove)
        self.addCleanup(third.stop)
        third.start("redis")
        secret = os.path.join(self.target.env["TANDEM_VAR"], "secrets", "ops")
        source = f"cluster://127.0.0.1:{self.target.redis_port}"
        arguments = ["migrate", "--from", source, "--from-password-file", secret, "--json", "--partitions"]
        ended = third.ctl(*arguments, "4")
        self.assertEqual(ended.returncode, 2)
        self.assertIn("the source has 8 partitions", ended.stderr)
        ended = third.ctl(*arguments, "16")
        self.assertEqual(ended.returncode, 0, ended.stdout + ended.stderr)
        code, rows = third.ctl_json("audit")
        self.assertEqual((code, rows[-1]["partitions"]), (0, 16), rows)
        for name in ("orders", "states", "timers", "reservations", "skus"):
            self.assertEqual(rows[-1][name], before[name], name)
        self.trails_are_copied(self.target, third, source)
        redis = third.redis_as("ops")
        self.assertEqual(sum(redis("HLEN", f"order:{{{p}}}:earlier_ids") for p in range(16)), earlier)


class ToCluster(Migration):
    TARGET = (3, 1, 8)


if __name__ == "__main__":
    tandem.main()
