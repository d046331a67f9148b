"""Hostile data in Redis: every subcommand of tandemctl that reads, with and without --json, must end
with a documented exit code and show what lies there harmlessly; the services live on meanwhile."""
import concurrent.futures
import json
import os
import subprocess

import tandem

CTL = os.path.join(tandem.BUILD, "tandemctl")
CODES = (0, 1, 2, 3)
STREAMS = ("order:{0}:events", "inventory:{0}:events", "order:{0}:dead", "inventory:{0}:dead")


def hidden(character):
    """A character that a person does not see, or that moves what they see."""
    code = ord(character)
    return (
        (code < 0x20 and character != "\n")
        or 0x7F <= code < 0xA0
        or code in (0x061C, 0x2060, 0xFEFF)
        or 0x200B <= code <= 0x200F
        or 0x2028 <= code <= 0x202E
        or 0x2066 <= code <= 0x2069
        or 0xE0000 <= code <= 0xE007F
    )


class Hostile(tandem.Live):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.redis = cls.tandem.redis_as("ops")

    def faults(self, words):
        """Runs one command; what is wrong with how it ended, as a list of texts."""
        try:
            done = subprocess.run(
                [CTL, *words],
                env=self.tandem.env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=60 * tandem.SLOW,
            )
        except subprocess.TimeoutExpired:
            return [f"{words}: does not end"]
        found = []
        if done.returncode not in CODES:
            found.append(f"ended with {done.returncode}: {done.stderr[-3000:]!r}")
        if any(report.encode() in done.stderr for report in tandem.REPORTS):
            found.append(done.stderr[-3000:].decode(errors="replace"))
        for name, text in (("stdout", done.stdout), ("stderr", done.stderr)):
            try:
                bad = sorted({f"U+{ord(c):04X}" for c in text.decode() if hidden(c)})
                if bad:
                    found.append(f"{name} holds {bad}")
            except UnicodeDecodeError as error:
                found.append(f"{name} is not UTF-8: {error}")
        if done.returncode != 0 and not done.stdout and not done.stderr:
            found.append(f"ended with {done.returncode} and did not say why")
        if "--json" in words:
            if not done.stdout.isascii():
                found.append("its JSON is not pure ASCII")
            for line in done.stdout.splitlines():
                try:
                    json.loads(line)
                except ValueError as error:
                    found.append(f"not JSON: {line[:200]!r}: {error}")
        return [f"{' '.join(map(repr, words))}: {text}" for text in found]

    def survive(self, commands):
        """All of these commands, each with and without --json."""
        runs = [[*words, *more] for words in commands for more in ((), ("--json",))]
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            found = [text for texts in pool.map(self.faults, runs) for text in texts]
        self.assertEqual(found, [], "\n".join(found))

    def test_an_entry_of_zero_bytes(self):
        for stream in STREAMS:
            self.redis("XADD", stream, "*", "x", bytes(64))
        self.survive([["dead", "list"], ["events", "tail"]])


if __name__ == "__main__":
    tandem.main()
