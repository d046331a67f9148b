"""The console: what it serves, whom it refuses, and its page in a browser (Chromium, driven by tests/console/browser.js).

Pictures of each view, light and dark, wide and narrow, are in console-pictures/ of the build.
"""
import hashlib
import http.client
import json
import os
import select
import shutil
import socket
import subprocess
import unittest

import tandem
from tandem import SLOW, until

TESTS = os.path.join(tandem.ROOT, "tests", "console")
BUILT = os.path.join(tandem.BUILD, "tests", "console")
PICTURES = os.path.join(tandem.BUILD, "console-pictures")
VIEWS = {"overview": "Overview", "orders": "Orders", "stock": "Stock", "streams": "Streams", "dead": "Dead letters",
         "checks": "Checks", "alarms": "Alarms"}


class Console(tandem.Live):
    MORE = ("console",)
    ENV = {"TANDEM_ORDER_TIMERS_EVERY": "100ms"}

    @classmethod
    def prepare(cls):
        cls.port = cls.tandem.ports["console"]
        cls.address = f"http://127.0.0.1:{cls.port}"

    def connection(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30 * SLOW)

    def request(self, method, path, body=None, **headers):
        """(status, headers, body). Headers by name, with '_' for '-'."""
        connection = self.connection()
        self.addCleanup(connection.close)
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if isinstance(body, dict):
            body = json.dumps(body)
            headers.setdefault("Content-Type", "application/json")
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()

    def get(self, path, **headers):
        status, _, body = self.request("GET", path, **headers)
        return status, json.loads(body)

    def post(self, path, body, **headers):
        status, answered, text = self.request("POST", path, body, **headers)
        return status, json.loads(text), answered

    def ops_password(self):
        with open(os.path.join(self.tandem.env["TANDEM_VAR"], "secrets", "ops"), encoding="utf-8") as file:
            return file.read().strip()

    def signed_in(self):
        """The Cookie header of a session with ops's password."""
        status, _, headers = self.post("/api/sign-in", {"way": "password", "secret": self.ops_password()})
        self.assertEqual(status, 200)
        return headers["Set-Cookie"].split(";")[0]

    def dead_letter(self, subject):
        """An entry of inventory's stream that no reader can process becomes a dead letter of order's; its stream id."""
        self.tandem.redis_as("ops")("XADD", tandem.STOCK, "*", "type", "tandem.inventory.v1.InventoryReserved", "subject",
                                    subject, "seq", "1", "id", f"{subject}/1", "time", "2026-11-23T01:02:03.004Z",
                                    "data", b"\xff\xff")

        def found():
            return [item for item in self.tandem.ctl_json("dead", "list")[1] if item.get("subject") == subject]

        return until(found, 20 * SLOW, f"a dead letter about {subject}")[0]["stream_id"]


