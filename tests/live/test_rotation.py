"""What says who is who is replaced while orders are placed: certificates, their authority, the keys that tokens are
signed with, API keys. No call fails, and what was taken away does not count any more. Each test does what docs/security.md
says. test_redis_tls.py does the same with Redis's passwords and certificates."""
import contextlib
import os
import subprocess

import grpc
import tandem
from cryptography.hazmat.primitives.asymmetric import ed25519
from secured import Secured

OK, UNKNOWN, UNAVAILABLE = grpc.StatusCode.OK, grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNAVAILABLE
ORDERS_OF_A_CONNECTION = 5


class Shop:
    """Places orders of a customer, who says so by a certificate, a token or an API key. `stays`: on one connection;
    else on a new one after a few orders, with the files as they were when show() was called last."""

    def __init__(self, test, customer_id, stays, certificate=None, token=None):
        self.test, self.customer_id, self.stays, self.certificate, self.token = test, customer_id, stays, certificate, token
        self.channel = None
        self.placed = 0
        self.show()

    def show(self):
        self.credentials = self.test.tandem.credentials(self.certificate)

    def connect(self):
        self.close()
        self.channel = self.test.tandem.channel(credentials=self.credentials)
        self.order = self.test.protos.stub(self.channel, tandem.ORDER_SERVICE)

    def close(self):
        if self.channel is not None:
            self.channel.close()

    def PlaceOrder(self, **fields):  # noqa: N802
        if self.channel is None or not self.stays and self.placed % ORDERS_OF_A_CONNECTION == 0:
            self.connect()
        self.placed += 1
        metadata = (("authorization", f"Bearer {self.token}"),) if self.token else ()
        return self.order.PlaceOrder(**{**fields, "customer_id": self.customer_id}, _metadata=metadata)


