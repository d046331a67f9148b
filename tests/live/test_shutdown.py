"""A service that gets SIGTERM says so in its health, finishes the calls it has begun, and exits with 0."""
import signal
import time

import grpc
import tandem


class Shutdown(tandem.Live):
    def setUp(self):
        self.tandem.start()

    def watch_serving(self, name, service=""):
        """What health Watch reports, beginning with SERVING."""
        seen = self.watch_health(name, service)
        self.assertEqual(seen, [self.serving["SERVING"]])
        return seen

    def test_running_calls_finish(self):
        """Calls that wait for their decision when the gateway gets SIGTERM."""
        self.stock("finish", 1000)
        watches = [self.watch_serving("gateway", name) for name in ("", tandem.ORDER_SERVICE)]
        gateway = self.tandem.gateway
        order, _ = self.connect()
        with self.tandem.frozen("inventory"):
            calls = [
                self.placing("finish", order=order, request_id=f"finish-{n}", wait_for_decision=True)
                for n in range(50)
            ]
            tandem.until(
                lambda: len(order.ListOrders(customer_id="customer", page_size=100).orders) == 50,
                10 * tandem.SLOW,
                "all are under way",
            )
            gateway.signal(signal.SIGTERM)
            for seen in watches:
                tandem.until(lambda: len(seen) > 1, 10 * tandem.SLOW, "health reports it")
                self.assertEqual(seen[1], self.serving["NOT_SERVING"])
            self.assertIsNone(gateway.popen.poll(), "it waits for the calls")
        for call in calls:
            self.assertEqual(self.name(call.result().order), "RESERVED")
        self.assertEqual(gateway.wait(), 0)
        for seen in watches:
            ended = lambda: isinstance(seen[-1], grpc.StatusCode)  # noqa: E731
            tandem.until(ended, 10 * tandem.SLOW, "the watch ends")

    def test_under_load(self):
        """Each service in turn, while orders come in: exit 0; calls end with OK or UNAVAILABLE; what
        was accepted is decided once the service runs again."""
        self.stock("under-load", 1000000)
        for name in ("gateway", "order", "inventory"):
            with self.subTest(service=name):
                watch = self.watch_serving(name)
                loads = tandem.Loads(
                    tandem.Load(
                        self.connect()[0], "under-load", f"{name}-{n}", wait_for_decision=n % 2 == 0
                    )
                    for n in range(8)
                )
                with loads:
                    start = time.monotonic()
                    code = self.tandem.processes[name].terminate()
                    took = time.monotonic() - start
                    self.assertEqual(code, 0)
                    self.assertLess(took, 12 * tandem.SLOW)
                    tandem.until(lambda: self.serving["NOT_SERVING"] in watch, 10 * tandem.SLOW, lambda: watch)
                    self.tandem.start(name)
                    loads.go_on(1)
                for _, error in loads.errors:
                    self.assertEqual(error.code(), grpc.StatusCode.UNAVAILABLE, error)
                self.assertEqual(set(self.decided(loads.placed).values()), {"RESERVED"})

    def test_new_calls_are_turned_away(self):
        """While it drains, a new connection gets no service; nothing hangs."""
        gateway = self.tandem.gateway
        with self.tandem.frozen("inventory"):
            waiting = self.placing("away", customer_id="away", wait_for_decision=True)
            tandem.until(lambda: self.listed("away"), 10 * tandem.SLOW, "placed")
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
        """An operator who cannot wait sends SIGTERM twice."""
        gateway = self.tandem.gateway
        watch = self.watch_serving("gateway")
        with self.tandem.frozen("inventory"):
            waiting = self.placing("twice", customer_id="twice", wait_for_decision=True)
            tandem.until(lambda: self.listed("twice"), 10 * tandem.SLOW, "placed")
            gateway.signal(signal.SIGTERM)
            tandem.until(lambda: len(watch) > 1, 10 * tandem.SLOW, "it drains")
            gateway.signal(signal.SIGTERM)
            self.assertEqual(gateway.wait(5), 1)
        self.assertEqual(waiting.exception().code(), grpc.StatusCode.UNAVAILABLE)


class Settings(tandem.Live):
    def test_a_port_in_use_is_reported(self):
        """A second gateway on the same port does not start silently beside the first."""
        admin = {"TANDEM_GATEWAY_ADMIN_LISTEN": f"127.0.0.1:{tandem.free_ports(1)[0]}",
                 "TANDEM_GATEWAY_HTTP_LISTEN": "127.0.0.1:0"}
        second = tandem.Process(self.tandem, "second", "gateway", admin)
        second.start()
        self.assertNotEqual(second.wait(), 0)
        self.assertIn(str(self.tandem.ports["gateway"]), second.text())
        self.assertTrue(self.tandem.gateway.ready())

    def test_bad_settings_stop_the_start(self):
        for variable, value in (
            ("TANDEM_ORDER_LISTEN", "nonsense"),
            ("TANDEM_ORDER_DRAIN_TIMEOUT", "soon"),
        ):
            with self.subTest(variable):
                order = tandem.Process(self.tandem, "bad", "order", {variable: value})
                order.start()
                self.assertEqual(order.wait(), 2)
                self.assertIn(variable, order.text())


if __name__ == "__main__":
    tandem.main()
