"""tandemctl load and scripts/load: what they write was measured, and they use only their own SKUs."""
import json
import os
import subprocess
import tempfile

import tandem


class Load(tandem.Live):
    def test_series_has_whole_seconds(self):
        """3.7 s of sending: three seconds of figures, and where the warm-up ends."""
        folder = tempfile.TemporaryDirectory(prefix="tandem load ")
        self.addCleanup(folder.cleanup)
        ran = subprocess.run(
            [
                os.path.join(tandem.ROOT, "scripts", "load"),
                folder.name,
                *("--rate", "50", "--warmup", "1500ms", "--duration", "2200ms", "--quiet"),
            ],
            env=self.tandem.env,
            capture_output=True,
            text=True,
        )
        self.assertEqual(ran.returncode, 0, ran.stdout + ran.stderr)
        with open(os.path.join(folder.name, "series.tsv")) as file:
            lines = file.read().splitlines()
        self.assertEqual(lines[0], "# warm-up s\t1.500")
        rows = [line.split("\t") for line in lines if not line.startswith("#")]
        self.assertEqual([row[0] for row in rows], ["0", "1", "2"])
        self.assertGreater(sum(int(row[1]) for row in rows), 0, "sent")

    def test_saturates_without_decisions(self):
        """As many orders as --saturate says are sent, also when none of them is decided."""
        with self.tandem.frozen("inventory"):
            ran = subprocess.run(
                [
                    *(os.path.join(tandem.BUILD, "tandemctl"), "load", "--json", "--quiet"),
                    *("--gateway", f"127.0.0.1:{self.tandem.ports['gateway']}", "--no-accounting"),
                    *("--saturate=5000", "--mode", "batch", "--duration", "2s", "--warmup", "0s"),
                    *("--drain", "100ms"),
                ],
                env=self.tandem.env,
                capture_output=True,
                text=True,
            )
        self.assertEqual(ran.returncode, 1, ran.stdout + ran.stderr)
        self.assertEqual(json.loads(ran.stdout)["sent"], 5000)
        self.caught_up()  # what is decided later would count in the next run's accounting


class Own(tandem.Live):
    """In a store with other stock: only its own SKUs, only with --yes, and removed by --clean."""

    def load(self, *flags, program=None):
        folder = tempfile.TemporaryDirectory(prefix="tandem load ")
        self.addCleanup(folder.cleanup)
        short = ("--rate", "50", "--warmup", "0s", "--duration", "1s", "--skus", "20")
        return subprocess.run(
            [
                *(program or (os.path.join(tandem.BUILD, "tandemctl"), "load")),
                *("--gateway", f"127.0.0.1:{self.tandem.ports['gateway']}"),
                *("--customers", "30", "--stock", "1000", "--quiet", *short, *flags),
            ],
            env=self.tandem.env,
            cwd=folder.name,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )

    def stocks(self):
        return {stock.sku: stock for stock in self.inventory.ListStock(page_size=1000).stocks}

    def test_own(self):
        self.stock("tea", 7)
        with self.subTest("refuses"):
            for program in (None, (os.path.join(tandem.ROOT, "scripts", "load"),)):
                ran = self.load(program=program)
                self.assertEqual(ran.returncode, 2, ran.stdout + ran.stderr)
                self.assertRegex(ran.stderr, "SKU tea.*nothing was changed.*--yes")
                self.assertEqual(set(self.stocks()), {"tea"})
        with self.subTest("with --yes"):
            ran = self.load("--yes")
            self.assertEqual(ran.returncode, 0, ran.stdout + ran.stderr)
            first = self.stocks()
            self.assertEqual(set(first) - {"tea"}, {f"load-{i:04}" for i in range(20)})
            self.assertEqual(sum(s.received for s in first.values()), 20 * 1000 + 7)
        with self.subTest("fills up only"):
            ran = self.load("--yes", "--confirm", "50")
            self.assertEqual(ran.returncode, 0, ran.stdout + ran.stderr)
            taken = sum(s.reserved + s.committed for s in first.values())
            second = self.stocks()
            self.assertGreater(taken, 0)
            self.assertEqual(sum(s.received for s in second.values()), 20 * 1000 + 7 + taken)
        with self.subTest("--clean"):
            sold = sum(s.committed for s in second.values())
            reserved = sum(s.reserved for s in second.values())
            self.assertGreater(sold, 0)
            self.assertGreater(reserved, 0)
            ran = self.load("--clean", "--json")
            self.assertEqual(ran.returncode, 0, ran.stdout + ran.stderr)
            self.assertEqual(
                json.loads(ran.stdout), {"cancelled": reserved, "reserved": 0, "sold": sold}
            )
            left = self.stocks()
            self.assertEqual(left.pop("tea").available, 7)
            self.assertEqual(sum(s.available + s.reserved for s in left.values()), 0)
            self.assertEqual(sum(s.received for s in left.values()), sold)


if __name__ == "__main__":
    tandem.main()
