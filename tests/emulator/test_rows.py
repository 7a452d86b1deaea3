"""One value at a time into its column's type; names as they are stored; types as they are written."""

import json
import random
import unittest

import harness  # noqa: F401 (finds the package)

from snowflake_emulator import lexer, names, rows
from snowflake_emulator.columns import Column, may_widen, parse_type
from snowflake_emulator.errors import HttpError, RowError, SqlError

REFUSED = object()


def into(kind, text, form="BASE64"):
    """What a column of this type makes of a JSON value."""
    row = rows.parse_lines(b'{"C":' + text.encode() + b"}\n")[0]
    try:
        return rows.convert(row, [Column("C", parse_type(kind))], form)[0]
    except RowError:
        return REFUSED


class Values(unittest.TestCase):
    def check(self, kind, cases):
        for text, expected in cases.items():
            with self.subTest(kind=kind, text=text):
                self.assertEqual(expected, into(kind, text))

    def test_numbers_are_exact(self):
        self.check("NUMBER(38,9)", {
            '"12345678901234567890123456789.123456789"': "12345678901234567890123456789.123456789", "1": "1.000000000",
            '"123456789012345678901234567890"': REFUSED, '"-0.0000000005"': "-0.000000001", '"0.00000000049"': "0.000000000",
            '"NaN"': REFUSED, '"1e3"': "1000.000000000", '""': REFUSED, '"1 2"': REFUSED, "true": REFUSED, "[]": REFUSED,
            "0.1": "0.100000000", '"0x10"': REFUSED, '"1e999999"': REFUSED})
        self.check("NUMBER(3,0)", {"999": "999", "1000": REFUSED, '"999.4"': "999", '"999.5"': REFUSED, '"-999"': "-999"})
        self.check("INT", {str(2**63): str(2**63), "9" * 38: "9" * 38, "9" * 39: REFUSED})

    def test_floats(self):
        self.check("FLOAT", {"0.1": "0.1", '"NaN"': "nan", '"Inf"': "inf", '"-inf"': "-inf", "1e308": "1e+308", '"1e309"': REFUSED,
                             "-0.0": "-0.0", "5e-324": "5e-324", '"x"': REFUSED, "false": REFUSED})

    def test_booleans(self):
        self.check("BOOLEAN", {"true": "true", "false": "false", '"TRUE"': "true", '"f"': "false", "1": "true", '"maybe"': REFUSED,
                               "2": REFUSED})

    def test_texts(self):
        self.check("VARCHAR(3)", {'"abc"': "abc", '"abcd"': REFUSED, '"ééé"': "ééé", '""': "", "12": "12", "true": REFUSED,
                                  '"\\ud83d\\ude00"': "\U0001F600", "null": None})
        self.check("VARCHAR", {'{"b":1,"a":[null]}': '{"a":[null],"b":1}'})

    def test_binaries(self):
        self.check("BINARY(3)", {'"AP8Q"': "00ff10", '"AP8"': REFUSED, '"AP8QAA=="': REFUSED, '""': "", '"AP_Q"': REFUSED,
                                 "1": REFUSED})
        self.assertEqual("00ff10", into("BINARY", '"00FF10"', "HEX"))
        self.assertIs(REFUSED, into("BINARY", '"0"', "HEX"))

    def test_dates_and_times(self):
        self.check("DATE", {'"2024-02-29"': "2024-02-29", '"2023-02-29"': REFUSED, '"0000-01-01"': REFUSED, '"9999-12-31"': "9999-12-31",
                            '"24-1-2"': REFUSED, '"infinity"': REFUSED, "20000": REFUSED, '"10000-01-01"': REFUSED})
        self.check("TIME(6)", {'"01:02:03.000004"': "01:02:03.000004", '"24:00:00"': REFUSED, '"01:02"': "01:02:00",
                               '"1:2:3"': REFUSED, '"23:59:60"': REFUSED})
        self.check("TIMESTAMP_NTZ(6)", {
            '"2024-01-02T03:04:05.000006"': "2024-01-02 03:04:05.000006", '"2024-01-02 03:04:05"': "2024-01-02 03:04:05",
            '"2024-01-02T03:04:05Z"': REFUSED, '"2024-01-02"': "2024-01-02 00:00:00", '"2024-13-02 00:00:00"': REFUSED})
        self.check("TIMESTAMP_TZ(6)", {
            '"2024-01-02T03:04:05.000006Z"': "2024-01-02 03:04:05.000006+00:00",
            '"2024-01-02T03:04:05+05:30"': "2024-01-02 03:04:05+05:30", '"2024-01-02T03:04:05 -0800"': "2024-01-02 03:04:05-08:00",
            '"2024-01-02T03:04:05"': "2024-01-02 03:04:05+00:00", '"2024-01-02T03:04:05+15:00"': REFUSED})
        self.check("TIMESTAMP_NTZ(9)", {'"2024-01-02 03:04:05.1234567"': REFUSED, '"2024-01-02 03:04:05.123456000"':
                                        "2024-01-02 03:04:05.123456"})

    def test_variants(self):
        self.check("VARIANT", {
            '{"b":1,"a":1.50}': '{"a":1.5,"b":1}', '"text"': '"text"', "null": None, "[1,null,true]": "[1,null,true]",
            "12345678901234567890123456789012345678": "12345678901234567890123456789012345678",
            "123456789012345678901234567890123456789": "1.2345678901234568e+38", "1e3": "1000.0", '{"a":1,"a":2}': '{"a":2}',
            '"\\u2028é"': '"\u2028é"'})
        self.check("OBJECT", {"[1]": REFUSED, "{}": "{}"})
        self.check("ARRAY", {"1": "[1]", '["x"]': '["x"]'})

    def test_not_null_and_missing_keys(self):
        columns = [Column("A", parse_type("INT"), nullable=False), Column("B", parse_type("INT"), default="1", nullable=False)]
        self.assertEqual(["1", rows.MISSING], rows.convert({"A": 1}, columns, "HEX"))
        for row in ({"B": 1}, {"A": None, "B": 1}, {"A": 1, "B": None}):
            self.assertRaises(RowError, rows.convert, row, columns, "HEX")

    def test_ndjson_is_strict(self):
        self.assertEqual(2, len(rows.parse_lines(b'{"A":1}\n\n{"A":2}\n\n')))
        for body in (b"", b"{}", b"[]\n", b"{}{}\n", b"{\"a\":Infinity}\n", b"\xef\xbb\xbf{}\n", b"{'a':1}\n", b"{\"a\":1,}\n",
                     b"{\"a\":\"\t\"}\n", b"{\"a\":\"\\udc00\"}\n", b"{\"a\":\"\xc0\x80\"}\n", b"{\"a\":1,\"a\":1}\n"):
            with self.subTest(body=body):
                self.assertRaises(HttpError, rows.parse_lines, body)


