"""The programs of examples/ that need little: each runs as its reader runs it, and what it says is what happened.
scripts/examples runs all of them. And the webhook: what it posts to a receiver that is well, away, or refuses."""
import base64
import collections
import hashlib
import hmac
import http.server
import json
import os
import re
import signal
import subprocess
import threading
import time

import tandem
import test_scripts

RUN = os.path.join(tandem.ROOT, "examples", "run")
ORDER = "ord_[a-z2-7]{26}"


class Printed:
    """The lines of a program that goes on, as they come."""

    def __init__(self, command, env):
        self.popen = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True, start_new_session=True)
        self.lines = []
        self.reader = threading.Thread(target=lambda: self.lines.extend(iter(self.popen.stdout.readline, "")), daemon=True)
        self.reader.start()

    def end(self):
        os.killpg(self.popen.pid, signal.SIGTERM)
        self.popen.wait(20)
        self.reader.join(20)
        self.popen.stdout.close()


class Receiver:
    """Takes what is posted to `port`, while it is open. `answer(decision)` says how: a code, or None: without an answer."""

    def __init__(self, port, key):
        self.port, self.key, self.answer = port, key, lambda decision: 204
        self.taken, self.tries, self.faults = [], [], []  # decisions by their ids; those taken, all, and what was wrong
        self.server = None

    def take(self, handler):
        body = handler.rfile.read(int(handler.headers["content-length"]))
        decision, name = json.loads(body), handler.headers["webhook-id"]
        signed = f"{name}.{handler.headers['webhook-timestamp']}.".encode() + body
        signature = base64.b64encode(hmac.new(self.key, signed, hashlib.sha256).digest()).decode()
        if handler.headers["webhook-signature"] != f"v1,{signature}":
            self.faults.append(f"signature of {body}")
        if abs(int(handler.headers["webhook-timestamp"]) - time.time()) > 60 * tandem.SLOW:
            self.faults.append(f"time of {body}: {handler.headers['webhook-timestamp']}")
        if handler.headers["content-type"] != "application/json" or name != f"{decision['order_id']}/{decision['version']}":
            self.faults.append(f"{handler.headers} of {body}")
        self.tries.append(name)
        code = self.answer(decision)
        if code is None:
            handler.close_connection = True
            return
        if 200 <= code < 300:
            self.taken.append((name, decision))
        handler.send_response(code)
        handler.send_header("content-length", "0")
        handler.end_headers()

    def open(self):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            do_POST = lambda handler: self.take(handler)  # noqa: E731
            log_message = lambda *_: None  # noqa: E731

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def decisions(self, order_id):
        return [decision["type"] for _, decision in self.taken if decision["order_id"] == order_id]


class Webhook:
    """examples/webhook, with a target's name or without."""

    def __init__(self, live, target=None, timeout="5s"):
        port, self.port, self.admin_port = tandem.free_ports(3)
        self.live, self.timeout = live, timeout
        self.name = f"webhook-{target}" if target else "webhook"
        self.folder, self.env, self.more = live.tandem.folder, {**live.env}, ()
        if target:
            self.env["TANDEM_WEBHOOK_TARGET"] = target
        key = os.urandom(32)
        self.receiver = Receiver(port, key)
        self.secret(b"whsec_" + base64.b64encode(key) + b"\n")
        self.url = f"http://127.0.0.1:{port}/hooks"
        self.log = os.path.join(self.folder, f"{self.name}.log")

    def secret(self, text):
        with open(os.path.join(self.folder, f"{self.name}.secret"), "wb") as file:
            file.write(text)

    def command(self):
        secrets = os.path.join(self.env["TANDEM_VAR"], "secrets")
        return [os.path.join(tandem.BUILD, "tests", "tandem-webhook"), f"--url={self.url}",
                f"--secret-file={self.folder}/{self.name}.secret", f"--redis-port={self.live.tandem.redis_port}",
                f"--redis-password-file={secrets}/{self.name}", "--redis-deploy-user=deploy",
                f"--redis-deploy-password-file={secrets}/deploy", f"--listen=127.0.0.1:{self.port}",
                f"--admin-listen=127.0.0.1:{self.admin_port}", "--event-retry-min=10ms", "--event-retry-max=100ms",
                "--claim-idle=1s", "--deliveries-max=3", f"--timeout={self.timeout}", "--requests-max=4", *self.more]

    def text(self):
        with open(self.log, encoding="utf-8") as log:
            return log.read()

    def start(self):
        with open(self.log, "ab") as log:
            self.popen = subprocess.Popen(self.command(), env=self.env, stdout=log, stderr=log)

    def end(self):
        self.popen.terminate()
        code = self.popen.wait(20 * tandem.SLOW)
        self.receiver.close()
        text = self.text()
        self.live.assertEqual(code, 0, text)
        self.live.assertFalse(any(report in text for report in tandem.REPORTS), text)
        self.live.assertEqual(self.receiver.faults, [])

    def refuses(self):
        """It must not start; what it says."""
        ran = subprocess.run(self.command(), env=self.env, capture_output=True, text=True, timeout=30 * tandem.SLOW)
        self.live.assertNotEqual(ran.returncode, 0)
        return ran.stderr


