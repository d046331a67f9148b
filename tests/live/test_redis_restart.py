"""Redis ends or stops, and comes back: nothing hangs, nothing that was accepted is lost."""
import threading
import time

import grpc
import tandem


class Restart(tandem.Live):
    # A killed Redis loses nothing with "always"; with "everysec" the last writes may not be in its
    # file yet (docs/promises.md).
    ENV = {"TANDEM_REDIS_APPENDFSYNC": "always"}

    def away(self, seconds):
        """Redis is killed, stays away, and is started again."""
        self.tandem.redis.kill()
        time.sleep(seconds)
        self.tandem.redis.start()

    def test_killed_under_load(self):
        self.stock("load", 1000000)
        loads = tandem.Loads(
            tandem.Load(self.connect()[0], "load", f"load-{n}", timeout=20 * tandem.SLOW)
            for n in range(8)
        )
        with loads:
            loads.go_on(5)
            self.away(2)
            self.away(0)
            loads.go_on(5, "calls succeed again")

        self.assertGreater(len(loads.errors), 0, "Redis was away")
        for _, error in loads.errors:
            self.assertEqual(error.code(), grpc.StatusCode.UNAVAILABLE, error)  # none hung until its deadline
            delay = self.details(error)["RetryInfo"].retry_delay
            self.assertGreater(delay.seconds * 1e9 + delay.nanos, 0)
        # Each number was tried until it was accepted: as many orders as numbers, no more, no less.
        accepted = loads.placed
        self.assertEqual(len(accepted), len(set(accepted)))
        names = self.decided(accepted)
        self.assertEqual(set(names.values()), {"RESERVED"})
        self.assertEqual(self.adds_up("load").reserved, len(accepted))
        for load in loads:
            listed = len(self.listed(load.name))
            self.assertEqual(listed, len(load.placed), "no order that its client does not know")

    def test_reading_and_watching(self):
        """Reads fail with UNAVAILABLE too; a watch goes on, or ends with an error that says so."""
        order = self.place("reading")
        self.decided([order.order_id])
        self.tandem.inventory.signal(tandem.signal.SIGSTOP)
        undecided = self.place("reading")
        ended = []

        def watch():
            """As a client should: it resumes after the last version it has seen."""
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
            error = self.fails(unavailable, call, _timeout=20 * tandem.SLOW, **fields)
            self.assertIn("RetryInfo", error.found)
        for process in (self.tandem.order, self.tandem.inventory):
            tandem.until(
                lambda: process.get("/readyz")[0] == 503, 20 * tandem.SLOW, f"{process.name} unready"
            )
            self.assertEqual(process.get("/healthz")[0], 200, "alive, and not ready")
        self.tandem.redis.start()
        watcher.join(30 * tandem.SLOW)
        self.assertEqual(ended[:1], ["REJECTED"])
        self.tandem.start()

    def test_frozen(self):
        """While Redis is stopped (SIGSTOP), deadlines hold; when it continues, calls succeed again."""
        self.place("frozen")
        with self.tandem.frozen("redis"):
            calls = [
                self.placing(
                    "frozen",
                    request_id=f"frozen-{n}",
                    customer_id="frozen",
                    _timeout=4 * tandem.SLOW,
                )
                for n in range(20)
            ]
            for call in calls:
                error = call.exception()
                self.assertIn(
                    error.code(),
                    (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED),
                )

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
        self.assertEqual(len(self.listed("frozen")), 20)


if __name__ == "__main__":
    tandem.main()
