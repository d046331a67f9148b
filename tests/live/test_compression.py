"""Compressed messages are refused, because gRPC unpacks a message before it checks its size."""
import concurrent.futures
import time

import grpc
import http2
import tandem
from http2 import END_STREAM, HEADERS, RST_STREAM

HEALTH = "grpc.health.v1.Health"
REFLECTION = "grpc.reflection.v1.ServerReflection"
BOMB_MB = 64  # unpacked; a thousandth of it on the wire
GROWTH_MAX_MB = 40
UNIMPLEMENTED = grpc.StatusCode.UNIMPLEMENTED
# Kinds of calls, and which processes serve them; the path says the method.
UNARY = [
    (f"/{HEALTH}/Check", ("gateway", "order", "inventory")),
    (f"/{tandem.ORDER_SERVICE}/PlaceOrder", ("gateway", "order")),
    (f"/{tandem.ORDER_SERVICE}/BatchPlaceOrders", ("gateway", "order")),
    (f"/{tandem.INVENTORY_SERVICE}/GetStock", ("gateway", "inventory")),
]
STREAMING_ANSWER = [
    (f"/{HEALTH}/Watch", ("gateway", "order", "inventory")),
    (f"/{tandem.ORDER_SERVICE}/WatchOrder", ("gateway", "order")),
]
STREAMING_BOTH = [
    (f"/{tandem.ORDER_SERVICE}/StreamOrders", ("gateway",)),
    (f"/{REFLECTION}/ServerReflectionInfo", ("gateway", "order", "inventory")),
]
SERVING = b"\x08\x01"  # a HealthCheckResponse
NO_LIMIT = [("grpc.max_send_message_length", -1)]
ALGORITHMS = {"gzip": grpc.Compression.Gzip, "deflate": grpc.Compression.Deflate}


def peak_mb(pid):
    """The most memory the process has had so far."""
    with open(f"/proc/{pid}/status") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) // 1024
    raise AssertionError("no VmHWM")


class Compression(tandem.Live):
    def calls(self, payload, algorithm):
        """Makes each kind of call to each process: (process, path, its error)."""
        for name in ("gateway", "order", "inventory"):
            with self.tandem.channel(name) as channel:
                for kind, paths in (
                    (channel.unary_unary, UNARY),
                    (channel.unary_stream, STREAMING_ANSWER),
                    (channel.stream_stream, STREAMING_BOTH),
                ):
                    for path, served_by in paths:
                        if name in served_by:
                            yield name, path, self.call(kind(path), payload, algorithm)

    def call(self, method, payload, algorithm):
        streams = isinstance(method, grpc.StreamStreamMultiCallable)
        request = iter([payload]) if streams else payload
        try:
            answer = method(request, compression=algorithm, timeout=30 * tandem.SLOW)
            if not isinstance(answer, bytes):
                list(answer)
        except grpc.RpcError as error:
            return error
        return self.fail("it was accepted")

    def test_every_kind_of_call(self):
        """UNIMPLEMENTED, as gRPC specifies."""
        for text, algorithm in ALGORITHMS.items():
            for name, path, error in self.calls(b"\x0a\x01x" * 200, algorithm):
                with self.subTest(process=name, path=path, algorithm=text):
                    self.assertEqual(error.code(), UNIMPLEMENTED, error)
                    self.assertIn("compress", error.details())

    def test_a_bomb(self):
        """Small on the wire, large unpacked: it is not unpacked."""
        peaks = {
            name: peak_mb(self.tandem.processes[name].pid)
            for name in ("gateway", "order", "inventory")
        }
        for name, path, error in self.calls(bytes(BOMB_MB << 20), grpc.Compression.Gzip):
            with self.subTest(process=name, path=path):
                self.assertEqual(error.code(), UNIMPLEMENTED, error)
                growth = peak_mb(self.tandem.processes[name].pid) - peaks[name]
                self.assertLess(growth, GROWTH_MAX_MB)
        self.assertNotEqual(self.place("bomb").order_id, "")

    def test_an_empty_message(self):
        """gRPC leaves a message as it is when packing would not make it smaller: it is accepted."""
        stub = self.protos.stub(self.tandem.channel(), HEALTH)
        self.assertEqual(stub.Check(_compression=grpc.Compression.Gzip).status, 1)


