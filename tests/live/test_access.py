"""Who may do what, over TLS with certificates on both sides, as scripts/up --tls sets it up: every method for every
role, from the table in proto/access.c itself; and a customer's orders."""
import base64
import hashlib
import hmac
import json
import os
import re
import socket
import ssl
import subprocess
import time
import typing
import unittest

import grpc
import jwt
import tandem
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from secured import AUDIENCE, ISSUER, Secured, raw

ROLES = ("ANONYMOUS", "CUSTOMER", "SUPPORT", "STOCK", "GATEWAY", "OPERATOR")
DENIED, UNKNOWN = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED


def table():
    """{"OrderService/PlaceOrder": {roles}}, as proto/access.c has it."""
    with open(os.path.join(tandem.ROOT, "proto", "access.c"), encoding="utf-8") as file:
        text = file.read()
    rows = {}
    for name, roles in re.findall(r"ROW\((\w+), ([A-Z| \n\t]+)\)", text):
        words = {word.strip() for word in roles.split("|")}
        words = {"ANONYMOUS" if word == "ANYONE" else word for word in words}
        rows[name.replace("_", "/", 1)] = set(ROLES) if "ALL" in words else words
    return rows


def by_hmac(claims, secret):
    """A token whose signature is an HMAC. python3-jwt refuses to make one with a public key."""
    parts = ({"alg": "HS256", "typ": "JWT", "kid": "one"}, claims)
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts]
    signature = hmac.new(secret, b".".join(parts), hashlib.sha256).digest()
    return b".".join((*parts, base64.urlsafe_b64encode(signature).rstrip(b"="))).decode()


def says_it_calls_for(role, customer_id="", name="somebody"):
    """What the gateway says to order and inventory of who calls it."""
    return "\0".join((role, customer_id, name)).encode()


def code_of(method, token=None, says=None):
    """With which code a call ends that has no content; None: not at all, it is served."""
    options = {"timeout": 10 * tandem.SLOW, "wait_for_ready": True}
    metadata = []
    if token:
        metadata.append(("authorization", f"Bearer {token}"))
    if says:
        metadata.append(("tandem-caller-bin", says))
    request = method.request()
    if "service" in request.DESCRIPTOR.fields_by_name:
        request.service = tandem.ORDER_SERVICE
    try:
        call = method.callable(iter([request]) if method.streams else request, metadata=metadata, **options)
        if hasattr(call, "cancel"):
            next(iter(call), None)
            call.cancel()
    except grpc.RpcError as error:
        return error.code()
    return None


class Caller(typing.NamedTuple):
    name: str
    role: str | None  # None: it is not known, whatever it calls
    certificate: str | None = None
    token: str | None = None
    says: bytes | None = None


