"""Placing an order: every step to its decision, and the same call made twice."""
import time

import grpc
import tandem


class Place(tandem.Live):
    def test_is_reserved_quickly(self):
        """With stock: RESERVED within 200 ms of the call, as a client sees it that polls. The quickest of
        some orders, because the machine may be busy."""
        self.stock("quick", 100)
        self.place("quick")
        took = []
        for _ in range(15):
            start = time.monotonic()
            order = self.place("quick", quantity=2)
            self.assertIn(self.name(order), ("PENDING", "RESERVED"))
            while self.name(self.get(order.order_id)) == "PENDING":
                self.assertLess(time.monotonic(), start + 20 * tandem.SLOW)
            self.assertEqual(self.name(self.get(order.order_id)), "RESERVED")
            took.append(time.monotonic() - start)
        self.assertLess(min(took), 0.2 * tandem.SLOW, took)

    def test_an_order_holds_what_was_requested(self):
        self.stock("lines-a", 10)
        self.stock("lines-b", 10)
        before = time.time()
        order = self.order.PlaceOrder(
            customer_id="Zoë",
            lines=[
                {"sku": "lines-b", "quantity": 1},
                {"sku": "lines-a", "quantity": 2},
                {"sku": "lines-b", "quantity": 3},
            ],
            labels={"channel": "web", "über": "ja"},
            hold={"seconds": 60},
            wait_for_decision=True,
        ).order
        self.assertRegex(order.order_id, "^ord_[0-9a-z]{26}$")
        self.assertEqual(order.customer_id, "Zoë")
        self.assertEqual(
            [(line.sku, line.quantity) for line in order.lines], [("lines-b", 4), ("lines-a", 2)]
        )
        self.assertEqual(dict(order.labels), {"channel": "web", "über": "ja"})
        self.assertEqual((self.name(order), order.version, order.settled), ("RESERVED", 2, False))
        created = order.create_time.seconds + order.create_time.nanos / 1e9
        expires = order.hold_expire_time.seconds + order.hold_expire_time.nanos / 1e9
        self.assertAlmostEqual(created, before, delta=5)
        self.assertAlmostEqual(expires, created + 60, delta=5)
        self.assertEqual(self.get(order.order_id), order)
        for sku, reserved in (("lines-a", 2), ("lines-b", 4)):
            stock = self.adds_up(sku)
            self.assertEqual((stock.available, stock.reserved), (10 - reserved, reserved))
        reservation = self.inventory.GetReservation(order_id=order.order_id).reservation
        states = self.protos.enum("tandem.inventory.v1.ReservationState")
        self.assertEqual(reservation.state, states["RESERVATION_STATE_RESERVED"])
        self.assertEqual(
            sorted((line.sku, line.quantity) for line in reservation.lines),
            [("lines-a", 2), ("lines-b", 4)],
        )

    def test_all_or_nothing(self):
        """One line is short: REJECTED, with the shortage; the other line's stock is unchanged."""
        self.stock("enough", 10)
        self.stock("short", 3)
        order = self.order.PlaceOrder(
            customer_id="c",
            lines=[
                {"sku": "enough", "quantity": 4},
                {"sku": "short", "quantity": 5},
                {"sku": "unheard-of", "quantity": 1},
            ],
            wait_for_decision=True,
        ).order
        self.assertEqual(self.name(order), "REJECTED")
        self.assertEqual(
            [(s.sku, s.requested, s.available, s.unknown) for s in order.shortages],
            [("short", 5, 3, False), ("unheard-of", 1, 0, True)],
        )
        self.assertTrue(order.settled)
        self.assertNotEqual(order.status_reason, "")
        self.assertEqual(self.adds_up("enough").available, 10)
        self.assertEqual(self.adds_up("short").available, 3)

    def test_wait_for_decision_needs_one_call(self):
        self.stock("wait", 1)
        names = [self.name(self.place("wait", wait_for_decision=True)) for _ in range(2)]
        self.assertEqual(names, ["RESERVED", "REJECTED"])

    def test_watch_streams_every_change(self):
        self.stock("watch", 1)

        def changes(order, **fields):
            watch = self.order.WatchOrder(order_id=order.order_id, **fields)
            for change in watch:
                yield self.name(change.order), change.order.version
                if self.name(change.order) == "RESERVED":
                    watch.cancel()
                    return

        # A watch may begin after PENDING.
        seen = list(changes(self.place("watch")))
        self.assertEqual(seen, [("PENDING", 1), ("RESERVED", 2)][-len(seen):])
        rejected = self.place("watch")
        seen = list(changes(rejected))
        self.assertEqual(seen, [("PENDING", 1), ("REJECTED", 2)][-len(seen):], "ends when settled")
        self.assertEqual(list(changes(rejected, after_version=1)), [("REJECTED", 2)])

    def test_watch_sees_pending_first(self):
        """While inventory is stopped, the watch begins with PENDING; RESERVED follows."""
        self.stock("still", 1)
        with self.tandem.frozen("inventory"):
            order = self.place("still")
            watch = iter(self.order.WatchOrder(order_id=order.order_id))
            self.assertEqual(self.name(next(watch).order), "PENDING")
        self.assertEqual(self.name(next(watch).order), "RESERVED")

    def test_wait_ends_at_the_deadline(self):
        """No decision in time: the order is answered as it is, OK, not DEADLINE_EXCEEDED."""

        def placed():
            """The answer is a moment early; where nothing ran in this moment it is too late, and another call is made."""
            with self.tandem.frozen("inventory"):
                call = self.placing("late", wait_for_decision=True, _timeout=1.5)
                if call.exception() is None:
                    self.assertEqual(self.name(call.result().order), "PENDING")
                    return call.result().order
                self.assertEqual(call.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
                return None

        order = tandem.until(placed, 30 * tandem.SLOW, "an answer before the deadline")
        self.assertEqual(self.decided([order.order_id]), {order.order_id: "REJECTED"})

    def test_a_batch_keeps_its_order(self):
        self.stock("batch", 2)
        requests = [
            {"customer_id": "b", "lines": [{"sku": "batch", "quantity": 1}], "labels": {"n": "0"}},
            {"customer_id": "b", "lines": [], "labels": {"n": "1"}},
            {"customer_id": "b", "lines": [{"sku": "batch", "quantity": 9}], "labels": {"n": "2"}},
        ]
        answer = self.order.BatchPlaceOrders(requests=requests)
        kinds = [item.WhichOneof("result") for item in answer.orders]
        self.assertEqual(kinds, ["order", "error", "order"])
        self.assertEqual([answer.orders[i].order.labels["n"] for i in (0, 2)], ["0", "2"])
        self.assertEqual(answer.orders[1].error.code, grpc.StatusCode.INVALID_ARGUMENT.value[0])
        names = self.decided([answer.orders[i].order.order_id for i in (0, 2)])
        self.assertEqual(list(names.values()), ["RESERVED", "REJECTED"])

    def test_batches_of_moves(self):
        """Each order of a batch has a result of its own, in the order of the requests."""
        self.stock("moved", 3)
        orders = [self.place("moved", wait_for_decision=True).order_id for _ in range(4)]
        missing = "ord_" + "a" * 26
        answer = self.order.BatchConfirmOrders(requests=[
            {"order_id": orders[0]}, {"order_id": missing}, {"order_id": orders[3]},
            {"order_id": orders[1], "expected_version": 2}, {"order_id": orders[2], "expected_version": 1}])
        errors = [grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.ABORTED]
        self.assertEqual([item.error.code for item in answer.orders],
                         [0, errors[0].value[0], errors[1].value[0], 0, errors[2].value[0]])
        self.assertEqual([(self.name(item.order), item.order.customer_id, len(item.order.lines))
                          for item in (answer.orders[0], answer.orders[3])], [("CONFIRMED", "customer", 0)] * 2)
        answer = self.order.BatchCancelOrders(
            requests=[{"order_id": order_id, "reason": "enough"} for order_id in orders])
        self.assertEqual([item.WhichOneof("result") for item in answer.orders],
                         ["error", "error", "order", "error"])
        self.assertEqual(answer.orders[2].order.status_reason, "enough")
        for order_id in orders[:3]:
            self.settled(order_id)
        stock = self.adds_up("moved")
        self.assertEqual((stock.available, stock.committed), (1, 2))

    def test_a_hold_is_extended(self):
        """The first end of its hold passes, and the order is RESERVED still; it expires at the second."""
        self.stock("held", 1)
        order = self.place("held", hold={"seconds": 1}, wait_for_decision=True)
        until = order.hold_expire_time
        until.seconds += 2
        for _ in range(2):  # a repeated call changes nothing more
            held = self.order.ExtendHold(order_id=order.order_id, hold_expire_time=until).order
            self.assertEqual((self.name(held), held.version), ("RESERVED", 3))
            self.assertEqual(held.hold_expire_time, until)
        versions = [change.order for change in self.order.WatchOrder(order_id=order.order_id)]
        expired = [change for change in versions if self.name(change) == "EXPIRED"][0]
        self.assertGreaterEqual(expired.update_time.ToNanoseconds(), until.ToNanoseconds())
        self.fails(grpc.StatusCode.FAILED_PRECONDITION, self.order.ExtendHold,
                   order_id=order.order_id, hold_expire_time=until)

    def test_items_come_back(self):
        """By line and whole, each return once, and never more than was bought."""
        self.stock("worn", 5)
        self.stock("torn", 2)
        order = self.order.PlaceOrder(customer_id="c", wait_for_decision=True, lines=[
            {"sku": "worn", "quantity": 4}, {"sku": "torn", "quantity": 2}]).order
        give_back = {"order_id": order.order_id, "return_id": "first", "reason": "too small",
                     "lines": [{"sku": "worn", "quantity": 3}]}
        self.fails(grpc.StatusCode.FAILED_PRECONDITION, self.order.ReturnOrder, **give_back)
        self.order.ConfirmOrder(order_id=order.order_id)
        self.settled(order.order_id)
        for _ in range(2):
            back = self.order.ReturnOrder(**give_back).order
            self.assertEqual((self.name(back), len(back.returns), back.returns[0].reason), ("CONFIRMED", 1, "too small"))
        self.settled(order.order_id)
        stock = self.adds_up("worn")
        self.assertEqual((stock.available, stock.committed), (4, 1))
        self.fails(grpc.StatusCode.ALREADY_EXISTS, self.order.ReturnOrder, **{**give_back, "reason": "torn"})
        self.fails(grpc.StatusCode.FAILED_PRECONDITION, self.order.ReturnOrder, **{**give_back, "return_id": "more"})
        self.order.ReturnOrder(order_id=order.order_id, return_id="rest")
        self.settled(order.order_id)
        self.assertEqual([(line.sku, line.quantity) for line in self.get(order.order_id).returns[1].lines],
                         [("worn", 1), ("torn", 2)])
        for sku, received in (("worn", 5), ("torn", 2)):
            stock = self.adds_up(sku)
            self.assertEqual((stock.available, stock.committed), (received, 0))
        reservation = self.inventory.GetReservation(order_id=order.order_id).reservation
        self.assertEqual([(line.sku, line.quantity, line.returned) for line in reservation.lines],
                         [("worn", 4, 4), ("torn", 2, 2)])
        self.fails(grpc.StatusCode.FAILED_PRECONDITION, self.order.ReturnOrder,
                   order_id=order.order_id, return_id="nothing left")

    def test_orders_are_listed_newest_first(self):
        placed = [self.place("list", customer_id="lister").order_id for _ in range(7)]
        self.decided(placed)
        listed = [order.order_id for order in self.listed("lister", page_size=3)]
        self.assertEqual(sorted(listed), sorted(placed))
        # Orders of the same millisecond are sorted by their ids.
        times = [self.get(order_id).create_time for order_id in listed]
        self.assertEqual(times, sorted(times, key=lambda t: (t.seconds, t.nanos), reverse=True))
        self.fails(
            grpc.StatusCode.INVALID_ARGUMENT,
            self.order.ListOrders,
            customer_id="lister",
            page_token="nonsense",
        )

    def test_unknown_things_are_not_found(self):
        order_id = "ord_" + "0" * 26
        missing = grpc.StatusCode.NOT_FOUND
        self.fails(missing, self.order.GetOrder, order_id=order_id)
        self.fails(missing, self.order.GetOrder, order_id="no such id")
        self.fails(missing, lambda: list(self.order.WatchOrder(order_id=order_id)))
        self.fails(missing, self.inventory.GetStock, sku="never-seen")
        self.fails(missing, self.inventory.GetReservation, order_id=order_id)


class Twice(tandem.Live):
    def test_the_same_request_gives_the_same_order(self):
        self.stock("twice", 10)
        first = self.place("twice", quantity=2, request_id="r1", labels={"a": "1", "b": "2"})
        again = self.place("twice", quantity=2, request_id="r1", labels={"b": "2", "a": "1"})
        self.assertEqual(first.order_id, again.order_id)
        self.decided([first.order_id])
        self.assertEqual(self.adds_up("twice").available, 8, "reserved once")
        waited = self.place(
            "twice", quantity=2, request_id="r1", labels={"a": "1", "b": "2"}, wait_for_decision=True
        )
        self.assertEqual((waited.order_id, self.name(waited)), (first.order_id, "RESERVED"))
        other = self.place("twice", quantity=2, request_id="r1", customer_id="another")
        self.assertNotEqual(other.order_id, first.order_id, "unique for its customer")
        lines = [{"sku": "twice", "quantity": 1}]
        repeated = {"request_id": "r2", "customer_id": "customer", "lines": lines}
        batch = self.order.BatchPlaceOrders(requests=[repeated] * 3)
        self.assertEqual(len({item.order.order_id for item in batch.orders}), 1)

    def test_other_content_is_refused(self):
        self.stock("content", 10)
        self.place("content", quantity=1, request_id="taken", labels={"secret": "xyzzy"})
        different = (
            {"quantity": 2, "labels": {"secret": "xyzzy"}},
            {"quantity": 1},
            {"quantity": 1, "labels": {"secret": "xyzzy"}, "hold": {"seconds": 60}},
        )
        for fields in different:
            with self.subTest(fields=fields):
                exists = grpc.StatusCode.ALREADY_EXISTS
                error = self.fails(exists, self.place, "content", request_id="taken", **fields)
                self.assertNotIn("xyzzy", error.details(), "the first content is not shown")

    def test_200_at_once_make_one_order(self):
        self.stock("crowd", 1000)
        stubs = [self.connect()[0] for _ in range(4)]
        fields = {"request_id": "crowd", "customer_id": "crowd"}
        calls = [self.placing("crowd", 3, stubs[n % 4], **fields) for n in range(200)]
        ids = {call.result().order.order_id for call in calls}
        self.assertEqual(len(ids), 1)
        self.decided(ids)
        self.assertEqual(self.adds_up("crowd").available, 997)
        self.assertEqual(len(self.listed("crowd")), 1)
        names = [event.name for event in self.events(tandem.ORDERS, ids.pop())]
        self.assertEqual(names.count("OrderPlaced"), 1, names)

    def test_an_adjustment_takes_effect_once(self):
        fields = {"request_id": "delivery", "sku": "adjust", "delta": 7, "reason": "lorry"}
        calls = [self.inventory.AdjustStock.future(**fields) for _ in range(50)]
        for call in calls:
            self.assertEqual(call.result().stock.received, 7)
        self.assertEqual(self.adds_up("adjust").available, 7)
        fields["delta"] = 8
        self.fails(grpc.StatusCode.ALREADY_EXISTS, self.inventory.AdjustStock, **fields)
        self.place("adjust", quantity=5, wait_for_decision=True)
        self.fails(
            grpc.StatusCode.FAILED_PRECONDITION, self.inventory.AdjustStock, sku="adjust", delta=-3
        )
        self.assertEqual(self.stock("adjust", -2).available, 0, "down to what is reserved")


if __name__ == "__main__":
    tandem.main()
