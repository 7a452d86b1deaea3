"""What the emulator's tests share: a running emulator, a key, tokens, and calls in the words of a test."""

import base64
import http.client
import json
import os
import pathlib
import subprocess
import sys
import time
import unittest
import urllib.parse
import uuid

import zstandard
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from snowflake_emulator.auth import b64url, fingerprint  # noqa: E402
from snowflake_emulator.emulator import Emulator  # noqa: E402
from snowflake_emulator.names import quoted  # noqa: E402
from snowflake_emulator.server import Server  # noqa: E402

ACCOUNT = "TESTORG-TESTACCOUNT"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def public_body(key=KEY):
    der = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(der).decode()


def private_pem(key=KEY):
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                             serialization.NoEncryption()).decode()


def make_jwt(key=KEY, user="ETL_USER", account=ACCOUNT, header=None, **claims):
    subject = f"{account}.{user}"
    now = int(time.time())
    claims = {"iss": f"{subject}.{fingerprint(public_body(key))}", "sub": subject, "iat": now, "exp": now + 3540, **claims}
    head = ".".join(b64url(json.dumps(part).encode()) for part in (header or {"typ": "JWT", "alg": "RS256"}, claims))
    return head + "." + b64url(key.sign(head.encode(), padding.PKCS1v15(), hashes.SHA256()))


SETUP = {
    "roles": {"ETL_ROLE": {"open": True}}, "warehouses": ["ETL_WH"], "schemas": [["DB", "S"]],
    "users": {"ETL_USER": {"rsa_public_key": public_body(), "default_role": "ETL_ROLE", "roles": ["ETL_ROLE"]}},
}


class Answered:
    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self):
        return json.loads(self.body)


class Client:
    """One user's connection; keeps the scoped token."""

    def __init__(self, port, user="ETL_USER", key=KEY, control_token=""):
        self.port = port
        self.user = user
        self.key = key
        self.control_token = control_token
        self.token = None
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def close(self):
        self.connection.close()

    def call(self, method, path, body=None, headers=None):
        self.connection.request(method, path, body, headers or {})
        answer = self.connection.getresponse()
        return Answered(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())

    # Control

    def control(self, verb, body=None, method=None):
        answer = self.call(method or ("GET" if body is None else "POST"), f"/_control/{verb}",
                           None if body is None else json.dumps(body), {"Authorization": f"Bearer {self.control_token}"})
        if answer.status != 200:
            raise AssertionError(f"control {verb}: {answer.status} {answer.body!r}")
        return answer.json

    def fault(self, **rule):
        self.control("faults", {"faults": [rule]})

    def rows(self, table, order=None, schema="S"):
        query = f"?order={urllib.parse.quote(order)}" if order else ""
        return self.control(f"rows/DB/{schema}/{urllib.parse.quote(table, safe='')}{query}")["rows"]

    # Streaming

    def key_pair_headers(self):
        return {"Authorization": "Bearer " + make_jwt(self.key, self.user),
                "X-Snowflake-Authorization-Token-Type": "KEYPAIR_JWT"}

    def get_token(self, **form):
        form = {"grant_type": GRANT, "scope": "127.0.0.1", **form}
        return self.call("POST", "/oauth/token", urllib.parse.urlencode(form), {
            **self.key_pair_headers(), "Content-Type": "application/x-www-form-urlencoded"})

    def scoped_headers(self):
        if self.token is None:
            self.token = self.get_token().body.decode()
        return {"Authorization": f"Bearer {self.token}", "X-Snowflake-Authorization-Token-Type": "OAUTH"}

    @staticmethod
    def pipe_path(table, schema="S"):
        return f"/v2/streaming/databases/DB/schemas/{schema}/pipes/{urllib.parse.quote(table + '-STREAMING', safe='')}"

    def open(self, table, channel="c", **body):
        return self.call("PUT", f"{self.pipe_path(table)}/channels/{channel}?requestId={uuid.uuid4()}&retryCount=0",
                         json.dumps(body or {"fail_on_uncommitted_rows": True}), self.scoped_headers())

    def append(self, table, token, rows, channel="c", start=None, end=None, coding="zstd", headers=None, request_id=None,
               raw=None):
        body = raw if raw is not None else b"".join(json.dumps(row).encode() + b"\n" for row in rows)
        extra = {"Content-Type": "application/x-ndjson", **self.scoped_headers(), **(headers or {})}
        if coding == "zstd":
            extra["Content-Encoding"] = "zstd"
            body = zstandard.compress(body)
        query = {"continuationToken": token, "requestId": request_id or str(uuid.uuid4()), "retryCount": "0",
                 "startOffsetToken": start or "", "endOffsetToken": end or ""}
        return self.call("POST", self.pipe_path(table).replace("/v2/streaming/", "/v2/streaming/data/")
                         + f"/channels/{channel}/rows?" + urllib.parse.urlencode(query), body, extra)

    def status(self, table, *channels):
        return self.call("POST", self.pipe_path(table) + ":bulk-channel-status",
                         json.dumps({"channel_names": list(channels or ("c",))}), self.scoped_headers())

    def drop(self, table, channel="c", **body):
        return self.call("DELETE", f"{self.pipe_path(table)}/channels/{channel}", json.dumps(body) if body else None,
                         self.scoped_headers())

    def wait_committed(self, table, token, channel="c"):
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            status = self.status(table, channel).json["channel_statuses"][channel]
            if status["last_committed_offset_token"] == token:
                return status
            time.sleep(0.02)
        raise AssertionError(f"{token} was not committed")

    # SQL API

    def statement_headers(self):
        return {**self.key_pair_headers(), "Accept": "application/json", "Content-Type": "application/json",
                "User-Agent": "tests/1.0"}

    def submit(self, statement, query="", headers=None, **body):
        body = {"statement": statement, "warehouse": "ETL_WH", "database": "DB", "schema": "S", **body}
        body = {name: value for name, value in body.items() if value is not None}
        return self.call("POST", "/api/v2/statements" + query, json.dumps(body), {**self.statement_headers(), **(headers or {})})

    def several(self, statement, **more):
        return self.submit(statement, parameters={"MULTI_STATEMENT_COUNT": "0"}, **more)

    def poll(self, handle, query=""):
        return self.call("GET", f"/api/v2/statements/{handle}{query}", None, self.statement_headers())

    def sql(self, statement, **body):
        """The data of a statement that must succeed."""
        answer = self.submit(statement, **body)
        if answer.status != 200:
            raise AssertionError(f"{statement}: {answer.status} {answer.body!r}")
        return answer.json["data"]


