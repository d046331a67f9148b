"""TLS to Redis, with one Redis and with a cluster; certificates and passwords that are changed while orders are
placed; and the places where no secret may be."""
import contextlib
import os
import ssl
import subprocess
import tempfile
import unittest

import tandem

LIB = os.path.join(tandem.ROOT, "scripts", "lib")
TLS = {"TANDEM_REDIS_TLS": "1"}

PROCESSES = (*tandem.SERVICES, "console")  # besides Redis: all that have certificates


class Secured:
    """What these classes have in common."""

    def script(self, name, *arguments):
        done = subprocess.run([os.path.join(LIB, name), *arguments], env=self.tandem.env, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def path(self, *names):
        return os.path.join(self.tandem.env["TANDEM_VAR"], *names)

    def password(self, user):
        with open(self.path("secrets", user)) as secret:
            return secret.read().strip()

    def loads(self):
        return tandem.Loads(tandem.Load(self.connect()[0], "tea", f"{self.id()}-{n}") for n in range(4))

    def nodes(self):
        """A connection as ops to each process of Redis."""
        return [self.tandem.node(number) for number in range(len(self.tandem.nodes))]

    def reconnected(self):
        """Every connection of the services is cut; then they are ready again, and work."""
        for node in self.nodes():
            for user in tandem.CONTEXTS:
                node("CLIENT", "KILL", "USER", user)
        tandem.until(lambda: self.placed("tea"), 30 * tandem.SLOW, "the services are connected again")
        for name in tandem.SERVICES:
            self.tandem.processes[name].wait_ready()

    def placed(self, sku):
        with contextlib.suppress(tandem.grpc.RpcError):
            return self.place(sku, wait_for_decision=True)
        return None

    def no_gap(self, loads, change):
        """No call fails while something is changed."""
        with loads:
            loads.go_on(10)
            change()
            loads.go_on(20)
        self.assertEqual([str(error) for _, error in loads.errors], [])
        self.assertEqual(set(self.decided(loads.placed).values()), {"RESERVED"})

    def certificate(self, number=0):
        """The certificate that a new connection to Redis sees."""
        with contextlib.closing(self.tandem.node(number)) as redis:
            return redis.socket.getpeercert()["serialNumber"]


class One(Secured, tandem.Live):
    ENV = TLS

    def test_an_order(self):
        self.stock("tea", 5)
        order = self.place("tea", 2, wait_for_decision=True)
        self.assertEqual(self.name(order), "RESERVED")
        self.assertIn("RESERVED", self.tandem.ctl("explain", order.order_id).stdout)

    def test_the_tools(self):
        """Each connection of theirs; without the CA they say what is wrong."""
        code, rows = self.tandem.ctl_json("doctor")
        self.assertEqual(code, 0, rows)
        self.assertEqual({row["result"] for row in rows}, {"ok"}, rows)
        done = self.tandem.ctl("load", "--rate", "50", "--duration", "1s", "--yes")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        port = self.tandem.redis_port
        for url, env, said in (
            (f"rediss://127.0.0.1:{port}", {}, ""),
            (f"cluster://127.0.0.1:{port}", {}, ""),
            (f"redis://127.0.0.1:{port}", {}, "write rediss://"),
            (f"rediss://127.0.0.2:{port}", {}, "refused"),
            (f"redis://127.0.0.1:{port}", {"TANDEM_REDIS_TLS": "", "TANDEM_REDIS_TLS_CA": ""}, "Redis at"),
            (f"rediss://127.0.0.1:{port}", {"TANDEM_REDIS_TLS_CA": ""}, "certificate is refused"),
            (f"rediss://127.0.0.1:{port}", {"TANDEM_REDIS_TLS_KEY": ""}, "--redis-tls-key is missing"),
            (f"rediss://127.0.0.1:{port}", {"TANDEM_REDIS_TLS_CERT": "", "TANDEM_REDIS_TLS_KEY": ""}, "TLS: "),
        ):
            with self.subTest(url=url, env=env):
                done = self.tandem.ctl("--redis", url, "events", "lag", env=env)
                self.assertEqual(done.returncode, 3 if said else 0, done.stdout + done.stderr)
                self.assertIn(said, done.stderr)

    def test_nothing_is_plain(self):
        self.assertFalse(os.path.exists(self.path("run", "redis.sock")))
        with self.assertRaises((ConnectionError, ValueError)):
            tandem.Redis(self.tandem.redis_port)("PING")

    def test_a_certificate_is_needed(self):
        nobody = ssl.create_default_context(cafile=self.path("tls", "ca.crt"))
        with self.assertRaises((ssl.SSLError, ConnectionError)):
            tandem.Redis(self.tandem.redis_port, tls=nobody)("PING")

    def test_sentinels(self):
        """Sentinels are asked with TLS, as is the master that they name."""
        port, own, admin = tandem.free_ports(3)
        folder = os.path.join(self.tandem.folder, "sentinel")
        os.mkdir(folder)
        with open(os.path.join(folder, "own.conf"), "w") as file:
            file.write(
                f"bind 127.0.0.1\nport 0\ntls-port {port}\nlogfile log\ntls-replication yes\n"
                f'tls-cert-file "{self.path("tls", "redis.crt")}"\ntls-key-file "{self.path("tls", "redis.key")}"\n'
                f'tls-ca-cert-file "{self.path("tls", "ca.crt")}"\n'
                f"sentinel monitor shop 127.0.0.1 {self.tandem.redis_port} 1\n"
                f"sentinel auth-user shop ops\nsentinel auth-pass shop {self.password('ops')}\n"
            )
        sentinel = subprocess.Popen(
            ["redis-server", "own.conf", "--sentinel"], cwd=folder, stdout=subprocess.DEVNULL
        )
        self.addCleanup(sentinel.wait)
        self.addCleanup(sentinel.kill)
        url = f"sentinel://127.0.0.1:{port}/shop"
        tandem.until(lambda: self.tandem.ctl("--redis", url, "events", "lag").returncode == 0, 20 * tandem.SLOW, "it answers")
        plain = self.tandem.ctl("--redis", url, "events", "lag", env={"TANDEM_REDIS_TLS": "", "TANDEM_REDIS_TLS_CA": ""})
        self.assertEqual(plain.returncode, 3, plain.stderr)
        self.assertIn("no sentinel says where the master shop is", plain.stderr)
        env = {
            "TANDEM_ORDER_LISTEN": f"127.0.0.1:{own}", "TANDEM_ORDER_ADMIN_LISTEN": f"127.0.0.1:{admin}",
            "TANDEM_ORDER_REDIS": url,
        }
        process = tandem.Process(self.tandem, "sentinel-order", "order", env)
        process.admin = f"http://127.0.0.1:{admin}"
        process.start()
        process.wait_ready()
        self.assertEqual(process.terminate(), 0)
        # The source of a migration, too: refused, since services run.
        done = self.tandem.ctl("migrate", "--from", url, "--partitions", "1", "--redis", url)
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)

    def test_what_is_wrong_is_said(self):
        """In the log and by readiness; and it is tried again until it is right."""
        ca = self.path("tls", "another.crt")
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
             "/CN=another", "-keyout", self.path("tls", "another.key"), "-out", ca],
            check=True, capture_output=True,
        )
        for name in tandem.CONTEXTS:
            with self.subTest(process=name):
                port, admin = tandem.free_ports(2)
                upper = name.upper()
                env = {
                    f"TANDEM_{upper}_LISTEN": f"127.0.0.1:{port}",
                    f"TANDEM_{upper}_ADMIN_LISTEN": f"127.0.0.1:{admin}",
                    f"TANDEM_{upper}_REDIS_TLS_CA": ca,
                }
                process = tandem.Process(self.tandem, f"second-{name}", name, env)
                process.admin = f"http://127.0.0.1:{admin}"
                process.start()
                self.addCleanup(lambda: process.popen is None or process.kill())
                said = "TLS: the server's certificate is refused"
                tandem.until(lambda: said in process.get("/readyz")[1], 10 * tandem.SLOW, lambda: process.get("/readyz"))
                self.assertIn(said, process.text())
                self.assertIn("must be of a CA in the file of --redis-tls-ca", process.text())
                with open(self.path("tls", "ca.crt")) as right, open(ca + ".new", "w") as file:
                    file.write(right.read())
                os.replace(ca + ".new", ca)
                process.wait_ready()
                self.assertEqual(process.terminate(), 0)
                os.unlink(ca)
                subprocess.run(
                    ["openssl", "req", "-x509", "-key", self.path("tls", "another.key"), "-subj", "/CN=another", "-out", ca],
                    check=True, capture_output=True,
                )


