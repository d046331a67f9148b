"""Two instances of each service: a gateway calls those that serve. One is killed, frozen or ended while calls are
under way; no call waits for it for long, and a call that may be repeated is."""
import contextlib
import json
import subprocess
import threading
import time

import grpc
import tandem

# The longest time that a call may take, whatever happens to one instance: well below their deadlines of 30 s, which one that
# waits for an instance that has gone takes.
WAIT_MAX = 12 * tandem.SLOW


class Calls(threading.Thread):
    """Makes one call after the other until end(). `calls` gets (seconds it took, answer or None, error or
    None) for each."""

    def __init__(self, call):
        super().__init__(daemon=True)
        self.call, self.calls, self.ended = call, [], threading.Event()

    def run(self):
        while not self.ended.is_set():
            start = time.monotonic()
            answer = error = None
            try:
                answer = self.call()
            except grpc.RpcError as failed:
                error = failed
                self.ended.wait(0.05)
            self.calls.append((time.monotonic() - start, answer, error))

    def go_on(self, count, what):
        wanted = sum(error is None for _, _, error in self.calls) + count
        done = lambda: sum(error is None for _, _, error in self.calls) >= wanted  # noqa: E731
        tandem.until(done, 20 * tandem.SLOW, what)


class Instances(tandem.Live):
    MORE = ("order2", "inventory2")

    def setUp(self):
        self.settle()

    def settle(self):
        """All instances serve: the gateway has asked each since it was started, so that it does not count one that was
        killed a moment ago."""
        self.tandem.start()
        for name in ("order", "order2", "inventory", "inventory2"):
            tandem.until(lambda: self.handled(name, "Check") > 0, 20 * tandem.SLOW, f"{name} is asked")  # noqa: B023
        for service in (tandem.ORDER_SERVICE, tandem.INVENTORY_SERVICE):
            tandem.until(lambda: self.serve(service) == 2, 20 * tandem.SLOW, f"{service}: two serve")  # noqa: B023

    def serve(self, service):
        return self.tandem.gateway.metric("tandem_instances_serving", grpc_service=service)

    def handled(self, name, method):
        return self.tandem.processes[name].metric("grpc_server_started_total", grpc_method=method)

    @contextlib.contextmanager
    def under_load(self, sku):
        """Orders with a request_id, some of which wait for their decision; orders without one; reads; changes
        of stock. Afterwards no call has taken long, and those that may be repeated have not failed."""
        self.stock(sku, 10**6)
        order_id = self.place(sku, wait_for_decision=True).order_id
        stubs = [self.connect() for _ in range(8)]
        safe = [
            tandem.Load(stubs[n][0], sku, f"{sku}-{n}", timeout=30, retry=False, wait_for_decision=n % 2 == 0)
            for n in range(4)
        ]
        reads = [
            Calls(lambda: stubs[4][0].GetOrder(order_id=order_id)),
            Calls(lambda: stubs[5][1].GetStock(sku=sku)),
        ]
        line = [{"sku": sku, "quantity": 1}]
        changes = [
            Calls(lambda: stubs[6][0].PlaceOrder(customer_id="c", lines=line, _timeout=30)),
            Calls(lambda: stubs[7][1].AdjustStock(sku=sku, delta=1, reason="load", _timeout=30)),
        ]
        threads = [*safe, *reads, *changes]
        for thread in threads:
            thread.start()

        def go_on(what):
            tandem.Loads(safe).go_on(5, what)
            for calls in (*reads, *changes):
                calls.go_on(5, what)

        try:
            go_on("load begins")
            yield go_on
        finally:
            for thread in threads:
                thread.ended.set()
            for thread in threads:
                thread.join(60)
        self.assertFalse(any(thread.is_alive() for thread in threads), "a call hangs")
        took = [call[1] for load in safe for call in load.calls]
        took += [call[0] for calls in (*reads, *changes) for call in calls.calls]
        print(f"{self.id().rpartition('.')[2]}: {len(took)} calls, the longest {max(took):.2f} s")
        self.assertLess(max(took), WAIT_MAX)
        self.assertEqual([str(error) for _, error in tandem.Loads(safe).errors], [])
        self.assertEqual([str(error) for calls in reads for _, _, error in calls.calls if error], [])
        failed = [error for calls in changes for _, _, error in calls.calls if error]
        for error in failed:
            self.assertEqual(error.code(), grpc.StatusCode.UNAVAILABLE, error)
            self.assertIn("RetryInfo", self.details(error))
        decided = self.decided(tandem.Loads(safe).placed)
        self.assertEqual(set(decided.values()), {"RESERVED"})
        self.failed = failed

    def test_all_get_work(self):
        self.stock("spread", 1000)
        methods = {"order": "GetOrder", "order2": "GetOrder", "inventory": "GetStock", "inventory2": "GetStock"}
        count = lambda: {name: self.handled(name, method) for name, method in methods.items()}  # noqa: E731
        got = {}

        def evenly():
            """Not while one has not answered for a moment, since then the other gets all."""
            before = count()
            for _ in range(10):
                self.get(self.place("spread").order_id)
                self.inventory.GetStock(sku="spread")
            got.update({name: now - before[name] for name, now in count().items()})
            return set(got.values()) == {5}

        tandem.until(evenly, 20 * tandem.SLOW, lambda: got)
        for name in ("order", "order2"):
            self.assertGreater(self.handled(name, "Place"), 0, name)

    def test_killed(self):
        for name in ("order", "inventory2", "order2", "inventory"):
            with self.subTest(name), self.under_load(f"killed-{name}") as go_on:
                self.tandem.processes[name].kill()
                go_on(f"without {name}")
                self.tandem.start(name)
                self.settle()
                go_on(f"{name} is back")

    def test_frozen(self):
        for name in ("order", "inventory2", "order2", "inventory"):
            service = tandem.ORDER_SERVICE if name.startswith("order") else tandem.INVENTORY_SERVICE
            before = self.silences(service)
            with self.subTest(name), self.under_load(f"frozen-{name}") as go_on:
                with self.tandem.frozen(name):
                    go_on(f"without {name}")
                    self.becomes(lambda service=service: self.serve(service), 1)
                self.settle()
                go_on(f"{name} is back")
            counted, logged = self.silences(service)
            address = f"address=127.0.0.1:{self.tandem.ports[name]} "
            self.assertTrue(any(address in line for line in logged[len(before[1]):]), logged)
            self.assertEqual(counted - before[0], len(logged) - len(before[1]), logged)

    def silences(self, service):
        """How often an instance of it did not answer any more: as it is counted, and what the log says. Each time once."""
        with open(self.tandem.gateway.log, encoding="utf-8", errors="replace") as log:
            lines = [line for line in log if f"service={service} " in line and 'reason="it does not answer"' in line
                     and "gets no calls" in line]
        return self.tandem.gateway.metric("tandem_instances_silent_total", grpc_service=service), lines

    def test_ended(self):
        """An instance that is asked to end finishes its calls and gets no new ones: no call fails."""
        for name in ("order", "inventory2"):
            with self.subTest(name), self.under_load(f"ended-{name}") as go_on:
                self.assertEqual(self.tandem.processes[name].terminate(), 0)
                go_on(f"without {name}")
                self.settle()
                go_on(f"{name} is back")
            self.assertEqual(self.failed, [])

    def test_the_gateway_is_frozen(self):
        """It has waited for answers for long when it wakes, because it was stopped itself: that says nothing
        about its instances."""
        gateway = self.tandem.gateway
        for _ in range(20):
            silent = gateway.metric("tandem_instances_silent_total")
            start = time.monotonic()
            with self.tandem.frozen("order", "order2"):
                time.sleep(0.22)  # by now both are asked, and owe an answer
                gateway.signal(tandem.signal.SIGSTOP)
                frozen = time.monotonic() - start
            time.sleep(3)  # longer than an instance may be silent
            gateway.signal(tandem.signal.SIGCONT)
            self.stock("woken", 1)
            tandem.until(lambda: self.serve(tandem.ORDER_SERVICE) == 2, 20 * tandem.SLOW, "both serve")
            # Else they were silent for long, as they are when nothing runs for a while.
            if frozen < 0.35 and gateway.metric("tandem_instances_silent_total") == silent:
                return
        self.fail("its own pause counts as theirs, or this machine cannot freeze two processes in 0.35 s")

    def test_all_away(self):
        self.stock("away", 100)
        order = self.place("away", wait_for_decision=True)
        for name in ("order", "order2"):
            self.tandem.processes[name].kill()
        for _ in range(5):
            start = time.monotonic()
            error = self.fails(grpc.StatusCode.UNAVAILABLE, self.place, "away", request_id="away")
            self.assertIn("RetryInfo", error.found)
            error = self.fails(grpc.StatusCode.UNAVAILABLE, self.get, order.order_id)
            self.assertIn("RetryInfo", error.found)
            self.assertLess(time.monotonic() - start, WAIT_MAX)
        self.settle()
        self.assertEqual(self.get(order.order_id).order_id, order.order_id)

    def test_a_wait_goes_on(self):
        """A caller that waits for a decision gets it, although the instance that has its order is frozen, or dies."""
        self.stock("waited", 1000)
        for end in ("freeze", "kill"):
            with self.subTest(end), self.tandem.frozen("inventory", "inventory2"):
                calls = [
                    self.placing("waited", request_id=f"{end}-{n}", wait_for_decision=True, _timeout=30)
                    for n in range(20)
                ]
                tandem.until(
                    lambda: len(self.listed("customer")) >= 20 * (1 + (end == "kill")),  # noqa: B023
                    10 * tandem.SLOW,
                    "all are placed",
                )
                if end == "kill":
                    self.tandem.order2.kill()
                else:
                    self.tandem.order2.signal(tandem.signal.SIGSTOP)
                    tandem.until(
                        lambda: self.serve(tandem.ORDER_SERVICE) == 1, 10 * tandem.SLOW, "one serves"
                    )
            self.assertEqual({self.name(call.result().order) for call in calls}, {"RESERVED"})
            if end == "freeze":
                self.tandem.order2.signal(tandem.signal.SIGCONT)
            self.settle()

    def test_watches_go_on(self):
        """A watch whose instance has gone goes on at the other: no version is missing, none comes twice."""
        self.stock("watched", 1000)
        for end in ("kill", "freeze", "terminate"):
            with self.subTest(end):
                self.watches_go_on(end)
                self.settle()

    def watches_go_on(self, end):
        order2 = self.tandem.order2
        ids = [self.place("watched", wait_for_decision=True).order_id for _ in range(12)]
        seen = {order_id: [] for order_id in ids}
        ended = {}

        def follow(order_id):
            try:
                for answer in self.order.WatchOrder(order_id=order_id, _timeout=60 * tandem.SLOW):
                    seen[order_id].append((answer.order.version, self.name(answer.order)))
                ended[order_id] = None
            except grpc.RpcError as error:
                ended[order_id] = error

        before = self.handled("order2", "WatchOrder")
        threads = [threading.Thread(target=follow, args=(i,), daemon=True) for i in ids]
        for thread in threads:
            thread.start()
        tandem.until(lambda: all(seen.values()), 10 * tandem.SLOW, "each has its first message")
        self.assertGreater(self.handled("order2", "WatchOrder"), before)
        if end == "kill":
            order2.kill()
        elif end == "freeze":
            order2.signal(tandem.signal.SIGSTOP)
        else:
            self.assertEqual(order2.terminate(), 0)
        tandem.until(lambda: self.serve(tandem.ORDER_SERVICE) == 1, 10 * tandem.SLOW, "one serves")
        order, _ = self.connect("order")
        for n, order_id in enumerate(ids):
            if n % 2:
                order.ConfirmOrder(order_id=order_id)
            else:
                order.CancelOrder(order_id=order_id, reason="test")
        tandem.until(lambda: len(ended) == len(ids), 20 * tandem.SLOW, lambda: f"{ended} {seen}")
        if end == "freeze":
            order2.signal(tandem.signal.SIGCONT)
        self.assertEqual([str(error) for error in ended.values() if error], [])
        for n, order_id in enumerate(ids):
            versions = [version for version, _ in seen[order_id]]
            self.assertEqual(versions, list(range(versions[0], versions[0] + len(versions))), seen[order_id])
            self.assertIn("CONFIRMED" if n % 2 else "CANCELLED", [name for _, name in seen[order_id]])


