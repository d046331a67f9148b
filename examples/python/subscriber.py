"""subscriber.py - prints every event of orders as it happens, once for each that is handled.

  subscriber.py PASSWORD_FILE [GROUP]   the password of the user "subscriber"; a name of its own, "printer"

With redis and the messages that protoc compiles (examples/run python-subscriber). TANDEM_REDIS_PORT: 6390."""
import os
import socket
import sys

import redis
from tandem.events.v1 import events_pb2
from tandem.order.v1 import order_events_pb2  # noqa: F401  the types that events name

STREAM = "order:{0}:events"  # one for each partition
PLAIN = (b"time", b"batch", b"replayed")
group = sys.argv[2] if len(sys.argv) > 2 else "printer"
consumer = f"{socket.gethostname()}-{os.getpid()}"
with open(sys.argv[1], encoding="ascii") as file:
    server = redis.Redis(port=int(os.environ.get("TANDEM_REDIS_PORT", "6390")), username="subscriber",
                         password=file.readline().strip())


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
    print(kind.decode().rpartition(".")[2], subject.decode(), int(seq), f"{len(data)} bytes", flush=True)


try:
    server.xgroup_create(STREAM, group, id="0", mkstream=True)
except redis.ResponseError as error:
    if "BUSYGROUP" not in str(error):
        raise
waiting = True
while True:
    # What a consumer that died had taken is ours after a minute; then what nobody has taken.
    entries = server.xautoclaim(STREAM, group, consumer, 60_000, count=100)[1] if waiting else []
    waiting = bool(entries)
    if not entries:
        entries = [entry for _, found in server.xreadgroup(group, consumer, {STREAM: ">"}, 100, 10_000) for entry in found]
        waiting = not entries
    for entry_id, fields in entries:
        for event in events_of(fields or {}):  # None: it was deleted meanwhile
            handle(*event)
        server.xack(STREAM, group, entry_id)
