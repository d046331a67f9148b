"""The console's page in a browser: Chromium, driven by tests/console/browser.js.

Pictures of each view, light and dark, wide and narrow, are in console-pictures/ of the build.
"""
import json
import os
import select
import shutil
import subprocess

import tandem
from console import Console
from tandem import SLOW, until

TESTS = os.path.join(tandem.ROOT, "tests", "console")
BUILT = os.path.join(tandem.BUILD, "tests", "console")
PICTURES = os.path.join(tandem.BUILD, "console-pictures")
VIEWS = {"overview": "Overview", "orders": "Orders", "stock": "Stock", "streams": "Streams", "dead": "Dead letters",
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
                   "order": "What happens next", "sku": orders[1].order_id, "customer": "3 orders"}
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
        self.text("order:{0}:events")
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
