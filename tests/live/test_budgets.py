"""A customer may have so many orders that inventory has not answered, whatever gateway and instance they come through,
and other customers and operators notice nothing."""
import unittest

import grpc
import tandem

EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
MAX = 3
LINES = [{"sku": "tea", "quantity": 1}]


class Pending(tandem.Live):
    ENV = {"TANDEM_GATEWAY_PENDING_PER_CALLER": str(MAX)}

    @classmethod
    def prepare(cls):
        keys = cls.tandem.new_callers(anna="customer cust_a", bert="customer cust_b", olga="operator")
        cls.as_caller = {name: (("authorization", f"Bearer {key}"),) for name, key in keys.items()}

    def setUp(self):
        self.inventory.AdjustStock(sku="tea", delta=1000, _metadata=self.as_caller["olga"])
        self.tandem.processes["inventory"].kill()

    def tearDown(self):
        self.tandem.start("inventory")
        self.tandem.processes["gateway"].wait_ready()
        for name in ("a", "b"):
            self.until_answered(f"cust_{name}")

    def orders_are_served(self):
        try:
            self.order.ListOrders(customer_id="cust_a", _metadata=self.as_caller["olga"])
        except grpc.RpcError:
            return False
        return True

    def until_answered(self, customer_id):
        def answered():
            page = self.order.ListOrders(customer_id=customer_id, page_size=1000, _metadata=self.as_caller["olga"])
            return all(order.status != self.status["ORDER_STATUS_PENDING"] for order in page.orders)

        tandem.until(answered, 60 * tandem.SLOW, "inventory answers")

    def place(self, name, customer_id, **more):
        return self.order.PlaceOrder(customer_id=customer_id, lines=LINES, _metadata=self.as_caller[name], **more)

    def refused(self, name, customer_id):
        """An order that is not taken."""
        error = self.fails(EXHAUSTED, self.place, name, customer_id)
        self.assertEqual(error.found["ErrorInfo"].reason, "PENDING_PER_CALLER")
        self.assertGreater(error.found["RetryInfo"].retry_delay.seconds, 0)

    def metric(self, name, series):
        for line in self.tandem.processes[name].get("/metrics", 20)[1].splitlines():
            if line.startswith(series + " "):
                return float(line.split()[-1])
        return 0

    def test_undecided_orders_are_bounded_in_redis(self):
        for number in range(MAX):
            self.place("anna", "cust_a", request_id=f"stored-{number}")
        before = self.metric("order", 'tandem_orders_placed_total{outcome="too_many"}')
        self.refused("anna", "cust_a")
        self.assertEqual(self.metric("order", 'tandem_orders_placed_total{outcome="too_many"}'), before + 1)
        # It was placed already.
        self.place("anna", "cust_a", request_id="stored-0")
        batch = self.order.BatchPlaceOrders(requests=[{"customer_id": "cust_a", "lines": LINES}] * 2,
                                            _metadata=self.as_caller["anna"])
        self.assertEqual([item.error.code for item in batch.orders], [EXHAUSTED.value[0]] * 2)
        # Others.
        self.place("bert", "cust_b")
        for _ in range(2 * MAX):
            self.place("olga", "cust_a")
        # Neither service remembers it: Redis does.
        for name in ("order", "gateway"):
            self.tandem.processes[name].terminate()
            self.tandem.processes[name].start()
        tandem.until(self.orders_are_served, 30 * tandem.SLOW, "orders are served")
        self.refused("anna", "cust_a")
        # Cancelled orders wait for inventory, too.
        order_id = self.order.ListOrders(customer_id="cust_a", page_size=100,
                                         _metadata=self.as_caller["anna"]).orders[-1].order_id
        self.order.CancelOrder(order_id=order_id, _metadata=self.as_caller["anna"])
        self.refused("anna", "cust_a")
        self.tandem.start("inventory")
        self.until_answered("cust_a")
        self.place("anna", "cust_a", wait_for_decision=True)

    def test_orders_on_their_way_are_bounded_at_the_gateway(self):
        calls = [self.order.PlaceOrder.future(customer_id="cust_b", lines=LINES, wait_for_decision=True,
                                              _timeout=60 * tandem.SLOW, _metadata=self.as_caller["bert"]) for _ in range(MAX)]
        tandem.until(lambda: self.metric("order", "tandem_order_waiters") >= MAX, 20 * tandem.SLOW, "the orders wait")
        self.refused("bert", "cust_b")
        self.assertEqual(self.metric("gateway", "tandem_gateway_refused_orders_total"), 1)
        self.place("anna", "cust_a")
        self.tandem.start("inventory")
        for call in calls:
            self.assertEqual(call.result().order.version, 2)
        self.until_answered("cust_b")
        self.place("bert", "cust_b", wait_for_decision=True)


if __name__ == "__main__":
    unittest.main()
