"""What scripts/chaos --tls has besides: everything over TLS, customers who say who they are by certificates, tokens and
API keys, and faults: what says who is who is replaced while all goes on, or something wrong stands in its place for a
while. An operator waits between the steps of a rotation (docs/security.md); here nobody does, so calls may fail for
as long as not everybody has read the files, and must go through afterwards.
"""
import contextlib
import itertools
import os
import shutil
import ssl
import subprocess

import grpc
import secured
import tandem
from cryptography.hazmat.primitives.asymmetric import ed25519

LIB = os.path.join(tandem.ROOT, "scripts", "lib")
SERVICES = (*tandem.SERVICES, "console")
USERS = (*tandem.CONTEXTS, "ops", "viewer")  # of Redis
WAYS = ("certificate", "token", "key")


class Customers:
    """Says in each of the three ways who a customer is, with what is good at the moment."""

    def __init__(self, stack, names):
        self.stack, self.issuer = stack, secured.Issuer(stack)
        self.ways = dict(zip(names, itertools.cycle(WAYS)))
        self.kid, self.keys, self.lines, self.dropped = "one", {}, {}, []
        self.issuer.ca("--client", *self.by("certificate"))
        for name in self.by("key"):
            self.new_key(name)
        self.write_callers()

    def by(self, way):
        return [name for name, its in self.ways.items() if its == way]

    def new_key(self, name):
        made = self.issuer.new_key(name)
        self.keys[name], self.lines[name] = made["key"], made["line"]

    def write_callers(self, *more):
        certificates = [f"cert CN:{name} customer customer_id={name}" for name in self.by("certificate")]
        self.issuer.write_callers([*secured.OURS, *certificates, *self.lines.values(), *more])

    def token(self, name):
        return self.issuer.token(kid=self.kid, role="customer", customer_id=name)

    def credentials(self, name):
        return self.stack.credentials(name if self.ways[name] == "certificate" else None)

    def metadata(self, name):
        say = {"certificate": lambda _: None, "token": self.token, "key": self.keys.get}[self.ways[name]](name)
        return (("authorization", f"Bearer {say}"),) if say else ()


