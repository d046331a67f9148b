"""Tests of the console: a Tandem with one, asked as a browser asks."""
import http.client
import json
import os

import tandem
from tandem import SLOW, until


class Console(tandem.Live):
    MORE = ("console",)
    ENV = {"TANDEM_ORDER_TIMERS_EVERY": "100ms"}

    @classmethod
    def prepare(cls):
        cls.port = cls.tandem.ports["console"]
        cls.address = f"http://127.0.0.1:{cls.port}"

    def connection(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30 * SLOW)

    def request(self, method, path, body=None, **headers):
        """(status, headers, body). Headers by name, with '_' for '-'."""
        connection = self.connection()
        self.addCleanup(connection.close)
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if isinstance(body, dict):
            body = json.dumps(body)
            headers.setdefault("Content-Type", "application/json")
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()

    def get(self, path, **headers):
        status, _, body = self.request("GET", path, **headers)
        return status, json.loads(body)

    def post(self, path, body, **headers):
        status, answered, text = self.request("POST", path, body, **headers)
        return status, json.loads(text), answered

    def ops_password(self):
        with open(os.path.join(self.tandem.env["TANDEM_VAR"], "secrets", "ops"), encoding="utf-8") as file:
            return file.read().strip()

    def signed_in(self):
        """The Cookie header of a session with ops's password."""
        status, _, headers = self.post("/api/sign-in", {"way": "password", "secret": self.ops_password()})
        self.assertEqual(status, 200)
        return headers["Set-Cookie"].split(";")[0]

    def dead_letter(self, subject):
        """An entry of inventory's stream that no reader can process becomes a dead letter of order's; its stream id."""
        self.tandem.redis_as("ops")("XADD", tandem.STOCK, "*", "type", "tandem.inventory.v1.InventoryReserved", "subject",
                                    subject, "seq", "1", "id", f"{subject}/1", "time", "2026-11-23T01:02:03.004Z",
                                    "data", b"\xff\xff")

        def found():
            return [item for item in self.tandem.ctl_json("dead", "list")[1] if item.get("subject") == subject]

        return until(found, 20 * SLOW, f"a dead letter about {subject}")[0]["stream_id"]
