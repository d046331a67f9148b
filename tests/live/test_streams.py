"""The streams in Redis: all can read them, only their owner can write, and they survive a restart."""
import tandem
from tandem import ORDERS, STOCK


class Streams(tandem.Live):
    def entries(self, stream):
        """Every entry as (id, {name: bytes})."""
        found = []
        for entry_id, flat in self.tandem.redis_as()("XRANGE", stream, "-", "+"):
            names = [name.decode() for name in flat[::2]]
            self.assertEqual(len(names), len(set(names)))
            found.append((entry_id.decode(), dict(zip(names, flat[1::2]))))
        return found

    def test_events_can_be_read(self):
        self.stock("seen", 2)
        trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        order = self.order.PlaceOrder(
            customer_id="c",
            lines=[{"sku": "seen", "quantity": 2}],
            wait_for_decision=True,
            _metadata=[("traceparent", trace)],
        ).order
        short = self.place("seen", wait_for_decision=True)
        for stream, context in ((ORDERS, "order"), (STOCK, "inventory")):
            self.check_entries(stream, context)

        def life(order_id):
            return [event for stream in (ORDERS, STOCK) for event in self.events(stream, order_id)]

        self.assertEqual(
            [(event.name, event.seq) for event in life(order.order_id)],
            [("OrderPlaced", 1), ("OrderReserved", 2), ("InventoryReserved", 1)],
        )
        for event in life(order.order_id):
            self.assertEqual(event.traceparent[:35], trace[:35], event.name)
        self.assertEqual(
            [(event.name, event.seq) for event in life(short.order_id)],
            [("OrderPlaced", 1), ("OrderRejected", 2), ("InventoryUnavailable", 1)],
        )
        rejected = [event for event in life(short.order_id) if event.name == "OrderRejected"][0]
        event = self.protos.message("tandem.order.v1.OrderRejected").FromString(rejected.data)
        self.assertEqual([(s.sku, s.available) for s in event.shortages], [("seen", 0)])

    def check_entries(self, stream, context):
        """Entries are readable, numbered without a gap, and their content parses."""
        number = 0
        for entry_id, entry in self.entries(stream):
            events = tandem.events_of(
                self.protos,
                entry_id.encode(),
                [part for name, value in entry.items() for part in (name.encode(), value)],
            )
            number += len(events)
            with self.subTest(stream=stream, entry=entry_id):
                self.assertRegex(entry_id, f"^[0-9]{{13}}-{number}$", "ids count events")
                names = entry.keys() - {"time", "batch"}
                self.assertEqual(names, {event.type for event in events})
                for name in names:
                    self.assertTrue(name.startswith(f"tandem.{context}.v1."), name)
                    self.assertRegex(entry[name], rb"^[\w.-]+/\d+( [\w.-]+/\d+)*$")
                self.assertRegex(entry["time"], rb"^20\d\d-\d\d-\d\dT[\d:]{8}\.\d{3}Z$")
                for event in events:
                    self.protos.message(event.type).FromString(event.data)
                    self.assertEqual(event.attempt, 1)

    def test_a_step_is_an_entry(self):
        """One call publishes one entry; each event of it belongs to its order."""
        self.stock("many", 50)
        requests = [
            {"customer_id": f"c{n}", "lines": [{"sku": "many", "quantity": 1}]} for n in range(100)
        ]
        placed = self.order.BatchPlaceOrders(requests=requests).orders
        ids = [item.order.order_id for item in placed]
        names = list(self.decided(ids).values())
        self.assertEqual((names.count("RESERVED"), names.count("REJECTED")), (50, 50))
        entries = {}
        for event in self.events(ORDERS):
            if event.name == "OrderPlaced" and event.subject in ids:
                entries.setdefault(event.stream_id, []).append(event.subject)
        self.assertEqual(sorted(sum(entries.values(), [])), sorted(ids))
        self.assertLess(len(entries), 20, entries.keys())
        message = self.protos.message("tandem.order.v1.OrderPlaced")
        for event in self.events(ORDERS):
            if event.name == "OrderPlaced" and event.subject in ids:
                content = message.FromString(event.data).content
                self.assertEqual(content.customer_id, f"c{ids.index(event.subject)}")
        for stream, context in ((ORDERS, "order"), (STOCK, "inventory")):
            self.check_entries(stream, context)

    def test_groups_are_caught_up(self):
        self.decided([self.place("caught-up").order_id])
        redis = self.tandem.redis_as()
        for stream, group in ((ORDERS, b"inventory"), (STOCK, b"order")):

            def caught_up():
                groups = [tandem.pairs(g) for g in redis("XINFO", "GROUPS", stream)]
                last = tandem.pairs(redis("XINFO", "STREAM", stream))
                return [
                    (g[b"name"], g[b"pending"], g[b"last-delivered-id"]) for g in groups
                ] == [(name, 0, last[b"last-generated-id"]) for name in (b"archive", group)]

            tandem.until(caught_up, 10 * tandem.SLOW, f"{stream} read and acknowledged")

    def test_a_service_writes_its_own_keys_only(self):
        self.decided([self.place("acl").order_id])
        own = {"order": ("order", "inventory"), "inventory": ("inventory", "order")}
        for user, (mine, foreign) in own.items():
            redis = self.tandem.redis_as(user)
            stream = f"{foreign}:{{0}}:events"
            self.assertEqual(redis("SET", f"{mine}:{{0}}:test", "1"), b"OK")
            self.assertEqual(redis("DEL", f"{mine}:{{0}}:test"), 1)
            self.assertGreater(len(redis("XRANGE", stream, "-", "+", "COUNT", 1)), 0)
            denied = [
                ("SET", f"{foreign}:{{0}}:test", "1"),
                ("SET", "other", "1"),
                ("DEL", stream),
                ("XADD", stream, "*", "a", "b"),
                ("XTRIM", stream, "MAXLEN", 0),
                ("XDEL", stream, "1-1"),
                ("XGROUP", "DESTROY", stream, user),
                ("XSETID", stream, "1-1"),
                ("RENAME", f"{mine}:{{0}}:events", f"{foreign}:{{0}}:events2"),
                ("HSET", f"{foreign}:{{0}}:stock", "a", "1"),
                ("HGETALL", f"{foreign}:{{0}}:stock"),
                ("EVAL", "return 1", 0),
                ("FUNCTION", "LOAD", "REPLACE", "#!lua name=order\n"),
                ("FUNCTION", "FLUSH"),
                ("FLUSHALL",),
                ("KEYS", "*"),
                ("SCAN", 0),
                ("CONFIG", "GET", "*"),
                ("ACL", "LIST"),
                ("SHUTDOWN",),
                ("SUBSCRIBE", "a"),
                ("MONITOR",),
                ("CLIENT", "KILL", "TYPE", "normal"),
            ]
            for command in denied:
                with self.subTest(user=user, command=command):
                    with self.assertRaises(tandem.RedisError) as caught:
                        redis(*command)
                    self.assertTrue(str(caught.exception).startswith("NOPERM"), caught.exception)
        # Redis checks the commands inside a function too: it may not write another service's keys.
        redis = self.tandem.redis_as("inventory")
        with self.assertRaises(tandem.RedisError) as caught:
            redis("FCALL", self.tandem.function("order", "trim"), 1, ORDERS, 0, 0, 0, 0)
        self.assertIn("can't access", str(caught.exception))

    def test_the_default_user_reads(self):
        self.decided([self.place("looking").order_id])
        redis = self.tandem.redis_as()
        self.assertEqual(redis("PING"), b"PONG")
        self.assertIn(ORDERS.encode(), redis("SCAN", 0, "COUNT", 1000)[1])
        self.assertEqual(len(redis("XRANGE", ORDERS, "-", "+", "COUNT", 2)), 2)
        self.assertIn(b"redis_version:7", redis("INFO", "server"))
        for setting, value in (
            ("appendonly", b"yes"),
            ("appendfsync", b"everysec"),
            ("aof-load-truncated", b"no"),
            ("maxmemory-policy", b"noeviction"),
            ("save", b""),
        ):
            self.assertEqual(self.tandem.redis_as("ops")("CONFIG", "GET", setting)[1], value, setting)
        for command in (
            ("SET", "a", "1"),
            ("DEL", ORDERS),
            ("XADD", ORDERS, "*", "a", "b"),
            ("XTRIM", ORDERS, "MAXLEN", 0),
            ("XGROUP", "DESTROY", ORDERS, "inventory"),
            ("FCALL", self.tandem.function("order", "trim"), 1, ORDERS, 0, 0, 0, 0),
            ("EVAL", "return 1", 0),
            ("FLUSHALL",),
            ("CONFIG", "SET", "maxmemory", 1),
            ("ACL", "SETUSER", "default", "+@all"),
            ("SHUTDOWN",),
        ):
            with self.subTest(command=command):
                with self.assertRaises(tandem.RedisError) as caught:
                    redis(*command)
                self.assertTrue(str(caught.exception).startswith("NOPERM"), caught.exception)

    def test_everything_is_there_after_a_restart(self):
        """Functions write in transactions; Redis replays them as the default user, who may not write:
        see docs/decisions/010."""
        self.stock("kept", 5)
        order = self.place("kept", quantity=2, wait_for_decision=True)
        before = self.entries(ORDERS), self.entries(STOCK)
        self.tandem.redis.terminate()
        self.tandem.start("redis")
        self.assertEqual((self.entries(ORDERS), self.entries(STOCK)), before)
        self.tandem.start()
        self.assertEqual(self.get(order.order_id), order)
        self.assertEqual(self.adds_up("kept").reserved, 2)
        self.decided([self.place("kept").order_id])


if __name__ == "__main__":
    tandem.main()
