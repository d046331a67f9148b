"""Redis as a cluster: slots, users, functions, and nodes that come back."""
import json
import os
import re
import signal
import subprocess
import unittest
import urllib.request

import grpc
import tandem
import test_examples
import test_partitions
import test_scripts


class Nodes(test_partitions.Disagreements, unittest.TestCase):
    """The processes of Redis alone, three masters with a replica each."""

    PARTITIONS = 8

    @classmethod
    def setUpClass(cls):
        cls.tandem = tandem.Tandem(layout=(3, 1, cls.PARTITIONS))
        cls.addClassCleanup(cls.tandem.remove)
        cls.addClassCleanup(cls.tandem.stop)
        cls.names = [node.name for node in cls.tandem.nodes]
        cls.tandem.start(*cls.names)

    def node(self, name, user=None):
        """A connection to one node."""
        port = self.tandem.redis_port + self.names.index(name)
        if user is None:
            return tandem.Redis(port)
        with open(os.path.join(self.tandem.env["TANDEM_VAR"], "secrets", user)) as secret:
            return tandem.Redis(port, user, secret.read().strip())

    def masters(self):
        """{port of a master: (ranges of slots, ports of its replicas)}, as the first node sees them. It lists a
        replica from its first report of what it has on."""

        def slots():
            rows = self.node("redis-1")("CLUSTER", "SLOTS")
            return all(len(row) > 3 for row in rows) and rows

        found = {}
        for first, last, master, *replicas in tandem.until(slots, 20 * tandem.SLOW, "replicas listed"):
            ranges, _ = found.setdefault(master[1], ([], {node[1] for node in replicas}))
            ranges.append((first, last))
        return found

    def test_each_master_has_a_third_of_the_partitions_and_one_range(self):
        redis = self.node("redis-1")
        slots = [redis("CLUSTER", "KEYSLOT", f"order:{{{p}}}:orders") for p in range(self.PARTITIONS)]
        counts = []
        for ranges, replicas in self.masters().values():
            self.assertEqual(len(ranges), 1)
            self.assertEqual(len(replicas), 1)
            counts.append(sum(first <= slot <= last for slot in slots for first, last in ranges))
        self.assertEqual(sorted(counts), [2, 3, 3])
        self.assertEqual(sum(last - first + 1 for (((first, last),), _) in self.masters().values()), 16384)

    def test_every_node_has_the_functions_and_the_users(self):
        for name in self.names:
            with self.subTest(node=name):
                libraries = {
                    tandem.pairs(library)[b"library_name"].decode()
                    for library in self.node(name, "ops")("FUNCTION", "LIST")
                }
                self.assertEqual(libraries, {self.tandem.library(context) for context in tandem.CONTEXTS})
                self.assertTrue(self.node(name, "order")("CLUSTER", "SLOTS"))
                for user in (None, "order"):
                    with self.assertRaisesRegex(tandem.RedisError, "^NOPERM"):
                        self.node(name, user)("ASKING")
                with self.assertRaisesRegex(tandem.RedisError, "^NOPERM"):
                    self.node(name)("SET", "order:{0}:x", "1")
                with self.assertRaisesRegex(tandem.RedisError, "^NOPERM"):
                    self.node(name, "replica")("GET", "order:{0}:x")

    def test_doctor_looks_at_each_node(self):
        rows = self.tandem.doctor()
        bad = [row for row in rows if row["result"] != "ok" and row["check"] not in tandem.SERVICES]
        nothing_yet = ["%s:{%d}:events" % (name, p) for name in tandem.CONTEXTS for p in range(8)]
        self.assertEqual([row for row in bad if row["check"] not in nothing_yet], [])
        nodes = {f"127.0.0.1:{self.tandem.redis_port + n}" for n in range(6)}
        for check in ("cluster", "redis role", "users", "aof-load-truncated", "redis memory"):
            self.assertEqual({row["node"] for row in rows if row["check"] == check}, nodes, check)
        (slots,) = [row for row in rows if row["check"] == "slots"]
        self.assertEqual(slots["detail"], "8 partitions on 3 masters, 2 to 3 on each")
        self.assertIn("127.0.0.1:", self.tandem.ctl("doctor").stdout)
        # A master without the functions.
        port = max(self.masters())
        master = self.node(self.names[port - self.tandem.redis_port], "ops")
        master("FUNCTION", "DELETE", self.tandem.library("order"))
        rows = [row for row in self.tandem.doctor() if row["check"] == "functions of order"]
        self.assertEqual([row["result"] for row in rows], ["bad"])
        self.assertIn("is loaded on 2 of the masters only", rows[0]["detail"])
        self.assertEqual(self.tandem.ctl("functions", "load").returncode, 0)
        rows = [row for row in self.tandem.doctor() if row["check"] == "functions of order"]
        self.assertEqual([row["result"] for row in rows], ["ok"])

    def test_no_function_begins_in_a_slot_that_migrates(self):
        """Behind its first writes it could fail at a key that is not there."""
        source, *others = self.tandem.serving(0)
        target = next(n for n in range(6) if n not in (source, *others) and self.tandem.is_master(n))
        ops = self.tandem.node(source)
        for context in tandem.CONTEXTS:
            ops("XADD", f"{context}:{{0}}:events", "*", "tandem.test.v1.Happened", "a/1")
        names = [
            tandem.pairs(function)[b"name"].decode()
            for library in ops("FUNCTION", "LIST")
            for function in tandem.pairs(library)[b"functions"]
        ]
        self.assertGreater(len(names), 20)
        keys = ops("DBSIZE")
        end = self.tandem.begin_migration(0, target)
        self.addCleanup(end)
        for name in names:
            with self.subTest(function=name), self.assertRaisesRegex(tandem.RedisError, "non local key"):
                ops("FCALL", name, 1, f"{name.partition('_')[0]}:{{0}}:events")
        self.assertEqual(ops("DBSIZE"), keys)
        self.assertEqual(end(), 0)
        version = next(name for name in names if name.startswith("inventory_version_"))
        answer = ops("FCALL", version, 1, "inventory:{0}:events")
        self.assertEqual(answer.decode(), version.rpartition("_")[2])
        for context in tandem.CONTEXTS:
            ops("DEL", f"{context}:{{0}}:events")

    def test_what_was_noted_without_a_cluster_is_not_trusted(self):
        """There, what is reserved in one step is not noted for reconciliations."""
        ops, prefix = self.tandem.node(self.tandem.serving(0)[0]), "inventory:{0}:"
        state = next(
            name for library in ops("FUNCTION", "LIST")
            for function in tandem.pairs(library)[b"functions"]
            if (name := tandem.pairs(function)[b"name"].decode()).startswith("inventory_state_")
        )
        self.addCleanup(ops, "DEL", prefix + "alive", prefix + "r")
        ops("HSET", prefix + "r", "ord_1", "RELEASED 1 5 tea=1@2")

        def edge(now, **noted):
            for field, value in noted.items():
                ops("HSET", prefix + "alive", field, value)
            ops("FCALL", state, 1, prefix + "events", now, "0", "", "")
            return int(ops("HGET", prefix + "alive", "edge"))

        self.assertEqual(edge(1000000), 1005000)
        self.assertEqual(edge(1001000, edge="7"), 7)
        self.assertEqual(edge(1002000, cluster="0"), 1007000)
        self.assertEqual(edge(1003000), 1007000)

    def test_a_master_killed_comes_back_as_a_replica_with_everything(self):
        ops = self.tandem.redis_as("ops")
        for p in range(self.PARTITIONS):
            ops("SET", f"order:{{{p}}}:kept", p)
        first = self.tandem.redis_port
        before = self.masters()
        victim = self.names[min(before) - first]
        (replica,) = before[min(before)][1]
        self.node(victim, "ops")("WAIT", "1", "5000")
        self.tandem.processes[victim].kill()

        def promoted():
            text = self.node(self.names[replica - first])("CLUSTER", "INFO")
            role = self.node(self.names[replica - first], "ops")("ROLE")[0]
            return role == b"master" and b"cluster_state:ok" in text

        tandem.until(promoted, 20 * tandem.SLOW, "its replica took over")
        # Waits until it follows.
        self.tandem.processes[victim].start()
        self.assertEqual(self.node(victim, "ops")("ROLE")[0], b"slave")
        self.assertEqual(
            {port: ranges for port, (ranges, _) in self.masters().items()},
            {replica if port == min(before) else port: ranges for port, (ranges, _) in before.items()},
        )
        ops = self.tandem.redis_as("ops")
        kept = [int(ops("GET", f"order:{{{p}}}:kept")) for p in range(self.PARTITIONS)]
        self.assertEqual(kept, list(range(self.PARTITIONS)))


