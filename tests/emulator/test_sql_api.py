"""The SQL API's protocol: headers, handles, polling, partitions, idempotent submission, cancelling."""

import gzip
import json
import time
import unittest
import uuid

from harness import EmulatorTest, make_jwt


class SqlApi(EmulatorTest):
    def finished(self, handle):
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            answer = self.client.poll(handle)
            if answer.status != 202:
                return answer
            time.sleep(0.02)
        raise AssertionError("still running")

    def test_the_result_set(self):
        answer = self.client.submit("SELECT 1 AS A, NULL AS B", f"?requestId={uuid.uuid4()}").json
        self.assertEqual(("090001", "00000"), (answer["code"], answer["sqlState"]))
        self.assertEqual(f"/api/v2/statements/{answer['statementHandle']}", answer["statementStatusUrl"])
        self.assertEqual((1, "jsonv2"), (answer["resultSetMetaData"]["numRows"], answer["resultSetMetaData"]["format"]))
        self.assertEqual([["1", None]], answer["data"])
        self.assertEqual(answer["data"], self.client.poll(answer["statementHandle"]).json["data"])

    def test_nullable_false_gives_the_word(self):
        self.assertEqual([["null"]], self.client.submit("SELECT NULL", "?nullable=false").json["data"])

    def test_asynchronous_submission(self):
        answer = self.client.submit("SELECT 7", "?async=true")
        self.assertEqual((202, "333334"), (answer.status, answer.json["code"]))
        self.assertEqual([["7"]], self.finished(answer.json["statementHandle"]).json["data"])

    def test_a_statement_that_takes_long_is_polled(self):
        self.client.fault(match={"path": "statements$"}, hold=0.3)
        answer = self.client.submit("SELECT 8")
        self.assertEqual(202, answer.status)
        self.assertEqual(202, self.client.poll(answer.json["statementHandle"]).status)
        self.assertEqual([["8"]], self.finished(answer.json["statementHandle"]).json["data"])

    def test_partitions(self):
        self.client.control("settings", {"partition_rows": 2})
        answer = self.client.submit("SELECT COLUMN1 FROM VALUES (1),(2),(3),(4),(5) ORDER BY 1")
        self.assertEqual([2, 2, 1], [part["rowCount"] for part in answer.json["resultSetMetaData"]["partitionInfo"]])
        self.assertEqual([["1"], ["2"]], answer.json["data"])
        self.assertIn('rel="next"', answer.headers["link"])
        handle = answer.json["statementHandle"]
        third = self.client.poll(handle, "?partition=2")
        self.assertEqual("gzip", third.headers["content-encoding"])
        self.assertEqual({"data": [["5"]]}, json.loads(gzip.decompress(third.body)))
        self.assert_refused(self.client.poll(handle, "?partition=3"), 400)

    def test_a_retry_with_the_request_id_runs_once(self):
        table = self.make_table("A INT")
        query = f"?requestId={uuid.uuid4()}"
        first = self.client.submit(f"INSERT INTO {table} VALUES (1)", query)
        again = self.client.submit(f"INSERT INTO {table} VALUES (1)", query + "&retry=true")
        self.assertEqual(first.json["statementHandle"], again.json["statementHandle"])
        self.assertEqual(first.json["stats"], again.json["stats"])
        self.assertEqual([["1"]], self.client.sql(f"SELECT COUNT(*) FROM {table}"))
        self.assert_refused(self.client.submit(f"INSERT INTO {table} VALUES (2)", query + "&retry=true"), 400, "390142")

    def test_without_retry_it_runs_again_and_a_failed_one_may_be_repeated(self):
        table = self.make_table("A INT")
        query = f"?requestId={uuid.uuid4()}"
        for _ in range(2):
            self.client.submit(f"INSERT INTO {table} VALUES (1)", query)
        self.assertEqual([["2"]], self.client.sql(f"SELECT COUNT(*) FROM {table}"))
        query = f"?requestId={uuid.uuid4()}&retry=true"
        self.assert_refused(self.client.submit(f"INSERT INTO {table}_2 VALUES (1)", query), 422, "002003")
        self.make_table("A INT", table + "_2")
        self.assertEqual(200, self.client.submit(f"INSERT INTO {table}_2 VALUES (1)", query).status)

    def test_a_lost_answer_then_a_retry(self):
        table = self.make_table("A INT")
        self.client.fault(match={"body": "INSERT"}, when="after", drop=True)
        query = f"?requestId={uuid.uuid4()}"
        with self.assertRaises(ConnectionError):
            self.client.submit(f"INSERT INTO {table} VALUES (1)", query)
        self.client.close()
        self.assertEqual(200, self.client.submit(f"INSERT INTO {table} VALUES (1)", query + "&retry=true").status)
        self.assertEqual([["1"]], self.client.sql(f"SELECT COUNT(*) FROM {table}"))

    def test_cancel(self):
        self.client.fault(match={"path": "statements$"}, hold=30)
        handle = self.client.submit("SELECT 1").json["statementHandle"]
        answer = self.client.call("POST", f"/api/v2/statements/{handle}/cancel", None, self.client.statement_headers())
        self.assertEqual((200, "000604", "57014"), (answer.status, answer.json["code"], answer.json["sqlState"]))
        self.assert_refused(self.finished(handle), 422, "000604")
        answer = self.client.call("POST", f"/api/v2/statements/{uuid.uuid4()}/cancel", None, self.client.statement_headers())
        self.assert_refused(answer, 422, "000709")

    def test_a_statement_over_its_timeout(self):
        self.client.fault(match={"path": "statements$"}, hold=30)
        handle = self.client.submit("SELECT 1", timeout=1).json["statementHandle"]
        self.assert_refused(self.finished(handle), 408, "000630")

    def test_the_lock_is_waited_for_and_can_be_cancelled(self):
        table = self.make_table("A INT")
        with self.emulator.store.writer:
            handle = self.client.submit(f"INSERT INTO {table} VALUES (1)", "?async=true").json["statementHandle"]
            self.assertEqual(202, self.client.poll(handle).status)
            self.client.call("POST", f"/api/v2/statements/{handle}/cancel", None, self.client.statement_headers())
            self.assert_refused(self.finished(handle), 422, "000604")

    def test_bindings(self):
        values = {"1": ("FIXED", "12345678901234567890123456789.5"), "2": ("TEXT", "it's"), "3": ("BOOLEAN", "true"),
                  "4": ("BINARY", "00ff"), "5": ("DATE", "1704153600000"), "6": ("TIMESTAMP_NTZ", "1704153600000001000"),
                  "7": ("TIME", "3723000004000"), "8": ("REAL", "0.1"), "9": ("TEXT", None)}
        bindings = {name: {"type": kind, "value": value} for name, (kind, value) in values.items()}
        answer = self.client.submit("SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?", bindings=bindings)
        self.assertEqual([["12345678901234567890123456789.5", "it's", "true", "00FF", "19724", "1704153600.000001000",
                           "3723.000004000", "0.1", None]], answer.json["data"], answer.body)
        self.assert_refused(self.client.submit("SELECT ?", bindings={"1": {"type": "FIXED", "value": "x"}}), 422, "100037")
        self.assert_refused(self.client.submit("SELECT ?"), 422, "002049")
        self.assert_refused(self.client.several("SELECT ?; SELECT 1", bindings={"1": {"type": "FIXED", "value": "1"}}), 422)

    def test_the_number_of_statements(self):
        self.assert_refused(self.client.submit("SELECT 1; SELECT 2"), 422, "000008")
        self.assert_refused(self.client.submit("SELECT 1; SELECT 2", parameters={"MULTI_STATEMENT_COUNT": "3"}), 422, "000008")
        self.assertEqual(200, self.client.submit("SELECT 1; SELECT ';'", parameters={"multi_statement_count": 2}).status)
        for statement in ("USE ROLE X", "BEGIN", "COMMIT", "ALTER SESSION SET X = 1", "SET A = 1"):
            self.assert_refused(self.client.submit(statement), 422, "391911")

    def test_requests_against_the_document(self):
        for body in ({"statement": 1}, {}, {"statement": "SELECT 1", "extra": 1}, {"statement": "SELECT 1", "timeout": "5"},
                     {"statement": "SELECT 1", "parameters": {"autocommit": "false"}},
                     {"statement": "SELECT ?", "bindings": {"1": {"type": "FIXED", "value": 1}}}, []):
            with self.subTest(body=body):
                answer = self.client.call("POST", "/api/v2/statements", json.dumps(body), self.client.statement_headers())
                self.assert_refused(answer, 400, "390142")
        self.assert_refused(self.client.submit("SELECT 1", "?requestId=not-a-uuid"), 400, "390142")
        self.assert_refused(self.client.submit("SELECT 1", "?unknown=1"), 400, "390142")

    def test_headers(self):
        whole = self.client.statement_headers()
        body = json.dumps({"statement": "SELECT 1"})
        for name, status, code in (("Accept", 400, "391902"), ("User-Agent", 400, "391903"), ("Authorization", 401, "390101")):
            headers = {key: value for key, value in whole.items() if key != name}
            self.assert_refused(self.client.call("POST", "/api/v2/statements", body, headers), status, code)
        self.assert_refused(self.client.submit("SELECT 1", headers={"Content-Type": "text/plain"}), 415)
        self.assert_refused(self.client.call("GET", "/api/v2/statements", None, whole), 405)
        self.assert_refused(self.client.call("GET", "/api/v2/statements/x", None, whole), 404)

    def test_roles(self):
        self.assert_refused(self.client.submit("SELECT 1", role="NOBODY"), 401, "390189")
        self.assertEqual(200, self.client.submit("SELECT 1", role="ETL_ROLE").status)

    def test_a_scoped_token_is_not_for_the_sql_api(self):
        headers = {**self.client.statement_headers(), **self.client.scoped_headers()}
        self.assert_refused(self.client.submit("SELECT 1", headers=headers), 401)
        headers = {**self.client.statement_headers(), "Authorization": "Bearer " + make_jwt()}
        del headers["X-Snowflake-Authorization-Token-Type"]
        self.assertEqual(200, self.client.call("POST", "/api/v2/statements", '{"statement":"SELECT 1"}', headers).status)


if __name__ == "__main__":
    unittest.main()
