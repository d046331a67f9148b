"""Many buyers, few items: nothing is sold twice."""
import threading
import time

import tandem


class Oversell(tandem.Live):
    def test_2000_orders_for_100_items(self):
        self.stock("rare", 100)
        lowest, ended = [100], threading.Event()
        _, other = self.connect()

        def look():
            """Reads the counters all the time: they must never be wrong."""
            while not ended.is_set():
                stock = other.GetStock(sku="rare").stock
                lowest.append(stock.available)
                total = stock.available + stock.reserved + stock.committed
                if total != 100 or stock.available > 100:
                    lowest.append(-1)
                time.sleep(0.002)

        looker = threading.Thread(target=look)
        looker.start()
        stubs = [self.connect()[0] for _ in range(4)]
        calls = [
            self.placing(
                "rare",
                order=stubs[n % 4],
                request_id=f"buyer-{n}",
                customer_id=f"buyer-{n % 50}",
                _timeout=60 * tandem.SLOW,
            )
            for n in range(2000)
        ]
        ids = [call.result().order.order_id for call in calls]
        self.assertEqual(len(set(ids)), 2000)
        names = list(self.decided(ids, 60).values())
        ended.set()
        looker.join()
        self.assertEqual(names.count("RESERVED"), 100)
        self.assertEqual(names.count("REJECTED"), 1900)
        stock = self.adds_up("rare")
        self.assertEqual((stock.available, stock.reserved), (0, 100))
        self.assertEqual(min(lowest), 0)

    def test_two_skus_in_either_order(self):
        """Orders for both of two SKUs, named in either order: each gets both or none."""
        self.stock("left", 30)
        self.stock("right", 30)
        skus = ("left", "right")
        calls = [
            self.order.PlaceOrder.future(
                customer_id="cross",
                lines=[
                    {"sku": skus[n % 2], "quantity": 1 + n % 3},
                    {"sku": skus[(n + 1) % 2], "quantity": 1 + n % 3},
                ],
                wait_for_decision=True,
                _timeout=30 * tandem.SLOW,
            )
            for n in range(200)
        ]
        orders = [call.result().order for call in calls]
        names = self.decided([order.order_id for order in orders])
        sold = sum(o.lines[0].quantity for o in orders if names[o.order_id] == "RESERVED")
        for sku in skus:
            stock = self.adds_up(sku)
            self.assertEqual(stock.reserved, sold)
        self.assertGreaterEqual(sold, 28, "the stock that is left is too little for the rejected orders")
        for order in orders:
            if names[order.order_id] == "REJECTED":
                for shortage in self.get(order.order_id).shortages:
                    self.assertLess(shortage.available, shortage.requested)


if __name__ == "__main__":
    tandem.main()