class ByHand(tandem.Live):
    """Flags and encodings that no gRPC client sends."""

    def check(self, flag, encoding):
        """A Check whose message carries the compressed flag or not, and whose headers name an
        encoding or none: its grpc-status, and whether the answer says that it takes "identity"."""
        headers = [] if encoding is None else [("grpc-encoding", encoding)]
        body = http2.message(b"\x0a\x00", flag)  # an empty name of a service
        with http2.connect(self.tandem.ports["gateway"]) as connection:
            connection.sendall(http2.call(f"/{HEALTH}/Check", body, *headers))
            return self.answer(connection)

    def answer(self, connection):
        blocks = b""
        for kind, flags, stream, payload in http2.frames(connection):
            if stream != 1:
                continue
            if kind == HEADERS:
                blocks += payload
            self.assertNotEqual(kind, RST_STREAM)
            if flags & END_STREAM:
                # A literal: the name, the value's length, the value.
                at = blocks.index(b"grpc-status") + len("grpc-status")
                status = int(blocks[at + 1 : at + 1 + blocks[at]])
                return status, b"grpc-accept-encoding\x08identity" in blocks
        return self.fail("the connection was closed")

    def test_flags_and_encodings(self):
        accepted, refused = (grpc.StatusCode.OK.value[0], False), (UNIMPLEMENTED.value[0], True)
        rows = [
            ("plain", 0, None, accepted),
            ("plain, identity", 0, "identity", accepted),
            ("plain, although the headers name gzip", 0, "gzip", accepted),
            ("gzip", 1, "gzip", refused),
            ("deflate", 1, "deflate", refused),
            # gRPC does not report the flag of these: their bytes are used as they are.
            ("flagged without an encoding", 1, None, accepted),
            ("flagged as identity", 1, "identity", accepted),
            ("flagged with an unknown encoding", 1, "snappy", accepted),
        ]
        for what, flag, encoding, wanted in rows:
            with self.subTest(what):
                self.assertEqual(self.check(flag, encoding), wanted)


class Answers(tandem.Live):
    """The gateway is a client too: here of an inventory service that compresses its answers."""

    class Inventory(grpc.GenericRpcHandler):
        answer = b""

        def service(self, details):
            if details.method == f"/{HEALTH}/Watch":
                return grpc.unary_stream_rpc_method_handler(self.watch)
            if details.method == f"/{HEALTH}/Check":
                return grpc.unary_unary_rpc_method_handler(lambda request, context: SERVING)
            return grpc.unary_unary_rpc_method_handler(lambda request, context: self.answer)

        @staticmethod
        def watch(request, context):
            yield SERVING
            while context.is_active():
                time.sleep(0.05)

    def test_an_answer(self):
        handler = self.Inventory()
        pool = concurrent.futures.ThreadPoolExecutor(4)
        server = grpc.server(pool, [handler], options=NO_LIMIT, compression=grpc.Compression.Gzip)
        env = {
            "TANDEM_GATEWAY_LISTEN": f"127.0.0.1:{tandem.free_ports(1)[0]}",
            "TANDEM_GATEWAY_ADMIN_LISTEN": "",
            "TANDEM_GATEWAY_HTTP_LISTEN": "127.0.0.1:0",
            "TANDEM_GATEWAY_INVENTORY_TARGET": f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}",
        }
        server.start()
        self.addCleanup(lambda: server.stop(None).wait())
        second = tandem.Process(self.tandem, "second", "gateway", env)
        second.start()
        self.addCleanup(second.terminate)
        channel = grpc.insecure_channel(env["TANDEM_GATEWAY_LISTEN"])
        self.addCleanup(channel.close)
        stock = self.protos.stub(channel, tandem.INVENTORY_SERVICE)

        def served():
            """The fake service is reached: an answer that is not compressed is passed on."""
            try:
                return stock.GetStock(sku="s").stock.sku == ""
            except grpc.RpcError:
                return False

        tandem.until(served, 20 * tandem.SLOW, "the second gateway serves")
        peak = peak_mb(second.pid)
        handler.answer = b"\x0a\x80\x80\x80\x20" + bytes(BOMB_MB << 20)
        self.fails(grpc.StatusCode.INTERNAL, stock.GetStock, sku="s")
        self.assertLess(peak_mb(second.pid) - peak, GROWTH_MAX_MB)


if __name__ == "__main__":
    tandem.main()
