"""Orders that wait for their decision while inventory is stopped: they are stored all the same, and
delay no other call. A deadline that passes is reported as such."""
import collections
import threading

import grpc
import tandem

STREAMS, EACH = 21, 500  # more in all than the calls that a service takes at a time


class Waiting(tandem.Live):
    def setUp(self):
        self.enterContext(self.tandem.frozen("inventory"))

    def wait_for_decisions(self, sku, seconds):
        """Begins to place STREAMS × EACH orders that wait for their decision; returns a function that says
        whether all are stored."""
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
            self.addCleanup(self.order.StreamOrders(requests(), _timeout=seconds).cancel)
        return lambda: self.stored() - before >= STREAMS * EACH

    def stored(self):
        return self.written(tandem.ORDERS)

    def test_all_are_stored_while_they_wait(self):
        """Ten times as many as would be stored in the time if they waited for each other."""
        seconds = 8 * tandem.SLOW
        all_stored = self.wait_for_decisions("stored", seconds)
        tandem.until(all_stored, seconds - 1, "all stored while they wait")

    def test_others_are_served(self):
        """10 500 orders wait for their decision; other clients of the same gateway place and read."""
        all_stored = self.wait_for_decisions("followed", 120 * tandem.SLOW)
        tandem.until(all_stored, 60 * tandem.SLOW, "all are stored")
        for _ in range(20):
            order = self.place("other", _timeout=5 * tandem.SLOW)
            self.assertEqual(
                self.order.GetOrder(order_id=order.order_id, _timeout=5 * tandem.SLOW).order, order
            )


class Deadlines(tandem.Live):
    def test_a_passed_deadline_is_reported_as_one(self):
        """A deadline that is too short ends each kind of call with DEADLINE_EXCEEDED."""
        self.stock("short", 100000)
        order_id = self.place("short").order_id
        ways = [
            lambda **o: self.placing("short", **o),
            lambda **o: self.placing("short", wait_for_decision=True, **o),
            lambda **o: self.order.GetOrder.future(order_id=order_id, **o),
            lambda **o: self.order.ListOrders.future(customer_id="customer", **o),
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
