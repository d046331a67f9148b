"""The processes themselves: signals, a log that nobody reads, and what they say when they cannot start."""
import fcntl
import os
import signal

import tandem

SERVICES = ("order", "inventory", "gateway")


class FullPipe:
    """A pipe without room. Its writing end goes to a process; nobody reads until read_all."""

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
        for process in self.tandem.processes.values():
            if process.popen is None:
                process.start()
        for process in self.tandem.processes.values():
            if process.admin:
                process.wait_ready()

    def start_with_full_log(self, process):
        """Starts it anew; its standard error is a pipe without room."""
        self.assertEqual(process.terminate(), 0)
        pipe = FullPipe()
        self.addCleanup(pipe.close)
        process.output = pipe.writes
        try:
            process.start()
        finally:
            process.output = None
        self.setUp()
        return pipe

    def test_a_log_that_nobody_reads(self):
        """Each service serves and ends; when somebody reads, it says how many lines were dropped."""
        self.stock("log", 1000)
        for name in SERVICES:
            with self.subTest(process=name):
                process = self.tandem.processes[name]
                self.start_with_full_log(process)
                self.place("log", wait_for_decision=True)
                self.assertEqual(process.get("/healthz")[0], 200)
                self.assertGreater(process.metric("tandem_log_dropped_total"), 0)
                self.assertEqual(process.terminate(), 0)
                process.start()
                self.setUp()
                pipe = self.start_with_full_log(process)
                text = ""
                while "lines were dropped" not in text:
                    text += pipe.read()
                self.assertRegex(text, r"warn log lines were dropped, nobody read them count=\d+\n")
                self.assertEqual(process.terminate(), 0)

    def test_signals(self):
        """What other daemons reload on ends no service, from the first moment on."""
        for name in SERVICES:
            process = self.tandem.processes[name]
            self.setUp()
            for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
                with self.subTest(process=name, signal=number.name):
                    told = f"signal ignored; SIGTERM ends the service signal={number.name[3:]}\n"
                    process.signal(number)
                    tandem.until(lambda: told in process.text(), 10 * tandem.SLOW, "it is told")
                    process.wait_ready()
            self.assertEqual(process.terminate(), 0)
            process.start()
            exe = f"/proc/{process.pid}/exe"
            tandem.until(lambda: f"tandem-{name}" in os.readlink(exe), 10 * tandem.SLOW, "it began")
            for _ in range(200):
                process.signal(signal.SIGHUP)
            process.wait_ready()


if __name__ == "__main__":
    tandem.main()
