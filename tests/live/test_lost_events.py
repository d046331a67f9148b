"""Events that are deleted, spoilt or repeated behind the services' backs: orders are decided all the
same, without an operator."""

import tandem

ORDERS, STOCK = "order:{0}:events", "inventory:{0}:events"
RESERVATIONS = "inventory:{0}:r"


class Streams(tandem.Live):
    def caught_up(self):
        redis = self.tandem.redis_as()

        def all_read():
            for stream in (ORDERS, STOCK):
                last = dict(zip(*[iter(redis("XINFO", "STREAM", stream))] * 2))
                for group in redis("XINFO", "GROUPS", stream):
                    group = tandem.pairs(group)
                    if group[b"pending"] or group[b"last-delivered-id"] != last[b"last-generated-id"]:
                        return False
            return True

        tandem.until(all_read, 30 * tandem.SLOW, "both groups have read everything")


class Lost(Streams):
    ENV = {
        "TANDEM_ORDER_RETRY_MIN": "1s",
        "TANDEM_ORDER_RETRY_MAX": "4s",
        "TANDEM_CLAIM_IDLE": "2s",
        "TANDEM_CLAIM_EVERY": "500ms",
        "TANDEM_DELIVERIES_MAX": "3",
        "TANDEM_EVENT_RETRY_MAX": "500ms",
    }

    def place_many(self, sku, count):
        requests = [
            {"customer_id": f"c{n}", "lines": [{"sku": sku, "quantity": 1}]} for n in range(count)
        ]
        answer = self.order.BatchPlaceOrders(requests=requests)
        return [item.order.order_id for item in answer.orders]

    def test_order_events_are_trimmed_and_the_group_destroyed(self):
        self.stock("trimmed", 600)
        self.assertEqual(self.tandem.inventory.terminate(), 0)
        ids = self.place_many("trimmed", 1000)
        ops = self.tandem.redis_as("ops")
        ops("XTRIM", ORDERS, "MAXLEN", 0)
        self.assertEqual(ops("XGROUP", "DESTROY", ORDERS, "inventory"), 1)
        self.tandem.start("inventory")
        self.tandem.gateway.wait_ready()
        names = list(self.decided(ids, 60).values())
        self.assertEqual((names.count("RESERVED"), names.count("REJECTED")), (600, 400))
        self.assertEqual(self.adds_up("trimmed").reserved, 600)

    def test_answers_are_deleted(self):
        """The order service stands still while inventory's answers vanish, and its group with them."""
        self.stock("deleted", 200)
        self.decided([self.place("deleted").order_id])
        ids = self.place_many("deleted", 100)
        ops = self.tandem.redis_as("ops")
        with self.tandem.frozen("order"):
            tandem.until(
                lambda: self.inventory.GetStock(sku="deleted").stock.reserved == 101,
                20 * tandem.SLOW,
                "inventory has answered",
            )
            ops("XTRIM", STOCK, "MAXLEN", 0)
            self.assertEqual(ops("XGROUP", "DESTROY", STOCK, "order"), 1)
        self.assertEqual(set(self.decided(ids, 60).values()), {"RESERVED"})
        self.assertEqual(self.adds_up("deleted").reserved, 101, "repeated requests reserve once")

    def test_streams_are_deleted(self):
        """DEL under a blocked reader."""
        self.decided([self.place("gone").order_id])
        ops = self.tandem.redis_as("ops")
        for stream in (ORDERS, STOCK):
            ops("DEL", stream)
        self.stock("gone", 50)
        ids = self.place_many("gone", 50)
        self.assertEqual(set(self.decided(ids, 60).values()), {"RESERVED"})

    def test_events_are_repeated(self):
        """Every entry of both streams once more, in reverse: nothing changes."""
        self.stock("again", 20)
        ids = self.place_many("again", 30)
        before = self.decided(ids)
        ops = self.tandem.redis_as("ops")
        stock = self.adds_up("again")
        for stream in (ORDERS, STOCK):
            for _, fields in ops("XREVRANGE", stream, "+", "-"):
                ops("XADD", stream, "*", *fields)
        self.caught_up()
        self.assertEqual(self.decided(ids), before)
        after = self.adds_up("again")
        self.assertEqual((after.available, after.reserved), (stock.available, stock.reserved))

    def test_poison(self):
        """Entries that are no events, in both streams, while orders flow: they end in the dead letters
        with the reason, the orders are decided."""
        self.stock("poison", 1000)
        ops = self.tandem.redis_as("ops")
        subject = self.place("poison").order_id
        envelope = ["id", f"{subject}/1", "type", "tandem.order.v1.OrderPlaced", "subject", subject]
        envelope += ["seq", "1", "time", "2026-01-01T00:00:00.000Z"]
        changed = {
            "no fields of ours": ["hello", "world"],
            "no type": envelope[:2] + envelope[4:] + ["data", ""],
            "unknown type": ["type", "tandem.order.v9.OrderPlaced"],
            "bad seq": ["seq", "minus one"],
            "bad data": ["data", b"\xff\xff\xff\xff"],
            "long subject": ["subject", "x" * 100000],
            "bytes": ["type", bytes(range(256))],
        }
        poison = {}
        for name, fields in changed.items():
            if len(fields) == 2 and name not in ("no fields of ours",):
                entry = tandem.pairs(envelope)
                entry["data"] = ""
                entry[fields[0]] = fields[1]
                fields = [part for pair in entry.items() for part in pair]
            poison[name] = fields
        load = tandem.Load(self.connect()[0], "poison", "poison-load")
        load.start()
        tandem.until(lambda: len(load.placed) > 5, 20 * tandem.SLOW, "load")
        dead = {ORDERS: "inventory:{0}:dead", STOCK: "order:{0}:dead"}
        added = {
            stream: {
                ops("XADD", stream, "*", *fields): name
                for name, fields in poison.items()
                # To inventory, what is no request is nothing to do with.
                if stream == STOCK or name != "unknown type"
            }
            for stream in dead
        }
        for stream, grave in dead.items():

            def buried():
                found = {}
                for _, flat in ops("XRANGE", grave, "-", "+"):
                    # An entry may have had such a field itself: the last one is the mover's.
                    entry = tandem.pairs(flat)
                    self.assertEqual(entry[b"stream"].decode(), stream)
                    self.assertNotEqual(entry[b"reason"], b"")
                    found[entry[b"stream_id"]] = entry
                return set(added[stream]) <= set(found)

            tandem.until(buried, 30 * tandem.SLOW, f"all in {grave}")
        placed = load.end().placed
        self.assertEqual(set(self.decided(placed).values()), {"RESERVED"})
        self.assertEqual([e for _, _, _, e in load.calls if e is not None], [])
        self.caught_up()
        self.assertEqual(self.name(self.get(subject)), "RESERVED")


