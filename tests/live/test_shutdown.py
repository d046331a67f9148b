"""A service that is asked to end says so, finishes what it has begun, and exits with 0."""
import signal
import threading
import time

import grpc
import tandem

HEALTH = "grpc.health.v1.Health"


class Shutdown(tandem.Live):
    def setUp(self):
        self.serving = self.protos.enum("grpc.health.v1.HealthCheckResponse.ServingStatus")
        for process in self.tandem.processes.values():
            if process.popen is None:
                process.start()
        for process in self.tandem.processes.values():
            if process.admin:
                process.wait_ready()

    def watch_health(self, name, service):
        """A list that fills with what health Watch says; its last element is the stream's end."""
        seen = []
        channel = self.tandem.channel(name)
        self.addCleanup(channel.close)
        stream = self.protos.stub(channel, HEALTH).Watch(service=service, _timeout=60 * tandem.SLOW)

        def follow():
            try:
                for answer in stream:
                    seen.append(answer.status)
                seen.append(grpc.StatusCode.OK)
            except grpc.RpcError as error:
                seen.append(error.code())

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        tandem.until(lambda: seen, 10 * tandem.SLOW, "the first answer")
        self.assertEqual(seen, [self.serving["SERVING"]])
        return seen, thread

    def test_running_calls_finish(self):
        """Calls that wait for their decision while the gateway is asked to end."""
        self.stock("finish", 1000)
        watches = [self.watch_health("gateway", name) for name in ("", tandem.ORDER_SERVICE)]
        gateway = self.tandem.gateway
        order, _ = self.connect()
        with self.tandem.frozen("inventory"):
            calls = [
                order.PlaceOrder.future(
                    request_id=f"finish-{n}",
                    customer_id="finish",
                    lines=[{"sku": "finish", "quantity": 1}],
                    wait_for_decision=True,
                )
                for n in range(50)
            ]
            tandem.until(
                lambda: len(order.ListOrders(customer_id="finish", page_size=100).orders) == 50,
                10 * tandem.SLOW,
                "all are under way",
            )
            gateway.signal(signal.SIGTERM)
            for seen, _ in watches:
                tandem.until(lambda: len(seen) > 1, 10 * tandem.SLOW, "health tells")
                self.assertEqual(seen[1], self.serving["NOT_SERVING"])
            self.assertIsNone(gateway.popen.poll(), "it waits for the calls")
        for call in calls:
            self.assertEqual(self.name(call.result().order), "RESERVED")
        self.assertEqual(gateway.wait(), 0)
        for seen, thread in watches:
            thread.join(10 * tandem.SLOW)
            self.assertFalse(thread.is_alive(), seen)

    def test_under_load(self):
        """Each service in turn, while orders come in: exit 0; calls end with OK or UNAVAILABLE; what
        was accepted is decided when it is back."""
        self.stock("under-load", 1000000)
        for name in ("gateway", "order", "inventory"):
            with self.subTest(service=name):
                watch, _ = self.watch_health(name, "")
                process = self.tandem.processes[name]
                loads = [
                    tandem.Load(
                        self.connect()[0], "under-load", f"{name}-{n}", wait_for_decision=n % 2 == 0
                    )
                    for n in range(8)
                ]
                for load in loads:
                    load.start()
                tandem.until(
                    lambda: all(load.placed for load in loads), 20 * tandem.SLOW, "load is on"
                )
                start = time.monotonic()
                code = process.terminate()
                took = time.monotonic() - start
                self.assertEqual(code, 0)
                self.assertLess(took, 12 * tandem.SLOW)
                self.assertIn(self.serving["NOT_SERVING"], watch)
                process.start()
                process.wait_ready()
                back = [len(load.placed) for load in loads]
                tandem.until(
                    lambda: all(len(load.placed) > n for load, n in zip(loads, back)),
                    20 * tandem.SLOW,
                    "load goes on",
                )
                for load in loads:
                    load.end()
                for load in loads:
                    for _, _, _, error in load.calls:
                        if error is not None:
                            self.assertEqual(error.code(), grpc.StatusCode.UNAVAILABLE, error)
                placed = [order_id for load in loads for order_id in load.placed]
                self.assertEqual(set(self.decided(placed).values()), {"RESERVED"})

    def test_new_calls_are_turned_away(self):
        """While it drains, a new connection gets no service; nothing hangs."""
        gateway = self.tandem.gateway
        with self.tandem.frozen("inventory"):
            waiting = self.order.PlaceOrder.future(
                customer_id="away",
                lines=[{"sku": "away", "quantity": 1}],
                wait_for_decision=True,
            )
            tandem.until(
                lambda: self.order.ListOrders(customer_id="away").orders, 10 * tandem.SLOW, "placed"
            )
            gateway.signal(signal.SIGTERM)

            def turned_away():
                order, _ = self.connect()
                try:
                    order.GetOrder(order_id="ord_" + "0" * 26, _timeout=2 * tandem.SLOW)
                except grpc.RpcError as error:
                    return error.code() == grpc.StatusCode.UNAVAILABLE
                return False

            tandem.until(turned_away, 10 * tandem.SLOW, "UNAVAILABLE")
        self.assertEqual(self.name(waiting.result().order), "REJECTED")
        self.assertEqual(gateway.wait(), 0)

    def test_a_second_signal_ends_at_once(self):
        """Who cannot wait asks twice."""
        gateway = self.tandem.gateway
        watch, _ = self.watch_health("gateway", "")
        with self.tandem.frozen("inventory"):
            waiting = self.order.PlaceOrder.future(
                customer_id="twice",
                lines=[{"sku": "twice", "quantity": 1}],
                wait_for_decision=True,
            )
            tandem.until(
                lambda: self.order.ListOrders(customer_id="twice").orders, 10 * tandem.SLOW, "placed"
            )
            gateway.signal(signal.SIGTERM)
            tandem.until(lambda: len(watch) > 1, 10 * tandem.SLOW, "it drains")
            gateway.signal(signal.SIGTERM)
            self.assertEqual(gateway.wait(5), 1)
        self.assertEqual(waiting.exception().code(), grpc.StatusCode.UNAVAILABLE)


class Settings(tandem.Live):
    def test_a_port_in_use_is_said(self):
        """A second gateway on the same port does not start silently beside the first."""
        admin = {"TANDEM_GATEWAY_ADMIN_LISTEN": f"127.0.0.1:{tandem.free_ports(1)[0]}"}
        second = tandem.Process(self.tandem, "second", "gateway", admin)
        second.start()
        self.assertNotEqual(second.wait(), 0)
        self.assertIn(str(self.tandem.ports["gateway"]), second.text())
        self.assertTrue(self.tandem.gateway.ready())

    def test_bad_settings_stop_the_start(self):
        for env, told in (
            ({"TANDEM_ORDER_LISTEN": "nonsense"}, "TANDEM_ORDER_LISTEN"),
            ({"TANDEM_ORDER_DRAIN_TIMEOUT": "soon"}, "TANDEM_ORDER_DRAIN_TIMEOUT"),
        ):
            with self.subTest(env=env):
                order = tandem.Process(self.tandem, "bad", "order", env)
                order.start()
                self.assertEqual(order.wait(), 2)
                self.assertIn(told, order.text())


if __name__ == "__main__":
    tandem.main()
