"""The trail of what operators changed: each change has its entry, and nothing else has one."""
import getpass
import os
import re
import socket

import tandem

MS = "1700000000000"
FIELDS = ("who", "from", "action", "subject", "why", "result")
TRAILS = tuple(f"{context}:{{0}}:trail" for context in tandem.CONTEXTS)
WHO, FROM = f"{getpass.getuser()} as ops", socket.gethostname()


class Trail(tandem.Live):
    """What one did: `entered` lists what has come since it was last asked."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.ops = cls.tandem.redis_as("ops")

    def setUp(self):
        self.known = {trail: self.last(trail) for trail in self.trails()}

    def trails(self):
        return [
            f"{context}:{{{p}}}:trail" for p in range(self.tandem.partitions) for context in tandem.CONTEXTS
        ]

    def last(self, trail):
        entries = self.ops("XREVRANGE", trail, "+", "-", "COUNT", 1)
        return entries[0][0].decode() if entries else "0-0"

    def entered(self):
        """The new entries, by trail and then by time: (partition, action, subject, why, result). Who did it, and
        from where, was right."""
        found = []
        for trail in self.trails():
            for entry_id, flat in self.ops("XRANGE", trail, f"({self.known[trail]}", "+"):
                values = [value.decode() for value in flat]
                self.assertEqual(tuple(values[::2]), FIELDS)
                who, where, *rest = values[1::2]
                self.assertEqual((who, where), (WHO, FROM))
                found.append((int(trail.split("{")[1].split("}")[0]), *rest))
                self.known[trail] = entry_id.decode()
        return found

    def ctl(self, *args, code=0, env=None):
        ended = self.tandem.ctl(*args, env=env)
        self.assertEqual(ended.returncode, code, f"{args}: {ended.stdout}{ended.stderr}")
        return ended.stdout + ended.stderr

    def hold(self, context, key, *command):
        """Runs a command on a key, which is deleted afterwards."""
        self.ops(command[0], f"{context}:{key}", *command[1:])
        self.addCleanup(self.ops, "DEL", f"{context}:{key}")


class Operators(Trail):
    ENV = {"TANDEM_LOG_FORMAT": "json"}

    def test_stock(self):
        """By whoever calls: as who, from which address, and why; also in the log. What is refused is not there."""
        calls = (
            ({"sku": "t-apple", "delta": 5, "reason": "a lorry", "request_id": "one"}, "+5: available 5"),
            ({"sku": "t-apple", "delta": 5, "reason": "a lorry", "request_id": "one"}, None),
            ({"sku": "t-apple", "delta": -2}, "-2: available 3"),
        )
        for fields, _ in calls:
            self.inventory.AdjustStock(**fields)
        self.fails(tandem.grpc.StatusCode.FAILED_PRECONDITION, self.inventory.AdjustStock, sku="t-apple", delta=-9)
        self.ctl("stock", "adjust", "t-apple=+1", "--why", "found one")
        code, rows = self.tandem.ctl_json("trail", "--action", "stock", "--subject", "t-apple")
        self.assertEqual(code, 0)
        self.assertEqual(
            [(row["why"], row["result"].partition(", ")[0]) for row in rows],
            [("a lorry", "+5: available 5"), ("", "-2: available 3"), ("found one", "+1: available 4")],
        )
        for row in rows:
            self.assertEqual((row["who"], row["context"], row["action"]), ("anonymous", "inventory", "stock.adjust"))
            self.assertIn("127.0.0.1", row["from"])
        lines = [line for line in self.tandem.inventory.text(1000).splitlines() if "operator changed stock" in line]
        lines = [line for line in lines if "t-apple" in line]
        self.assertEqual(len(lines), 3, lines)
        for line, row in zip(lines, rows):
            for text in (row["who"], row["from"], row["why"]):
                self.assertIn(text, line)

    def dead_letter(self, entry_id):
        self.hold("order", "{0}:dead", "XADD", entry_id, "id", "a/1", "type", "t", "subject", "a", "seq", 1,
                  "data", "", "stream", tandem.STOCK, "stream_id", "4-1", "group", "order", "reason", "broken",
                  "deliveries", 8, "dead_time", "then")

    def test_dead_letters(self):
        for number in (5, 6, 7):
            self.dead_letter(f"{number}-1")
        self.assertIn("--why is needed", self.ctl("dead", "discard", "5-1", code=2))
        self.assertIn("--why is needed", self.ctl("dead", "discard", "--all", "--yes", code=2))
        self.ctl("dead", "discard", "--all", "--dry-run")
        self.ctl("dead", "replay", "--all", "--dry-run")
        self.assertEqual(self.ops("XLEN", "order:{0}:dead"), 3)
        self.assertEqual(self.entered(), [])
        self.ctl("dead", "discard", "5-1", "--why", "made by hand")
        self.ctl("dead", "discard", "5-1", "--why", "made by hand", code=1)
        self.assertEqual(self.entered(), [(
            0, "dead.discard", "a", "made by hand", f"dead letter 5-1: t a/1 of {tandem.STOCK}, failed: broken"
        )])
        self.ctl("dead", "replay", "6-1")
        ((_, action, subject, why, result),) = self.entered()
        self.assertEqual((action, subject, why), ("dead.replay", "a", ""))
        self.assertRegex(result, rf"^dead letter 6-1 is \d+-\d+ of {re.escape(tandem.STOCK)} now$")
        self.ctl("dead", "discard", "--all", "--yes", "--why", "all of it")
        self.assertEqual([row[1:4] for row in self.entered()][0], ("dead.discard", "a", "all of it"))

    def test_repairs(self):
        """Each kind of repair that lies in one partition."""
        self.stock("t-pear", 10)
        open_order = self.place("t-pear", 2, wait_for_decision=True, hold={"seconds": 3600}).order_id
        self.caught_up()
        self.setUp()
        due = self.ops("ZSCORE", "order:{0}:timers", open_order).decode()
        self.ops("ZREM", "order:{0}:timers", open_order)
        self.ops("ZADD", "order:{0}:timers", "9999999999999", "nobody")
        self.ops("HSET", "inventory:{0}:r", "lonely", f"RESERVED 1 {MS} t-pear=3")
        counters = self.ops("HGET", "inventory:{0}:stock", "t-pear").decode().split()
        wrong = " ".join(["5", "4", "1", *counters[3:]])
        right = f"5 5 0 10 {int(counters[4]) + 1}"
        self.ops("HSET", "inventory:{0}:stock", "t-pear", wrong)
        # Seen, and not repaired.
        self.ctl("audit", "--window", "10ms", code=1)
        self.assertEqual(self.entered(), [])
        self.ctl("audit", "--window", "10ms", "--repair-counters", "--yes", "--why", "rehearsal", code=1)
        found = self.entered()
        self.assertEqual({row[:2] + row[3:4] for row in found}, {(0, "repair", "rehearsal")})
        self.assertEqual({(row[2], row[4]) for row in found}, {
            (open_order, f"no-timer: timer set to {due}"),
            ("nobody", "timer-without-order: timer removed"),
            ("lonely", "reservation-without-order: reservation RESERVED to RELEASED"),
            ("t-pear", f"reserved-sum: counters {wrong} to {right}"),
        })
        self.ctl("audit", "--window", "10ms")
        self.assertEqual(self.entered(), [])

    def test_groups(self):
        self.ops("XGROUP", "CREATE", tandem.ORDERS, "billing", "0")
        for command in ("exclude", "remove"):
            self.assertIn("--why is needed", self.ctl("groups", command, "order", "billing", code=2))
        self.assertIn("inventory reads the stream of order", self.ctl(
            "groups", "remove", "order", "inventory", "--why", "by mistake", code=1))
        self.assertIn("whose stream", self.ctl("groups", "include", "orders", "billing", code=2))
        self.assertEqual(self.entered(), [])
        excluded = "order:{0}:excluded_groups"
        for command, why, there, result in (
            ("exclude", "off until May", [b"billing"], "it may miss events"),
            ("include", "", [], "it holds back trimming again"),
            ("remove", "gone", [], "it had read up to 0-0"),
        ):
            options = ["--why", why] if why else []
            self.ctl("groups", command, "order", "billing", *options)
            self.assertEqual(self.ops("SMEMBERS", excluded), there)
            self.assertEqual(self.entered(), [(0, f"groups.{command}", "billing", why, result)])
            self.ctl("groups", command, "order", "billing", *options, code=1)
            self.assertEqual(self.entered(), [])
        groups = [tandem.pairs(group)[b"name"] for group in self.ops("XINFO", "GROUPS", tandem.ORDERS)]
        self.assertEqual(groups, [b"archive", b"inventory"])

    def test_functions(self):
        """That they were loaded when this began stands there; loading what is there changes nothing."""
        loaded = {
            row["context"]: row["subject"]
            for row in self.tandem.ctl_json("trail", "--action", "functions.load")[1]
        }
        self.assertEqual(loaded, {context: self.tandem.library(context) for context in tandem.CONTEXTS})
        self.ctl("functions", "load")
        self.assertEqual(self.entered(), [])
        library = b"#!lua name=order_0ld\nredis.register_function('order_old', function() end)"
        self.ops("FUNCTION", "LOAD", library)
        self.ctl("functions", "prune", "--why", "upgraded")
        self.assertEqual(self.entered(), [(0, "functions.prune", "order_0ld", "upgraded", "on every master")])
        self.assertEqual(self.ops("FUNCTION", "LIST", "LIBRARYNAME", "order_0ld"), [])
        self.ctl("functions", "prune")
        self.assertEqual(self.entered(), [])

    def test_list(self):
        """By time, over both contexts; only what is asked for; nothing that a terminal would act on."""
        self.stock("t-fig", 1)
        self.ctl("groups", "exclude", "order", "listed", "--why", "a\x1b[31m")
        self.stock("t-fig", 2)
        self.ctl("groups", "include", "order", "listed")
        code, rows = self.tandem.ctl_json("trail", "--since", "1h")
        ids = [tuple(map(int, row["stream_id"].split("-"))) for row in rows]
        self.assertEqual((code, ids), (0, sorted(ids)))
        self.assertEqual([row["action"] for row in rows[-4:]],
                         ["stock.adjust", "groups.exclude", "stock.adjust", "groups.include"])
        for options, expected in (
            (["--context", "order", "--subject", "listed"], ["groups.exclude", "groups.include"]),
            (["--action", "groups", "--subject", "listed"], ["groups.exclude", "groups.include"]),
            (["--action", "groups.include", "--subject", "listed"], ["groups.include"]),
            (["--action", "group"], []),
            (["--since", "1h", "--limit", "2"], ["stock.adjust", "groups.include"]),
            (["--subject", "nobody"], []),
        ):
            self.assertEqual([row["action"] for row in self.tandem.ctl_json("trail", *options)[1]], expected, options)
        table = self.ctl("trail", "--limit", "3")
        self.assertIn("older ones are not shown: --limit", table)
        self.assertNotIn("--limit", self.ctl("trail", "--limit", "3", "--json"))  # a page that asks has no options
        self.assertRegex(table, r"(?m)^TIME +WHO +FROM +ACTION +SUBJECT +WHY +RESULT$")
        self.assertIn("a\\x1b[31m", table)
        self.assertEqual(self.ctl("trail", "--subject", "nobody"), "no changes\n")
        for bad in (["--since", "soon"], ["--context", "X"], ["--limit", "0"], ["x"]):
            self.ctl("trail", *bad, code=2)
        self.assertIn("--why: 1 to 256 bytes", self.ctl("groups", "include", "order", "x", "--why", "y" * 257, code=2))
        # Whoever may read may read this.
        self.ctl("trail", env={"TANDEM_VAR": "/nonexistent"})

    def test_who(self):
        """Over ssh the client's address is told, behind sudo who called it."""
        env = {"SSH_CONNECTION": "10.1.2.3 5000 10.0.0.1 22", "SUDO_USER": "carol"}
        self.ctl("groups", "exclude", "order", "from-afar", "--why", "w", env=env)
        (row,) = self.tandem.ctl_json("trail", "--subject", "from-afar")[1]
        sudo = " (sudo by carol)" if os.getuid() == 0 else ""
        self.assertEqual(row["who"], f"{getpass.getuser()}{sudo} as ops")
        self.assertEqual(row["from"], f"{FROM} (ssh from 10.1.2.3)")

    def test_nobody_takes_out_of_it(self):
        """Users add to a trail; none deletes from it, and none is hindered elsewhere."""
        for user in ("ops", *tandem.CONTEXTS):
            redis = self.tandem.redis_as(user)
            for trail in TRAILS:
                own = user == "ops" or trail.startswith(user)
                for command in (
                    ("DEL", trail), ("UNLINK", trail), ("XDEL", trail, "1-1"), ("XTRIM", trail, "MAXLEN", 0),
                    ("RENAME", trail, "other"), ("SET", trail, 1), ("XSETID", trail, "9-9"),
                    ("XGROUP", "CREATE", trail, "g", 0), *([] if own else [("XADD", trail, "*", "a", "b")]),
                ):
                    with self.subTest(user=user, command=command), self.assertRaisesRegex(tandem.RedisError, "NOPERM"):
                        redis(*command)
        ops = self.tandem.redis_as("ops")
        # Names that look like one: a customer and a request may be called so.
        for key in ("order:{0}:customer:x:trail", "inventory:{0}:adjust:tea:trail", "order:{0}:tr",
                    "other:trial", "order:{0}:trails"):
            ops("SET", key, 1)
            self.assertEqual(ops("DEL", key), 1)
        self.stock("t-tea", 5)
        fields = {"customer_id": "x:trail", "lines": [{"sku": "t-tea", "quantity": 1}], "request_id": "trail"}
        order = self.order.PlaceOrder(**fields, wait_for_decision=True).order
        self.assertEqual(self.name(order), "RESERVED")
        self.assertEqual([found.order_id for found in self.listed("x:trail")], [order.order_id])
        self.inventory.AdjustStock(sku="t-tea", delta=1, request_id="trail")
        rows = {row["check"]: row["result"] for row in self.tandem.doctor()}
        self.assertEqual(rows["users"], "ok")


