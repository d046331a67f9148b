"""The processes: signals, a log that is not read, and what they report when they cannot start."""
import fcntl
import os
import signal
import socket

import tandem


class FullPipe:
    """A pipe that is full until read(). Its writing end is for a process."""

    def __init__(self):
        self.reads, self.writes = os.pipe()
        size = fcntl.fcntl(self.writes, fcntl.F_SETPIPE_SZ, 4096)
        os.write(self.writes, b"." * (size - 1) + b"\n")

    def read(self):
        return os.read(self.reads, 65536).decode()

    def close(self):
        os.close(self.reads)
        os.close(self.writes)


class Process(tandem.Live):
    def setUp(self):
        self.tandem.start()

    def start_with_full_log(self, process):
        """Restarts it with a full pipe as its standard error."""
        self.assertEqual(process.terminate(), 0)
        pipe = FullPipe()
        self.addCleanup(pipe.close)
        process.output = pipe.writes
        try:
            process.start()
        finally:
            process.output = None
        self.tandem.start()
        return pipe

    def test_a_log_that_nobody_reads(self):
        """Each service serves and ends; once the log is read, it says how many lines were dropped."""
        self.stock("log", 1000)
        for name in tandem.SERVICES:
            with self.subTest(process=name):
                process = self.tandem.processes[name]
                self.start_with_full_log(process)
                self.place("log", wait_for_decision=True)
                self.assertEqual(process.get("/healthz")[0], 200)
                self.assertGreater(process.metric("tandem_log_dropped_total"), 0)
                self.assertEqual(process.terminate(), 0)
                self.tandem.start()
                pipe = self.start_with_full_log(process)
                text = ""
                while "lines were dropped" not in text:
                    text += pipe.read()
                self.assertRegex(text, r"warn log lines were dropped, nobody read them count=\d+\n")
                self.assertEqual(process.terminate(), 0)

    def test_signals(self):
        """The signals on which other daemons reload end no service, not even while it starts."""
        for name in tandem.SERVICES:
            process = self.tandem.processes[name]
            self.tandem.start()
            for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
                with self.subTest(process=name, signal=number.name):
                    line = f"signal ignored; SIGTERM ends the service signal={number.name[3:]}\n"
                    process.signal(number)
                    tandem.until(lambda: line in process.text(), 10 * tandem.SLOW, "it is logged")
                    process.wait_ready()
            self.assertEqual(process.terminate(), 0)
            process.start()
            exe = f"/proc/{process.pid}/exe"
            tandem.until(lambda: f"tandem-{name}" in os.readlink(exe), 10 * tandem.SLOW, "it began")
            for _ in range(200):
                process.signal(signal.SIGHUP)
            process.wait_ready()


class Start(tandem.Live):
    """A service that cannot start says why, and what to do."""

    def start(self, program, *arguments, env=None):
        process = tandem.Process(self.tandem, f"second-{program}", program, env)
        process.arguments = list(arguments)
        process.start()
        return process

    def test_a_taken_port(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            for name in tandem.SERVICES:
                listens = ("LISTEN", "ADMIN_LISTEN", *(["HTTP_LISTEN"] if name == "gateway" else []))
                for setting in listens:
                    with self.subTest(process=name, setting=setting):
                        variable = f"TANDEM_{name.upper()}_{setting}"
                        env = {f"TANDEM_{name.upper()}_{one}": "127.0.0.1:0" for one in listens}
                        env[variable] = f"127.0.0.1:{port}"
                        process = self.start(name, env=env)
                        self.assertEqual(process.wait(), 1)
                        text = process.text()
                        self.assertIn(f"port {port} is taken by process {os.getpid()} (", text)
                        self.assertIn(variable, text)

    def test_targets_that_are_none(self):
        """Which flag it is stands in the log."""
        for name in ("order", "inventory", "archive"):
            for target in ("127.0.0.1:1,,127.0.0.1:2", "127.0.0.1:1,", ","):
                with self.subTest(target=name, value=target):
                    process = self.start("gateway", f"--{name}-target", target, "--listen", "127.0.0.1:0", "--admin-listen", "",
                                         "--http-listen", "")
                    self.assertEqual(process.wait(), 1)
                    self.assertIn(f"a target is no list of addresses like host:port,host:port flag=--{name}-target target={target}",
                                  process.text())

    def test_settings_that_do_not_agree(self):
        retries = ("--event-retry-min", "20s"), "--event-retry-max must be at least --event-retry-min event_retry_max_ms=10000 event_retry_min_ms=20000"
        for name, arguments, why in (
            *((name, *retries) for name in tandem.CONTEXTS),
            ("order", ("--retry-min", "31s"), "--retry-max must be at least --retry-min retry_max_ms=30000 retry_min_ms=31000"),
        ):
            with self.subTest(process=name, arguments=arguments):
                process = self.start(name, *arguments, env={f"TANDEM_{name.upper()}_{one}": "127.0.0.1:0" for one in ("LISTEN", "ADMIN_LISTEN")})
                self.assertEqual(process.wait(), 1)
                self.assertIn(why, process.text())

    def test_passwords(self):
        """A damaged file ends the start; a wrong password is tried, and logged once."""
        folder = self.tandem.folder
        for name in ("order", "inventory"):
            upper = name.upper()
            env = {
                f"TANDEM_{upper}_LISTEN": "127.0.0.1:0",
                f"TANDEM_{upper}_ADMIN_LISTEN": "127.0.0.1:0",
            }
            for content, why in ((b"", "it is empty"), (b"a\0b\n", "NUL"), (None, "No such file")):
                with self.subTest(process=name, why=why):
                    path = os.path.join(folder, f"{name}-{why}")
                    if content is not None:
                        with open(path, "wb") as file:
                            file.write(content)
                    process = self.start(name, "--redis-password-file", path, env=env)
                    self.assertEqual(process.wait(), 1)
                    self.assertIn(why, process.text())
                    self.assertIn(path, process.text())
            path = os.path.join(folder, f"{name}-wrong")
            with open(path, "w") as file:
                file.write("guess\n")
            process = self.start(name, "--redis-password-file", path, env=env)
            tandem.until(lambda: "WRONGPASS" in process.text(), 10 * tandem.SLOW, process.text)
            self.assertIn(f"must have the user {name}, enabled", process.text())
            self.assertIn(path, process.text())
            self.assertEqual(process.terminate(), 0)
            self.assertEqual(process.text().count("Redis cannot be used"), 1)


if __name__ == "__main__":
    tandem.main()
