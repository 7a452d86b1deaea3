"""Scripted faults, the control endpoint, tasks, and the process itself."""

import http.client
import json
import pathlib
import signal
import ssl
import tempfile
import time
import unittest

from harness import SETUP, EmulatorTest, Process, make_jwt

SHAPES = {
    "code": b'{"code": "X", "message": "m"}', "error_code": b'{"error_code": "X", "message": "m"}',
    "status_code": b'{"status_code": 4, "message": "m"}', "string": b'"X"', "text": b"m",
    "html": b"<html><head><title>503</title></head><body>m</body></html>", "empty": b"",
}


class Faults(EmulatorTest):
    def setUp(self):
        super().setUp()
        self.table = self.make_table("ID INT")
        self.token = self.client.open(self.table).json["next_continuation_token"]

    def append(self, number=1, **more):
        return self.client.append(self.table, self.token, [{"ID": number}], start=f"{number}", end=f"{number}", **more)

    def test_every_shape_of_an_error(self):
        for shape, body in SHAPES.items():
            self.client.fault(match={"path": "/rows$"}, answer={"status": 503, "shape": shape, "code": "X", "message": "m",
                                                                "headers": {"Retry-After": 3}})
            answer = self.append()
            self.assertEqual((503, body, "3"), (answer.status, answer.body, answer.headers["retry-after"]))
        self.assertEqual(200, self.append().status)

    def test_statuses_as_often_as_scripted_on_what_matches(self):
        for status in (401, 403, 408, 409, 413, 429, 500, 502, 504):
            self.client.fault(match={"method": "POST", "path": "/rows$", "query": "retryCount=0"}, skip=1, times=2,
                              answer={"status": status})
            statuses = [self.append(n).status for n in range(4)]
            self.assertEqual([statuses[0], status, status, statuses[3]], statuses)
            self.client.control("faults", method="DELETE")
            time.sleep(0.4)

    def test_a_dropped_connection_before_and_after(self):
        self.client.fault(match={"path": "/rows$"}, drop=True)
        with self.assertRaises(ConnectionError):
            self.append()
        self.client.close()
        self.client.control("commit", {})
        self.assertEqual([], self.client.rows(self.table))
        self.client.fault(match={"path": "/rows$"}, drop=True, when="after")
        with self.assertRaises(ConnectionError):
            self.append()
        self.client.close()
        self.client.wait_committed(self.table, "1")
        self.assert_refused(self.append(), 400, "STALE_CONTINUATION_TOKEN_SEQUENCER")

    def test_cut_and_slow_answers(self):
        self.client.fault(match={"path": "bulk-channel-status$"}, cut=10)
        with self.assertRaises(http.client.IncompleteRead):
            self.client.status(self.table)
        self.client.close()
        self.client.fault(match={"path": "bulk-channel-status$"}, bytes_per_second=2000)
        began = time.monotonic()
        self.assertEqual(200, self.client.status(self.table).status)
        self.assertGreater(time.monotonic() - began, 0.15)
        self.client.fault(match={"path": "bulk-channel-status$"}, delay=0.2)
        began = time.monotonic()
        self.client.status(self.table)
        self.assertGreater(time.monotonic() - began, 0.2)

    def test_channels_lost_taken_over_and_stale(self):
        for action, code in (("stale", "STALE_CONTINUATION_TOKEN_SEQUENCER"), ("take_over", "STALE_CONTINUATION_TOKEN_SEQUENCER"),
                             ("lose", "ERR_CHANNEL_DOES_NOT_EXIST_OR_NOT_AUTHORIZED")):
            self.client.fault(match={"path": "/rows$"}, channel=action)
            answer = self.append()
            self.assertEqual(code, answer.json["code"])
            self.token = self.client.open(self.table).json["next_continuation_token"]
        self.assertEqual(200, self.append().status)

    def test_a_row_is_rejected_while_the_offset_advances(self):
        self.client.fault(match={"path": "/rows$"}, reject_rows=[0])
        self.assertEqual(200, self.append().status)
        status = self.client.wait_committed(self.table, "1")
        self.assertEqual((0, 1), (status["rows_inserted"], status["rows_error_count"]))

    def test_tokens_are_revoked_by_a_rule(self):
        self.client.fault(match={"path": "/rows$"}, revoke_tokens=True)
        self.assert_refused(self.append(), 401, "390318")
        self.client.token = None
        self.assertEqual(200, self.append().status)

    def test_control_needs_its_token_and_knows_its_words(self):
        answer = self.client.call("GET", "/_control/state", None, {"Authorization": "Bearer x"})
        self.assert_refused(answer, 403)
        headers = {"Authorization": f"Bearer {self.client.control_token}"}
        for verb, body in (("settings", {"nope": 1}), ("settings", {"commit_lag": "x"}), ("faults", {"faults": [{"nope": 1}]}),
                           ("setup", {"nope": 1}), ("channels", {"action": "nope"})):
            self.assert_refused(self.client.call("POST", f"/_control/{verb}", json.dumps(body), headers), 400)
        self.assert_refused(self.client.call("GET", "/_control/nope", None, headers), 404)

    def test_the_log_counts_and_holds_no_token(self):
        self.client.control("requests", method="DELETE")
        self.append()
        seen = self.client.control("requests?path=/rows")
        self.assertEqual(1, seen["counts"]["POST rows 200"])
        self.assertEqual(["1", "1"], seen["requests"][0]["offsets"])
        text = json.dumps(seen)
        self.assertNotIn(self.client.token, text)
        self.assertNotIn(self.token, text)

    def test_discarding_checks_but_keeps_nothing(self):
        self.client.control("settings", {"discard_rows": True})
        self.append()
        self.assertEqual(1, self.client.wait_committed(self.table, "1")["rows_inserted"])
        self.assertEqual([], self.client.rows(self.table))


