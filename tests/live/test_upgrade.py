"""A new build replaces the old one, service by service, while orders come in; and back. No call fails,
and no client repeats one.

The next build (build/tests/next) has other versions of the Redis functions: Redis holds both, and the old
ones are pruned when no service calls them. The client knows two gateways and uses those whose health is
SERVING, as any gRPC client can (round_robin and healthCheckConfig)."""
import json
import os
import subprocess

import grpc
import tandem

NEXT = os.path.join(tandem.BUILD, "tests", "next")
CONTEXTS = ("order", "inventory")
SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "healthCheckConfig": {"serviceName": tandem.ORDER_SERVICE},
}


class Upgrade(tandem.Live):
    MORE = ("order2", "inventory2", "gateway2")

    @classmethod
    def setUpClass(cls):
        """The second instances are of the next build, and not started yet."""
        started = tandem.Tandem.start

        def start(self):
            self.second = {name: self.processes.pop(name) for name in cls.MORE}
            started(self)
            for name, process in self.second.items():
                process.env["TANDEM_BUILD"] = NEXT
                self.processes[name] = process

        tandem.Tandem.start = start
        try:
            super().setUpClass()
        finally:
            tandem.Tandem.start = started

    def client(self):
        """A client of both gateways that uses the healthy ones and repeats nothing."""
        ports = [self.tandem.ports[name] for name in ("gateway", "gateway2")]
        channel = grpc.insecure_channel(
            "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports),
            options=[
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.max_reconnect_backoff_ms", 500),
                ("grpc.initial_reconnect_backoff_ms", 100),
                ("grpc.enable_retries", 0),
                ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
            ],
        )
        self.addCleanup(channel.close)
        return self.protos.stub(channel, tandem.ORDER_SERVICE)

    def functions(self, command, build=tandem.BUILD):
        """Runs tandemctl functions."""
        ctl = os.path.join(build, "tandemctl")
        env = {**self.tandem.env, "TANDEM_REDIS_PORT": str(self.tandem.redis_port)}
        subprocess.run([ctl, "functions", *command], env=env, check=True, capture_output=True)

    def libraries(self):
        found = self.tandem.redis_as("ops")("FUNCTION", "LIST")
        return {library[library.index(b"library_name") + 1].decode() for library in found}

    def calls(self, name):
        method = "AdjustStock" if name.startswith("inventory") else "PlaceOrder"
        method = "Place" if name.startswith("order") else method
        return self.tandem.processes[name].metric("grpc_server_started_total", grpc_method=method)

    def replace(self, old, new):
        """Starts the new instance; when it gets calls, ends the old one."""
        self.tandem.start(new)
        tandem.until(lambda: self.used(new), 30 * tandem.SLOW, f"{new} is called")
        self.assertEqual(self.tandem.processes[old].terminate(), 0)

    def used(self, name):
        if name.startswith("inventory"):
            self.inventory_stub().AdjustStock(sku="side", delta=1, reason="upgrade")
        return self.calls(name) > 0

    def inventory_stub(self):
        running = [n for n in ("gateway", "gateway2") if self.tandem.processes[n].popen]
        return self.connect(running[0])[1]

    def test_upgrade_and_back(self):
        self.stock("upgraded", 10**6)
        old = self.libraries()
        new = {
            line.split("=")[1]
            for name in CONTEXTS
            for line in subprocess.run(
                [os.path.join(NEXT, f"tandem-{name}"), "--print-functions"],
                capture_output=True,
                text=True,
                check=True,
            ).stdout.split("\n", 1)[:1]
        }
        self.assertFalse(old & new)
        client = self.client()
        loads = tandem.Loads(
            tandem.Load(client, "upgraded", f"l{n}", timeout=20 * tandem.SLOW, retry=False,
                        wait_for_decision=n % 2 == 0)
            for n in range(6)
        )
        with loads:
            self.load_functions(NEXT)
            self.assertEqual(self.libraries(), old | new)
            for name in ("order", "inventory", "gateway"):
                self.replace(name, f"{name}2")
            self.assertEqual(self.libraries(), old | new)
            loads.go_on(11, "the new instances serve")
            for name in ("gateway", "inventory", "order"):
                self.replace(f"{name}2", name)
        self.assertEqual(loads.errors, [])
        self.assertEqual(set(self.decided(loads.placed).values()), {"RESERVED"})

        def pruned():
            self.functions(["prune", "--idle", "3s"])
            return self.libraries() == old

        # No service calls the next build's functions any more; those of this build stay.
        tandem.until(pruned, 30 * tandem.SLOW, self.libraries)

    def load_functions(self, build):
        ops = self.tandem.redis_as("ops")
        for name in CONTEXTS:
            program = os.path.join(build, f"tandem-{name}")
            code = subprocess.run([program, "--print-functions"], capture_output=True, check=True)
            ops("FUNCTION", "LOAD", "REPLACE", code.stdout)


