"""Redis goes away and comes back: nothing hangs, nothing that was accepted is lost."""
import threading
import time

import grpc
import tandem


class Restart(tandem.Live):
    # What is promised of a killed Redis holds with "always"; "everysec" may still owe the file the
    # last writes (README).
    ENV = {"TANDEM_REDIS_APPENDFSYNC": "always"}

    def away(self, seconds):
        """Redis is killed, stays away, and is started again."""
        self.tandem.redis.kill()
        time.sleep(seconds)
        self.tandem.redis.start()

    def test_killed_under_load(self):
        self.stock("load", 1000000)
        loads = [
            tandem.Load(self.connect()[0], "load", f"load-{n}", timeout=3 * tandem.SLOW)
            for n in range(8)
        ]
        for load in loads:
            load.start()
        tandem.until(lambda: all(len(load.placed) >= 5 for load in loads), 20 * tandem.SLOW, "load")
        self.away(2)
        self.away(0)
        back = [len(load.placed) for load in loads]
        tandem.until(
            lambda: all(len(load.placed) >= n + 5 for load, n in zip(loads, back)),
            20 * tandem.SLOW,
            lambda: f"calls succeed again: {[str(load.calls[-1][3]) for load in loads]}",
        )
        for load in loads:
            load.end()

        errors = [(took, error) for load in loads for _, took, _, error in load.calls if error]
        self.assertGreater(len(errors), 0, "Redis was away")
        for took, error in errors:
            self.assertLess(took, 3.5 * tandem.SLOW, error)
            self.assertEqual(error.code(), grpc.StatusCode.UNAVAILABLE, error)
            delay = self.details(error)["RetryInfo"].retry_delay
            self.assertGreater(delay.seconds * 1e9 + delay.nanos, 0)
        # Each number was tried until it was accepted: as many orders as numbers, no more, no less.
        accepted = [order_id for load in loads for order_id in load.placed]
        self.assertEqual(len(accepted), len(set(accepted)))
        names = self.decided(accepted)
        self.assertEqual(set(names.values()), {"RESERVED"})
        self.assertEqual(self.adds_up("load").reserved, len(accepted))
        for load in loads:
            listed, token = 0, ""
            while True:
                page = self.order.ListOrders(
                    customer_id=load.name, page_size=1000, page_token=token
                )
                listed, token = listed + len(page.orders), page.next_page_token
                if not token:
                    break
            self.assertEqual(listed, len(load.placed), "no order that nobody knows of")

    def test_reading_and_watching(self):
        """Reads fail with UNAVAILABLE, too; a wait for a decision and a watch survive it or say so."""
        order = self.place("reading")
        self.decided([order.order_id])
        self.tandem.inventory.signal(tandem.signal.SIGSTOP)
        undecided = self.place("reading")
        ended = []

        def watch():
            """As a client should: it goes on after what it has seen."""
            version = 0
            while not ended:
                try:
                    for change in self.order.WatchOrder(
                        order_id=undecided.order_id, after_version=version, _timeout=30 * tandem.SLOW
                    ):
                        version = change.order.version
                        if self.name(change.order) != "PENDING":
                            ended.append(self.name(change.order))
                except grpc.RpcError as error:
                    if error.code() != grpc.StatusCode.UNAVAILABLE:
                        ended.append(str(error))
                    time.sleep(0.1)

        watcher = threading.Thread(target=watch)
        watcher.start()
        self.tandem.redis.kill()
        unavailable = grpc.StatusCode.UNAVAILABLE
        for call, fields in (
            (self.order.GetOrder, {"order_id": order.order_id}),
            (self.order.ListOrders, {"customer_id": "customer"}),
            (self.inventory.GetStock, {"sku": "reading"}),
            (self.inventory.AdjustStock, {"sku": "reading", "delta": 1}),
        ):
            if call.request.DESCRIPTOR.full_name.startswith("tandem.inventory"):
                self.tandem.inventory.signal(tandem.signal.SIGCONT)
            start = time.monotonic()
            error = self.fails(unavailable, call, _timeout=5 * tandem.SLOW, **fields)
            self.assertIn("RetryInfo", error.found)
            self.assertLess(time.monotonic() - start, 4 * tandem.SLOW)
        for process in (self.tandem.order, self.tandem.inventory):
            tandem.until(
                lambda: process.get("/readyz")[0] == 503, 5 * tandem.SLOW, f"{process.name} unready"
            )
            self.assertEqual(process.get("/healthz")[0], 200, "alive, and not ready")
        self.tandem.redis.start()
        watcher.join(30 * tandem.SLOW)
        self.assertEqual(ended[:1], ["REJECTED"])
        for process in (self.tandem.order, self.tandem.inventory, self.tandem.gateway):
            process.wait_ready()

    def test_frozen(self):
        """Redis stands still (SIGSTOP): deadlines hold; when it goes on, so does everything."""
        self.place("frozen")
        self.tandem.redis.signal(tandem.signal.SIGSTOP)
        try:
            calls = [
                self.order.PlaceOrder.future(
                    request_id=f"frozen-{n}",
                    customer_id="frozen",
                    lines=[{"sku": "frozen", "quantity": 1}],
                    _timeout=4 * tandem.SLOW,
                )
                for n in range(20)
            ]
            start = time.monotonic()
            for call in calls:
                error = call.exception()
                self.assertIn(
                    error.code(),
                    (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED),
                )
            self.assertLess(time.monotonic() - start, 4.5 * tandem.SLOW)
        finally:
            self.tandem.redis.signal(tandem.signal.SIGCONT)

        def again():
            try:
                return [
                    self.place("frozen", customer_id="frozen", request_id=f"frozen-{n}").order_id
                    for n in range(20)
                ]
            except grpc.RpcError:
                return None

        ids = tandem.until(again, 20 * tandem.SLOW, "calls succeed again")
        self.assertEqual(set(self.decided(ids).values()), {"REJECTED"})
        self.assertEqual(len(self.order.ListOrders(customer_id="frozen").orders), 20)


if __name__ == "__main__":
    tandem.main()
