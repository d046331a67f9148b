"""Who may do what, over TLS with certificates on both sides, as scripts/up --tls sets it up: every method for every
role, from the table in proto/access.c itself; a customer's orders; and certificates that are replaced under load."""
import os
import re
import subprocess
import time
import unittest

import grpc
import jwt
import tandem
from secured import AUDIENCE, ISSUER, Secured

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


def code_of(method, token):
    """With which code a call ends that has no content; None: not at all, it is served."""
    options = {"timeout": 10 * tandem.SLOW, "wait_for_ready": True}
    if token:
        options["metadata"] = (("authorization", f"Bearer {token}"),)
    request = method.request()
    if "service" in request.DESCRIPTOR.fields_by_name:
        request.service = tandem.ORDER_SERVICE
    try:
        call = method.callable(iter([request]) if method.streams else request, **options)
        if hasattr(call, "cancel"):
            next(iter(call), None)
            call.cancel()
    except grpc.RpcError as error:
        return error.code()
    return None


class Matrix(Secured):
    def callers(self):
        """[name, role, certificate, token]; role None: it is not known, whatever it calls."""
        wrong = self.token(self.other_key, role="operator")
        none = self.token(role="operator").split(".")
        return [
            ("anonymous", "ANONYMOUS", None, None),
            ("customer, by key", "CUSTOMER", None, self.api_keys[0]),
            ("customer, by token", "CUSTOMER", None, self.token(role="customer", customer_id="cust_b")),
            ("support, by certificate", "SUPPORT", "support", None),
            ("support, by token", "SUPPORT", None, self.token(role="support")),
            ("stock, by certificate", "STOCK", "stock", None),
            ("gateway", "GATEWAY", "gateway", None),
            ("operator, by certificate", "OPERATOR", "ops", None),
            ("operator, by token", "OPERATOR", None, self.token(role="operator")),
            ("certificate that nobody knows", None, "stranger", None),
            ("forged token", None, None, wrong),
            ("expired token", None, None, self.token(role="operator", exp=time.time() - 3600)),
            ("token without signature", None, None, jwt.encode(
                {"iss": ISSUER, "aud": AUDIENCE, "sub": "x", "exp": time.time() + 600, "role": "operator"}, None,
                algorithm="none")),
            ("token whose signature is cut off", None, None, ".".join(none[:2]) + "."),
            ("token of another issuer", None, None, self.token(role="operator", iss="https://other.example")),
            ("operator's certificate, forged token", None, "ops", wrong),
            ("key that nobody has", None, None, "tandem_" + "a" * 52),
        ]

    def test_every_method_for_every_role(self):
        rows = table()
        seen = set()
        for name, role, certificate, token in self.callers():
            stubs = self.stubs(certificate)
            for service, stub in stubs.items():
                for method_name, method in vars(stub).items():
                    row = f"{service.rpartition('.')[2]}/{method_name}"
                    if row.startswith("PlacementService"):
                        continue  # the gateway does not serve it
                    seen.add(row)
                    with self.subTest(caller=name, method=row):
                        code = code_of(method, token)
                        if role is None or role == "ANONYMOUS" and role not in rows[row]:
                            self.assertEqual(code, UNKNOWN)
                        elif role in rows[row]:
                            self.assertNotIn(code, (DENIED, UNKNOWN, grpc.StatusCode.UNAVAILABLE))
                        else:
                            self.assertEqual(code, DENIED)
        self.assertEqual(seen, {row for row in rows if not row.startswith("PlacementService")})

    def test_behind_the_gateway_customers_do_not_call(self):
        for name in tandem.CONTEXTS:
            with self.subTest(service=name):
                stub = self.stubs("support", name)[tandem.ORDER_SERVICE if name == "order" else tandem.INVENTORY_SERVICE]
                method = stub.GetOrder if name == "order" else stub.GetStock
                self.assertEqual(code_of(method, None), DENIED)
                # And nobody without a certificate.
                stub = self.stubs(None, name)[tandem.HEALTH]
                with self.assertRaises(grpc.RpcError) as caught:
                    stub.Check(_timeout=2)
                self.assertIn(caught.exception.code(),
                              (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED))

    def test_old_protocols_are_refused(self):
        for name in ("gateway", *tandem.CONTEXTS):
            for version, good in (("tls1", False), ("tls1_1", False), ("tls1_2", True), ("tls1_3", True)):
                with self.subTest(service=name, version=version):
                    done = subprocess.run(
                        ["openssl", "s_client", "-connect", f"127.0.0.1:{self.tandem.ports[name]}", f"-{version}",
                         "-cipher", "ALL:@SECLEVEL=0", "-alpn", "h2", "-CAfile", self.tandem.tls("ca.crt"),
                         "-cert", self.tandem.tls("ops.crt"), "-key", self.tandem.tls("ops.key")],
                        stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=30,
                        check=False)
                    self.assertEqual("Cipher is (NONE)" not in done.stdout, good, done.stdout + done.stderr)
                    self.assertEqual("ALPN protocol: h2" in done.stdout, good)
                    self.assertIn("CONNECTED", done.stdout)  # or it says nothing about protocols


