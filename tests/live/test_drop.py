"""Settled orders that the archive has are dropped: what was sold stays counted, the audit is content, and what is repeated or
comes late changes nothing."""
import re

import tandem


class Dropped(tandem.Live):
    ENV = {"TANDEM_ARCHIVE_RELEASE_AFTER": "1s", "TANDEM_ARCHIVE_RELEASE_MIN_AGE": "1s", "TANDEM_ORDER_KEEP_AT_LEAST": "500ms"}

    def setUp(self):
        self.redis = self.tandem.redis_as("ops")

    def keys(self, name):
        return [name.replace("{0}", f"{{{p}}}") for p in range(self.tandem.partitions)]

    def is_gone(self, order_id):
        return not any(self.redis("HEXISTS", key, order_id)
                       for name in ("order:{0}:orders", "inventory:{0}:r", "inventory:{0}:parts")
                       for key in self.keys(name))

    def sold(self, sku):
        return sum(int(self.redis("HGET", key, sku) or 0) for key in self.keys("inventory:{0}:dropped"))

    def asked(self):
        """How often Redis was asked for orders by their ids, and the archive."""
        found = re.search(rb"cmdstat_hmget:calls=(\d+)", self.redis("INFO", "commandstats"))
        return (int(found[1]) if found else 0,
                self.tandem.archive.metric("grpc_server_handled_total", grpc_method="FindOrders"))

    def inventory_has_read(self, stream):
        info, groups = tandem.pairs(self.redis("XINFO", "STREAM", stream)), self.redis("XINFO", "GROUPS", stream)
        group = next(group for group in map(tandem.pairs, groups) if group[b"name"] == b"inventory")
        return group[b"last-delivered-id"] == info[b"last-generated-id"] and group[b"pending"] == 0

    def test_orders_are_dropped(self):
        skus = [f"sku-{n}" for n in range(4)]
        for sku in skus:
            self.stock(sku, 50)
        lines = [{"sku": sku, "quantity": 3} for sku in skus]
        place = lambda request_id: self.order.PlaceOrder(customer_id="dora", request_id=request_id, lines=lines,
                                                         wait_for_decision=True).order
        bought, cancelled, reserved = (place(request_id) for request_id in ("b", "c", "r"))
        stream = next(key for key in self.keys(tandem.ORDERS) if self.events(key, bought.order_id))
        placed = self.events(stream, bought.order_id)[0]
        entry = self.redis("XRANGE", stream, placed.stream_id, placed.stream_id)[0][1]
        self.order.ConfirmOrder(order_id=bought.order_id)
        self.settled(bought.order_id)
        self.order.ReturnOrder(order_id=bought.order_id, return_id="1", lines=[{"sku": skus[0], "quantity": 1}])
        self.order.CancelOrder(order_id=cancelled.order_id)
        for order in (bought, cancelled):
            tandem.until(lambda order=order: self.is_gone(order.order_id), 30 * tandem.SLOW, f"{order.order_id} is dropped")
        self.assertEqual([self.sold(sku) for sku in skus], [2, 3, 3, 3])
        self.assertFalse(self.is_gone(reserved.order_id))
        self.assertEqual(self.events(stream, bought.order_id)[-1].type, "tandem.order.v1.OrderDropped")
        # Its request comes once more, long after it was published: as a dead letter that is replayed. (Orders are kept for
        # longer than here before they are dropped, so it is older than it would be.)
        at = entry.index(b"time") + 1
        self.redis("XADD", stream, "*", *entry[:at], "2026-01-01T00:00:00.000Z", *entry[at + 1:])
        tandem.until(lambda: self.inventory_has_read(stream), 20 * tandem.SLOW, "inventory has read it")
        self.assertTrue(self.is_gone(bought.order_id))
        for sku, sold in zip(skus, (2, 3, 3, 3)):
            stock = self.inventory.GetStock(sku=sku).stock
            self.assertEqual((stock.committed, stock.reserved), (sold, 3))
        code, rows = self.tandem.ctl_json("audit")
        self.assertEqual((code, [row for row in rows if "violation" in row]), (0, []))
        self.assertEqual(self.get(bought.order_id).status, self.status["ORDER_STATUS_CONFIRMED"])
        # Of what was dropped everywhere the audit asks nobody: neither Redis nor the archive order by order.
        self.order.CancelOrder(order_id=reserved.order_id)
        dropped = lambda: self.tandem.archive.metric("tandem_archive_dropped_orders_total")
        tandem.until(lambda: dropped() == 3 and self.is_gone(reserved.order_id), 30 * tandem.SLOW, "the archive knows that all are dropped")

        def asks_nobody():
            before = self.asked()
            code, rows = self.tandem.ctl_json("audit")
            self.assertEqual((code, rows[-1]["archive"]["dropped"]), (0, 3))
            return self.asked() == before  # services may ask meanwhile, for the last of their work

        tandem.until(asks_nobody, 30 * tandem.SLOW, "it asks nobody", every=0.2)


class DroppedOfSeveralPartitions(Dropped):
    LAYOUT = (1, 0, 4)


if __name__ == "__main__":
    tandem.main()
