"""The archive: what happened to orders and stock, in SQLite and in PostgreSQL; and what becomes of it when the archive is
killed, its disk is full, its database is away or is restored from an older copy."""
import contextlib
import csv
import glob
import io
import json
import os
import pwd
import resource
import shutil
import sqlite3
import subprocess
import tempfile
import time

import grpc
import tandem

STREAMS = (tandem.ORDERS, tandem.STOCK)
AWAY_SECONDS = float(os.environ.get("TANDEM_POSTGRESQL_AWAY", "0"))  # so long orders go on without PostgreSQL, at least


class Archived(tandem.Live):
    """What both databases are asked."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.archive = cls.stub_of("gateway")
        cls.kinds = cls.protos.enum("tandem.archive.v1.StockMovementKind")

    @classmethod
    def stub_of(cls, name):
        channel = cls.tandem.channel(name)
        cls.channels.append(channel)
        return cls.protos.stub(channel, tandem.ARCHIVE_SERVICE)

    def ctl(self, *arguments):
        env = {**self.tandem.env, "TANDEM_GATEWAY_LISTEN": f"127.0.0.1:{self.tandem.ports['gateway']}"}
        return subprocess.run([tandem.CTL, *arguments], env=env, capture_output=True, text=True, check=True).stdout

    def searched(self, page_size=3, **fields):
        """All orders that a search finds, page by page."""
        oldest_first = fields.pop("oldest_first", False)
        found, token = [], ""
        while True:
            page = self.archive.SearchOrders(filter=fields, page_size=page_size, page_token=token,
                                             oldest_first=oldest_first)
            self.assertLessEqual(len(page.orders), page_size)
            found += [item.order for item in page.orders]
            token = page.next_page_token
            if not token:
                return found

    def is_archived(self):
        """Every entry of every stream is confirmed."""
        redis = self.tandem.redis_as()
        for p in range(self.tandem.partitions):
            for stream in (name.replace("{0}", f"{{{p}}}") for name in STREAMS):
                if not redis("EXISTS", stream):
                    continue
                last = tandem.pairs(redis("XINFO", "STREAM", stream))[b"last-generated-id"]
                groups = {group[b"name"]: group for group in map(tandem.pairs, redis("XINFO", "GROUPS", stream))}
                if groups.get(b"archive", {}).get(b"last-delivered-id") != last:
                    return False
        return True

    def archived(self, seconds=20):
        tandem.until(self.is_archived, seconds * tandem.SLOW, "everything is archived")
        tandem.until(self.answers, seconds * tandem.SLOW, "the gateway knows that the archive is back")

    def answers(self):
        try:
            return self.archive.SearchOrders(page_size=1) is not None
        except grpc.RpcError as error:
            self.assertEqual(error.code(), grpc.StatusCode.UNAVAILABLE)
            return False

    def places(self, count, sku="tea", **fields):
        """Bought, cancelled and reserved ones in turn; settled but for the last kind."""
        orders = [self.place(sku, wait_for_decision=True, **fields) for _ in range(count)]
        for n, order in enumerate(orders):
            if n % 3 == 0:
                self.order.ConfirmOrder(order_id=order.order_id)
            elif n % 3 == 1:
                self.order.CancelOrder(order_id=order.order_id, reason="changed my mind")
        for n, order in enumerate(orders):
            if n % 3 < 2:
                self.settled(order.order_id)
        return [order.order_id for order in orders]

    def agrees(self, order_ids):
        """The archive has what the order service has, and each event of the streams once."""
        events = [event for stream in STREAMS for event in self.events(stream)]
        for order_id in order_ids:
            life = self.archive.GetArchivedOrder(order_id=order_id)
            now = self.get(order_id)
            now.ClearField("hold_expire_time")
            self.assertEqual(life.order.order, now)
            self.assertFalse(life.order.incomplete)
            known = sorted((event.context, event.kind, event.version) for event in life.events)
            self.assertEqual(len(known), len(set(known)))
            self.assertEqual(set(known), {(event.type.split(".")[1], event.name, event.seq)
                                          for event in events if event.subject == order_id})


class Answers(Archived):
    def test_what_is_asked(self):
        self.stock("tea", 100)
        self.stock("mug", 1)
        ids = self.places(7, customer_id="carol", labels={"shop": "north", "till": "1"})
        other = self.places(3, customer_id="dave", labels={"shop": "south"})
        rejected = self.place("mug", 2, customer_id="dave", wait_for_decision=True).order_id
        self.archived()
        self.agrees([*ids, *other, rejected])
        rows = (
            ({}, [*ids, *other, rejected]),
            ({"customer_id": "carol"}, ids),
            ({"customer_id": "nobody"}, []),
            ({"status": "ORDER_STATUS_CONFIRMED"}, [*ids[::3], other[0]]),
            ({"status": "ORDER_STATUS_REJECTED"}, [rejected]),
            ({"sku": "mug"}, [rejected]),
            ({"label_key": "shop", "label_value": "north"}, ids),
            ({"customer_id": "carol", "status": "ORDER_STATUS_CANCELLED"}, ids[1::3]),
            ({"customer_id": "dave", "sku": "tea"}, other),
            ({"from_time": self.get(other[0]).create_time}, [*other, rejected]),
            ({"to_time": self.get(other[0]).create_time}, ids),
        )
        for fields, wanted in rows:
            with self.subTest(fields):
                self.assertEqual([order.order_id for order in self.searched(**fields)], wanted[::-1])
                found = self.searched(oldest_first=True, **fields)
                self.assertEqual([order.order_id for order in found], wanted)
        self.movements(ids)
        self.exported([*ids, *other, rejected])
        self.tool(ids)

    def movements(self, ids):
        page = self.archive.ListStockMovements(sku="tea", page_size=1000)
        moves = [(self.kinds_of[move.kind], move.quantity, move.order_id) for move in page.movements]
        self.assertEqual(moves[-1], ("ADJUSTED", 100, ""))
        self.assertEqual(page.movements[-1].reason, "test")
        self.assertEqual([kind for kind, _, order_id in moves[::-1] if order_id == ids[0]], ["RESERVED", "COMMITTED"])
        self.assertEqual([kind for kind, _, order_id in moves[::-1] if order_id == ids[1]], ["RESERVED", "RELEASED"])
        stock = self.adds_up("tea")
        sums = {kind: sum(n for of, n, _ in moves if of == kind) for kind in ("RESERVED", "COMMITTED", "RELEASED")}
        self.assertEqual(stock.committed, sums["COMMITTED"])
        self.assertEqual(stock.reserved, sums["RESERVED"] - sums["COMMITTED"] - sums["RELEASED"])
        self.order.ReturnOrder(order_id=ids[0], return_id="r", lines=[{"sku": "tea", "quantity": 1}])
        self.settled(ids[0])
        self.archived()
        newest = self.archive.ListStockMovements(sku="tea", page_size=1).movements[0]
        self.assertEqual((self.kinds_of[newest.kind], newest.quantity, newest.order_id), ("RETURNED", 1, ids[0]))

    @property
    def kinds_of(self):
        return {number: name[len("STOCK_MOVEMENT_KIND_"):] for name, number in self.kinds.items()}

    def exported(self, wanted):
        parts = list(self.archive.ExportOrders(filter={}))
        self.assertEqual([item.order.order_id for part in parts for item in part.orders], wanted)
        self.assertEqual([len(part.orders) for part in self.archive.ExportOrders(page_token=parts[-1].next_page_token)], [0])
        self.fails(grpc.StatusCode.INVALID_ARGUMENT,
                   lambda: list(self.archive.ExportOrders(filter={"sku": "tea"}, page_token=parts[-1].next_page_token)))

    def tool(self, ids):
        found = self.ctl("archive", "search", "--customer", "carol", "--format", "csv")
        rows = list(csv.DictReader(io.StringIO(found)))
        self.assertEqual([row["order_id"] for row in rows], ids[::-1])
        self.assertEqual(rows[-1]["labels"], "shop=north till=1")
        self.assertIn("Inventory holds every line.", self.ctl("archive", "show", ids[0]))
        self.assertIn("COMMITTED", self.ctl("archive", "movements", "tea"))
        exported = [json.loads(line) for line in self.ctl("archive", "export", "--label", "shop=north").splitlines()]
        self.assertEqual([item["order"]["order_id"] for item in exported], ids)
        both = self.ctl("archive", "export", "--since", "1h", "--status", "rejected", "--format", "csv")
        self.assertEqual(len(both.splitlines()), 2)

    def test_what_is_refused(self):
        refused = grpc.StatusCode.INVALID_ARGUMENT
        self.fails(refused, self.archive.SearchOrders, filter={"sku": "no such SKU"})
        self.fails(refused, self.archive.SearchOrders, filter={"label_value": "alone"})
        self.fails(refused, self.archive.SearchOrders, page_size=-1)
        self.fails(refused, self.archive.SearchOrders, page_token="made up")
        self.fails(refused, self.archive.ListStockMovements)
        self.fails(grpc.StatusCode.NOT_FOUND, self.archive.GetArchivedOrder, order_id="ord_" + "a" * 26)


    def page_by_page(self, page_size=50, token="", pages=None, **fields):
        """A customer's list as (order id, status), page by page; and the token behind so many pages."""
        found = []
        while pages != 0:
            page = self.order.ListOrders(page_size=page_size, page_token=token, **fields)
            self.assertLessEqual(len(page.orders), page_size)
            self.assertFalse(page.dropped)
            found += [(order.order_id, order.status) for order in page.orders]
            token = page.next_page_token
            pages = pages - 1 if pages else None
            if not token:
                break
        return found, token

    def drop(self, customer, order_ids):
        """What the order service does with orders that it drops."""
        ops = self.tandem.redis_as("ops")
        for order_id in order_ids:
            self.assertEqual(ops("HDEL", "order:{0}:orders", order_id), 1)
            placed = ops("ZSCORE", f"order:{{0}}:customer:{customer}", order_id)
            ops("ZREM", f"order:{{0}}:customer:{customer}", order_id)
            newest = max(int(placed), int(ops("GET", "order:{0}:dropped") or 0))
            ops("SET", "order:{0}:dropped", newest)

    def test_what_was_dropped(self):
        """The order service has some orders no more: reads go on as before, and what would change them is refused."""
        self.stock("old", 100)
        ids = self.places(12, "old", customer_id="dora", labels={"shop": "north"})
        self.order.ReturnOrder(order_id=ids[0], return_id="r1", lines=[{"sku": "old", "quantity": 1}], reason="broken")
        self.settled(ids[0])
        self.archived()
        dropped = [order_id for n, order_id in enumerate(ids) if n % 3 < 2 and n != 6]
        before = {order_id: self.get(order_id) for order_id in ids}
        self.assertEqual(len(before[ids[0]].returns), 1)
        whole, _ = self.page_by_page(customer_id="dora")
        self.assertCountEqual([order_id for order_id, _ in whole], ids)  # those of one millisecond in any order
        first, token = self.page_by_page(5, pages=1, customer_id="dora")
        self.drop("dora", dropped)
        for order_id in ids:
            self.assertEqual(self.get(order_id), before[order_id])
        for page_size in (1, 3, 50):
            self.assertEqual(self.page_by_page(page_size, customer_id="dora")[0], whole)
        for status in ("ORDER_STATUS_CONFIRMED", "ORDER_STATUS_CANCELLED", "ORDER_STATUS_RESERVED"):
            wanted = [item for item in whole if item[1] == self.status[status]]
            self.assertEqual(self.page_by_page(2, customer_id="dora", status=status)[0], wanted)
        # A token of before goes on where it did.
        self.assertEqual(first + self.page_by_page(5, token, customer_id="dora")[0], whole)
        self.cannot_be_changed(dropped[0], ids[2])
        self.assertEqual([item.order for item in self.order.WatchOrder(order_id=dropped[0])], [before[dropped[0]]])
        self.assertEqual(list(self.order.WatchOrder(order_id=dropped[0], after_version=before[dropped[0]].version)), [])
        explanation = self.order.ExplainOrder(order_id=dropped[1]).explanation
        self.assertEqual(explanation.order, before[dropped[1]])
        self.assertEqual(explanation.because, "CANCELLED: changed my mind.")
        kinds = [event.kind for event in explanation.events]
        self.assertEqual(kinds[0], "OrderPlaced")
        self.assertEqual(set(kinds), {"OrderPlaced", "InventoryReserved", "OrderReserved", "OrderCancelled", "InventoryReleased",
                                      "OrderSettled"})
        self.tool_shows(dropped[1], whole)
        self.archive_is_away(dropped[0], ids[2])

    def test_without_an_archive(self):
        """A gateway that is told that there is none."""
        gateway = self.tandem.gateway
        gateway.arguments = ["--archive-target="]
        try:
            with self.tandem.away("gateway"):
                pass
            order, _ = self.connect()
            self.fails(grpc.StatusCode.NOT_FOUND, order.GetOrder, order_id="ord_" + "a" * 26)
            self.fails(grpc.StatusCode.NOT_FOUND, order.CancelOrder, order_id="ord_" + "a" * 26)
            self.fails(grpc.StatusCode.UNIMPLEMENTED, self.stub_of("gateway").SearchOrders)
        finally:
            gateway.arguments = []
            with self.tandem.away("gateway"):
                pass
            tandem.until(self.answers, 20 * tandem.SLOW, "the archive is asked again")

    def found(self):
        return self.tandem.gateway.metric("grpc_client_handled_total", grpc_method="FindOrders")

    def test_what_was_placed_before(self):
        """Requests of which the order service does not know whether their order was dropped: the archive knows."""
        self.stock("again", 100)
        ops = self.tandem.redis_as("ops")
        fields = {"customer_id": "eve", "request_id": "first"}
        first = self.place("again", **fields, wait_for_decision=True)
        self.order.ConfirmOrder(order_id=first.order_id)
        first = self.settled(first.order_id)
        self.archived()
        before = ops("GET", "order:{0}:dropped_ids") or b""
        ops("SET", "order:{0}:dropped_ids", b"\xff" * (8 << 20))  # any id may have been used
        self.addCleanup(ops, "SET", "order:{0}:dropped_ids", before)
        self.drop("eve", [first.order_id])
        numbers = iter(range(1000))
        tandem.until(lambda: self.place("again", request_id=f"new {next(numbers)}") and self.found() > 0, 20 * tandem.SLOW,
                     "the archive is asked")
        self.assertEqual(self.place("again", **fields), first)
        self.fails(grpc.StatusCode.ALREADY_EXISTS, self.place, "again", 2, **fields)
        lines = [{"sku": "again", "quantity": 1}]
        batch = [{"lines": lines, "customer_id": "eve", "request_id": name} for name in ("first", "second", "second")]
        answer = self.order.BatchPlaceOrders(requests=batch)
        ids = [result.order.order_id for result in answer.orders]
        self.assertEqual((ids[0], ids[1] == ids[2], ids[0] == ids[1]), (first.order_id, True, False))
        # Who gives none is not kept waiting.
        asked = self.found()
        self.place("again")
        self.assertEqual(self.found(), asked)
        with self.tandem.away("archive"):
            self.fails(grpc.StatusCode.UNAVAILABLE, self.place, "again", request_id="third")
            self.fails(grpc.StatusCode.UNAVAILABLE, self.place, "again", **fields)
            self.place("again")
        tandem.until(self.answers, 20 * tandem.SLOW, "the archive is asked again")
        self.assertEqual(self.place("again", **fields), first)

    def cannot_be_changed(self, order_id, here):
        refused = grpc.StatusCode.FAILED_PRECONDITION
        for method, fields in (("ConfirmOrder", {}), ("CancelOrder", {}), ("ReturnOrder", {"return_id": "r2"}),
                               ("ExtendHold", {"hold_expire_time": self.get(here).hold_expire_time})):
            with self.subTest(method):
                error = self.fails(refused, getattr(self.order, method), order_id=order_id, **fields)
                self.assertIn("and archived: it cannot be changed any more", error.details())
        nobody = "ord_" + "a" * 26
        answer = self.order.BatchCancelOrders(requests=[{"order_id": one} for one in (order_id, nobody, here)])
        self.assertEqual([result.error.code for result in answer.orders],
                         [refused.value[0], grpc.StatusCode.NOT_FOUND.value[0], 0])
        self.fails(grpc.StatusCode.NOT_FOUND, self.order.GetOrder, order_id=nobody)

    def tool_shows(self, order_id, whole):
        self.assertIn("CANCELLED", self.ctl("order", "get", order_id))
        rows = [json.loads(line) for line in self.ctl("order", "list", "--json", "dora").splitlines()]
        self.assertEqual([row["order_id"] for row in rows], [listed for listed, _ in whole])
        text = self.ctl("explain", order_id)
        self.assertIn("The order was cancelled.", text)
        self.assertIn("Why:  CANCELLED: changed my mind.", text)
        explained = json.loads(self.ctl("explain", "--json", order_id))
        self.assertEqual(explained["order"]["order_id"], order_id)
        self.assertEqual(explained["reservation"], None)
        self.assertEqual(len(explained["events"]), 6)
        self.assertEqual(len(explained["trace_id"]), 32)

    def archive_is_away(self, dropped, here):
        """What needs it says so; what does not goes on."""
        away = grpc.StatusCode.UNAVAILABLE
        with self.tandem.away("archive"):
            error = self.fails(away, self.order.GetOrder, order_id=dropped)
            self.assertIn("the archive cannot be asked", error.details())
            self.fails(away, self.order.ConfirmOrder, order_id=dropped)
            self.fails(away, self.order.ListOrders, customer_id="dora")
            self.assertEqual(self.get(here).order_id, here)
            # What was placed behind all that was dropped.
            self.place("old", customer_id="dora", wait_for_decision=True)
            self.assertEqual(len(self.order.ListOrders(customer_id="dora", page_size=1).orders), 1)


