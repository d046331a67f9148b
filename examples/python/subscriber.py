"""subscriber.py - prints every event of orders as it happens, once for each that is handled.

  subscriber.py PASSWORD_FILE [GROUP]   the password of the user "subscriber"; a name of its own, "printer"

With redis and the messages that protoc compiles (examples/run python-subscriber). TANDEM_REDIS_HOST and TANDEM_REDIS_PORT:
127.0.0.1, 6390; or TANDEM_REDIS: cluster://HOST:PORT. TANDEM_REDIS_TLS_CA, with _CERT and _KEY, when Redis has TLS.
TANDEM_PARTITIONS: 1. A thread reads each partition."""
import os
import socket
import sys
import threading
import time

import redis
from tandem.events.v1 import events_pb2
from tandem.order.v1 import order_events_pb2  # noqa: F401  the types that events name

PLAIN = (b"time", b"batch", b"replayed")
group = sys.argv[2] if len(sys.argv) > 2 else "printer"
consumer = f"{socket.gethostname()}-{os.getpid()}"
with open(sys.argv[1], encoding="ascii") as file:
    options = {"username": "subscriber", "password": file.readline().strip()}
if os.environ.get("TANDEM_REDIS_TLS_CA"):
    options |= {"ssl": True, "ssl_check_hostname": True, "ssl_ca_certs": os.environ["TANDEM_REDIS_TLS_CA"],
                "ssl_certfile": os.environ["TANDEM_REDIS_TLS_CERT"], "ssl_keyfile": os.environ["TANDEM_REDIS_TLS_KEY"]}
cluster = os.environ.get("TANDEM_REDIS", "").removeprefix("cluster://").split(",")[0]
if cluster:
    server = redis.RedisCluster(*cluster.rsplit(":", 1), **options)
else:
    host, port = os.environ.get("TANDEM_REDIS_HOST", "127.0.0.1"), int(os.environ.get("TANDEM_REDIS_PORT", "6390"))
    server = redis.Redis(host, port, **options)


def events_of(fields):
    """(type, subject, seq, content) of each event of an entry; (subject, seq) is the same when it comes again."""
    if b"type" in fields:  # a single event: one that was replayed
        return [(fields[b"type"], fields[b"subject"], int(fields[b"seq"]), fields.get(b"data", b""))]
    names = [(kind, name) for kind in fields if kind not in PLAIN for name in fields[kind].split(b" ")]
    batch = events_pb2.EventBatch.FromString(fields.get(b"batch", b""))
    contents = list(batch.data) or [b""] * len(names)
    return [(kind, *name.rsplit(b"/", 1), data) for (kind, name), data in zip(names, contents)]


def handle(kind, subject, seq, data):
    """Yours. What it does must be safe to do twice."""
    line = f"{kind.decode().rpartition('.')[2]} {subject.decode()} {int(seq)} {len(data)} bytes"
    print(line + "\n", end="", flush=True)  # at once: each partition has a thread


def read(stream):
    waiting = True
    while True:
        # What a consumer that died had taken is ours after a minute; then what nobody has taken.
        entries = server.xautoclaim(stream, group, consumer, 60_000, count=100)[1] if waiting else []
        waiting = bool(entries)
        if not entries:
            entries = [entry for _, found in server.xreadgroup(group, consumer, {stream: ">"}, 100, 10_000) for entry in found]
            waiting = not entries
        for entry_id, fields in entries:
            for event in events_of(fields or {}):  # None: it was deleted meanwhile
                handle(*event)
            server.xack(stream, group, entry_id)


def follow(stream):
    while True:
        try:
            read(stream)
        except redis.RedisError as error:  # the group knows where we are
            print(f"{stream}: {error}", file=sys.stderr)
            time.sleep(1)


streams = [f"order:{{{p}}}:events" for p in range(int(os.environ.get("TANDEM_PARTITIONS", "1")))]
for name in streams:
    try:
        server.xgroup_create(name, group, id="0", mkstream=True)
    except redis.ResponseError as error:
        if "BUSYGROUP" not in str(error):
            raise
for name in streams:
    threading.Thread(target=follow, args=(name,)).start()
