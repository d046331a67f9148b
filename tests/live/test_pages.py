"""docs/reference names every key, event and metric of a running Tandem, and no others.

scripts/pages makes the pages and scripts/check compares them with the code; this test compares them
with the data in Redis and the metrics of the services after orders of every outcome."""
import os
import re
import urllib.request

import tandem

PROGRAMS = (*tandem.SERVICES, "console")
STREAMS = (tandem.ORDERS, tandem.STOCK)


def page(name):
    with open(os.path.join(tandem.ROOT, "docs", "reference", name)) as file:
        return file.read()


def rows(name, first):
    """The rows of a page's tables whose first column is headed so: lists of cells, without quotes."""
    found, wanted = [], False
    for line in page(name).splitlines():
        cells = [cell.strip().strip("`") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not cells:
            wanted = False
        elif wanted and not cells[0].startswith("---"):
            found.append(cells)
        elif not wanted:
            wanted = cells[0] == first
    return found


# Keys that inventory has only with several partitions.
SEVERAL = {f"inventory:{{0}}:{name}" for name in (
    "parts", "generation", "generations", "alive", "recent:r", "recent:parts", "reconciliation")}
SEVERAL.add("order:{0}:earlier_ids")
# The key that order has only where callers are known: live/budgets.
CALLERS = {"order:{0}:pending:<customer id>"}

# That which it has where orders were dropped: live/archive.
DROPPED = {"order:{0}:dropped", "order:{0}:dropped_ids", "inventory:{0}:dropped", "inventory:{0}:dropped_until",
           "inventory:{0}:dropped_until_split"}


class Pages(tandem.Live):
    ENV = {"TANDEM_CLAIM_EVERY": "100ms"}  # how often a group's place is stored
    MORE = ("console",)

    def setUp(self):
        """An order of every outcome, one that waits, an adjustment, dead letters, excluded groups."""
        self.stock("tea", 10)
        self.inventory.AdjustStock(request_id="once", sku="tea", delta=1)
        confirmed, cancelled = (self.place("tea", wait_for_decision=True) for _ in range(2))
        self.order.ExtendHold(order_id=confirmed.order_id, hold_expire_time={"seconds": confirmed.hold_expire_time.seconds + 60})
        self.order.ConfirmOrder(order_id=confirmed.order_id)
        self.settled(confirmed.order_id)
        self.order.ReturnOrder(order_id=confirmed.order_id, return_id="back")
        self.inventory.SetLowStockThreshold(sku="tea", low_stock_threshold=1000)
        self.order.CancelOrder(order_id=cancelled.order_id)
        expired = self.place("tea", hold={"seconds": 1}, wait_for_decision=True)
        rejected = self.place("nothing", wait_for_decision=True)
        ops = self.tandem.redis_as("ops")
        for stream in STREAMS:
            ops("XADD", stream, "*", "no", "event")
            context = stream.split(":")[0]
            ops("SADD", f"{context}:{{0}}:excluded_groups", "forgotten")
        for order in (confirmed, cancelled, expired, rejected):
            self.settled(order.order_id)
        # Of an order that is not there: it was dropped, as far as the order service knows.
        ops("XADD", "archive:{0}:events", "*", "tandem.archive.v1.OrderArchived", "ord_ha6bwoz5oh7o2dgv3qbsnp7rmq/4",
            "time", "2026-01-01T00:00:00.000Z")
        self.set_aside(ops)
        self.place("tea")
        self.redis = self.tandem.redis_as()

    def set_aside(self, ops):
        """On both sides an event that cannot be processed, because its record is damaged."""
        order_id = self.place("tea", wait_for_decision=True).order_id
        ops("HSET", "inventory:{0}:r", order_id, "damaged")
        self.order.CancelOrder(order_id=order_id)
        tandem.until(lambda: ops("XLEN", tandem.ASIDE[0]), 20 * tandem.SLOW, "set aside by inventory")
        ops("RENAME", tandem.Record.KEY, "kept")
        ops("SET", tandem.Record.KEY, "damaged")
        event = [event for event in self.events(tandem.STOCK) if event.name == "InventoryReleased"][0]
        ops("XADD", tandem.STOCK, "*", event.type, event.id, "time", event.time)
        tandem.until(lambda: ops("XLEN", tandem.ASIDE[1]), 20 * tandem.SLOW, "set aside by order")
        ops("RENAME", "kept", tandem.Record.KEY)

    def test_keys(self):
        ops = self.tandem.redis_as("ops")
        named = {key: kind for key, kind, _ in rows("keys.md", "key")}
        self.assertGreater(len(named), 10)
        self.assertLessEqual(SEVERAL | CALLERS | DROPPED, set(named))
        patterns = {re.sub("<[^>]+>", ".+", re.escape(key).replace("\\ ", " ")): key for key in named}

        def missing():
            """Keys of the page that are not there; a key that it does not name fails the test."""
            left = set(named) - SEVERAL - CALLERS - DROPPED
            for key in (key.decode() for key in ops("KEYS", "*")):
                found = [name for pattern, name in patterns.items() if re.fullmatch(pattern, key)]
                self.assertEqual(len(found), 1, f"{key} is {found} in keys.md")
                name = found[0]
                kind = named[name].removesuffix(" with an expiry")
                kind = {"sorted set": "zset"}.get(kind, kind)
                self.assertEqual(self.redis("TYPE", key).decode(), kind, key)
                expires = named[name].endswith(" with an expiry")
                self.assertEqual(self.redis("PTTL", key) > 0, expires, key)
                left.discard(name)
            return left

        tandem.until(lambda: not missing(), 20 * tandem.SLOW, missing)

    def test_events(self):
        named = {stream: set() for stream in STREAMS}
        for part in page("events.md").split("\n## ")[1:]:
            named[part.split(",")[0]] = set(re.findall(r"^### (\S+)", part, re.MULTILINE))
        for stream in STREAMS:
            self.assertEqual({event.type for event in self.events(stream)}, named[stream])

    def test_metrics(self):
        urllib.request.urlopen(f"http://127.0.0.1:{self.tandem.ports['console']}/").close()
        self.tandem.call_over_http()
        named = {}
        for name, kind, labels, service, _ in rows("metrics.md", "name"):
            for one in service.replace("all", " ".join(tandem.SERVICES)).split():
                named[one, name] = (kind, set(re.findall(r"(?:^|; )`?(\w+)`?", labels)))
        served = {}
        for service in PROGRAMS:
            lines = self.tandem.processes[service].get("/metrics")[1].splitlines()
            kinds = dict(line.split()[2:4] for line in lines if line.startswith("# TYPE"))
            for sample in (line for line in lines if not line.startswith("#")):
                name, _, rest = re.match(r"(\w+)(\{(.*)\})? ", sample).groups()
                if name not in kinds:
                    name = re.sub(r"_(bucket|sum|count)$", "", name)
                labels = set(re.findall(r'(\w+)="(?:[^"\\]|\\.)*"', rest or "")) - {"le"}
                served.setdefault((service, name), (kinds[name], set()))[1].update(labels)
        self.assertEqual(served, named)

    def test_metrics_of_redis(self):
        """What Redis says of itself, and the dead letters, as they are there."""
        redis = self.tandem.redis_as("ops")
        for name in tandem.CONTEXTS:
            process = self.tandem.processes[name]
            dead = lambda name=name: redis("XLEN", f"{name}:{{0}}:dead")
            shown = lambda process=process: process.metric("tandem_dead_letters")
            if name != "archive":  # it has none
                self.assertGreater(dead(), 0)
            tandem.until(lambda: shown() == dead(), 20 * tandem.SLOW, lambda: f"{shown()} of {dead()}")
            of_redis = lambda what, process=process: process.metric(f"tandem_redis_{what}", partition=0)
            self.assertGreater(of_redis("memory_used_bytes"), 100000)
            self.assertEqual(of_redis("memory_max_bytes"), int(redis("CONFIG", "GET", "maxmemory")[1]))
            self.assertGreater(of_redis("aof_current_size_bytes"), 100)
            self.assertEqual([of_redis(f"aof_{what}") for what in (
                "enabled", "last_write_status", "last_bgrewrite_status", "rewrite_in_progress")], [1, 1, 1, 0])
            self.assertEqual(of_redis("connected_replicas"), 0)
            self.assertGreater(process.metric("tandem_redis_answer_seconds_count"), 0)


if __name__ == "__main__":
    tandem.main()
