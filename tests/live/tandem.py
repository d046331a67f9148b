"""Live tests: each test class runs a Tandem of its own, with real processes and a real Redis.

A test file holds classes derived from Live. Each class gets a folder, ports and a Redis that no other
test uses; scripts/lib/run starts the processes, as it does for scripts/up. The client side knows only
the .proto files: protoc compiles them, the calls are made from their descriptors.

    class Place(tandem.Live):
        def test_it(self):
            self.stock("tea", 5)
            order = self.order.PlaceOrder(customer_id="c", lines=[{"sku": "tea", "quantity": 1}]).order

At the end of the class, SIGTERM must end every process with exit code 0, and no log may hold a
sanitizer's report. TANDEM_BUILD names the build to test; build/ when it is not set.
"""
import collections
import contextlib
import ctypes
import dataclasses
import json
import os
import random
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.request

# gRPC's Python reads and writes only while a call waits, and else at this interval, 5 s by default. Calls on a
# lost connection fail at once: a client that repeats them would hardly ever be connected again.
POLLS = "GRPC_CLIENT_CHANNEL_BACKUP_POLL_INTERVAL_MS"
os.umask(0o077)  # files with secrets must be so
os.environ[POLLS] = "50"  # read when the first channel is made
import grpc  # noqa: E402

# When a lock of gRPC is contended for the first time, its library asks what the processor is, and a file that is not there
# sets errno. gRPC reads errno late after connect(): the connection counts as failed, "No such file or directory". So it
# is asked now.
ctypes.CDLL("libabsl_base.so.20220623")._ZN4absl7debian313base_internal19NominalCPUFrequencyEv()
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
BUILD = os.path.realpath(os.environ.get("TANDEM_BUILD", os.path.join(ROOT, "build")))
CTL = os.path.join(BUILD, "tandemctl")
RUN = os.path.join(ROOT, "scripts", "lib", "run")
OPEN = os.path.join(ROOT, "scripts", "lib", "redis-open")
with open(os.path.join(ROOT, "contexts"), encoding="utf-8") as _contexts:
    CONTEXTS = tuple(line.split()[0] for line in _contexts if line.strip() and line[0] != "#")
SERVICES = (*CONTEXTS, "gateway")

ORDERS, STOCK = "order:{0}:events", "inventory:{0}:events"  # the streams of events
ASIDE = ("inventory:{0}:aside:order", "order:{0}:aside:inventory")  # of their readers

ORDER_SERVICE = "tandem.order.v1.OrderService"
INVENTORY_SERVICE = "tandem.inventory.v1.InventoryService"
ARCHIVE_SERVICE = "tandem.archive.v1.ArchiveService"
HEALTH = "grpc.health.v1.Health"


def sanitized():
    """Whether the build under test has sanitizers: it is slower, and its logs report faults."""
    try:
        with open(os.path.join(BUILD, "CMakeCache.txt")) as cache:
            return any(line.startswith("SANITIZE:") and line.strip()[-1] != "=" for line in cache)
    except FileNotFoundError:
        return False


SANITIZED = sanitized()
SLOW = 5 if SANITIZED else 1  # factor for how long things may take
REPORTS = ("Sanitizer: ", "Sanitizer:DEADLYSIGNAL", "runtime error: ", "Assertion `")


# ---- the protos, and calls ----


class Protos:
    """Every message and service of proto/ and of Debian's grpc-proto, compiled by protoc."""

    def __init__(self):
        proto = os.path.join(ROOT, "proto")
        files = [
            os.path.relpath(os.path.join(folder, name), proto)
            for folder, _, names in os.walk(proto)
            for name in names
            if name.endswith(".proto")
        ]
        files += ["grpc/health/v1/health.proto"]
        files += [f"grpc/reflection/{v}/reflection.proto" for v in ("v1", "v1alpha")]
        with tempfile.NamedTemporaryFile() as out:
            command = ["protoc", "-I", proto, "-I", "/usr/include", "-I", "/usr/share/grpc-proto"]
            command += ["--include_imports", "--include_source_info", "--descriptor_set_out", out.name]
            subprocess.run(command + files, check=True)
            self.descriptors = descriptor_pb2.FileDescriptorSet.FromString(out.read())
        self.pool = descriptor_pool.DescriptorPool()
        for file in self.descriptors.file:
            self.pool.Add(file)
        self.factory = message_factory.MessageFactory(self.pool)

    def message(self, name):
        """The class of a message, by its full name."""
        return self.factory.GetPrototype(self.pool.FindMessageTypeByName(name))

    def enum(self, name):
        """An enum's numbers by name; Protos().enum("…OrderStatus")["ORDER_STATUS_PENDING"]."""
        values = self.pool.FindEnumTypeByName(name).values
        return {value.name: value.number for value in values}

    def stub(self, channel, service):
        """An object with a callable for each method of a service."""
        return Stub(self, channel, service)


class Stub:
    def __init__(self, protos, channel, service):
        descriptor = protos.pool.FindServiceByName(service)
        proto = descriptor_pb2.ServiceDescriptorProto()
        descriptor.CopyToProto(proto)
        for method, kind in zip(descriptor.methods, proto.method):
            setattr(self, method.name, Method(protos, channel, service, method, kind))


