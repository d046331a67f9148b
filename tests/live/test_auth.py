"""Tokens made by another implementation (Debian's python3-jwt), and tandemctl auth."""
import json
import os
import shutil
import subprocess
import tempfile
import time
import unittest

import jwt
import tandem
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

ISSUER, AUDIENCE = "https://issuer.example", "tandem"


def jwk(algorithm, private, **more):
    """The public key as a JWK, as python3-jwt writes it."""
    json_of = jwt.algorithms.get_default_algorithms()[algorithm].to_jwk
    if algorithm == "ES256":  # it leaves out zeros at the beginning of x and y (RFC 7518, 6.2.1.2)
        numbers = private.public_key().public_numbers()
        to_text = lambda n: jwt.utils.base64url_encode(n.to_bytes(32, "big")).decode()  # noqa: E731
        return {"kty": "EC", "crv": "P-256", "x": to_text(numbers.x), "y": to_text(numbers.y), **more}
    key = json.loads(json_of(private.public_key()))
    key.pop("key_ops", None)
    return {**key, **more}


class Auth(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp()
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.private = {
            "RS256": rsa.generate_private_key(65537, 2048),
            "ES256": ec.generate_private_key(ec.SECP256R1()),
            "EdDSA": ed25519.Ed25519PrivateKey.generate(),
        }
        cls.keys = cls.write("keys.json", json.dumps({"keys": [
            jwk(name, key, kid=f"{name}-1", use="sig") for name, key in cls.private.items()
        ]}))

    @classmethod
    def write(cls, name, text, mode=0o644):
        path = os.path.join(cls.folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, mode)
        return path

    def ctl(self, *args, given="", code=0):
        env = {name: value for name, value in os.environ.items() if not name.startswith("TANDEM_")}
        done = subprocess.run([tandem.CTL, "auth", *args], input=given, env=env, check=False,
                              capture_output=True, text=True, timeout=60)
        self.said = done.stderr
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout

    def show(self, token, code=0):
        return json.loads(self.ctl(
            "show-token", "--json", "--jwt-keys", self.keys, "--jwt-issuer", ISSUER,
            "--jwt-audience", AUDIENCE, given=token + "\n", code=code,
        ))

    def token(self, algorithm, key=None, headers=None, **claims):
        now = int(time.time())
        claims = {"iss": ISSUER, "aud": [AUDIENCE, "others"], "iat": now, "nbf": now, "exp": now + 600,
                  "sub": "Zoë", "role": "customer", "customer_id": "cust 7", **claims}
        return jwt.encode({name: value for name, value in claims.items() if value is not None},
                          key or self.private[algorithm], algorithm,
                          headers=headers if headers is not None else {"kid": f"{algorithm}-1"})

    def test_tokens_of_another_implementation(self):
        for algorithm in self.private:
            for headers in (None, {}, {"typ": "at+jwt"}):
                token = self.token(algorithm, headers=headers)
                answer = self.show(token)
                self.assertEqual(
                    (answer["accepted"], answer["by"], answer["role"], answer["name"],
                     answer["customer_id"]),
                    (True, "token", "customer", "Zoë", "cust 7"), algorithm)
                self.assertEqual(answer["header"], jwt.get_unverified_header(token))
                self.assertEqual(answer["claims"],
                                 jwt.decode(token, options={"verify_signature": False}))

    def test_both_refuse(self):
        """What python3-jwt refuses is refused here, too."""
        other = {"RS256": rsa.generate_private_key(65537, 2048),
                 "ES256": ec.generate_private_key(ec.SECP256R1()),
                 "EdDSA": ed25519.Ed25519PrivateKey.generate()}
        now = int(time.time())
        for algorithm, private in self.private.items():
            for why, token in (
                ("the signature does not fit", self.token(algorithm, key=other[algorithm])),
                ("it has expired", self.token(algorithm, exp=now - 60)),
                ("exp is missing", self.token(algorithm, exp=None)),
                ("nbf: it is not valid yet", self.token(algorithm, nbf=now + 600)),
                ("iss is another issuer", self.token(algorithm, iss="https://other.example")),
                ("aud: it is for others", self.token(algorithm, aud="others")),
                ("aud: it is for others", self.token(algorithm, aud=None)),
            ):
                answer = self.show(token, code=1)
                self.assertEqual((answer["accepted"], answer["why"]), (False, why), algorithm)
                with self.assertRaises(jwt.PyJWTError, msg=why):
                    jwt.decode(token, private.public_key(), [algorithm], issuer=ISSUER,
                               audience=AUDIENCE, options={"require": ["exp", "iss", "aud"]})

    def test_other_algorithms(self):
        for token in (
            jwt.encode({"sub": "a"}, "secret", "HS256"),
            jwt.encode({"sub": "a"}, None, "none"),
            jwt.encode({"sub": "a"}, self.private["RS256"], "PS256"),
            jwt.encode({"sub": "a"}, self.private["RS256"], "RS512"),
        ):
            self.assertEqual(self.show(token, code=1)["why"], "alg is none of RS256, ES256 and EdDSA")

    def test_a_key_from_its_making_to_its_end(self):
        made = json.loads(self.ctl("new-key", "--json", "--name", "shop 7", "--role", "customer",
                                   "--customer-id", "cust 7", "--expires", "2099-01-01"))
        self.assertNotIn(made["key"], made["line"])
        path = self.write("callers", f"# a shop\n{made['line']}\n")
        self.assertIn("shop 7", self.ctl("check", "--callers", path))
        row = json.loads(self.ctl("check", "--json", "--callers", path))
        self.assertEqual(row, {"line": 2, "by": "key", "name": "shop 7", "role": "customer",
                               "customer_id": "cust 7", "expires": "2099-01-01T00:00:00.000Z",
                               "expired": False})
        self.assertEqual(
            self.ctl("show-token", "--callers", path, given=made["key"]),
            "accepted   customer shop 7, by an API key, customer_id cust 7, "
            "until 2099-01-01T00:00:00.000Z\n")
        self.write("callers", "# nobody\n")
        self.assertEqual(self.ctl("show-token", "--callers", path, given=made["key"], code=1),
                         "refused    the API key is not in the callers file\n")
        said = self.ctl("new-key", "--name", "import", "--role", "stock")
        self.assertRegex(said, r"(?s)\n  tandem_[a-z2-7]{52}\n.*\nkey sha256:[0-9a-f]{64} import stock\n$")

    def test_files_are_checked(self):
        said = self.ctl("check", "--jwt-keys", self.keys)
        self.assertIn("EdDSA      EdDSA-1", said)
        path = self.write("callers", "cert CN:a gateway\ncert CN:a operator\n")
        self.ctl("check", "--callers", path, code=1)
        self.assertEqual(self.said, f"tandemctl: {path}:2: 'CN:a' is somebody else on line 1\n")
        path = self.write("callers", "cert CN:a gateway expires=2020-01-01\n")
        self.assertRegex(self.ctl("check", "--callers", path), r"CN:a +gateway .* expired\n")
        self.write("callers", "cert CN:a gateway\n", mode=0o666)
        self.ctl("check", "--callers", path, code=1)
        self.assertIn("has mode 0666: others may write it", self.said)
        secret = self.private["RS256"].private_numbers()
        path = self.write("bad.json", json.dumps({"keys": [
            {"kty": "RSA", "d": jwt.utils.base64url_encode(secret.d.to_bytes(256, "big")).decode()}]}))
        self.ctl("check", "--jwt-keys", path, code=1)
        self.assertIn("key 1: holds a secret", self.said)

    def test_a_token_for_people(self):
        token = self.token("EdDSA", exp=4070908800)
        said = self.ctl("show-token", "--jwt-keys", self.keys, "--jwt-issuer", ISSUER,
                        "--jwt-audience", AUDIENCE, given=token)
        self.assertIn("header     alg=EdDSA kid=EdDSA-1 typ=JWT\n", said)
        self.assertIn("  exp      2099-01-01T00:00:00.000Z\n", said)
        self.assertIn("accepted   customer Zoë, by a signed token, customer_id cust 7, "
                      "until 2099-01-01T00:00:30.000Z\n", said)
        said = self.ctl("show-token", "--jwt-keys", self.keys, "--jwt-issuer", ISSUER,
                        "--jwt-audience", AUDIENCE, given="nonsense", code=1)
        self.assertEqual(said, "refused    it is neither a signed token nor an API key\n")

    def test_used_wrongly(self):
        for args in (("check",), ("show-token",), ("new-key", "--name", "a"),
                     ("new-key", "--role", "stock"), ("new-key", "--name", "a", "--role", "admin"),
                     ("new-key", "--name", "a", "--role", "anonymous"),
                     ("new-key", "--name", "a", "--role", "customer"),
                     ("new-key", "--name", 'a"', "--role", "stock"),
                     ("check", "--callers", "x", "--jwt-leeway", "soon")):
            self.ctl(*args, code=2)
        self.ctl("show-token", "--jwt-keys", self.keys, given="a.b.c", code=1)
        self.assertIn("--jwt-keys needs --jwt-issuer and --jwt-audience", self.said)


if __name__ == "__main__":
    tandem.main()