class EmulatorTest(unittest.TestCase):
    """An emulator in this process for all tests of a class."""

    settings = {}

    @classmethod
    def setUpClass(cls):
        cls.emulator = Emulator(openapi=os.environ.get("ETL_SQLAPI_DOCUMENT"))
        cls.emulator.control.set_up(json.loads(json.dumps({**SETUP, "settings": cls.settings})))
        cls.server = Server(cls.emulator, ("127.0.0.1", 0))
        cls.port = cls.server.start()

    @classmethod
    def tearDownClass(cls):
        cls.server.shutdown()
        cls.server.server_close()
        cls.emulator.close()

    def setUp(self):
        self.client = self.client_of()
        self.addCleanup(self.emulator.faults.clear)
        before = self.emulator.settings.to_json()
        self.addCleanup(self.emulator.settings.update, before)

    def client_of(self, user="ETL_USER", key=KEY):
        client = Client(self.port, user, key, self.emulator.control_token)
        self.addCleanup(client.close)
        return client

    def make_table(self, columns, name=None):
        """A fresh table; its name."""
        name = name or "T" + uuid.uuid4().hex[:8].upper()
        self.client.control("sql", {"statement": f"CREATE TABLE DB.S.{quoted(name)} ({columns})"})
        return name

    def assert_refused(self, answer, status, code=None):
        self.assertEqual(status, answer.status, answer.body)
        if code is not None:
            self.assertEqual(code, answer.json["code"], answer.body)


class Process:
    """An emulator as a process of its own."""

    def __init__(self, *arguments):
        environment = dict(os.environ, PYTHONPATH=str(HERE))
        self.process = subprocess.Popen([sys.executable, "-m", "snowflake_emulator", *map(str, arguments)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            raise AssertionError("the emulator did not start")
        self.ready = json.loads(line)

    def client(self):
        return Client(self.ready["port"], control_token=self.ready["control_token"])

    def stop(self):
        """Ends it as a test does: by closing its standard input."""
        self.process.stdin.close()
        self.process.stdout.close()
        return self.process.wait(20)

    def kill(self):
        self.process.kill()
        self.process.wait(20)
        self.process.stdin.close()
        self.process.stdout.close()
