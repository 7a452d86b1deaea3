#!/usr/bin/env python3
"""Every emitted statement is one statement to a Snowflake parser that is not ours, and names what it should name.

  test_statements.py       ETL_STATEMENT_TOOL names the statement tool
"""

import logging
import os
import pathlib
import re
import sys
import unittest

import sqlglot
from sqlglot import exp

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import engine  # noqa: E402

logging.getLogger("sqlglot").setLevel(logging.ERROR)

HOSTILE = [
    "orders", "Mixed Case", "ORDERS", "select", 'quo"te', '"', '""', '"; DROP TABLE x; --', "; DROP TABLE x; --", "'", "''",
    "it's", "\\", "\\'", "\\\\' OR 1=1 --", "$$", "$$; END $$", "new\nline", "cr\r\nlf", "tab\tbed", "a.b.c", "--", "/* x */",
    "*/", "{schema}", "{0} {} %s", "?", ":x", "&var", "@stage", "ä" * 31 + "x", "раураl", "orders\u200b", "\u202etrap",
    "🐘" * 15, "e\u0301", "\u0001", " ", " lead", "COMMIT", "a;COMMIT;b", "x' || 'y", "T-STREAMING", "1st", "$money",
]
OWN_NAME = re.compile(r"_?[A-Z][A-Z0-9_]*")
OWN_TEXT = re.compile(r"[0-9a-f]{6}|[0-9a-f]{16}|[IUDTRK]|1?|13579bdf|02468ace|live|copying|swap|former|forward|shop|"
                      r"[0-9a-f]{16}/[0-9a-f]{16}|[0-9a-f]{2}|[0-9a-f]|history|another run has begun|"
                      r"(put|none)-shop|1970-01-01T[0-9:.]*Z|"
                      r"the watermark has moved|the target and the changes contradict each other")
NAMINGS = [engine.NAMING,
           {"database": "Ana\"lytics", "schema": "raw_{schema}", "landing_schema": "et'l", "identifiers": "preserve"},
           {"database": "analytics", "schema": "{schema}", "landing_schema": "etl", "identifiers": "upper"}]


def flat(value):
    if isinstance(value, list):
        for part in value:
            yield from flat(part)
    elif isinstance(value, dict):
        yield from flat(list(value.values()))
    else:
        yield value


