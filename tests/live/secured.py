"""A Tandem whose callers must say who they are: everything over TLS, as scripts/up --tls sets it up, with signed tokens
and API keys at the gateway."""
import json
import os
import subprocess
import time

import jwt
import tandem
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

CA = os.path.join(tandem.ROOT, "scripts", "lib", "ca")
SETTINGS = {"TANDEM_REDIS_TLS": "1", "TANDEM_GATEWAY_TLS_CLIENT_CERT": "optional"}
OURS = ("cert CN:gateway gateway", "cert CN:ops operator")  # of the callers file
ISSUER, AUDIENCE = "https://issuer.example", "tandem"


def raw(key):
    """The bytes of its public half."""
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


class Issuer:
    """Makes what a Tandem's callers say who they are with: certificates of its private CA, signed tokens, API keys."""

    def __init__(self, stack):
        self.tandem, self.key = stack, ed25519.Ed25519PrivateKey.generate()
        self.ca()
        subprocess.run([CA], check=True, stdout=subprocess.DEVNULL, env={**stack.env, "TANDEM_VAR": stack.tls("other")})
        self.write_keys(one=self.key)
        self.write("on", "")
        for name, value in (("KEYS", stack.tls("keys.json")), ("ISSUER", ISSUER), ("AUDIENCE", AUDIENCE)):
            stack.env[f"TANDEM_GATEWAY_JWT_{name}"] = value

    def ca(self, *arguments):
        subprocess.run([CA, *arguments], env=self.tandem.env, check=True, stdout=subprocess.DEVNULL)

    def write(self, name, text):
        path = self.tandem.tls(name)
        with open(path + ".new", "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path + ".new", 0o644)
        os.rename(path + ".new", path)

    def write_keys(self, **keys):
        """The key set: {kid: private key}."""
        self.write("keys.json", json.dumps({"keys": [
            {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": kid,
             "x": jwt.utils.base64url_encode(raw(key)).decode()} for kid, key in keys.items()]}))

    def new_key(self, customer_id):
        """An API key of a customer, and its line for the callers file."""
        return json.loads(self.tandem.ctl("auth", "new-key", "--name", f"shop of {customer_id}", "--role", "customer",
                                         "--customer-id", customer_id, "--json").stdout)

    def token(self, key=None, algorithm="EdDSA", kid="one", **claims):
        """A signed token; a claim that is None is left out."""
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "someone", "exp": time.time() + 600, **claims}
        return jwt.encode({name: value for name, value in claims.items() if value is not None}, key or self.key,
                          algorithm=algorithm, headers={"kid": kid})

    def write_callers(self, lines):
        self.write("callers", "\n".join(lines) + "\n")


class Secured(tandem.Live):
    """The gateway takes callers without a certificate, too, if they have a token or a key. There are certificates for
    each role, and API keys of the customers cust_a and cust_b. "other/tls/ops" is one of another authority."""

    ENV = SETTINGS

    @classmethod
    def prepare(cls):
        cls.issuer = Issuer(cls.tandem)
        cls.issuer.ca("--client", "support", "stock", "shop", "stranger")
        cls.key, cls.other_key = cls.issuer.key, ed25519.Ed25519PrivateKey.generate()
        made = [cls.issuer.new_key(f"cust_{customer}") for customer in "ab"]
        cls.api_keys = [one["key"] for one in made]
        cls.callers_file = [*OURS, "cert CN:support support", "cert CN:stock stock",
                            "cert CN:shop customer customer_id=cust_c", *(one["line"] for one in made)]
        cls.write_callers()

    @classmethod
    def write_callers(cls):
        cls.issuer.write_callers(cls.callers_file)

    def stubs(self, certificate=None, name="gateway"):
        channel = self.tandem.channel(name, certificate)
        self.addCleanup(channel.close)
        return {service: self.protos.stub(channel, service)
                for service in (tandem.ORDER_SERVICE, tandem.INVENTORY_SERVICE, tandem.ARCHIVE_SERVICE, tandem.HEALTH,
                                "tandem.order.v1.PlacementService", "grpc.reflection.v1.ServerReflection")}
