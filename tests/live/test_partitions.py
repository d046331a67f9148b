"""A store of several partitions, on one Redis."""
import unittest

import tandem


class Disagreements:
    """Data made by hand in a store of 8 partitions without services: what tandemctl says about it. For a class
    with a started `tandem`."""

    MS = "1700000000000"

    def setUp(self):
        self.ops = self.tandem.redis_as("ops")
        for context in tandem.CONTEXTS:
            self.write("SET", f"{context}:{{0}}:partitions", 8)

    def write(self, command, key, *arguments):
        self.ops(command, key, *arguments)
        self.addCleanup(self.ops, "DEL", key)

    def reservation(self, p, name, text):
        self.write("HSET", f"inventory:{{{p}}}:r", name, text)

    def part(self, q, name, text):
        self.write("HSET", f"inventory:{{{q}}}:parts", name, text)

    def stock(self, q, sku, *counters):
        self.write("HSET", f"inventory:{{{q}}}:stock", sku, " ".join(map(str, counters)))

    def audit(self, code, *arguments):
        """{(subject, partition): names of its violations}, and the summary."""
        ended, rows = self.tandem.ctl_json("audit", "--window", "1ms", *arguments)
        self.assertEqual(ended, code, rows)
        found = {}
        for row in rows[:-1]:
            place = row.get("order_id", row.get("sku")), row["partition"]
            found.setdefault(place, set()).add(row["violation"])
        return found, rows[-1]

    def test_each_disagreement_of_parts_is_named(self):
        held, sold, ended = "reservation-without-order", "sold-without-order", None
        rows = (
            # Reservation, {partition: part}, what is wrong besides that there is no order.
            ("RESERVED", {1: "RESERVED 0 a=1", 2: "RESERVED 0 b=2"}, held, set()),
            ("COMMITTED", {1: "COMMITTED 0 a=1", 2: "COMMITTED 0 b=2"}, sold, set()),
            ("RELEASED", {1: "RELEASED 0 ", 2: "UNAVAILABLE 0 b=2"}, ended, set()),
            ("RESERVED", {1: "RESERVED 0 a=1"}, held, {"part-missing"}),
            ("RESERVED", {1: "RESERVED 0 a=1", 2: "RELEASED 0 b=2"}, held, {"part-missing"}),
            ("COMMITTED", {1: "COMMITTED 0 a=1"}, sold, {"part-missing"}),
            ("RESERVED", {1: "COMMITTED 0 a=1", 2: "RESERVED 0 b=2"}, held, {"part-sold-unconfirmed"}),
            ("COMMITTED", {1: "COMMITTED 0 a=1", 2: "RESERVED 0 b=2"}, sold, {"part-not-sold"}),
            ("RELEASED", {1: "RELEASED 0 a=1", 2: "RESERVED 0 b=2"}, ended, {"part-held"}),
            ("UNAVAILABLE", {1: "COMMITTED 0 a=1"}, ended, {"part-sold"}),
            ("RESERVED", {1: "RESERVED 0 a=2", 2: "RESERVED 0 b=2"}, held, {"part-differs"}),
            ("RESERVED", {1: "RESERVED 0 a=1", 2: "RESERVED 0 b=2", 5: "RESERVED 0 c=1"}, held,
             {"part-without-record"}),
            (None, {5: "RESERVED 0 c=1"}, None, {"part-without-record"}),
            (None, {5: "COMMITTED 0 c=1"}, None, {"part-sold-without-record"}),
            (None, {5: "RELEASED 0 "}, None, set()),
            ("RESERVED", {1: "RESERVED 0 a=1", 2: "what"}, held, {"part-missing"}),
            # Counted last: of a part that cannot be read nobody knows whose it is.
        )
        expected, sums = {}, {}
        for number, (state, parts, without, wrong) in enumerate(rows):
            name = f"order-{number}"
            if state:
                self.reservation(0, name, f"{state} 1 {self.MS} a=1@1 b=2@2")
            for q, text in parts.items():
                word, _, rest = text.partition(" 0 ")
                self.part(q, name, f"{word} 0 {self.MS} {rest}" if rest or " 0 " in text else text)
                if word in ("RESERVED", "COMMITTED"):
                    sku, _, quantity = rest.partition("=")
                    sums.setdefault((q, sku), [0, 0])[word == "COMMITTED"] += int(quantity)
            wrong = wrong | ({without} if without else set())
            if "what" in parts.values():
                wrong = (wrong - {"part-missing"}) | {"part-damaged"}
                expected[name, 2] = {"part-damaged"}
            if wrong:
                expected[name, 0] = wrong
        for (q, sku), (reserved, committed) in sums.items():
            self.stock(q, sku, 10, reserved, committed, 10 + reserved + committed, 1)
        found, summary = self.audit(1)
        self.assertEqual(found, expected)
        self.assertEqual(summary["parts"], sum(len(parts) for _, parts, _, _ in rows))
        self.assertEqual(summary["partitions"], 8)

    def test_counters_are_compared_with_parts_and_whole_reservations(self):
        self.reservation(3, "whole", f"RESERVED 1 {self.MS} d=4")
        self.reservation(0, "split", f"RESERVED 1 {self.MS} d=3@3 e=1@0")
        self.part(3, "split", f"RESERVED 0 {self.MS} d=3")
        self.part(0, "split", f"RESERVED 0 {self.MS} e=1")
        self.stock(3, "d", 1, 7, 0, 8, 1)
        self.stock(0, "e", 1, 1, 0, 2, 1)
        without = {("whole", 3): {"reservation-without-order"}, ("split", 0): {"reservation-without-order"}}
        self.assertEqual(self.audit(1)[0], without)
        self.stock(3, "d", 4, 4, 0, 8, 1)
        self.stock(0, "e", 2, 0, 0, 2, 1)
        self.stock(7, "f", 2, 0, 0, 3, 1)
        wrong = {("d", 3): {"reserved-sum"}, ("e", 0): {"reserved-sum"}, ("f", 7): {"stock-sum"}}
        self.assertEqual(self.audit(1)[0], {**without, **wrong})
        # The whole one is released, the split one is left to a person, the counters become the sums.
        self.assertEqual(self.audit(1, "--repair-counters", "--yes")[0], {**without, **wrong})
        self.assertEqual(self.audit(1)[0], {("split", 0): {"reservation-without-order"}})
        self.assertEqual(self.ops("HGET", "inventory:{3}:stock", "d"), b"5 3 0 8 3")

    def test_contexts_with_different_partitions(self):
        self.write("SET", "inventory:{0}:partitions", 4)
        for command in (["audit"], ["events", "tail"], ["dead", "list"], ["explain", "ord_x"], ["doctor"]):
            ended = self.tandem.ctl(*command)
            self.assertEqual(ended.returncode, 3, command)
            self.assertIn("inventory:{0}:partitions is 4, and that of order is 8", ended.stderr)

    def test_dead_letters_are_named_by_partition(self):
        for p in (2, 6):
            self.write("DEL", f"inventory:{{{p}}}:events")
            self.write("XADD", f"order:{{{p}}}:dead", "5-1", "id", f"a{p}/1", "type", "t", "subject", f"a{p}",
                       "seq", 1, "data", "", "stream", f"inventory:{{{p}}}:events", "stream_id", "4-1",
                       "group", "order", "reason", "why", "deliveries", 8, "dead_time", "then")
        code, rows = self.tandem.ctl_json("dead", "list")
        self.assertEqual([(row["partition"], row["stream_id"]) for row in rows], [(2, "5-1"), (6, "5-1")])
        table = self.tandem.ctl("dead", "list").stdout
        self.assertIn("\n2/5-1 ", table)
        code, rows = self.tandem.ctl_json("dead", "show", "6/5-1")
        self.assertEqual([row["event_id"] for row in rows], ["a6/1"])
        self.assertEqual(self.tandem.ctl("dead", "show", "3/5-1").returncode, 1)
        code, rows = self.tandem.ctl_json("dead", "replay", "6/5-1")
        self.assertEqual((code, rows[0]["outcome"], rows[0]["partition"]), (0, "replayed to", 6))
        self.assertEqual(self.ops("XLEN", "inventory:{6}:events"), 1)
        code, rows = self.tandem.ctl_json("events", "tail", "--order", "a6")
        self.assertEqual([(row["partition"], row["event_id"]) for row in rows], [(6, "a6/1")])
        code, rows = self.tandem.ctl_json("dead", "discard", "--all", "--yes")
        self.assertEqual([(row["outcome"], row["partition"]) for row in rows], [("discarded", 2)])
        self.assertEqual(self.tandem.ctl("dead", "list").stdout, "no dead letters\n")


class OneRedis(Disagreements, unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.tandem = tandem.Tandem(layout=(1, 0, 8))
        cls.addClassCleanup(cls.tandem.remove)
        cls.addClassCleanup(cls.tandem.stop)
        cls.tandem.start("redis")


if __name__ == "__main__":
    tandem.main()
