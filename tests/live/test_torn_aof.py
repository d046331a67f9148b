"""Redis's file, cut in the middle of a transaction, as after a power cut.

Redis 7.0 alone loads such a file, appends behind the half transaction, and at the next start loses what
it acknowledged meanwhile. Our start repairs the file first: the cut transaction is removed whole, and
what is written later stays. Every cut starts Redis twice; TANDEM_TORN_CUTS is the number of cuts (12).
"""
import os
import shutil

import tandem

CUTS = int(os.environ.get("TANDEM_TORN_CUTS", "12"))


class Torn(tandem.Live):
    ENV = {"TANDEM_REDIS_APPENDFSYNC": "always"}

    def setUp(self):
        self.folder = os.path.join(self.tandem.env["TANDEM_VAR"], "redis", "appendonlydir")
        self.kept = os.path.join(self.tandem.folder, "kept")
        self.stock("torn", 1000)
        self.decided([self.place("torn", customer_id=f"c{n}").order_id for n in range(30)])
        for name in ("gateway", "order", "inventory", "redis"):
            self.assertEqual(self.tandem.processes[name].terminate(), 0)
        shutil.copytree(self.folder, self.kept)
        self.file = os.path.join(
            self.folder, max(name for name in os.listdir(self.folder) if ".incr." in name)
        )
        with open(self.file, "rb") as file:
            self.whole = file.read()

    def start_redis(self, data=None):
        if data is not None:
            shutil.rmtree(self.folder)
            shutil.copytree(self.kept, self.folder)
            with open(self.file, "wb") as file:
                file.write(data)
        self.tandem.redis.start()
        return self.tandem.redis_as("ops")

    def check_whole(self, redis):
        """No order without its event, no event without its order: each transaction is there as a whole
        or not at all. Returns the number of orders."""
        orders = tandem.pairs(redis("HGETALL", tandem.Record.KEY))
        events = self.events(tandem.ORDERS)
        placed = {event.subject.encode() for event in events if event.name == "OrderPlaced"}
        self.assertEqual(set(orders), placed)
        for text in orders.values():
            self.assertIn(tandem.Record.read(text).state, (b"PENDING", b"RESERVED"))
        return len(orders)

    def test_cut_anywhere(self):
        # Evenly through the last transactions, and at each of the last 8 bytes.
        size = len(self.whole)
        first = self.whole.rindex(b"\r\nMULTI\r\n", 0, size - 4000)
        spread = max(1, (size - first) // CUTS)
        cuts = sorted({*range(first, size, spread), *range(size - 8, size)})
        orders = set()
        for cut in cuts:
            with self.subTest(cut=cut, of=size):
                redis = self.start_redis(self.whole[:cut])
                orders.add(self.check_whole(redis))
                # Writes that are acknowledged now: one alone, and some in a transaction.
                self.assertEqual(redis("SET", "alone", cut), b"OK")
                redis("MULTI")
                redis("SET", "together", cut)
                redis("XADD", "witness", "*", "cut", cut)
                redis("EXEC")
                self.tandem.redis.kill()
                redis = self.start_redis()
                for key in ("alone", "together"):
                    self.assertEqual(redis("GET", key), str(cut).encode(), key)
                self.assertEqual(redis("XLEN", "witness"), 1)
                orders.add(self.check_whole(redis))
                self.tandem.redis.kill()
        self.assertLessEqual(max(orders), 30)
        self.assertTrue(self.torn(), "what was cut off is kept")
        self.start_redis(self.whole)

    def torn(self):
        names = os.listdir(os.path.join(self.tandem.env["TANDEM_VAR"], "redis"))
        return [name for name in names if name.startswith("torn-")]

    def test_damage_inside_is_refused(self):
        """A fault before whole transactions: nothing is cut, the start fails and says why."""
        middle = self.whole.index(b"\r\nMULTI\r\n", len(self.whole) // 2)
        broken = self.whole[:middle] + b"#" + self.whole[middle + 1 :]
        with self.assertRaises(AssertionError) as caught:
            self.start_redis(broken)
        self.assertIn("whole transactions follow", str(caught.exception))
        with open(self.file, "rb") as file:
            self.assertEqual(file.read(), broken, "nothing was changed")
        self.assertNotEqual(self.tandem.redis.wait(), 0)
        redis = self.start_redis(self.whole)
        self.assertGreaterEqual(self.check_whole(redis), 30)

    def tearDown(self):
        """The services work with what is there."""
        shutil.rmtree(self.kept)
        self.tandem.start()
        self.decided([self.place("torn").order_id])


if __name__ == "__main__":
    tandem.main()
