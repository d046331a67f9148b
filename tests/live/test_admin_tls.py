"""The admin ports where other machines can reach them: with the certificates of gRPC, as curl, openssl and a probe of an
orchestrator see them."""
import concurrent.futures
import http.client
import os
import ssl
import subprocess
import threading
import unittest

import tandem


class Everywhere(tandem.Live):
    ENV = {"TANDEM_REDIS_TLS": "1"}

    @classmethod
    def prepare(cls):
        cls.ca()
        for name in tandem.SERVICES:
            port = cls.tandem.admin_ports[name]
            cls.tandem.env[f"TANDEM_{name.upper()}_ADMIN_LISTEN"] = f"0.0.0.0:{port}"
            cls.tandem.processes[name].admin = f"https://127.0.0.1:{port}"
        for name, text in (("callers", "cert CN:gateway gateway\ncert CN:ops operator\n"), ("on", "")):
            with open(cls.tandem.tls(name), "w", encoding="utf-8") as file:
                file.write(text)

    @classmethod
    def ca(cls, *arguments):
        subprocess.run([os.path.join(tandem.ROOT, "scripts", "lib", "ca"), *arguments], env=cls.tandem.env, check=True,
                       stdout=subprocess.DEVNULL)

    def curl(self, name, page, *options):
        """curl's exit code, and what it prints: the answer and its status."""
        done = subprocess.run(["curl", "-sS", "--max-time", "20", "--cacert", self.tandem.tls("ca.crt"), *options, "-w", "%{http_code}",
                               self.tandem.processes[name].admin + page], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    def operator(self):
        return "--cert", self.tandem.tls("ops.crt"), "--key", self.tandem.tls("ops.key")

    def test_who_may_read_what(self):
        for name in tandem.SERVICES:
            with self.subTest(service=name):
                code, text = self.curl(name, "/metrics", *self.operator())
                self.assertEqual((code, text[-3:]), (0, "200"))
                self.assertIn("tandem_build_info", text)
                self.assertEqual(self.curl(name, "/metrics"), (0, "a client certificate is required\n403"))
                self.assertEqual(self.curl(name, "/readyz"), (0, "ready\n200"))
                self.assertEqual(self.curl(name, "/healthz"), (0, "alive\n200"))
                http = self.tandem.processes[name].admin.replace("https", "http")
                self.assertNotEqual(subprocess.run(["curl", "-sS", http + "/healthz"], capture_output=True,
                                                   check=False).returncode, 0)

    def test_old_protocols_are_refused(self):
        for name in tandem.SERVICES:
            for version, good in (("tls1", False), ("tls1_1", False), ("tls1_2", True), ("tls1_3", True)):
                with self.subTest(service=name, version=version):
                    done = subprocess.run(
                        ["openssl", "s_client", "-connect", f"127.0.0.1:{self.tandem.admin_ports[name]}", f"-{version}",
                         "-cipher", "ALL:@SECLEVEL=0", "-CAfile", self.tandem.tls("ca.crt")],
                        stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=30, check=False)
                    self.assertEqual("Cipher is (NONE)" not in done.stdout, good, done.stdout + done.stderr)
                    self.assertIn("CONNECTED", done.stdout)  # or it says nothing about protocols

    def test_a_new_certificate_is_used_and_connections_stay(self):
        def shown():
            pem = ssl.get_server_certificate(("127.0.0.1", self.tandem.admin_ports["gateway"]))
            return ssl.PEM_cert_to_DER_cert(pem)

        def ask():
            kept.request("GET", "/metrics")
            answer = kept.getresponse()
            text = answer.read()
            return answer.status, b"tandem_build_info" in text

        kept = http.client.HTTPSConnection("127.0.0.1", self.tandem.admin_ports["gateway"],
                                           context=self.tandem.tls_context())
        kept.connect()
        self.addCleanup(kept.close)
        socket = kept.sock
        before = shown()
        # A connection on which nothing was asked for 10 s is closed.
        asked, over = [], threading.Event()

        def keep():
            while not over.wait(0.5):
                asked.append(ask())

        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            keeping = pool.submit(keep)
            try:
                self.ca("--renew", "gateway")
                tandem.until(lambda: keeping.done() or shown() != before, 20 * tandem.SLOW, "the gateway shows its new certificate")
                count = len(asked)
                tandem.until(lambda: keeping.done() or len(asked) >= count + 2, 20 * tandem.SLOW, "it is used on")
            finally:
                over.set()
            keeping.result()
        self.assertEqual(set(asked), {(200, True)})
        self.assertIs(kept.sock, socket)  # the same connection all the time


if __name__ == "__main__":
    unittest.main()