class Names(unittest.TestCase):
    def test_encoding_is_reversible_and_tells_case_apart(self):
        chance = random.Random(7)
        seen = {}
        for _ in range(5000):
            name = "".join(chance.choice('aAbB_~%."é0 7E') for _ in range(chance.randint(1, 8)))
            stored = names.encode(name)
            self.assertEqual(name, names.decode(stored))
            self.assertEqual(name, seen.setdefault(stored.lower(), name))

    def test_types(self):
        for text, expected in {"number": "NUMBER(38,0)", "INT": "NUMBER(38,0)", "decimal(5, 2)": "NUMBER(5,2)", "TEXT": "VARCHAR(16777216)",
                               "char": "VARCHAR(1)", "TIMESTAMP_TZ(6)": "TIMESTAMP_TZ(6)", "DOUBLE PRECISION": "FLOAT",
                               "datetime": "TIMESTAMP_NTZ(9)", "varbinary(9)": "BINARY(9)"}.items():
            self.assertEqual(expected, str(parse_type(text)))
        for text in ("NUMBER(39,0)", "NUMBER(38,38)", "VARCHAR(134217729)", "BINARY(67108865)", "JSONB", "TIME(10)", "VARCHAR(0)"):
            self.assertRaises(SqlError, parse_type, text)
        self.assertTrue(may_widen(parse_type("VARCHAR(5)"), parse_type("VARCHAR(6)")))
        self.assertFalse(may_widen(parse_type("NUMBER(5,1)"), parse_type("NUMBER(6,2)")))
        self.assertFalse(may_widen(parse_type("BINARY(5)"), parse_type("BINARY(6)")))

    def test_statements_are_split_outside_of_quotes(self):
        text = """SELECT ';', "a;b", $$;$$ -- ;
          ; /* ; */ BEGIN; INSERT INTO T VALUES ('it''s;\\';') ; COMMIT;
          BEGIN SELECT CASE WHEN 1 THEN 2 END; IF (1) THEN SELECT 1; END IF; BEGIN NULL; END; END; SELECT 2;;"""
        pieces = [piece for piece, _ in lexer.split(text)]
        self.assertEqual(["SELECT ';'", "BEGIN", "INSERT INTO", "COMMIT", "BEGIN SELECT", "SELECT 2"],
                         [piece[:len(start)] for piece, start in zip(pieces, ["SELECT ';'", "BEGIN", "INSERT INTO", "COMMIT",
                                                                             "BEGIN SELECT", "SELECT 2"])])
        self.assertEqual(6, len(pieces))

    def test_literals(self):
        for text, value in {r"'a\\b'": "a\\b", "'it''s'": "it's", r"'\n\t\''": "\n\t'", r"'\u00e9\x41'": "éA", r"$$a\n'$$": r"a\n'"}.items():
            self.assertEqual(value, lexer.string_value(lexer.tokenize(text)[0]))
        self.assertRaises(SqlError, lexer.tokenize, "SELECT 'open")
        self.assertEqual(json.dumps("x"), rows.variant_text("x"))


if __name__ == "__main__":
    unittest.main()
