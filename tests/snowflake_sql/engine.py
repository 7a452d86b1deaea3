"""Runs Snowflake's SQL on DuckDB, translated by sqlglot, and asks the statement tool for it."""

import json
import logging
import subprocess

import duckdb
import sqlglot
from sqlglot import exp

logging.getLogger("sqlglot").setLevel(logging.ERROR)

# Boundaries that stand in a statement's text for those of a run, so that it is translated once.
PLACES = {"low": 0x1111111111111111, "high": 0x2222222222222222, "from": 0x3333333333333333,
          "before_from": 0x3333333333333332, "keep_from": 0x4444444444444444, "ignore_below": 0x5555555555555555}
NAMING = {"database": "analytics", "schema": "shop", "landing_schema": "etl_schema"}

# TypeKind of src/model/column_type.h.
KINDS = {name: number for number, name in enumerate(
    "bool int2 int4 int8 oid float4 float8 decimal numeric text char bytea uuid json jsonb date timestamp timestamptz "
    "time timetz interval list struct server_text".split())}
IDENTITIES = {"key": 0, "full": 1, "none": 2}


def column_type(kind, **more):
    made = {"kind": KINDS[kind], "oid": 0, "typmod": -1, "name": kind}
    if kind == "decimal":
        made.update(precision=12, scale=2)
    if kind == "list":
        made.update(dimensions=1, delimiter=",", element=column_type("int4"))
    made.update(more)
    return made


def table(columns, identity="key", key=(0,), name="orders", schema="public", oid=16400, full_images=False):
    """columns: (name, kind) or (name, kind, attnum)."""
    return {"oid": oid, "schema": schema, "name": name, "version": 1, "identity": IDENTITIES[identity],
            "full_images": full_images, "key": list(key) if identity == "key" else [], "wire": [],
            "columns": [{"attnum": column[2] if len(column) > 2 else number, "name": column[0],
                         "type": column_type(column[1]), "hashed": False}
                        for number, column in enumerate(columns, 1)]}


class Tool:
    """The statement tool, one process for all questions."""

    def __init__(self, path):
        self.process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.answers = {}

    def ask(self, what, schema, **more):
        question = json.dumps({"what": what, "table": schema, "naming": more.pop("naming", NAMING), **more})
        if question not in self.answers:
            self.process.stdin.write(question + "\n")
            self.process.stdin.flush()
            answer = json.loads(self.process.stdout.readline())
            if isinstance(answer, dict) and "error" in answer:
                raise ValueError(answer["error"])
            self.answers[question] = answer
        return self.answers[question]

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def to_duckdb(node):
    """Types that DuckDB has by another name."""
    if isinstance(node, exp.DataType):
        if node.this == exp.DataType.Type.ARRAY and not node.expressions:
            return exp.DataType.build("VARCHAR[]", dialect="duckdb")
        if node.this in (exp.DataType.Type.BINARY, exp.DataType.Type.VARBINARY):
            return exp.DataType.build("BLOB", dialect="duckdb")
    return node


translations = {}


def translate(statement):
    if statement not in translations:
        parsed = sqlglot.parse(statement, read="snowflake")
        assert len(parsed) == 1, statement
        translations[statement] = parsed[0].transform(to_duckdb).sql("duckdb")
    return translations[statement]


class Engine:
    """A database that keeps to Snowflake's rules: DDL commits by itself, the rest is as written."""

    idle = []  # Connections; making one takes longer than making a database.

    def __init__(self, tool):
        self.tool = tool
        self.db = self.idle.pop() if self.idle else duckdb.connect(config={"threads": 1})
        self.db.execute("ATTACH ':memory:' AS \"ANALYTICS\"; USE \"ANALYTICS\"")

    def statements(self, what, schema, bounds=None, **more):
        """The statements in DuckDB's dialect, with the boundaries of `bounds` in them."""
        bounds = dict(bounds or {})
        answer = self.tool.ask(what, schema, **{name: PLACES[name] for name in bounds}, **more)
        if bounds.get("from"):
            bounds["before_from"] = bounds["from"] - 1
        made = []
        for statement in answer:
            text = translate(statement)
            for name, value in bounds.items():
                text = text.replace(f"{PLACES[name]:016x}", f"{value:016x}")
            made.append(text)
        return made

    def run(self, statements, until=None):
        """Runs the first `until`; then, as if the session had ended, an open transaction is rolled back."""
        result = None
        try:
            for statement in statements[:until]:
                result = self.db.execute(statement)
                if statement != statements[-1]:
                    result.fetchall()
        except duckdb.Error:
            self.rollback()
            raise
        rows = result.fetchall() if result is not None else []
        if until is not None and until < len(statements):
            self.rollback()
        return rows

    def rollback(self):
        try:
            self.db.execute("ROLLBACK")
        except duckdb.Error:
            pass  # None was open.

    def close(self):
        self.db.execute("USE memory; DETACH \"ANALYTICS\"")
        self.idle.append(self.db)


def literal(value):
    if isinstance(value, list):
        return "[" + ", ".join(map(literal, value)) + "]"
    if value is None or isinstance(value, (bool, int)):
        return str(value) if value is not None else "NULL"
    return "'" + value.replace("'", "''") + "'"
