"""Whether a service is ready: /readyz, grpc.health.v1 (Check and Watch, for each service and for all) and
tandemctl doctor say the same, without any traffic, soon after it changes, in both directions."""
import subprocess

import grpc
import tandem

SOON = 10  # seconds; each step below takes one or two
CONTEXTS = tandem.CONTEXTS
ALL = tandem.SERVICES


class Readiness(tandem.Live):
    def setUp(self):
        self.stubs, self.seen = {}, {}
        for name in ALL:
            channel = self.tandem.channel(name)
            self.addCleanup(channel.close)
            self.stubs[name] = self.protos.stub(channel, tandem.HEALTH)
        self.ops = self.tandem.redis_as("ops")
        self.all_ready()
        for watched in (
            ("gateway", tandem.ORDER_SERVICE),
            ("gateway", tandem.INVENTORY_SERVICE),
            ("order", ""),
        ):
            self.seen[watched] = self.watch_health(*watched)

    def check(self, name, service=""):
        return self.stubs[name].Check(service=service).status == self.serving["SERVING"]

    def agree(self, **wanted):
        """Waits until /readyz, Check and Watch of these processes report what is wanted."""

        def what():
            return {name: (self.tandem.processes[name].ready(), self.check(name)) for name in wanted}

        def watchers():
            return all(
                (seen[-1] == self.serving["SERVING"]) == self.check(name, service)
                for (name, service), seen in self.seen.items()
                if name in wanted
            )

        expected = {name: (ready, ready) for name, ready in wanted.items()}
        tandem.until(
            lambda: what() == expected and watchers(), SOON * tandem.SLOW, lambda: (expected, what())
        )

    def all_ready(self):
        """All processes are ready, and doctor finds nothing bad."""
        self.agree(**{name: True for name in ALL})
        self.doctor_finds()

    def doctor_finds(self, *bad):
        """Waits until these checks of doctor, and no others, are bad."""
        found = lambda: {row["check"] for row in self.tandem.doctor() if row["result"] == "bad"}  # noqa: E731
        self.becomes(found, set(bad))

    def says(self, name, text):
        """Waits until /readyz gives this reason."""
        page = lambda: self.tandem.processes[name].get("/readyz")[1]  # noqa: E731
        tandem.until(lambda: text in page(), SOON * tandem.SLOW, lambda: (text, page()))

    def gateway_serves(self, *wanted):
        """Waits until the gateway serves orders, and stock."""
        found = lambda: [self.check("gateway", s) for s in (tandem.ORDER_SERVICE, tandem.INVENTORY_SERVICE)]  # noqa: E731
        self.becomes(found, list(wanted))

    def test_redis_takes_no_writes(self):
        """It became a replica."""
        self.ops("CONFIG", "SET", "replica-serve-stale-data", "yes")
        self.ops("REPLICAOF", "127.0.0.1", "1")
        try:
            self.agree(order=False, inventory=False, gateway=False)
            for name in CONTEXTS:
                self.says(name, "READONLY")
            self.doctor_finds("redis role", *ALL)
        finally:
            self.ops("REPLICAOF", "NO", "ONE")
        self.all_ready()

    def test_functions_are_gone(self):
        self.ops("FUNCTION", "FLUSH")
        try:
            self.agree(order=False, inventory=False, gateway=False)
            for name in CONTEXTS:
                self.says(name, f"{self.tandem.library(name)}: load them (tandemctl functions load), or set --redis-deploy-user")
            self.doctor_finds(*(f"functions of {name}" for name in CONTEXTS), *ALL)
        finally:
            subprocess.run([tandem.OPEN], env=self.tandem.env, check=True, capture_output=True)
        self.all_ready()

    def test_functions_of_one_are_replaced_by_another_version(self):
        """Only what depends on them is not ready."""
        library = self.tandem.library("inventory")
        code = self.ops("FUNCTION", "LIST", "LIBRARYNAME", library, "WITHCODE")[0]
        code = code[code.index(b"library_code") + 1]
        version = library.rpartition("_")[2].encode()
        self.ops("FUNCTION", "LOAD", code.replace(version, b"00000000"))
        self.ops("FUNCTION", "DELETE", library)
        try:
            self.agree(order=True, inventory=False, gateway=False)
            self.gateway_serves(True, False)
        finally:
            self.ops("FUNCTION", "LOAD", code)
            self.ops("FUNCTION", "DELETE", "inventory_00000000")
        self.all_ready()
        self.gateway_serves(True, True)

    def test_redis_is_frozen(self):
        with self.tandem.frozen("redis"):
            self.agree(order=False, inventory=False, gateway=False)
            self.says("order", "redis: ")
        self.all_ready()

    def test_redis_is_away(self):
        self.tandem.redis.kill()
        try:
            self.agree(order=False, inventory=False, gateway=False)
            self.says("order", "cannot connect")
        finally:
            self.tandem.redis.start()
        self.all_ready()

    def test_a_backend_is_frozen(self):
        for frozen, services in (("order", (False, True)), ("inventory", (True, False))):
            with self.subTest(frozen=frozen):
                with self.tandem.frozen(frozen):
                    self.agree(gateway=False)
                    self.gateway_serves(*services)
                    self.says("gateway", f"{frozen}: ")
                    self.doctor_finds(frozen, "gateway")
                self.all_ready()

    def test_health_refuses_nothing(self):
        """The gateway calls a service that is not ready too: its answer says best what is wrong, and an
        order can be accepted without inventory."""
        with self.tandem.frozen("inventory"):
            self.agree(gateway=False)
            self.assertEqual(self.name(self.place("refuses-nothing")), "PENDING")
        self.all_ready()


