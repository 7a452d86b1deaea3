#!/usr/bin/env python3
"""Merges and folds random histories with the emitted SQL and compares the target with the source at every boundary.

  test_histories.py [--seeds N] [--first N]       ETL_STATEMENT_TOOL names the statement tool
"""

import os
import pathlib
import random
import sys
import unittest

import duckdb

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import engine  # noqa: E402
import histories  # noqa: E402

SEEDS = int(os.environ.get("ETL_SQL_SEEDS", "300"))
FIRST = int(os.environ.get("ETL_SQL_FIRST_SEED", "1"))

SIMPLE = [("id", "int4"), ("n", "int4"), ("big", "text"), ("doc", "jsonb")]
SHAPES = [
    histories.Shape(engine.table(SIMPLE), [kind for _, kind in SIMPLE], 1),
    histories.Shape(engine.table([("k", "text"), ("id", "int4"), ("big", "text"), ("tags", "list"), ("price", "decimal")],
                                 key=(0, 1), oid=16401, name="Mixed Case"), ["text", "int4", "text", "list", "decimal"], 2),
    histories.Shape(engine.table([("id", "int4")], oid=16402, name="only_key"), ["int4"], 1),
    histories.Shape(engine.table([("id", "int4"), ("ok", "bool"), ("n", "int4")], oid=16403, name="fixed"),
                    ["int4", "bool", "int4"], 1),
]
SHAPES[1].names = lambda: ["K", "ID", "BIG", "TAGS", "PRICE"]
BAG = [("n", "int4"), ("big", "text"), ("tags", "list")]


class Landing:
    """The tables of one run, and what was merged into them."""

    def __init__(self, tool, shape):
        self.shape, self.engine = shape, engine.Engine(tool)
        names = tool.ask("names", shape.schema)
        self.target, self.landing, self.progress, self.watermark, self.shadow = (
            ".".join(f'"{part}"' for part in names[name])
            for name in ("target", "landing", "progress", "watermark", "shadow"))
        self.setup()

    def ask(self, what, bounds=None, **more):
        return self.engine.statements(what, self.shape.schema, bounds, **more)

    def setup(self):
        self.engine.run(self.ask("setup"))

    def begin_live(self, start):
        self.engine.run(self.ask("create"))
        self.engine.run(self.ask("watermark", {"from": start}, live=True))
        self.engine.run(self.ask("watermark", {"from": start + 8}, live=True))  # Repeatable.

    def changes_of(self, what, **more):
        """Its statements without those that make or drop the task itself."""
        return [statement for statement in self.ask(what, **more) if statement.startswith("UPDATE")]

    def land(self, rows):
        def cell(value, kind):
            text = engine.literal(value)
            return text if kind != "list" or value is None else f"from_json({text}, '[\"INTEGER\"]')::VARIANT"

        values = ", ".join(
            "(" + ", ".join([cell(v, kind) for v, kind in zip(row.values, self.shape.kinds)] + [
                engine.literal(row.op), engine.literal(row.where), "NULL", engine.literal(row.unchanged)]) + ")"
            for row in rows)
        if rows:
            self.engine.db.execute(f"INSERT INTO {self.landing} VALUES {values}")

    def forward(self, lsn):
        self.engine.db.execute(f"INSERT INTO {self.progress} VALUES ('shop', 1, 1, 'forward', NULL, NULL, ?, NULL, NULL)",
                               [f"{lsn:016x}"])

    def rows(self, table=None):
        columns = ", ".join(f"CASE WHEN {name} IS NOT NULL THEN {name}::JSON::VARCHAR END" if kind == "list" else
                            f"{name}::VARCHAR" if kind == "decimal" else
                            f"{name}::BIGINT" if kind == "int4" else name
                            for name, kind in zip((f'"{n}"' for n in self.shape.names()), self.shape.kinds))
        found = self.engine.db.execute(f"SELECT {columns} FROM {table or self.target}").fetchall()
        return sorted(found, key=repr)

    def left(self):
        return self.engine.db.execute(f'SELECT count(*) FROM {self.landing}').fetchone()[0]

    def applied(self):
        return self.engine.db.execute(f'SELECT "APPLIED", "CLAIMED", "PHASE" FROM {self.watermark}').fetchall()