class Rotated(Secured, tandem.Live):
    """Without a gap."""

    ENV = TLS

    def test_certificates(self):
        """Redis's, and those of its clients."""
        self.stock("tea", 1000000)
        before = self.certificate()

        def renew():
            self.script("ca", "--renew", "redis", *tandem.CONTEXTS, "ops")
            self.script("redis-open")

        self.no_gap(self.loads(), renew)
        self.assertNotEqual(self.certificate(), before)
        self.reconnected()

    def test_passwords(self):
        self.stock("tea", 1000000)
        users = [*tandem.CONTEXTS, "ops", "viewer", "deploy"]
        before = {user: self.password(user) for user in users}
        self.no_gap(self.loads(), lambda: self.script("redis-password", *users))
        for user in users:
            self.assertNotEqual(self.password(user), before[user])
            with self.assertRaisesRegex(tandem.RedisError, "WRONGPASS"):
                tandem.Redis(self.tandem.redis_port, user, before[user], tls=self.tandem.redis_context())
            if user != "deploy":
                self.assertEqual(self.tandem.redis_as(user)("PING"), b"PONG")
        self.reconnected()
        self.assertEqual(self.tandem.ctl("events", "lag").returncode, 0)

    def test_passwords_by_hand(self):
        """As docs/operating.md tells it, for a Redis of one's own."""
        self.stock("tea", 1000000)
        redis, before, new = self.tandem.redis_as("ops"), self.password("order"), "new-password"

        def change():
            redis("ACL", "SETUSER", "order", f">{new}")
            with open(self.path("secrets", "order.new"), "w") as file:
                file.write(new + "\n")
            os.replace(self.path("secrets", "order.new"), self.path("secrets", "order"))
            redis("ACL", "SETUSER", "order", f"<{before}")

        self.no_gap(self.loads(), change)
        self.reconnected()


