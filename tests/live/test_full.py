"""Redis at maxmemory: new orders are refused politely, everything that ends something goes on."""
import grpc
import tandem


class Full(tandem.Live):
    def test_maxmemory(self):
        self.stock("full", 100)
        placed = [self.place("full", request_id=f"full-{n}") for n in range(6)]
        ids = [order.order_id for order in placed]
        self.decided(ids)
        ops = self.tandem.redis_as("ops")
        self.addCleanup(ops, "CONFIG", "SET", "maxmemory", "1gb")
        ops("CONFIG", "SET", "maxmemory", "1mb")

        for call in (
            lambda: self.place("full"),
            lambda: self.place("full", request_id="refused", wait_for_decision=True),
        ):
            error = self.fails(grpc.StatusCode.RESOURCE_EXHAUSTED, call)
            self.assertIn("RetryInfo", error.found)
        answer = self.order.BatchPlaceOrders(
            requests=[{"customer_id": "c", "lines": [{"sku": "full", "quantity": 1}]}] * 2
        )
        self.assertEqual(
            [item.error.code for item in answer.orders],
            [grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]] * 2,
        )
        # Reading, buying and calling off go on, and reach inventory and come back.
        self.assertEqual(self.name(self.get(ids[0])), "RESERVED")
        for order_id in ids[:2]:
            self.assertEqual(
                self.name(self.order.ConfirmOrder(order_id=order_id).order), "CONFIRMED"
            )
        for order_id in ids[2:4]:
            self.assertEqual(
                self.name(self.order.CancelOrder(order_id=order_id).order), "CANCELLED"
            )
        tandem.until(
            lambda: all(self.get(order_id).settled for order_id in ids[:4]),
            20 * tandem.SLOW,
            "settled although Redis is full",
        )
        stock = self.adds_up("full")
        self.assertEqual((stock.available, stock.reserved, stock.committed), (96, 2, 2))

        ops("CONFIG", "SET", "maxmemory", "1gb")
        order = self.place("full", request_id="refused", wait_for_decision=True)
        self.assertEqual(self.name(order), "RESERVED")


if __name__ == "__main__":
    tandem.main()
