"""While more orders come than can be served, new ones are refused early and in part; everything else goes on, and it ends
by itself."""
import grpc
import tandem

EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED


class Shedding(tandem.Live):
    ENV = {"TANDEM_GATEWAY_SHED_AGE": "1s"}

    def refused(self):
        return self.tandem.gateway.metric("tandem_gateway_shed_orders_total", cause="age")

    def share(self):
        return self.tandem.gateway.metric("tandem_gateway_shed_share")

    def overload(self):
        return next((row["result"], row["detail"]) for row in self.tandem.doctor() if row["check"] == "overload")

    def test_inventory_is_away(self):
        self.stock("tea", 1000000)
        kept = [self.place("tea", wait_for_decision=True) for _ in range(3)]
        self.assertEqual(self.overload()[0], "ok")
        accepted, errors = [], []

        def place():
            try:
                accepted.append(self.place("tea").order_id)
            except grpc.RpcError as error:
                errors.append(error)
            return len(errors) >= 10

        with self.tandem.frozen("inventory"):
            tandem.until(place, 60 * tandem.SLOW, "orders are refused", every=0)
            self.assertGreater(len(accepted), 10, "up to the limit all are taken")
            for error in errors:
                self.assertEqual(error.code(), EXHAUSTED)
            details = self.details(errors[0])
            self.assertEqual(details["ErrorInfo"].reason, "OVERLOADED")
            self.assertGreater(details["RetryInfo"].retry_delay.ToMilliseconds(), 0)
            self.assertEqual(self.refused(), len(errors))
            self.assertGreater(self.share(), 0)
            result, detail = self.overload()
            self.assertEqual(result, "warn")
            self.assertIn("age", detail)
            # All other calls go on.
            self.order.ConfirmOrder(order_id=kept[0].order_id)
            self.order.CancelOrder(order_id=kept[1].order_id)
            self.assertEqual(self.get(accepted[0]).order_id, accepted[0])
            batch = self.order.BatchPlaceOrders(
                requests=[{"customer_id": "c", "lines": [{"sku": "tea", "quantity": 1}]}] * 200)
            codes = [item.error.code for item in batch.orders]
            self.assertIn(EXHAUSTED.value[0], codes)
            self.assertLessEqual(set(codes), {0, EXHAUSTED.value[0]})
            accepted += [item.order.order_id for item in batch.orders if item.error.code == 0]
        # All that was taken is decided, and new orders are taken again.
        self.decided(accepted)
        tandem.until(lambda: self.share() == 0, 30 * tandem.SLOW, "it ends")
        refused = self.refused()
        self.decided([self.place("tea").order_id for _ in range(20)])
        self.assertEqual(self.refused(), refused)
        self.assertEqual(self.overload()[0], "ok")
        self.settled(kept[0].order_id)
        self.settled(kept[1].order_id)
        self.caught_up()
        self.adds_up("tea")
        log = self.tandem.gateway.text(1000)
        self.assertIn("more orders come than can be served", log)
        self.assertIn("no order is refused any more", log)
        self.assertEqual(self.tandem.ctl("audit").returncode, 0)


if __name__ == "__main__":
    tandem.main()