class Gateways(tandem.Live):
    """Two gateways, and tandemctl as a client of both."""

    MORE = ("gateway2",)

    def test_one_goes(self):
        for n in range(50):
            self.stock(f"load-{n:04}", 10**6)
        gateway2 = self.tandem.gateway2
        for end, back in (
            (gateway2.kill, lambda: self.tandem.start("gateway2")),
            (
                lambda: gateway2.signal(tandem.signal.SIGSTOP),
                lambda: gateway2.signal(tandem.signal.SIGCONT),
            ),
        ):
            before = self.orders(gateway2)
            load = self.load()
            tandem.until(lambda: self.orders(gateway2) > before + 100, 20 * tandem.SLOW, "it is used")  # noqa: B023
            end()
            before = self.orders(self.tandem.gateway)
            tandem.until(
                lambda: self.orders(self.tandem.gateway) > before + 300,  # noqa: B023
                20 * tandem.SLOW,
                "the other is used alone",
            )
            back()
            said = json.loads(load.communicate(timeout=60)[0])
            longest = max(said[which]["max"] for which in ("accepted_ms", "decided_ms", "failed_ms")) / 1000
            print(f"{said['sent']} orders, {said['failed']} failed, the longest wait {longest:.2f} s")
            self.assertLess(longest, WAIT_MAX)
            self.assertEqual(said["accepted"] + said["failed"], said["sent"])
            self.assertLessEqual(set(said["errors"]), {"UNAVAILABLE"})
            self.assertLess(said["failed"], said["sent"] / 8)  # half of them are its: some fail until it is known

    def test_one_is_away(self):
        """tandemctl calls the gateway that is there, wherever it stands in the list."""
        self.stock("away", 10)
        here, away = f"127.0.0.1:{self.tandem.ports['gateway']}", f"127.0.0.1:{tandem.free_ports(1)[0]}"
        for gateways in (f"{here},{away}", f"{away},{here}"):
            done = subprocess.run(
                [tandem.CTL, "stock", "get", "away", "--gateway", gateways],
                env=self.tandem.env,
                capture_output=True,
                text=True,
            )
            self.assertEqual((done.returncode, done.stderr), (0, ""), gateways)
            self.assertIn("away", done.stdout)

    def test_named(self):
        """The instances' host is a name, which is looked up."""
        gateway2 = self.tandem.gateway2
        for name in tandem.CONTEXTS:
            gateway2.env[f"TANDEM_GATEWAY_{name.upper()}_TARGET"] = f"localhost:{self.tandem.ports[name]}"
        self.assertEqual(gateway2.terminate(), 0)
        self.tandem.start("gateway2")
        order, inventory = self.connect("gateway2")
        inventory.AdjustStock(sku="named", delta=1, reason="test")
        placed = order.PlaceOrder(
            customer_id="c", lines=[{"sku": "named", "quantity": 1}], wait_for_decision=True
        )
        self.assertEqual(self.name(placed.order), "RESERVED")

    def orders(self, gateway):
        return gateway.metric("tandem_batch_items_total", step="place")

    def load(self):
        """Orders at 200 a second, for 8 s, from both gateways."""
        gateways = ",".join(f"127.0.0.1:{self.tandem.ports[name]}" for name in ("gateway", "gateway2"))
        flags = "--json --quiet --no-accounting --rate 200 --warmup 0s --duration 8s --wait --skus 50".split()
        return subprocess.Popen(
            [tandem.CTL, "load", "--gateway", gateways, *flags],
            env=self.tandem.env,
            stdout=subprocess.PIPE,
            text=True,
        )


if __name__ == "__main__":
    tandem.main()
