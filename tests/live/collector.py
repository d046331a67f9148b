"""A collector of traces of somebody else: it knows OpenTelemetry's public definitions (otlp/) and nothing of Tandem's."""
import collections
import os
import subprocess
import tempfile
import threading
import time
from concurrent import futures

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

EXPORT = "opentelemetry.proto.collector.trace.v1"
OTLP = os.path.join(os.path.dirname(os.path.realpath(__file__)), "otlp")
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
        self.hold_s, self.calls = 0, collections.Counter()  # how long each call takes; how many, by service
        self.server = grpc.server(futures.ThreadPoolExecutor(4))
        self.server.add_generic_rpc_handlers((self,))
        self.port, self.tls_port = self.server.add_insecure_port("127.0.0.1:0"), None

    def listen(self, certificate=None):
        """From now on. `certificate`: over TLS, too, with the certificate and key in files of this name."""
        pems = []
        for end in (".key", ".crt") if certificate else ():
            with open(certificate + end, "rb") as file:
                pems.append(file.read())
        if pems:
            credentials = grpc.ssl_server_credentials([tuple(pems)])
            self.tls_port = self.server.add_secure_port("127.0.0.1:0", credentials)
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
        time.sleep(self.hold_s)
        with self.lock:
            if self.away:
                self.refused += 1
                context.abort(grpc.StatusCode.UNAVAILABLE, "away")
            for resource in request.resource_spans:
                names = {a.key: a.value.string_value for a in resource.resource.attributes}
                self.calls[names["service.name"]] += 1
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
