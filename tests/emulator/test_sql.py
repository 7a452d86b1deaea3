"""SQL as the engine writes it: names, types, MERGE, transactions, blocks."""

import threading
import time
import unittest

from harness import EmulatorTest

from snowflake_emulator.session import Context

UNCHANGED = """
MERGE INTO DB.S."T" t USING (
  SELECT "ID", "_SEQ", "_OP", "A",
    FIRST_VALUE(IFF(ARRAY_CONTAINS('BIG'::VARIANT, "_UNCHANGED"), NULL, OBJECT_CONSTRUCT_KEEP_NULL('v', "BIG"))) IGNORE NULLS
      OVER (PARTITION BY "ID" ORDER BY "_SEQ" DESC ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS "BOX"
  FROM DB.S."L" WHERE "_SEQ" > '00' AND "_SEQ" <= '99'
  QUALIFY ROW_NUMBER() OVER (PARTITION BY "ID" ORDER BY "_SEQ" DESC) = 1) s
ON t."ID" = s."ID"
WHEN MATCHED AND s."_OP" = 'D' THEN DELETE
WHEN MATCHED THEN UPDATE SET "A" = s."A", "BIG" = IFF(s."BOX" IS NULL, t."BIG", s."BOX":v::VARCHAR)
WHEN NOT MATCHED AND s."_OP" <> 'D' THEN INSERT ("ID", "A", "BIG") VALUES (s."ID", s."A", s."BOX":v::VARCHAR)
"""


