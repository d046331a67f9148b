"""One master with two replicas under three sentinels: the services find a promoted replica by themselves."""
import contextlib
import os
import socket
import subprocess
import threading

import grpc
import tandem

DOWN_AFTER_MS = 1000  # without an answer a sentinel says that a server is down
LONGEST = 30  # seconds that an order may wait while a replica is promoted, on a busy machine, too
FILES = os.path.join(tandem.ROOT, "scripts", "lib", "redis-files")
REPAIR = os.path.join(tandem.ROOT, "scripts", "lib", "redis-repair")

# What docs/operating.md says of the servers, beyond the users.
SERVER = """\
bind 127.0.0.1
port {port}
aclfile users.acl
logfile log
save ""
appendonly yes
aof-load-truncated no
maxmemory-policy noeviction
stream-node-max-entries 4
masteruser replica
masterauth {replica}
repl-backlog-size 16mb
repl-diskless-sync-delay 0
"""
WATCHER = (
    "user sentinel on >{watcher} resetchannels &__sentinel__:hello -@all +multi +exec +slaveof +config|rewrite"
    " +client|setname +client|kill +ping +info +role +publish +subscribe\n"
)
# A failed election is tried again after twice the failover-timeout.
SENTINEL = """\
bind 127.0.0.1
port {port}
logfile log
requirepass {sentinels}
sentinel monitor shop 127.0.0.1 {master} 2
sentinel down-after-milliseconds shop {down_after}
sentinel failover-timeout shop 4000
sentinel auth-user shop sentinel
sentinel auth-pass shop {watcher}
"""


class Server:
    """A redis-server or a sentinel. It keeps its folder when it is killed."""

    def __init__(self, folder, port, settings, users=None, arguments=()):
        self.folder, self.port, self.arguments, self.popen = folder, port, arguments, None
        os.mkdir(folder)
        with open(os.path.join(folder, "own.conf"), "w") as file:
            file.write(settings)
        if users:
            with open(os.path.join(folder, "users.acl"), "w") as file:
                file.write(users)
        self.start()

    def start(self):
        command = ["redis-server", "own.conf", *self.arguments]
        self.popen = subprocess.Popen(command, cwd=self.folder, stdout=subprocess.DEVNULL)

    def kill(self):
        if self.popen is not None:
            self.popen.kill()
            self.popen.wait()
            self.popen = None


