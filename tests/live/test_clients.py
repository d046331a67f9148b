"""Clients in Python, Node.js and C++, each as one is usually written in its language: with a certificate, a signed token
or an API key. All must get the same answers."""
import os
import subprocess
import time

import grpc
import tandem
from secured import Secured

INTEROP = os.path.join(tandem.ROOT, "tests", "interop")
BUILT = os.path.join(tandem.BUILD, "tests", "interop")
OK, NOT_FOUND, DENIED, UNAVAILABLE, UNKNOWN = "0", "5", "7", "14", "16"


def read(path):
    with open(path, "rb") as file:
        return file.read()


class Program:
    """A client that is a program (tests/interop/cpp/client.cc says how it is called), while it runs."""

    def __init__(self, command, env=None):
        self.popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                      stderr=subprocess.DEVNULL, env={**os.environ, **(env or {})})

    def ask(self, *words):
        print(*words, file=self.popen.stdin, flush=True)
        return self.popen.stdout.readline().split()

    def end(self):
        self.popen.stdin.close()
        code = self.popen.wait(60)
        self.popen.stdout.close()
        assert code == 0, code


class Python:
    """The same with Python's gRPC, in this process."""

    def __init__(self, protos, status_names, target, ca, *files):
        pems = [read(ca), *(read(file) for file in reversed(files))]
        credentials = grpc.ssl_channel_credentials(*(pems if len(files) == 2 else pems[:1]))
        if len(files) == 1:
            credentials = grpc.composite_channel_credentials(
                credentials, grpc.access_token_call_credentials(pems[1].decode()))
        self.channel = grpc.secure_channel(target, credentials, [("grpc.use_local_subchannel_pool", 1)])
        self.order = protos.stub(self.channel, tandem.ORDER_SERVICE)
        self.status_names = status_names

    def ask(self, what, *words):
        try:
            if what == "get":
                order = self.order.GetOrder(order_id=words[0]).order
            else:
                order = self.order.PlaceOrder(customer_id=words[0], wait_for_decision=True,
                                              lines=[{"sku": words[1], "quantity": int(words[2])}]).order
        except grpc.RpcError as error:
            return [str(error.code().value[0])]
        return [OK, order.order_id, "ORDER_STATUS_" + self.status_names[order.status]]

    def end(self):
        self.channel.close()


class Clients(Secured):
    @classmethod
    def prepare(cls):
        super().prepare()
        subprocess.run([os.path.join(INTEROP, "cpp", "build"), os.path.join(BUILT, "cpp")], check=True)
        packages = tandem.modules_of_node()
        program = os.path.join(BUILT, "cpp", "client")
        script = os.path.join(INTEROP, "node", "client.js")
        cls.kinds = {
            "Python": lambda *arguments: Python(cls.protos, cls.status_names, *arguments),
            "C++": lambda *arguments: Program([program, *arguments]),
        }
        if packages is not None:
            cls.kinds["Node.js"] = lambda *arguments: Program(["node", script, *arguments], {"NODE_PATH": packages})

    def file(self, text):
        """A file that holds a token."""
        path = self.tandem.tls(f"token-{abs(hash(text))}")
        self.issuer.write(os.path.basename(path), text)
        return path

    def pair(self, name):
        return self.tandem.tls(f"{name}.crt"), self.tandem.tls(f"{name}.key")

    def client(self, kind, *files, service="gateway", ca="ca.crt"):
        client = self.kinds[kind](f"127.0.0.1:{self.tandem.ports[service]}", self.tandem.tls(ca), *files)
        self.addCleanup(client.end)
        return client

    def answer(self, client, *words):
        """What it is answered. gRPC 1.51 may take a connection that it has made for one that failed, once in a process: as
        clients should, it tries again."""
        found = []

        def answered():
            found[:] = client.ask(*words)
            return found != [UNAVAILABLE]

        tandem.until(answered, 30 * tandem.SLOW, f"an answer to {words}", every=0.2)
        return found

    def ways(self):
        """{who: (customer_id, files)}: each way to say who one is, for customers."""
        return {
            "certificate": ("cust_c", self.pair("shop")),
            "signed token": ("cust_b", [self.file(self.issuer.token(role="customer", customer_id="cust_b"))]),
            "API key": ("cust_a", [self.file(self.api_keys[0])]),
        }

    def test_an_order_and_that_of_another(self):
        type(self).inventory.AdjustStock(sku="tea", delta=100, reason="test")
        another = self.order.PlaceOrder(customer_id="cust_z", lines=[{"sku": "tea", "quantity": 1}]).order.order_id
        for kind in self.kinds:
            for way, (customer_id, files) in self.ways().items():
                with self.subTest(client=kind, way=way):
                    client = self.client(kind, *files)
                    placed = self.answer(client, "place", customer_id, "tea", 2)
                    self.assertEqual((placed[0], placed[2]), (OK, "ORDER_STATUS_RESERVED"))
                    self.assertEqual(client.ask("get", placed[1]), placed)
                    self.assertEqual(client.ask("get", another), [NOT_FOUND])
                    self.assertEqual(client.ask("place", "cust_z", "tea", 1), [DENIED])
                    got = self.order.GetOrder(order_id=placed[1]).order
                    self.assertEqual((got.customer_id, got.lines[0].quantity), (customer_id, 2))

    def test_an_operator(self):
        another = self.order.PlaceOrder(customer_id="cust_z", lines=[{"sku": "tea", "quantity": 1}]).order.order_id
        for kind in self.kinds:
            for way, files in (("certificate", self.pair("ops")), ("token", [self.file(self.issuer.token(role="operator"))])):
                with self.subTest(client=kind, way=way):
                    self.assertEqual(self.answer(self.client(kind, *files), "get", another)[:2], [OK, another])

    def test_who_is_refused(self):
        for kind in self.kinds:
            for who, files, options, code in (
                ("no certificate and no token", (), {}, UNKNOWN),
                ("a certificate that nobody knows", self.pair("stranger"), {}, UNKNOWN),
                ("a token that has expired", [self.file(self.issuer.token(role="operator", exp=time.time() - 60))], {}, UNKNOWN),
                ("a forged token", [self.file(self.issuer.token(self.other_key, role="operator"))], {}, UNKNOWN),
                ("a key that nobody has", [self.file("tandem_" + "a" * 52)], {}, UNKNOWN),
                ("a certificate of another authority", self.pair("other/tls/ops"), {}, UNAVAILABLE),
                ("one that does not trust our authority", self.pair("ops"), {"ca": "other/tls/ca.crt"}, UNAVAILABLE),
                ("no certificate, where one is required", (), {"service": "order"}, UNAVAILABLE),
                ("a customer, behind the gateway", self.pair("shop"), {"service": "order"}, DENIED),
            ):
                with self.subTest(client=kind, who=who):
                    client = self.client(kind, *files, **options)
                    ask = client.ask if code == UNAVAILABLE else lambda *words: self.answer(client, *words)  # noqa: B023
                    self.assertEqual(ask("get", "no-such-order"), [code])


if __name__ == "__main__":
    tandem.main()
