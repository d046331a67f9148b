"""Redis at maxmemory: new orders are refused, and calls that complete existing ones still work."""
import grpc
import tandem


class Full(tandem.Live):
    # The gateway would refuse nine of ten orders before the order service sees them, repeated ones, too.
    ENV = {"TANDEM_TRIM_EVERY": "100ms", "TANDEM_GATEWAY_SHED_MEMORY": "0"}

    def test_maxmemory(self):
        self.stock("full", 100)
        adjustment = {"request_id": "adjusted", "sku": "full", "delta": 1, "reason": "test"}
        adjusted = self.inventory.AdjustStock(**adjustment).stock
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
        # No order can be placed, and readiness says so.
        for process in (self.tandem.order, self.tandem.gateway):
            tandem.until(lambda: not process.ready(), 20 * tandem.SLOW, "it is not ready")
        tandem.until(lambda: "maxmemory" in self.tandem.order.get("/readyz")[1], 20 * tandem.SLOW, "it says why")
        self.tandem.inventory.wait_ready()
        # A repeat is answered from what is stored, alone and in a batch with a new request.
        self.assertEqual(self.place("full", request_id="full-0").order_id, ids[0])
        line = {"sku": "full", "quantity": 1}
        batch = self.order.BatchPlaceOrders(
            requests=[
                {"customer_id": "customer", "lines": [line], "request_id": "full-1"},
                {"customer_id": "customer", "lines": [line], "request_id": "new"},
                {"customer_id": "customer", "lines": [line] * 2, "request_id": "full-1"},
            ]
        ).orders
        self.assertEqual(batch[0].order.order_id, ids[1])
        self.assertEqual(
            [item.error.code for item in batch[1:]],
            [
                grpc.StatusCode.RESOURCE_EXHAUSTED.value[0],
                grpc.StatusCode.ALREADY_EXISTS.value[0],
            ],
        )
        self.assertEqual(self.inventory.AdjustStock(**adjustment).stock, adjusted)
        self.fails(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            lambda: self.inventory.AdjustStock(**{**adjustment, "request_id": "another"}),
        )
        # Reading, confirming and cancelling work; inventory gets the requests, and its answers arrive.
        self.assertEqual(self.name(self.get(ids[0])), "RESERVED")
        for order_ids, call, name in (
            (ids[:2], self.order.ConfirmOrder, "CONFIRMED"),
            (ids[2:4], self.order.CancelOrder, "CANCELLED"),
        ):
            for order_id in order_ids:
                self.assertEqual(self.name(call(order_id=order_id).order), name)
        for order_id in ids[:4]:
            self.settled(order_id)
        stock = self.adds_up("full")
        self.assertEqual((stock.available, stock.reserved, stock.committed), (97, 2, 2))

        ops("CONFIG", "SET", "maxmemory", "1gb")
        self.tandem.start("order", "gateway")
        order = self.place("full", request_id="refused", wait_for_decision=True)
        self.assertEqual(self.name(order), "RESERVED")


class ForgottenGroup(tandem.Live):
    """A consumer group on the order service's stream whose entries are not read or not acknowledged."""

    ENV = {
        "TANDEM_ORDER_STREAM_LENGTH_MAX": "100",
        "TANDEM_TRIM_EVERY": "100ms",
        "TANDEM_RETAIN": "0s",
        "TANDEM_RETAIN_COUNT": "0",
    }

    def doctor(self):
        return {row["check"]: (row["result"], row["detail"]) for row in self.tandem.doctor()}

    def until_held(self, count):
        order = self.tandem.order
        tandem.until(
            lambda: order.metric("tandem_stream_held_events") >= count,
            20 * tandem.SLOW,
            f"{count} events are held",
        )

    def test_a_group_that_never_acknowledges_is_named(self):
        self.stock("tea", 1000)
        ops = self.tandem.redis_as("ops")
        stream = "order:{0}:events"
        ops("XGROUP", "CREATE", stream, "hoarder", "$")
        self.addCleanup(ops, "XGROUP", "DESTROY", stream, "hoarder")
        while ops("XLEN", stream) < 60:  # well before the limit
            self.place("tea", wait_for_decision=True)
            ops("XREADGROUP", "GROUP", "hoarder", "c", "STREAMS", stream, ">")
        self.until_held(50)
        self.assertEqual(self.doctor()["group hoarder"][0], "warn")

    def test_a_group_that_fills_the_stream_is_named(self):
        self.stock("tea", 1000)
        ops = self.tandem.redis_as("ops")
        self.becomes(lambda: ops("XLEN", "order:{0}:events") < 10, True)  # what another test left is trimmed
        ops("XGROUP", "CREATE", "order:{0}:events", "billing", "$")
        # Well before the limit.
        while int(self.tandem.redis_as()("XLEN", "order:{0}:events")) < 60:
            self.place("tea", wait_for_decision=True)
        self.until_held(50)
        log = lambda: self.tandem.order.text(1000)  # noqa: E731
        tandem.until(lambda: "does not acknowledge" in log() and "billing" in log(), 20 * tandem.SLOW, log)
        result, detail = self.doctor()["group billing"]
        self.assertEqual(result, "warn")
        self.assertIn("100", detail)
        self.tandem.order.wait_ready()

        def place_until_refused():
            for _ in range(1000):
                self.place("tea")

        error = self.fails(grpc.StatusCode.RESOURCE_EXHAUSTED, place_until_refused)
        self.assertIn("RetryInfo", error.found)
        self.until_held(100)
        error = self.fails(grpc.StatusCode.RESOURCE_EXHAUSTED, lambda: self.place("tea"))
        self.assertIn("billing", error.details())
        self.assertIn("100", error.details())
        self.becomes(lambda: self.doctor()["group billing"][0], "bad")
        for process in (self.tandem.order, self.tandem.gateway):
            tandem.until(lambda: not process.ready(), 20 * tandem.SLOW, "it is not ready")
        tandem.until(lambda: "billing" in self.tandem.order.get("/readyz")[1], 20 * tandem.SLOW, "it says why")
        # Without the group, orders are accepted again.
        ops("XGROUP", "DESTROY", "order:{0}:events", "billing")
        self.tandem.start("order", "gateway")
        self.assertEqual(self.name(self.place("tea", wait_for_decision=True)), "RESERVED")


if __name__ == "__main__":
    tandem.main()