class Scripted(unittest.TestCase):
    """scripts/up --cluster, as people use it."""

    @classmethod
    def setUpClass(cls):
        cls.protos = tandem.Protos()
        names = cls.protos.enum("tandem.order.v1.OrderStatus").items()
        cls.status_names = {number: name[13:] for name, number in names}

    def up(self, copy):
        code, text, _ = copy.run("up", "--detach", "--cluster")
        self.assertEqual(code, 0, text)
        return text

    def ctl(self, copy, *arguments):
        ended = subprocess.run([tandem.CTL, *arguments, "--json"], env=copy.env, capture_output=True, text=True)
        return ended.returncode, [json.loads(line) for line in ended.stdout.splitlines()]

    def look(self, copy, number):
        """The page has its answers in a cluster, too."""
        for path in (f"order?id={number}", "orders?customer=first-order", "events?count=50&context=order", "stock", "sku?sku=tea",
                     "holders?sku=sku-1", "streams", "aside", "dead", "doctor", "audit", "trail"):
            with urllib.request.urlopen(f"http://127.0.0.1:{copy.ports['console']}/api/{path}", timeout=60 * tandem.SLOW) as answer:
                found = json.load(answer)
            self.assertEqual((found["said"], found["code"]), ("", 0), path)
            self.assertEqual(bool(found["items"]), path not in ("aside", "dead"), path)

    def read_by_a_subscriber(self, copy, order_ids):
        """examples/python reads the streams of all partitions, wherever they are."""
        env = {**copy.env, "TANDEM_REDIS": f"cluster://127.0.0.1:{copy.ports['redis']}", "TANDEM_PARTITIONS": "8"}
        secret = os.path.join(copy.var, "secrets", "subscriber")
        printed = test_examples.Printed([test_examples.RUN, "python-subscriber", secret], env)
        try:
            tandem.until(lambda: order_ids <= {line.split()[1] for line in printed.lines}, 60 * tandem.SLOW,
                         lambda: f"all of {order_ids}: {printed.lines}")
        finally:
            printed.end()

    def test_orders_and_a_node_that_is_killed(self):
        copy = test_scripts.Copy()
        self.addCleanup(copy.remove)
        copy.ports["redis"] = tandem.free_range(6)
        copy.env["TANDEM_REDIS_PORT"] = str(copy.ports["redis"])
        copy.users(test_scripts.mailer())
        text = self.up(copy)
        for word in ("store      empty", "RESERVED", "CONFIRMED", "settled", "redis-6    started"):
            self.assertIn(word, text)
        with grpc.insecure_channel(f"127.0.0.1:{copy.ports['gateway']}") as channel:
            order = self.protos.stub(channel, tandem.ORDER_SERVICE)
            inventory = self.protos.stub(channel, tandem.INVENTORY_SERVICE)
            inventory.AdjustStock(sku="tea", delta=1, reason="test", request_id="more")
            # The first order is there, too.
            first = order.ListOrders(customer_id="first-order").orders
            self.assertEqual([self.status_names[found.status] for found in first], ["CONFIRMED"])

            def ctl(*arguments):
                code, rows = self.ctl(copy, *arguments)
                if arguments == ("audit",):
                    rows[-1]["orders"] -= 1
                return code, rows

            test_partitions.follow_orders(self, order, inventory, ctl)
            with open(os.path.join(copy.var, "run", "redis-2.pid")) as file:
                killed = int(file.read())
            os.kill(killed, signal.SIGKILL)
            text = self.up(copy)
            self.assertIn("nothing is added", text)
            self.assertRegex(text, r"redis-2 +started")
            self.assertEqual(len(re.findall(r"started", text)), 1, text)
            for number in range(6):
                # A user of one's own is on each node, also on one that was started again.
                self.assertEqual(copy.mailer(copy.ports["redis"] + number)("PING"), b"PONG")
            placed = [
                order.PlaceOrder(
                    customer_id=f"later-{n}",
                    lines=[{"sku": "sku-1", "quantity": 1}, {"sku": "sku-2", "quantity": 1}],
                    wait_for_decision=True,
                    _timeout=30 * tandem.SLOW,
                    _wait_for_ready=True,
                ).order
                for n in range(16)
            ]
            self.assertEqual({self.status_names[found.status] for found in placed}, {"RESERVED"})
        self.look(copy, placed[0].order_id)
        code, rows = self.ctl(copy, "audit")
        self.assertEqual((code, rows[-1]["violations"]), (0, 0), rows)
        wrong = lambda: [row for row in self.ctl(copy, "doctor")[1] if row["result"] != "ok"]  # noqa: E731
        tandem.until(lambda: not wrong(), 20 * tandem.SLOW, wrong)
        self.read_by_a_subscriber(copy, {order.order_id for order in placed})
        code, text, _ = copy.run("down")
        self.assertEqual(code, 0, text)
        self.assertEqual(len(re.findall(r"stopped, pid", text)), 6 + len(tandem.CONTEXTS) + 2, text)
        self.assertNotIn("killed", text)


if __name__ == "__main__":
    tandem.main()
