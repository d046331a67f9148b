"""scripts/up and scripts/down, as people use them: repeatedly, and with two copies at a time."""
import fcntl
import hashlib
import os
import pty
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import termios
import time
import unittest

import grpc
import tandem

NAMES = ("redis", *tandem.CONTEXTS, "gateway", "console")


def alive(pid):
    """Whether it runs; a zombie does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class Copy:
    """A copy of Tandem that belongs to scripts/up."""

    def __init__(self):
        self.var = os.path.join(tempfile.mkdtemp(prefix="tandem up "), "v a r")
        self.ports = dict(zip(NAMES, tandem.free_ports(len(NAMES))))
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("TANDEM_")}
        self.env["TANDEM_BUILD"] = tandem.BUILD
        self.env["TANDEM_VAR"] = self.var
        self.env["TANDEM_REDIS_PORT"] = str(self.ports["redis"])
        for name in NAMES[1:]:
            self.env[f"TANDEM_{name.upper()}_LISTEN"] = f"127.0.0.1:{self.ports[name]}"

    def run(self, script, *arguments):
        """(exit code, output, seconds)"""
        start = time.monotonic()
        ran = subprocess.run(
            [os.path.join(tandem.ROOT, "scripts", script), *arguments],
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )
        return ran.returncode, ran.stdout, time.monotonic() - start

    def pids(self):
        pids = {}
        for name in NAMES:
            try:
                with open(os.path.join(self.var, "run", f"{name}.pid")) as file:
                    pids[name] = int(file.read())
            except FileNotFoundError:
                pass
        return pids

    def remove(self):
        self.run("down")
        shutil.rmtree(os.path.dirname(self.var), ignore_errors=True)

    def users(self, *lines):
        """Users of Redis's in a file of their own; its path."""
        path = os.path.join(self.var, "users.d", "mine.acl")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write("\n".join(lines))
        return path

    def mailer(self, port=None):
        """A connection as the user of docs/consuming.md, whose password is "word"."""
        return tandem.Redis(port or self.ports["redis"], "mailer", "word")


def mailer():
    """The user that docs/consuming.md shows, with the password "word"."""
    with open(os.path.join(tandem.ROOT, "docs/consuming.md"), encoding="utf-8") as page:
        (line,) = re.findall("^user mailer .*$", page.read(), re.MULTILINE)
    return line.replace("<SHA-256 of the password>", hashlib.sha256(b"word").hexdigest())


