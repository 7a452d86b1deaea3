"""Snowflake's own client against the emulator, over TLS: what it accepts is how Snowflake answers."""

import datetime
import decimal
import os
import tempfile
import time
import unittest
import uuid

from harness import ACCOUNT, EmulatorTest, private_pem

from snowflake_emulator import certificates
from snowflake_emulator.server import Server

os.environ["SS_LOG_LEVEL"] = "error"


class OfficialClient(EmulatorTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = tempfile.TemporaryDirectory()
        authority, context = certificates.make(cls.folder.name)
        cls.tls = Server(cls.emulator, ("127.0.0.1", 0), context)
        cls.tls_port = cls.tls.start()
        # Read by the client's core when it is loaded.
        os.environ["SSL_CERT_FILE"] = str(authority)
        from snowflake.ingest import streaming
        cls.sdk = streaming

    @classmethod
    def tearDownClass(cls):
        cls.tls.shutdown()
        cls.tls.server_close()
        super().tearDownClass()
        cls.folder.cleanup()

    def setUp(self):
        super().setUp()
        self.table = self.make_table("ID NUMBER(38,0) NOT NULL, N VARCHAR(20)")
        self.emulator.log.clear()

    def connect(self, table=None):
        client = self.sdk.StreamingIngestClient(
            "tests-" + uuid.uuid4().hex[:6], "DB", "S", f"{table or self.table}-STREAMING", properties={
                "account": ACCOUNT, "user": "ETL_USER", "private_key": private_pem(), "role": "ETL_ROLE", "scheme": "https",
                "host": "127.0.0.1", "port": self.tls_port, "max_buffered_kb_for_rowset_mode": 65000})
        self.addCleanup(self.close, client)
        return client

    def close(self, client):
        """Ends a client that a test left open; what it still wanted to send is of no interest."""
        try:
            if not client.is_closed():
                client.close(wait_for_flush=False, timeout_seconds=5)
        except self.sdk.StreamingIngestError:
            pass

    def sent(self, kind):
        return [entry for entry in self.emulator.log.since(0) if entry["kind"] == kind]

    def wait(self, channel, token):
        channel.wait_for_commit(lambda committed: committed == token, 30)

    def test_every_type_and_the_life_of_a_channel(self):
        table = self.make_table(
            "I NUMBER(19,0), D NUMBER(38,9), F FLOAT, B BOOLEAN, T VARCHAR, X BINARY, DAY DATE, TM TIME(6), "
            "N TIMESTAMP_NTZ(6), Z TIMESTAMP_TZ(6), V VARIANT, A ARRAY, E VARCHAR")
        client = self.connect(table)
        channel, status = client.open_channel("life")
        self.assertIsNone(status.latest_committed_offset_token)
        utc = datetime.timezone.utc
        channel.append_row({
            "I": 2**60, "D": decimal.Decimal("12345678901234567890123456789.123456789"), "F": 0.1, "B": True,
            "T": "é\u2028\"\\\n", "X": b"\x00\xff\x10", "DAY": datetime.date(2026, 1, 2),
            "TM": datetime.time(1, 2, 3, 4), "N": datetime.datetime(2026, 1, 2, 3, 4, 5, 678901),
            "Z": datetime.datetime(2026, 1, 2, 3, 4, 5, 678901, utc), "V": {"b": [1, None, "x"], "a": 1.5}, "A": [1, "two"],
            "E": None}, "0001")
        self.wait(channel, "0001")
        row, = self.client.rows(table)
        self.assertEqual({
            "I": str(2**60), "D": "12345678901234567890123456789.123456789", "F": "0.1", "B": "true",
            "T": "é\u2028\"\\\n", "X": "00FF10", "DAY": "20455", "TM": "3723.000004000", "N": "1767323045.678901000",
            "Z": "1767323045.678901000 1440", "V": '{"a":1.5,"b":[1,null,"x"]}', "A": '[1,"two"]', "E": None}, row)

        client.close()
        again = self.connect(table)
        channel, status = again.open_channel("life")
        self.assertEqual("0001", status.latest_committed_offset_token)
        self.assertEqual("0001", again.get_latest_committed_offset_tokens(["life"])["life"])
        channel.append_rows([{"I": 1}, {"I": 2}], "0002", "0003")
        self.wait(channel, "0003")
        status = channel.get_channel_status()
        self.assertEqual((3, 0), (status.rows_inserted_count, status.rows_error_count))
        channel.close(drop=True)
        self.assertEqual(200, self.sent("channel")[-1]["status"])
        self.assertEqual("DELETE", self.sent("channel")[-1]["method"])
        self.assertEqual({}, self.client.status(table, "life").json["channel_statuses"])

    def test_rows_in_error_while_the_offset_advances(self):
        channel, _ = self.connect().open_channel("errors")
        channel.append_rows([{"ID": 1}, {"ID": "no number"}, {"N": "no id"}, {"ID": 2, "N": "x" * 21}], "1", "4")
        self.wait(channel, "4")
        status = channel.get_channel_status()
        self.assertEqual((1, 3), (status.rows_inserted_count, status.rows_error_count))
        self.assertIn("too long", status.last_error_message)

    def test_faults_that_pass_are_retried_with_the_same_request(self):
        channel, _ = self.connect().open_channel("faults")
        self.client.control("faults", {"faults": [
            {"match": {"path": "/rows$"}, "answer": {"status": 503, "shape": "string"}},
            {"match": {"path": "/rows$"}, "drop": True},
            {"match": {"path": "/rows$"}, "answer": {"status": 401, "code": "390318", "message": "expired"}}]})
        channel.append_row({"ID": 1}, "1")
        self.wait(channel, "1")
        sent = self.sent("rows")
        self.assertEqual([503, 0, 401, 200], [entry["status"] for entry in sent])
        self.assertEqual(1, len({entry["query"]["requestId"] for entry in sent}))
        self.assertEqual(1, len(self.client.rows(self.table)))
        self.assertEqual(2, len(self.sent("token")))

    def test_a_lost_answer_with_an_idempotent_server(self):
        self.client.control("settings", {"resend": "idempotent"})
        channel, _ = self.connect().open_channel("lost")
        self.client.fault(match={"path": "/rows$"}, when="after", drop=True)
        channel.append_row({"ID": 1}, "1")
        self.wait(channel, "1")
        channel.append_row({"ID": 2}, "2")
        self.wait(channel, "2")
        self.assertEqual(["1", "2"], [row["ID"] for row in self.client.rows(self.table, "ID")])

    def test_a_lost_answer_with_a_stale_token(self):
        channel, _ = self.connect().open_channel("stale")
        self.client.fault(match={"path": "/rows$"}, when="after", drop=True)
        channel.append_row({"ID": 1}, "1")
        deadline = time.monotonic() + 20
        while not self.sent("rows") and time.monotonic() < deadline:
            time.sleep(0.05)
        with self.assertRaises(self.sdk.StreamingIngestError):
            while time.monotonic() < deadline:
                channel.append_row({"ID": 2}, "2")
                time.sleep(0.2)
        self.assertEqual([0, 400], [entry["status"] for entry in self.sent("rows")][:2])
        channel, status = self.connect().open_channel("stale")
        self.assertEqual("1", status.latest_committed_offset_token)
        channel.append_row({"ID": 2}, "2")
        self.wait(channel, "2")
        self.assertEqual(["1", "2"], [row["ID"] for row in self.client.rows(self.table, "ID")])

    def test_an_open_waits_for_uncommitted_rows(self):
        self.client.control("settings", {"commit_lag": 2.0})
        token = self.client.open(self.table, "waits").json["next_continuation_token"]
        self.client.append(self.table, token, [{"ID": 1}], channel="waits", start="1", end="1")
        _, status = self.connect().open_channel("waits")
        self.assertEqual("1", status.latest_committed_offset_token)
        self.assertIn(409, [entry["status"] for entry in self.sent("channel")])
        self.assertEqual(1, len(self.client.rows(self.table)))

    def test_a_channel_taken_over_is_invalid_for_the_first_owner(self):
        first, _ = self.connect().open_channel("owner")
        second, _ = self.connect().open_channel("owner")
        second.append_row({"ID": 2}, "2")
        self.wait(second, "2")
        with self.assertRaises(self.sdk.StreamingIngestError):
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                first.append_row({"ID": 1}, "3")
                time.sleep(0.2)
        self.assertEqual(["2"], [row["ID"] for row in self.client.rows(self.table)])


if __name__ == "__main__":
    unittest.main()
