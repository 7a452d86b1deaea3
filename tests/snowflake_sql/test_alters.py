#!/usr/bin/env python3
"""Random schema changes by the emitted SQL, with a crash after any statement.

  test_alters.py       ETL_STATEMENT_TOOL names the statement tool
"""

import os
import pathlib
import random
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import engine  # noqa: E402

SEEDS = int(os.environ.get("ETL_SQL_SEEDS", "120"))
FIRST = int(os.environ.get("ETL_SQL_FIRST_SEED", "1"))
NAMES = ["a", "b", "c", "d", "e"]
WIDER = {"int2": "int4", "int4": "int8", "int8": "int8", "text": "jsonb", "jsonb": "jsonb", "uuid": "text"}


def versions(rng):
    """Two versions of the columns: dropped, added, renamed (names change places), widened."""
    count = rng.randrange(1, 5)
    before = [(name, rng.choice(list(WIDER)), attnum) for attnum, name in enumerate(rng.sample(NAMES, count), 2)]
    kept = [column for column in before if rng.random() < 0.8]
    names = [column[0] for column in kept]
    if rng.random() < 0.7:
        names = rng.sample(NAMES, len(kept))
    after = [(name, WIDER[kind] if rng.random() < 0.3 else kind, attnum) for name, (_, kind, attnum) in zip(names, kept)]
    free = [name for name in NAMES if name not in names]
    for attnum in range(10, 10 + rng.randrange(3)):
        if free:
            after.append((free.pop(rng.randrange(len(free))), rng.choice(["int4", "text"]), attnum))
    return [("id", "int4", 1)] + before, [("id", "int4", 1)] + after


class Alters(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.tool = engine.Tool(os.environ["ETL_STATEMENT_TOOL"])

    @classmethod
    def tearDownClass(cls):
        cls.tool.close()

    def columns(self, database, place):
        return [name for (name,) in database.db.execute(
            "SELECT column_name FROM duckdb_columns() WHERE database_name = ? AND schema_name = ? AND table_name = ? "
            "ORDER BY column_index", place).fetchall()]

    def alter(self, database, place, question, rng):
        """Goes on after each crash with what the columns say is left."""
        for _ in range(100):
            answer = self.tool.ask("alter", question["schema"], **{k: v for k, v in question.items() if k != "schema"}, existing=self.columns(database, place))
            steps = answer["statements"]
            stop = rng.randrange(len(steps) + 1) if rng.random() < 0.8 else len(steps)
            for step in steps[:stop]:
                database.db.execute(engine.translate(step))
            if stop == len(steps):
                break
        for step in answer["after"] * 2:
            database.db.execute(engine.translate(step))

    def run_seed(self, seed, place_name):
        rng = random.Random(seed)
        before, after = versions(rng)
        schema, to = engine.table(before), engine.table(after)
        database = engine.Engine(self.tool)
        place = self.tool.ask("names", schema)[place_name]
        table = ".".join(f'"{part}"' for part in place)
        database.run(database.statements("setup", schema))
        if place_name == "target":
            database.run(database.statements("create", schema))
        unsent = [name.upper() for name, _, _ in before if rng.random() < 0.5]
        values = {attnum: 100 + attnum for _, _, attnum in before}
        rest = ["U", f"{0:016x}/{0:016x}", None, unsent] if place_name == "landing" else []
        database.db.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * (len(before) + len(rest)))})",
                            list(values.values()) + rest)
        fill = {attnum: str(attnum) if kind == "int4" else f"'{attnum}'" for _, kind, attnum in after
                if attnum >= 10 and rng.random() < 0.5}
        question = {"schema": schema, "to": to, "place": place_name, "fill": {str(a): v for a, v in fill.items()}}
        self.alter(database, place, question, rng)

        what = f"seed {seed}: {before} → {after}"
        wanted = {name.upper(): (values.get(attnum) or (attnum if attnum in fill else None)) for name, _, attnum in after}
        columns = self.columns(database, place)
        row = dict(zip(columns, database.db.execute(f"SELECT * FROM {table}").fetchone()))
        found = {name: None if row[name] is None else int(row[name]) for name in wanted}
        self.assertEqual(found, wanted, what)
        own = ["_ETL_OP", "_ETL_POSITION", "_ETL_COMMIT_TS", "_ETL_UNCHANGED"] if place_name == "landing" else []
        self.assertEqual(set(columns), set(wanted) | set(own), what)
        if place_name == "landing":
            new_name = {attnum: name.upper() for name, _, attnum in after}
            self.assertEqual(sorted(row["_ETL_UNCHANGED"]), sorted(
                new_name[attnum] for name, _, attnum in before if name.upper() in unsent and attnum in new_name), what)
        database.close()

    def test_target(self):
        for seed in range(FIRST, FIRST + SEEDS):
            self.run_seed(seed, "target")

    def test_landing(self):
        for seed in range(FIRST, FIRST + SEEDS):
            self.run_seed(seed, "landing")

    def test_types_that_need_a_copy(self):
        for kind, other in (("int4", "int2"), ("int4", "text"), ("date", "timestamp"), ("text", "uuid"), ("bytea", "text")):
            with self.assertRaises(ValueError):
                self.tool.ask("alter", engine.table([("id", "int4"), ("v", kind)]),
                              to=engine.table([("id", "int4"), ("v", other)]))


if __name__ == "__main__":
    unittest.main()