class Method:
    """One RPC. Called with the fields of its request, or with a request (or, when the client
    streams, with an iterator of requests). Arguments for gRPC itself begin with an underscore.
    The deadline is 10 s (longer with sanitizers) unless _timeout says otherwise."""

    def __init__(self, protos, channel, service, method, kind):
        self.request = protos.message(method.input_type.full_name)
        self.streams = kind.client_streaming
        side = ("unary", "stream")
        make = getattr(channel, f"{side[kind.client_streaming]}_{side[kind.server_streaming]}")
        self.callable = make(
            f"/{service}/{method.name}",
            request_serializer=self.request.SerializeToString,
            response_deserializer=protos.message(method.output_type.full_name).FromString,
        )

    def _arguments(self, request, fields):
        options = {"timeout": 10 * SLOW}
        for name in [name for name in fields if name.startswith("_")]:
            options[name[1:]] = fields.pop(name)
        if request is None and not self.streams:
            request = self.request(**fields)
        return request, options

    def __call__(self, request=None, **fields):
        request, options = self._arguments(request, fields)
        return self.callable(request, **options)

    def future(self, request=None, **fields):
        request, options = self._arguments(request, fields)
        return self.callable.future(request, **options)


# ---- Redis ----


class RedisError(Exception):
    pass