class Rotation(Secured):
    @classmethod
    def prepare(cls):
        super().prepare()
        cls.issuer.ca("--client", "shop-d")
        cls.callers_file.append("cert CN:shop-d customer customer_id=cust_d")
        cls.write_callers()

    def setUp(self):
        self.stubs("ops")[tandem.INVENTORY_SERVICE].AdjustStock(sku="tea", delta=1000000, reason="test")
        self.shops = []
        for stays, certificate, customer in ((True, "shop", "c"), (False, "shop-d", "d")):
            self.shops.append(Shop(self, f"cust_{customer}", stays, certificate))
        for stays, customer in ((True, "e"), (False, "f")):
            self.shops.append(Shop(self, f"cust_{customer}", stays, token=self.customers_token(f"cust_{customer}")))
        for stays, key, customer in zip((True, False), self.api_keys, "ab"):
            self.shops.append(Shop(self, f"cust_{customer}", stays, token=key))
        for shop in self.shops:
            self.addCleanup(shop.close)

    def customers_token(self, customer_id, **how):
        return self.issuer.token(role="customer", customer_id=customer_id, **how)

    @contextlib.contextmanager
    def load(self):
        """The shops place orders as long as the body lasts, and then some more; none fails."""
        with tandem.Loads([tandem.Load(shop, "tea", f"{self._testMethodName}-{shop.customer_id}", timeout=20 * tandem.SLOW,
                                       retry=False) for shop in self.shops]) as loads:
            yield loads
            loads.go_on(20)
        self.assertEqual([(error.code(), error.details()) for _, error in loads.errors], [])

    def reloads(self, name, purpose):
        return self.tandem.processes[name].metric("tandem_tls_reloads_total", purpose=purpose, result="used")

    @contextlib.contextmanager
    def certificates_read(self):
        """What the body puts in place is used when this ends: tandem_tls_reloads_total says so."""
        users = [(name, "server") for name in tandem.SERVICES] + [("gateway", "upstream")]
        before = {user: self.reloads(*user) for user in users}
        yield
        for user, count in before.items():
            tandem.until(lambda: self.reloads(*user) > count, 20 * tandem.SLOW, f"{user} reads its certificates")

    @contextlib.contextmanager
    def file_read(self, what, *names):
        """The same for callers and keys: the log says so."""
        def count(name):
            with open(self.tandem.processes[name].log, errors="replace") as log:
                return log.read().count(what)

        before = {name: count(name) for name in names}
        yield
        for name, seen in before.items():
            tandem.until(lambda: count(name) > seen, 20 * tandem.SLOW, f"{name}: {what}")

    def connection(self, credentials):
        """A function that says how a call with a token ends, on a connection of its own."""
        channel = self.tandem.channel(credentials=credentials)
        self.addCleanup(channel.close)
        inventory = self.protos.stub(channel, tandem.INVENTORY_SERVICE)

        def code(token=None):
            try:
                inventory.GetStock(sku="tea", _metadata=(("authorization", f"Bearer {token}"),) if token else ())
            except grpc.RpcError as error:
                return error.code()
            return grpc.StatusCode.OK

        return code

    def test_certificates(self):
        before = self.serials()
        with self.load() as loads:
            for _ in range(2):
                with self.certificates_read():
                    self.issuer.ca("--renew", *tandem.SERVICES)
                loads.go_on(20)
        for name, serial in self.serials().items():
            self.assertNotEqual(serial, before[name], name)

    def serials(self):
        """Of the certificate that each service shows."""
        return {name: subprocess.run(
            f"openssl s_client -connect 127.0.0.1:{self.tandem.ports[name]} -alpn h2 </dev/null | openssl x509 -noout -serial",
            shell=True, check=True, capture_output=True).stdout for name in tandem.SERVICES}

    def test_authority(self):
        old = self.tandem.credentials("shop"), self.tandem.credentials(None)
        redis_open = lambda: subprocess.run([tandem.OPEN], env=self.tandem.env, check=True)  # noqa: E731
        with self.load() as loads:
            with self.certificates_read():
                self.issuer.ca("--new-ca")
                redis_open()
            for shop in self.shops:
                shop.show()
            loads.go_on(20)
            with self.certificates_read():
                self.issuer.ca("--renew", "redis", *tandem.SERVICES, "console", "ops", "support", "stock", "shop", "shop-d", "stranger")
                redis_open()
            for shop in self.shops:
                shop.show()
            loads.go_on(20)
            with self.certificates_read():
                self.issuer.ca("--drop-old-ca")
                redis_open()
            for shop in self.shops:
                shop.show()
        self.assertEqual(self.connection(self.tandem.credentials("shop"))(), OK)
        for credentials in old:
            self.assertEqual(self.connection(credentials)(self.api_keys[0]), UNAVAILABLE)
        # Redis and its clients have it, too: connections that are cut are made anew.
        for user in tandem.CONTEXTS:
            self.tandem.redis_as("ops")("CLIENT", "KILL", "USER", user)
        tandem.until(self.an_order_is_placed, 30 * tandem.SLOW, "order and inventory are connected again")

    def an_order_is_placed(self):
        try:
            order = self.shops[0].PlaceOrder(lines=[{"sku": "tea", "quantity": 1}], wait_for_decision=True,
                                             _timeout=10 * tandem.SLOW).order
        except grpc.RpcError:
            return False
        return self.name(order) == "RESERVED"

    def replaced(self, shops, new_tokens, add, remove):
        """Each of the shops gets its new token between the two, which must have worked when they return. Then its old
        one is nobody's, also on a connection where it was used before."""
        old = [shop.token for shop in shops]
        credentials = self.tandem.credentials(None)
        opened = [self.connection(credentials) for _ in shops]
        with self.load() as loads:
            add()
            loads.go_on(20)
            for shop, token in zip(shops, new_tokens):
                shop.token = token
            loads.go_on(20)
            self.assertEqual([code(token) for code, token in zip(opened, old)], [OK] * len(shops))
            remove()
            for code, old_token, new_token in zip(opened, old, new_tokens):
                self.assertEqual([code(old_token), self.connection(credentials)(old_token)], [UNKNOWN, UNKNOWN])
                self.assertEqual([code(new_token), self.connection(credentials)(new_token)], [OK, OK])

    def test_signing_key(self):
        new = ed25519.Ed25519PrivateKey.generate()
        shops = [shop for shop in self.shops if shop.token and shop.token not in self.api_keys]

        def write(**keys):
            with self.file_read("the keys of tokens were read", "gateway"):
                self.issuer.write_keys(**keys)

        self.replaced(shops, [self.customers_token(shop.customer_id, key=new, kid="two") for shop in shops],
                      lambda: write(one=self.key, two=new), lambda: write(two=new))
        write(one=self.key)

    def test_api_key(self):
        shops = [shop for shop in self.shops if shop.token in self.api_keys]
        made = [self.issuer.new_key(shop.customer_id) for shop in shops]
        old_lines = [line for line in self.callers_file if line.startswith("key ")]
        new_lines = [one["line"] for one in made]

        def write(lines):
            self.callers_file[:] = lines
            with self.file_read("the callers file was read", *tandem.SERVICES):
                self.write_callers()

        both = self.callers_file + new_lines
        self.replaced(shops, [one["key"] for one in made],
                      lambda: write(both), lambda: write([line for line in both if line not in old_lines]))
        type(self).api_keys = [one["key"] for one in made]

    def test_a_caller_is_taken_out(self):
        """Its open connection does not count any more either."""
        credentials = self.tandem.credentials("stock")
        opened = self.connection(credentials)
        with self.load():
            self.assertEqual(opened(), OK)
            with self.file_read("the callers file was read", *tandem.SERVICES):
                self.callers_file.remove("cert CN:stock stock")
                self.write_callers()
            self.assertEqual([opened(), self.connection(credentials)()], [UNKNOWN, UNKNOWN])


if __name__ == "__main__":
    tandem.main()
