"""The README is true: its programs are built and run, its commands are run, its links exist."""
import glob
import os
import re
import subprocess
import tempfile

import tandem


def blocks(language):
    """The README's code blocks of a language."""
    with open(os.path.join(tandem.ROOT, "README.md")) as readme:
        return re.findall(rf"^```{language}\n(.*?)^```$", readme.read(), re.DOTALL | re.MULTILINE)


class Readme(tandem.Live):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="tandem readme ")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.stock("tea", 10)

    def here(self, text):
        """A text of the README with the addresses and folders of this test."""
        for there, here in (
            ("127.0.0.1:50051", f"127.0.0.1:{self.tandem.ports['gateway']}"),
            ("127.0.0.1:9101", f"127.0.0.1:{self.tandem.admin_ports['gateway']}"),
            ("redis-cli -p 6390", f"redis-cli -p {self.tandem.redis_port}"),
            ("/tmp/messages", f"'{self.folder}/messages'" if "protoc" in text else f"{self.folder}/messages"),
            ("build/", f"'{tandem.BUILD}'/"),
            (" place.c -o place", f" '{self.folder}/place.c' -o '{self.folder}/place'"),
        ):
            text = text.replace(there, here)
        return text

    def shell(self, command):
        ran = subprocess.run(
            ["bash", "-euc", self.here(command)],
            cwd=tandem.ROOT,
            env=self.tandem.env,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=120,
        )
        self.assertEqual(ran.returncode, 0, ran.stdout + ran.stderr)
        return ran.stdout

    def command(self, beginning):
        """The README's shell block in which a line begins so."""
        return [b for b in blocks("sh") if re.search(f"^{beginning}", b, re.MULTILINE)][0]

    def test_python(self):
        self.shell(self.command(r"\(cd proto"))
        (program,) = blocks("python")
        ran = subprocess.run(
            ["/usr/bin/python3", "-c", self.here(program)],
            cwd=self.folder,
            capture_output=True,
            text=True,
        )
        self.assertEqual(ran.returncode, 0, ran.stderr)
        self.assertRegex(ran.stdout, "^ord_[0-9a-z]{26} ORDER_STATUS_RESERVED\n$")

    def test_c(self):
        (program,) = blocks("c")
        with open(os.path.join(self.folder, "place.c"), "w") as file:
            file.write(self.here(program))
        command = self.command("cc ")
        if tandem.SANITIZED:
            command = command.replace("cc ", "cc -fsanitize=address,undefined ")
        self.shell(command)
        ran = subprocess.run(
            [os.path.join(self.folder, "place")], capture_output=True, text=True
        )
        self.assertEqual(ran.returncode, 0, ran.stderr)
        reserved = self.status["ORDER_STATUS_RESERVED"]
        self.assertRegex(ran.stdout, f"^ord_[0-9a-z]{{26}} {reserved}\n$")

    def test_looking_inside(self):
        order_id = self.place("tea", wait_for_decision=True).order_id
        lines = self.command("redis-cli -p 6390").splitlines()
        self.assertGreaterEqual(len(lines), 9)
        for line in lines:
            if not line.startswith("tail"):
                with self.subTest(line=line):
                    line = line.replace("curl ", "curl -fsS ").replace("ORDER_ID", order_id)
                    line = line.replace("tandemctl top ", "tandemctl top --once ")  # else it goes on until it is interrupted
                    out = self.shell(line)
                    self.assertNotIn("NOPERM", out)
                    self.assertNotEqual(out.strip(), "")

    def test_places_exist(self):
        """Every file and folder that the README and the documents name."""
        files = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"]
        files += [*glob.glob("docs/**/*.md", root_dir=tandem.ROOT, recursive=True)]
        self.assertIn("docs/flow.md", files)
        inside = "gateway|order|inventory|runtime|proto|ctl|scripts|tests|docs"
        for file in files:
            with open(os.path.join(tandem.ROOT, file)) as document:
                text = document.read()
            places = [
                os.path.join(os.path.dirname(file), place)
                for place in re.findall(r"\]\(([^)#:]+)\)", text)
            ]
            places += re.findall(rf"(?<![\w/.-])(?:{inside})/[\w/-]+\.(?:[a-z]+)\b", text)
            places += re.findall(r"(?<![\w/])scripts/\w[\w/-]*(?:\.\w+)?", text)
            for place in places:
                with self.subTest(file=file, place=place):
                    self.assertTrue(os.path.exists(os.path.join(tandem.ROOT, place)))


if __name__ == "__main__":
    tandem.main()
