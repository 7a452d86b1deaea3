"""The streaming endpoints: what they take, what they refuse, when rows are there."""

import gzip
import json
import socket
import time
import unittest
import uuid

from harness import EmulatorTest

STALE = "STALE_CONTINUATION_TOKEN_SEQUENCER"
NO_CHANNEL = "ERR_CHANNEL_DOES_NOT_EXIST_OR_NOT_AUTHORIZED"


class Channels(EmulatorTest):
    def setUp(self):
        super().setUp()
        self.table = self.make_table('ID NUMBER(10,0) NOT NULL, NAME VARCHAR(5), "lower" VARCHAR')

    def opened(self, channel="c"):
        return self.client.open(self.table, channel).json["next_continuation_token"]

    def set(self, **settings):
        self.client.control("settings", settings)

    def test_accepted_rows_become_committed(self):
        token = self.opened()
        answer = self.client.append(self.table, token, [{"ID": 1, "NAME": "a"}, {"ID": 2, "lower": "b"}], start="01", end="02")
        self.assertEqual(200, answer.status, answer.body)
        status = self.client.wait_committed(self.table, "02")
        self.assertEqual((2, 2, 0), (status["rows_parsed"], status["rows_inserted"], status["rows_error_count"]))
        self.assertEqual([{"ID": "1", "NAME": "a", "lower": None}, {"ID": "2", "NAME": None, "lower": "b"}],
                         self.client.rows(self.table, "ID"))

    def test_continuation_tokens_chain(self):
        token = self.opened()
        for number in range(3):
            answer = self.client.append(self.table, token, [{"ID": number}], start=f"{number}", end=f"{number}")
            self.assertEqual(200, answer.status)
            self.assertNotEqual(token, answer.json["next_continuation_token"])
            token = answer.json["next_continuation_token"]
        self.client.wait_committed(self.table, "2")

    def test_nothing_is_appended_without_open(self):
        self.assert_refused(self.client.append(self.table, "x", [{"ID": 1}]), 404, NO_CHANNEL)

    def test_wrong_continuation_token(self):
        self.opened()
        self.assert_refused(self.client.append(self.table, "x", [{"ID": 1}]), 400, STALE)

    def test_resend_of_an_accepted_request_is_stale(self):
        token = self.opened()
        request = str(uuid.uuid4())
        self.assertEqual(200, self.client.append(self.table, token, [{"ID": 1}], request_id=request).status)
        self.assert_refused(self.client.append(self.table, token, [{"ID": 1}], request_id=request), 400, STALE)

    def test_resend_may_be_idempotent(self):
        self.set(resend="idempotent")
        token = self.opened()
        request = str(uuid.uuid4())
        first = self.client.append(self.table, token, [{"ID": 1}], request_id=request, start="1", end="1")
        second = self.client.append(self.table, token, [{"ID": 1}], request_id=request, start="1", end="1")
        self.assertEqual(first.json, second.json)
        self.assertEqual(1, self.client.wait_committed(self.table, "1")["rows_inserted"])
        self.assert_refused(self.client.append(self.table, token, [{"ID": 2}], request_id=request), 400, STALE)

    def test_a_second_open_fences_the_first(self):
        first = self.opened()
        second = self.opened()
        self.assert_refused(self.client.append(self.table, first, [{"ID": 1}]), 400, STALE)
        self.set(superseded_code="ERR_CHANNEL_HAS_INVALID_CLIENT_SEQUENCER")
        self.assert_refused(self.client.append(self.table, first, [{"ID": 1}]), 400, "ERR_CHANNEL_HAS_INVALID_CLIENT_SEQUENCER")
        self.assertEqual(200, self.client.append(self.table, second, [{"ID": 1}]).status)

    def test_reopen_waits_for_uncommitted_rows_or_discards_them(self):
        self.set(commit_lag=5.0)
        token = self.opened()
        self.client.append(self.table, token, [{"ID": 1}], start="1", end="1")
        self.assertIsNone(self.client.status(self.table).json["channel_statuses"]["c"]["last_committed_offset_token"])
        self.assert_refused(self.client.open(self.table), 409, "ERR_CHANNEL_HAS_UNCOMMITTED_DATA")
        self.assert_refused(self.client.drop(self.table, fail_on_uncommitted_rows=True), 409, "ERR_CHANNEL_HAS_UNCOMMITTED_DATA")
        reopened = self.client.open(self.table, fail_on_uncommitted_rows=False)
        self.assertEqual(200, reopened.status)
        self.assertIsNone(reopened.json["channel_status"]["last_committed_offset_token"])
        self.client.control("commit", {})
        self.assertEqual([], self.client.rows(self.table))

    def test_commit_lag_and_commit_by_command(self):
        self.set(commit_lag=10.0)
        token = self.opened()
        self.client.append(self.table, token, [{"ID": 1}], start="1", end="1")
        self.assertEqual([], self.client.rows(self.table))
        self.client.control("commit", {})
        self.client.wait_committed(self.table, "1")
        self.assertEqual(1, len(self.client.rows(self.table)))

    def test_reopen_gives_the_committed_token_and_the_counters(self):
        token = self.opened()
        self.client.append(self.table, token, [{"ID": 1}, {"ID": "x"}], start="1", end="2")
        self.client.wait_committed(self.table, "2")
        status = self.client.open(self.table).json["channel_status"]
        self.assertEqual("2", status["last_committed_offset_token"])
        self.assertEqual((2, 1, 1), (status["rows_parsed"], status["rows_inserted"], status["rows_error_count"]))

    def test_rows_in_error_are_counted_while_the_offset_advances(self):
        token = self.opened()
        rows = [{"ID": "abc"}, {"NAME": "no id"}, {"ID": 3, "NAME": "too long"}, {"ID": 4}]
        self.client.append(self.table, token, rows, start="1", end="4")
        status = self.client.wait_committed(self.table, "4")
        self.assertEqual((4, 1, 3), (status["rows_parsed"], status["rows_inserted"], status["rows_error_count"]))
        self.assertEqual("4", status["last_error_offset_upper_bound"])
        self.assertIn("too long", status["last_error_message"])
        self.assertIsInstance(status["last_error_timestamp_ms"], int)

    def test_more_requests_a_second_than_the_limit(self):
        self.assertEqual(10, self.client.control("state")["settings"]["requests_per_second"])
        self.set(requests_per_second=2)
        token = self.opened()
        statuses = []
        for number in range(3):
            answer = self.client.append(self.table, token, [{"ID": number}])
            statuses.append(answer.status)
            token = answer.json.get("next_continuation_token", token)
        self.assertEqual([200, 200, 429], statuses)
        self.assertEqual("1", answer.headers["retry-after"])
        time.sleep(1.0)
        self.assertEqual(200, self.client.append(self.table, token, [{"ID": 99}]).status)

    def test_bodies_over_the_limit(self):
        token = self.opened()
        row = json.dumps({"ID": 1, "lower": "x" * 4_000_000}).encode() + b"\n"
        self.assert_refused(self.client.append(self.table, token, None, raw=row, coding=None), 413)
        self.client.close()
        self.assertEqual(200, self.client.append(self.table, token, None, raw=row).status)

    def test_chunked_and_gzip_bodies(self):
        token = self.opened()
        packed = gzip.compress(b'{"ID":1}\n\n{"ID":2}\n')
        headers = {**self.client.scoped_headers(), "Content-Type": "application/x-ndjson", "Content-Encoding": "gzip",
                   "x-snowflake-uncompressed-content-length": "19"}
        path = f"/v2/streaming/data/databases/DB/schemas/S/pipes/{self.table}-STREAMING/channels/c/rows?continuationToken={token}"
        answer = self.client.call("POST", path, iter([packed[:5], packed[5:]]), headers)
        self.assertEqual(200, answer.status, answer.body)
        headers["x-snowflake-uncompressed-content-length"] = "20"
        self.assert_refused(self.client.call("POST", path, packed, headers), 400)

    def test_half_a_body_is_no_request(self):
        token = self.opened()
        path = f"/v2/streaming/data/databases/DB/schemas/S/pipes/{self.table}-STREAMING/channels/c/rows?continuationToken={token}"
        headers = "".join(f"{name}: {value}\r\n" for name, value in self.client.scoped_headers().items())
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.sendall(f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}Content-Type: application/x-ndjson\r\n"
                               'Content-Length: 18\r\n\r\n{"ID":1}\n'.encode())
            connection.shutdown(socket.SHUT_WR)
            self.assertEqual(b"", connection.recv(1))
        self.assertEqual(200, self.client.append(self.table, token, [{"ID": 2}], start="2", end="2").status)
        self.client.wait_committed(self.table, "2")
        self.assertEqual(["2"], [row["ID"] for row in self.client.rows(self.table)])

    def test_malformed_rows(self):
        token = self.opened()
        for raw in (b"", b"\n", b"[1]\n", b'{"ID":1}', b'{"ID":1}{"ID":2}\n', b'{"ID":NaN}\n', b'{"ID":1,"ID":2}\n',
                    b'{"NAME":"\xff"}\n', b'{"NAME":"\\ud800"}\n', b'{"NAME":"a\x01"}\n', b'{"ID":01}\n', b"{'ID':1}\n"):
            with self.subTest(raw=raw):
                self.assert_refused(self.client.append(self.table, token, None, raw=raw), 400)
                time.sleep(0.1)

    def test_content_type_and_coding(self):
        token = self.opened()
        self.assert_refused(self.client.append(self.table, token, [{"ID": 1}], headers={"Content-Type": "text/plain"}), 415)
        self.assert_refused(self.client.append(self.table, token, None, raw=b'{"ID":1}\n', coding=None,
                                               headers={"Content-Encoding": "zstd"}), 400)
        self.assert_refused(self.client.append(self.table, token, [{"ID": 1}], coding=None,
                                               headers={"Content-Encoding": "br"}), 415)

    def test_unknown_pipe_table_and_method(self):
        self.assert_refused(self.client.open("NOWHERE"), 404, "ERR_TABLE_DOES_NOT_EXIST_NOT_AUTHORIZED")
        path = "/v2/streaming/databases/DB/schemas/S/pipes/X"
        self.assert_refused(self.client.call("PUT", path + "/channels/c", "{}", self.client.scoped_headers()), 404,
                            "ERR_PIPE_DOES_NOT_EXIST_OR_NOT_AUTHORIZED")
        self.assert_refused(self.client.call("GET", self.client.pipe_path(self.table) + "/channels/c", None,
                                             self.client.scoped_headers()), 405)

    def test_status_leaves_out_unknown_channels_and_takes_at_most_100(self):
        self.opened()
        self.assertEqual(["c"], list(self.client.status(self.table, "c", "x").json["channel_statuses"]))
        self.assert_refused(self.client.status(self.table, *map(str, range(101))), 400,
                            "ERR_GET_CHANNEL_STATUS_BATCH_TOO_MANY_CHANNELS")

    def test_drop_forgets_the_token(self):
        token = self.opened()
        self.client.append(self.table, token, [{"ID": 1}], start="1", end="1")
        self.client.wait_committed(self.table, "1")
        self.assertEqual({}, self.client.drop(self.table).json)
        self.assert_refused(self.client.drop(self.table), 404, NO_CHANNEL)
        self.assertIsNone(self.client.open(self.table).json["channel_status"]["last_committed_offset_token"])

    def test_open_may_set_the_offset(self):
        opened = self.client.open(self.table, offset_token="77").json
        self.assertEqual("77", opened["channel_status"]["last_committed_offset_token"])

    def test_expiry_and_recreated_tables_lose_channels(self):
        token = self.opened()
        self.client.control("channels", {"action": "expire", "name": "c"})
        self.assert_refused(self.client.append(self.table, token, [{"ID": 1}]), 404, NO_CHANNEL)
        self.opened()
        self.client.control("sql", {"statement": f"CREATE OR REPLACE TABLE DB.S.{self.table} (ID INT)"})
        self.assertEqual({}, self.client.status(self.table).json["channel_statuses"])

    def test_swap_and_rename_lose_channels(self):
        other = self.make_table("ID INT")
        self.opened()
        self.client.control("sql", {"statement": f"ALTER TABLE DB.S.{self.table} SWAP WITH DB.S.{other}"})
        self.assertEqual({}, self.client.status(self.table).json["channel_statuses"])
        self.assertEqual({}, self.client.status(other).json["channel_statuses"])

    def test_an_altered_table_is_seen_after_reopen(self):
        token = self.opened()
        self.client.control("sql", {"statement": f"ALTER TABLE DB.S.{self.table} ADD COLUMN NEW VARCHAR"})
        token = self.client.append(self.table, token, [{"ID": 1, "NEW": "x"}], start="1", end="1").json["next_continuation_token"]
        self.client.wait_committed(self.table, "1")
        self.assertIsNone(self.client.rows(self.table)[0]["NEW"])
        self.set(altered_table="reopen")
        self.assert_refused(self.client.append(self.table, token, [{"ID": 1}]), 409, "ERR_CHANNEL_MUST_BE_REOPENED")
        self.client.append(self.table, self.opened(), [{"ID": 2, "NEW": "x"}], start="2", end="2")
        self.client.wait_committed(self.table, "2")
        self.assertEqual("x", self.client.rows(self.table, "ID")[1]["NEW"])

    def test_the_state_names_unknown_keys_and_unordered_offsets(self):
        token = self.opened()
        token = self.client.append(self.table, token, [{"ID": 1, "id": 2}], start="05", end="06").json["next_continuation_token"]
        self.client.append(self.table, token, [{"ID": 1}], start="06", end="07")
        state = next(c for c in self.client.control("state")["channels"] if c["pipe_name"] == f"{self.table}-STREAMING")
        self.assertEqual((["id"], 1, "07"), (state["unknown_keys"], state["unordered_appends"],
                                             state["last_accepted_offset_token"]))

    def test_names_are_case_sensitive_and_percent_encoded(self):
        suffix = uuid.uuid4().hex[:6]
        for number, name in enumerate((f"Or/ders \"x\" é{suffix}", f"OR/DERS \"x\" é{suffix}", f"or/ders \"x\" é{suffix}")):
            self.make_table('"Id" INT, ID INT', name)
            token = self.client.open(name).json["next_continuation_token"]
            self.client.append(name, token, [{"Id": number, "ID": -number}], start="1", end="1")
            self.client.wait_committed(name, "1")
            self.assertEqual([{"Id": str(number), "ID": str(-number)}], self.client.rows(name))

    def test_missing_keys_take_the_default(self):
        table = self.make_table("ID INT, N NUMBER(5,2) DEFAULT 1.5, V VARCHAR DEFAULT 'it''s'")
        token = self.client.open(table).json["next_continuation_token"]
        self.client.append(table, token, [{"ID": 1}, {"ID": 2, "N": None, "V": "x"}], start="1", end="2")
        self.client.wait_committed(table, "2")
        self.assertEqual([{"ID": "1", "N": "1.50", "V": "it's"}, {"ID": "2", "N": None, "V": "x"}], self.client.rows(table, "ID"))

    def test_custom_pipes_match_by_name_and_read_binary_as_hex(self):
        table = self.make_table("ID INT, B BINARY")
        self.client.sql(f"CREATE PIPE IF NOT EXISTS P_{table} AS COPY INTO {table} FROM TABLE(DATA_SOURCE(TYPE => 'STREAMING')) "
                        "MATCH_BY_COLUMN_NAME = CASE_SENSITIVE")
        base = f"/v2/streaming/databases/DB/schemas/S/pipes/P_{table}/channels/c"
        opened = self.client.call("PUT", base, "{}", self.client.scoped_headers()).json
        path = base.replace("/v2/streaming/", "/v2/streaming/data/")
        self.client.call("POST", f"{path}/rows?continuationToken={opened['next_continuation_token']}&offsetToken=1",
                         b'{"ID":1,"B":"00ff"}\n', {**self.client.scoped_headers(), "Content-Type": "application/x-ndjson"})
        self.client.control("commit", {})
        self.assertEqual([{"ID": "1", "B": "00FF"}], self.client.rows(table))


if __name__ == "__main__":
    unittest.main()
