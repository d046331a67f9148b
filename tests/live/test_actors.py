"""Who did what: events, an order's history, the trail and explain show who placed, confirmed and cancelled an order or
changed stock, and from where."""
import json
import os

import grpc
import tandem

DENIED, NOT_FOUND = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.NOT_FOUND


def as_caller(key, *more):
    return (("authorization", f"Bearer {key}"), *more)


class PlainInside(tandem.Live):
    """The gateway asks who calls; order and inventory, on the same machine, ask nobody."""

    @classmethod
    def prepare(cls):
        cls.keys = {}
        path = os.path.join(cls.tandem.folder, "callers")
        with open(path, "w", encoding="utf-8") as file:
            for name, role, more in (("anna", "customer", ("--customer-id", "cust_a")),
                                     ("bert", "customer", ("--customer-id", "cust_b")),
                                     ("olga", "operator", ()), ("stan", "stock", ())):
                made = json.loads(cls.tandem.ctl("auth", "new-key", "--name", name, "--role", role, *more,
                                                 "--json").stdout)
                cls.keys[name] = made["key"]
                file.write(made["line"] + "\n")
        os.chmod(path, 0o600)
        cls.tandem.env["TANDEM_GATEWAY_CALLERS"] = path

    def test_a_customer_reaches_its_own_orders_alone(self):
        anna, bert = as_caller(self.keys["anna"]), as_caller(self.keys["bert"])
        self.inventory.AdjustStock(sku="tea", delta=10, _metadata=as_caller(self.keys["stan"]))
        order_id = self.order.PlaceOrder(customer_id="cust_a", lines=[{"sku": "tea", "quantity": 1}],
                                         wait_for_decision=True, _metadata=anna).order.order_id
        for method in (self.order.GetOrder, self.order.ConfirmOrder, self.order.CancelOrder):
            self.fails(NOT_FOUND, method, order_id=order_id, _metadata=bert)
        self.fails(DENIED, self.order.ListOrders, customer_id="cust_a", _metadata=bert)
        self.assertEqual(self.order.GetOrder(order_id=order_id, _metadata=anna).order.version, 2)

    def test_the_trail_has_the_callers_address(self):
        channel = self.tandem.channel()
        self.addCleanup(channel.close)
        stan = as_caller(self.keys["stan"], ("tandem-caller-bin", b"operator\0\0mallory"),
                         ("tandem-caller-from-bin", b"token\x0010.6.6.6:1"))
        self.protos.stub(channel, tandem.INVENTORY_SERVICE).AdjustStock(sku="cup", delta=3, reason="a box", _metadata=stan)
        (row,) = self.tandem.ctl_json("trail", "--subject", "cup")[1]
        self.assertRegex(row["who"], r"^stock stan \(key [0-9a-f]{8}\)$")
        with open(self.tandem.env["TANDEM_GATEWAY_CALLERS"], encoding="utf-8") as file:
            self.assertIn("sha256:" + row["who"].partition("key ")[2].rstrip(")"), file.read())
        # The connection of the test, not the gateway's.
        self.assertIn(row["from"], connections_to(self.tandem.ports["gateway"]))


def connections_to(port):
    """The addresses that are connected with a port of this machine, as the kernel has them; gRPC for Python uses IPv6
    sockets, in which IPv4 is mapped."""
    found = set()
    for name in ("tcp", "tcp6"):
        with open(f"/proc/net/{name}", encoding="ascii") as file:
            for line in file.readlines()[1:]:
                local, remote = (word.split(":") for word in line.split()[1:3])
                if int(remote[1], 16) == port:
                    four = bytes.fromhex(local[0][-8:])[::-1]
                    found.add(f"{'.'.join(map(str, four))}:{int(local[1], 16)}")
    return found


if __name__ == "__main__":
    tandem.main()
