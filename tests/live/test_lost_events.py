"""Events are deleted, damaged or repeated in Redis: orders are decided all the same, without an
operator."""

import tandem
from tandem import ORDERS, STOCK

RESERVATIONS = "inventory:{0}:r"


class Lost(tandem.Live):
    ENV = {
        "TANDEM_ORDER_RETRY_MIN": "1s",
        "TANDEM_ORDER_RETRY_MAX": "4s",
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
        self.tandem.start()
        names = list(self.decided(ids, 60).values())
        self.assertEqual((names.count("RESERVED"), names.count("REJECTED")), (600, 400))
        self.assertEqual(self.adds_up("trimmed").reserved, 600)

    def test_answers_are_deleted(self):
        """The order service is stopped while inventory's answers are deleted, and its group with them."""
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
        """DEL while a reader is blocked."""
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
        """Entries that are not events, in both streams, while orders are placed: they become dead letters
        with a reason, and the orders are decided."""
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
        for name, fields in changed.items():
            if len(fields) == 2 and name != "no fields of ours":
                entry = {**tandem.pairs(envelope), "data": "", fields[0]: fields[1]}
                changed[name] = [part for pair in entry.items() for part in pair]
        dead = {ORDERS: "inventory:{0}:dead", STOCK: "order:{0}:dead"}
        loads = tandem.Loads([tandem.Load(self.connect()[0], "poison", "poison-load")])
        with loads:
            loads.go_on(5)
            added = {
                stream: {
                    ops("XADD", stream, "*", *fields)
                    for name, fields in changed.items()
                    # Inventory passes over events that are not requests.
                    if stream == STOCK or name != "unknown type"
                }
                for stream in dead
            }
            for stream, letters in dead.items():

                def all_moved():
                    found = set()
                    # An entry may have had such a field itself: the last one is the service's.
                    for _, entry in ops.entries(letters):
                        self.assertEqual(entry[b"stream"].decode(), stream)
                        self.assertNotEqual(entry[b"reason"], b"")
                        found.add(entry[b"stream_id"])
                    return added[stream] <= found

                tandem.until(all_moved, 30 * tandem.SLOW, f"all in {letters}")
        self.assertEqual(set(self.decided(loads.placed).values()), {"RESERVED"})
        self.assertEqual(loads.errors, [])
        self.caught_up()
        self.assertEqual(self.name(self.get(subject)), "RESERVED")


class Compensation(tandem.Live):
    """A reservation's record is lost, its request is repeated, and inventory reserves for an order that
    was rejected: it releases the stock again, whatever else is lost."""

    ENV = {"TANDEM_ORDER_RETRY_MIN": "200ms", "TANDEM_ORDER_RETRY_MAX": "1s"}

    def refused(self, sku):
        """A rejected order, whose reservation is deleted, and for which there is stock now."""
        self.stock(sku, 1)
        order = self.place(sku, 5, wait_for_decision=True)
        self.assertEqual(self.name(order), "REJECTED")
        self.caught_up()
        self.assertEqual(self.tandem.redis_as("ops")("HDEL", RESERVATIONS, order.order_id), 1)
        self.stock(sku, 9)
        self.caught_up()
        return order.order_id

    def repeat_request(self, order_id):
        [placed] = [event for event in self.events(ORDERS, order_id) if event.seq == 1]
        self.tandem.redis_as("ops")("XADD", ORDERS, "*", *placed.fields())

    def released(self, sku, order_id):
        ops = self.tandem.redis_as("ops")

        def is_released():
            record = ops("HGET", RESERVATIONS, order_id) or b""
            return record.startswith(b"RELEASED") and self.get(order_id).settled

        tandem.until(
            is_released,
            20 * tandem.SLOW,
            lambda: f"released: {ops('HGET', RESERVATIONS, order_id)} {self.get(order_id)}",
        )
        stock = self.adds_up(sku)
        self.assertEqual((stock.available, stock.reserved), (10, 0))
        self.assertEqual(self.name(self.get(order_id)), "REJECTED")
        self.assertEqual(ops("ZSCORE", "order:{0}:timers", order_id), None)

    def test_rejected_order_is_reserved_for(self):
        """Inventory has read everything when the order learns of it: it does not skip OrderRejected."""
        order_id = self.refused("late")
        self.repeat_request(order_id)
        self.released("late", order_id)
        self.assertEqual(
            [event.name for event in self.events(ORDERS, order_id)],
            ["OrderPlaced", "OrderRejected", "OrderPlaced", "OrderRejected", "OrderSettled"],
        )

    def test_request_to_release_is_lost(self):
        """The OrderRejected that asks for it is deleted unread: the request is repeated."""
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
            event = self.events(ORDERS)[-1]
            return event.name == "OrderRejected" and event

        event = tandem.until(asked, 20 * tandem.SLOW, "asked to release")
        ops("XDEL", ORDERS, event.stream_id)
        self.tandem.start()
        self.released("lost", order_id)


class Instances(tandem.Live):
    """Two instances of order and two of inventory share the work; one of each is killed, and frozen, under load."""

    MORE = ("order2", "inventory2")
    # So that claims, not repeated requests, decide the orders.
    ENV = {"TANDEM_ORDER_RETRY_MIN": "60s", "TANDEM_ORDER_RETRY_MAX": "60s"}
    WAIT_MAX = 40 * tandem.SLOW  # seconds: less than that, and more than a busy machine needs

    def test_killed_under_load(self):
        self.stock("shared", 1000000)
        loads = tandem.Loads(
            tandem.Load(self.connect()[0], "shared", f"shared-{n}", wait_for_decision=True, timeout=60)
            for n in range(6)
        )
        with loads:
            for name in ("inventory", "order2", "inventory2"):
                loads.go_on(6)
                self.tandem.processes[name].kill()
                loads.go_on(6, f"load goes on without {name}")
                self.assertEqual(set(self.decided(loads.placed, 40).values()), {"RESERVED"})
                self.tandem.start(name, "gateway")  # which knows of an instance again
        for load in loads:
            for _, took, order, error in load.calls:
                self.assertIsNone(error)
                self.assertLess(took, self.WAIT_MAX)
                self.assertEqual(self.name(order), "RESERVED")
        self.assertEqual(self.adds_up("shared").reserved, len(loads.placed))

    def test_longest_wait(self):
        """One instance of each is frozen, and later dies: the other takes over its events, and no order waits
        for long. Prints the longest wait."""
        self.stock("waited", 1000000)
        loads = [
            tandem.Load(self.connect()[0], "waited", f"waited-{n}", wait_for_decision=True, timeout=60)
            for n in range(24)
        ]
        for load in loads:
            load.start()
        for name in ("inventory2", "order2", "inventory2"):
            process = self.tandem.processes[name]
            self.goes_on(loads, f"{name} works")
            self.freeze_at_work(name, loads)
            if name == "order2":
                process.signal(tandem.signal.SIGCONT)
                self.goes_on(loads, f"{name} is back")
                process.signal(tandem.signal.SIGSTOP)
                self.goes_on(loads, f"without {name}, which is frozen again")
            process.kill()
            self.goes_on(loads, f"without {name}, which is dead")
            self.tandem.start(name, "gateway")
        for load in loads:
            load.end()
        calls = [call for load in loads for call in load.calls]
        for _, _, order, error in calls:
            self.assertIsNone(error)
            self.assertEqual(self.name(order), "RESERVED")
        waits = sorted(took for _, took, _, _ in calls)
        print(f"{len(waits)} orders, the longest waits: {[round(took, 2) for took in waits[-5:]]} s")
        self.assertGreater(waits[-1], 1, "no order waited: the frozen instance held no event")
        self.assertLess(waits[-1], self.WAIT_MAX)
        self.assertEqual(self.adds_up("waited").reserved, len(waits))
        self.caught_up()
        code, lines = self.tandem.ctl_json("audit")
        self.assertEqual((code, lines[-1]["violations"]), (0, 0), lines)

    def freeze_at_work(self, name, loads):
        """Freezes an instance at a moment when it holds events: the other takes them over."""
        other = self.tandem.processes[name.rstrip("2")]
        process = self.tandem.processes[name]
        before = other.metric("tandem_events_claimed_total")
        for _ in range(50):
            process.signal(tandem.signal.SIGSTOP)
            self.goes_on(loads, f"without {name}, which is frozen")
            if other.metric("tandem_events_claimed_total") > before:
                return
            process.signal(tandem.signal.SIGCONT)
            self.goes_on(loads, f"{name} works again")
        self.fail(f"{name} held no event, each time it was frozen")

    def goes_on(self, loads, what):
        """Each of the loads completes an order placed from now on."""
        count = [len(load.calls) for load in loads]
        tandem.until(
            lambda: all(len(load.calls) > n + 1 for load, n in zip(loads, count)), 30 * tandem.SLOW, what
        )

    def test_both_work(self):
        """Each instance handles a part of what comes in."""
        self.stock("parted", 100000)
        names = ("order", "order2", "inventory", "inventory2")
        redis = self.tandem.redis_as()

        for stream, group in ((ORDERS, "inventory"), (STOCK, "order")):
            self.assertGreaterEqual(len(redis("XINFO", "CONSUMERS", stream, group)), 2, stream)
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
        """The gateway calls the first order instance; whichever decides, the call that waits is answered."""
        self.stock("heard", 1000)
        for _ in range(30):
            order = self.place("heard", wait_for_decision=True, _timeout=10 * tandem.SLOW)
            self.assertEqual(self.name(order), "RESERVED")


if __name__ == "__main__":
    tandem.main()