class Deploy(tandem.Live):
    """Services that may load their functions themselves."""

    LAYOUT = (1, 0, 4)
    MORE = ("order2",)
    ENV = {"TANDEM_REDIS_DEPLOY_USER": "deploy"}

    def setUp(self):
        self.ops = self.tandem.redis_as("ops")
        self.own = {self.tandem.library(name) for name in CONTEXTS}

    def libraries(self):
        return {tandem.pairs(library)[b"library_name"].decode() for library in self.ops("FUNCTION", "LIST")}

    def loads(self):
        """How often each library was loaded, by the logs of all instances."""
        text = "".join(self.tandem.processes[name].text(1000000) for name in (*CONTEXTS, "order2"))
        lines = [line for line in text.splitlines() if "the functions were missing, and are loaded" in line]
        return {library: sum(f"library={library} " in line for line in lines) for library in self.own}

    def order_goes_through(self):
        """An instance may learn a second later that its functions were away for a moment."""

        def placed():
            try:
                return self.order.PlaceOrder(
                    customer_id="deploy",
                    lines=[{"sku": f"deploy-{n}", "quantity": 1} for n in range(4)],
                    wait_for_decision=True,
                    _wait_for_ready=True,
                ).order
            except grpc.RpcError as error:
                self.assertEqual(error.code(), grpc.StatusCode.UNAVAILABLE)
                return None

        self.assertEqual(self.name(tandem.until(placed, SOON * tandem.SLOW, "an order is taken")), "REJECTED")

    def all_ready(self):
        return all(self.tandem.processes[name].ready() for name in (*CONTEXTS, "order2", "gateway"))

    def test_what_is_missing_is_loaded_once(self):
        before = self.loads()
        self.ops("FUNCTION", "FLUSH")
        tandem.until(lambda: self.libraries() == self.own, SOON * tandem.SLOW, self.libraries)
        tandem.until(self.all_ready, SOON * tandem.SLOW, "all are ready")
        self.order_goes_through()
        loads = self.loads()
        self.assertEqual({library: loads[library] - before[library] for library in loads}, dict.fromkeys(loads, 1))

    def test_other_versions_stay(self):
        library = self.tandem.library("order")
        code = self.ops("FUNCTION", "LIST", "LIBRARYNAME", library, "WITHCODE")[0]
        code = code[code.index(b"library_code") + 1]
        self.ops("FUNCTION", "LOAD", code.replace(library.rpartition("_")[2].encode(), b"00000000"))
        self.addCleanup(self.ops, "FUNCTION", "DELETE", "order_00000000")
        self.ops("FUNCTION", "DELETE", library)
        wanted = self.own | {"order_00000000"}
        tandem.until(lambda: self.libraries() == wanted, SOON * tandem.SLOW, self.libraries)
        self.order_goes_through()

    def test_the_user_may_do_nothing_else(self):
        deploy = self.tandem.redis_as("deploy")
        for command in (
            ("GET", "order:{0}:partitions"),
            ("SET", "order:{0}:partitions", "1"),
            ("FCALL", self.tandem.function("order", "version"), 1, "order:{0}:events"),
            ("FUNCTION", "FLUSH"),
            ("FUNCTION", "DELETE", self.tandem.library("order")),
            ("FUNCTION", "LIST"),
            ("CONFIG", "GET", "*"),
            ("ACL", "LIST"),
            ("EVAL", "return 1", 0),
        ):
            with self.subTest(command=command), self.assertRaisesRegex(tandem.RedisError, "^NOPERM"):
                deploy(*command)

    def test_a_user_that_is_locked_is_named(self):
        self.ops("ACL", "SETUSER", "deploy", "off")
        self.ops("FUNCTION", "FLUSH")
        try:
            page = lambda: self.tandem.order.get("/readyz")[1]  # noqa: E731
            tandem.until(
                lambda: "and the user deploy does not load them: AUTH: WRONGPASS" in page(), SOON * tandem.SLOW, page
            )
        finally:
            self.ops("ACL", "SETUSER", "deploy", "on")
        tandem.until(self.all_ready, SOON * tandem.SLOW, "all are ready")
        self.order_goes_through()


if __name__ == "__main__":
    tandem.main()
