"""Traces, as a collector of somebody else gets them: it knows OpenTelemetry's public definitions (otlp/) and nothing of
Tandem's."""
import os
import subprocess
import tempfile
import threading
from concurrent import futures

import grpc
import tandem
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from tandem import ORDERS

EXPORT = "opentelemetry.proto.collector.trace.v1"
OTLP = os.path.join(os.path.dirname(os.path.realpath(__file__)), "otlp")
TRACE, CLIENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
KINDS = ("", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")


class Span:
    def __init__(self, service, span):
        self.service, self.name, self.kind = service, span.name, KINDS[span.kind]
        self.trace, self.id, self.parent = span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()
        self.start, self.end = span.start_time_unix_nano, span.end_time_unix_nano
        self.failed = span.status.code == 2
        self.state = span.trace_state
        self.links = [(link.trace_id.hex(), link.span_id.hex()) for link in span.links]
        self.attributes = {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes}


class Collector(grpc.GenericRpcHandler):
    """Receives spans by OTLP over gRPC."""

    def __init__(self):
        with tempfile.NamedTemporaryFile() as out:
            file = "opentelemetry/proto/collector/trace/v1/trace_service.proto"
            command = ["protoc", "-I", OTLP, "--include_imports", "--descriptor_set_out", out.name, file]
            subprocess.run(command, check=True)
            files = descriptor_pb2.FileDescriptorSet.FromString(out.read()).file
        pool = descriptor_pool.DescriptorPool()
        for file in files:
            pool.Add(file)
        factory = message_factory.MessageFactory(pool)
        self.request, self.response = (
            factory.GetPrototype(pool.FindMessageTypeByName(f"{EXPORT}.ExportTraceService{kind}"))
            for kind in ("Request", "Response")
        )
        self.lock, self.spans, self.refused = threading.Lock(), [], 0
        self.away = False
        self.server = grpc.server(futures.ThreadPoolExecutor(4))
        self.server.add_generic_rpc_handlers((self,))
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()

    def service(self, call):
        if call.method != f"/{EXPORT}.TraceService/Export":
            return None
        return grpc.unary_unary_rpc_method_handler(
            self.export,
            request_deserializer=self.request.FromString,
            response_serializer=self.response.SerializeToString,
        )

    def export(self, request, context):
        with self.lock:
            if self.away:
                self.refused += 1
                context.abort(grpc.StatusCode.UNAVAILABLE, "away")
            for resource in request.resource_spans:
                names = {a.key: a.value.string_value for a in resource.resource.attributes}
                for scope in resource.scope_spans:
                    self.spans += [Span(names["service.name"], span) for span in scope.spans]
        return self.response()

    def of(self, trace):
        with self.lock:
            return [span for span in self.spans if span.trace == trace]

    def reads_of(self, trace):
        """The reads that brought events of this trace: each has a trace of its own, and a link."""
        with self.lock:
            return [span for span in self.spans if any(link[0] == trace for link in span.links)]


def tree(spans, parent, depth=0):
    """The spans below a parent, as lines, each below its cause."""
    lines = []
    for span in sorted((s for s in spans if s.parent == parent), key=lambda s: (s.start, s.name)):
        event = span.attributes.get("tandem.event.type", "").rpartition(".")[2]
        attempt = span.attributes.get("tandem.event.attempt", 1)
        detail = event + (f" {attempt}" if attempt > 1 else "") or span.attributes.get("tandem.order.status", "")
        lines.append("  " * depth + f"{span.service[7:]}: {span.name} {detail}".rstrip())
        lines += tree(spans, span.id, depth + 1)
    return lines


def lines(text):
    return [line[8:] for line in text.splitlines() if line.strip()]


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
        for process in cls.tandem.processes.values():
            process.env["TANDEM_OTLP"] = f"http://127.0.0.1:{cls.collector.port}"

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
        expected = lines(
            """
        gateway: tandem.order.v1.OrderService/PlaceOrder
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
        self.assertEqual(named["gateway tandem.order.v1.OrderService/PlaceOrder"].state, "rojo=1,congo=t61rcWkgMzE")
        self.assertEqual(named["order FCALL order_place"].state, "rojo=1,congo=t61rcWkgMzE")
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
        metadata = [("traceparent", f"00-{'9' * 32}-{CLIENT}-01")]
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
        self.traced("9" * 32, CLIENT, expected, "the cancellation")

    def test_a_deleted_event(self):
        """Nobody asked for the trace: it is sent because the request had to be repeated, and because the caller waited so
        long. No process was told of it. Another order has the trace of its caller, in which its timer is, too."""
        self.stock("lost", 5)
        self.assertEqual(self.tandem.inventory.terminate(), 0)
        placing = self.placing("lost", customer_id="lost", wait_for_decision=True)
        metadata = [("traceparent", f"00-{'8' * 32}-{CLIENT}-01")]
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

    def test_what_is_not_valid(self):
        self.stock("sugar", 5)
        for value in ("nonsense", f"00-{'0' * 32}-{CLIENT}-01", f"00-{TRACE}-{CLIENT}-1"):
            order = self.place("sugar", _metadata=[("traceparent", value)])
            for event in self.events(ORDERS, order.order_id):
                self.assertEqual(event.traceparent, "", value)


if __name__ == "__main__":
    tandem.main()