class Tasks(EmulatorTest):
    def setUp(self):
        super().setUp()
        self.table = self.make_table("A INT")
        self.task = "K" + self.table

    def run_task(self):
        return self.client.control("tasks", {"task": ["DB", "S", self.task]})

    def test_a_task_is_made_run_replaced_and_dropped(self):
        block = (f"BEGIN BEGIN TRANSACTION; INSERT INTO {self.table} VALUES (1); COMMIT; "
                 "EXCEPTION WHEN OTHER THEN ROLLBACK; RAISE; END")
        self.client.sql(f"CREATE OR REPLACE TASK {self.task} WAREHOUSE = ETL_WH SCHEDULE = '60 SECONDS' AS {block}")
        row, = self.client.sql(f"SHOW TASKS LIKE '{self.task}' IN SCHEMA DB.S")
        self.assertIn("suspended", row)
        self.assertEqual("SUCCEEDED", self.run_task()["state"])
        self.client.sql(f"ALTER TASK {self.task} RESUME")
        self.assert_refused(self.client.submit(f"ALTER TASK {self.task} MODIFY AS SELECT 1/0"), 422)
        self.client.sql(f"ALTER TASK {self.task} SUSPEND")
        self.client.sql(f"ALTER TASK {self.task} MODIFY AS SELECT 1/0")
        failed = self.run_task()
        self.assertEqual("FAILED", failed["state"])
        self.assertIn("Division by zero", failed["error"])
        self.assertEqual([["FAILED", "100051"], ["SUCCEEDED", None]], self.client.sql(
            f"SELECT STATE, ERROR_CODE FROM TABLE(DB.INFORMATION_SCHEMA.TASK_HISTORY(TASK_NAME => '{self.task}')) "
            "ORDER BY QUERY_START_TIME DESC"))
        self.client.sql(f"DROP TASK IF EXISTS {self.task}")
        self.assert_refused(self.client.submit(f"EXECUTE TASK {self.task}"), 422, "002003")
        self.assertEqual([["1"]], self.client.sql(f"SELECT * FROM {self.table}"))

    def test_runs_do_not_overlap(self):
        self.client.sql(f"CREATE TASK {self.task} WAREHOUSE = ETL_WH SCHEDULE = '60 SECONDS' AS INSERT INTO {self.table} VALUES (1)")
        with self.emulator.store.writer:
            runs = {self.emulator.tasks.start(("DB", "S", self.task)) for _ in range(3)}
        self.assertEqual(1, len(runs))
        runs.pop().join()
        self.assertEqual(1, len(self.client.rows(self.table)))

    def test_the_schedule(self):
        self.assert_refused(self.client.submit(f"CREATE TASK {self.task} SCHEDULE = '1 SECOND' AS SELECT 1"), 422)
        self.client.sql(f"CREATE TASK {self.task} WAREHOUSE = ETL_WH SCHEDULE = '10 SECONDS' AS INSERT INTO {self.table} VALUES (1)")
        self.client.sql(f"ALTER TASK {self.task} RESUME")
        deadline = time.monotonic() + 10
        while not self.client.rows(self.table) and time.monotonic() < deadline:
            time.sleep(0.1)
            if ("DB", "S", self.task) in self.emulator.tasks.next:
                self.emulator.tasks.next[("DB", "S", self.task)] = 0.0
        self.client.sql(f"DROP TASK {self.task}")
        self.assertNotEqual([], self.client.rows(self.table))


class TheProcess(unittest.TestCase):
    def test_it_says_its_ports_and_ends_with_its_standard_input(self):
        with tempfile.TemporaryDirectory() as folder:
            state = pathlib.Path(folder, "state.json")
            process = Process("--port", 0, "--tls-port", 0, "--state-file", state, "--certificates", folder)
            try:
                self.assertEqual(process.ready, json.loads(state.read_text()))
                context = ssl.create_default_context(cafile=process.ready["ca_file"])
                connection = http.client.HTTPSConnection("127.0.0.1", process.ready["tls_port"], context=context, timeout=10)
                connection.request("GET", "/v2/streaming/hostname", headers={"Authorization": "Bearer " + make_jwt()})
                self.assertEqual(401, connection.getresponse().status)
                connection.close()
            finally:
                self.assertEqual(0, process.stop())

    def test_a_signal_ends_it(self):
        process = Process("--port", 0)
        process.process.send_signal(signal.SIGTERM)
        self.assertEqual(0, process.process.wait(20))
        process.stop()

    def test_everything_committed_survives_its_death(self):
        with tempfile.TemporaryDirectory() as folder:
            setup = pathlib.Path(folder, "setup.json")
            setup.write_text(json.dumps({**SETUP, "statements": ["CREATE TABLE DB.S.T (ID INT)"]}))
            data = pathlib.Path(folder, "data.duckdb")
            process = Process("--port", 0, "--data", data, "--setup", setup)
            client = process.client()
            token = client.open("T").json["next_continuation_token"]
            client.append("T", token, [{"ID": 1}], start="1", end="1")
            client.wait_committed("T", "1")
            client.close()
            process.kill()
            process = Process("--port", 0, "--data", data)
            try:
                again = process.client()
                again.token = client.token
                self.assertEqual([{"ID": "1"}], again.rows("T"))
                self.assertEqual(400, again.append("T", token, [{"ID": 2}]).status)
                status = again.open("T").json["channel_status"]
                self.assertEqual(("1", 1), (status["last_committed_offset_token"], status["rows_inserted"]))
                again.close()
            finally:
                process.stop()


if __name__ == "__main__":
    unittest.main()