class Sql(EmulatorTest):
    def setUp(self):
        super().setUp()
        self.addCleanup(self.client.control, "sql", {"statement": "DROP SCHEMA IF EXISTS DB.S; CREATE SCHEMA DB.S"})

    def run_all(self, *statements):
        for statement in statements:
            self.client.sql(statement)

    def refused(self, statement, code, **more):
        answer = self.client.submit(statement, **more)
        self.assert_refused(answer, 422, code)
        return answer.json

    def stats(self, statement):
        answer = self.client.submit(statement)
        self.assertEqual(200, answer.status, answer.body)
        stats = answer.json["stats"]
        return stats["numRowsInserted"], stats["numRowsUpdated"], stats["numRowsDeleted"]

    def test_values_in_the_texts_of_the_api(self):
        answer = self.client.submit(
            "SELECT 1::NUMBER(10,2) AS N, 'NaN'::FLOAT AS F, TRUE AS B, '2024-01-02'::DATE AS D, '01:02:03.5'::TIME AS T, "
            "'1969-12-31 23:59:59.5'::TIMESTAMP_NTZ AS TS, '2024-01-02 00:00:00Z'::TIMESTAMP_TZ AS TZ, 'ff00'::BINARY AS X, "
            "PARSE_JSON('{\"a\":1}') AS V, NULL AS E, 'it''s \\\\ \\n' AS S")
        self.assertEqual([["1.00", "NaN", "true", "19724", "3723.500000000", "-0.500000000", "1704153600.000000000 1440", "FF00",
                           '{"a":1}', None, "it's \\ \n"]], answer.json["data"])
        kinds = [column["type"] for column in answer.json["resultSetMetaData"]["rowType"]]
        self.assertEqual(["fixed", "real", "boolean", "date", "time", "timestamp_ntz", "timestamp_tz", "binary", "variant"],
                         kinds[:9])

    def test_expressions_inside_expressions(self):
        self.refused("SELECT ((1/0)::VARCHAR)::NUMBER", "100051")
        self.refused("SELECT ARRAY_CONTAINS((1/0)::VARIANT, ARRAY_CONSTRUCT(1))", "100051")
        self.assertEqual([["FF", "1.5", "3", "b", "2", "true", "false", None]], self.client.sql(
            "SELECT OBJECT_CONSTRUCT('x', 'ff'::BINARY):x::VARCHAR, (1.5::NUMBER(3,1))::VARIANT::VARCHAR, "
            "ARRAY_SIZE(PARSE_JSON('[1,2,3]')), PARSE_JSON('[\"a\",\"b\"]')[1]::VARCHAR, "
            "PARSE_JSON('{\"a\":{\"b\":[1,2]}}'):a.b[1]::NUMBER, ARRAY_CONTAINS('a'::VARIANT, PARSE_JSON('[\"a\"]')), "
            "ARRAY_CONTAINS('x'::VARIANT, PARSE_JSON('[\"a\"]')), ARRAY_CONTAINS('x'::VARIANT, NULL::ARRAY)"))

    def test_elements_of_arrays_come_and_go(self):
        self.run_all("CREATE TABLE DB.S.T (A ARRAY)", "INSERT INTO DB.S.T SELECT PARSE_JSON('[\"a\",\"b\"]')",
                     "UPDATE DB.S.T SET A = ARRAY_APPEND(ARRAY_REMOVE(A, 'a'::VARIANT), 'c'::VARIANT)")
        self.assertEqual([['["b","c"]']], self.client.sql("SELECT A FROM DB.S.T"))

    def test_names_differing_in_case_only(self):
        self.run_all('CREATE TABLE "orders" ("a" INT, A INT, "A b""c" INT)', "CREATE TABLE orders (x INT)",
                     'INSERT INTO "orders" VALUES (1, 2, 3)', "INSERT INTO ORDERS VALUES (9)")
        answer = self.client.submit('SELECT o."a", o.a, o."A b""c" FROM "orders" o')
        self.assertEqual([["1", "2", "3"]], answer.json["data"])
        self.assertEqual(["a", "A", 'A b"c'], [column["name"] for column in answer.json["resultSetMetaData"]["rowType"]])
        self.assertEqual([["9"]], self.client.sql("SELECT * FROM DB.S.ORDERS"))
        self.refused('SELECT "A" FROM ORDERS', "000904")

    def test_tables_are_made_altered_and_described(self):
        self.run_all("CREATE TRANSIENT TABLE IF NOT EXISTS DB.S.T (ID NUMBER(19,0) NOT NULL, V VARCHAR(10) DEFAULT 'x', "
                     "PRIMARY KEY (ID)) DATA_RETENTION_TIME_IN_DAYS = 1 COMMENT = 'made'",
                     "CREATE TABLE IF NOT EXISTS T (OTHER INT)", "INSERT INTO T (ID) VALUES (1)",
                     "ALTER TABLE T ADD COLUMN IF NOT EXISTS C VARCHAR(5)", "ALTER TABLE T ADD COLUMN D NUMBER(5,2) DEFAULT 7",
                     "ALTER TABLE T ALTER COLUMN C SET DATA TYPE VARCHAR(50)", 'ALTER TABLE T RENAME COLUMN C TO "c"',
                     "ALTER TABLE T DROP COLUMN IF EXISTS NOPE", "ALTER TABLE T SET ERROR_LOGGING = TRUE")
        self.assertEqual([["ID", "NUMBER(19,0)", "N"], ["V", "VARCHAR(10)", "Y"], ["c", "VARCHAR(50)", "Y"],
                          ["D", "NUMBER(5,2)", "Y"]], [[r[0], r[1], r[3]] for r in self.client.sql("DESC TABLE T")])
        self.assertEqual([["1", "x", None, "7.00"]], self.client.sql("SELECT * FROM T"))
        self.refused("ALTER TABLE T ALTER COLUMN D SET DATA TYPE NUMBER(5,3)", "000002")
        self.refused("ALTER TABLE T ALTER COLUMN V SET DATA TYPE VARCHAR(2)", "000002")
        self.refused("CREATE TABLE T (A INT)", "002002")
        self.refused("INSERT INTO T (V) VALUES ('no id')", "100072")
        self.refused("SELECT * FROM NOWHERE", "002003")
        self.run_all("ALTER TABLE T DROP COLUMN D", "DROP TABLE T", "DROP TABLE IF EXISTS T")
        self.refused("DROP TABLE T", "002003")

    def test_swap_and_rename(self):
        self.run_all("CREATE TABLE A (X INT)", "CREATE TABLE B (Y VARCHAR)", "INSERT INTO A VALUES (1)", "ALTER TABLE A SWAP WITH B")
        self.assertEqual([["1"]], self.client.sql("SELECT X FROM B"))
        self.assertEqual([], self.client.sql("SELECT Y FROM A"))
        self.run_all("CREATE SCHEMA DB.S2", "ALTER TABLE B RENAME TO DB.S2.C")
        self.assertEqual([["1"]], self.client.sql("SELECT X FROM DB.S2.C"))
        self.run_all("DROP SCHEMA DB.S2")

    def test_counts_of_changes(self):
        self.run_all("CREATE TABLE T (A INT, B VARCHAR)")
        self.assertEqual((3, 0, 0), self.stats("INSERT INTO T VALUES (1,'a'),(2,'b'),(3,'c')"))
        self.assertEqual((0, 2, 0), self.stats("UPDATE T SET B = 'x' WHERE A >= 2"))
        self.assertEqual((0, 0, 1), self.stats("DELETE FROM T USING (SELECT 3 AS K) s WHERE A = s.K"))
        self.assertEqual((2, 0, 0), self.stats("INSERT INTO T SELECT A + 10, B FROM T"))
        answer = self.client.submit("UPDATE T SET B = NULL")
        self.assertEqual(["number of rows updated", "number of multi-joined rows updated"],
                         [column["name"] for column in answer.json["resultSetMetaData"]["rowType"]])
        self.assertEqual([["4", "0"]], answer.json["data"])

    def test_merge_with_unchanged_values(self):
        self.run_all('CREATE TABLE "T" ("ID" INT, "A" VARCHAR, "BIG" VARCHAR)',
                     'CREATE TABLE "L" ("ID" INT, "A" VARCHAR, "BIG" VARCHAR, "_OP" VARCHAR, "_SEQ" VARCHAR, "_UNCHANGED" ARRAY)',
                     """INSERT INTO "T" VALUES (1,'a','kept'), (2,'b','old'), (3,'c','gone'), (5, 'e', 'old')""")
        for row in ("1,'a1',NULL,'U','01',ARRAY_CONSTRUCT('BIG')", "2,'b1','new \"é','U','01',NULL",
                    "2,'b2',NULL,'U','02',ARRAY_CONSTRUCT('X','BIG')", "3,NULL,NULL,'D','03',NULL", "4,'d','ins','I','04',NULL",
                    "6,'f','x','I','05',NULL", "6,NULL,NULL,'D','06',NULL", "5,'e1',NULL,'U','07',NULL"):
            self.client.sql(f'INSERT INTO "L" SELECT {row}')
        answer = self.client.submit(UNCHANGED)
        self.assertEqual([["1", "3", "1"]], answer.json["data"], answer.body)
        self.assertEqual((1, 3, 1), tuple(answer.json["stats"][f"numRows{w}"] for w in ("Inserted", "Updated", "Deleted")))
        self.assertEqual([["1", "a1", "kept"], ["2", "b2", 'new "é'], ["4", "d", "ins"], ["5", "e1", None]],
                         self.client.sql('SELECT * FROM "T" ORDER BY 1'))

    def test_boxes_keep_every_type(self):
        self.run_all("CREATE TABLE B (N NUMBER(38,9), F FLOAT, X BINARY, D DATE, TS TIMESTAMP_NTZ, TZ TIMESTAMP_TZ, V VARIANT, BO BOOLEAN)",
                     "INSERT INTO B SELECT '12345678901234567890123456789.123456789', 'NaN', 'ff00', '2024-01-02', "
                     "'2024-01-02 03:04:05.000006', '2024-01-02 03:04:05.000006Z', PARSE_JSON('{\"a\":[1,\"x\"]}'), TRUE")
        columns = (("N", "NUMBER(38,9)"), ("F", "FLOAT"), ("X", "BINARY"), ("D", "DATE"), ("TS", "TIMESTAMP_NTZ"),
                   ("TZ", "TIMESTAMP_TZ"), ("V", "VARIANT"), ("BO", "BOOLEAN"))
        boxed = ", ".join(f"OBJECT_CONSTRUCT_KEEP_NULL('v', {name}) AS {name}" for name, _ in columns)
        opened = ", ".join(f"{name}:v::{kind}" for name, kind in columns)
        self.assertEqual(self.client.sql("SELECT * FROM B"), self.client.sql(f"SELECT {opened} FROM (SELECT {boxed} FROM B)"))

    def test_ambiguous_changes_are_refused(self):
        self.run_all("CREATE TABLE T (A INT, B INT)", "INSERT INTO T VALUES (1, 1)")
        double = "(SELECT 1 AS K, 2 AS V UNION ALL SELECT 1, 3) s"
        self.refused(f"MERGE INTO T USING {double} ON T.A = s.K WHEN MATCHED THEN UPDATE SET B = s.V", "100090")
        self.assertEqual((0, 1, 0), self.stats(f"MERGE INTO T USING {double} ON T.A = s.K WHEN MATCHED AND s.V = 2 THEN "
                                               "UPDATE SET T.B = s.V"))
        self.refused(f"UPDATE T SET B = s.V FROM {double} WHERE T.A = s.K", "100090")

    def test_a_transaction_commits_as_one(self):
        self.run_all("CREATE TABLE T (A INT)")
        answer = self.client.several("BEGIN; INSERT INTO T VALUES (1); UPDATE T SET A = 2; COMMIT")
        self.assertEqual(200, answer.status, answer.body)
        self.assertEqual(4, len(answer.json["statementHandles"]))
        child = self.client.poll(answer.json["statementHandles"][2])
        self.assertEqual(1, child.json["stats"]["numRowsUpdated"])
        self.assertEqual([["2"]], self.client.sql("SELECT * FROM T"))

    def test_a_failed_transaction_leaves_nothing(self):
        self.run_all("CREATE TABLE T (A INT)", "CREATE TABLE W (APPLIED VARCHAR)", "INSERT INTO W VALUES ('05')")
        text = ("BEGIN;\nUPDATE W SET APPLIED = '09' WHERE APPLIED = '{lo}';\n"
                "SELECT 1/IFF((SELECT COUNT(*) FROM W WHERE APPLIED = '09' AND '{lo}' = '05') = 1, 1, 0);\n"
                "INSERT INTO T VALUES (1); COMMIT")
        answer = self.client.several(text.format(lo="04"))
        self.assert_refused(answer, 422, "100132")
        self.assertEqual("P0000", answer.json["sqlState"])
        self.assertIn("at line 3, position 0", answer.json["message"])
        self.assertIn("Division by zero", answer.json["message"])
        self.assertEqual([], self.client.sql("SELECT * FROM T"))
        self.assertEqual(200, self.client.several(text.format(lo="05")).status)
        self.assertEqual([["09"]], self.client.sql("SELECT * FROM W"))

    def test_without_a_transaction_what_ran_before_a_failure_stays(self):
        self.run_all("CREATE TABLE T (A INT)")
        self.assert_refused(self.client.several("INSERT INTO T VALUES (1); SELECT 1/0; INSERT INTO T VALUES (2)"), 422, "100132")
        self.assertEqual([["1"]], self.client.sql("SELECT * FROM T"))

    def test_an_open_transaction_ends_with_its_request_and_ddl_commits_it(self):
        self.run_all("CREATE TABLE T (A INT)")
        self.client.several("BEGIN; INSERT INTO T VALUES (1)")
        self.assertEqual([], self.client.sql("SELECT * FROM T"))
        self.client.several("BEGIN; INSERT INTO T VALUES (1); CREATE TABLE U (A INT); ROLLBACK")
        self.assertEqual([["1"]], self.client.sql("SELECT * FROM T"))

    def test_two_mergers_never_both_pass_the_guard(self):
        self.run_all("CREATE TABLE W (APPLIED INT)", "CREATE TABLE LOG (BY_WHOM INT)", "INSERT INTO W VALUES (0)")
        texts = [f"BEGIN; UPDATE W SET APPLIED = 1 WHERE APPLIED = 0; SELECT 1/COUNT_IF(APPLIED = 1 AND {n} = {n}) FROM W; "
                 f"INSERT INTO LOG VALUES ({n}); COMMIT" for n in range(4)]
        handles = [self.client.submit(text, "?async=true", parameters={"MULTI_STATEMENT_COUNT": "0"}).json["statementHandle"]
                   for text in texts]
        for handle in handles:
            while self.client.poll(handle).status == 202:
                pass
        self.assertEqual([["1"]], self.client.sql("SELECT * FROM W"))
        self.assertEqual([["4"]], self.client.sql("SELECT COUNT(*) FROM LOG"))

    def test_rows_are_streamed_while_a_transaction_is_open(self):
        self.run_all("CREATE TABLE T (A INT)", "CREATE TABLE L (A INT)", "INSERT INTO L VALUES (0)")
        token = self.client.open("L", "open").json["next_continuation_token"]
        session = self.emulator.engine.session(Context("ETL_USER", "ETL_ROLE", "DB", "S", "ETL_WH"))
        session.run("BEGIN")
        session.run("INSERT INTO T SELECT A FROM L")
        for number in range(1, 6):
            token = self.client.append("L", token, [{"A": number}], channel="open", start=f"{number}",
                                       end=f"{number}").json["next_continuation_token"]
            self.client.wait_committed("L", f"{number}", "open")
        session.run("DELETE FROM L WHERE A < 3")
        session.run("COMMIT")
        session.close()
        self.assertEqual([["0"]], self.client.sql("SELECT * FROM T"))
        # What was streamed after the transaction's first change is not seen by it, so not deleted either.
        self.assertEqual([["1"], ["2"], ["3"], ["4"], ["5"]], self.client.sql("SELECT * FROM L ORDER BY A"))

    def test_rows_are_read_while_tables_change_their_names(self):
        table, other = self.make_table("A INT"), "OTHER"
        renamer = self.client_of()

        def rename():
            for _ in range(60):
                renamer.control("sql", {"statement": f"ALTER TABLE DB.S.{table} RENAME TO DB.S.{other}"})
                renamer.control("sql", {"statement": f"ALTER TABLE DB.S.{other} RENAME TO DB.S.{table}"})

        thread = threading.Thread(target=rename)
        thread.start()
        seen = set()
        while thread.is_alive():
            answer = self.client.call("GET", f"/_control/rows/DB/S/{table}", None,
                                      {"Authorization": f"Bearer {self.client.control_token}"})
            seen.add(answer.status)
        thread.join()
        self.assertLessEqual(seen, {200, 400})

    def test_blocks(self):
        self.run_all("CREATE TABLE T (A INT)")
        good = "BEGIN BEGIN TRANSACTION; INSERT INTO T VALUES (1); COMMIT; EXCEPTION WHEN OTHER THEN ROLLBACK; RAISE; END;"
        self.client.sql(f"EXECUTE IMMEDIATE $$ {good} $$")
        bad = good.replace("COMMIT", "SELECT 1/0; COMMIT")
        self.refused(f"EXECUTE IMMEDIATE $$ {bad} $$", "100051")
        self.assertEqual([["1"]], self.client.sql("SELECT * FROM T"))
        block = """DECLARE hi VARCHAR DEFAULT 'x'; BEGIN
          LET n NUMBER := (SELECT COUNT(*) FROM T);
          IF (n = 1 AND hi = 'x') THEN INSERT INTO T SELECT :n + 41; ELSE INSERT INTO T VALUES (0); END IF;
          n := SQLROWCOUNT;
          BEGIN SELECT 1/0; EXCEPTION WHEN OTHER THEN NULL; END;
          RETURN CASE WHEN n = 1 THEN 'one' ELSE 'other' END;
        END"""
        self.assertEqual([["one"]], self.client.sql(f"EXECUTE IMMEDIATE $${block}$$"))
        self.assertEqual([["1"], ["42"]], self.client.sql("SELECT A FROM T ORDER BY A"))
        self.refused("EXECUTE IMMEDIATE $$ BEGIN BEGIN TRANSACTION; INSERT INTO T VALUES (9); END $$", "090232")
        self.refused("BEGIN SELECT 1; END", "001003")

    def test_a_warehouse_is_needed_for_rows_not_for_ddl(self):
        self.assertEqual(200, self.client.submit("CREATE TABLE T (A INT)", warehouse=None).status)
        self.assertEqual(200, self.client.submit("SELECT CURRENT_ROLE()", warehouse=None).status)
        self.refused("SELECT * FROM T", "000606", warehouse=None)
        self.refused("INSERT INTO T VALUES (1)", "000606", warehouse=None)
        self.refused("SELECT 1; SELECT 2", "000606", warehouse=None, parameters={"MULTI_STATEMENT_COUNT": "2"})

    def test_context_and_catalog(self):
        self.assertEqual([["ETL_USER", "ETL_ROLE", "DB", "S", "ETL_WH"]], self.client.sql(
            "SELECT CURRENT_USER(), CURRENT_ROLE(), CURRENT_DATABASE(), CURRENT_SCHEMA(), CURRENT_WAREHOUSE()"))
        self.run_all("CREATE TABLE T (A INT NOT NULL, B VARCHAR(7))")
        self.assertEqual([["A", "NUMBER", "NO"], ["B", "TEXT", "YES"]], self.client.sql(
            "SELECT COLUMN_NAME, DATA_TYPE, IS_NULLABLE FROM DB.INFORMATION_SCHEMA.COLUMNS WHERE TABLE_SCHEMA = 'S' AND "
            "TABLE_NAME = 'T' ORDER BY ORDINAL_POSITION"))
        self.assertEqual("false", self.client.sql("SHOW PARAMETERS LIKE 'QUOTED_IDENTIFIERS_IGNORE_CASE'")[0][1])
        self.assertEqual(["T"], [row[1] for row in self.client.sql("SHOW TABLES LIKE 't' IN SCHEMA DB.S")])
        self.client.open("T", "chan")
        self.assertEqual(["chan"], [row[1] for row in self.client.sql("SHOW CHANNELS IN SCHEMA DB.S")])

    def test_the_time_is_that_of_the_emulators_clock(self):
        self.addCleanup(self.client.control, "settings", {"clock_skew": 0.0})
        self.client.control("settings", {"clock_skew": 45.0})
        for function in ("CURRENT_TIMESTAMP()", "CURRENT_TIMESTAMP"):
            told = float(self.client.sql(f"SELECT {function} AS NOW")[0][0].split()[0])
            self.assertAlmostEqual(45, told - time.time(), delta=5)

    def test_a_parameter_is_shown_as_it_is_set(self):
        self.addCleanup(self.client.control, "settings", {"quoted_identifiers_ignore_case": False})
        self.client.control("settings", {"quoted_identifiers_ignore_case": True})
        self.assertEqual(["true", "false"], self.client.sql("SHOW PARAMETERS LIKE 'QUOTED_IDENTIFIERS_IGNORE_CASE'")[0][1:3])

    def test_hostile_literals_and_names(self):
        name = 'a"b;--\'\\ $$ é\u2028'
        quoted = '"' + name.replace('"', '""') + '"'
        self.run_all(f"CREATE TABLE {quoted} ({quoted} VARCHAR)", f"INSERT INTO {quoted} SELECT 'x;''\\\\--' || $$a'\\n;$$")
        self.assertEqual([["x;'\\--a'\\n;"]], self.client.sql(f"SELECT {quoted} FROM {quoted} WHERE {quoted} <> ''"))


if __name__ == "__main__":
    unittest.main()