class Statements(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.tool = engine.Tool(os.environ["ETL_STATEMENT_TOOL"])

    @classmethod
    def tearDownClass(cls):
        cls.tool.close()

    def parsed(self, statement):
        trees = sqlglot.parse(statement, read="snowflake")
        self.assertEqual(len(trees), 1, statement)
        self.assertIsNotNone(trees[0], statement)
        return trees[0]

    def judge(self, statement, names, texts, task_body):
        """The identifiers and literals of the parsed statement are the expected ones, to the byte."""
        tree = self.parsed(statement)
        seen = set()
        if isinstance(tree, exp.Command):
            self.assertRegex(statement, r"^(CREATE OR REPLACE|ALTER|DROP) TASK ")
            tokens = sqlglot.tokenize(statement, read="snowflake")
            quoted = [t.text for t in tokens if t.token_type == sqlglot.TokenType.IDENTIFIER]
            literals = [t.text for t in tokens if t.token_type == sqlglot.TokenType.STRING]
            if "EXECUTE IMMEDIATE" in statement:
                self.assertEqual(literals[-1], task_body)
        else:
            self.assertNotIsInstance(tree, exp.Drop if "DROP" not in statement[:4] else exp.Select)
            quoted = [node.name for node in tree.find_all(exp.Identifier) if node.args["quoted"]]
            for node in tree.find_all(exp.Identifier):  # Aliases of ours.
                self.assertTrue(node.args["quoted"] or re.fullmatch("[A-Za-z][A-Z0-9_]*", node.name), statement)
            literals = [node.name for node in tree.find_all(exp.Literal) if node.is_string]
            for text in literals:
                self.assertTrue(text in texts or OWN_TEXT.fullmatch(text), (text, statement))
        for name in quoted:
            self.assertTrue(name in names or OWN_NAME.fullmatch(name), (name, statement))
            seen.add(name)
        return seen

    def check(self, schema, naming):
        described = self.tool.ask("names", schema, naming=naming)
        names = set(flat(described)) | {"ETL_WH", "etl_wh"}
        texts = names | {f"{schema['schema']}.{schema['name']}"}
        body = "BEGIN " + "".join(s + "; " for s in self.tool.ask("task", schema, naming=naming))
        body += "EXCEPTION WHEN OTHER THEN ROLLBACK; RAISE; END"
        seen = set()
        for statement in self.tool.ask("all", schema, naming=naming):
            seen |= self.judge(statement, names, texts, body)
        for part in ("target", "landing", "task", "shadow", "retired", "watermark", "progress"):
            self.assertLessEqual(set(described[part]), seen)
        self.assertLessEqual({column for column, _ in described["columns"]}, seen)

    def test_hostile_names(self):
        for i, name in enumerate(HOSTILE):
            other = HOSTILE[(i + 7) % len(HOSTILE)]
            for identity in ("key", "full", "none"):
                schema = engine.table([(name, "int4"), (name + "2", "text"), (other + "3", "list"), ("d", "decimal")],
                                      identity=identity, name=name, schema=other)
                for naming in NAMINGS if identity == "key" else NAMINGS[:1]:
                    with self.subTest(name=name, identity=identity, naming=naming):
                        self.check(schema, naming)

    def test_every_type(self):
        for kind in engine.KINDS:
            more = {"fields": [{"name": "x", "type": engine.column_type("int4")}]} if kind == "struct" else {}
            schema = engine.table([("id", "int8"), ("v", kind)])
            schema["columns"][1]["type"].update(more)
            self.check(schema, engine.NAMING)

    def test_alters(self):
        for i, name in enumerate(HOSTILE):
            other, third = HOSTILE[(i + 3) % len(HOSTILE)], HOSTILE[(i + 9) % len(HOSTILE)]
            before = engine.table([("id", "int4"), (name, "text", 2), (other, "int2", 3), (third, "text", 4)])
            after = engine.table([("id", "int4"), (other, "text", 2), (name, "int8", 3), (third, "jsonb", 5)])
            names = set(flat(self.tool.ask("names", before))) | set(flat(self.tool.ask("names", after)))
            for place in ("target", "landing"):
                answer = self.tool.ask("alter", before, to=after, place=place, fill={"5": "'x'"}, existing=["ID"] + [
                    column for column, _ in self.tool.ask("names", before)["columns"]])
                for statement in answer["statements"] + answer["after"]:
                    self.judge(statement, names, names | {"x"} | {f"_ETL_PASSING_{n}" for n in range(9)}, None)

    def test_hostile_names_do_what_they_say(self):
        """Not only parsed: run, with the names as an engine then shows them."""
        for i, name in enumerate(HOSTILE):
            other = HOSTILE[(i + 7) % len(HOSTILE)]
            schema = engine.table([(name, "int4"), (name + "2", "text")], name=other, schema=name)
            with self.subTest(name=name, other=other):
                database = engine.Engine(self.tool)
                described = self.tool.ask("names", schema)
                database.run(database.statements("setup", schema))
                database.run(database.statements("create", schema))
                database.run(database.statements("watermark", schema, {"from": 0x100}, live=True))
                landing, target = (".".join('"' + part.replace('"', '""') + '"' for part in described[which])
                                   for which in ("landing", "target"))
                unsent = described["columns"][1][0]
                for values in ([1, "kept", "I", 0x100, None], [1, None, "U", 0x108, [unsent]], [2, "gone", "I", 0x110, None],
                               [2, None, "D", 0x118, None]):
                    database.db.execute(f"INSERT INTO {landing} VALUES (?, ?, ?, ?, NULL, ?)",
                                        values[:3] + [f"{values[3]:016x}/{0:016x}", values[4]])
                database.run(database.statements("merge", schema, {"low": 0x100, "high": 0x200}))
                self.assertEqual(database.db.execute(f"SELECT * FROM {target}").fetchall(), [(1, "kept")])
                database.close()

    def test_grants(self):
        """sqlglot knows some of them as opaque commands only: those are looked at token by token."""
        for i, name in enumerate(HOSTILE):
            schema = engine.table([("id", "int4")], name=HOSTILE[(i + 7) % len(HOSTILE)])
            for naming in NAMINGS:
                statements = self.tool.ask("grants", schema, naming=naming, user=name)
                described = self.tool.ask("names", schema, naming=naming)
                own = {naming["database"], naming["database"].upper(), naming["landing_schema"],
                       naming["landing_schema"].upper(), *described["landing"], *described["target"]}
                # Letters beyond ASCII stay.
                upper = "".join(c.upper() if c.isascii() else c for c in name)
                seen = set()
                for statement in statements:
                    self.parsed(statement)
                    tokens = sqlglot.tokenize(statement, read="snowflake")
                    self.assertNotIn(sqlglot.TokenType.SEMICOLON, [token.token_type for token in tokens], statement)
                    for token in tokens:
                        if token.token_type == sqlglot.TokenType.IDENTIFIER:
                            self.assertIn(token.text, own | {name, upper}, statement)
                            seen.add(token.text)
                        elif token.token_type == sqlglot.TokenType.STRING:
                            self.assertEqual(token.text, "MIIB+/=")
                self.assertLessEqual({name, upper, described["landing"][0], described["landing"][1]}, seen)

    def test_names_that_collide(self):
        for columns in ([("id", "int4"), ("ID", "int4")], [("_etl_op", "int4")], [], [("_etl_passing_3", "text")]):
            self.assertEqual(len(self.tool.ask("problems", engine.table(columns, key=()))), 1, columns)
        self.assertEqual(self.tool.ask("problems", engine.table([("id", "int4"), ("Id", "int4")])), [])


if __name__ == "__main__":
    unittest.main()