class Serving(Console):
    """What any program sees."""

    def test_page_and_its_headers(self):
        status, headers, body = self.request("GET", "/")
        self.assertEqual(status, 200)
        self.assertIn(b"<title>Tandem</title>", body)
        self.assertIn("default-src 'none'", headers["Content-Security-Policy"])
        self.assertEqual(headers["X-Content-Type-Options"], "nosniff")
        for path, kind in (("/console.js", "text/javascript"), ("/console.css", "text/css"), ("/icon.svg", "image/svg+xml")):
            status, headers, _ = self.request("GET", path)
            self.assertEqual((status, headers["Content-Type"]), (200, f"{kind}; charset=utf-8"))
        status, headers, body = self.request("HEAD", "/")
        self.assertEqual((status, body), (200, b""))

    def test_bad_requests_get_clear_errors(self):
        rows = (
            ("GET", "/nothing", None, 404, "there is no such page"),
            ("GET", "/../etc/passwd", None, 404, "there is no such page"),
            ("GET", "/api/order", None, 400, "id is missing"),
            ("GET", "/api/order?id=", None, 400, "id is missing"),
            ("GET", "/api/order?id=%00", None, 400, "id: not 1 to 128 printable characters"),
            ("GET", "/api/order?id=a%00b", None, 400, "id: not 1 to 128 printable characters"),
            ("GET", "/api/order?id=%ff", None, 400, "id: not 1 to 128 printable characters"),
            ("GET", "/api/order?id=ord_nothing", None, 404, "no such order: ord_nothing"),
            ("GET", "/api/order?id=--help", None, 404, "no such order: --help"),
            ("GET", "/api/orders?customer=c&limit=x", None, 400, "limit: not a number from 1 to 10000"),
            ("GET", "/api/orders?customer=c&status=nothing", None, 400, "no such status: nothing"),
            ("GET", "/api/orders?customer=c&page_token=x", None, 400, "page_token"),
            ("GET", "/api/sku?sku=a/b", None, 400, "sku: not 1 to 64 letters"),
            ("GET", "/api/sku?sku=nothing", None, 404, "NOT_FOUND"),
            ("GET", "/api/dead/replay", None, 405, "only POST"),
            ("PUT", "/", None, 405, "only GET, HEAD and POST"),
            ("POST", "/api/order", {"id": "x"}, 405, "only GET"),
            ("POST", "/api/nothing", {}, 404, "there is no such page"),
            ("POST", "/api/dead/discard", {"id": "1-1", "context": "order", "why": "w"}, 401, "sign in"),
            ("POST", "/api/dead/replay", {}, 401, "sign in"),
            ("POST", "/api/sign-in", {}, 400, "way: not password or token"),
            ("POST", "/api/sign-in", {"way": "password"}, 400, "secret: not"),
            ("POST", "/api/sign-in", {"way": "password", "secret": "a b"}, 400, "secret: not"),
            ("POST", "/api/sign-in", {"way": "password", "secret": ["x"]}, 400, "secret: not"),
        )
        for method, path, body, status, error in rows:
            with self.subTest(method=method, path=path, body=body):
                answered, _, text = self.request(method, path, body)
                self.assertEqual(answered, status, text)
                self.assertIn(error, json.loads(text)["error"])

    def test_bodies_that_are_no_objects(self):
        for body in ("", "{", "[]", "\"x\"", "{\"a\":1,\"a\":2}", "\x00", "[" * 100000, "{\"way\":\"\\u0000\"}"):
            with self.subTest(body=body[:20]):
                status, _, text = self.request("POST", "/api/sign-in", body, Content_Type="application/json")
                self.assertIn(status, (400, 413), text)
                self.assertIn("body", json.loads(text)["error"])

    def test_bytes_that_are_no_request(self):
        """Whatever comes, the next request is answered."""
        for text in (b"\r\n\r\n", b"GET", b"GET / HTTP/9.9\r\n\r\n", b"\x00" * 1000, b"GET /" + b"a" * 100000,
                     b"POST /api/sign-in HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
                     b"POST /api/sign-in HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"):
            with self.subTest(text=text[:30]), socket.create_connection(("127.0.0.1", self.port)) as one:
                one.sendall(text)
        self.assertEqual(self.request("GET", "/")[0], 200)

    def test_other_sites_are_refused(self):
        self.assertEqual(self.get("/", Host="evil.example")[0], 421)
        self.assertEqual(self.get("/api/streams", Host="evil.example:80")[0], 421)
        body = {"way": "password", "secret": self.ops_password()}
        self.assertEqual(self.post("/api/sign-in", body, Origin="http://evil.example")[0], 403)
        self.assertEqual(self.post("/api/sign-in", body, Sec_Fetch_Site="cross-site")[0], 403)
        self.assertEqual(self.post("/api/sign-in", json.dumps(body), Content_Type="text/plain")[0], 403)
        self.assertEqual(self.post("/api/sign-in", body, Origin=self.address)[0], 200)

    def test_answers_are_those_of_tandemctl(self):
        self.stock("pear", 5)
        placed = self.place("pear", 2, wait_for_decision=True)
        status, answer = self.get(f"/api/order?id={placed.order_id}")
        self.assertEqual(status, 200)
        self.assertEqual(answer["items"][0]["order"]["status"], "ORDER_STATUS_RESERVED")
        self.assertIn("because", answer["items"][0])
        self.assertEqual(self.get("/api/sku?sku=pear")[1]["items"], self.tandem.ctl_json("stock", "get", "pear")[1])
        self.assertIn("pear", [item.get("sku") for item in self.get("/api/stock")[1]["items"]])
        orders = self.get("/api/orders?customer=customer&limit=1")[1]["items"]
        self.assertEqual(orders[0]["order_id"], placed.order_id)
        streams = self.get("/api/streams")[1]["items"]
        self.assertEqual({item["group"] for item in streams}, {"order", "inventory"})

    def test_signing_in_and_out(self):
        self.assertFalse(self.get("/api/me")[1]["signed_in"])
        status, answer, _ = self.post("/api/sign-in", {"way": "password", "secret": "wrong"})
        self.assertEqual((status, answer["error"]), (403, "that is not the password of ops"))
        status, answer, _ = self.post("/api/sign-in", {"way": "token", "secret": "anything"})
        self.assertEqual(status, 403)  # this gateway asks nobody
        status, answer, headers = self.post("/api/sign-in", {"way": "password", "secret": self.ops_password()})
        self.assertEqual((status, answer), (200, {"name": "ops"}))
        self.assertRegex(headers["Set-Cookie"],
                         rf"^tandem_console_{self.port}=[0-9a-f]{{32}}; Path=/; HttpOnly; SameSite=Strict$")
        cookie = headers["Set-Cookie"].split(";")[0]
        self.assertTrue(self.get("/api/me", Cookie=cookie)[1]["signed_in"])
        self.assertFalse(self.get("/api/me", Cookie=cookie[:-1] + "g")[1]["signed_in"])
        self.assertEqual(self.post("/api/sign-out", {}, Cookie=cookie)[0], 200)
        self.assertFalse(self.get("/api/me", Cookie=cookie)[1]["signed_in"])

    def test_who_looks_reads_as_a_user_that_cannot_write(self):
        """doctor may look at less; signed in it is the operator's."""
        results = {item["result"] for item in self.get("/api/doctor")[1]["items"]}
        self.assertIn("unchecked", results)
        mine = self.get("/api/doctor", Cookie=self.signed_in())[1]["items"]
        self.assertNotIn("unchecked", {item["result"] for item in mine})

    def test_what_an_operator_does_is_in_the_trail(self):
        cookie = self.signed_in()
        one, two = self.dead_letter("console-1"), self.dead_letter("console-2")
        status, answer, _ = self.post("/api/dead/replay", {"id": one, "context": "order", "why": "try it"}, Cookie=cookie)
        self.assertEqual((status, answer["items"][0]["outcome"]), (200, "replayed to"))
        status, answer, _ = self.post("/api/dead/discard", {"id": two, "context": "order", "why": "a test"}, Cookie=cookie)
        self.assertEqual((status, answer["items"][0]["outcome"]), (200, "discarded"))
        status, answer, _ = self.post("/api/dead/discard", {"id": two, "context": "order", "why": "a test"}, Cookie=cookie)
        self.assertEqual((status, answer["error"]), (404, f"not in the dead letters: {two}"))
        trail = {entry["action"]: entry for entry in self.tandem.ctl_json("trail", "--action", "dead")[1]}
        self.assertEqual(trail["dead.replay"]["why"], "try it")
        self.assertEqual(trail["dead.discard"]["subject"], "console-2")
        self.assertIn(" as ops for ops in the console", trail["dead.discard"]["who"])

    def test_live_points(self):
        with socket.create_connection(("127.0.0.1", self.port), timeout=10 * SLOW) as one:
            one.sendall(b"GET /api/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            file = one.makefile("rb")
            until(lambda: file.readline() == b"event: history\n", 1, "the history", every=0)
            history = json.loads(file.readline().partition(b" ")[2])
            self.assertTrue(all(point["t"] for point in history))
            until(lambda: file.readline() == b"event: point\n", 1, "a point", every=0)
            point = json.loads(file.readline().partition(b" ")[2])
        self.assertEqual({service["name"] for service in point["services"]}, {"order", "inventory", "gateway"})
        self.assertEqual({stream["reader"] for stream in point["streams"]}, {"order", "inventory"})

    def test_pages_are_bounded(self):
        opened = []
        until(lambda: self.tandem.console.metric("tandem_console_pages") == 0, 10 * SLOW, "pages of other tests are closed")
        for _ in range(33):
            one = socket.create_connection(("127.0.0.1", self.port), timeout=10 * SLOW)
            self.addCleanup(one.close)
            one.sendall(b"GET /api/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            opened.append(one.recv(12)[9:])
        self.assertEqual(opened, [b"200"] * 32 + [b"503"])


class Tokens(Console):
    """Where the gateway asks who calls."""

    @classmethod
    def prepare(cls):
        super().prepare()
        cls.keys = cls.tandem.new_callers(anna="operator", look="support", shop="customer c")
        path = os.path.join(cls.tandem.folder, "look")
        with open(path, "w", encoding="utf-8") as file:
            file.write(cls.keys["look"])
        cls.tandem.env["TANDEM_CONSOLE_READER_TOKEN_FILE"] = path
        secret = os.path.join(cls.tandem.env["TANDEM_VAR"], "secrets", "ops")
        cls.tandem.env["TANDEM_CONSOLE_OPERATOR_PASSWORD_FILE"] = secret

    def sign(self, secret):
        status, answer, headers = self.post("/api/sign-in", {"way": "token", "secret": secret})
        return status, answer, headers["Set-Cookie"].split(";")[0] if status == 200 else None

    def test_keys_of_operators_alone(self):
        self.assertEqual(self.get("/api/stock")[0], 200)
        for key in (self.keys["look"], self.keys["shop"], "tandem_nothing", self.ops_password()):
            status, answer, _ = self.sign(key)
            self.assertEqual((status, answer["error"]), (403, "the gateway does not know it as an operator's"))
        status, answer, cookie = self.sign(self.keys["anna"])
        name = f"operator (key {hashlib.sha256(self.keys['anna'].encode()).hexdigest()[:8]})"
        self.assertEqual((status, answer), (200, {"name": name}))
        entry = self.dead_letter("token")
        fields = {"id": entry, "context": "order", "why": "a test"}
        self.assertEqual(self.post("/api/dead/discard", fields, Cookie=cookie)[0], 200)
        self.assertIn(f" as ops for {name} in the console", self.tandem.ctl_json("trail", "--action", "dead")[1][0]["who"])

    def test_without_the_gateway_nobody_is_refused(self):
        """It is no answer of the gateway: who signs in is told so."""
        with self.tandem.away("gateway"):
            status, answer, _ = self.sign(self.keys["anna"])
            self.assertEqual(status, 503, answer)
            self.assertIn("UNAVAILABLE", answer["error"])


class Public(Console):
    """Other machines reach it: TLS, and nothing without signing in."""

    @classmethod
    def prepare(cls):
        super().prepare()
        subprocess.run([os.path.join(tandem.ROOT, "scripts", "lib", "ca")], env=cls.tandem.env, check=True, capture_output=True)
        cls.tandem.env["TANDEM_CONSOLE_LISTEN"] = f"0.0.0.0:{cls.port}"
        cls.tandem.env["TANDEM_CONSOLE_TLS_CERT"] = cls.tandem.tls("console.crt")
        cls.tandem.env["TANDEM_CONSOLE_TLS_KEY"] = cls.tandem.tls("console.key")

    def connection(self):
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=30 * SLOW, context=self.tandem.tls_context(None))

    def test_nothing_without_signing_in(self):
        status, headers, _ = self.request("GET", "/")
        self.assertEqual(status, 200)
        self.assertIn("max-age", headers["Strict-Transport-Security"])
        for path in ("/api/stock", "/api/live", "/api/order?id=x", "/api/doctor"):
            self.assertEqual(self.get(path)[0], 401, path)
        self.assertTrue(self.get("/api/me")[1]["public"])
        body = {"way": "password", "secret": self.ops_password()}
        self.assertEqual(self.post("/api/sign-in", body, Origin=f"http://127.0.0.1:{self.port}")[0], 403)
        status, _, headers = self.post("/api/sign-in", body, Origin=f"https://127.0.0.1:{self.port}")
        self.assertEqual(status, 200)
        self.assertIn("; Secure", headers["Set-Cookie"])
        cookie = headers["Set-Cookie"].split(";")[0]
        self.assertEqual(self.get("/api/stock", Cookie=cookie)[0], 200)


class Doors(unittest.TestCase):
    """Where it does not start."""

    def refused(self, *arguments):
        env = {name: value for name, value in os.environ.items() if not name.startswith("TANDEM_")}
        ended = subprocess.run([os.path.join(tandem.BUILD, "tandem-console"), *arguments], env=env, capture_output=True,
                               text=True, timeout=30 * SLOW, check=False)
        self.assertNotEqual(ended.returncode, 0)
        return ended.stderr

    def test_beyond_this_machine_only_with_tls(self):
        text = self.refused("--listen", "0.0.0.0:0", "--admin-listen", "")
        self.assertIn("can be reached from other machines, without TLS", text)

    def test_settings_that_cannot_be(self):
        self.assertIn("no such program", self.refused("--tandemctl", "/nowhere", "--listen", "127.0.0.1:0", "--admin-listen", ""))
        self.assertIn("--metrics", self.refused("--metrics", "file:///etc/passwd", "--listen", "127.0.0.1:0", "--admin-listen", ""))
        self.assertIn("--callers", self.refused("--callers", "x"))  # it asks the gateway


class Browser:
    """Chromium with one page."""

    def __init__(self):
        os.makedirs(BUILT, exist_ok=True)
        os.makedirs(PICTURES, exist_ok=True)
        shutil.copy(os.path.join(TESTS, "package.json"), BUILT)
        if not os.path.exists(os.path.join(BUILT, "node_modules", "playwright-core")):
            subprocess.run(["timeout", "120", "npm", "install", "--no-audit", "--no-fund", "--prefer-offline"], cwd=BUILT,
                           check=True, capture_output=True)
        self.process = subprocess.Popen(["node", os.path.join(TESTS, "browser.js"), shutil.which("chromium")],
                                        env={**os.environ, "NODE_PATH": os.path.join(BUILT, "node_modules")},
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.answer()

    def answer(self):
        ready, _, _ = select.select([self.process.stdout], [], [], 60 * SLOW)
        line = self.process.stdout.readline() if ready else b""
        assert line, "the browser does not answer"
        answer = json.loads(line)
        if "error" in answer:
            raise AssertionError(answer["error"])
        return answer["value"]

    def run(self, code, **args):
        """Runs JavaScript with page, context, args; returns what it returns."""
        self.process.stdin.write(json.dumps({"code": code, "args": args}).encode() + b"\n")
        self.process.stdin.flush()
        return self.answer()

    def close(self):
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


class Page(Console):
    """What people see."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.browser = Browser()

    @classmethod
    def tearDownClass(cls):
        cls.browser.close()
        super().tearDownClass()

    def setUp(self):
        self.browser.run("""errors.length = 0; await context.clearCookies(); await page.emulateMedia({ colorScheme: "light" });
            await page.setViewportSize({ width: 1280, height: 900 });""")

    def tearDown(self):
        self.assertEqual(self.browser.run("return errors"), [])

    def show(self, view):
        self.browser.run("await page.goto('about:blank'); await page.goto(args.address); await page.locator('h1').waitFor();",
                         address=f"{self.address}/#/{view}")

    def text(self, what):
        """Waits until the page has this text in its main part."""
        self.browser.run("await page.locator('main').getByText(args.what).first().waitFor()", what=what)

    def picture(self, name):
        self.browser.run("await page.screenshot({ path: args.path, fullPage: true })", path=os.path.join(PICTURES, f"{name}.png"))

    def no_faults(self, name):
        self.assertEqual(self.browser.run("return page.evaluate(faults)"), [], name)

    def sign_in(self):
        self.browser.run("""
            await page.getByRole('button', { name: 'Sign in' }).click();
            await page.getByLabel('Password, key or token').fill(args.password);
            await page.getByRole('dialog').getByRole('button', { name: 'Sign in' }).click();
            await page.getByRole('button', { name: 'Sign out' }).waitFor();""", password=self.ops_password())

    def test_each_view(self):
        """Light and dark, wide and narrow: no fault, no error."""
        self.stock("tea", 20)
        orders = [self.place("tea", quantity, customer_id="looker", wait_for_decision=True) for quantity in (2, 3, 400)]
        self.order.ConfirmOrder(order_id=orders[0].order_id)
        self.dead_letter("view")
        views = {**VIEWS, "order": orders[0].order_id, "sku": "tea", "customer": "Orders"}
        places = {"order": f"order/{orders[0].order_id}", "sku": "stock/tea", "customer": "orders?customer=looker"}
        awaited = {"overview": "order:{0}:events", "orders": orders[1].order_id, "stock": "tea", "streams": "OrderPlaced",
                   "dead": "InventoryReserved", "checks": "redis version", "alarms": "dead letters",
                   "order": "What happens next", "sku": "the parts add up", "customer": "3 orders"}
        for name, title in views.items():
            with self.subTest(view=name):
                self.show(places.get(name, name))
                self.assertEqual(self.browser.run("return page.locator('h1').textContent()"), title)
                self.text(awaited[name])
                self.no_faults(name)
                self.picture(f"{name}-light")
                self.browser.run("await page.emulateMedia({ colorScheme: 'dark' })")
                self.no_faults(f"{name}, dark")
                self.picture(f"{name}-dark")
                self.browser.run("""await page.emulateMedia({ colorScheme: 'light' });
                    await page.setViewportSize({ width: 360, height: 740 });""")
                self.no_faults(f"{name}, narrow")
                self.picture(f"{name}-narrow")
                self.browser.run("await page.setViewportSize({ width: 1280, height: 900 })")

    def test_an_order_appears(self):
        self.stock("cup", 5)
        self.show("orders")
        self.text("Newest orders")
        placed = self.place("cup", 1)
        self.text(placed.order_id)
        self.browser.run("await page.getByRole('link', { name: args.id }).click()", id=placed.order_id)
        self.text("What happens next")
        self.text("RESERVED")
        self.order.CancelOrder(order_id=placed.order_id, reason="changed my mind")
        self.text("changed my mind")
        self.browser.run("await page.locator('.badge.cancelled').first().waitFor()")

    def test_search(self):
        self.stock("pen", 5)
        mine = self.place("pen", 1, customer_id="zoë & co", wait_for_decision=True)
        other = self.place("pen", 100, customer_id="zoë & co", wait_for_decision=True)
        self.show("orders")
        self.browser.run("""await page.getByLabel('Customer').fill(args.customer);
            await page.getByLabel('Status').selectOption('rejected');
            await page.getByRole('button', { name: 'List' }).click();""", customer="zoë & co")
        self.text(other.order_id)
        self.assertEqual(self.browser.run("return page.locator('main').getByText(args.id).count()", id=mine.order_id), 0)
        self.browser.run("""await page.getByLabel('Order', { exact: true }).fill(args.id);
            await page.getByRole('button', { name: 'Show its timeline' }).click();
            await page.getByRole('heading', { level: 1, name: args.id }).waitFor()""", id=mine.order_id)

    def test_dead_letters(self):
        """Replay and discard, each asked back; refused without signing in."""
        self.dead_letter("first")
        self.show("dead")
        self.browser.run("await page.getByRole('button', { name: /^Replay/ }).first().click()")
        self.browser.run("await page.getByRole('dialog', { name: 'Sign in as an operator' }).waitFor()")
        self.no_faults("signing in")
        self.picture("sign-in")
        self.browser.run("""await page.getByLabel('Password, key or token').fill('wrong');
            await page.getByRole('dialog').getByRole('button', { name: 'Sign in' }).click();
            await page.getByRole('dialog').getByText('that is not the password of ops').waitFor();
            await page.keyboard.press('Escape');
            errors.length = 0;""")  # the browser reports the status 403
        self.sign_in()
        discard = "article:has-text('first')"
        self.browser.run("await page.locator(args.which).getByRole('button', { name: /^Discard/ }).click()", which=discard)
        self.browser.run("await page.getByRole('dialog', { name: 'Discard this dead letter?' }).waitFor()")
        # The dialog keeps the focus.
        inside = "return page.evaluate(() => document.activeElement === document.body || !!document.activeElement.closest('dialog'))"
        for _ in range(6):
            self.browser.run("await page.keyboard.press('Tab')")
            self.assertTrue(self.browser.run(inside))
        self.no_faults("discarding")
        self.picture("discard")
        self.browser.run("await page.getByRole('dialog').getByRole('button', { name: 'Cancel' }).click()")
        self.assertEqual(len(self.tandem.ctl_json("dead", "list", "--order", "first")[1]), 1)
        self.browser.run("""await page.locator(args.which).getByRole('button', { name: /^Discard/ }).click();
            await page.getByLabel('Why (the trail keeps it)').fill('seen in the browser');
            await page.getByRole('dialog').getByRole('button', { name: 'Discard' }).click();
            await page.locator(args.which).waitFor({ state: 'detached' });""", which=discard)
        self.dead_letter("second")
        self.show("dead")
        self.browser.run("""const letter = page.locator("article:has-text('second')");
            await letter.getByRole('button', { name: /^Replay/ }).click();
            await page.getByLabel('Why (the trail keeps it)').fill('once more');
            await page.getByRole('dialog').getByRole('button', { name: 'Replay' }).click();
            await page.getByRole('dialog').waitFor({ state: 'hidden' });""")
        trail = {(entry["action"], entry["subject"]): entry["why"] for entry in self.tandem.ctl_json("trail")[1]}
        self.assertEqual(trail["dead.discard", "first"], "seen in the browser")
        self.assertEqual(trail["dead.replay", "second"], "once more")
        self.show("checks")
        self.text("seen in the browser")

    def test_audit(self):
        self.show("checks")
        self.browser.run("await page.getByRole('button', { name: 'Run the audit' }).click()")
        self.text("everything agrees")

    def test_by_keyboard(self):
        self.show("overview")
        self.browser.run("await page.keyboard.press('Tab')")
        self.assertEqual(self.browser.run("return page.evaluate(() => document.activeElement.textContent)"),
                         "Skip to the content")
        self.browser.run("await page.keyboard.press('Enter')")
        self.assertEqual(self.browser.run("return page.evaluate(() => document.activeElement.id)"), "main")
        self.browser.run("await page.getByRole('link', { name: 'Stock' }).focus(); await page.keyboard.press('Enter');")
        self.browser.run("await page.getByRole('heading', { level: 1, name: 'Stock' }).waitFor()")
        self.assertEqual(self.browser.run("return page.evaluate(() => document.activeElement.id)"), "main")

    def test_text_from_outside_stays_text(self):
        """An order whose names look like markup."""
        name = "<img src=x onerror=alert(1)>"
        self.stock("ink", 5)
        placed = self.place("ink", 1, customer_id=name, labels={"<b>": "</script>"}, wait_for_decision=True)
        self.show(f"order/{placed.order_id}")
        self.text(name)
        self.assertEqual(self.browser.run("return page.locator('main img, main script, main b').count()"), 0)

    def test_a_broken_redis(self):
        """The page says what is away, and works again when it is back."""
        self.show("overview")
        self.text("nothing needs a look")
        self.tandem.redis.kill()
        self.show("stock")
        self.text("Bad:")
        self.picture("stock-without-redis")
        self.show("alarms")
        self.text("Bad:")
        self.browser.run("errors.length = 0")  # statuses such as 503
        self.tandem.start()
        until(lambda: self.get("/api/stock")[0] == 200, 20 * SLOW, "stock is read again")
        self.show("stock")
        self.browser.run("await page.locator('main').getByText(/SKUs?$/).first().waitFor()")


if __name__ == "__main__":
    tandem.main()
