"""scripts/load: what it writes is what was measured."""
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


if __name__ == "__main__":
    tandem.main()
