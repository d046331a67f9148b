"""Ten thousand orders wait for their decisions and delay no other call."""
import threading

import tandem

STREAMS, EACH = 40, 256  # as many of a stream as the order service has under way at a time


class Waiters(tandem.Live):
    # No request to inventory is repeated during the test.
    ENV = {"TANDEM_ORDER_DECISION_TIMEOUT": "10m"}

    def wait_for_decisions(self):
        """Places orders that wait, on the order service itself. Returns a list that gets the name of each
        status that is answered, and the threads that read the answers."""
        seconds = 240 * tandem.SLOW
        names, threads = [], []

        def stream(number):
            order, _ = self.connect("order")
            requests = [
                {
                    "sequence": n,
                    "request": {
                        "request_id": f"w{number}-{n}",
                        "customer_id": "waiter",
                        "lines": [{"sku": "waiters", "quantity": 1}],
                        "wait_for_decision": True,
                    },
                }
                for n in range(EACH)
            ]
            request = order.StreamOrders.request
            for answer in order.StreamOrders(
                iter([request(**fields) for fields in requests]), _timeout=seconds
            ):
                names.append(self.name(answer.order.order))

        for number in range(STREAMS):
            thread = threading.Thread(target=stream, args=(number,), daemon=True)
            thread.start()
            threads.append(thread)
        tandem.until(
            lambda: self.tandem.order.metric("tandem_order_waiters") == STREAMS * EACH,
            seconds,
            lambda: f"{self.tandem.order.metric('tandem_order_waiters')} wait",
        )
        return names, threads

    def reads(self):
        """How many orders the order service has read by id; it reads many in one command."""
        return self.tandem.order.metric("tandem_batch_items_total", step="order_get")

    def test_orders_are_placed_beside_them(self):
        self.stock("waiters", STREAMS * EACH)
        self.assertEqual(self.tandem.inventory.terminate(), 0)
        names, threads = self.wait_for_decisions()
        before, placed = self.reads(), 0
        # The service reads all waiting orders again every few seconds; orders that are placed
        # meanwhile are neither refused nor late.
        while self.reads() < before + 2 * STREAMS * EACH:
            for _ in range(50):
                self.place("beside", customer_id="beside")
                placed += 1
        self.assertEqual(self.tandem.order.metric("tandem_order_waiters"), STREAMS * EACH)
        self.assertGreater(placed, 0)
        # Reads of thousands of orders at once, and of long lists, while orders are placed.
        ids = [order.order_id for order in self.listed("waiter")][:5000]
        self.assertEqual(len(ids), 5000)
        order, _ = self.connect("order")
        looks = [order.GetOrder.future(order_id=i, _timeout=30 * tandem.SLOW) for i in ids]
        looks += [
            order.ListOrders.future(
                customer_id="waiter", page_size=1000, _timeout=30 * tandem.SLOW
            )
            for _ in range(60)
        ]
        while not all(look.done() for look in looks):
            self.place("beside", customer_id="beside")
        for look in looks:
            self.assertIsNone(look.exception())
        self.tandem.inventory.start()
        for thread in threads:
            thread.join(120 * tandem.SLOW)
            self.assertFalse(thread.is_alive())
        self.assertEqual(names, ["RESERVED"] * STREAMS * EACH)


if __name__ == "__main__":
    tandem.main()
