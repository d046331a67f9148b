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

ISSUER, AUDIENCE = "https://issuer.example", "tandem"


def raw(key):
    """The bytes of its public half."""
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


class Secured(tandem.Live):
    """The gateway takes callers without a certificate, too, if they have a token or a key. There are certificates for
    each role, and API keys of the customers cust_a and cust_b. "other/tls/ops" is one of another authority."""

    ENV = {"TANDEM_REDIS_TLS": "1", "TANDEM_GATEWAY_TLS_CLIENT_CERT": "optional"}

    @classmethod
    def prepare(cls):
        cls.ca("--client", "support", "stock", "shop", "stranger")
        subprocess.run([os.path.join(tandem.ROOT, "scripts", "lib", "ca")], check=True, stdout=subprocess.DEVNULL,
                       env={**cls.tandem.env, "TANDEM_VAR": cls.tandem.tls("other")})
        cls.key = ed25519.Ed25519PrivateKey.generate()
        cls.other_key = ed25519.Ed25519PrivateKey.generate()
        cls.write_keys(one=cls.key)
        made = [cls.new_key(f"cust_{customer}") for customer in "ab"]
        cls.api_keys = [one["key"] for one in made]
        cls.callers_file = ["cert CN:gateway gateway", "cert CN:ops operator", "cert CN:support support",
                            "cert CN:stock stock", "cert CN:shop customer customer_id=cust_c",
                            *(one["line"] for one in made)]
        cls.write_callers()
        cls.write("on", "")
        for name, value in (("KEYS", cls.tandem.tls("keys.json")), ("ISSUER", ISSUER), ("AUDIENCE", AUDIENCE)):
            cls.tandem.env[f"TANDEM_GATEWAY_JWT_{name}"] = value

    @classmethod
    def ca(cls, *arguments):
        subprocess.run([os.path.join(tandem.ROOT, "scripts", "lib", "ca"), *arguments], env=cls.tandem.env, check=True,
                       stdout=subprocess.DEVNULL)

    @classmethod
    def write(cls, name, text):
        path = cls.tandem.tls(name)
        with open(path + ".new", "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path + ".new", 0o644)
        os.rename(path + ".new", path)

    @classmethod
    def write_callers(cls):
        cls.write("callers", "\n".join(cls.callers_file) + "\n")

    @classmethod
    def write_keys(cls, **keys):
        """The key set: {kid: private key}."""
        cls.write("keys.json", json.dumps({"keys": [
            {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": kid,
             "x": jwt.utils.base64url_encode(raw(key)).decode()} for kid, key in keys.items()]}))

    @classmethod
    def new_key(cls, customer_id):
        """An API key of a customer, and its line for the callers file."""
        return json.loads(cls.tandem.ctl("auth", "new-key", "--name", f"shop of {customer_id}", "--role", "customer",
                                         "--customer-id", customer_id, "--json").stdout)

    @classmethod
    def token(cls, key=None, algorithm="EdDSA", kid="one", **claims):
        """A signed token; a claim that is None is left out."""
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "someone", "exp": time.time() + 600, **claims}
        return jwt.encode({name: value for name, value in claims.items() if value is not None}, key or cls.key,
                          algorithm=algorithm, headers={"kid": kid})

    def stubs(self, certificate=None, name="gateway"):
        channel = self.tandem.channel(name, certificate)
        self.addCleanup(channel.close)
        return {service: self.protos.stub(channel, service)
                for service in (tandem.ORDER_SERVICE, tandem.INVENTORY_SERVICE, tandem.ARCHIVE_SERVICE, tandem.HEALTH,
                                "tandem.order.v1.PlacementService", "grpc.reflection.v1.ServerReflection")}