class Rotations:
    """Faults beside those of scripts/chaos; `faults`: its Faults."""

    def __init__(self, stack, faults):
        self.stack, self.faults, self.random, self.customers = stack, faults, faults.random, stack.customers
        self.issuer = self.customers.issuer
        self.step, self.old_certificates, self.old_passwords = 0, [], {}
        self.kinds = [
            self.renew,
            *[self.next_step_of_the_authority] * 3,
            self.spoil,
            self.spoil,
            self.passwords,
            self.signing_key,
            self.api_key,
        ]

    def script(self, name, *arguments):
        done = subprocess.run([os.path.join(LIB, name), *arguments], env=self.stack.env, capture_output=True, text=True)
        assert done.returncode == 0, f"{name} {' '.join(arguments)}: {done.stdout}{done.stderr}"

    def some(self, names):
        """A few: each costs several programs, of a machine that has others to run."""
        return self.random.sample(names, self.random.randint(1, 3))

    def renew(self):
        names = self.some(("redis", *SERVICES, "ops", *self.customers.by("certificate")))
        self.script("ca", "--renew", *names)
        if "redis" in names:
            self.script("redis-open")
        self.faults.counts["certificates renewed"] += len(names)

    def next_step_of_the_authority(self):
        everybody = ("redis", *SERVICES, "ops", *self.customers.by("certificate"))
        if self.step == 0:
            self.old_certificates.append(self.pair(*self.customers.by("certificate")[:1]))
        self.script("ca", *(("--new-ca",), ("--renew", *everybody), ("--drop-old-ca",))[self.step])
        self.script("redis-open")
        self.faults.counts[f"another authority, step {self.step + 1}"] += 1
        self.step = (self.step + 1) % 3

    def pair(self, *names):
        """A key and its certificate."""
        files = []
        for end in ("key", "crt"):
            with open(self.stack.tls(*names) + f".{end}", "rb") as file:
                files.append(file.read())
        return files

    def spoil(self):
        """What a service reads is wrong for a while."""
        name = self.random.choice(tandem.SERVICES)
        what = self.random.choice(("another authority's", "a key that does not fit", "half a certificate",
                                   "a key that others may read"))
        key, certificate = (self.stack.tls(f"{name}.{end}") for end in ("key", "crt"))
        others = self.stack.tls("other", "tls", name)
        if what in ("another authority's", "a key that does not fit"):
            self.replace(f"{others}.key", key)
        if what == "another authority's":
            self.replace(f"{others}.crt", certificate)
        elif what == "half a certificate":
            os.truncate(certificate, os.path.getsize(certificate) // 2)
        elif what == "a key that others may read":
            os.chmod(key, 0o644)
        self.faults.counts[f"wrong files: {what}"] += 1
        self.faults.wait(self.random.choice((0.5, 2.5)))
        self.script("ca", "--renew", name)

    def start_again(self):
        """Whoever starts while its files are wrong, or half replaced, ends; systemd would start it again."""
        for name, process in self.stack.processes.items():
            if process.popen is None or process.popen.poll() is None:
                continue
            assert "certificate or key cannot be used" in process.text(5), f"{name} ended: {process.text()}"
            process.popen = None
            process.start()
            self.faults.counts["started with wrong files, and once more"] += 1

    @staticmethod
    def replace(source, target):
        shutil.copy(source, f"{target}.wrong")
        os.rename(f"{target}.wrong", target)

    def passwords(self):
        users = self.some((*USERS, "replica") if self.stack.masters > 1 else USERS)
        for user in users:
            self.old_passwords[user] = self.password(user)
        self.script("redis-password", *users)
        self.faults.counts["passwords of Redis replaced"] += len(users)

    def password(self, user):
        with open(os.path.join(self.stack.env["TANDEM_VAR"], "secrets", user), encoding="ascii") as secret:
            return secret.read().strip()

    def signing_key(self):
        old, old_kid, new = self.issuer.key, self.customers.kid, ed25519.Ed25519PrivateKey.generate()
        kid = f"key-{self.faults.counts['signing keys replaced']}"
        self.customers.dropped.append(self.customers.token("client-1"))
        self.issuer.write_keys(**{old_kid: old, kid: new})
        self.issuer.key, self.customers.kid = new, kid
        self.faults.wait(self.random.choice((0.5, 2.5)))
        self.issuer.write_keys(**{kid: new})
        self.faults.counts["signing keys replaced"] += 1

    def api_key(self):
        name = self.random.choice(self.customers.by("key"))
        old, line = self.customers.keys[name], self.customers.lines[name]
        self.customers.new_key(name)
        self.customers.write_callers(line)
        self.faults.wait(self.random.choice((0.5, 2.5)))
        self.customers.write_callers()
        self.customers.dropped.append(old)
        self.faults.counts["API keys replaced"] += 1

    # At the end:

    def finish(self):
        """A rotation that was begun is brought to its end."""
        while self.step != 0:
            self.next_step_of_the_authority()
        tandem.until(self.all_is_shown, 30 * tandem.SLOW, lambda: f"read by all: not by {self.not_shown()}")

    def all_is_shown(self):
        self.start_again()
        return not self.not_shown()

    def not_shown(self):
        """The processes that show another certificate than the one that there is."""
        places = {name: (port, name.rstrip("2")) for name, port in self.stack.ports.items() if name != "console"}
        places |= {node.name: (self.stack.redis_port + n, "redis") for n, node in enumerate(self.stack.nodes)}
        return [name for name, (port, file) in places.items() if self.shown(port) != self.made(file)]

    def made(self, name):
        with open(self.stack.tls(f"{name}.crt"), encoding="ascii") as file:
            return ssl.PEM_cert_to_DER_cert(file.read())

    def shown(self, port):
        try:
            with tandem.socket.create_connection(("127.0.0.1", port), timeout=5 * tandem.SLOW) as plain:
                context = self.stack.tls_context()
                context.set_alpn_protocols(["h2"])
                with context.wrap_socket(plain, server_hostname="127.0.0.1") as connection:
                    return connection.getpeercert(binary_form=True)
        except OSError as error:
            return str(error)

    def code(self, key, certificate, token=None):
        """How a call of somebody ends, on a connection of its own."""
        with open(self.stack.tls("ca.crt"), "rb") as file:
            credentials = grpc.ssl_channel_credentials(file.read(), key, certificate)
        with tandem.channel_to(f"127.0.0.1:{self.stack.ports['gateway']}", credentials) as channel:
            inventory = self.stack.protos.stub(channel, tandem.INVENTORY_SERVICE)
            metadata = (("authorization", f"Bearer {token}"),) if token else ()
            with contextlib.suppress(grpc.RpcError):
                inventory.GetStock(sku="plenty", _metadata=metadata)
                return grpc.StatusCode.OK
            return None

    def wrong(self):
        """Who should not come in and does, or should and does not, as texts."""
        good = grpc.StatusCode.OK
        found = [f"a certificate of {what} is taken at the gateway"
                 for what, pair in (("a stranger", self.pair("other", "tls", "ops")),
                                    *(("an authority that was dropped", pair) for pair in self.old_certificates))
                 if self.code(*pair) == good]
        found += [f"{token[:8]}…, which was replaced, is taken" for token in self.customers.dropped
                  if self.code(None, None, token) == good]
        for name, way in self.customers.ways.items():
            pair = self.pair(name) if way == "certificate" else (None, None)
            token = dict(self.customers.metadata(name)).get("authorization", " ").partition(" ")[2]
            if self.code(*pair, token) != good:
                found.append(f"{name} is refused with its {way}")
        for user, password in self.old_passwords.items():
            with contextlib.suppress(tandem.RedisError):
                tandem.Redis(self.stack.redis_port, user, password, tls=self.stack.redis_context())
                found.append(f"the old password of {user} is taken by Redis")
        with contextlib.suppress(OSError):
            tandem.Redis(self.stack.redis_port, tls=self.stack.tls_context("other/tls/ops"))("PING")
            found.append("a stranger's certificate is taken by Redis")
        return found