class Compensation(Streams):
    """A reservation's record is lost, its request is repeated, and inventory reserves for an order that
    was rejected: it gives back what it holds, whatever else is lost."""

    ENV = {"TANDEM_ORDER_RETRY_MIN": "200ms", "TANDEM_ORDER_RETRY_MAX": "1s"}

    def refused(self, sku):
        """A rejected order, whose reservation is forgotten, and that could be served now."""
        self.stock(sku, 1)
        order = self.place(sku, 5, wait_for_decision=True)
        self.assertEqual(self.name(order), "REJECTED")
        self.caught_up()
        self.assertEqual(self.tandem.redis_as("ops")("HDEL", RESERVATIONS, order.order_id), 1)
        self.stock(sku, 9)
        self.caught_up()
        return order.order_id

    def repeat_request(self, order_id):
        ops = self.tandem.redis_as("ops")
        for _, fields in ops("XRANGE", ORDERS, "-", "+"):
            entry = tandem.pairs(fields)
            if entry[b"id"].decode() == f"{order_id}/1":
                ops("XADD", ORDERS, "*", *fields)

    def given_back(self, sku, order_id):
        ops = self.tandem.redis_as("ops")

        def released():
            record = ops("HGET", RESERVATIONS, order_id) or b""
            return record.startswith(b"RELEASED") and self.get(order_id).settled

        tandem.until(
            released,
            20 * tandem.SLOW,
            lambda: f"released: {ops('HGET', RESERVATIONS, order_id)} {self.get(order_id)}",
        )
        stock = self.adds_up(sku)
        self.assertEqual((stock.available, stock.reserved), (10, 0))
        self.assertEqual(self.name(self.get(order_id)), "REJECTED")
        self.assertEqual(ops("ZSCORE", "order:{0}:timers", order_id), None)

    def test_rejected_order_is_reserved_for(self):
        """Inventory is caught up when the order learns of it: OrderRejected is not passed over."""
        order_id = self.refused("late")
        self.repeat_request(order_id)
        self.given_back("late", order_id)
        types = [
            tandem.pairs(fields)[b"type"].decode().rpartition(".")[2]
            for _, fields in self.tandem.redis_as("ops")("XRANGE", ORDERS, "-", "+")
            if order_id.encode() in fields
        ]
        self.assertEqual(
            types, ["OrderPlaced", "OrderRejected", "OrderPlaced", "OrderRejected", "OrderSettled"]
        )

    def test_request_to_give_back_is_lost(self):
        """The OrderRejected that asks is deleted unread: it is asked for again."""
        order_id = self.refused("lost")
        ops = self.tandem.redis_as("ops")
        with self.tandem.frozen("order"):
            self.repeat_request(order_id)
            tandem.until(
                lambda: self.inventory.GetStock(sku="lost").stock.reserved == 5,
                20 * tandem.SLOW,
                "reserved",
            )
            self.tandem.inventory.kill()

        def asked():
            entry = ops("XREVRANGE", ORDERS, "+", "-", "COUNT", 1)[0]
            return b"tandem.order.v1.OrderRejected" in entry[1] and entry

        entry = tandem.until(asked, 20 * tandem.SLOW, "asked to give back")
        ops("XDEL", ORDERS, entry[0])
        self.tandem.start("inventory")
        self.tandem.gateway.wait_ready()
        self.given_back("lost", order_id)


