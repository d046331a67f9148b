"""The console's page in a browser: Chromium, driven by tests/console/browser.js.

Pictures of each view, light and dark, wide and narrow, are in console-pictures/ of the build.
"""
import datetime
import http.server
import json
import os
import re
import select
import shutil
import socket
import subprocess
import threading
import urllib.parse

import tandem
from console import Console
from tandem import SLOW, until

TESTS = os.path.join(tandem.ROOT, "tests", "console")
BUILT = os.path.join(tandem.BUILD, "tests", "console")
PICTURES = os.path.join(tandem.BUILD, "console-pictures")
VIEWS = {"overview": "Overview", "orders": "Orders", "stock": "Stock", "archive": "Archive", "streams": "Streams", "dead": "Dead letters",
         "checks": "Checks", "alarms": "Alarms"}


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
        ready, _, _ = select.select([self.process.stdout], [], [], 300 * SLOW)
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


ALERT = {"labels": {"alertname": "TandemCertificateEnds", "severity": "ticket", "instance": "127.0.0.1:9101"},
         "annotations": {"summary": "the server certificate <b>ends</b> in 3 days", "runbook": "docs/runbook.md#tandemcertificateends"},
         "state": "firing", "activeAt": "2026-11-27T01:02:03.004Z", "value": "1e+00"}


class Prometheus(http.server.BaseHTTPRequestHandler):
    """Answers as Prometheus does."""

    def do_GET(self):  # the name is http.server's
        body = json.dumps({"status": "success", "data": {"alerts": [ALERT]}}).encode()
        self.send_response(200 if self.path == "/api/v1/alerts" else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):  # the name is http.server's
        pass