class Scripts(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.protos = tandem.Protos()

    def copy(self):
        copy = Copy()
        self.addCleanup(copy.remove)
        return copy

    def up(self, copy):
        code, text, took = copy.run("up", "--detach")
        self.assertEqual(code, 0, text)
        return text, took

    def test_up_down(self):
        copy = self.copy()
        text, _ = self.up(copy)
        for word in ("store      empty", "RESERVED", "CONFIRMED", "settled", "OrderPlaced"):
            self.assertIn(word, text)
        pids = copy.pids()
        self.assertEqual(set(pids), set(NAMES))
        for name in ("order", "inventory", "ops"):
            mode = os.stat(os.path.join(copy.var, "secrets", name)).st_mode
            self.assertEqual(stat.S_IMODE(mode), 0o600, name)
        look = ["redis-cli", "-p", str(copy.ports["redis"])]
        seen = subprocess.run(
            [*look, "XRANGE", "order:{0}:events", "-", "+", "COUNT", "2"], capture_output=True
        ).stdout
        self.assertIn(b"tandem.order.v1.OrderPlaced", seen)

        _, took = self.up(copy)
        self.assertLess(took, 10 * tandem.SLOW, "again is quick")
        self.assertEqual(copy.pids(), pids, "and starts nothing that runs")

        code, text, took = copy.run("down")
        self.assertEqual(code, 0, text)
        self.assertNotIn("killed", text)
        self.assertLess(took, 10 * tandem.SLOW)
        for name, pid in pids.items():
            self.assertFalse(alive(pid), name)
        self.assertEqual(copy.pids(), {})
        self.assertEqual(copy.run("down")[0], 0, "nothing to stop is fine")
        for name in NAMES[1:]:
            with open(os.path.join(copy.var, "log", f"{name}.log")) as log:
                text = log.read()
                self.assertFalse(any(report in text for report in tandem.REPORTS), text)

    def written(self, copy):
        """The last event ids and the stock in the store."""
        look = ["redis-cli", "-p", str(copy.ports["redis"])]
        last = r"^last-generated-id\n(.*)$"
        said = {
            key: re.findall(last, self.redis(look, "XINFO", "STREAM", key), re.MULTILINE)
            for key in ("order:{0}:events", "inventory:{0}:events")
        }
        said["stock"] = self.redis(look, "HGETALL", "inventory:{0}:stock")
        return said

    def redis(self, look, *args):
        ran = subprocess.run([*look, *args], capture_output=True, check=True)
        return ran.stdout.decode("utf-8", "replace")

    def call(self, copy, service, method, **fields):
        """On a new connection: an idle one would notice too late that its peer has ended."""
        with grpc.insecure_channel(
            f"127.0.0.1:{copy.ports['gateway']}",
            options=[("grpc.use_local_subchannel_pool", 1)],
        ) as channel:
            return getattr(self.protos.stub(channel, service), method)(**fields)

    def test_up_with_a_gateway_for_everybody(self):
        """Its admin port is for everybody, too, and has TLS."""
        copy = self.copy()
        copy.env["TANDEM_GATEWAY_LISTEN"] = f"0.0.0.0:{copy.ports['gateway']}"
        code, text, _ = copy.run("up", "--detach", "--tls")
        self.assertEqual(code, 0, text)
        url = f"https://127.0.0.1:{copy.ports['gateway'] + 1000}/metrics"
        self.assertIn(f"admin {url}", text)
        tls = os.path.join(copy.var, "tls")
        read = ["curl", "-sS", "--cacert", f"{tls}/ca.crt", "--cert", f"{tls}/ops.crt", "--key", f"{tls}/ops.key", url]
        self.assertIn(b"tandem_build_info", subprocess.run(read, capture_output=True, check=True).stdout)

    def test_up_writes_into_an_empty_store_only(self):
        """Later starts add neither orders nor stock, even if stock is low or everything restarts."""
        copy = self.copy()
        self.up(copy)
        stock = self.call(copy, tandem.INVENTORY_SERVICE, "GetStock", sku="tea").stock
        self.call(
            copy,
            tandem.INVENTORY_SERVICE,
            "AdjustStock",
            request_id="less",
            sku="tea",
            delta=5 - stock.available,
            reason="test",
        )
        before = self.written(copy)
        self.assertNotEqual(before["order:{0}:events"], ["0-0"])
        for again in ("while it runs", "after a stop"):
            with self.subTest(again):
                text, _ = self.up(copy)
                self.assertIn("nothing is added", text)
                self.assertNotIn("ord_", text)
                self.assertEqual(self.written(copy), before)
                copy.run("down")

    def test_up_leaves_a_store_with_stock_alone(self):
        """Stock that another client entered before the first order."""
        copy = self.copy()
        with tandem.socket.socket() as taken:
            # A gateway that cannot listen: everything runs, but the first order is not placed.
            taken.bind(("127.0.0.1", copy.ports["gateway"]))
            taken.listen()
            self.assertNotEqual(copy.run("up", "--detach")[0], 0)
        with grpc.insecure_channel(f"127.0.0.1:{copy.ports['inventory']}") as channel:
            self.protos.stub(channel, tandem.INVENTORY_SERVICE).AdjustStock(
                request_id="mine", sku="mine", delta=1, reason="test"
            )
        before = self.written(copy)
        text, _ = self.up(copy)
        self.assertIn("nothing is added", text)
        self.assertEqual(self.written(copy), before)

    def test_help(self):
        """--help prints help, does nothing else and ends with 0, whatever other options there are."""
        copy = self.copy()
        nowhere = os.path.join(copy.var, "build")
        copy.env.update(TANDEM_BUILD=nowhere)
        for script in ("bench", "chaos", "check", "down", "examples", "failovers", "load", "release-protos", "sim", "test", "up"):
            for arguments in (["--help"], ["-h"], ["--seed", "1", "--help"]):
                if script == "bench" and "--seed" in arguments:
                    continue
                with self.subTest(script=script, arguments=arguments):
                    code, text, _ = copy.run(script, *arguments)
                    self.assertEqual(code, 0, text)
                    self.assertIn(f"scripts/{script}", text)
                    self.assertFalse(os.path.exists(copy.var), "it did something")

    def test_what_a_bench_beside_peers_installs(self):
        """On a machine without any package, all that the peers need is installed."""
        folder = tempfile.TemporaryDirectory(prefix="tandem packages ")
        self.addCleanup(folder.cleanup)
        asked = os.path.join(folder.name, "asked")
        for name, does in (
            ("dpkg-query", "exit 1"),
            ("apt-cache", "echo '  Candidate: (none)'"),
            ("apt-get", f'printf "%s\\n" "$@" >>"{asked}"'),
            ("sudo", '"$@"'),
        ):
            path = os.path.join(folder.name, name)
            with open(path, "w") as file:
                file.write(f"#!/bin/sh\n{does}\n")
            os.chmod(path, 0o755)
        subprocess.run(
            [os.path.join(tandem.ROOT, "scripts/lib/packages"), "--peers"],
            env=dict(os.environ, PATH=f"{folder.name}:{os.environ['PATH']}"),
            check=True,
            capture_output=True,
        )
        with open(asked) as file:
            packages = file.read().split()
        for package in ("g++", "libgrpc++-dev", "protobuf-compiler-grpc", "gnuplot-nox", "redis-server"):
            self.assertIn(package, packages)

    def test_up_starts_what_is_missing(self):
        """After kill -9 of some processes: only those are started again, and nothing is lost."""
        copy = self.copy()
        self.up(copy)

        def call(method, **fields):
            return self.call(copy, tandem.ORDER_SERVICE, method, **fields).order

        lines = [{"sku": "cup", "quantity": 1}]
        placed = call("PlaceOrder", customer_id="c", lines=lines, wait_for_decision=True)
        for victims in (("order",), ("redis",), ("inventory", "gateway"), NAMES):
            with self.subTest(victims=victims):
                before = copy.pids()
                for name in victims:
                    os.kill(before[name], signal.SIGKILL)
                self.up(copy)
                after = copy.pids()
                for name in NAMES:
                    check = self.assertNotEqual if name in victims else self.assertEqual
                    check(before[name], after[name], name)
                self.assertEqual(call("GetOrder", order_id=placed.order_id), placed)

    def test_users_of_ones_own(self):
        """They are there after each start and each scripts/up; a line that Redis would not take ends scripts/up, and changes
        nothing."""
        copy = self.copy()
        copy.users("# ours", "", mailer())
        code, text, _ = copy.run("up", "--only-redis")
        self.assertEqual(code, 0, text)
        self.assertEqual(copy.mailer()("PING"), b"PONG")
        for wrong, fault in (
            ("user mailer", "not the line of a user"),
            ("mailer on nopass +ping", "not the line of a user"),
            ("user order on nopass +@all", "the user order is Tandem's own"),
            ("user default on nopass +@all", "the user default is Tandem's own"),
            (mailer(), "the user mailer is there already, at "),
            ("user other on >secret +nosuchcommand", "Error in applying operation '+nosuchcommand': Unknown command"),
            ("user other on #12 +ping", "The password hash must be exactly 64 characters"),
            ("user other on nopass (~* +get", "Redis cannot read it"),
        ):
            path = copy.users(mailer(), "", wrong)
            code, text, _ = copy.run("lib/redis-files", "redis")
            with self.subTest(wrong=wrong):
                self.assertNotEqual(code, 0)
                self.assertIn(f"{path}:3: {fault}", text)
                self.assertNotIn("secret", text)
        code, again, _ = copy.run("up", "--only-redis")
        self.assertEqual(code, 1, again)
        self.assertIn(text, again, "it ends with the same words")
        self.assertEqual(copy.mailer()("PING"), b"PONG")

        def make_known(*lines):
            copy.users(*lines)
            for script in (("lib/redis-files", "redis"), ("lib/redis-open",)):
                code, text, _ = copy.run(*script)
                self.assertEqual(code, 0, text)

        make_known(mailer(), mailer().replace("mailer", "other"))
        self.assertEqual(tandem.Redis(copy.ports["redis"], "other", "word")("PING"), b"PONG")
        os.kill(copy.pids()["redis"], signal.SIGKILL)
        copy.users(mailer())
        self.assertEqual(copy.run("up", "--only-redis")[0], 0)
        self.assertEqual(copy.mailer()("PING"), b"PONG")
        with self.assertRaisesRegex(tandem.RedisError, "WRONGPASS"):
            tandem.Redis(copy.ports["redis"], "other", "word")
        make_known()
        with self.assertRaisesRegex(tandem.RedisError, "WRONGPASS"):
            copy.mailer()

    def test_two_copies(self):
        """Two copies, with other folders and ports: what one does leaves the other unchanged."""
        one, two = self.copy(), self.copy()
        self.up(one)
        self.up(two)
        pids = two.pids()
        self.assertFalse(set(one.pids().values()) & set(pids.values()))
        self.assertEqual(one.run("down")[0], 0)
        for name, pid in pids.items():
            self.assertTrue(alive(pid), name)
        self.up(two)
        self.assertEqual(two.pids(), pids)

    def test_a_pid_file_is_checked(self):
        """Our pid files hold the number of another process: it is left alone."""
        copy = self.copy()
        stranger = subprocess.Popen(["sleep", "300"])
        self.addCleanup(stranger.wait)
        self.addCleanup(stranger.kill)
        os.makedirs(os.path.join(copy.var, "run"))
        for arguments in (["down"], ["up", "--detach"]):
            for name in NAMES:
                with open(os.path.join(copy.var, "run", f"{name}.pid"), "w") as file:
                    file.write(f"{stranger.pid}\n")
            code, text, _ = copy.run(*arguments)
            self.assertEqual(code, 0, text)
            self.assertIsNone(stranger.poll())
        self.assertNotIn(stranger.pid, copy.pids().values())

    def test_a_taken_port_is_reported(self):
        """A gateway that cannot listen: up fails, and shows the reason."""
        copy = self.copy()
        with tandem.socket.socket() as taken:
            taken.bind(("127.0.0.1", copy.ports["gateway"]))
            taken.listen()
            code, text, _ = copy.run("up", "--detach")
        self.assertNotEqual(code, 0)
        self.assertIn("gateway did not", text)
        self.assertIn(str(copy.ports["gateway"]), text)
        self.up(copy)

    def test_no_port_is_given_twice(self):
        """Wherever the gateway listens."""
        script = '. scripts/lib/settings.sh; printf "%s\\n" "${!TANDEM_@}" | grep LISTEN$ | while read -r name; do echo "${!name}"; done'
        for port in (5000, 20051, 50051, 50080, 60000, 61535, 61536, 64000, 64535, 64536, 65535):
            env = {"PATH": os.environ["PATH"], "TANDEM_VAR": "/nonexistent", "TANDEM_GATEWAY_LISTEN": f"127.0.0.1:{port}"}
            done = subprocess.run(["bash", "-ec", script], cwd=tandem.ROOT, env=env, capture_output=True, text=True, check=True)
            found = done.stdout.split()
            self.assertEqual((len(found), len(set(found))), (11, 11), found)

    def test_a_store_stays_what_it_was_made(self):
        """One Redis or a cluster, with so many partitions: up refuses anything else, and says why."""
        refused = (
            (None, ["--cluster"], "", "is one Redis, made without --cluster"),
            (None, [], "8", "has 1 partitions, not 8"),
            ("1 0 4", ["--cluster"], "", "is one Redis, made without --cluster"),
            ("1 0 4", [], "8", "has 4 partitions, not 8"),
            ("3 1 8", [], "", "is a cluster .* start it with --cluster"),
            ("3 1 8", ["--cluster"], "4", "has 8 partitions, not 4"),
            ("3 1 8", ["--cluster", "--replicas", "2"], "", "has 1 replicas a master, not 2"),
            ("3 1 8", ["--cluster"], "3", "not a power of two from 1 to 1024: 3"),
        )
        for layout, arguments, partitions, why in refused:
            with self.subTest(layout=layout, arguments=arguments, partitions=partitions):
                copy = self.copy()
                node = "redis-1" if layout and layout[0] == "3" else "redis"
                os.makedirs(os.path.join(copy.var, node, "appendonlydir"))
                if layout:
                    with open(os.path.join(copy.var, "layout"), "w") as file:
                        file.write(layout + "\n")
                copy.env["TANDEM_PARTITIONS"] = partitions
                code, text, _ = copy.run("up", "--detach", *arguments)
                self.assertEqual(code, 1, text)
                self.assertRegex(text, why)
                self.assertEqual(copy.pids(), {})

    def test_redis_port_taken(self):
        """By another process: up says by which, and what to do."""
        copy = self.copy()
        with tandem.socket.socket() as taken:
            taken.bind(("127.0.0.1", copy.ports["redis"]))
            taken.listen()
            code, text, _ = copy.run("up", "--detach")
        self.assertNotEqual(code, 0)
        self.assertIn(f"port {copy.ports['redis']} is taken by process {os.getpid()} (", text)
        self.assertIn("TANDEM_REDIS_PORT", text)

    def test_the_terminal_closes(self):
        """In the foreground, everything ends with the terminal."""
        copy = self.copy()
        ours, theirs = pty.openpty()
        up = subprocess.Popen(
            [os.path.join(tandem.ROOT, "scripts", "up")],
            env=copy.env,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        self.addCleanup(up.wait)
        self.addCleanup(up.kill)
        os.close(theirs)
        shown = b""
        while b"Ctrl-C" not in shown:
            shown += os.read(ours, 4096)
        pids = copy.pids()
        self.assertEqual(set(pids), set(NAMES))
        os.close(ours)
        for name, pid in pids.items():
            tandem.until(lambda: not alive(pid), 30 * tandem.SLOW, f"{name} ended")

    def test_only_some(self):
        """Redis without services, and services that end one by one."""
        copy = self.copy()
        code, text, _ = copy.run("up", "--only-redis")
        self.assertEqual((code, set(copy.pids())), (0, {"redis"}), text)
        self.up(copy)
        code, text, _ = copy.run("down", "gateway", "order")
        self.assertEqual((code, set(copy.pids())), (0, {*NAMES} - {"gateway", "order"}), text)

    def test_the_model_of_scale_is_what_its_page_says(self):
        model = os.path.join(tandem.ROOT, "scripts", "scale-model")
        with open(os.path.join(tandem.ROOT, "docs", "scaling.md"), encoding="utf-8") as file:
            page = file.read()
        self.assertIn(subprocess.run([model], stdout=subprocess.PIPE, check=True).stdout.decode().strip(), page)
        refused = subprocess.run([model, "--rate", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertEqual(refused.returncode, 2)
        self.assertIn(b"--rate must be from 1 to", refused.stderr)

    def test_unknown_options(self):
        copy = self.copy()
        for script in ("up", "down"):
            code, text, _ = copy.run(script, "--nonsense")
            self.assertEqual(code, 2)
            self.assertIn("usage", text)


if __name__ == "__main__":
    tandem.main()
