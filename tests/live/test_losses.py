"""A master of a cluster is killed, and its replica lacks the last writes."""
import threading
import unittest

import tandem

PARTITIONS = 8
SKUS = [f"sku-{n}" for n in range(12)]


class Buyer(threading.Thread):
    """Places orders of several SKUs, and confirms or cancels each that is reserved; calls that fail are made
    again."""

    def __init__(self, test, number):
        super().__init__(daemon=True)
        self.test, self.number = test, number
        self.order, _ = test.connect()
        self.rounds, self.errors, self.ended = 0, 0, threading.Event()

    def call(self, method, **fields):
        """The order that the call gives; None: it failed."""
        try:
            return getattr(self.order, method)(_timeout=3 * tandem.SLOW, **fields).order
        except tandem.grpc.RpcError:
            self.errors += 1
            self.ended.wait(0.05)
            return None

    def run(self):
        while not self.ended.is_set():
            self.rounds += 1
            first = self.number + self.rounds
            placed = self.call(
                "PlaceOrder",
                customer_id=f"buyer-{self.number}-{self.rounds}",
                lines=[{"sku": SKUS[(first + 5 * n) % len(SKUS)], "quantity": 1} for n in range(3)],
                wait_for_decision=True,
            )
            if placed and self.test.name(placed) == "RESERVED" and self.rounds % 4 != 0:
                self.call("CancelOrder" if self.rounds % 4 == 1 else "ConfirmOrder", order_id=placed.order_id)

    def end(self):
        self.ended.set()
        self.join(60)


class Losses(tandem.Live):
    LAYOUT = (3, 1, PARTITIONS)
    MORE = ("inventory2",)
    ENV = {
        # Otherwise nothing that a replica lacks is ever believed.
        "TANDEM_ORDER_DURABILITY": "local",
        "TANDEM_INVENTORY_DURABILITY": "local",
        "TANDEM_INVENTORY_SWEEP_AFTER": "3s",
        "TANDEM_ORDER_RETRY_MIN": "200ms",
        "TANDEM_ORDER_RETRY_MAX": "1s",
        "TANDEM_REDIS_DEPLOY_USER": "deploy",
    }

    def reconciled(self):
        return sum(
            self.tandem.processes[name].metric("tandem_reconciliations_total") for name in ("inventory", "inventory2")
        )

    def in_step(self):
        return all(
            self.tandem.processes[name].metric("tandem_partitions_not_in_step") == 0
            for name in ("inventory", "inventory2")
        )

    def test_a_master_without_functions(self):
        """The services load theirs there as soon as they may; until then they say so, and serve the others."""
        redis = self.tandem.node(self.tandem.serving(0)[0])
        redis("ACL", "SETUSER", "deploy", "off")
        redis("FUNCTION", "FLUSH")
        text = lambda: self.tandem.order.text(1000)  # noqa: E731
        said = "some partitions are not served reason=\"Redis lacks the functions"
        tandem.until(lambda: said in text(), 20 * tandem.SLOW, text)
        self.tandem.order.wait_ready()
        redis("ACL", "SETUSER", "deploy", "on")
        tandem.until(lambda: "all partitions are served" in text(), 20 * tandem.SLOW, text)
        wanted = {self.tandem.library(context) for context in tandem.CONTEXTS}

        def loaded():
            return {tandem.pairs(library)[b"library_name"].decode() for library in redis("FUNCTION", "LIST")}

        tandem.until(lambda: loaded() == wanted, 20 * tandem.SLOW, loaded)

    def test_everything_goes_on_without_an_operator(self):
        for sku in SKUS:
            self.stock(sku, 100000)
        tandem.until(self.in_step, 20 * tandem.SLOW, "all partitions are in step")
        # A master that the machine kept waiting for its node timeout was replaced already.
        at_first = self.reconciled()
        buyers = [Buyer(self, number) for number in range(8)]
        for buyer in buyers:
            buyer.start()

        def go_on(rounds):
            before = [buyer.rounds - buyer.errors for buyer in buyers]
            tandem.until(
                lambda: all(b.rounds - b.errors >= n + rounds for b, n in zip(buyers, before)),
                60 * tandem.SLOW,
                "orders go on",
            )

        go_on(5)
        master, replica = self.tandem.serving(0)
        reconnect = self.tandem.cut_off(replica)
        go_on(10)
        killed = self.tandem.nodes[master]
        killed.kill()
        tandem.until(lambda: self.tandem.is_master(replica), 30 * tandem.SLOW, "its replica took over")
        tandem.until(lambda: self.reconciled() >= at_first + PARTITIONS, 30 * tandem.SLOW, self.reconciled)
        tandem.until(self.in_step, 20 * tandem.SLOW, "all partitions are in step")
        go_on(10)
        reconnect()
        killed.start()
        for buyer in buyers:
            buyer.end()
        self.caught_up()

        def swept():
            return not any(
                self.tandem.redis_as()("HGET", f"inventory:{{{p}}}:reconciliation", "sweep") for p in range(PARTITIONS)
            )

        tandem.until(swept, 40 * tandem.SLOW, "what nobody asks for is released")
        self.caught_up()
        changed = sum(
            self.tandem.processes[name].metric("tandem_reconciled_parts_total") for name in ("inventory", "inventory2")
        )
        self.assertGreater(changed, 0, "the replica lacked something")
        code, rows = self.tandem.ctl_json("audit", "--window", "1s")
        self.assertEqual([row for row in rows if "violation" in row], [])
        self.assertEqual((code, rows[-1]["violations"]), (0, 0), rows[-1])
        for sku in SKUS:
            self.adds_up(sku)


if __name__ == "__main__":
    tandem.main()