class Clustered(Secured, tandem.Live):
    """All that is said of a cluster, with TLS between its nodes, too."""

    ENV = TLS
    LAYOUT = (3, 1, 8)

    def test_orders_and_rotation(self):
        self.tandem.settle_nodes()
        self.stock("tea", 1000000)
        users = [*tandem.CONTEXTS, "ops", "replica"]

        def change():
            self.script("redis-password", *users)
            for step in (["--new-ca"], ["--renew", "redis", *PROCESSES, "ops"], ["--drop-old-ca"]):
                self.script("ca", *step)
                self.script("redis-open")

        before = [self.certificate(number) for number in range(len(self.tandem.nodes))]
        self.no_gap(self.loads(), change)
        for number, serial in enumerate(before):
            self.assertNotEqual(self.certificate(number), serial)
        for node in self.nodes():
            node("CLIENT", "KILL", "TYPE", "replica")
        self.tandem.settle_nodes()
        self.reconnected()
        code, rows = self.tandem.ctl_json("doctor")
        self.assertEqual((code, {row["result"] for row in rows}), (0, {"ok"}), rows)
        done = self.tandem.ctl("load", "--rate", "50", "--duration", "1s", "--yes")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_each_partition_has_the_numbers_of_its_master(self):
        self.tandem.settle_nodes()
        for number, node in enumerate(self.nodes()):
            node("CONFIG", "SET", "maxmemory", number + 1 << 30)
        wanted = [self.tandem.serving(p)[0] + 1 << 30 for p in range(8)]
        self.assertEqual(len(set(wanted)), 3)
        for name in tandem.CONTEXTS:
            of = lambda what, p, name=name: self.tandem.processes[name].metric(f"tandem_redis_{what}", partition=p)
            shown = lambda of=of: [of("memory_max_bytes", p) for p in range(8)]
            tandem.until(lambda: shown() == wanted, 20 * tandem.SLOW, shown)
            self.assertEqual([of("connected_replicas", p) for p in range(8)], [1] * 8)
            self.assertEqual(self.tandem.processes[name].metric("tandem_redis_replicas_wanted"), 1)

    def test_the_bus_is_sealed(self):
        for node in self.nodes():
            self.assertEqual(node("CONFIG", "GET", "tls-cluster"), [b"tls-cluster", b"yes"])
            self.assertEqual(node("CONFIG", "GET", "port"), [b"port", b"0"])