class Runs(tandem.Live):
    """What each example must do; scripts/examples has them all."""

    @classmethod
    def prepare(cls):
        cls.env = cls.tandem.env
        if tandem.SANITIZED:
            cls.env = {**cls.env, "CFLAGS": "-fsanitize=address,undefined"}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.stock("tea", 10000)

    @classmethod
    def users(cls, *names):
        """Makes users for targets of the webhook; their folder."""
        folder = os.path.join(cls.tandem.env["TANDEM_VAR"], "users.d")
        os.makedirs(folder)
        for name in names:
            command = [os.path.join(tandem.ROOT, "scripts/lib/redis-user"), name, "order"]
            with open(os.path.join(folder, f"{name}.acl"), "wb") as file:
                subprocess.run(command, env=cls.tandem.env, stdout=file, check=True)
        return folder

    def example(self, name, *arguments):
        ran = subprocess.run([RUN, name, *arguments], env=self.env, capture_output=True, text=True, timeout=900)
        self.assertEqual(ran.returncode, 0, ran.stdout + ran.stderr)
        return ran.stdout

    def first_order(self, name):
        before = self.listed("me")
        said = self.example(name, f"127.0.0.1:{self.tandem.ports['gateway']}")
        self.assertRegex(said, f"^{ORDER} (ORDER_STATUS_)?RESERVED\n$")
        order = self.get(said.split()[0])
        self.assertEqual((self.name(order), order.customer_id), ("RESERVED", "me"))
        self.assertEqual([(line.sku, line.quantity) for line in order.lines], [("tea", 2)])
        self.assertEqual(len(self.listed("me")), len(before) + 1, "it places one order")
        self.adds_up("tea")

    def subscriber(self, name):
        order_id = self.place("tea", wait_for_decision=True).order_id
        env = {**self.env, "PYTHONUNBUFFERED": "1"}
        secret = os.path.join(self.tandem.env["TANDEM_VAR"], "secrets", "subscriber")
        printed = Printed([RUN, name, secret, name], env)
        self.addCleanup(printed.end)

        def of(subject):
            return [line.split()[:3:2] for line in printed.lines if line.split()[1] == subject]

        tandem.until(lambda: len(of(order_id)) >= 2, 60 * tandem.SLOW, lambda: f"what was there already: {printed.lines}")
        self.assertEqual(of(order_id), [["OrderPlaced", "1"], ["OrderReserved", "2"]])
        order_id = self.place("tea", wait_for_decision=True).order_id
        self.order.ConfirmOrder(order_id=order_id)
        life = [["OrderPlaced", "1"], ["OrderReserved", "2"], ["OrderConfirmed", "3"], ["OrderSettled", "4"]]
        tandem.until(lambda: len(of(order_id)) >= len(life), 20 * tandem.SLOW, lambda: f"what happens: {printed.lines}")
        self.assertEqual(of(order_id), life)

        def acknowledged():
            groups = map(tandem.pairs, self.tandem.redis_as()("XINFO", "GROUPS", tandem.ORDERS))
            (group,) = (group for group in groups if group[b"name"] == name.encode())
            return group[b"pending"] == 0

        tandem.until(acknowledged, 20 * tandem.SLOW, "all is acknowledged")

    def webhook(self, target=None, timeout="5s", more=()):
        webhook = Webhook(self, target, timeout)
        webhook.more = more
        webhook.receiver.open()
        webhook.start()
        self.addCleanup(webhook.end)
        return webhook

    def reserved(self, count=1):
        ids = [self.placing("tea", wait_for_decision=True) for _ in range(count)]
        return [call.result().order.order_id for call in ids]

    def told(self, receiver, *order_ids, decisions=("OrderReserved",)):
        """The receiver has taken these decisions about each."""

        def all_told():
            return all(sorted(set(receiver.decisions(i))) == sorted(decisions) for i in order_ids)

        tandem.until(all_told, 20 * tandem.SLOW, lambda: f"{order_ids} told: {receiver.taken[-5:]} {receiver.tries[-5:]}")


