"""The README and the documents are true: programs are built and run, commands are run, links exist."""
import glob
import json
import os
import re
import subprocess
import tempfile

import tandem


def text_of(page):
    with open(os.path.join(tandem.ROOT, page)) as file:
        return file.read()


def blocks(page, language):
    """The code blocks of a language in a page."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text_of(page), re.DOTALL | re.MULTILINE)


def anchors(page):
    """The places in a page that a link may name: its headings, as GitHub writes them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text_of(page), flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


class Readme(tandem.Live):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="tandem readme ")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.stock("tea", 10)

    def here(self, text):
        """A text of a page with the addresses and folders of this test."""
        for there, here in (
            ("127.0.0.1:50051", f"127.0.0.1:{self.tandem.ports['gateway']}"),
            ("127.0.0.1:50080", f"127.0.0.1:{self.tandem.http_ports['gateway']}"),
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

    def command(self, page, beginning):
        """The page's shell block in which a line begins so."""
        return [b for b in blocks(page, "sh") if re.search(f"^{beginning}", b, re.MULTILINE)][0]

    def test_curl(self):
        self.assertIn('"status":"ORDER_STATUS_RESERVED"', self.shell(self.command("README.md", "curl -sS http://127.0.0.1:50080")))

    def test_python(self):
        self.shell(self.command("docs/calling.md", r"\(cd proto"))
        (program,) = blocks("docs/calling.md", "python")
        ran = subprocess.run(
            ["/usr/bin/python3", "-c", self.here(program)],
            cwd=self.folder,
            capture_output=True,
            text=True,
        )
        self.assertEqual(ran.returncode, 0, ran.stderr)
        self.assertRegex(ran.stdout, "^ord_[0-9a-z]{26} ORDER_STATUS_RESERVED\n$")

    def test_c(self):
        (program,) = blocks("docs/calling.md", "c")
        with open(os.path.join(self.folder, "place.c"), "w") as file:
            file.write(self.here(program))
        command = self.command("docs/calling.md", "cc ")
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
        lines = self.command("docs/operating.md", "redis-cli -p 6390").splitlines()
        self.assertGreaterEqual(len(lines), 9)
        for line in lines:
            if not line.startswith("tail"):
                with self.subTest(line=line):
                    line = line.replace("curl ", "curl -fsS ").replace("ORDER_ID", order_id)
                    line = line.replace("tandemctl top ", "tandemctl top --once ")  # else it goes on until it is interrupted
                    out = self.shell(line)
                    self.assertNotIn("NOPERM", out)
                    self.assertNotEqual(out.strip(), "")

    def test_first_call(self):
        """What the README sends by grpcurl is what the contract takes."""
        (block,) = [b for b in blocks("README.md", "sh") if b.startswith("grpcurl")]
        calls = re.findall(r"-d '(.*?)'.*?(tandem\.\S+)/(\S+)", block, re.DOTALL)
        self.assertEqual([method for _, _, method in calls], ["AdjustStock", "PlaceOrder"])
        for request, service, method in calls:
            with self.subTest(method=method):
                stub = self.order if service.endswith(".OrderService") else self.inventory
                answer = getattr(stub, method)(**json.loads(request))
        self.assertEqual(answer.order.status, self.status["ORDER_STATUS_RESERVED"])

    def test_places_exist(self):
        """Every file, folder and heading that the README and the documents name."""
        files = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "examples/README.md"]
        files += [*glob.glob("docs/**/*.md", root_dir=tandem.ROOT, recursive=True)]
        self.assertIn("docs/flow.md", files)
        inside = "gateway|order|inventory|runtime|proto|ctl|scripts|tests|docs"
        for file in files:
            text = text_of(file)
            folder = os.path.dirname(file)
            places = [os.path.join(folder, place) for place in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)]
            places += re.findall(rf"(?<![\w/.-])(?:{inside})/[\w/-]+\.(?:[a-z]+)\b", text)
            places += re.findall(r"(?<![\w/])scripts/\w[\w/-]*(?:\.\w+)?", text)
            for place in places:
                with self.subTest(file=file, place=place):
                    self.assertTrue(os.path.exists(os.path.join(tandem.ROOT, place)))
            for place, heading in re.findall(r"\]\(([^)#:]*)#([^)]*)\)", text):
                with self.subTest(file=file, place=place, heading=heading):
                    page = os.path.normpath(os.path.join(folder, place)) if place else file
                    if os.path.isdir(os.path.join(tandem.ROOT, page)):
                        page = os.path.join(page, "README.md")
                    self.assertIn(heading, anchors(page))

    def test_table_of_contents(self):
        """docs/contents.md names every page but the decisions."""
        named = {os.path.normpath(os.path.join("docs", place)) for place in re.findall(r"\]\(([^)#:]+)", text_of("docs/contents.md"))}
        pages = glob.glob("docs/**/*.md", root_dir=tandem.ROOT, recursive=True)
        self.assertEqual([p for p in pages if p not in named and "/decisions/" not in p and p != "docs/contents.md"], [])


if __name__ == "__main__":
    tandem.main()
