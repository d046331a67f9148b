"""Whether a service is ready: /readyz, grpc.health.v1 (Check and Watch, for each service and for all) and
tandemctl doctor say the same, without any traffic, soon after it changes, in both directions."""
import subprocess

import tandem

SOON = 10  # seconds; each step below takes one or two
CONTEXTS = ("order", "inventory")
ALL = ("order", "inventory", "gateway")


class Readiness(tandem.Live):
    def setUp(self):
        self.stubs, self.seen = {}, {}
        for name in ALL:
            channel = self.tandem.channel(name)
            self.addCleanup(channel.close)
            self.stubs[name] = self.protos.stub(channel, tandem.HEALTH)
        self.ops = self.tandem.redis_as("ops")
        self.agree(**{name: True for name in ALL})
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

    def doctor(self):
        """The checks of doctor that are bad: {check: result}."""
        return {
            row["check"]: row["result"] for row in self.tandem.doctor() if row["result"] == "bad"
        }

    def says(self, name, text):
        """Waits until /readyz gives this reason."""
        page = lambda: self.tandem.processes[name].get("/readyz")[1]  # noqa: E731
        tandem.until(lambda: text in page(), SOON * tandem.SLOW, lambda: (text, page()))

    def gateway_services(self):
        return [self.check("gateway", s) for s in (tandem.ORDER_SERVICE, tandem.INVENTORY_SERVICE)]

    def test_redis_takes_no_writes(self):
        """It became a replica."""
        self.ops("CONFIG", "SET", "replica-serve-stale-data", "yes")
        self.ops("REPLICAOF", "127.0.0.1", "1")
        try:
            self.agree(order=False, inventory=False, gateway=False)
            for name in CONTEXTS:
                self.says(name, "READONLY")
            self.assertEqual(set(self.doctor()), {"redis role", *ALL})
        finally:
            self.ops("REPLICAOF", "NO", "ONE")
        self.agree(order=True, inventory=True, gateway=True)
        self.assertEqual(self.doctor(), {})

    def test_functions_are_gone(self):
        self.ops("FUNCTION", "FLUSH")
        try:
            self.agree(order=False, inventory=False, gateway=False)
            for name in CONTEXTS:
                self.says(name, self.tandem.library(name))
            found = self.doctor()
            wanted = {f"functions of {name}" for name in CONTEXTS} | set(ALL)
            self.assertEqual(set(found), wanted)
        finally:
            subprocess.run([tandem.OPEN], env=self.tandem.env, check=True, capture_output=True)
        self.agree(order=True, inventory=True, gateway=True)

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
            self.assertEqual(self.gateway_services(), [True, False])
        finally:
            self.ops("FUNCTION", "LOAD", code)
            self.ops("FUNCTION", "DELETE", "inventory_00000000")
        self.agree(order=True, inventory=True, gateway=True)
        self.assertEqual(self.gateway_services(), [True, True])

    def test_redis_is_frozen(self):
        with self.tandem.frozen("redis"):
            self.agree(order=False, inventory=False, gateway=False)
            self.says("order", "redis: ")
        self.agree(order=True, inventory=True, gateway=True)

    def test_redis_is_away(self):
        self.tandem.redis.kill()
        try:
            self.agree(order=False, inventory=False, gateway=False)
            self.says("order", "cannot connect")
        finally:
            self.tandem.redis.start()
        self.agree(order=True, inventory=True, gateway=True)

    def test_a_backend_is_frozen(self):
        for frozen, services in (("order", [False, True]), ("inventory", [True, False])):
            with self.subTest(frozen=frozen):
                with self.tandem.frozen(frozen):
                    self.agree(gateway=False)
                    self.assertEqual(self.gateway_services(), services)
                    self.says("gateway", f"{frozen}: ")
                    found = set(self.doctor())
                    self.assertEqual(found, {frozen, "gateway"})
                self.agree(order=True, inventory=True, gateway=True)

    def test_health_refuses_nothing(self):
        """The gateway calls a service that is not ready too: its answer says best what is wrong, and an
        order can be accepted without inventory."""
        with self.tandem.frozen("inventory"):
            self.agree(gateway=False)
            self.assertEqual(self.name(self.place("refuses-nothing")), "PENDING")
        self.agree(order=True, inventory=True, gateway=True)


if __name__ == "__main__":
    tandem.main()
