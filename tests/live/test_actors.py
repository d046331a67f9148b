"""Who did what: events, an order's history, the trail and explain show who placed, confirmed and cancelled an order or
changed stock, and from where."""
import hashlib
import json
import os
import re

import grpc
import tandem
from secured import Secured

DENIED, NOT_FOUND = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.NOT_FOUND


def as_caller(key, *more):
    return (("authorization", f"Bearer {key}"), *more)


class Everywhere(Secured):
    """Over TLS, as scripts/up --tls sets it up: customers with API keys and tokens, operators with certificates."""

    ENV = {**Secured.ENV, "TANDEM_ORDER_TIMERS_EVERY": "50ms", "TANDEM_LOG_FORMAT": "json"}
    OPS = "operator CN:ops (certificate)"
    BERT = "customer bert (token)"

    def setUp(self):
        stubs = self.stubs("ops")
        self.ops, self.stock_as_ops = stubs[tandem.ORDER_SERVICE], stubs[tandem.INVENTORY_SERVICE]
        self.shop = self.stubs()[tandem.ORDER_SERVICE]
        self.as_anna = as_caller(self.api_keys[0])
        self.as_bert = as_caller(self.issuer.token(role="customer", customer_id="cust_b", sub="bert"))
        digest = hashlib.sha256(self.api_keys[0].encode()).hexdigest()
        self.assertIn(digest, " ".join(self.callers_file))
        self.anna = f"customer shop of cust_a (key {digest[:8]})"
        self.skus = [f"sku-{n}" for n in range(4)]  # with several partitions they lie in several
        for sku in self.skus:
            self.stock_as_ops.AdjustStock(sku=sku, delta=100, reason="test")

    def lines(self):
        return [{"sku": sku, "quantity": 1} for sku in self.skus]

    def place_as_anna(self, **fields):
        return self.shop.PlaceOrder(customer_id="cust_a", lines=self.lines(), wait_for_decision=True,
                                    _metadata=self.as_anna, **fields).order.order_id

    def actors(self, order_id):
        """{type: actor} of an order's events, in whatever partition they are."""
        streams = [f"order:{{{p}}}:events" for p in range(self.tandem.partitions)]
        return {event.name: event.actor for stream in streams for event in self.events(stream, order_id)}

    def explained(self, order_id):
        """By ExplainOrder, by tandemctl and in the table that it prints: all say the same. [(kind, actor)] of the order's
        events, and all texts."""
        life = self.ops.ExplainOrder(order_id=order_id).explanation
        called = [(event.kind.rpartition(".")[2], event.actor) for event in life.events]
        code, (printed,) = self.tandem.ctl_json("explain", order_id)
        self.assertEqual(code, 0)
        rows = [(row["kind"], row["actor"]) for row in printed["events"]
                if row["context"] == "order" and row["version"]]
        self.assertEqual(rows, called)
        self.assertEqual({row["actor"] for row in printed["events"] if row["context"] == "inventory" and row["version"]},
                         {"inventory"})
        table = self.tandem.ctl("explain", order_id).stdout
        for kind, actor in called:
            self.assertRegex(table, rf"(?m)^\S+ +order +{kind} +\d+ +\S+ +{re.escape(actor)}")
        return called, " ".join(event.text for event in life.events)

    def ended(self, order_id):
        tandem.until(lambda: self.ops.GetOrder(order_id=order_id).order.settled, 20 * tandem.SLOW, "settled")

    def test_each_step(self):
        """Placed by a customer, confirmed by an operator; cancelled by the customer; ended by the timer."""
        bought, given_up = self.place_as_anna(), self.place_as_anna()
        forgotten = self.place_as_anna(hold={"seconds": 1})
        self.ops.ConfirmOrder(order_id=bought)
        self.shop.CancelOrder(order_id=given_up, reason="too dear", _metadata=self.as_anna)
        for order_id, word, last, actor in (
            (bought, "confirmed", "OrderConfirmed", self.OPS),
            (given_up, "cancelled", "OrderCancelled", self.anna),
            (forgotten, "ended", "OrderExpired", "timer"),
        ):
            with self.subTest(last=last):
                self.ended(order_id)
                steps, text = self.explained(order_id)
                self.assertEqual(steps, [("OrderPlaced", self.anna), ("OrderReserved", "inventory"), (last, actor),
                                         ("OrderSettled", "inventory")])
                self.assertIn(f"The order was placed by {self.anna}: 4 pieces", text)
                self.assertIn(f"{word} by {'its timer' if actor == 'timer' else actor}. ", text)
                # What the events say is what somebody asked for.
                self.assertEqual(self.actors(order_id), {
                    "OrderPlaced": self.anna, "OrderReserved": "", "OrderSettled": "",
                    last: "" if actor == "timer" else actor,
                })
        code, rows = self.tandem.ctl_json("events", "tail", "--order", bought)
        self.assertEqual([row.get("actor", "") for row in rows if row["type"].endswith(("Placed", "Confirmed"))],
                         [self.anna, self.OPS])
        self.assertIn(f"(by {self.OPS})", self.tandem.ctl("events", "tail", "--order", bought).stdout)

    def test_each_way_to_place(self):
        """One by one, in a batch, in a stream; repeated by another, which changes nothing; and at the order service itself."""
        request = {"customer_id": "cust_b", "lines": self.lines(), "request_id": "batch"}
        (batch,) = self.shop.BatchPlaceOrders(requests=[request], _metadata=self.as_bert).orders
        message = self.shop.StreamOrders.request(sequence=1, request={**request, "request_id": "stream"})
        (stream,) = self.shop.StreamOrders(iter([message]), _metadata=self.as_bert)
        one = self.shop.PlaceOrder(**{**request, "request_id": "one"}, _metadata=self.as_bert)
        for placed in (batch, stream.order, one):
            self.assertEqual(self.actors(placed.order.order_id)["OrderPlaced"], self.BERT)
        again = self.ops.PlaceOrder(**request).order
        self.assertEqual(again.order_id, batch.order.order_id)
        self.assertEqual(self.explained(again.order_id)[0][0], ("OrderPlaced", self.BERT))
        direct = self.stubs("ops", "order")[tandem.ORDER_SERVICE]
        order_id = direct.PlaceOrder(customer_id="cust_b", lines=self.lines()).order.order_id
        self.assertEqual(self.actors(order_id)["OrderPlaced"], self.OPS)

    def test_forged(self):
        """What a caller says of itself is not heard, at any door."""
        forged = (("tandem-caller-bin", b"operator\0\0mallory"), ("tandem-caller-from-bin", b"token\x0010.6.6.6:1"))
        order_id = self.shop.PlaceOrder(customer_id="cust_a", lines=self.lines(),
                                        _metadata=(*self.as_anna, *forged)).order.order_id
        self.assertEqual(self.actors(order_id)["OrderPlaced"], self.anna)
        self.fails(DENIED, self.shop.ExplainOrder, order_id=order_id, _metadata=(*self.as_anna, *forged))
        with self.assertRaises(grpc.RpcError) as caught:
            self.shop.GetOrder(order_id=order_id, _metadata=forged)
        self.assertEqual(caught.exception.code(), grpc.StatusCode.UNAUTHENTICATED)
        direct = self.stubs("ops", "order")
        direct[tandem.ORDER_SERVICE].CancelOrder(order_id=order_id, _metadata=forged)
        self.assertEqual(self.actors(order_id)["OrderCancelled"], self.OPS)
        item = direct["tandem.order.v1.PlacementService"].Place
        packed = self.shop.PlaceOrder.request(customer_id="cust_a", lines=self.lines()).SerializeToString()
        answers = item(iter([item.request(items=[{"number": 1, "request": packed, "timeout_ms": 5000,
                                                  "actor": "customer mallory"}])]))
        order = self.protos.message("tandem.order.v1.Order").FromString(
            next(answer for message in answers for answer in message.answers).order)  # some tell only of the load
        self.assertEqual(self.actors(order.order_id)["OrderPlaced"], self.OPS)

    def test_stock(self):
        """Who and from where, in the event, in the trail and in the log; a name is shown as it is, whatever it is."""
        stan = self.issuer.token(role="stock", sub="Štan \u2044 \U0001f4e6")
        who = "stock Štan \u2044 \U0001f4e6 (token)"
        stubs = self.stubs()
        stubs[tandem.INVENTORY_SERVICE].AdjustStock(sku="box", delta=3, reason="a lorry", _metadata=as_caller(stan))
        streams = [f"inventory:{{{p}}}:events" for p in range(self.tandem.partitions)]
        (event,) = [event for stream in streams for event in self.events(stream, "box")]
        self.assertEqual((event.name, event.actor), ("StockAdjusted", who))
        (row,) = self.tandem.ctl_json("trail", "--subject", "box")[1]
        self.assertEqual((row["who"], row["why"]), (who, "a lorry"))
        self.assertIn(row["from"], connections_to(self.tandem.ports["gateway"]))
        (line,) = [line for line in self.tandem.inventory.text(1000).splitlines() if '"box"' in line]
        line = json.loads(line)
        self.assertEqual((line["who"], line["from"]), (who, row["from"]))

    def test_names_that_cannot_be(self):
        """Names that a terminal would act on are refused where they come from."""
        for name in ("x\x1b[31m", "x\n", "\u202ex", "", "x" * 128):
            with self.subTest(name=name), self.assertRaises(grpc.RpcError) as caught:
                self.shop.GetOrder(order_id="ord_" + "a" * 26, _metadata=as_caller(self.issuer.token(role="operator", sub=name)))
            self.assertEqual(caught.exception.code(), grpc.StatusCode.UNAUTHENTICATED)
        longest = self.issuer.token(role="customer", customer_id="cust_b", sub="\u00e4" * 63 + "x")
        order_id = self.shop.PlaceOrder(customer_id="cust_b", lines=self.lines(), _metadata=as_caller(longest)).order.order_id
        self.assertEqual(self.actors(order_id)["OrderPlaced"], "customer " + "\u00e4" * 63 + "x (token)")

    def test_a_dead_letter_says_it(self):
        """An event that nobody could handle keeps who asked for it, and has it again when it is replayed."""
        redis = self.tandem.redis_as("ops")
        entry = redis("XADD", "order:{0}:events", "*", "id", "x/1", "type", "tandem.order.v1.OrderConfirmed", "subject", "x",
                      "seq", "1", "time", "then", "data", b"\xff", "actor", self.OPS).decode()
        dead = lambda: [row for row in self.tandem.ctl_json("dead", "list")[1]  # noqa: E731
                        if row["original_stream_id"] == entry]
        (row,) = tandem.until(dead, 20 * tandem.SLOW, "it is a dead letter")
        self.assertEqual(row["actor"], self.OPS)


