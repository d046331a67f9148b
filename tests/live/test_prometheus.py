"""The rules and the board in packaging/, in Debian's Prometheus: promtool's tests of each alert, and a real Prometheus
that scrapes a real Tandem while inventory is stopped and started again."""
import glob
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
import unittest
import urllib.parse
import urllib.request

import grpc
import tandem

FOLDER = os.path.join(tandem.ROOT, "packaging", "prometheus")
RULES = os.path.join(FOLDER, "tandem.rules.yml")
TESTS = sorted(glob.glob(os.path.join(FOLDER, "tests", "*.yml")))
BOARD = os.path.join(tandem.ROOT, "packaging", "grafana", "tandem.json")
# Metrics that a Tandem without TLS does not have, and where they are made.
OF_TLS, MAKES_TLS = {"tandem_tls_certificate_expires_timestamp_seconds"}, "runtime/rpc/tls.c"


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def alerts():
    return re.findall(r"^ *- alert: (\w+)$", read(RULES), re.MULTILINE)


def board_queries():
    """[(title of the panel, query, as Grafana would send it)]"""
    board = json.loads(read(BOARD))
    found = [("annotations", one["expr"]) for one in board["annotations"]["list"]]
    for panel in board["panels"]:
        found += [(panel["title"], target["expr"]) for target in panel.get("targets", ())]
    return [(title, query.replace("$__rate_interval", "10s")) for title, query in found]


def metrics_in(query):
    """Names of metrics; those that rules record have colons."""
    query = re.sub(r"\{[^}]*\}|\"[^\"]*\"|\b(?:by|on|group_left) \([^)]*\)", "", query)
    return set(re.findall(r"\b(?:tandem[:_]|grpc_|process_|up\b)[\w:]*", query))