class Secrets(Secured, tandem.Live):
    """Passwords are in their files, and nowhere else. (Only root may look into the services' memory without
    --dumpable.)"""

    ENV = {"TANDEM_DUMPABLE": "true", "TANDEM_REDIS_DEPLOY_USER": "deploy"}

    def memory(self, pid):
        """What the process may have written to."""
        with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb") as memory:
            for line in maps:
                place, rights = line.split()[:2]
                first, last = (int(end, 16) for end in place.split("-"))
                if not rights.startswith("rw") or last - first > 1 << 30:
                    continue
                with contextlib.suppress(OSError, ValueError):
                    memory.seek(first)
                    yield memory.read(last - first)

    def test_they_are_nowhere(self):
        self.stock("tea", 5)
        self.place("tea", wait_for_decision=True)
        passwords = {name: self.password(name).encode() for name in os.listdir(self.path("secrets"))}
        self.assertGreaterEqual(len(passwords), 6)
        for name in tandem.SERVICES:
            process = self.tandem.processes[name]
            seen = []
            for place in ("cmdline", "environ"):
                with open(f"/proc/{process.pid}/{place}", "rb") as file:
                    seen.append((place, file.read()))
            seen += [("log", process.text(10000).encode())]
            seen += [("memory", part) for part in self.memory(process.pid)]
            self.assertGreater(len(seen), 10)
            for place, content in seen:
                for user, password in passwords.items():
                    self.assertNotIn(password, content, f"{user}'s password in the {place} of {name}")

    def test_files_that_others_may_read(self):
        """The service does not start, and a running one does not use them."""
        for mode in (0o640, 0o604):
            path = os.path.join(self.tandem.folder, f"password-{mode:o}")
            with open(path, "w") as file:
                file.write("secret\n")
            os.chmod(path, mode)
            for name in tandem.CONTEXTS:
                for option in ("", "-sentinel", "-deploy"):
                    upper = name.upper()
                    env = {f"TANDEM_{upper}_LISTEN": "127.0.0.1:0", f"TANDEM_{upper}_ADMIN_LISTEN": "127.0.0.1:0"}
                    process = tandem.Process(self.tandem, f"{name}-{mode:o}{option}", name, env)
                    process.arguments = [f"--redis{option}-password-file", path]
                    process.start()
                    self.assertEqual(process.wait(), 1)
                    self.assertIn(f"{path} has mode {mode:04o}", process.text())
            done = self.tandem.ctl("--redis-password-file", path, "events", "lag")
            self.assertEqual(done.returncode, 3)
            self.assertIn(f"{path} has mode {mode:04o}", done.stderr)

    def test_urls(self):
        """A password in a URL is refused and not shown."""
        url = "redis://ops:very-secret@127.0.0.1:6390"
        for name in tandem.CONTEXTS:
            program = [os.path.join(tandem.BUILD, f"tandem-{name}")]
            for arguments, env in ((["--redis", url], {}), ([], {"TANDEM_REDIS": url})):
                for more in ([], ["--print-config"]):
                    done = subprocess.run(
                        program + arguments + more + ["--listen", "127.0.0.1:0", "--admin-listen", ""],
                        env={**self.tandem.env, **env}, capture_output=True, text=True, timeout=60,
                    )
                    self.assertEqual(done.returncode, 0 if more else 1, done.stderr)
                    self.assertNotIn("very-secret", done.stdout + done.stderr)
                    self.assertIn("--redis-password-file" if not more else "hidden", done.stdout + done.stderr)
        for arguments, env in ((["--redis", url], {}), ([], {"TANDEM_REDIS": url})):
            done = self.tandem.ctl(*arguments, "doctor", env=env)
            self.assertEqual(done.returncode, 2)
            self.assertNotIn("very-secret", done.stdout + done.stderr)
            self.assertIn("--redis-password-file", done.stderr)