class InPartitions(Everywhere):
    """Orders, their stock and their events lie in several partitions."""

    LAYOUT = (1, 0, 8)


class NobodyAsked(tandem.Live):
    """On loopback, as it is without a word of configuration: nothing is said of anybody, and nothing more is stored."""

    def test_nothing_is_written(self):
        self.stock("tea", 10)
        forged = (("tandem-caller-bin", b"operator\0\0mallory"), ("tandem-caller-from-bin", b"token\x0010.6.6.6:1"))
        order = self.place("tea", wait_for_decision=True, _metadata=forged)
        self.order.ConfirmOrder(order_id=order.order_id, _metadata=forged)
        self.settled(order.order_id)
        self.caught_up()
        for stream in (tandem.ORDERS, tandem.STOCK):
            self.assertEqual({event.actor for event in self.events(stream)}, {""})
        # OrderConfirmed and OrderSettled have no content: their entries have no batch.
        entries = [tandem.pairs(flat) for _, flat in self.tandem.redis_as()("XRANGE", tandem.ORDERS, "-", "+")]
        self.assertEqual([sorted(entry) for entry in entries if b"batch" not in entry], [
            sorted([b"time", kind]) for kind in (b"tandem.order.v1.OrderReserved", b"tandem.order.v1.OrderConfirmed",
                                                 b"tandem.order.v1.OrderSettled")
        ])
        self.assertEqual(self.record(order.order_id).detail, b"")
        code, (life,) = self.tandem.ctl_json("explain", order.order_id)
        self.assertEqual([row["actor"] for row in life["events"] if row["context"] == "order"],
                         ["", "inventory", "", "inventory"])
        self.assertEqual(self.tandem.ctl_json("trail", "--subject", "tea")[1][0]["who"], "anonymous")


class PlainInside(tandem.Live):
    """The gateway asks who calls; order and inventory, on the same machine, ask nobody."""

    @classmethod
    def prepare(cls):
        cls.keys = cls.tandem.new_callers(anna="customer cust_a", bert="customer cust_b", olga="operator", stan="stock")

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