class Rules(unittest.TestCase):
    """What can be said of the files alone."""

    maxDiff = None

    def promtool(self, *arguments):
        ended = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=60)
        self.assertEqual(ended.returncode, 0, ended.stdout + ended.stderr)
        return ended.stdout

    def test_files_are_good(self):
        self.assertIn("SUCCESS", self.promtool("check", "rules", RULES))
        self.assertIn("SUCCESS", self.promtool("check", "config", os.path.join(FOLDER, "prometheus.yml")))

    def test_each_alert_fires_when_it_should_and_not_else(self):
        """promtool's tests; each alert has one where it fires, and one where it does not."""
        self.promtool("test", "rules", *TESTS)
        firing, quiet = set(), set()
        for path in TESTS:
            # promtool ignores no unknown alert: a test of one that does not fire must name one that exists.
            for name, expected in re.findall(
                r"alertname: (\w+)\n +exp_alerts:( \[\])?", read(path)
            ):
                (quiet if expected else firing).add(name)
        self.assertEqual(firing, set(alerts()))
        self.assertEqual(quiet, set(alerts()))

    def test_each_alert_has_a_section_in_the_runbook(self):
        text = read(os.path.join(tandem.ROOT, "docs", "runbook.md"))
        sections = re.findall(r"^### (\w+)\n\n\*(page|ticket)\.\*(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
        self.assertEqual([name for name, _, _ in sections], alerts())
        said = re.findall(
            r"- alert: (\w+)\n.*?severity: (\w+) .*?runbook: (\S+)", read(RULES), re.DOTALL
        )
        for (name, severity, body), (alert, wanted, link) in zip(sections, said, strict=True):
            self.assertEqual((severity, link), (wanted, f"docs/runbook.md#{alert.lower()}"), name)
            self.assertRegex(body, r"\*\*Look( and do)?:\*\*", name)
            self.assertRegex(body, r"\*\*(Do|Look and do):\*\*", name)


class Prometheus:
    """A Prometheus of its own, with the rules, but for times that are shortened."""

    def __init__(self, processes):
        self.folder = tempfile.mkdtemp(prefix="tandem-prometheus-")
        self.port = tandem.free_ports(1)[0]
        targets = [process.admin.removeprefix("http://") for process in processes]
        self.write("prometheus.yml", (
            "global: {scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 250ms}\n"
            "rule_files: [rules.yml]\n"
            "scrape_configs:\n"
            f"  - {{job_name: tandem, static_configs: [{{targets: {json.dumps(targets)}}}]}}\n"
        ))
        rules = re.sub(r"\bfor: \d+[sm]", "for: 1s", read(RULES))
        rules = re.sub(r"(oldest_unanswered_seconds\)) > 20", r"\1 > 1", rules)
        self.write("rules.yml", re.sub(r"\[(1|5)m\]", "[10s]", rules))
        with open(os.path.join(self.folder, "log"), "wb") as log:
            self.popen = subprocess.Popen(
                ["prometheus", f"--config.file={self.folder}/prometheus.yml", "--log.level=warn",
                 f"--storage.tsdb.path={self.folder}/data", f"--web.listen-address=127.0.0.1:{self.port}"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder,
            )

    def write(self, name, text):
        with open(os.path.join(self.folder, name), "w", encoding="utf-8") as file:
            file.write(text)

    def end(self):
        self.popen.terminate()
        self.popen.wait(30)
        shutil.rmtree(self.folder)

    def ask(self, path, **parameters):
        """An answer's data; an error is raised."""
        url = f"http://127.0.0.1:{self.port}{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=20) as answer:
            return json.load(answer)["data"]

    def ready(self):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            assert self.popen.poll() is None, read(os.path.join(self.folder, "log"))
            return False

    def alerts(self):
        """{(name, service or ""): state}"""
        found = self.ask("/api/v1/alerts")["alerts"]
        return {(one["labels"]["alertname"], one["labels"].get("service", "")): one["state"] for one in found}

    def lately(self, query, seconds):
        """What a query gave in the last seconds: series."""
        now = time.time()
        return self.ask("/api/v1/query_range", query=query, start=now - seconds, end=now, step="250ms")["result"]


class Scraped(tandem.Live):
    ENV = {
        "TANDEM_ORDER_RETRY_MIN": "200ms", "TANDEM_ORDER_RETRY_MAX": "400ms", "TANDEM_DRAIN_DELAY": "0s",
    }

    @classmethod
    def prepare(cls):
        # It looks for its targets once in 5 s, so it begins first.
        cls.begun = time.time()
        cls.prometheus = Prometheus([cls.tandem.processes[name] for name in tandem.SERVICES])
        cls.addClassCleanup(cls.prometheus.end)

    def wait(self, true, what):
        tandem.until(true, 30 * tandem.SLOW, lambda: f"{what}: {self.prometheus.alerts()}", every=0.1)

    def test_inventory_is_stopped_and_started_again(self):
        prometheus, inventory = self.prometheus, self.tandem.processes["inventory"]
        down, gone, hangs = ("TandemInstanceDown", ""), ("TandemServiceGone", "inventory"), ("TandemOrdersHang", "")
        self.wait(prometheus.ready, "Prometheus")
        self.wait(lambda: len(prometheus.lately("up == 1", 1)) == len(tandem.SERVICES), "it scrapes")
        self.stock("tea", 1000000)
        with tandem.Loads([tandem.Load(self.order, "tea", "buyer", wait_for_decision=True)]) as loads:
            self.wait(lambda: len(prometheus.lately("tandem:orders_placed:rate1m > 0", 1)) > 0, "orders are seen")
            loads.go_on(1)
        order_id = self.place("tea", wait_for_decision=True).order_id
        self.order.ConfirmOrder(order_id=order_id)
        self.settled(order_id)
        # A scrape that was late looks like an instance that is away for a moment.
        self.wait(lambda: not {down, gone, hangs} & set(prometheus.alerts()), "no alarm")
        inventory.terminate()
        waiting = self.place("tea")
        self.fails(grpc.StatusCode.UNAVAILABLE, self.inventory.GetStock, sku="tea")
        states = {down: [], gone: [], hangs: []}

        def fires():
            now = prometheus.alerts()
            for name, seen in states.items():
                if now.get(name, "inactive") not in seen[-1:]:
                    seen.append(now.get(name, "inactive"))
            return all(seen[-1] == "firing" for seen in states.values())

        tandem.until(fires, 40 * tandem.SLOW, lambda: states)
        # A second is short for who looks on from outside.
        seen = {name: [state for state in states if state != "inactive"] for name, states in states.items()}
        self.assertTrue(all(states in (["pending", "firing"], ["firing"]) for states in seen.values()), seen)
        self.assertIn(["pending", "firing"], seen.values())
        self.wait(lambda: not {name for name in prometheus.alerts() if name[1] and name != gone}, "no other service is gone")
        # The runbook's step: start it. The order goes on, and every alarm ends.
        inventory.start()
        self.decided([waiting.order_id])
        self.wait(lambda: not {down, gone, hangs} & set(prometheus.alerts()), "the alarms end")
        self.every_query_is_good()

    def every_query_is_good(self):
        """Of the rules and the board: no error, and numbers."""
        prometheus, seconds = self.prometheus, time.time() - self.begun
        groups = prometheus.ask("/api/v1/rules")["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        self.assertEqual([rule["name"] for rule in rules if rule["type"] == "alerting"], alerts())
        self.assertEqual([rule for rule in rules if rule["health"] != "ok"], [])
        recorded = {rule["name"] for rule in rules if rule["type"] == "recording"}
        queries = board_queries()
        self.assertGreater(len(queries), 40)
        for title, query in queries:
            self.wait(lambda query=query: prometheus.lately(query, seconds), f"{title}: {query} has nothing")
        named = set().union(*(metrics_in(query) for _, query in queries), *(metrics_in(r["query"]) for r in rules))
        self.assertGreater(len(named), 30)
        missing = {name for name in named if not prometheus.lately(f"count({name})", seconds)}
        self.assertEqual(missing, OF_TLS)
        self.assertLessEqual(OF_TLS, set(re.findall(r"\w+", read(os.path.join(tandem.ROOT, MAKES_TLS)))))
        self.assertLessEqual(recorded, {name for name in named if ":" in name}, "a record that nobody uses")


if __name__ == "__main__":
    tandem.main()