class Authority(unittest.TestCase):
    """scripts/lib/ca."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="tandem ca ")
        self.addCleanup(folder.cleanup)
        self.var, self.tls = folder.name, os.path.join(folder.name, "tls")
        self.run_ca()

    def run_ca(self, *arguments, code=0):
        done = subprocess.run(
            [os.path.join(LIB, "ca"), *arguments], env={**os.environ, "TANDEM_VAR": self.var}, capture_output=True, text=True
        )
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return [os.path.basename(line) for line in done.stdout.splitlines()]

    def openssl(self, *arguments):
        return subprocess.run(["openssl", *arguments], cwd=self.tls, capture_output=True, text=True)

    def good(self, name, purpose):
        return self.openssl("verify", "-CAfile", "ca.crt", "-purpose", purpose, f"{name}.crt").returncode == 0

    def test_what_is_made(self):
        for name in ("redis", *PROCESSES):
            self.assertTrue(self.good(name, "sslserver"), name)
            self.assertTrue(self.good(name, "sslclient"), name)
            names = self.openssl("x509", "-in", f"{name}.crt", "-noout", "-ext", "subjectAltName").stdout
            for part in (f"DNS:{name}", "DNS:localhost", "IP Address:127.0.0.1", "IP Address:0:0:0:0:0:0:0:1"):
                self.assertIn(part, names)
        self.assertTrue(self.good("ops", "sslclient"))
        self.assertFalse(self.good("ops", "sslserver"), "a client cannot pass for a process")
        for name in os.listdir(self.tls):
            mode = os.stat(os.path.join(self.tls, name)).st_mode & 0o777
            self.assertEqual(mode, 0o644 if name.endswith(".crt") else 0o600, name)

    def test_what_is_good_stays(self):
        self.assertEqual(self.run_ca(), [])
        self.assertEqual(self.run_ca("--client", "shop-7"), ["shop-7.crt"])
        self.assertEqual(self.run_ca("--client", "shop-7"), [])
        self.assertTrue(self.good("shop-7", "sslclient"))
        self.assertFalse(self.good("shop-7", "sslserver"))
        self.assertEqual(self.run_ca("--renew", "shop-7", "redis"), ["shop-7.crt", "redis.crt"])
        self.assertEqual(self.run_ca(), [])

    def test_what_is_not_good_is_made_again(self):
        self.openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "order.key")
        os.unlink(os.path.join(self.tls, "redis.crt"))
        self.openssl("x509", "-in", "ops.crt", "-CA", "ca.crt", "-CAkey", "ca.key", "-days", "29", "-out", "soon.crt")
        os.replace(os.path.join(self.tls, "soon.crt"), os.path.join(self.tls, "ops.crt"))
        self.assertEqual(sorted(self.run_ca()), ["ops.crt", "order.crt", "redis.crt"])
        os.unlink(os.path.join(self.tls, "ca.crt"))
        self.assertEqual(len(self.run_ca()), 2 + len(PROCESSES), "another CA: all")

    def test_as_the_page_of_security_says(self):
        """Its commands take one CA's place by another's, and leave nothing of the old one."""
        with open(os.path.join(tandem.ROOT, "docs", "security.md"), encoding="utf-8") as page:
            lines = [line.split("#")[0].split() for line in page if line.startswith("scripts/lib/ca ")]
        self.assertEqual([line[1] for line in lines], ["--renew", "--new-ca", "--renew", "--drop-old-ca"])
        for line in lines:
            self.run_ca(*line[1:])
        self.assertEqual(len(self.run_ca()), 0)

    def test_another_authority(self):
        all_names = ["redis", *PROCESSES, "ops"]
        self.run_ca("--client", "shop-7")
        os.rename(os.path.join(self.tls, "shop-7.crt"), os.path.join(self.var, "old.crt"))
        self.run_ca("--client", "shop-7")
        self.assertEqual(self.run_ca("--new-ca"), ["ca.crt"])
        for name in (*all_names, "shop-7"):
            self.assertTrue(self.good(name, "sslclient"), name)
        self.run_ca("--drop-old-ca", code=1)
        self.run_ca("--renew", *all_names)
        self.run_ca("--drop-old-ca", code=1)  # shop-7
        for name in (*all_names, "shop-7", "../old"):
            self.assertTrue(self.good(name, "sslclient"), name)
        self.run_ca("--renew", "shop-7")
        self.assertEqual(self.run_ca("--drop-old-ca"), ["ca.crt"])
        self.assertEqual(os.stat(os.path.join(self.tls, "ca.crt")).st_mode & 0o777, 0o644)
        for name in (*all_names, "shop-7"):
            self.assertTrue(self.good(name, "sslclient"), name)
        self.assertFalse(self.good("../old", "sslclient"))
        self.assertEqual(self.run_ca(), [])

    def test_bad_names(self):
        for arguments in (["--new-ca", "x"], ["--drop-old-ca", "x"], ["--client"], ["--client", "ca"], ["--client", "../x"], ["--client", ""], ["--renew", "nobody"], ["x"]):
            self.run_ca(*arguments, code=2)


class Users(Secured, tandem.Live):
    """What the users may do who only look."""

    def test_looking(self):
        self.stock("tea", 5)
        order = self.place("tea", wait_for_decision=True)
        for user in (None, "viewer"):
            redis = self.tandem.redis_as(user)
            for command in (
                ("GET", "x"), ("HGETALL", "inventory:{0}:stock"), ("HGET", "order:{0}:orders", order.order_id),
                ("XRANGE", "order:{0}:events", "-", "+", "COUNT", "2"), ("XINFO", "GROUPS", "order:{0}:events"),
                ("XLEN", "order:{0}:events"), ("XREAD", "COUNT", "1", "STREAMS", "order:{0}:events", "0"),
                ("XPENDING", "order:{0}:events", "inventory"), ("SCAN", "0"), ("HSCAN", "order:{0}:orders", "0"),
                ("TYPE", "order:{0}:orders"), ("DBSIZE",), ("INFO",), ("TIME",), ("PING",), ("HELLO",),
                ("MEMORY", "USAGE", "order:{0}:orders"),
            ):
                with self.subTest(user=user, command=command):
                    redis(*command)
            for command in (
                ("KEYS", "*"), ("CLIENT", "LIST"), ("CLIENT", "KILL", "ID", "1"), ("CONFIG", "GET", "*"),
                ("SLOWLOG", "GET"), ("MONITOR",), ("FUNCTION", "LIST"), ("ACL", "LIST"), ("ACL", "WHOAMI"),
                ("SET", "x", "1"), ("DEL", "order:{0}:orders"), ("XADD", "order:{0}:events", "*", "a", "1"),
                ("XGROUP", "CREATE", "order:{0}:events", "mine", "0"), ("EVAL", "return 1", "0"),
                ("SUBSCRIBE", "x"), ("FLUSHALL",), ("SHUTDOWN",), ("SORT_RO", "x"),
            ):
                with self.subTest(user=user, command=command):
                    with self.assertRaisesRegex(tandem.RedisError, "NOPERM"):
                        redis(*command)

    def test_without_the_default_user(self):
        """Everything but that works when it is off."""
        self.stock("tea", 1000000)
        subprocess.run([tandem.OPEN], env={**self.tandem.env, "TANDEM_REDIS_DEFAULT": "off"}, check=True)
        self.addCleanup(subprocess.run, [tandem.OPEN], env=self.tandem.env, check=True)
        with self.assertRaisesRegex(tandem.RedisError, "NOAUTH"):
            self.tandem.redis_as()("GET", "x")
        self.assertEqual(self.name(self.place("tea", wait_for_decision=True)), "RESERVED")
        done = self.tandem.ctl("load", "--rate", "50", "--duration", "1s", "--yes")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual(self.tandem.redis_as("viewer")("XLEN", "x"), 0)


if __name__ == "__main__":
    tandem.main()