class Behind:
    """A sentinel that names a server which is not the master (any more)."""

    def __init__(self, named):
        self.named, self.listener = named, socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]

    def __enter__(self):
        threading.Thread(target=self.serve, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.close()

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                with connection:
                    self.answer(connection)

    def answer(self, connection):
        with connection.makefile("rwb") as file:
            for line in iter(file.readline, b""):
                words = []
                for _ in range(int(line[1:])):
                    words.append(file.read(int(file.readline()[1:]) + 2)[:-2].upper())
                if words[0] == b"SENTINEL":
                    file.write(b"*2\r\n$9\r\n127.0.0.1\r\n$%d\r\n%d\r\n" % (len(str(self.named)), self.named))
                else:
                    file.write(b"+OK\r\n")
                file.flush()


class Watched:
    """The servers, and what a test does with them. Nobody loads functions but the services."""

    @classmethod
    def prepare(cls):
        env = cls.tandem.env
        subprocess.run([FILES, "redis"], env=env, check=True)
        del cls.tandem.processes["redis"]
        cls.tandem.nodes = []
        cls.tandem.redis_as = lambda user="ops": cls.redis(cls.master(), user)
        cls.addClassCleanup(lambda: [server.kill() for server in cls.servers.values()])
        cls.servers = {}
        ports = tandem.free_ports(6)
        cls.words = {"replica": cls.secret("replica"), "watcher": "watch", "sentinels": "ask", "master": ports[0]}
        cls.words["down_after"] = DOWN_AFTER_MS
        with open(os.path.join(env["TANDEM_VAR"], "redis", "users.acl")) as file:
            users = file.read() + WATCHER.format(**cls.words)
        for n, port in enumerate(ports[:3]):
            settings = SERVER.format(port=port, **cls.words)
            if n > 0:
                settings += f"replicaof 127.0.0.1 {ports[0]}\n"
            cls.servers[port] = Server(os.path.join(env["TANDEM_VAR"], f"redis-{n + 1}"), port, settings, users)
        for port in ports[1:3]:
            cls.follows(port)
        cls.sentinels = ports[3:]
        for port in cls.sentinels:
            settings = SENTINEL.format(port=port, **cls.words)
            folder = os.path.join(cls.tandem.folder, f"sentinel-{port}")
            cls.servers[port] = Server(folder, port, settings, arguments=("--sentinel",))
        tandem.until(cls.know_each_other, 30 * tandem.SLOW, "the sentinels know all servers and each other")
        password = os.path.join(env["TANDEM_VAR"], "secrets", "sentinels")
        with open(password, "w") as file:
            file.write(cls.words["sentinels"] + "\n")
        env["TANDEM_REDIS"] = f"sentinel://{','.join(f'127.0.0.1:{port}' for port in cls.sentinels)}/shop"
        env["TANDEM_REDIS_SENTINEL_PASSWORD_FILE"] = password
        env["TANDEM_REDIS_DEPLOY_USER"] = "deploy"

    @classmethod
    def secret(cls, user):
        with open(os.path.join(cls.tandem.env["TANDEM_VAR"], "secrets", user)) as secret:
            return secret.read().strip()

    @classmethod
    def redis(cls, port, user="ops"):
        return tandem.Redis(port, user, cls.secret(user))

    @classmethod
    def sentinel(cls, *command):
        """What the first sentinel answers."""
        return tandem.Redis(cls.sentinels[0], "default", cls.words["sentinels"])("SENTINEL", *command)

    @classmethod
    def master(cls):
        """The port of the master that they name."""
        return int(cls.sentinel("GET-MASTER-ADDR-BY-NAME", "shop")[1])

    @classmethod
    def know_each_other(cls):
        try:
            for port in cls.sentinels:
                asked = tandem.Redis(port, "default", cls.words["sentinels"])
                told = tandem.pairs(asked("SENTINEL", "MASTER", "shop"))
                if (told[b"num-slaves"], told[b"num-other-sentinels"]) != (b"2", b"2"):
                    return False
        except OSError:
            return False
        return True

    @classmethod
    def follows(cls, port):
        """Waits until this server is a replica that has its master's data."""

        def linked():
            try:
                return b"master_link_status:up" in cls.redis(port)("INFO", "replication")
            except (OSError, tandem.RedisError):
                return False

        tandem.until(linked, 30 * tandem.SLOW, "it is a replica with its master's data")

    def loads(self, name="load", timeout=3):
        return tandem.Loads(
            tandem.Load(self.connect()[0], "tea", f"{name}-{self.id()}-{n}", timeout=timeout * tandem.SLOW) for n in range(4)
        )

    def longest_wait(self, loads):
        """From the first try of an order until it was accepted, in seconds."""
        longest = 0
        for load in loads:
            waits = {}
            for request_id, took, _, error in load.calls:
                waits[request_id] = waits.get(request_id, 0) + took + (0.05 if error else 0)
            longest = max(longest, *waits.values())
        print(f"{self.id().rpartition('.')[2]}: the longest wait {longest:.2f} s")
        return longest

    def moved_from(self, port):
        tandem.until(lambda: self.master() != port, 60 * tandem.SLOW, "the sentinels name another master")

    def outcome(self, loads, reserved_before):
        """Every order that was accepted has one outcome; the ids of those that are lost."""
        self.assertEqual(len(loads.placed), len(set(loads.placed)))
        lost = set()
        for order_id in loads.placed:
            try:
                self.get(order_id)
            except grpc.RpcError as error:
                self.assertEqual(error.code(), grpc.StatusCode.NOT_FOUND, error)
                lost.add(order_id)
        kept = [order_id for order_id in loads.placed if order_id not in lost]
        self.assertEqual(set(self.decided(kept).values()), {"RESERVED"})
        self.assertEqual(self.adds_up("tea").reserved - reserved_before, len(kept))
        for load in loads:
            self.assertEqual(len(self.listed(load.name)), len(set(load.placed) - lost), "no order that nobody knows")
        self.caught_up()
        code, rows = self.tandem.ctl_json("audit", "--window", "1s")
        self.assertEqual((code, rows[-1]["violations"]), (0, 0), rows)
        return lost


class Replicated(Watched, tandem.Live):
    """OK means that a replica has it."""

    ENV = {"TANDEM_DURABILITY": "replicated"}

    def test_a_failover_that_is_asked_for(self):
        """Sentinels leave the old master as it is for a while: it must take no more writes."""
        self.stock("tea", 1000000)
        before = self.master()
        with self.loads() as loads:
            loads.go_on(10)
            self.redis(before)("CLIENT", "PAUSE", 20000, "WRITE")
            self.sentinel("FAILOVER", "shop")
            self.moved_from(before)
            loads.go_on(10)
        self.assertLess(self.longest_wait(loads), LONGEST * tandem.SLOW)
        self.assertEqual(len(self.outcome(loads, 0)), 0)
        self.follows(before)

    def test_killed(self):
        self.stock("tea", 1000000)
        reserved, before = self.adds_up("tea").reserved, self.master()
        with self.loads() as loads:
            loads.go_on(10)
            self.servers[before].kill()
            self.moved_from(before)
            loads.go_on(10)
        self.assertGreater(len(loads.errors), 0, "the master was killed")
        self.assertLess(self.longest_wait(loads), LONGEST * tandem.SLOW)
        self.assertEqual(len(self.outcome(loads, reserved)), 0)

    def test_sentinels_with_a_password(self):
        """Without it, and with another one, the tools say what is wrong."""
        wrong = os.path.join(self.tandem.folder, "wrong")
        with open(wrong, "w") as file:
            file.write("wrong\n")
        for path, said in (("", "NOAUTH"), (wrong, "AUTH: WRONGPASS")):
            ended = self.tandem.ctl("functions", "list", env={"TANDEM_REDIS_SENTINEL_PASSWORD_FILE": path})
            self.assertEqual(ended.returncode, 3, ended.stdout)
            self.assertIn("no sentinel says where the master shop is", ended.stderr)
            self.assertIn(said, ended.stderr)
        self.assertEqual(self.tandem.ctl("functions", "list").returncode, 0)

    def test_a_sentinel_that_is_behind(self):
        """It names a replica, and then a server that is away: the tools go by the others, or say what is wrong."""
        replica = next(port for port in self.servers if port not in (self.master(), *self.sentinels))
        for port, said in ((replica, "this is not a master now"), (1, "refused")):
            with Behind(port) as behind:
                both = f"sentinel://127.0.0.1:{behind.port},127.0.0.1:{self.sentinels[0]}/shop"
                ended = self.tandem.ctl("--redis", both, "functions", "load")  # a replica refuses that
                self.assertEqual(ended.returncode, 0, ended.stderr)
                ended = self.tandem.ctl("--redis", f"sentinel://127.0.0.1:{behind.port}/shop", "functions", "load")
                self.assertEqual(ended.returncode, 3, ended.stdout)
                self.assertIn(said, ended.stderr)


class Local(Watched, tandem.Live):
    """OK means that the master has it: what its replicas lack is lost with it."""

    ENV = {"TANDEM_DURABILITY": "local"}

    def test_killed_with_writes_that_no_replica_has(self):
        self.stock("tea", 1000000)
        before = self.master()
        replicas = [self.redis(port) for port in self.servers if port not in (before, *self.sentinels)]
        with self.loads() as loads:
            loads.go_on(10)
            for replica in replicas:
                replica("CONFIG", "SET", "masterauth", "wrong")
            self.redis(before)("CLIENT", "KILL", "TYPE", "replica")
            loads.go_on(20)
            self.servers[before].kill()
            for port in self.servers:
                if port not in (before, *self.sentinels):
                    self.redis(port)("CONFIG", "SET", "masterauth", self.words["replica"])
            self.moved_from(before)
            loads.go_on(10)
        self.assertLess(self.longest_wait(loads), LONGEST * tandem.SLOW)
        lost = self.outcome(loads, 0)
        self.assertGreaterEqual(len(lost), 20)

        # It comes back, as a master at first: nobody uses it, and what it alone has is discarded.
        old = self.servers[before]
        subprocess.run([REPAIR, os.path.basename(old.folder)], env=self.tandem.env, check=True)
        with self.loads("more", timeout=20) as more:
            old.start()
            more.go_on(10)
            self.follows(before)
            more.go_on(10)
        self.assertEqual([str(error) for _, error in more.errors], [])
        for order_id in list(lost)[:20]:
            self.fails(grpc.StatusCode.NOT_FOUND, self.order.GetOrder, order_id=order_id)
            self.assertFalse(self.redis(before)("HEXISTS", "order:{0}:orders", order_id))
        self.assertEqual(len(self.outcome(more, len(loads.placed) - len(lost))), 0)


if __name__ == "__main__":
    tandem.main()