class Instances(tandem.Live):
    """Two of order and two of inventory share the work; one of each is killed under load."""

    MORE = ("order2", "inventory2")
    ENV = {
        "TANDEM_CLAIM_IDLE": "2s",
        "TANDEM_CLAIM_EVERY": "500ms",
        "TANDEM_ORDER_RETRY_MIN": "20s",  # claims, not repeated requests, must do it
    }

    def test_killed_under_load(self):
        self.stock("shared", 1000000)
        loads = [
            tandem.Load(self.connect()[0], "shared", f"shared-{n}", wait_for_decision=True, timeout=12)
            for n in range(6)
        ]
        for load in loads:
            load.start()
        for name in ("inventory", "order2", "inventory2"):
            count = [len(load.placed) for load in loads]
            tandem.until(
                lambda: all(len(load.placed) > n + 5 for load, n in zip(loads, count)),
                20 * tandem.SLOW,
                "load",
            )
            process = self.tandem.processes[name]
            process.kill()
            count = [len(load.placed) for load in loads]
            tandem.until(
                lambda: all(len(load.placed) > n + 5 for load, n in zip(loads, count)),
                20 * tandem.SLOW,
                f"load goes on without {name}",
            )
            placed = [order_id for load in loads for order_id in load.placed]
            self.assertEqual(set(self.decided(placed, 7).values()), {"RESERVED"})
            process.start()
            process.wait_ready()
        for load in loads:
            load.end()
            for _, took, order, error in load.calls:
                self.assertIsNone(error)
                self.assertLess(took, (2 + 5) * tandem.SLOW, "claim time and 5 s at most")
                self.assertEqual(self.name(order), "RESERVED")
        total = sum(len(load.placed) for load in loads)
        self.assertEqual(self.adds_up("shared").reserved, total)

    def test_both_work(self):
        """Each instance handles a part of what comes in."""
        self.stock("parted", 100000)
        names = ("order", "order2", "inventory", "inventory2")
        redis = self.tandem.redis_as()

        def consumers():
            return {
                stream: {
                    tandem.pairs(c)[b"name"]
                    for c in redis("XINFO", "CONSUMERS", stream, group)
                }
                for stream, group in ((ORDERS, "inventory"), (STOCK, "order"))
            }

        tandem.until(
            lambda: all(len(found) >= 2 for found in consumers().values()),
            10 * tandem.SLOW,
            lambda: f"two consumers each: {consumers()}",
        )
        before = {name: self.handled(name) for name in names}
        for _ in range(50):
            self.decided([self.place("parted").order_id for _ in range(4)])
            if all(self.handled(name) > before[name] for name in names):
                break
        for name in names:
            self.assertGreater(self.handled(name), before[name], f"{name} had nothing to do")

    def handled(self, name):
        return self.tandem.processes[name].metric("tandem_events_done_total")

    def test_a_watch_sees_what_another_instance_decides(self):
        """The gateway asks the first order instance; whichever decides, the waiter hears of it."""
        self.stock("heard", 1000)
        for _ in range(30):
            order = self.place("heard", wait_for_decision=True, _timeout=5 * tandem.SLOW)
            self.assertEqual(self.name(order), "RESERVED")


if __name__ == "__main__":
    tandem.main()