class Examples(Runs):
    @classmethod
    def prepare(cls):
        """Users for the webhook's targets, as its README says, and one of docs/consuming.md."""
        super().prepare()
        with open(os.path.join(cls.users("webhook", "webhook-mail"), "mailer.acl"), "w", encoding="utf-8") as file:
            file.write(test_scripts.mailer())

    def test_c(self):
        self.first_order("c")

    def test_python(self):
        self.first_order("python")

    def test_ruby(self):
        self.first_order("ruby")

    def test_python_subscriber(self):
        self.subscriber("python-subscriber")

    def test_node(self):
        if tandem.modules_of_node():
            self.first_order("node")
            self.subscriber("node-subscriber")

    # ---- docs/consuming.md ----

    def test_what_readers_may(self):
        """A reader reads, and keeps a place; nothing else, and nothing of other keys."""
        self.reserved()
        denied = [
            ("XADD", tandem.ORDERS, "*", "a", "b"), ("XDEL", tandem.ORDERS, "1-1"), ("XTRIM", tandem.ORDERS, "MAXLEN", 0),
            ("DEL", tandem.ORDERS), ("XSETID", tandem.ORDERS, "1-1"), ("XGROUP", "DESTROY", tandem.ORDERS, "look"),
            ("XGROUP", "SETID", tandem.ORDERS, "inventory", "$"), ("RENAME", tandem.ORDERS, "order:{0}:events2"),
            ("HGETALL", "order:{0}:orders"), ("HGETALL", "inventory:{0}:stock"), ("GET", "order:{0}:partitions"),
            ("XRANGE", "order:{0}:dead", "-", "+"), ("XRANGE", "order:{0}:trail", "-", "+"), ("SET", "other", "1"),
            ("XADD", "mailer:{0}:events", "*", "a", "b"), ("KEYS", "*"), ("SCAN", 0), ("EVAL", "return 1", 0),
            ("FCALL", self.tandem.function("order", "trim"), 1, tandem.ORDERS, 0, 0, 0, 0), ("CONFIG", "GET", "*"),
            ("ACL", "LIST"), ("FLUSHALL",), ("ASKING",), ("SUBSCRIBE", "a"), ("CLIENT", "LIST"), ("CLIENT", "KILL", "TYPE", "normal"),
            ("CLIENT", "PAUSE", 1),
        ]
        archive = "archive:{0}:events"
        self.tandem.redis_as("ops")("XADD", archive, "*", "time", "2026-11-28T00:00:00.000Z")
        self.addCleanup(self.tandem.redis_as("ops"), "DEL", archive)
        others = {
            "subscriber": (self.tandem.redis_as("subscriber"), (tandem.ORDERS, tandem.STOCK, archive), ()),
            "mailer": (tandem.Redis(self.tandem.redis_port, "mailer", "word"), (tandem.ORDERS,), (tandem.STOCK, archive)),
        }
        for user, (redis, streams, closed) in others.items():
            for stream in streams:
                redis("XGROUP", "CREATE", stream, user, 0)
                self.addCleanup(self.tandem.redis_as("ops"), "XGROUP", "DESTROY", stream, user)
                ((_, entries),) = redis("XREADGROUP", "GROUP", user, "me", "COUNT", 1, "STREAMS", stream, ">")
                self.assertEqual(redis("XPENDING", stream, user)[0], 1)
                self.assertEqual(len(redis("XAUTOCLAIM", stream, user, "you", 0, 0)[1]), 1)
                self.assertEqual(redis("XACK", stream, user, entries[0][0]), 1)
                self.assertEqual(len(redis("XRANGE", stream, "-", "+", "COUNT", 1)), 1)
            for command in [*denied, *(("XRANGE", stream, "-", "+") for stream in closed)]:
                with self.subTest(user=user, command=command):
                    with self.assertRaisesRegex(tandem.RedisError, "^NOPERM"):
                        redis(*command)

    def test_consuming_by_hand(self):
        """The commands of the page, one after the other."""
        self.reserved()
        with open(os.path.join(tandem.ROOT, "docs/consuming.md"), encoding="utf-8") as page:
            (block,) = [b for b in re.findall("^```sh\n(.*?)^```$", page.read(), re.DOTALL | re.MULTILINE) if "redis-cli" in b]
        block = block.replace("-p 6390", f"-p {self.tandem.redis_port}").replace("var/", f"'{self.env['TANDEM_VAR']}'/")
        block = "\n".join(f"{line}; echo ---" for line in block.replace("tandemctl", f"'{tandem.CTL}'").splitlines() if line)
        block = re.sub(r"#.*?; echo", "; echo", block).replace("; echo", " && echo")
        ran = subprocess.run(["bash", "-euo", "pipefail", "-c", block], env=self.env, capture_output=True, text=True, errors="replace")
        self.assertEqual((ran.returncode, ran.stderr), (0, ""), ran.stdout)
        said = ran.stdout.split("---\n")
        self.assertEqual(said[1], "OK\n")
        self.assertIn("tandem.order.v1.OrderPlaced", said[2])
        self.assertEqual(said[4], said[2].split("\n", 1)[0] + "\n" + said[4].split("\n", 1)[1], "the same once more")
        self.assertIn("tandem.order.v1.OrderPlaced", said[5])
        self.assertIn("look", said[6])
        groups = {tandem.pairs(group)[b"name"] for group in self.tandem.redis_as()("XINFO", "GROUPS", tandem.ORDERS)}
        self.assertNotIn(b"look", groups)

    # ---- the webhook ----

    def test_webhook_tells_decisions(self):
        receiver = self.webhook().receiver
        (order_id,) = self.reserved()
        self.order.ConfirmOrder(order_id=order_id)
        self.told(receiver, order_id, decisions=("OrderConfirmed", "OrderReserved"))
        event = [event for event in self.events(tandem.ORDERS, order_id) if event.name == "OrderConfirmed"][0]
        decision = {"type": "OrderConfirmed", "order_id": order_id, "version": event.seq, "time": event.time}
        self.assertIn((event.id, decision), receiver.taken)

    def test_webhook_receiver_that_is_away(self):
        """All that happens meanwhile is told when it is back, also by the process that follows one that was killed; and what
        it had taken without an answer comes again with the same id."""
        webhook = self.webhook()
        receiver = webhook.receiver
        first, *_ = self.reserved()
        self.told(receiver, first)
        receiver.answer = lambda decision: None
        began, before = time.monotonic(), len(receiver.tries)
        unsure = self.reserved(3)
        tandem.until(lambda: all(f"{i}/2" in receiver.tries for i in unsure), 20 * tandem.SLOW, "tried")
        missed = self.reserved(20)
        tandem.until(lambda: len(receiver.tries) >= before + 12, 20 * tandem.SLOW, "tried again")
        # One at a time, after a pause of 100 ms less a quarter; and four under way, which curl sends once more by itself when
        # a connection that it kept ends without an answer.
        self.assertLessEqual(len(receiver.tries) - before, 8 + (time.monotonic() - began) / 0.075)
        receiver.close()
        missed += self.reserved(30)
        webhook.popen.kill()
        webhook.popen.wait()
        webhook.start()
        busy = self.reserved(3)
        tries = len(receiver.tries)
        receiver.answer = lambda decision: 503 if len(receiver.tries) < tries + 3 else 200
        receiver.open()
        self.told(receiver, *unsure, *missed, *busy)
        counts = collections.Counter(receiver.tries)
        self.assertGreaterEqual(counts[f"{unsure[0]}/2"], 2, "the repeat has the same id")
        self.assertEqual(self.tandem.redis_as()("XLEN", "webhook:{0}:dead"), 0, "who is away makes no dead letters")
        together = threading.Barrier(4)
        receiver.answer = lambda decision: 200 + 0 * together.wait(10 * tandem.SLOW)
        self.told(receiver, *self.reserved(4))  # as many at once as --requests-max says

    def test_webhook_that_is_asked_to_end(self):
        """It ends although decisions wait, and those under way find no receiver; the next process tells them."""
        webhook, answers = self.webhook(timeout="2s"), threading.Event()
        receiver = webhook.receiver
        receiver.answer = lambda decision: 503 if answers.wait(60 * tandem.SLOW) else None
        order_ids = self.reserved(8)
        tandem.until(lambda: len({f"{i}/2" for i in order_ids} & {*receiver.tries}) == 4, 20 * tandem.SLOW, "four under way")
        webhook.popen.terminate()
        self.assertEqual(webhook.popen.wait(20 * tandem.SLOW), 0)
        answers.set()
        receiver.answer = lambda decision: 200
        webhook.start()
        self.told(receiver, *order_ids)

    def test_webhook_what_the_receiver_refuses(self):
        """It is a dead letter, and keeps nothing back."""
        receiver = self.webhook().receiver
        refused, other, good = self.reserved(3)
        self.told(receiver, refused, other, good)
        receiver.answer = lambda decision: 200 if decision["order_id"] == good else 400
        for order_id in (refused, other, good):
            self.order.ConfirmOrder(order_id=order_id)
        redis = self.tandem.redis_as()

        def dead():
            return {entry[b"id"].decode() for _, entry in redis.entries("webhook:{0}:dead")}

        tandem.until(lambda: dead() >= {f"{refused}/3", f"{other}/3"}, 20 * tandem.SLOW, lambda: f"dead letters: {dead()}")
        self.assertIn(receiver.tries.count(f"{refused}/3"), (3, 4), "as often as --deliveries-max says")
        self.told(receiver, good, decisions=("OrderConfirmed", "OrderReserved"))
        self.assertFalse(any(i.startswith(good) for i in dead()))
        self.dead_letters(receiver, f"{refused}/3", f"{other}/3")

    def dead_letters(self, receiver, *names):
        """What an operator does with those of the webhook: the first is replayed, the other one discarded."""
        places = {letter["event_id"]: letter["stream_id"] for letter in self.operator("dead", "list")}
        self.assertEqual({*places}, {*names})
        place, other = (places[name] for name in names)
        self.assertEqual([letter["event_id"] for letter in self.operator("dead", "show", place, "-c", "webhook")], [names[0]])
        self.assertEqual({letter["context"] for letter in self.operator("dead", "list", "-c", "webhook")}, {"webhook"})
        self.assertEqual(self.operator("dead", "list", "-c", "inventory"), [])
        for command in (("dead", "list"), ("trail",)):
            self.operator(*command, "-c", "webhok", code=1)
        rows = self.tandem.ctl_json("doctor")[1]
        self.assertIn(("dead letters", "warn"), {(row["check"], row["result"]) for row in rows})
        receiver.answer = lambda decision: 204
        tries = receiver.tries.count(names[0])
        self.assertEqual(self.operator("dead", "replay", place)[0]["outcome"], "replayed to")
        tandem.until(lambda: receiver.tries.count(names[0]) > tries, 20 * tandem.SLOW, "what was replayed comes again")
        self.assertEqual(self.operator("dead", "discard", other, "--why", "w")[0]["outcome"], "discarded")
        self.assertEqual(self.operator("dead", "list"), [])
        deeds = self.operator("trail", "-c", "webhook")
        self.assertEqual([(deed["action"], deed["subject"]) for deed in deeds],
                         [("dead.replay", names[0].split("/")[0]), ("dead.discard", names[1].split("/")[0])])
        self.assertLessEqual({deed["stream_id"] for deed in deeds}, {deed["stream_id"] for deed in self.operator("trail")})

    def operator(self, *command, code=0):
        """What tandemctl prints, and must end with."""
        ended, rows = self.tandem.ctl_json(*command)
        self.assertEqual(ended, code, rows)
        return rows

    def test_webhook_two_targets(self):
        """Each has a group of its own: one that is away keeps nothing from the other."""
        shop, mail = self.webhook(), self.webhook("mail")
        mail.receiver.close()
        ids = self.reserved(5)
        self.told(shop.receiver, *ids)
        self.assertEqual([mail.receiver.decisions(i) for i in ids], [[]] * 5)
        mail.receiver.open()
        self.told(mail.receiver, *ids)
        groups = {tandem.pairs(group)[b"name"] for group in self.tandem.redis_as()("XINFO", "GROUPS", tandem.ORDERS)}
        self.assertLessEqual({b"webhook", b"webhook-mail"}, groups)

    def test_webhook_is_started_as_its_readme_says(self):
        """All but building it from the package, which scripts/check install does, and scripts/up."""
        with open(os.path.join(tandem.ROOT, "examples/README.md"), encoding="utf-8") as page:
            (block,) = [b for b in re.findall("^```sh\n(.*?)^```$", page.read(), re.DOTALL | re.MULTILINE) if "--url" in b]
        block = re.sub("^cmake .*\n", "", block, flags=re.MULTILINE).replace(" && scripts/up --detach", "")
        for there, here in (("/tmp/webhook/", f"'{tandem.BUILD}'/tests/"), ("var/", f"'{self.env['TANDEM_VAR']}'/"),
                            ("hook.secret", f"'{self.tandem.folder}'/hook.secret"), ("/webhook.acl", "/again")):
            block = block.replace(there, here)
        ran = subprocess.run(["bash", "-euc", f"{block.rstrip()} --print-config"], cwd=tandem.ROOT, env=self.env,
                             capture_output=True, text=True)
        self.assertEqual(ran.returncode, 0, ran.stderr)
        self.assertIn("url=https://shop.example/hooks\n", ran.stdout)
        users = os.path.join(self.env["TANDEM_VAR"], "users.d")
        with open(os.path.join(users, "again"), encoding="utf-8") as again, open(f"{users}/webhook.acl", encoding="utf-8") as made:
            self.assertEqual(again.read(), made.read(), "the same password")
        webhook = Webhook(self)
        with open(os.path.join(self.tandem.folder, "hook.secret"), "rb") as made:
            webhook.secret(made.read())
        webhook.url = "none"
        self.assertNotIn("secret", webhook.refuses())

    def test_webhook_settings_that_cannot_be(self):
        webhook = Webhook(self)
        for url in ("shop.example/hooks", "ftp://shop.example/", ""):
            webhook.url = url
            self.assertIn("--url must begin with http:// or https://", webhook.refuses(), url)
        webhook.url = "http://127.0.0.1:1/"
        for text in (b"", b"\n", b"c2hvcnQ=", b"whsec_", b"no base64, though it is long enough", base64.b64encode(bytes(65))):
            webhook.secret(text)
            self.assertIn("the base64 of 24 to 64 bytes", webhook.refuses(), text)


