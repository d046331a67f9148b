"""Traces, as a collector of somebody else gets them."""
import os
import subprocess

import grpc
import tandem
from collector import Collector, lines, tree
from tandem import ORDERS

TRACE, CLIENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


# Below the call, of an order that is waited for.
PLACED = lines(
    """
          gateway: tandem.order.v1.PlacementService/Place
            order: tandem.order.v1.PlacementService/Place
              order: FCALL order_place
                order: publish order:events OrderPlaced
                  inventory: process order:events OrderPlaced
                    inventory: FCALL inventory_request
                      inventory: publish inventory:events InventoryReserved
                        order: process inventory:events InventoryReserved
                          order: FCALL order_move
                            order: publish order:events OrderReserved
                              inventory: process order:events OrderReserved
                          order: decision RESERVED
              order: wait for decision
    """
)


class Trace(tandem.Live):
    ENV = {
        "TANDEM_TRACE_RATIO": "0",
        "TANDEM_TRACE_SLOW": "500ms",
        "TANDEM_ORDER_RETRY_MIN": "1500ms",
        "TANDEM_ORDER_TIMERS_EVERY": "50ms",
    }

    @classmethod
    def prepare(cls):
        cls.collector = Collector()
        folder = cls.tandem.tls("collector")
        subprocess.run([os.path.join(tandem.ROOT, "scripts", "lib", "ca")], check=True, stdout=subprocess.DEVNULL,
                       env={**cls.tandem.env, "TANDEM_VAR": folder})
        cls.authority = os.path.join(folder, "tls", "ca.crt")
        cls.collector.listen(os.path.join(folder, "tls", "gateway"))
        for process in cls.tandem.processes.values():
            process.env.pop("OTEL_EXPORTER_OTLP_ENDPOINT", None)
        # Each is told in another way.
        cls.tandem.gateway.env["TANDEM_OTLP"] = f"127.0.0.1:{cls.collector.port}"
        cls.tandem.order.env["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{cls.collector.port}/"
        cls.tandem.inventory.env["TANDEM_OTLP"] = f"https://127.0.0.1:{cls.collector.tls_port}"
        cls.tandem.inventory.env["TANDEM_OTLP_TLS_CA"] = cls.authority

    def traced(self, trace, parent, expected, what):
        found = lambda: tree(self.collector.of(trace), parent)  # noqa: E731
        try:
            tandem.until(lambda: found() == expected, 15 * tandem.SLOW, what)
        except AssertionError:
            pass
        self.assertEqual(found(), expected)
        return self.collector.of(trace)

    def test_an_order(self):
        """Its caller began the trace, and wants it sent."""
        self.stock("tea", 5)
        metadata = [("traceparent", f"00-{TRACE}-{CLIENT}-01"), ("tracestate", "rojo=1,congo=t61rcWkgMzE")]
        order = self.place("tea", wait_for_decision=True, _metadata=metadata)
        expected = ["gateway: tandem.order.v1.OrderService/PlaceOrder", *PLACED]
        spans = self.traced(TRACE, CLIENT, expected, "the whole trace")
        self.assertEqual(len({span.id for span in spans}), len(expected))
        _, (life,) = self.tandem.ctl_json("explain", order.order_id)
        self.assertEqual(life["trace_id"], TRACE)
        self.assertEqual({span.attributes.get("tandem.order.id", order.order_id) for span in spans}, {order.order_id})
        named = {f"{span.service[7:]} {span.name}": span for span in spans}
        for name, kind, attributes in (
            (
                "gateway tandem.order.v1.OrderService/PlaceOrder",
                "SERVER",
                {
                    "rpc.system": "grpc",
                    "rpc.service": "tandem.order.v1.OrderService",
                    "rpc.method": "PlaceOrder",
                    "rpc.grpc.status_code": 0,
                },
            ),
            ("order FCALL order_place", "CLIENT", {"db.system": "redis", "db.operation.batch.size": 1}),
            (
                "inventory publish inventory:events",
                "PRODUCER",
                {"messaging.system": "redis", "messaging.destination.name": "inventory:{0}:events"},
            ),
            (
                "order process inventory:events",
                "CONSUMER",
                {"messaging.system": "redis", "messaging.consumer.group.name": "order"},
            ),
            ("order decision", "INTERNAL", {"tandem.order.status": "RESERVED"}),
        ):
            self.assertEqual(named[name].kind, kind, name)
            self.assertEqual({key: named[name].attributes.get(key) for key in attributes}, attributes, name)
        for span in spans:
            self.assertLessEqual(span.start, span.end, span.name)
            self.assertFalse(span.failed, span.name)
        self.assertEqual({span.state for span in spans}, {"rojo=1,congo=t61rcWkgMzE"})
        events = self.events(ORDERS, order.order_id) + self.events(tandem.STOCK, order.order_id)
        self.assertEqual({(event.name, event.tracestate) for event in events},
            {(name, "rojo=1,congo=t61rcWkgMzE") for name in ("OrderPlaced", "InventoryReserved", "OrderReserved")})
        tandem.until(lambda: len(self.collector.reads_of(TRACE)) >= 3, 10 * tandem.SLOW, "the reads")
        published = {span.id for span in spans if span.kind == "PRODUCER"}
        for read in self.collector.reads_of(TRACE):
            self.assertNotEqual(read.trace, TRACE)
            self.assertEqual(read.kind, "CONSUMER")
            self.assertGreaterEqual(read.attributes["messaging.batch.message_count"], 1)
            self.assertLessEqual({link[1] for link in read.links if link[0] == TRACE}, published)

    def test_a_cancellation(self):
        """A call about an order that is there already, and stock that is given back."""
        self.stock("back", 5)
        order = self.place("back", wait_for_decision=True)
        metadata = [("traceparent", f"00-{'9' * 32}-{CLIENT}-01"), ("tracestate", "rojo=9")]
        self.order.CancelOrder(order_id=order.order_id, _metadata=metadata)
        expected = lines(
            """
        gateway: tandem.order.v1.OrderService/CancelOrder
          gateway: tandem.order.v1.OrderService/CancelOrder
            order: tandem.order.v1.OrderService/CancelOrder
              order: FCALL order_move
                order: publish order:events OrderCancelled
                  inventory: process order:events OrderCancelled
                    inventory: FCALL inventory_request
                      inventory: publish inventory:events InventoryReleased
                        order: process inventory:events InventoryReleased
                          order: FCALL order_move
                            order: publish order:events OrderSettled
                              inventory: process order:events OrderSettled
                    inventory: compensation
              order: decision CANCELLED
        """
        )
        spans = self.traced("9" * 32, CLIENT, expected, "the cancellation")
        self.assertEqual({span.state for span in spans}, {"rojo=9"})

    def test_a_deleted_event(self):
        """Nobody asked for the trace: it is sent because the request had to be repeated, and because the caller waited so
        long. No process was told of it. Another order has the trace of its caller, in which its timer is, too."""
        self.stock("lost", 5)
        self.assertEqual(self.tandem.inventory.terminate(), 0)
        placing = self.placing("lost", customer_id="lost", wait_for_decision=True)
        metadata = [("traceparent", f"00-{'8' * 32}-{CLIENT}-01"), ("tracestate", "rojo=8")]
        asked = self.place("lost", customer_id="lost", _metadata=metadata)
        tandem.until(lambda: len(self.listed("lost")) == 2, 10 * tandem.SLOW, "placed")
        self.tandem.redis_as("ops")("XTRIM", ORDERS, "MAXLEN", 0)
        self.tandem.start()
        order = placing.result().order
        self.assertEqual(self.name(order), "RESERVED")
        trace = tandem.trace_of(order.order_id)
        expected = lines(
            """
        gateway: tandem.order.v1.OrderService/PlaceOrder
          gateway: tandem.order.v1.PlacementService/Place
            order: tandem.order.v1.PlacementService/Place
              order: FCALL order_place
                order: publish order:events OrderPlaced
                  order: timer request unanswered
                    order: FCALL order_move
                      order: publish order:events OrderPlaced 2
                        inventory: process order:events OrderPlaced 2
                          inventory: FCALL inventory_request
                            inventory: publish inventory:events InventoryReserved 2
                              order: process inventory:events InventoryReserved 2
                                order: FCALL order_move
                                  order: publish order:events OrderReserved
                                order: decision RESERVED
              order: wait for decision
        """
        )
        # Inventory reads OrderReserved, too, and by then knows that the order was asked for twice.
        expected.insert(14, "  " * 14 + "inventory: process order:events OrderReserved")
        self.traced(trace, "", expected, "the repeated request")
        expected.pop()  # this caller did not wait
        spans = self.traced("8" * 32, CLIENT, expected, "the repeated request in its caller's trace")
        self.assertEqual({span.attributes.get("tandem.order.id") for span in spans} - {None}, {asked.order_id})
        self.assertEqual({span.state for span in spans}, {"rojo=8"})  # the order has kept it for its timer

    def test_the_collector_is_away(self):
        """Orders do not wait for it, and it gets their spans later."""
        self.stock("cup", 5)
        trace = "7" * 32
        self.collector.away = True
        try:
            self.place("cup", wait_for_decision=True, _metadata=[("traceparent", f"00-{trace}-{CLIENT}-01")])
            tandem.until(lambda: self.collector.refused >= 3, 15 * tandem.SLOW, "each has tried")
            self.assertEqual(self.collector.of(trace), [])
        finally:
            self.collector.away = False
        tandem.until(lambda: len(self.collector.of(trace)) >= 14, 30 * tandem.SLOW, "the trace")

    def test_a_collector_with_another_certificate(self):
        """It gets nothing, and the log says why; and https:// without authorities is no setting to start with."""
        process = self.tandem.inventory
        self.stock("pot", 5)
        self.assertEqual(process.terminate(), 0)
        process.env["TANDEM_OTLP_TLS_CA"] = self.authority.replace("ca.crt", "ops.crt")
        try:
            self.tandem.start()
            self.place("pot", wait_for_decision=True, _metadata=[("traceparent", f"00-{'6' * 32}-{CLIENT}-01")])
            said = lambda: "the collector does not take spans" in process.text()  # noqa: E731
            tandem.until(said, 15 * tandem.SLOW, "the collector is not who it should be")
            self.assertEqual([span for span in self.collector.of("6" * 32) if span.service == "tandem-inventory"], [])
            self.assertEqual(process.terminate(), 0)
        finally:
            process.env["TANDEM_OTLP_TLS_CA"] = self.authority
            self.tandem.start()
        ended = subprocess.run([os.path.join(tandem.BUILD, "tandem-order")], capture_output=True, text=True,
                               env={**self.tandem.env, "TANDEM_OTLP": "https://127.0.0.1:1", "TANDEM_ORDER_ADMIN_LISTEN": ""},
                               timeout=60)
        self.assertEqual(ended.returncode, 1, ended.stderr)
        self.assertIn("a collector at https:// needs --otlp-tls-ca", ended.stderr)

    def test_a_batch(self):
        """Its orders are in the trace that its caller began."""
        self.stock("leaf", 5)
        request = {"customer_id": "leaf", "lines": [{"sku": "leaf", "quantity": 1}], "wait_for_decision": True}
        self.order.BatchPlaceOrders(requests=[request] * 2, _metadata=[("traceparent", f"00-{'5' * 32}-{CLIENT}-01")])
        call = "gateway: tandem.order.v1.OrderService/BatchPlaceOrders"
        self.traced("5" * 32, CLIENT, [call, *PLACED, *PLACED], "both orders")

    def test_an_adjustment(self):
        metadata = [("traceparent", f"00-{'a' * 32}-{CLIENT}-01"), ("tracestate", "rojo=a")]
        self.inventory.AdjustStock(sku="tin", delta=5, _metadata=metadata)
        with self.assertRaises(grpc.RpcError):
            self.inventory.AdjustStock(sku="tin", delta=-6, _metadata=metadata)
        expected = lines(
            """
        gateway: tandem.inventory.v1.InventoryService/AdjustStock
          gateway: tandem.inventory.v1.InventoryService/AdjustStock
            inventory: tandem.inventory.v1.InventoryService/AdjustStock
              inventory: FCALL inventory_adjust
                inventory: publish inventory:events StockAdjusted
        gateway: tandem.inventory.v1.InventoryService/AdjustStock
          gateway: tandem.inventory.v1.InventoryService/AdjustStock
            inventory: tandem.inventory.v1.InventoryService/AdjustStock
              inventory: FCALL inventory_adjust
        """
        )
        spans = self.traced("a" * 32, CLIENT, expected, "the adjustments")
        self.assertEqual(len({span.id for span in spans}), len(expected))
        self.assertEqual({span.state for span in spans}, {"rojo=a"})

    def test_z_a_stop_waits_for_a_second(self):
        """However much waits, and however slowly it is taken."""
        request = {"customer_id": "many", "lines": [{"sku": "leaf", "quantity": 1}]}
        metadata = [("traceparent", f"00-{'c' * 32}-{CLIENT}-01")]
        self.collector.hold_s = 2
        try:
            for _ in range(4):
                self.order.BatchPlaceOrders(requests=[request] * 1000, _metadata=metadata)
            before = self.collector.calls["tandem-gateway"]
            self.assertEqual(self.tandem.gateway.terminate(), 0)
            after = self.collector.calls["tandem-gateway"]
        finally:
            self.collector.hold_s = 0
            self.tandem.start()
        self.assertLessEqual(after - before, 3)  # one was under way, and what was left are six or seven

    def test_what_is_not_valid(self):
        self.stock("sugar", 5)
        for value in ("nonsense", f"00-{'0' * 32}-{CLIENT}-01", f"00-{TRACE}-{CLIENT}-1"):
            order = self.place("sugar", _metadata=[("traceparent", value)])
            for event in self.events(ORDERS, order.order_id):
                self.assertEqual(event.traceparent, "", value)


if __name__ == "__main__":
    tandem.main()