class Matrix(Secured):
    # It brings more bad tokens in a second than a good client.
    ENV = {**Secured.ENV, "TANDEM_GATEWAY_REFUSED_TOKENS_PER_ADDRESS": "0"}

    def tokens_that_are_refused(self):
        """[(why, token)]; each would be an operator's."""
        good = self.issuer.token(role="operator").split(".")
        public = self.key.public_key()
        pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "x", "exp": time.time() + 600, "role": "operator"}
        return [
            ("forged", self.issuer.token(self.other_key, role="operator")),
            ("has expired", self.issuer.token(role="operator", exp=time.time() - 3600)),
            ("is not valid yet", self.issuer.token(role="operator", nbf=time.time() + 3600)),
            ("does not end", self.issuer.token(role="operator", exp=None)),
            ("is of another issuer", self.issuer.token(role="operator", iss="https://other.example")),
            ("is for another audience", self.issuer.token(role="operator", aud="other")),
            ("has no role", self.issuer.token()),
            ("has a role that there is not", self.issuer.token(role="root")),
            ("of a customer does not say which", self.issuer.token(role="customer")),
            ("is of a key that there is not", self.issuer.token(kid="two", role="operator")),
            ("without signature", jwt.encode(claims, None, algorithm="none", headers={"kid": "one"})),
            ("whose signature is cut off", ".".join(good[:2]) + "."),
            ("with the content of another", ".".join((good[0], self.issuer.token(role="stock").split(".")[1], good[2]))),
            ("signed with the public key as a secret", by_hmac(claims, raw(self.key))),
            ("signed with the public key's PEM as a secret", by_hmac(claims, pem)),
        ]

    def certificates(self):
        return [
            Caller("gateway", "GATEWAY", "gateway"),
            Caller("operator, by certificate", "OPERATOR", "ops"),
            Caller("certificate that nobody knows", None, "stranger"),
            Caller("key that nobody has", None, "ops", "tandem_" + "a" * 52),
        ]

    def callers(self):
        """Of the gateway."""
        operator = says_it_calls_for("operator")
        return self.certificates() + [
            Caller("anonymous", "ANONYMOUS"),
            Caller("anonymous, as if from the gateway", "ANONYMOUS", says=operator),
            Caller("customer A, by key", "CUSTOMER", None, self.api_keys[0]),
            Caller("customer B, by token", "CUSTOMER", None, self.issuer.token(role="customer", customer_id="cust_b")),
            Caller("customer C, by certificate", "CUSTOMER", "shop"),
            Caller("customer A, as if from the gateway", "CUSTOMER", None, self.api_keys[0], operator),
            Caller("customer A, with an operator's certificate", "CUSTOMER", "ops", self.api_keys[0]),
            Caller("support, by certificate", "SUPPORT", "support"),
            Caller("support, by token", "SUPPORT", None, self.issuer.token(role="support")),
            Caller("stock, by certificate", "STOCK", "stock"),
            Caller("operator, by token", "OPERATOR", None, self.issuer.token(role="operator")),
            Caller("operator's certificate, forged token", None, "ops", self.issuer.token(self.other_key, role="operator")),
        ] + [Caller(f"a token that {why}", None, None, token) for why, token in self.tokens_that_are_refused()]

    def inner_callers(self):
        """Of order and inventory. role "OUTSIDE": it is known, but should call the gateway."""
        operator = says_it_calls_for("operator")
        return self.certificates() + [
            Caller("customer C, by certificate", "OUTSIDE", "shop"),
            Caller("support, by certificate", "OUTSIDE", "support"),
            Caller("stock, by certificate", "OUTSIDE", "stock"),
            Caller("customer A's key, with an operator's certificate", "OUTSIDE", "ops", self.api_keys[0]),
            Caller("customer A's key, with the gateway's certificate", "OUTSIDE", "gateway", self.api_keys[0], operator),
            Caller("support, as if it were the gateway", "OUTSIDE", "support", says=operator),
            # Tokens are for the gateway; these services do not know the keys.
            Caller("customer B's token", None, "support", self.issuer.token(role="customer", customer_id="cust_b")),
            Caller("an operator's token", None, "ops", self.issuer.token(role="operator")),
            Caller("stranger, as if it were the gateway", None, "stranger", says=operator),
            Caller("gateway, for nobody", None, "gateway", says=b"nobody"),
            Caller("gateway, for a role that there is not", None, "gateway", says=says_it_calls_for("root")),
            *(Caller(f"gateway, for {role.lower()}", role, "gateway",
                     says=says_it_calls_for(role.lower(), "cust_a" if role == "CUSTOMER" else "")) for role in ROLES),
        ]

    def check(self, callers, target, services):
        """Every method of these services, for each caller."""
        rows = table()
        seen = set()
        for caller in callers:
            stubs = self.stubs(caller.certificate, target)
            for service, stub in stubs.items():
                for method_name, method in vars(stub).items():
                    row = f"{service.rpartition('.')[2]}/{method_name}"
                    if row.partition("/")[0] not in services:
                        continue
                    seen.add(row)
                    with self.subTest(service=target, caller=caller.name, method=row):
                        code = code_of(method, caller.token, caller.says)
                        if caller.role is None or caller.role == "ANONYMOUS" and caller.role not in rows[row]:
                            self.assertEqual(code, UNKNOWN)
                        elif caller.role in rows[row]:
                            self.assertNotIn(code, (DENIED, UNKNOWN, grpc.StatusCode.UNAVAILABLE,
                                                    grpc.StatusCode.UNIMPLEMENTED))
                        else:
                            self.assertEqual(code, DENIED)
        self.assertEqual(seen, {row for row in rows if row.partition("/")[0] in services})

    def test_every_method_for_every_role(self):
        self.check(self.callers(), "gateway", ("OrderService", "InventoryService", "ArchiveService", "Health", "ServerReflection"))

    def test_behind_the_gateway(self):
        self.check(self.inner_callers(), "order", ("OrderService", "PlacementService", "Health", "ServerReflection"))
        self.check(self.inner_callers(), "inventory", ("InventoryService", "Health", "ServerReflection"))
        self.check(self.inner_callers(), "archive", ("ArchiveService", "Health", "ServerReflection"))

    def test_who_does_not_get_through(self):
        """Certificates of another authority are refused, whatever name they have; behind the gateway, also who shows none."""
        for name, certificate in (("gateway", "other/tls/ops"), ("gateway", "other/tls/gateway"),
                                  *((name, certificate) for name in tandem.CONTEXTS
                                    for certificate in (None, "other/tls/ops", "other/tls/gateway"))):
            for token in (None, self.api_keys[0], self.issuer.token(role="operator")):
                with self.subTest(service=name, certificate=certificate, token=token):
                    metadata = (("authorization", f"Bearer {token}"),) if token else ()
                    with self.assertRaises(grpc.RpcError) as caught:
                        self.stubs(certificate, name)[tandem.HEALTH].Check(_timeout=10 * tandem.SLOW, _metadata=metadata)
                    self.assertEqual(caught.exception.code(), grpc.StatusCode.UNAVAILABLE)

    def client(self, port, *options):
        """A command: the operator's connection to this port."""
        return ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-cipher", "ALL:@SECLEVEL=0",
                "-CAfile", self.tandem.tls("ca.crt"), "-cert", self.tandem.tls("ops.crt"), "-key", self.tandem.tls("ops.key"),
                *options]

    def offered(self, port, *options):
        """Whether a connection with these options comes about, and what ALPN chose; None: nothing."""
        done = subprocess.run(self.client(port, *options), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              errors="replace", timeout=30, check=False)
        self.assertIn("CONNECTED", done.stdout)  # or it says nothing about protocols
        said = done.stdout + done.stderr
        found = re.search(r"^\s*ALPN protocol: (.*)", said, re.M)
        return "Cipher is (NONE)" not in said, found and found.group(1)

    def test_old_protocols_are_refused(self):
        """On each port that has TLS. A server that speaks them shows that openssl can offer them."""
        port, = tandem.free_ports(1)
        server = subprocess.Popen(
            ["openssl", "s_server", "-accept", str(port), "-cert", self.tandem.tls("ops.crt"), "-key", self.tandem.tls("ops.key"),
             "-cipher", "ALL:@SECLEVEL=0", "-alpn", "h2"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addCleanup(server.stdout.close)
        self.addCleanup(server.stdin.close)
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)
        self.assertTrue(any("ACCEPT" in line for line in server.stdout))
        for name, port, good in (
            ("openssl", port, ("tls1", "tls1_1", "tls1_2", "tls1_3")),
            *((name, self.tandem.ports[name], ("tls1_2", "tls1_3")) for name in tandem.SERVICES),
            ("redis", self.tandem.redis_port, ("tls1_2", "tls1_3")),
        ):
            for version in ("tls1", "tls1_1", "tls1_2", "tls1_3"):
                with self.subTest(service=name, version=version):
                    done, protocol = self.offered(port, f"-{version}", "-alpn", "h2")
                    self.assertEqual(done, version in good)
                    if name != "redis":
                        self.assertEqual(protocol, "h2" if done else None)

    def test_ssl_3_is_refused(self):
        """Debian's openssl cannot offer it. So the version in a good first message is changed."""
        context = ssl.create_default_context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["h2"])
        to_us, from_us = ssl.MemoryBIO(), ssl.MemoryBIO()
        with self.assertRaises(ssl.SSLWantReadError):
            context.wrap_bio(to_us, from_us, server_hostname="localhost").do_handshake()
        hello = from_us.read()
        self.assertEqual((hello[0], hello[9:11]), (22, b"\3\3"))
        for port in (*(self.tandem.ports[name] for name in tandem.SERVICES), self.tandem.redis_port):
            for version, answered in ((b"\3\3", True), (b"\3\0", False)):
                with self.subTest(port=port, version=version), socket.create_connection(("127.0.0.1", port), 10) as connection:
                    connection.sendall(hello[:9] + version + hello[11:])
                    try:
                        answer = connection.recv(1)
                    except ConnectionError:
                        answer = b""
                    self.assertEqual(answer == b"\x16", answered, answer)  # a handshake, not an alert or nothing

    def test_who_does_not_speak_http2_is_refused(self):
        for name in tandem.SERVICES:
            for version in ("tls1_2", "tls1_3"):
                for options, answered in ((("-alpn", "h2"), True), (("-alpn", "http/1.1"), False), ((), False)):
                    with self.subTest(service=name, version=version, options=options):
                        client = subprocess.Popen(self.client(self.tandem.ports[name], f"-{version}", "-quiet", *options),
                                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
                        with client:
                            settings = client.stdout.read(4)
                            client.kill()
                        self.assertEqual(settings[3:], b"\4" if answered else b"")


class Own(Secured):
    """A customer reaches its own orders, and cannot tell those of others from ones that do not exist."""

    def setUp(self):
        self.ops = self.stubs("ops")
        self.anna, self.bert = self.stubs()[tandem.ORDER_SERVICE], self.stubs()[tandem.ORDER_SERVICE]
        self.as_anna = (("authorization", f"Bearer {self.api_keys[0]}"),)
        self.as_bert = (("authorization", f"Bearer {self.issuer.token(role='customer', customer_id='cust_b')}"),)
        self.ops[tandem.INVENTORY_SERVICE].AdjustStock(sku="tea", delta=100, reason="test")
        placed = self.anna.PlaceOrder(customer_id="cust_a", request_id="mine", wait_for_decision=True,
                                      lines=[{"sku": "tea", "quantity": 1}], _metadata=self.as_anna)
        self.order_id = placed.order.order_id

    def is_not_found(self):
        """Another customer's order is answered as one that does not exist."""
        other = self.order_id[:4] + ("a" if self.order_id[4] != "a" else "b") + self.order_id[5:]
        for method in ("GetOrder", "ConfirmOrder", "CancelOrder", "ExtendHold", "ReturnOrder", "WatchOrder"):
            answers = []
            more = {"ExtendHold": {"hold_expire_time": {"seconds": 1}}, "ReturnOrder": {"return_id": "r"}}.get(method, {})
            for order_id in (self.order_id, other):
                with self.subTest(method=method, order_id=order_id), self.assertRaises(grpc.RpcError) as caught:
                    answer = getattr(self.bert, method)(order_id=order_id, _metadata=self.as_bert, **more)
                    if method == "WatchOrder":
                        next(answer)
                answers.append((caught.exception.code(), caught.exception.details().replace(order_id, "ID")))
            self.assertEqual(answers[0], answers[1])
            self.assertEqual(answers[0][0], grpc.StatusCode.NOT_FOUND)
        for method in ("BatchConfirmOrders", "BatchCancelOrders"):
            requests = [{"order_id": self.order_id}, {"order_id": other}]
            answer = getattr(self.bert, method)(requests=requests, _metadata=self.as_bert)
            self.assertEqual([item.error.code for item in answer.orders], [grpc.StatusCode.NOT_FOUND.value[0]] * 2)

    def test_another_customers_order_is_not_found(self):
        self.is_not_found()
        got = self.anna.GetOrder(order_id=self.order_id, _metadata=self.as_anna).order
        self.assertEqual((got.customer_id, got.version), ("cust_a", 2))

    def test_another_customers_dropped_order_is_not_found(self):
        """Nor if the archive alone has it."""
        placed = self.anna.PlaceOrder(customer_id="cust_a", request_id="dropped", wait_for_decision=True,
                                      lines=[{"sku": "tea", "quantity": 1}], _metadata=self.as_anna)
        self.order_id = placed.order.order_id
        self.anna.CancelOrder(order_id=self.order_id, _metadata=self.as_anna)

        def is_archived():
            try:
                return self.ops[tandem.ARCHIVE_SERVICE].GetArchivedOrder(order_id=self.order_id).order.order.settled
            except grpc.RpcError as error:
                self.assertIn(error.code(), (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE))
                return False

        tandem.until(is_archived, 20 * tandem.SLOW, "it is archived")
        redis = self.tandem.redis_as("ops")
        self.assertEqual(redis("HDEL", "order:{0}:orders", self.order_id), 1)
        redis("ZREM", "order:{0}:customer:cust_a", self.order_id)
        redis("SET", "order:{0}:dropped", 2 ** 42)
        self.is_not_found()
        got = self.anna.GetOrder(order_id=self.order_id, _metadata=self.as_anna).order
        self.assertEqual(got.customer_id, "cust_a")
        listed = self.anna.ListOrders(customer_id="cust_a", _metadata=self.as_anna).orders
        self.assertIn(self.order_id, [order.order_id for order in listed])
        with self.assertRaises(grpc.RpcError) as caught:
            self.anna.ConfirmOrder(order_id=self.order_id, _metadata=self.as_anna)
        self.assertEqual(caught.exception.code(), grpc.StatusCode.FAILED_PRECONDITION)

    def test_nobody_but_the_gateway_is_believed(self):
        """Neither the gateway nor order takes a customer's word that it is another."""
        word = ("tandem-caller-bin", says_it_calls_for("customer", "cust_a"))
        with self.assertRaises(grpc.RpcError) as caught:
            self.bert.GetOrder(order_id=self.order_id, _metadata=(*self.as_bert, word))
        self.assertEqual(caught.exception.code(), grpc.StatusCode.NOT_FOUND)
        for certificate, customer_id, code in (("gateway", "cust_a", None), ("gateway", "cust_b", grpc.StatusCode.NOT_FOUND),
                                               ("ops", "cust_b", None), ("support", "cust_a", DENIED), ("shop", "cust_a", DENIED)):
            with self.subTest(certificate=certificate, customer_id=customer_id):
                order = self.stubs(certificate, "order")[tandem.ORDER_SERVICE]
                word = ("tandem-caller-bin", says_it_calls_for("customer", customer_id))
                try:
                    got = order.GetOrder(order_id=self.order_id, _metadata=(word,)).order
                    self.assertEqual((code, got.customer_id), (None, "cust_a"))
                except grpc.RpcError as error:
                    self.assertEqual(error.code(), code)

    def test_a_customer_acts_for_itself_alone(self):
        with self.assertRaises(grpc.RpcError) as caught:
            self.bert.PlaceOrder(customer_id="cust_a", request_id="mine", lines=[{"sku": "tea", "quantity": 1}],
                                 _metadata=self.as_bert)
        self.assertEqual(caught.exception.code(), DENIED)
        with self.assertRaises(grpc.RpcError) as caught:
            self.bert.ListOrders(customer_id="cust_a", _metadata=self.as_bert)
        self.assertEqual(caught.exception.code(), DENIED)
        # The same request_id is another's: nothing shows that it was used.
        placed = self.bert.PlaceOrder(customer_id="cust_b", request_id="mine", lines=[{"sku": "tea", "quantity": 2}],
                                      _metadata=self.as_bert).order
        self.assertNotEqual(placed.order_id, self.order_id)
        item = {"customer_id": "cust_a", "lines": [{"sku": "tea", "quantity": 1}]}
        batch = self.bert.BatchPlaceOrders(requests=[item, {**item, "customer_id": "cust_b"}], _metadata=self.as_bert)
        self.assertEqual([r.WhichOneof("result") for r in batch.orders], ["error", "order"])
        self.assertEqual(batch.orders[0].error.code, DENIED.value[0])


class Doors(unittest.TestCase):
    """Beyond this machine no service listens without TLS and without knowing who calls, unless it is told to."""

    def test_refusing_to_start(self):
        tls = ("--tls-cert", "absent.crt", "--tls-key", "absent.key")
        env = {name: value for name, value in os.environ.items() if not name.startswith("TANDEM_")}
        for name in tandem.SERVICES:
            for listen, options, said in (
                ("0.0.0.0:0", (), "without TLS"),
                ("[::]:0", (), "without TLS"),
                ("0.0.0.0:0", ("--callers", "absent"), "without TLS"),
                ("0.0.0.0:0", tls, "without knowing who calls"),
                ("0.0.0.0:0", (*tls, "--tls-client-ca", "ca", "--tls-client-cert", "optional"), "without knowing who calls"),
                ("127.0.0.1:0", ("--tls-cert", "absent.crt"), "go together"),
                ("127.0.0.1:0", ("--tls-client-cert", "perhaps"), "neither required nor optional"),
                # These are let in, and go on to the next thing that is wrong.
                ("0.0.0.0:0", (*tls, "--tls-client-ca", "absent.ca"), "absent.crt: No such file"),
                ("0.0.0.0:0", (*tls, "--callers", "absent"), "absent.crt: No such file"),
                ("0.0.0.0:0", ("--insecure", "--callers", "absent"), "absent: No such file"),
                ("[::1]:0", ("--callers", "absent"), "absent: No such file"),
                ("localhost:0", ("--callers", "absent"), "absent: No such file"),
            ):
                with self.subTest(service=name, listen=listen, options=options):
                    done = subprocess.run(
                        [os.path.join(tandem.BUILD, f"tandem-{name}"), "--listen", listen, "--admin-listen", "", *options],
                        env=env, capture_output=True, text=True, timeout=60, check=False)
                    self.assertNotEqual(done.returncode, 0)
                    self.assertIn(said, done.stderr)

    def test_refusing_to_serve_operators(self):
        tls = ("--tls-cert", "absent.crt", "--tls-key", "absent.key")
        refused = "can be reached from other machines, without TLS: set --tls-cert and --tls-key"
        env = {name: value for name, value in os.environ.items() if not name.startswith("TANDEM_")}
        for name in tandem.SERVICES:
            for listen, options, said in (
                ("0.0.0.0:0", (), f"--admin-listen: 0.0.0.0:0 {refused}"),
                ("[::]:0", ("--callers", "absent"), f"--admin-listen: [::]:0 {refused}"),
                # These are let in, and go on to the next thing that is wrong.
                ("0.0.0.0:0", tls, "absent.crt: No such file"),
                ("0.0.0.0:0", ("--insecure", "--callers", "absent"), "absent: No such file"),
                ("localhost:0", ("--callers", "absent"), "absent: No such file"),
            ):
                with self.subTest(service=name, listen=listen, options=options):
                    done = subprocess.run(
                        [os.path.join(tandem.BUILD, f"tandem-{name}"), "--listen", "127.0.0.1:0", "--admin-listen", listen,
                         *options],
                        env=env, capture_output=True, text=True, timeout=60, check=False)
                    self.assertNotEqual(done.returncode, 0)
                    self.assertIn(said, done.stderr)


if __name__ == "__main__":
    unittest.main()