class OverTls(Runs):
    """Redis has TLS, and each reader a certificate of its CA: docs/consuming.md."""

    ENV = {"TANDEM_REDIS_TLS": "1"}

    @classmethod
    def prepare(cls):
        super().prepare()
        cls.users("webhook")
        ca = os.path.join(tandem.ROOT, "scripts", "lib", "ca")
        for folder in (None, "other"):  # of another authority, too
            var = cls.tandem.tls(folder) if folder else cls.tandem.env["TANDEM_VAR"]
            subprocess.run([ca, "--client", "reader"], env={**cls.tandem.env, "TANDEM_VAR": var}, check=True, stdout=subprocess.DEVNULL)
        cls.env = {**cls.env, "TANDEM_REDIS_TLS_CERT": cls.tandem.tls("reader.crt"), "TANDEM_REDIS_TLS_KEY": cls.tandem.tls("reader.key")}

    def reads(self, name):
        self.subscriber(name)
        env = {**self.env, "TANDEM_REDIS_TLS_CA": self.tandem.tls("other", "tls", "ca.crt")}
        secret = os.path.join(self.tandem.env["TANDEM_VAR"], "secrets", "subscriber")
        path = os.path.join(self.tandem.folder, f"{name}.log")
        with open(path, "wb") as log:
            popen = subprocess.Popen([RUN, name, secret, name], env=env, stdout=log, stderr=log, start_new_session=True)

        def said():
            with open(path, encoding="utf-8") as log:
                return log.read()

        try:
            tandem.until(lambda: "certificate" in said(), 60 * tandem.SLOW, lambda: f"Redis of another CA is refused: {said()}")
        finally:
            os.killpg(popen.pid, signal.SIGTERM)
            popen.wait(20 * tandem.SLOW)

    def test_python_subscriber(self):
        self.reads("python-subscriber")

    def test_node_subscriber(self):
        if tandem.modules_of_node():
            self.reads("node-subscriber")

    def test_webhook(self):
        files = [f"--redis-tls-{name}={self.env[f'TANDEM_REDIS_TLS_{name.upper()}']}" for name in ("ca", "cert", "key")]
        receiver = self.webhook(more=("--redis-tls=true", *files)).receiver
        self.told(receiver, *self.reserved())


if __name__ == "__main__":
    tandem.main()
