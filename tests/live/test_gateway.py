"""The gateway with real clients: streams, cancelled calls, deadlines, services that end."""
import queue
import threading

import grpc
import tandem

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Gateway(tandem.Live):
    def requests(self, sku, count, first=0, **fields):
        make = self.order.StreamOrders.request
        for number in range(first, first + count):
            message = make(sequence=number)
            message.request.customer_id = "streamer"
            message.request.lines.add(sku=sku, quantity=1)
            for name, value in fields.items():
                setattr(message.request, name, value)
            yield message

    def test_stream(self):
        """Thousands of orders on one call; each answered once, and each there."""
        self.stock("bulk", 100000)
        answers = list(self.order.StreamOrders(self.requests("bulk", 5000), _timeout=60 * tandem.SLOW))
        self.assertEqual(sorted(a.sequence for a in answers), list(range(5000)))
        orders = {a.order.order.order_id for a in answers}
        self.assertEqual(len(orders), 5000, "an order each")
        self.decided(list(orders)[:200])
        gateway = self.tandem.gateway
        placed = gateway.metric("tandem_batch_items_total", step="place")
        self.assertGreaterEqual(placed, 5000)
        self.assertLess(gateway.metric("tandem_batches_total", step="place"), placed / 2, "gathered")

    def test_stream_goes_on_after_faults(self):
        self.stock("mixed", 10)

        def mixed():
            yield from self.requests("mixed", 1, 1)
            yield from self.requests("no spaces", 1, 2)
            yield self.order.StreamOrders.request(sequence=3)
            yield from self.requests("mixed", 1, 4, wait_for_decision=True)

        answers = {a.sequence: a.order for a in self.order.StreamOrders(mixed())}
        self.assertEqual(set(answers), {1, 2, 3, 4})
        self.assertEqual([answers[n].error.code for n in (1, 2, 3, 4)], [0, 3, 3, 0])
        self.assertEqual(self.name(answers[4].order), "RESERVED")

    def test_stream_whose_answers_are_not_read(self):
        """The stream waits; other calls do not."""
        self.stock("slow", 100000)
        hold = threading.Event()
        sent = []

        def slow():
            for message in self.requests("slow", 20000):
                if hold.is_set():
                    return
                sent.append(message.sequence)
                yield message

        order, _ = self.connect()
        call = order.StreamOrders(slow(), _timeout=60 * tandem.SLOW)
        next(call)
        before = -1
        while before != len(sent):  # until nothing more is sent
            before = len(sent)
            for _ in range(50):
                self.place("slow")
        hold.set()
        self.assertEqual(len([None for _ in call]) + 1, len(sent))

    def test_cancelled_at_once(self):
        """Calls that are cancelled as fast as they are made; the gateway serves the next."""
        self.stock("reset", 10000)
        for _ in range(20):
            for call in [self.placing("reset") for _ in range(200)]:
                call.cancel()
        def served():
            # Calls that were cancelled before they left may still use up this connection's budget.
            try:
                return self.name(self.place("reset", wait_for_decision=True)) == "RESERVED"
            except grpc.RpcError as error:
                self.assertEqual(error.code(), grpc.StatusCode.RESOURCE_EXHAUSTED, error.details())
                return False

        tandem.until(served, 20 * tandem.SLOW, "the next call is served")
        tandem.until(
            lambda: self.tandem.gateway.metric("grpc_server_started_total")
            == self.tandem.gateway.metric("grpc_server_handled_total"),
            20 * tandem.SLOW,
            "no call left behind",
        )

    def test_undecided_at_the_deadline(self):
        """Inventory hangs: a caller that waits is answered before its deadline, with PENDING."""
        self.stock("late", 100)
        left = [(timeout, metadata) for timeout in (0.5, 1.2, 1.6, 2.734, 3.456, 11.99)
                for metadata in ((), [("traceparent", TRACE)])]

        def answered():
            """The answer is a moment early; where nothing ran in this moment it is too late, and the call is made again."""
            with self.tandem.frozen("inventory"):
                calls = [self.placing("late", wait_for_decision=True, _timeout=timeout, _metadata=metadata)
                         for timeout, metadata in left]
                for row, call in zip(list(left), calls):
                    if call.exception() is None:
                        self.assertEqual(self.name(call.result().order), "PENDING", row)
                        left.remove(row)
                    else:  # after a while new orders are refused: inventory does not answer
                        self.assertIn(call.code(), (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED), row)
            return not left

        tandem.until(answered, 60 * tandem.SLOW, lambda: f"answered before the deadline: all but {left}")
        with self.tandem.frozen("inventory"):
            # A call that does not wait is not delayed by one that does.
            waiting = self.placing("late", wait_for_decision=True)
            self.place("late")
            self.assertFalse(waiting.done())
        self.assertEqual(self.name(waiting.result().order), "RESERVED", "followed to its decision")

    def test_order_service_is_killed(self):
        """Errors say when to retry, and no call hangs; then it works again."""
        self.stock("away", 100)
        order = self.place("away", wait_for_decision=True)
        self.tandem.order.kill()
        try:
            for call, fields in (
                (self.order.PlaceOrder, {"customer_id": "c", "lines": [{"sku": "a", "quantity": 1}]}),
                (self.order.GetOrder, {"order_id": order.order_id}),
            ):
                error = self.fails(grpc.StatusCode.UNAVAILABLE, call, **fields)
                self.assertIn("RetryInfo", error.found)
            said = lambda: self.tandem.gateway.get("/readyz")  # noqa: E731
            tandem.until(lambda: said()[0] != 200 and "order" in said()[1], 10 * tandem.SLOW, said)
            self.inventory.GetStock(sku="away")
        finally:
            self.tandem.start()
        self.assertEqual(self.get(order.order_id).order_id, order.order_id)

    def test_watch(self):
        self.stock("watched", 10)
        order = self.place("watched", wait_for_decision=True)
        seen = queue.Queue()
        call = self.order.WatchOrder(order_id=order.order_id)

        def read():
            for answer in call:
                seen.put(self.name(answer.order))
            seen.put("end")

        reader = threading.Thread(target=read)
        reader.start()
        self.assertEqual(seen.get(timeout=10 * tandem.SLOW), "RESERVED")
        self.order.CancelOrder(order_id=order.order_id, reason="enough")
        self.assertEqual(seen.get(timeout=10 * tandem.SLOW), "CANCELLED")
        last = ""
        while last != "end":
            last = seen.get(timeout=10 * tandem.SLOW)
        reader.join()
        self.fails(
            grpc.StatusCode.NOT_FOUND, lambda: list(self.order.WatchOrder(order_id="ord_" + "a" * 26))
        )

    def test_a_watch_is_cancelled(self):
        """It ends in the order service too."""
        self.stock("left", 10)
        order = self.place("left", wait_for_decision=True)
        calls = [self.order.WatchOrder(order_id=order.order_id) for _ in range(20)]
        for call in calls:
            next(call)
        labels = {"grpc_method": "WatchOrder"}
        for call in calls:
            call.cancel()
        tandem.until(
            lambda: self.tandem.order.metric("grpc_server_handled_total", **labels)
            == self.tandem.order.metric("grpc_server_started_total", **labels),
            20 * tandem.SLOW,
            "every watch ended in the order service",
        )


if __name__ == "__main__":
    tandem.main()