class Audited(Archived):
    """tandemctl audit compares the orders in Redis with the archive."""

    def audited(self, code):
        """What is wrong, as (fault, subject); what is missing; and what the summary says of the archive."""
        env = {**self.tandem.env, "TANDEM_GATEWAY_LISTEN": f"127.0.0.1:{self.tandem.ports['gateway']}"}
        ran = subprocess.run([tandem.CTL, "audit", "--json", "--window", "300ms"], env=env, capture_output=True, text=True,
                             check=False)
        self.assertEqual(ran.returncode, code, ran.stdout + ran.stderr)
        *lines, summary = map(json.loads, ran.stdout.splitlines())
        return ({(line["violation"], line["order_id"]) for line in lines if "violation" in line},
                [line for line in lines if "archive_gap" in line], summary["archive"])

    def test_both_ways(self):
        self.stock("tea", 100)
        ids = self.places(7)
        self.archived()
        self.assertEqual(self.audited(0), (set(), [], {
            "orders": 7, "dropped": 0, "gaps": 0, "unreadable": 0, "in_flight": 0, "left_out": 0}))
        # Redis has lost one, and of another what happened last.
        ops = self.tandem.redis_as("ops")
        key, (lost, older) = "order:{0}:orders", (ids[1], ids[4])
        kept = {order_id: ops("HGET", key, order_id) for order_id in (lost, older)}
        ops("HDEL", key, lost)
        state, version, rest = kept[older].split(b" ", 2)
        ops("HSET", key, older, b" ".join((state, b"%d" % (int(version) - 1), rest)))
        found = self.audited(1)[0]
        self.assertEqual({row for row in found if row[0].startswith("archived")},
                         {("archived-not-stored", lost), ("archived-not-stored", older)})
        for order_id, text in kept.items():
            ops("HSET", key, order_id, text)
        # The archive has not got one, and of another not the last.
        self.tandem.archive.kill()
        database = glob.glob(os.path.join(self.tandem.env["TANDEM_VAR"], "archive.db"))[0]
        with contextlib.closing(sqlite3.connect(database)) as changed:
            changed.execute("UPDATE orders SET version = version - 1 WHERE order_id = ?", (ids[0],))
            changed.execute("DELETE FROM orders WHERE order_id = ?", (ids[3],))
            changed.commit()
        self.tandem.archive.start()
        self.tandem.archive.wait_ready()
        self.archived()
        self.assertEqual(self.audited(1)[0], {("archived-differs", ids[0]), ("not-archived", ids[3])})

    def test_what_is_missing_is_named(self):
        """What the streams had lost before it was archived is no fault of an order."""
        self.stock("cup", 100)
        self.archived()
        faults = self.audited(0 if not self.archive.SearchOrders().orders else 1)[0]
        self.tandem.archive.kill()
        gone = self.places(2, "cup")
        self.tandem.redis_as("ops")("XTRIM", tandem.ORDERS, "MAXLEN", 0)
        self.tandem.archive.start()
        self.tandem.archive.wait_ready()
        self.places(1, "cup")
        self.archived()
        found, gaps, archive = self.audited(1 if faults else 0)
        self.assertEqual(found, faults)
        self.assertFalse(set(gone) & {order_id for _, order_id in found})
        self.assertEqual([(gap["archive_gap"], gap["events"] > 0) for gap in gaps], [(tandem.ORDERS, True)])
        self.assertEqual(archive["gaps"], 1)