class Partitions(Trail):
    """An entry is in the partition that was changed."""

    LAYOUT = (1, 0, 8)

    def test_repairs_of_split_orders(self):
        skus = {}
        for n in range(100):
            skus.setdefault(tandem.partition_of(f"sku-{n}", 8), f"sku-{n}")
        for q in (2, 5):
            self.inventory.AdjustStock(sku=skus[q], delta=10)
        lines = [{"sku": skus[q], "quantity": 1} for q in (2, 5)]
        order_id = self.order.PlaceOrder(customer_id="c", lines=lines, wait_for_decision=True).order.order_id
        self.caught_up()
        self.setUp()
        home = tandem.partition_of("c", 8)
        # A part that is lost is held again.
        part = self.ops("HGET", "inventory:{2}:parts", order_id)
        counters = list(map(int, self.ops("HGET", "inventory:{2}:stock", skus[2]).split()))
        self.ops("HDEL", "inventory:{2}:parts", order_id)
        free = [counters[0] + 1, counters[1] - 1, *counters[2:4], counters[4] + 1]
        self.ops("HSET", "inventory:{2}:stock", skus[2], " ".join(map(str, free)))
        self.ctl("audit", "--window", "10ms", "--repair", "--yes", code=1)
        self.assertEqual(self.entered(), [(2, "repair", order_id, "", "part-missing: part is RESERVED")])
        self.assertEqual(self.ops("HGET", "inventory:{2}:parts", order_id).split()[:2], part.split()[:2])
        # What is held for nobody is released: first the parts, then the record.
        other = next(n for n in range(8) if n not in (2, 5, home))
        self.ops("HSET", f"inventory:{{{other}}}:r", "lonely", f"RESERVED 1 {MS} {skus[5]}=1@5")
        self.ops("HSET", "inventory:{5}:parts", "lonely", f"RESERVED {other} {MS} {skus[5]}=1")
        counters = list(map(int, self.ops("HGET", "inventory:{5}:stock", skus[5]).split()))
        held = [counters[0] - 1, counters[1] + 1, *counters[2:4], counters[4] + 1]
        self.ops("HSET", "inventory:{5}:stock", skus[5], " ".join(map(str, held)))
        self.ctl("audit", "--window", "10ms", "--repair", "--yes", "--why", "lost", code=1)
        without = "reservation-without-order: "
        self.assertEqual(sorted(self.entered()), sorted([
            (5, "repair", "lonely", "lost", f"{without}part is RELEASED"),
            (other, "repair", "lonely", "lost", f"{without}reservation RESERVED to RELEASED"),
        ]))
        self.ctl("audit", "--window", "10ms")

    def test_groups_of_every_partition(self):
        self.ctl("groups", "exclude", "inventory", "mine", "--why", "w")
        self.assertEqual(self.entered(), [
            (p, "groups.exclude", "mine", "w", "it may miss events") for p in range(8)
        ])
        code, rows = self.tandem.ctl_json("trail", "--subject", "mine")
        self.assertEqual(sorted(row["partition"] for row in rows), list(range(8)))


if __name__ == "__main__":
    tandem.main()