class Page(Console):
    """What people see."""

    LAYOUT = (1, 0, 8)

    @classmethod
    def prepare(cls):
        super().prepare()
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Prometheus)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        cls.addClassCleanup(server.server_close)
        cls.addClassCleanup(server.shutdown)
        cls.tandem.env["TANDEM_CONSOLE_PROMETHEUS"] = f"http://127.0.0.1:{server.server_address[1]}/"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.browser = Browser()

    @classmethod
    def tearDownClass(cls):
        cls.browser.close()
        super().tearDownClass()

    def setUp(self):
        self.expected = ()
        self.browser.run("""await page.goto('about:blank'); errors.length = 0;
            await context.clearCookies(); await page.emulateMedia({ colorScheme: "light" });
            await page.setViewportSize({ width: 1280, height: 900 });""")

    def tearDown(self):
        meant = [f"a status of {status} " for status in self.expected]
        meant += ["net::ERR_NETWORK_CHANGED"]  # somebody gave this machine another network
        self.assertEqual([error for error in self.browser.run("return errors") if not any(one in error for one in meant)], [])

    def expect(self, *statuses):
        """The browser names each answer that is none, sooner or later: these are meant."""
        self.expected = statuses

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

    def no_options(self, name):
        """A page has no options: a line that names one says the command that has it."""
        text = self.browser.run("return page.evaluate(() => document.body.innerText)")
        wrong = [line for line in text.splitlines() if re.search(r"(^|[\s(:])--[a-z]", line) and "tandemctl" not in line]
        self.assertEqual(wrong, [], name)

    def points(self, count):
        """So many more points come, some seconds apart by the page's clock."""
        self.browser.run("""await page.evaluate(async (count) => {
            const { take, watch } = await import('/live.js');
            const now = Date.now;
            let point, ahead = 0;
            while (!point) {
              watch((one) => { point = one; })();
              await new Promise((resolve) => { setTimeout(resolve, 20); });
            }
            Date.now = () => now() + ahead;
            for (let i = 1; i <= count; i += 1) {
              ahead += 5000;
              take({ ...point, t: point.t + i, lag: i, oldest_s: i / 10, placed: i });
              await new Promise((resolve) => { setTimeout(resolve, 100); });
            }
            Date.now = now;
        }, args.count)""", count=count)

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
        views = {**VIEWS, "order": orders[0].order_id, "sku": "tea", "customer": "Orders", "life": orders[0].order_id,
                 "movements": "Movements of tea"}
        places = {"order": f"order/{orders[0].order_id}", "sku": "stock/tea", "customer": "orders?customer=looker",
                  "life": f"archive/{orders[0].order_id}", "movements": "movements/tea"}
        until(lambda: len(self.archived(customer="looker")) == 3, 20 * SLOW, "they are archived")
        awaited = {"overview": "order:{0}:events", "orders": orders[1].order_id, "stock": "tea", "streams": "OrderPlaced",
                   "dead": "InventoryReserved", "checks": "redis version", "alarms": "dead letters",
                   "order": "What happens next", "sku": orders[1].order_id, "customer": "3 orders",
                   "archive": orders[2].order_id, "life": "OrderPlaced", "movements": "put in or taken out"}
        for name, title in views.items():
            with self.subTest(view=name):
                self.show(places.get(name, name))
                self.assertEqual(self.browser.run("return page.locator('h1').textContent()"), title)
                self.text(awaited[name])
                self.no_faults(name)
                self.no_options(name)
                self.picture(f"{name}-light")
                self.browser.run("await page.emulateMedia({ colorScheme: 'dark' })")
                self.no_faults(f"{name}, dark")
                self.picture(f"{name}-dark")
                self.browser.run("""await page.emulateMedia({ colorScheme: 'light' });
                    await page.setViewportSize({ width: 360, height: 740 });""")
                self.no_faults(f"{name}, narrow")
                self.picture(f"{name}-narrow")
                self.browser.run("await page.setViewportSize({ width: 1280, height: 900 })")

    def archived(self, **query):
        return [item for item in self.get(f"/api/archive/orders?{urllib.parse.urlencode(query)}")[1].get("items", []) if "order" in item]

    def test_the_archive(self):
        """A search across customers, an order's life, and what happened to a SKU; and what the page says without an archive."""
        self.stock("fig", 9)
        first, second = (self.place("fig", 2, customer_id=name, labels={"shop": "n & s"}, wait_for_decision=True).order_id
                         for name in ("fay", "gus"))
        self.order.CancelOrder(order_id=second, reason="too late")
        until(lambda: len(self.archived(sku="fig", status="cancelled")) == 1, 20 * SLOW, "both are archived")
        self.show("archive")
        self.browser.run("""await page.getByLabel('SKU', { exact: true }).fill('fig');
            await page.getByLabel('Label').fill('shop=n & s');
            await page.getByLabel('First').selectOption('oldest');
            await page.getByRole('button', { name: 'Search' }).click();""")
        self.text("2 orders")
        self.assertEqual(self.rows(), [first, second])
        self.text("tandemctl archive export --format csv --sku=fig --label='shop=n & s' >orders.csv")
        self.browser.run("""await page.getByLabel('Status').selectOption('cancelled');
            await page.getByRole('button', { name: 'Search' }).click();""")
        self.text("1 order")
        self.assertEqual(self.rows(), [second])
        self.browser.run("await page.getByRole('link', { name: args.id }).click()", id=second)
        self.text("The order was cancelled.")
        self.text("too late")
        self.browser.run("await page.getByRole('link', { name: args.id }).click()", id=second)
        self.text("What happens next")
        self.show("stock/fig")
        self.browser.run("await page.getByRole('link', { name: 'All its movements' }).click()")
        self.text("put in or taken out")
        self.expect(503)
        with self.tandem.away("archive"):
            self.show("archive")
            self.text("UNAVAILABLE")
            self.show("stock/fig")
            self.text("the parts add up")

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

    def search(self, query, *texts):
        """Shows a search; waits for these texts."""
        self.browser.run("""await page.evaluate(async (hash) => {
            const shown = new Promise((resolve) => { window.addEventListener('hashchange', resolve, { once: true }); });
            location.hash = hash;
            await shown;
        }, args.hash)""", hash=f"#/orders?{query}")
        for text in texts:
            self.text(text)

    def rows(self):
        return self.browser.run("return page.locator('main .frame tbody tr td:first-child').allTextContents()")

    def go_on_to_the_end(self):
        return self.browser.run("""
            const found = page.locator('main [role=status]').filter({ hasText: /^[0-9]+ (order|SKU)/ });
            const more = page.getByRole('button', { name: 'Go on' });
            await found.waitFor();
            while (await more.isVisible()) {
              await more.click();
              await found.waitFor();
            }
            return found.textContent();""")

    def test_search_looks_through_all_orders(self):
        """What fits is found however far back it is; after many orders somebody says that it is to go on."""
        self.stock("bean", 10000)
        first = self.place("bean", 20000, customer_id="beans", wait_for_decision=True).order_id
        between = datetime.datetime.now().isoformat(timespec="milliseconds")
        # The millisecond belongs to the search: what follows must not be of it.
        until(lambda: datetime.datetime.now().isoformat(timespec="milliseconds") > between, 1 * SLOW, "the next millisecond", every=0)
        one = {"customer_id": "beans", "lines": [{"sku": "bean", "quantity": 1}]}
        self.order.BatchPlaceOrders(requests=[one] * 130)
        last = self.place("bean", 1, customer_id="beans", wait_for_decision=True).order_id
        until(lambda: not any(row["lag"] or row["pending"] for row in self.tandem.ctl_json("events", "lag")[1]), 20 * SLOW, "all is read")
        self.show("orders")
        self.browser.run("await page.evaluate(async () => Object.assign((await import('/orders.js')).PARTS, { orders: 10, events: 60 }))")
        for query in ("customer=beans&status=rejected", f"customer=beans&to={between}"):
            with self.subTest(query=query):
                self.search(query, "0 orders; looked through 100, and there may be more")
                self.browser.run("await page.getByRole('button', { name: 'Go on' }).click()")
                self.text("1 order; looked through 132")
                self.assertEqual(self.rows(), [first])
        # It ends where older orders begin.
        now = datetime.datetime.now().isoformat(timespec="milliseconds")
        self.search(f"customer=beans&from={now}")
        self.assertEqual(self.go_on_to_the_end(), "0 orders; looked through 10")
        self.search("customer=beans", "100 orders, and there are more")
        self.assertEqual(self.rows()[0], last)
        self.browser.run("await page.getByRole('button', { name: 'Go on' }).click()")
        self.text("132 orders")
        self.assertEqual(len(set(self.rows())), 132)
        # Of all customers: what the streams of events hold. 132 orders have 263 events, and others some more.
        self.search(f"to={between}&status=rejected")
        self.go_on_to_the_end()
        self.assertIn(first, self.rows())
        self.text("which keep the newest")
        self.search("status=reserved&limit=1000")
        self.go_on_to_the_end()
        found = self.rows()
        self.assertEqual(len(found), len(set(found)))
        self.assertNotIn(first, found)
        listed = [row["order_id"] for row in self.get("/api/orders?customer=beans&limit=1000&status=reserved")[1]["items"]]
        self.assertLessEqual(set(listed), set(found))

    def test_search_among_skus(self):
        """Not only among those that were read first."""
        for number in range(3):
            self.stock(f"zz-{number}", 1)
        self.browser.run("""await page.route('**/api/stock?*', (route) => route.continue({ url: route.request().url().replace('limit=1000', 'limit=7') }))""")
        try:
            self.show("stock?part=zz-")
            self.go_on_to_the_end()
            self.assertEqual(self.rows(), ["zz-0", "zz-1", "zz-2"])
        finally:
            self.browser.run("await page.unroute('**/api/stock?*')")

    def test_dead_letters(self):
        """Replay and discard, each asked back; refused without signing in."""
        self.expect(403)
        self.dead_letter("first")
        self.show("dead")
        self.browser.run("await page.getByRole('button', { name: /^Replay/ }).first().click()")
        self.browser.run("await page.getByRole('dialog', { name: 'Sign in as an operator' }).waitFor()")
        self.no_faults("signing in")
        self.picture("sign-in")
        self.browser.run("""await page.getByLabel('Password, key or token').fill('wrong');
            await page.getByRole('dialog').getByRole('button', { name: 'Sign in' }).click();
            await page.getByRole('dialog').getByText('that is not the password of ops').waitFor();
            await page.keyboard.press('Escape');""")
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

    def test_a_stuck_order(self):
        """Inventory is stopped: the overview says so, and the order's page why it waits; then it is decided."""
        self.stock("jam", 5)
        self.show("overview")
        with self.tandem.away("inventory"):
            placed = self.place("jam", 1)
            self.text("inventory does not answer")
            self.picture("stuck-overview")
            self.show(f"order/{placed.order_id}")
            self.text("PENDING")
            self.text("inventory")
            self.picture("stuck-order")
        self.browser.run("await page.locator('.badge.reserved').first().waitFor()")
        self.picture("stuck-order-decided")

    def test_a_session_that_has_ended(self):
        """The page says so, and asks who it is for what comes next."""
        self.expect(401)
        self.dead_letter("ended")
        self.show("dead")
        self.sign_in()
        self.browser.run("""
            const discard = page.locator("article:has-text('ended')").getByRole('button', { name: /^Discard/ });
            await context.clearCookies();
            await discard.click();
            await page.getByLabel('Why (the trail keeps it)').fill('late');
            await page.getByRole('dialog').getByRole('button', { name: 'Discard' }).click();
            await page.getByRole('dialog').getByText('only an operator may do this: sign in').waitFor();
            await page.locator('#who').getByText('read only').waitFor();
            await page.getByRole('dialog').getByRole('button', { name: 'Cancel' }).click();
            await discard.click();
            await page.getByRole('dialog', { name: 'Sign in as an operator' }).waitFor();
            await page.keyboard.press('Escape');""")

    def test_a_dialog_that_is_closed_too_early(self):
        """What was sent is done: the page shows it."""
        self.dead_letter("early")
        self.show("dead")
        self.sign_in()
        self.browser.run("""
            let open;
            const gate = new Promise((resolve) => { open = resolve; });
            await page.route('**/api/dead/discard', async (route) => { await gate; await route.continue(); });
            await page.locator("article:has-text('early')").getByRole('button', { name: /^Discard/ }).click();
            await page.getByLabel('Why (the trail keeps it)').fill('early');
            await page.getByRole('dialog').getByRole('button', { name: 'Discard' }).click();
            await page.keyboard.press('Escape');
            await page.getByRole('dialog').waitFor({ state: 'hidden' });
            open();
            await page.locator("article:has-text('early')").waitFor({ state: 'detached' });
            await page.unroute('**/api/dead/discard');""")

    def test_why_nothing_is_live(self):
        """More pages are open than may be: it says so, and connects when there is a place."""
        self.expect(503)
        opened = []
        until(lambda: self.tandem.console.metric("tandem_console_pages") == 0, 20 * SLOW, "all places are free")
        for _ in range(32):
            one = socket.create_connection(("127.0.0.1", self.port), timeout=10 * SLOW)
            self.addCleanup(one.close)
            one.sendall(b"GET /api/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            opened.append(one)
        until(lambda: self.tandem.console.metric("tandem_console_pages") == 32, 20 * SLOW, "all places are taken")
        self.show("stock")
        self.browser.run("await page.locator('#live').getByText('not connected: 32 pages are open').waitFor()")
        for one in opened:
            one.close()
        # It tries again by itself every few seconds.
        until(lambda: self.tandem.console.metric("tandem_console_pages") <= 1, 20 * SLOW, "places are free")
        self.browser.run("""await page.evaluate(async () => (await import('/live.js')).connect());
            await page.locator('#live.on').waitFor();""")

    def test_alarms(self):
        """The console's rules are those of packaging/prometheus; and Prometheus's own alarms are shown."""
        self.dead_letter("alarm")
        self.show("alarms")
        self.text("the server certificate <b>ends</b> in 3 days")
        self.text("Alarm: ")
        self.browser.run("""const row = page.locator('main tr', { hasText: 'TandemDeadLetters' });
            await row.locator('.badge', { hasText: 'FIRES' }).waitFor();""")
        with open(os.path.join(tandem.ROOT, "packaging", "prometheus", "tandem.rules.yml"), encoding="utf-8") as file:
            text = file.read()
        alerts = {}
        for name, rule in re.findall(r"- alert: (\w+)\n(.*?)(?=\n +- alert|\Z)", text, re.DOTALL):
            limit = re.search(r"expr:.*> ([\d.]+)$", rule, re.MULTILINE)
            wait = re.search(r"for: (\d+)([sm])", rule)
            alerts[name] = {"limit": float(limit[1]) if limit else 0, "severity": re.search(r"severity: (\w+)", rule)[1],
                            "for_s": int(wait[1]) * {"s": 1, "m": 60}[wait[2]] if wait else 0}
        rules = self.browser.run("""return page.evaluate(async () => (await import('/alarms.js')).RULES.map(
            ({ name, limit, severity, for_s }) => [name, { limit, severity, for_s }]))""")
        self.assertGreater(len(rules), 10)
        for name, rule in rules:
            self.assertEqual(rule, alerts[name], name)

    def test_an_alarm_fires_when_its_time_is_over(self):
        self.show("alarms")
        states = self.browser.run("""return page.evaluate(async () => {
            const { RULES, judge } = await import('/alarms.js');
            const rule = RULES.find((one) => one.name === 'TandemOrdersHang');
            const list = (...values) => values.map((unanswered_s, i) => ({ t: 1000 * i, unanswered_s }));
            const over = Array(11).fill(21);
            return [list(), list(20), list(21), list(...over.slice(1)), list(...over), list(...over, 5), list(...over, null), list(5, ...over)]
              .map((points) => judge(rule, points).state);
        })""")
        self.assertEqual(states, ["off", "off", "on", "on", "fires", "off", "off", "fires"])

    def test_older_changes_are_shown(self):
        """The trail's words are those of a page."""
        for number in range(205):
            self.stock(f"trail-{number % 5}", 1)
        self.show("checks")
        self.text("older ones are not shown")
        self.no_options("trail")
        self.browser.run("await page.getByRole('button', { name: 'Show older ones' }).click()")
        self.browser.run("await page.getByRole('button', { name: 'Show older ones' }).waitFor({ state: 'detached' })")

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

    FOCUSED = """const focused = () => page.evaluate(() => {
        const one = document.activeElement;
        return (one.getAttribute('aria-label') || one.id || one.textContent || '').trim();
      });
      const tabTo = async (name) => {
        for (let i = 0; i < 200; i += 1) {
          if (await focused() === name) return;
          await page.keyboard.press('Tab');
        }
        throw new Error(`not reached by Tab: ${name}`);
      };"""

    def test_all_is_reached_by_keyboard(self):
        """In each view Tab leads to all that can be used, the links of the views among it; what has the focus shows it."""
        self.stock("key", 20)
        order = self.place("key", 2, customer_id="keys", wait_for_decision=True).order_id
        self.dead_letter("keyboard")
        for place, awaited in (("orders", order), ("stock/key", order), ("dead", "keyboard"), ("checks", "redis version"), ("alarms", "ends")):
            with self.subTest(place=place):
                self.show(place)
                self.text(awaited)
                missed = self.browser.run("""
                    const usable = () => page.evaluate(() => {
                      window.usable = () => [...document.querySelectorAll('a, button, input, select, summary, [tabindex="0"]')]
                        .filter((one) => one.checkVisibility() && !one.disabled && !(one.type === 'radio' && !one.checked));
                      window.seen = new Set();
                      window.unseen = [];
                      document.addEventListener('focusin', (event) => {
                        const style = getComputedStyle(event.target);
                        window.seen.add(event.target);
                        if (style.outlineStyle === 'none' || parseFloat(style.outlineWidth) < 2) window.unseen.push(event.target);
                      });
                      return window.usable().length;
                    });
                    // A field for a time has several places of its own. What a live update adds behind the focus is reached
                    // in the next round; what cannot be reached, in none.
                    let presses = await usable() + 25;
                    let missed;
                    for (let round = 0; round < 4 && (round === 0 || missed[1].length > 0); round += 1) {
                      for (let i = 0; i < presses; i += 1) await page.keyboard.press('Tab');
                      [presses, missed] = await page.evaluate(() => [window.usable().length + 25,
                        [window.unseen, window.usable().filter((one) => !window.seen.has(one))]
                          .map((list) => list.map((one) => one.outerHTML.slice(0, 100)))]);
                    }
                    return missed;""")
                self.assertEqual(missed, [[], []])

    def test_a_dead_letter_by_keyboard_alone(self):
        """Signing in, saying why, discarding; then the focus is where one goes on."""
        self.dead_letter("typed")
        self.show("dead")
        self.text("typed")
        self.browser.run(self.FOCUSED + """
            const name = await page.locator("article:has-text('typed')").getByRole('button', { name: /^Discard/ }).getAttribute('aria-label');
            await tabTo(name);
            await page.keyboard.press('Enter');
            await page.getByRole('dialog', { name: 'Sign in as an operator' }).waitFor();
            await tabTo('field-secret');
            await page.keyboard.type(args.password);
            await page.keyboard.press('Enter');
            await page.getByRole('dialog', { name: 'Discard this dead letter?' }).waitFor();
            await tabTo('field-why');
            await page.keyboard.type('by keyboard');
            await page.keyboard.press('Enter');
            await page.locator("article:has-text('typed')").waitFor({ state: 'detached' });
            await page.getByRole('dialog').waitFor({ state: 'hidden' });""", password=self.ops_password())
        self.browser.run("await page.waitForFunction(() => document.activeElement.closest('main'))")
        trail = {(entry["action"], entry["subject"]): entry["why"] for entry in self.tandem.ctl_json("trail")[1]}
        self.assertEqual(trail["dead.discard", "typed"], "by keyboard")

    def test_what_is_live_keeps_the_focus_and_is_quiet(self):
        """Elements with the focus stay through live updates; who listens is told what is new, not each number."""
        self.dead_letter("quiet")
        # What needs a look for a moment only goes, and its link with it: that of the dead letters stays.
        stays = "main a[href='#/dead']"
        for view, which in (("overview", stays), ("alarms", stays), ("orders", "main tbody a"), ("streams", "main tbody a")):
            with self.subTest(view=view):
                self.stock("q", 5)
                self.place("q", 1, wait_for_decision=True)
                self.show(view)
                self.browser.run("await page.locator(args.which).first().focus()", which=which)
                self.points(1)
                self.browser.run("""await page.evaluate((which) => {
                    window.held = document.querySelector(which);
                    window.held.focus();
                    window.heard = [];
                    window.listener = new MutationObserver((changes) => {
                      for (const change of changes) {
                        const target = change.target.nodeType === 1 ? change.target : change.target.parentElement;
                        const region = target && target.closest('[role=status], [role=alert], [aria-live=polite]');
                        const alert = [...change.addedNodes].some((one) => one.nodeType === 1 && (one.matches('[role=alert]') || one.querySelector('[role=alert]')));
                        if (region || alert) window.heard.push((region || target).textContent.slice(0, 80));
                      }
                    });
                    window.listener.observe(document.body, { subtree: true, childList: true, characterData: true });
                }, args.which)""", which=which)
                self.points(3)
                self.assertTrue(self.browser.run("return page.evaluate(() => document.activeElement === window.held && window.held.isConnected)"))
                self.assertLessEqual(len(self.browser.run("return page.evaluate(() => window.heard)")), 1)

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
        self.expect(503)
        self.show("overview")
        self.text("order:{0}:events")
        self.tandem.redis.kill()
        self.show("stock")
        self.text("Bad:")
        self.picture("stock-without-redis")
        self.show("alarms")
        self.text("Bad:")
        self.tandem.start()
        until(lambda: self.get("/api/stock")[0] == 200, 20 * SLOW, "stock is read again")
        self.show("stock")
        self.browser.run("await page.locator('main').getByText(/SKUs?$/).first().waitFor()")


if __name__ == "__main__":
    tandem.main()