class Former(tandem.Live):
    """Orders as earlier versions stored them: each a hash. They are rewritten, none is lost, and no service
    works on them in between."""

    def to_former(self, ops):
        """Rewrites the data in Redis to the form of an earlier version."""
        for order_id, text in tandem.pairs(ops("HGETALL", tandem.Record.KEY)).items():
            record = tandem.Record.read(text)
            state = record.state.decode()
            fields = {
                "status": state.rstrip("~"),
                "version": record.version,
                "hold": record.hold,
                "history": record.history,
                "placed": record.placed,
                "attempt": record.attempt.rpartition(b"=")[2],
                "detail": record.detail,
                "settled": "1" if state in ("REJECTED", "CONFIRMED", "CANCELLED", "EXPIRED") else "",
            }
            flat = [part for name, value in fields.items() if value for part in (name, value)]
            ops("HSET", b"order:{0}:o:" + order_id, *flat)
        ops("DEL", tandem.Record.KEY, "order:{0}:format")

    def test_orders_are_rewritten(self):
        self.stock("former", 10)
        ops = self.tandem.redis_as("ops")
        orders = {name: self.place("former", request_id=name) for name in ("held", "bought", "given back", "left")}
        orders["refused"] = self.place("former", 99, request_id="refused")
        ids = {name: order.order_id for name, order in orders.items()}
        self.decided(ids.values())
        for name, call in (("bought", self.order.ConfirmOrder), ("given back", self.order.CancelOrder)):
            call(order_id=ids[name])
            self.settled(ids[name])
        with self.tandem.away("inventory"):
            self.order.CancelOrder(order_id=ids["left"])
            ids["undecided"] = self.place("former", request_id="undecided").order_id
            before = {name: self.get(order_id) for name, order_id in ids.items()}
            self.assertEqual(self.tandem.order.terminate(), 0)
            self.to_former(ops)
            self.tandem.processes["order"].start()
            tandem.until(
                lambda: "tandemctl functions load" in self.tandem.order.get("/readyz")[1],
                20 * tandem.SLOW,
                "the order service says what to do",
            )
            self.fails(grpc.StatusCode.UNAVAILABLE, self.order.PlaceOrder, customer_id="c", request_id="held",
                       lines=[{"sku": "former", "quantity": 1}])
            self.assertEqual(ops("EXISTS", tandem.Record.KEY), 0)
            damaged = "ord_" + "b" * 26
            ops("HSET", f"order:{{0}}:o:{damaged}", "status", "PENDING")
            # An instance of an earlier version, as Redis knows it.
            ops("XGROUP", "CREATECONSUMER", tandem.STOCK, "order", "x-1-1@0ld")
            refused = self.tandem.ctl("functions", "load")
            self.assertEqual(refused.returncode, 1, refused)
            self.assertIn("stop all instances of order@0ld first", refused.stderr)
            self.assertEqual(ops("EXISTS", tandem.Record.KEY), 0)
            ops("XGROUP", "DELCONSUMER", tandem.STOCK, "order", "x-1-1@0ld")
            done = self.tandem.ctl("functions", "load")
            self.assertIn(f"rewrote {len(ids)} orders", done.stdout)
            self.assertIn("1 orders are damaged", done.stderr)
            self.assertIn(f"{damaged} order-damaged", " ".join(self.tandem.ctl("audit").stdout.split()))
            ops("HDEL", tandem.Record.KEY, damaged)
            ops("DEL", f"order:{{0}}:o:{damaged}")
            self.tandem.order.wait_ready()
            self.assertEqual({name: self.get(order_id) for name, order_id in ids.items()}, before)
            self.assertEqual(ops("KEYS", "order:{0}:o:*"), [])
            self.assertNotIn("rewrote", self.tandem.ctl("functions", "load").stdout)
        self.assertEqual(self.place("former", request_id="held").order_id, ids["held"])
        self.assertEqual(self.decided([ids["undecided"]]), {ids["undecided"]: "RESERVED"})
        tandem.until(lambda: self.get(ids["left"]).settled, 20 * tandem.SLOW, "the cancellation is settled")
        code, lines = self.tandem.ctl_json("audit")
        self.assertEqual((code, lines[-1]["violations"]), (0, 0), lines)


if __name__ == "__main__":
    tandem.main()