class Redis:
    """A connection to Redis that speaks just enough of its protocol. Answers are bytes, numbers,
    None and lists; errors are raised."""

    def __init__(self, port, user=None, password=None, tls=None):
        """`tls`: an ssl.SSLContext."""
        self.file = None
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10 * SLOW)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname="127.0.0.1")
        self.file = self.socket.makefile("rb")
        if user is not None:
            self("AUTH", user, password)

    def __call__(self, *arguments):
        parts = [a if isinstance(a, bytes) else str(a).encode() for a in arguments]
        head = b"*%d\r\n" % len(parts)
        self.socket.sendall(head + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts))
        return self._answer()

    def _answer(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("Redis went away")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise RedisError(rest.decode())
        if kind == b"+":
            return rest
        if kind == b":":
            return int(rest)
        if int(rest) < 0:
            return None
        if kind == b"$":
            return self.file.read(int(rest) + 2)[:-2]
        answers = []
        for _ in range(int(rest)):
            try:
                answers.append(self._answer())
            except RedisError as error:
                answers.append(error)
        return answers

    def entries(self, stream):
        """A stream's entries: [(id, {name: value})]. Of a name that occurs twice, the last value."""
        return [(entry_id, pairs(flat)) for entry_id, flat in self("XRANGE", stream, "-", "+")]

    def close(self):
        if self.file is not None:
            self.file.close()
            self.socket.close()

    __del__ = close


def partition_of(name, partitions):
    """The partition of a customer's orders, or of a SKU's stock: rt_bucket."""
    mask = 0xFFFFFFFF
    value = 2166136261
    for byte in name.encode():
        value = (value ^ byte) * 16777619 & mask
    value = (value ^ value >> 16) * 0x85EBCA6B & mask
    value = (value ^ value >> 13) * 0xC2B2AE35 & mask
    return (value ^ value >> 16) % partitions


def trace_of(order_id):
    """The trace of an order that began it without one: the 128 bits of its id."""
    bits = "".join(format("abcdefghijklmnopqrstuvwxyz234567".index(c), "05b") for c in order_id[4:])
    return format(int(bits[:128], 2), "032x")


class Cluster:
    """Like Redis, for a cluster: a command goes where the key's slot is, which a node says when it is not
    there."""

    def __init__(self, port, *login, tls=None):
        self.login, self.first, self.tls = login, port, tls
        self.nodes, self.places = {}, {}

    def node(self, port):
        if port not in self.nodes:
            self.nodes[port] = Redis(port, *self.login, tls=self.tls)
        return self.nodes[port]

    def __call__(self, *arguments):
        port = self.places.get(arguments[1:2], self.first)
        for _ in range(5):
            try:
                return self.node(port)(*arguments)
            except RedisError as error:
                if not str(error).startswith("MOVED "):
                    raise
                port = self.places[arguments[1:2]] = int(str(error).rpartition(":")[2])
        raise RedisError(f"{arguments[:2]} is always elsewhere")

    entries = Redis.entries

    def close(self):
        for node in self.nodes.values():
            node.close()
        self.nodes = {}


def pairs(flat):
    """{name: value} of an answer that lists a name, its value, the next name, and so on."""
    return dict(zip(flat[::2], flat[1::2]))


# ---- data in Redis ----


class Event(collections.namedtuple("Event", "stream_id type subject seq time data attempt traceparent actor tracestate")):
    """An event of an entry. Texts are str, its data bytes; stream_id is its entry's."""

    @property
    def name(self):
        """OrderPlaced"""
        return self.type.rpartition(".")[2]

    @property
    def id(self):
        return f"{self.subject}/{self.seq}"

    def fields(self):
        """Its fields as a single event, one for each part, for XADD."""
        parts = {"id": self.id, "type": self.type, "subject": self.subject, "seq": self.seq}
        parts |= {"time": self.time, "data": self.data}
        if self.attempt > 1:
            parts["attempt"] = self.attempt
        if self.traceparent:
            parts["traceparent"] = self.traceparent
        if self.actor:
            parts["actor"] = self.actor
        if self.tracestate:
            parts["tracestate"] = self.tracestate
        return [part for pair in parts.items() for part in pair]


def events_of(protos, stream_id, flat):
    """The events of an entry, read as proto/tandem/events/v1/events.proto describes; none when it is not
    such an entry."""
    fields = pairs(flat)
    text = lambda name, otherwise="": fields.get(name, otherwise.encode()).decode()  # noqa: E731
    if b"type" in fields:
        parts = (text(b"type"), text(b"subject"), int(text(b"seq")), text(b"time"))
        more = (int(text(b"attempt", "1")), text(b"traceparent"), text(b"actor"), text(b"tracestate"))
        return [Event(stream_id.decode(), *parts, fields.get(b"data", b""), *more)]
    named = [
        (kind.decode(), name.decode())
        for kind, names in zip(flat[::2], flat[1::2])
        if kind not in (b"time", b"batch", b"replayed")
        for name in names.split(b" ")
    ]
    if not all("/" in name for _, name in named):
        return []
    batch = protos.message("tandem.events.v1.EventBatch").FromString(fields.get(b"batch", b""))
    none = (None,) * len(named)
    found = []
    texts = [list(getattr(batch, part)) or [""] * len(named) for part in ("traceparent", "actor", "tracestate")]
    lists = (batch.data or none, batch.attempt or none, *texts)
    for (kind, name), data, attempt, *more in zip(named, *lists, strict=True):
        subject, _, seq = name.rpartition("/")
        parts = (kind, subject, int(seq), text(b"time"), data or b"", attempt or 1, *more)
        found.append(Event(stream_id.decode(), *parts))
    return found


@dataclasses.dataclass
class Record:
    """An order as order/functions.lua stores it. All parts are bytes, so they may be invalid.
    `state` ends in '~' when an order that ended is not settled."""

    KEY = "order:{0}:orders"

    state: bytes
    version: bytes
    hold: bytes
    attempt: bytes  # b" attempt=2", or nothing
    history: bytes
    placed: bytes
    detail: bytes

    @classmethod
    def read(cls, text):
        head, size, rest = text.split(b"\n", 2)
        words, placed, history = head.partition(b" placed@")
        state, version, hold, *attempt = words.split(b" ")
        size = int(size)
        attempt = b"".join(b" " + word for word in attempt)
        return cls(state, version, hold, attempt, (placed + history)[1:], rest[:size], rest[size:])

    def text(self):
        head = b" ".join((self.state, self.version, self.hold + self.attempt, self.history))
        return head + b"\n%d\n" % len(self.placed) + self.placed + self.detail

    def change(self, **parts):
        """The text with some parts changed."""
        return dataclasses.replace(self, **parts).text()


# ---- processes ----


reserved = {}  # port: the socket that keeps other tests off it while this process lives


def reserve(port):
    """Takes a port on which nothing listens and that no other live test has; whether it could. Its
    number becomes a name in the abstract namespace, which one process at a time can bind."""
    if port in reserved:
        return False
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0tandem-live-port-{port}")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
    except OSError:
        claim.close()
        return False
    reserved[port] = claim
    return True


def free_ports(count):
    """Ports for this process alone, below those that the kernel assigns. The port 1000 above each is
    reserved too: scripts/up puts the admin port there."""
    ports = []
    while len(ports) < count:
        port = random.SystemRandom().randrange(10000, 29000)
        if reserve(port):
            if reserve(port + 1000):
                ports.append(port)
            else:
                reserved.pop(port).close()
    return ports


def free_range(count):
    """The first of so many ports in a row for this process alone, as are those 10000 above: a cluster's."""
    while True:
        first = random.SystemRandom().randrange(10000, 19000)
        ports = [*range(first, first + count), *range(first + 10000, first + 10000 + count)]
        taken = [port for port in ports if reserve(port)]
        if taken == ports:
            return first
        for port in taken:
            reserved.pop(port).close()


class Process:
    """One process of a Tandem: started, stopped, killed, started again. `name` is its name in this
    Tandem, `program` what it runs (a second inventory: name "inventory2")."""

    def __init__(self, tandem, name, program=None, env=None, files_max=None):
        self.tandem, self.name, self.program = tandem, name, program or name
        self.env, self.files_max = dict(env or {}), files_max
        self.arguments = []  # flags, for the next start
        self.output = None  # where its standard error goes, for the next start; None: into the log
        self.log = os.path.join(tandem.folder, f"{name}.log")
        self.popen = None
        port = tandem.admin_ports.get(name)
        self.admin = f"http://127.0.0.1:{port}" if port else None

    def start(self):
        assert self.popen is None
        pid_file = os.path.join(self.tandem.env["TANDEM_VAR"], "run", f"{self.program}.pid")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(pid_file)
        limit = (self.files_max, self.files_max)
        set_limit = None
        if self.files_max:
            set_limit = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limit)  # noqa: E731
        with open(self.log, "ab") as log:
            self.popen = subprocess.Popen(
                [RUN, self.program, *self.arguments],
                env={**self.tandem.env, **self.env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log if self.output is None else self.output,
                preexec_fn=set_limit,
            )
        if self.program.startswith("redis"):
            # The script checks and repairs its files, then becomes Redis.
            until(
                lambda: os.path.exists(pid_file) or self.popen.poll() is not None,
                60 * SLOW,
                "Redis's files checked",
            )
            if all(node.popen for node in self.tandem.nodes):
                opened = subprocess.run([OPEN], env=self.tandem.env, capture_output=True, text=True)
                assert opened.returncode == 0, opened.stdout + opened.stderr + self.text()

    @property
    def pid(self):
        return self.popen.pid

    def get(self, path, seconds=2):
        """The admin port's answer: (status, text)."""
        try:
            context = self.tandem.tls_context() if self.admin.startswith("https:") else None
            with urllib.request.urlopen(self.admin + path, timeout=seconds * SLOW, context=context) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def ready(self):
        return self.get("/readyz")[0] == 200

    def metric(self, name, **labels):
        """The sum of a metric's samples that carry these labels."""
        total = 0.0
        for line in self.get("/metrics", 20)[1].splitlines():
            sample, _, value = line.rpartition(" ")
            own, _, rest = sample.partition("{")
            if own == name and all(f'{key}="{text}"' in rest for key, text in labels.items()):
                total += float(value)
        return total

    def wait_ready(self):
        def ready():
            assert self.popen.poll() is None, f"{self.name} ended:\n{self.text()}"
            return self.ready()

        until(ready, 30 * SLOW, f"{self.name} ready: {self.get('/readyz')}")

    def signal(self, number):
        self.popen.send_signal(number)

    def kill(self):
        """SIGKILL, as in a crash."""
        self.popen.kill()
        self.popen.wait()
        self.popen = None

    def terminate(self, seconds=20):
        """SIGTERM; returns the exit code."""
        self.popen.terminate()
        return self.wait(seconds)

    def wait(self, seconds=20):
        try:
            code = self.popen.wait(seconds * SLOW)
        except subprocess.TimeoutExpired:
            self.popen.send_signal(signal.SIGABRT)
            self.popen.wait()
            raise AssertionError(f"{self.name} did not end in {seconds} s\n{self.text()}") from None
        finally:
            self.popen = None
        return code

    def text(self, lines=60):
        """The last lines of its log."""
        with open(self.log, errors="replace") as log:
            return f"---- {self.name} ----\n" + "".join(log.readlines()[-lines:])


def channel_to(address, credentials=None):
    """A connection of its own: gRPC shares those with equal options."""
    make = grpc.secure_channel if credentials else grpc.insecure_channel
    return make(
        address,
        *([credentials] if credentials else []),
        options=[
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_reconnect_backoff_ms", 500),
            ("grpc.initial_reconnect_backoff_ms", 50),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", -1),
        ],
    )


class Tandem:
    """Redis and the services, in a folder of their own."""

    def __init__(self, env=None, files_max=None, more=(), layout=(1, 0, 1)):
        """`env`: settings for all (TANDEM_ORDER_…). `files_max`: {process: descriptors}.
        `more`: further instances, such as ("inventory2", "order2"); gateways call all. `layout`: Redis's
        masters, the replicas of each, and partitions."""
        self.folder = tempfile.mkdtemp(prefix="tandem live ")
        names = list(dict.fromkeys(["gateway", *CONTEXTS, "console", *more]))
        gateways = [name for name in names if name.startswith("gateway")]
        ports = free_ports(1 + 2 * len(names) + len(gateways))
        self.masters, self.replicas, self.partitions = layout
        count = self.masters * (1 + self.replicas)
        self.redis_port = ports.pop() if count == 1 else free_range(count)
        self.ports = {name: ports.pop() for name in names}
        self.admin_ports = {name: ports.pop() for name in names}
        self.http_ports = {name: ports.pop() for name in gateways}
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("TANDEM_") and k != POLLS}
        self.env = {
            **inherited,
            "TANDEM_BUILD": BUILD,
            "TANDEM_VAR": os.path.join(self.folder, "var"),
            "TANDEM_REDIS_PORT": str(self.redis_port),
            "TANDEM_REDIS_MAXMEMORY": "1gb",
            "TANDEM_ARCHIVE_WRITE_EVERY": "100ms",  # tests wait for the archive again and again
            "ASAN_OPTIONS": "abort_on_error=0:detect_leaks=1",
            "UBSAN_OPTIONS": "print_stacktrace=1",
            "LSAN_OPTIONS": f"suppressions={ROOT}/tests/live/lsan.supp:print_suppressions=0",
        }
        for name in ("gateway", *CONTEXTS, "console"):
            self.env[f"TANDEM_{name.upper()}_LISTEN"] = f"127.0.0.1:{self.ports[name]}"
            self.env[f"TANDEM_{name.upper()}_ADMIN_LISTEN"] = f"127.0.0.1:{self.admin_ports[name]}"
        self.env["TANDEM_GATEWAY_HTTP_LISTEN"] = f"127.0.0.1:{self.http_ports['gateway']}"
        for name in CONTEXTS:
            instances = [self.ports[n] for n in names if n.rstrip("0123456789") == name]
            targets = ",".join(f"127.0.0.1:{port}" for port in instances)
            self.env[f"TANDEM_GATEWAY_{name.upper()}_TARGET"] = targets
        # How fast the machine is decides about no order: these limits are milliseconds (live/shedding sets another one).
        for limit in ("WAIT", "STORING", "ARRIVING"):
            self.env[f"TANDEM_GATEWAY_SHED_{limit}"] = "0"
        self.env.update(env or {})
        self.redis_tls = "TANDEM_REDIS_TLS" in self.env
        if self.redis_tls:  # as scripts/lib/settings.sh does for the tools
            for name, file in (("CA", "ca.crt"), ("CERT", "ops.crt"), ("KEY", "ops.key")):
                self.env[f"TANDEM_REDIS_TLS_{name}"] = os.path.join(self.env["TANDEM_VAR"], "tls", file)
        files_max = files_max or {}
        if layout != (1, 0, 1):
            os.mkdir(self.env["TANDEM_VAR"])
            with open(os.path.join(self.env["TANDEM_VAR"], "layout"), "w") as file:
                print(*layout, file=file)
        redis = ["redis"] if count == 1 else [f"redis-{n + 1}" for n in range(count)]
        self.nodes = [Process(self, name) for name in redis]
        self.redis = self.nodes[0]
        self.processes = dict(zip(redis, self.nodes))
        for name in (*CONTEXTS, *more, "gateway"):
            program = name.rstrip("0123456789")
            own = {}
            if name != program:
                upper = program.upper()
                own[f"TANDEM_{upper}_LISTEN"] = f"127.0.0.1:{self.ports[name]}"
                own[f"TANDEM_{upper}_ADMIN_LISTEN"] = f"127.0.0.1:{self.admin_ports[name]}"
                if name in self.http_ports:
                    own[f"TANDEM_{upper}_HTTP_LISTEN"] = f"127.0.0.1:{self.http_ports[name]}"
            process = Process(self, name, program, own, files_max.get(name))
            self.processes[name] = process

    def __getattr__(self, name):
        try:
            return self.__dict__["processes"][name]
        except KeyError:
            raise AttributeError(name) from None

    def start(self, *names):
        """Starts those of these (by default: of all) that do not run; waits until all are ready."""
        wanted = [self.processes[name] for name in names or self.processes]
        for process in wanted:
            if process.popen is None:
                process.start()
        for process in wanted:
            if process.admin:
                process.wait_ready()

    @contextlib.contextmanager
    def frozen(self, *names):
        """Stops processes with SIGSTOP, and continues them afterwards."""
        for name in names:
            self.processes[name].signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for name in names:
                self.processes[name].signal(signal.SIGCONT)

    @contextlib.contextmanager
    def away(self, *names):
        """Ends services with SIGTERM; starts them again afterwards, and waits until the gateway knows."""
        codes = {name: self.processes[name].terminate() for name in names}
        try:
            assert not any(codes.values()), f"exit codes: {codes}"
            yield
        finally:
            self.start(*names, "gateway")

    def tls(self, *names):
        """A path below the folder of certificates."""
        return os.path.join(self.env["TANDEM_VAR"], "tls", *names)

    def credentials(self, certificate="ops"):
        """After scripts/up --tls: for connections with this certificate; None: with none."""
        names = ("ca.crt",) if certificate is None else ("ca.crt", f"{certificate}.key", f"{certificate}.crt")
        pems = []
        for file in names:
            with open(self.tls(file), "rb") as pem:
                pems.append(pem.read())
        return grpc.ssl_channel_credentials(*pems)

    def channel(self, name="gateway", certificate="ops", credentials=None):
        """A connection of its own to one of the services."""
        if os.path.exists(self.tls("on")):
            credentials = credentials or self.credentials(certificate)
        else:
            credentials = None
        return channel_to(f"127.0.0.1:{self.ports[name]}", credentials)

    def redis_as(self, user=None):
        """A connection to Redis as one of its users; without a name as the default user (read-only)."""
        kind = Redis if self.masters == 1 else Cluster
        if user is None:
            return kind(self.redis_port, tls=self.redis_context())
        with open(os.path.join(self.env["TANDEM_VAR"], "secrets", user)) as secret:
            return kind(self.redis_port, user, secret.read().strip(), tls=self.redis_context())

    def redis_context(self):
        """For connections to a Redis with TLS, with the tools' certificate; None: it has none."""
        if not self.redis_tls:
            return None
        return self.tls_context()

    def tls_context(self, certificate="ops"):
        """For connections over TLS, with this certificate of the private CA; None: with none."""
        context = ssl.create_default_context(cafile=self.tls("ca.crt"))
        if certificate is not None:
            context.load_cert_chain(self.tls(f"{certificate}.crt"), self.tls(f"{certificate}.key"))
        return context

    def node(self, number):
        """A connection as the user ops to one of a cluster's nodes, by its number from 0."""
        with open(os.path.join(self.env["TANDEM_VAR"], "secrets", "ops")) as secret:
            return Redis(self.redis_port + number, "ops", secret.read().strip(), tls=self.redis_context())

    def is_master(self, number):
        return self.node(number)("ROLE")[0] == b"master"

    def serving(self, partition):
        """The numbers of the nodes that serve a partition of a cluster that works: its master, then its
        replicas."""

        def listed():
            redis = self.node(0)
            slot = redis("CLUSTER", "KEYSLOT", f"{{{partition}}}")
            for first, last, *found in redis("CLUSTER", "SLOTS"):
                if first <= slot <= last and len(found) == 1 + self.replicas:
                    return [one[1] - self.redis_port for one in found]
            return None

        return until(listed, 20 * SLOW, f"a master and its replicas serve partition {partition}")

    def cut_off(self, replica):
        """A replica hears nothing of its master any more, until the function that is returned is called."""
        redis = self.node(replica)
        password = redis("CONFIG", "GET", "masterauth")[1]
        redis("CONFIG", "SET", "masterauth", "wrong")
        redis("CLIENT", "KILL", "TYPE", "master")
        return lambda: redis("CONFIG", "SET", "masterauth", password)

    def begin_migration(self, partition, target):
        """A partition's slot is MIGRATING, and IMPORTING at another master, until the function that is returned
        is called; it returns the number of keys that have appeared there."""
        nodes = [self.node(number) for number in (self.serving(partition)[0], target)]
        source_id, target_id = (node("CLUSTER", "MYID") for node in nodes)
        source, target = nodes
        slot = source("CLUSTER", "KEYSLOT", f"{{{partition}}}")
        target("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
        source("CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)

        def end():
            strays = target("CLUSTER", "COUNTKEYSINSLOT", slot)
            for node in nodes:
                node("CLUSTER", "SETSLOT", slot, "STABLE")
            return strays

        return end

    def settle_nodes(self):
        """Waits until the cluster serves every slot and every replica follows its master. All nodes run."""

        def settled(number):
            redis = self.node(number)
            state, links = redis("CLUSTER", "INFO"), redis("INFO", "replication")
            follows = b"master_link_status:up" in links or b"connected_slaves:%d\r" % self.replicas in links
            return follows and b"cluster_state:ok" in state and b"cluster_slots_ok:16384" in state

        for number, node in enumerate(self.nodes):
            until(lambda: settled(number), 60 * SLOW, f"{node.name} is settled", every=0.1)

    def library(self, context):
        """The name of the Redis functions that the build's service calls: order_1a2b3c4d."""
        program = os.path.join(BUILD, f"tandem-{context}")
        printed = subprocess.run([program, "--print-functions"], capture_output=True, check=True)
        return printed.stdout.split(b"\n", 1)[0].decode().removeprefix("#!lua name=")

    def function(self, context, name):
        """The name of one of them: order_trim_1a2b3c4d."""
        return self.library(context).replace("_", f"_{name}_")

    def ctl(self, *args, env=None, **options):
        """Runs tandemctl on this Tandem. It must end in time, without a sanitizer's report."""
        options = {"capture_output": True, "text": True, "timeout": 120 * SLOW, **options}
        ended = subprocess.run([CTL, *args], env={**self.env, **(env or {})}, **options)
        said = ended.stderr if options["text"] else ended.stderr.decode(errors="replace")
        assert ended.returncode in (0, 1, 2, 3), f"{args}: {ended.returncode}\n{said}"
        assert not any(report in said for report in REPORTS), f"{args}:\n{said}"
        return ended

    def ctl_json(self, *args, env=None):
        """A command's exit code and the values it prints with --json."""
        ended = self.ctl(*args, "--json", env=env)
        return ended.returncode, [json.loads(line) for line in ended.stdout.splitlines()]

    def call_over_http(self):
        """The gateway has served one, and counts it."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.http_ports['gateway']}/{HEALTH}/Check", b"{}",
                                         {"content-type": "application/json"})
        urllib.request.urlopen(request, timeout=10 * SLOW).close()

    def new_callers(self, **roles):
        """Makes the gateway ask who calls. `roles`: by name a role, and behind it a customer's id; returns their API
        keys by name."""
        path, keys = os.path.join(self.folder, "callers"), {}
        with open(path, "w", encoding="utf-8") as file:
            for name, role in roles.items():
                role, *customer = role.split()
                more = ("--customer-id", *customer) if customer else ()
                made = self.ctl_json("auth", "new-key", "--name", name, "--role", role, *more)[1][0]
                keys[name] = made["key"]
                file.write(made["line"] + "\n")
        os.chmod(path, 0o600)
        self.env["TANDEM_GATEWAY_CALLERS"] = path
        return keys

    def doctor(self):
        """The rows that tandemctl doctor prints."""
        return self.ctl_json("doctor")[1]

    def stop(self):
        """Ends all processes. What went wrong, as text; "" when nothing did."""
        wrong = ""
        running = [process for process in reversed(self.processes.values()) if process.popen is not None]
        services = [process for process in running if process.admin]
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                process.signal(signal.SIGCONT)
        for process in services:  # side by side: each serves for half a second more
            process.popen.terminate()
        for process in running:
            try:
                code = process.wait() if process in services else process.terminate()
                if code != 0:
                    wrong += f"{process.name} ended with {code}\n" + process.text()
            except AssertionError as error:
                wrong += str(error)
        for process in self.processes.values():
            if not os.path.exists(process.log):
                continue
            with open(process.log, errors="replace") as log:
                if any(report in log.read() for report in REPORTS):
                    wrong += f"{process.name} reports a fault\n" + process.text(200)
        return wrong

    def remove(self):
        shutil.rmtree(self.folder, ignore_errors=True)


# ---- tests ----


def modules_of_node():
    """Where the packages of examples/node are; None: there is no npm, or it cannot install them."""
    if shutil.which("npm") is None:
        print("what needs Node.js is left out: there is no npm", file=sys.stderr)
        return None
    command = ["timeout", "120", os.path.join(ROOT, "examples", "run"), "--modules", "node"]
    done = subprocess.run(command, env={**os.environ, "TANDEM_BUILD": BUILD}, capture_output=True, text=True)
    if done.returncode != 0:
        print(f"what needs Node.js is left out, npm cannot install its packages: {done.stderr}", file=sys.stderr)
        return None
    return done.stdout.strip()


def until(true, seconds, what, every=0.02):
    """Calls true() until it returns something true, and returns that; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        result = true()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what() if callable(what) else what}")
        time.sleep(every)


PAUSE = 0.02  # seconds between two orders: as fast as it goes would take both processors from all else


class Load(threading.Thread):
    """Places one order after the other until end(). `calls` gets, for each try, (request_id, seconds it
    took, order or None, error or None). With `retry`, a call that failed is repeated with the same
    request_id."""

    def __init__(self, order, sku, name, timeout=2, retry=True, **fields):
        super().__init__(daemon=True)
        self.order, self.sku, self.name, self.timeout = order, sku, name, timeout
        self.retry, self.fields, self.calls, self.ended = retry, fields, [], threading.Event()

    def run(self):
        number = 0
        while not self.ended.is_set():
            request_id = f"{self.name}-{number}"
            start = time.monotonic()
            order = error = None
            try:
                order = self.order.PlaceOrder(
                    request_id=request_id,
                    customer_id=self.name,
                    lines=[{"sku": self.sku, "quantity": 1}],
                    _timeout=self.timeout,
                    **self.fields,
                ).order
            except grpc.RpcError as failed:
                error = failed
            self.calls.append((request_id, time.monotonic() - start, order, error))
            if order is not None or not self.retry:
                number += 1
            self.ended.wait(PAUSE)

    def end(self):
        self.ended.set()
        self.join(60)
        assert not self.is_alive(), "a call hangs past its deadline"
        return self

    @property
    def placed(self):
        """The ids of the orders that were accepted."""
        return [order.order_id for _, _, order, _ in self.calls if order is not None]


class Loads(list):
    """Several Loads at the same time. In a `with`, whose body begins once each has placed an order."""

    def __enter__(self):
        for load in self:
            load.start()
        self.go_on(1)
        return self

    def __exit__(self, *_):
        for load in self:
            load.end()

    def go_on(self, orders, what="load goes on"):
        """Waits until each has placed so many more orders."""
        before = [len(load.placed) for load in self]
        until(
            lambda: all(len(load.placed) >= n + orders for load, n in zip(self, before)),
            20 * SLOW,
            lambda: f"{what}: {[str(load.calls[-1][3]) for load in self if load.calls]}",
        )

    @property
    def placed(self):
        return [order_id for load in self for order_id in load.placed]

    @property
    def errors(self):
        """The calls that failed: [(seconds it took, error)]."""
        return [(took, error) for load in self for _, took, _, error in load.calls if error]


class Live(unittest.TestCase):
    """A Tandem for the tests of one class."""

    ENV = {}  # settings, such as {"TANDEM_ORDER_TIMERS_EVERY": "50ms"}
    FILES_MAX = {}  # descriptors a process may have, such as {"gateway": 64}
    MORE = ()  # further instances
    LAYOUT = (1, 0, 1)  # Redis's masters, the replicas of each, partitions
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.protos = Protos()
        cls.status = cls.protos.enum("tandem.order.v1.OrderStatus")
        cls.status_names = {number: name[13:] for name, number in cls.status.items()}
        cls.serving = cls.protos.enum("grpc.health.v1.HealthCheckResponse.ServingStatus")
        cls.tandem = Tandem(cls.ENV, cls.FILES_MAX, cls.MORE, cls.LAYOUT)
        cls.channels = []
        try:
            cls.prepare()
            cls.tandem.start()
            cls.order, cls.inventory = cls.connect()
        except BaseException:
            cls.tandem.stop()
            for process in cls.tandem.processes.values():
                if os.path.exists(process.log):
                    print(process.text(), file=sys.stderr)
            raise

    @classmethod
    def prepare(cls):
        """What a class needs before its Tandem starts."""

    @classmethod
    def tearDownClass(cls):
        for channel in cls.channels:
            channel.close()
        wrong = cls.tandem.stop()
        if wrong:
            raise AssertionError(wrong)
        cls.tandem.remove()

    def run(self, result=None):
        """Shows the end of each log when a test fails."""
        result = result or self.defaultTestResult()
        before = len(result.failures) + len(result.errors)
        super().run(result)
        if len(result.failures) + len(result.errors) > before:
            print(f"==== {self.id()} failed; in {self.tandem.folder}:", file=sys.stderr)
            for process in self.tandem.processes.values():
                print(process.text(30), file=sys.stderr)
        return result

    @classmethod
    def connect(cls, name="gateway"):
        """A connection of its own to a process: the stubs of both services."""
        channel = cls.tandem.channel(name)
        cls.channels.append(channel)
        return cls.protos.stub(channel, ORDER_SERVICE), cls.protos.stub(channel, INVENTORY_SERVICE)

    @classmethod
    def stock(cls, sku, count):
        """Puts stock in."""
        return cls.inventory.AdjustStock(sku=sku, delta=count, reason="test").stock

    def place(self, sku, quantity=1, **fields):
        fields.setdefault("customer_id", "customer")
        lines = [{"sku": sku, "quantity": quantity}]
        return self.order.PlaceOrder(lines=lines, **fields).order

    def placing(self, sku, quantity=1, order=None, **fields):
        """A PlaceOrder under way; `order`: a stub other than self.order."""
        fields.setdefault("customer_id", "customer")
        lines = [{"sku": sku, "quantity": quantity}]
        return (order or self.order).PlaceOrder.future(lines=lines, **fields)

    def name(self, order):
        """An order's status by name."""
        return self.status_names[order.status]

    @classmethod
    def get(cls, order_id):
        return cls.order.GetOrder(order_id=order_id).order

    @classmethod
    def settled(cls, order_id):
        """Waits until an order is settled, and returns it."""
        until(lambda: cls.get(order_id).settled, 20 * SLOW, lambda: f"settled: {cls.get(order_id)}")
        return cls.get(order_id)

    def listed(self, customer_id, page_size=1000):
        """All orders of a customer, page by page."""
        fields = {"customer_id": customer_id, "page_size": page_size}
        orders, token = [], ""
        while True:
            page = self.order.ListOrders(page_token=token, **fields)
            self.assertLessEqual(len(page.orders), page_size)
            orders += page.orders
            token = page.next_page_token
            if not token:
                return orders

    def watch_health(self, name, service=""):
        """A list that fills with the statuses that a process's health Watch sends, and at last with the
        code that ends the stream. The first status is there."""
        channel = self.tandem.channel(name)
        self.addCleanup(channel.close)
        stream = self.protos.stub(channel, HEALTH).Watch(service=service, _timeout=120 * SLOW)
        seen = []

        def follow():
            try:
                for answer in stream:
                    seen.append(answer.status)
                seen.append(grpc.StatusCode.OK)
            except grpc.RpcError as error:
                seen.append(error.code())

        threading.Thread(target=follow, daemon=True).start()
        until(lambda: seen, 10 * SLOW, "the first status")
        return seen

    def decided(self, order_ids, seconds=20):
        """Waits until every order has left PENDING; {order_id: name of its status}."""
        deadline = time.monotonic() + seconds * SLOW
        names = {}
        waiting = list(order_ids)
        while waiting:
            calls = [(i, self.order.GetOrder.future(order_id=i)) for i in waiting[:500]]
            for order_id, call in calls:
                names[order_id] = self.name(call.result().order)
            still = [order_id for order_id, _ in calls if names[order_id] == "PENDING"]
            waiting = waiting[500:] + still
            if still:
                self.assertLess(time.monotonic(), deadline, f"{len(waiting)} undecided: {still[:5]}")
                time.sleep(0.02)
        return names

    def events(self, stream, subject=None):
        """The events in a stream, or those of an order or SKU."""
        entries = self.tandem.redis_as()("XRANGE", stream, "-", "+")
        found = [event for entry in entries for event in events_of(self.protos, *entry)]
        return [event for event in found if subject in (None, event.subject)]

    def written(self, stream):
        """The number of events ever written to a stream, from its last id."""
        redis = self.tandem.redis_as()
        if not redis("EXISTS", stream):
            return 0
        return int(pairs(redis("XINFO", "STREAM", stream))[b"last-generated-id"].split(b"-")[1])

    def all_read(self):
        """Both groups have read and acknowledged everything, and nothing is set aside."""
        redis = self.tandem.redis_as()
        for p in range(self.tandem.partitions):
            for stream in (ORDERS, STOCK):
                stream = stream.replace("{0}", f"{{{p}}}")
                last = pairs(redis("XINFO", "STREAM", stream))[b"last-generated-id"]
                for group in map(pairs, redis("XINFO", "GROUPS", stream)):
                    if group[b"pending"] or group[b"last-delivered-id"] != last:
                        return False
            if any(redis("XLEN", stream.replace("{0}", f"{{{p}}}")) for stream in ASIDE):
                return False
        return True

    def becomes(self, found, wanted, seconds=20):
        """Waits until found() is what is wanted: what travels, or what a process says that did not run for a while."""
        until(lambda: found() == wanted, seconds * SLOW, lambda: f"{found()} is not {wanted}")

    def caught_up(self):
        until(self.all_read, 30 * SLOW, "both groups have read everything")

    def record(self, order_id):
        """The order as it is stored."""
        return Record.read(self.tandem.redis_as()("HGET", Record.KEY, order_id))

    def adds_up(self, sku):
        """The stock of a SKU, after checking that its counters add up."""
        stock = self.inventory.GetStock(sku=sku).stock
        self.assertEqual(stock.received, stock.available + stock.reserved + stock.committed, stock)
        return stock

    def fails(self, code, call, *arguments, **fields):
        """The call must end with this status. Returns the error, with its details as error.found:
        {short name of the type: message}."""
        with self.assertRaises(grpc.RpcError) as caught:
            call(*arguments, **fields)
        error = caught.exception
        self.assertEqual(error.code(), code, f"{error.code()}: {error.details()}")
        error.found = self.details(error)
        return error

    def details(self, error):
        """The google.rpc details of an error, by the short name of their types."""
        found = {}
        for key, value in error.trailing_metadata() or ():
            if key == "grpc-status-details-bin":
                status = self.protos.message("google.rpc.Status").FromString(value)
                self.assertEqual(status.code, error.code().value[0])
                for packed in status.details:
                    name = packed.type_url.rpartition("/")[2]
                    short = name.rpartition(".")[2]
                    self.assertNotIn(short, found, "a detail type occurs once")
                    found[short] = self.protos.message(name).FromString(packed.value)
        return found


def main():
    unittest.main(verbosity=2)
