"""Orders that wait for their decision while inventory is away: they are stored all the same, and nobody
else waits with them. Deadlines that pass are told as such."""
import collections
import signal
import threading

import grpc
import tandem

STREAMS, EACH = 21, 500  # more in all than the calls that a service takes


class Waiting(tandem.Live):
    def setUp(self):
        self.tandem.inventory.signal(signal.SIGSTOP)
        self.addCleanup(self.tandem.inventory.signal, signal.SIGCONT)
        self.calls = []
        self.addCleanup(self.go)

    def go(self):
        for call in self.calls:
            call.cancel()

    def wait_for_decisions(self, sku, seconds):
        """STREAMS × EACH orders that wait for their decision, on as many streams; how many orders there
        were before."""
        make = self.order.StreamOrders.request
        before = self.stored()

        def requests():
            for number in range(EACH):
                message = make(sequence=number)
                message.request.customer_id = "waits"
                message.request.lines.add(sku=sku, quantity=1)
                message.request.wait_for_decision = True
                yield message
            ended.wait(seconds)

        ended = threading.Event()
        self.addCleanup(ended.set)
        for _ in range(STREAMS):
            self.calls.append(self.order.StreamOrders(requests(), _timeout=seconds))
        return before

    def stored(self):
        return self.tandem.redis_as()("XLEN", "order:{0}:events")

    def test_all_are_stored_while_they_wait(self):
        """Ten times as many as one second of waiting would let through, were they to wait for each other."""
        seconds = 8 * tandem.SLOW
        before = self.wait_for_decisions("stored", seconds)
        tandem.until(
            lambda: self.stored() - before >= STREAMS * EACH, seconds - 1, "all stored while they wait"
        )

    def test_others_are_served(self):
        """10 500 orders wait for their decision; through the same gateway others place and read."""
        before = self.wait_for_decisions("followed", 120 * tandem.SLOW)
        tandem.until(
            lambda: self.stored() - before >= STREAMS * EACH, 60 * tandem.SLOW, "all are stored"
        )
        for _ in range(20):
            order = self.place("other", _timeout=5 * tandem.SLOW)
            self.assertEqual(
                self.order.GetOrder(order_id=order.order_id, _timeout=5 * tandem.SLOW).order, order
            )


class Deadlines(tandem.Live):
    def test_a_passed_deadline_is_told_as_one(self):
        """Whatever a deadline is too short for: DEADLINE_EXCEEDED, for each way a call can take."""
        self.stock("short", 100000)
        order_id = self.place("short").order_id
        ways = [
            lambda **o: self.order.PlaceOrder.future(
                customer_id="c", lines=[{"sku": "short", "quantity": 1}], **o
            ),
            lambda **o: self.order.PlaceOrder.future(
                customer_id="c",
                lines=[{"sku": "short", "quantity": 1}],
                wait_for_decision=True,
                **o,
            ),
            lambda **o: self.order.GetOrder.future(order_id=order_id, **o),
            lambda **o: self.order.ListOrders.future(customer_id="c", **o),
            lambda **o: self.inventory.GetStock.future(sku="short", **o),
        ]
        ended = collections.Counter()
        for start in ways:
            for tenths in range(1, 60):
                calls = [start(_timeout=tenths / 10000) for _ in range(8)]
                for call in calls:
                    error = call.exception()
                    if error is not None:
                        ended[error.code(), error.details()] += 1
        self.assertEqual({code for code, _ in ended}, {grpc.StatusCode.DEADLINE_EXCEEDED}, ended)


if __name__ == "__main__":
    tandem.main()