class Own(Secured):
    """A customer reaches its own orders, and cannot tell those of others from ones that do not exist."""

    def setUp(self):
        self.ops = self.stubs("ops")
        self.anna, self.bert = self.stubs()[tandem.ORDER_SERVICE], self.stubs()[tandem.ORDER_SERVICE]
        self.as_anna = (("authorization", f"Bearer {self.api_keys[0]}"),)
        self.as_bert = (("authorization", f"Bearer {self.token(role='customer', customer_id='cust_b')}"),)
        self.ops[tandem.INVENTORY_SERVICE].AdjustStock(sku="tea", delta=100, reason="test")
        placed = self.anna.PlaceOrder(customer_id="cust_a", request_id="mine", wait_for_decision=True,
                                      lines=[{"sku": "tea", "quantity": 1}], _metadata=self.as_anna)
        self.order_id = placed.order.order_id

    def test_another_customers_order_is_not_found(self):
        other = self.order_id[:4] + ("a" if self.order_id[4] != "a" else "b") + self.order_id[5:]
        for method in ("GetOrder", "ConfirmOrder", "CancelOrder", "WatchOrder"):
            answers = []
            for order_id in (self.order_id, other):
                with self.subTest(method=method, order_id=order_id), self.assertRaises(grpc.RpcError) as caught:
                    answer = getattr(self.bert, method)(order_id=order_id, _metadata=self.as_bert)
                    if method == "WatchOrder":
                        next(answer)
                answers.append((caught.exception.code(), caught.exception.details().replace(order_id, "ID")))
            self.assertEqual(answers[0], answers[1])
            self.assertEqual(answers[0][0], grpc.StatusCode.NOT_FOUND)
        got = self.anna.GetOrder(order_id=self.order_id, _metadata=self.as_anna).order
        self.assertEqual((got.customer_id, got.version), ("cust_a", 2))

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


class Renewed(Secured):
    """Certificates, keys and the callers file are replaced while orders are placed: no call fails."""

    def test_nothing_is_noticed(self):
        ops = self.stubs("ops")
        ops[tandem.INVENTORY_SERVICE].AdjustStock(sku="tea", delta=100000, reason="test")
        used = 'tandem_tls_reloads_total{purpose="%s",result="used"}'

        def reloads(name, purpose):
            for line in self.tandem.processes[name].get("/metrics")[1].splitlines():
                if line.startswith(used % purpose):
                    return float(line.split()[-1])
            return 0

        with tandem.Loads([tandem.Load(ops[tandem.ORDER_SERVICE], "tea", f"load-{n}", retry=False) for n in range(4)]) as loads:
            for _ in range(2):
                before = {name: reloads(name, "server") for name in ("gateway", *tandem.CONTEXTS)}
                upstream = reloads("gateway", "upstream")
                self.ca("--renew", "gateway", *tandem.CONTEXTS)
                for name, count in before.items():
                    tandem.until(lambda n=name, c=count: reloads(n, "server") > c, 20, f"{name} reads its certificate again")
                tandem.until(lambda: reloads("gateway", "upstream") > upstream, 20, "the gateway reads its certificate again")
                loads.go_on(50)
            self.write("callers", "cert CN:gateway gateway\ncert CN:ops operator\n")
            tandem.until(lambda: code_of(self.stubs("support")[tandem.ORDER_SERVICE].GetOrder, None) == UNKNOWN, 20,
                         "support is not known any more")
            loads.go_on(50)
        self.assertEqual(loads.errors, [])


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


if __name__ == "__main__":
    unittest.main()
