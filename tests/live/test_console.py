"""The console as any program sees it: what it serves, and whom it refuses. live/browser looks at its page."""
import hashlib
import http.client
import json
import os
import re
import socket
import subprocess
import time
import unittest
import urllib.parse

import tandem
from console import Console
from tandem import SLOW, until


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
            ("GET", "/api/archive/orders?label=x", None, 400, "label: not a label"),
            ("GET", "/api/archive/orders?status=nothing", None, 400, "no such status: nothing"),
            ("GET", "/api/archive/orders?page_token=x", None, 400, "page_token"),
            ("GET", "/api/archive/order?id=ord_nothing", None, 404, "NOT_FOUND"),
            ("GET", "/api/archive/movements?sku=a/b", None, 400, "sku: not 1 to 64 letters"),
            ("POST", "/api/archive/orders", {}, 405, "only GET"),
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
        # They cannot read what is only asked, but it is work.
        for path in ("/api/audit", "/api/live", "/api/streams"):
            self.assertEqual(self.get(path, Sec_Fetch_Site="cross-site")[0], 403, path)
        self.assertEqual(self.request("GET", "/", Sec_Fetch_Site="cross-site")[0], 200)  # a link to the page

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
        self.assertEqual({item["group"] for item in streams}, set(tandem.CONTEXTS))

    def test_the_archive(self):
        self.stock("plum", 5)
        orders = [self.place("plum", 1, customer_id=name, labels={"shop": "a b"}).order_id for name in ("ann", "bob")]

        def found(**query):
            status, answer = self.get(f"/api/archive/orders?{urllib.parse.urlencode(query)}")
            self.assertEqual(status, 200, answer)
            return [item["order"]["order_id"] for item in answer["items"] if "order" in item]

        until(lambda: len(found(sku="plum")) == 2, 20 * SLOW, "both are archived")
        self.assertEqual(found(label="shop=a b"), orders[::-1])
        self.assertEqual(found(sku="plum", oldest="true"), orders)
        self.assertEqual(found(customer="ann", sku="plum"), orders[:1])
        self.assertEqual(found(customer="ann", status="cancelled"), [])
        life = self.get(f"/api/archive/order?id={orders[0]}")[1]["items"][0]
        self.assertEqual(life["order"]["order"]["customer_id"], "ann")
        self.assertEqual(life["events"][0]["kind"], "OrderPlaced")

        def held():
            items = self.get("/api/archive/movements?sku=plum")[1]["items"]
            return [item for item in items if item["kind"] == "STOCK_MOVEMENT_KIND_RESERVED"]

        self.assertEqual(len(until(lambda: held() if len(held()) == 2 else None, 20 * SLOW, "both movements")), 2)

    def test_without_an_archive(self):
        """What needs none is answered, and what does says why not."""
        with self.tandem.away("archive"):
            status, answer = self.get("/api/archive/orders")
            self.assertEqual(status, 503, answer)
            self.assertIn("UNAVAILABLE", answer["error"])
            self.assertEqual(self.get("/api/orders?customer=nobody")[0], 200)

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
            until(lambda: file.readline() == b"event: history\n", 10 * SLOW, "the history", every=0)
            history = json.loads(file.readline().partition(b" ")[2])
            self.assertTrue(all(point["t"] and "services" not in point for point in history))

            def whole():
                """The first ones may be of a moment at which a service had just begun."""
                while file.readline() != b"event: point\n":
                    pass
                point = json.loads(file.readline().partition(b" ")[2])
                return (point["away"] == 0
                        and {service["name"] for service in point["services"]} == set(tandem.SERVICES)
                        and {stream["reader"] for stream in point["streams"]} == {"order", "inventory"})

            until(whole, 20 * SLOW, "a point with all services and readers", every=0)

    def test_without_prometheus(self):
        self.assertEqual(self.get("/api/alarms"), (200, {"from": None, "items": []}))

    def test_pages_are_bounded(self):
        opened = []
        until(lambda: self.tandem.console.metric("tandem_console_pages") == 0, 20 * SLOW, "pages of other tests are closed")
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
        cls.tandem.env["TANDEM_CONSOLE_SESSION"] = "10s"  # what is asked in between takes a moment

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
        # What a page asks by itself keeps nobody signed in; signing in again ends the session before.
        self.assertEqual(self.post("/api/sign-in", body, Cookie=cookie)[0], 200)
        self.assertEqual(self.get("/api/stock", Cookie=cookie)[0], 401)
        cookie = self.signed_in()
        until(lambda: self.get("/api/stock", Cookie=cookie, Tandem_Refresh="1")[0] == 401, 30 * SLOW, "the session has ended")


class Hanging(unittest.TestCase):
    """Services that take a connection and say nothing."""

    def test_they_do_not_keep_the_others(self):
        with socket.create_server(("127.0.0.1", 0), backlog=128) as silent:
            url = f"http://127.0.0.1:{silent.getsockname()[1]}"
            env = {name: value for name, value in os.environ.items() if not name.startswith("TANDEM_")}
            with subprocess.Popen([os.path.join(tandem.BUILD, "tandem-console"), "--listen", "127.0.0.1:0", "--admin-listen", "",
                                   "--metrics", ",".join([url] * 60)], env=env, stderr=subprocess.PIPE, text=True) as console:
                self.addCleanup(console.stderr.close)
                try:
                    port = None
                    while port is None:
                        line = console.stderr.readline()
                        self.assertTrue(line, "the console has ended")
                        port = re.search(r"the page is served.*?port\D+(\d+)", line)
                    begin = time.monotonic()
                    with socket.create_connection(("127.0.0.1", int(port[1])), timeout=20 * SLOW) as one:
                        one.sendall(b"GET /api/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
                        file = one.makefile("rb")
                        while file.readline() != b"event: point\n":
                            self.assertLess(time.monotonic() - begin, 20 * SLOW)
                        point = json.loads(file.readline().partition(b" ")[2])
                finally:
                    console.terminate()
        self.assertEqual(point["away"], 60)


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
        self.assertIn("--prometheus", self.refused("--prometheus", "file:///x", "--listen", "127.0.0.1:0", "--admin-listen", ""))
        self.assertIn("--metrics", self.refused("--metrics", "file:///etc/passwd", "--listen", "127.0.0.1:0", "--admin-listen", ""))
        self.assertIn("--callers", self.refused("--callers", "x"))  # it asks the gateway


if __name__ == "__main__":
    tandem.main()