class Troubles(Archived):
    """Each of them leaves an archive in which nothing is missing and nothing is twice."""

    def database(self):
        return os.path.join(self.tandem.env["TANDEM_VAR"], "archive.db")

    def row(self, sql):
        with contextlib.closing(sqlite3.connect(self.database())) as database:
            return database.execute(sql).fetchone()

    def test_killed_again_and_again(self):
        self.stock("killed", 100000)
        with tandem.Loads([tandem.Load(self.order, "killed", "killed")]) as load:
            for _ in range(8):
                load.go_on(30)
                self.tandem.archive.kill()
                self.tandem.archive.start()
        self.tandem.archive.wait_ready()
        self.archived()
        self.assertEqual(len(self.searched(sku="killed", page_size=500)), len(load.placed))
        self.agrees(load.placed[::25])
        events, gone = self.row("SELECT SUM(events), (SELECT TOTAL(events) FROM gaps) FROM positions")
        self.assertEqual(events + gone, sum(map(self.written, STREAMS)))  # what another test has deleted is gone

    def test_the_disk_is_full(self):
        self.stock("full", 100)
        before = self.places(3, "full")
        self.archived()
        archive = self.tandem.archive
        limits = resource.prlimit(archive.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(archive.pid, resource.RLIMIT_FSIZE, (4096, limits[1]))
        during = self.places(3, "full")
        tandem.until(lambda: "storage: the database" in archive.get("/readyz")[1], 10 * tandem.SLOW, archive.get)
        database_up = lambda: archive.metric("tandem_archive_database_up")  # noqa: E731
        self.becomes(database_up, 0)
        self.tandem.gateway.wait_ready()
        self.assertFalse(self.is_archived())
        resource.prlimit(archive.pid, resource.RLIMIT_FSIZE, limits)
        archive.wait_ready()
        self.archived()
        self.becomes(database_up, 1)
        self.agrees([*before, *during])

    def test_an_older_copy(self):
        """It catches up as far as the streams reach, and says what it cannot know."""
        self.stock("copy", 100)
        first = self.places(3, "copy")
        self.archived()
        self.assertEqual(self.tandem.archive.terminate(), 0)
        shutil.copy(self.database(), self.database() + ".older")
        self.tandem.start("archive")
        second = self.places(4, "copy")
        self.archived()
        self.assertEqual(self.tandem.archive.terminate(), 0)
        for path in glob.glob(self.database() + "-*"):
            os.unlink(path)
        shutil.copy(self.database() + ".older", self.database())
        self.tandem.start("archive")
        self.archived()
        self.agrees([*first, *second])
        self.gaps_after([*first, *second])

    def gaps_after(self, ids):
        """The same once more, with streams that were trimmed in between."""
        self.assertEqual(self.tandem.archive.terminate(), 0)
        lost = self.places(3, "copy")
        self.tandem.redis_as("ops")("XTRIM", tandem.ORDERS, "MAXLEN", 2)
        kept = [event for event in self.events(tandem.ORDERS)]
        archived_before = int(self.row("SELECT id FROM positions WHERE stream LIKE 'order:%'")[0].split("-")[1])
        gone = self.written(tandem.ORDERS) - len(kept) - archived_before
        self.tandem.start("archive")
        self.archived()
        self.assertGreater(gone, 0)
        self.assertEqual(self.row("SELECT SUM(events) FROM gaps")[0], gone)
        self.becomes(lambda: self.tandem.archive.metric("tandem_archive_lost_events_total"), gone)
        self.assertIn("will never be archived", self.tandem.archive.text(1000))
        found = self.archive.GetArchivedOrder(order_id=lost[0])
        self.assertTrue(found.order.incomplete)
        self.assertEqual(found.order.order.order_id, lost[0])
        # Those before it are as they were.
        for order_id in ids:
            self.assertFalse(self.archive.GetArchivedOrder(order_id=order_id).order.incomplete)

    def test_what_cannot_be_read(self):
        ops = self.tandem.redis_as("ops")
        before = self.row("SELECT COUNT(*) FROM unreadable")[0]
        n = self.written(tandem.STOCK)
        last = tandem.pairs(ops("XINFO", "STREAM", tandem.STOCK))[b"last-generated-id"].decode()
        ops("XADD", tandem.STOCK, f"{int(last.split('-')[0]) + 1}-{n + 1}", "type", "x", "subject", "nobody", "seq", "1")
        self.archived()
        self.assertEqual(self.row("SELECT COUNT(*) FROM unreadable")[0], before + 1)
        self.assertEqual(self.row("SELECT SUM(events) FROM gaps WHERE stream LIKE 'inventory%'")[0], None)


class InPostgreSQL(Archived):
    """The archive is in a PostgreSQL of its own."""

    @classmethod
    def prepare(cls):
        cls.programs = sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1]
        cls.cluster = tempfile.mkdtemp(prefix="tandem-postgresql-")
        # Its server does not run as root.
        cls.owner = pwd.getpwnam("nobody") if os.getuid() == 0 else pwd.getpwuid(os.getuid())
        os.chown(cls.cluster, cls.owner.pw_uid, cls.owner.pw_gid)
        (cls.port,) = tandem.free_ports(1)
        cls.pg("initdb", "-D", cls.data(), "-U", "archive", "-A", "trust", "-N")
        cls.pg_start()
        cls.pg("createdb", "-h", "127.0.0.1", "-p", str(cls.port), "-U", "archive", "archive")
        cls.tandem.env["TANDEM_ARCHIVE_DATABASE"] = f"postgresql://archive@127.0.0.1:{cls.port}/archive"

    @classmethod
    def data(cls):
        return os.path.join(cls.cluster, "data")

    @classmethod
    def pg(cls, program, *arguments):
        def become():
            if os.getuid() == 0:
                os.setgroups([])
                os.setgid(cls.owner.pw_gid)
                os.setuid(cls.owner.pw_uid)

        done = subprocess.run([os.path.join(cls.programs, program), *arguments], preexec_fn=become, cwd=cls.cluster,
                              env={**os.environ, "HOME": cls.cluster, "LC_ALL": "C"}, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0, done.stdout

    @classmethod
    def pg_start(cls):
        settings = f"-p {cls.port} -k {cls.cluster} -c listen_addresses=127.0.0.1 -c fsync=off"
        cls.pg("pg_ctl", "-D", cls.data(), "-l", os.path.join(cls.cluster, "log"), "-w", "-o", settings, "start")

    @classmethod
    def pg_stop(cls):
        cls.pg("pg_ctl", "-D", cls.data(), "-m", "immediate", "-w", "stop")

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.pg_stop()
        shutil.rmtree(cls.cluster)


class PostgreSQL(InPostgreSQL):
    """The same there; it is stopped, and comes back."""

    test_what_is_asked = Answers.test_what_is_asked
    movements, exported, tool, kinds_of = Answers.movements, Answers.exported, Answers.tool, Answers.kinds_of

    def test_when_the_server_is_away(self):
        self.stock("away", 100000)
        before = self.places(3, "away")
        self.archived()
        archive = self.tandem.archive
        self.pg_stop()
        during = self.places(3, "away")
        back = time.monotonic() + AWAY_SECONDS
        while time.monotonic() < back:
            during += self.places(3, "away")
        tandem.until(lambda: "storage: the database" in archive.get("/readyz")[1], 10 * tandem.SLOW, archive.get)
        self.fails(grpc.StatusCode.UNAVAILABLE, self.archive.GetArchivedOrder, order_id=before[0])
        archive.kill()
        archive.start()  # while it is away
        self.pg_start()
        archive.wait_ready()
        self.archived()
        self.agrees([*before, *during])


class Release(Archived):
    """The archive says which orders may be dropped: settled ones, when they are old enough or too many."""

    STREAM = "archive:{0}:events"

    @classmethod
    def prepare(cls):
        cls.tandem.env["TANDEM_ARCHIVE_RELEASE_AFTER"] = "1h"
        cls.tandem.env["TANDEM_ARCHIVE_RELEASE_COUNT"] = "3"
        cls.tandem.env["TANDEM_ARCHIVE_RELEASE_MIN_AGE"] = "0"

    def released(self):
        return [event.subject for event in self.events(self.STREAM)]

    def test_the_oldest_of_too_many(self):
        self.stock("tea", 100)
        settled = [order_id for n, order_id in enumerate(self.places(9)) if n % 3 < 2]
        self.archived()
        tandem.until(lambda: len(self.released()) >= 3, 10 * tandem.SLOW, self.released)
        # Confirmed ones settle first, then the cancelled ones: by the time of their last event.
        by_age = sorted(settled, key=lambda order_id: self.life(order_id)[-1].time.ToNanoseconds())
        self.assertEqual(set(self.released()), set(by_age[:3]))
        for event in self.events(self.STREAM):
            self.assertEqual(event.type, "tandem.archive.v1.OrderArchived")
            self.assertEqual(event.seq, max(e.version for e in self.life(event.subject) if e.context == "order" and
                                            e.kind != "OrderDropped"))
        self.becomes(lambda: self.tandem.archive.metric("tandem_archive_released_orders_total"), 3)
        found = self.archive.FindOrders(order_ids=[*settled, "ord_" + "a" * 26])
        self.assertEqual(found.answered, 7)
        self.assertEqual([item.order.order.order_id for item in found.orders], settled)
        placed = self.protos.message("tandem.order.v1.OrderPlaced").FromString(found.orders[0].placed)
        self.assertEqual(placed.content.customer_id, found.orders[0].order.order.customer_id)
        self.assertEqual([line.sku for line in placed.content.lines], ["tea"])

        self.older_than_a_moment(settled)

    def older_than_a_moment(self, settled):
        """Those that were said before are said again, since a process that was started knows nothing of it."""
        archive = self.tandem.archive
        self.assertEqual(archive.terminate(), 0)
        archive.env["TANDEM_ARCHIVE_RELEASE_AFTER"], archive.env["TANDEM_ARCHIVE_RELEASE_COUNT"] = "100ms", "0"
        self.tandem.start("archive")
        tandem.until(lambda: set(self.released()) == set(settled), 10 * tandem.SLOW, self.released)

    def life(self, order_id):
        return self.archive.GetArchivedOrder(order_id=order_id).events


class Lost(Archived):
    """A master is lost, and its replica does not know that orders were dropped: they are there again, and are dropped again."""

    ENV = {"TANDEM_ARCHIVE_RELEASE_AFTER": "1s", "TANDEM_ARCHIVE_RELEASE_MIN_AGE": "1s", "TANDEM_ORDER_KEEP_AT_LEAST": "500ms"}

    def setUp(self):
        self.redis = self.tandem.redis_as("ops")

    def keys(self):
        return [key for key in self.redis("KEYS", "*:{0}:*") if not key.endswith(b":trail")]  # that nobody may change

    def stored(self):
        return {key: self.redis("DUMP", key) for key in self.keys()}

    def goes_back(self, stored):
        """To what was stored then; and the functions keep nothing in mind, as in another server."""
        functions = self.redis("FUNCTION", "DUMP")
        for key in self.keys():
            self.redis("DEL", key)
        for key, value in stored.items():
            self.redis("RESTORE", key, 0, value)
        self.redis("FUNCTION", "RESTORE", functions, "FLUSH")

    def there(self, order_ids):
        return [self.redis("HEXISTS", "order:{0}:orders", order_id) for order_id in order_ids]

    def are_dropped(self, order_ids):
        tandem.until(lambda: not any(self.there(order_ids)), 40 * tandem.SLOW, "they are dropped")
        self.archived()
        known = lambda: [item.order.dropped for item in self.archive.FindOrders(order_ids=order_ids).orders]  # noqa: E731
        tandem.until(lambda: known() == [True] * len(order_ids), 20 * tandem.SLOW, known)

    def audited(self):
        code, rows = self.tandem.ctl_json("audit")
        self.assertEqual((code, [row for row in rows if "violation" in row]), (0, []))

    def settled_without_archive(self, sku):
        """Orders that are settled, and what is stored then."""
        with self.tandem.away("archive"):
            ids = [order_id for n, order_id in enumerate(self.places(6, sku)) if n % 3 < 2]
            stored = self.stored()
        return ids, stored

    def test_nothing_comes_meanwhile(self):
        """The stream ends before what the archive has read."""
        self.stock("quiet", 100)
        ids, stored = self.settled_without_archive("quiet")
        self.are_dropped(ids)
        with self.tandem.away("order", "inventory"):
            self.goes_back(stored)
            self.assertEqual(self.there(ids), [1] * len(ids))
        self.are_dropped(ids)
        self.assertIn("the stream has lost that orders were dropped", self.tandem.archive.text(1000))
        self.audited()

    def test_the_stream_has_gone_on(self):
        self.stock("busy", 100)
        ids, stored = self.settled_without_archive("busy")
        self.are_dropped(ids)
        with self.tandem.away("archive"):
            with self.tandem.away("order", "inventory"):
                self.goes_back(stored)
                self.assertEqual(self.there(ids), [1] * len(ids))
            # Meanwhile something happens to one of them: what the archive reads last of it is not what it knew.
            self.order.ReturnOrder(order_id=ids[0], return_id="1", lines=[{"sku": "busy", "quantity": 1}])
            self.settled(ids[0])
            more = self.places(3, "busy")
        self.are_dropped(ids)
        found = self.archive.GetArchivedOrder(order_id=ids[0])
        self.assertEqual(len(found.order.order.returns), 1)
        self.are_dropped(more[:2])
        self.audited()


class LostInPostgreSQL(Lost, InPostgreSQL):
    pass


class Partitions(Archived):
    LAYOUT = (1, 0, 4)

    def test_a_position_in_each(self):
        self.stock("tea", 1000)
        self.stock("mug", 1000)
        ids = [order_id for n in range(6)
               for order_id in self.places(3, "tea" if n % 2 else "mug", customer_id=f"customer-{n}")]
        self.archived()
        self.agrees(ids[:0])
        for order_id in ids:
            life = self.archive.GetArchivedOrder(order_id=order_id)
            self.assertEqual(life.order.order.status, self.get(order_id).status)
        self.assertEqual({order.order_id for order in self.searched()}, set(ids))
        with contextlib.closing(sqlite3.connect(os.path.join(self.tandem.env["TANDEM_VAR"], "archive.db"))) as database:
            streams = {stream for stream, in database.execute("SELECT stream FROM positions WHERE id != '0-0'")}
        self.assertGreater(len(streams), 2)


if __name__ == "__main__":
    tandem.main()