def normal(rows, kinds):
    import json
    return sorted((tuple(json.dumps(json.loads(v), separators=(",", ":")) if kind == "list" and v is not None else v
                         for v, kind in zip(row, kinds)) for row in rows), key=repr)


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.tool = engine.Tool(os.environ["ETL_STATEMENT_TOOL"])

    @classmethod
    def tearDownClass(cls):
        cls.tool.close()

    def check(self, landing, history, boundary, what, table=None):
        kinds = landing.shape.kinds
        self.assertEqual(normal(landing.rows(table), kinds), normal(history.expected(boundary), kinds), what)

    def seeds(self, count=SEEDS):
        return range(FIRST, FIRST + count)


def feed(landing, history, rng, boundaries, i):
    """Lands what the source sent up to boundary i, in any order; some of it twice, some of it early."""
    end = f"{boundaries[min(i + rng.randrange(3), len(boundaries) - 1)]:016x}"
    rows = [row for row in history.landed if row.where < end]
    history.landed = history.landed[len(rows):]
    if rng.random() < 0.4:
        rows += rng.sample(rows, len(rows) // 2)
    rng.shuffle(rows)
    landing.land(rows)


class Merges(Case):
    def run_history(self, seed, shape, history, by_task):
        rng = random.Random(seed * 31 + 7)
        landing = Landing(self.tool, shape)
        boundaries = [history.commit() for _ in range(rng.randrange(2, 10))]
        low = min(history.truth)
        landing.begin_live(low)
        if by_task:
            landing.engine.run(landing.changes_of("put_task"))
        i = 0
        while i < len(boundaries):
            i = min(i + rng.choice([0, 0, 1, 3]), len(boundaries) - 1)
            feed(landing, history, rng, boundaries, i)
            high = boundaries[i]
            bounds = {"low": low, "high": high}
            if by_task:
                landing.forward(high)
                statements = landing.ask("task")
            else:
                statements = landing.ask("merge", bounds)
            what = f"seed {seed}, {shape.schema['name']}, {low:x}..{high:x}"
            before = landing.rows(), landing.left(), landing.applied()
            if rng.random() < 0.4:
                landing.engine.run(statements, until=rng.randrange(len(statements)))
                self.assertEqual(before, (landing.rows(), landing.left(), landing.applied()), what)
            try:
                landing.engine.run(statements)
            except duckdb.Error as error:
                self.fail(f"{what}: {error}")
            self.check(landing, history, high, what)
            self.assertEqual(landing.applied(), [(f"{high:016x}", None, "live")], what)
            again = landing.rows(), landing.left()
            if by_task and rng.random() < 0.4:
                landing.engine.run(statements)
            elif not by_task:
                with self.assertRaises(duckdb.Error):
                    landing.engine.run(statements)
            self.assertEqual(again, (landing.rows(), landing.left()), what)
            low, i = high, i + 1
        self.assertEqual(landing.left(), 0, f"seed {seed}")
        landing.engine.close()

    def test_fenced_task(self):
        """Neither a late run of a task nor one that is put late takes a row behind the fence."""
        shape = SHAPES[0]
        history = histories.Keyed(shape, 5)
        landing = Landing(self.tool, shape)
        low = min(history.truth)
        landing.begin_live(low)
        landing.engine.run(landing.changes_of("put_task"))
        landing.land(history.landed)
        landing.forward(history.commit())
        landing.land(history.landed)
        before = landing.rows(), landing.left()
        late = landing.changes_of("put_task", seen="", run="b")
        landing.engine.run(landing.changes_of("fence_task"))
        for statements in ([], late, late[1:]):
            landing.engine.run(statements)
            with self.assertRaises(duckdb.Error):
                landing.engine.run(landing.ask("task"))
            self.assertEqual(before, (landing.rows(), landing.left()))
        landing.engine.run(landing.changes_of("put_task", seen="none-a", run="b"))
        landing.engine.run(landing.ask("task"))
        self.assertEqual(landing.left(), 0)
        landing.engine.run(landing.ask("end_earlier", generation=2))
        with self.assertRaises(duckdb.Error):
            landing.engine.run(landing.ask("task"))
        landing.engine.close()

    def test_keyed(self):
        for seed in self.seeds():
            shape = SHAPES[seed % len(SHAPES)]
            self.run_history(seed, shape, histories.Keyed(shape, seed), by_task=seed % 5 == 0)

    def test_equal_rows(self):
        shape = histories.Shape(engine.table(BAG, identity="full", oid=16500), [kind for _, kind in BAG], 0)
        for seed in self.seeds(SEEDS // 5):
            self.run_history(seed, shape, histories.Bag(shape, seed, deletes=True), by_task=seed % 5 == 0)

    def test_inserts_only(self):
        shape = histories.Shape(engine.table(BAG, identity="none", oid=16501), [kind for _, kind in BAG], 0)
        for seed in self.seeds(SEEDS // 15):
            self.run_history(seed, shape, histories.Bag(shape, seed, deletes=False), by_task=seed % 5 == 0)


class Folds(Case):
    def copied(self, landing, history, chunks, start, done):
        """Rows `R` of each chunk under its own snapshot, and what failed attempts left."""
        for number, (block, seen) in enumerate(chunks):
            rows = [row for key, row in history.truth[seen].items() if history.places[seen][key] == block]
            for attempt, sent in ((2 * number + 1, rows[:len(rows) // 2]), (2 * number + 2, rows)):
                landing.land([histories.Landed("R", histories.position(start - 1, (attempt << 40) + n), row)
                              for n, row in enumerate(sent)])
            done.append(2 * number + 2)

    def settle(self, landing, history, missing, now, read):
        """Rows read again at `read` for keys that lacked values at `now`, unless the key was broken between."""
        keys = landing.shape.keys
        broken = {tuple(row.values[:keys]) for row in self.all_rows
                  if f"{now:016x}" <= row.where < f"{read:016x}" and row.op in "IDT"}
        truncated = any(row.op == "T" and f"{now:016x}" <= row.where < f"{read:016x}" for row in self.all_rows)
        rows = []
        for found in missing:
            key = tuple(int(v) if kind == "int4" else v for v, kind in zip(found, landing.shape.kinds[:keys]))
            if key in broken or truncated or key not in history.truth[read]:
                continue
            self.settled += 1
            rows.append(histories.Landed("U", histories.position(now - 1, self.settled), history.truth[read][key]))
        return rows

    def fold(self, landing, bounds, done, place, what):
        statements = landing.ask("fold", bounds, done=done, generation=2, place=place)
        before = landing.left(), landing.applied()
        landing.engine.run(statements, until=self.rng.randrange(len(statements)))
        self.assertEqual(before, (landing.left(), landing.applied()), what)
        landing.engine.run(statements)
        with self.assertRaises(duckdb.Error):
            landing.engine.run(statements)

    def swap(self, landing):
        """Every step may be the last before a crash; which comes next is seen from the tables alone."""
        names = self.tool.ask("names", landing.shape.schema, generation=2)
        while True:
            there = {name for (name,) in landing.engine.db.execute(
                "SELECT table_name FROM duckdb_tables() WHERE database_name = 'ANALYTICS'").fetchall()}
            steps = landing.ask("swap", generation=2, **{which: names[which][2] in there for which in ("target", "shadow", "retired")})
            if not steps:
                break
            landing.engine.run(steps)
        landing.engine.run(landing.ask("finish_swap", generation=2))

    def run_copy(self, seed, shape):
        self.rng = rng = random.Random(seed * 17 + 3)
        self.settled = 0
        history = histories.Keyed(shape, seed)
        landing = Landing(self.tool, shape)
        kept = rng.random() < 0.5  # A target that stays in use while it is copied again.
        shadow = rng.random() < 0.5
        first = min(history.truth)
        if kept:
            landing.begin_live(first)
        boundaries = [history.commit() for _ in range(rng.randrange(4, 16))]
        start_at = rng.randrange(len(boundaries) // 2)
        start = boundaries[start_at]
        self.all_rows = list(history.landed)
        landing.land([row for row in history.landed if kept or row.where >= f"{start:016x}"])
        landing.engine.run(landing.ask("watermark", {"from": start}, generation=2))
        chunks = [(block, boundaries[rng.randrange(start_at, len(boundaries))]) for block in range(history.blocks)]
        now = max(seen for _, seen in chunks)
        done = []
        self.copied(landing, history, chunks, start, done)
        what = f"seed {seed}, {shape.schema['name']}, from {start:x}"
        if kept:
            low = rng.choice([b for b in boundaries if b <= now])
            landing.engine.run(landing.ask("merge", {"low": first, "high": low, "keep_from": start - 1}))
            self.check(landing, history, low, what)
        if shadow or not kept:
            landing.engine.run(landing.ask("create", place="shadow" if shadow else "target", generation=2))
        for _ in range(20):
            bounds = {"from": start, "high": now}
            missing = landing.engine.run(landing.ask("missing", bounds, done=done, generation=2))
            if not missing:
                break
            before, now = now, history.commit()
            landing.land(history.landed[len(self.all_rows):])
            self.all_rows = list(history.landed)
            landing.land(self.settle(landing, history, missing, before, now))
        else:
            self.fail(what + ": values are missing for ever")
        self.fold(landing, bounds, done, "shadow" if shadow else "target", what)
        if shadow:
            self.swap(landing)
        self.check(landing, history, now, what)
        self.assertEqual(landing.applied(), [(f"{now:016x}", None, "live")], what)
        last = history.commit()
        landing.land(history.landed[len(self.all_rows):])
        landing.engine.run(landing.ask("merge", {"low": now, "high": last}, generation=2))
        self.check(landing, history, last, what)
        self.assertEqual(landing.left(), 0, what)
        landing.engine.close()
        return self.settled

    def test_keyed(self):
        settled = sum(self.run_copy(seed, SHAPES[seed % len(SHAPES)]) for seed in self.seeds(SEEDS // 3))
        self.assertGreater(settled, 0)  # The histories do come to values that must be read again.

    def test_without_key(self):
        for seed in self.seeds(SEEDS // 10):
            self.rng = rng = random.Random(seed)
            deletes = seed % 2 == 0
            shape = histories.Shape(engine.table(BAG, identity="full" if deletes else "none", oid=16502 + deletes),
                                    [kind for _, kind in BAG], 0)
            history = histories.Bag(shape, seed, deletes)
            landing = Landing(self.tool, shape)
            boundaries = [history.commit() for _ in range(rng.randrange(3, 10))]
            start, seen = boundaries[0], rng.choice(boundaries)
            landing.engine.run(landing.ask("watermark", {"from": start}, generation=2))
            landing.land([row for row in history.landed if row.where >= f"{start:016x}"])
            for attempt, sent in ((1, history.truth[seen]), (2, history.truth[seen][:2])):
                landing.land([histories.Landed("R", histories.position(start - 1, (attempt << 40) + n), row)
                              for n, row in enumerate(sent)])
            landing.engine.run(landing.ask("create"))
            bounds = {"from": start, "high": boundaries[-1], "ignore_below": seen}
            self.fold(landing, bounds, [1], "target", f"seed {seed}")
            self.check(landing, history, boundaries[-1], f"seed {seed}")
            landing.engine.close()


if __name__ == "__main__":
    unittest.main()
