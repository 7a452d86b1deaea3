"""Random histories of one table: what the source did, what has landed, and the truth at every boundary."""

import json
import random
import string


def position(lsn, ordinal):
    return f"{lsn:016x}/{ordinal:016x}"


class Shape:
    """A table whose rows are tuples in the order of `kinds`; the key is the first `keys` columns."""

    def __init__(self, schema, kinds, keys):
        self.schema, self.kinds, self.keys = schema, kinds, keys

    def names(self):
        return [column["name"].upper() for column in self.schema["columns"]]

    def unsent(self):
        return [i for i in range(self.keys, len(self.kinds)) if self.kinds[i] in ("text", "jsonb", "list", "decimal")]


def value(rng, kind, key=False):
    if not key and rng.random() < 0.2:
        return None
    if kind == "int4":
        return rng.randrange(4)
    if kind == "text":
        return "".join(rng.choice(string.ascii_lowercase + "'\\\"") for _ in range(rng.randrange(3)))
    if kind == "list":
        return json.dumps([rng.randrange(3) for _ in range(rng.randrange(3))])
    if kind == "jsonb":
        return json.dumps({"b": rng.randrange(3), "a": None})
    if kind == "decimal":
        return f"{rng.randrange(300)}.{rng.randrange(100):02d}"
    if kind == "bool":
        return rng.random() < 0.5
    raise AssertionError(kind)


class Landed:
    """One landing row."""

    def __init__(self, op, where, values, unchanged=None):
        self.op, self.where, self.values, self.unchanged = op, where, values, unchanged


class Keyed:
    """A table with a key: inserts, updates with unsent values, deletes, key changes, truncates."""

    def __init__(self, shape, seed, blocks=3):
        self.shape, self.rng, self.blocks = shape, random.Random(seed), blocks
        self.rows = {}  # key → values
        self.block = {}  # key → where the row lies
        self.landed = []
        self.lsn = 0x1000
        self.truth = {}  # boundary → {key: values}
        self.places = {}  # boundary → {key: block}
        self.key_space = self.rng.choice([2, 4, 8])
        self.move_rate = self.rng.choice([0.0, 0.3, 0.6])
        self.truncate_rate = self.rng.choice([0.0, 0.02, 0.1])
        # Histories that hardly send a value again come to rows whose values are to be looked for.
        self.keep = self.rng.choice([None, 0.95])
        if self.keep:
            self.key_space, self.truncate_rate = 8, 0.0
        self.note()

    def note(self):
        self.truth[self.lsn] = dict(self.rows)
        self.places[self.lsn] = dict(self.block)

    def free_key(self):
        for _ in range(20):
            key = tuple(self.rng.randrange(self.key_space) if kind == "int4" else
                        self.rng.choice(["", "a", "A", "'", "\\"])[:1] for kind in self.shape.kinds[:self.shape.keys])
            if key not in self.rows:
                return key
        return None

    def changed(self, key, old):
        """A new version of a row, and the columns of it that were not sent."""
        new, unchanged = list(key) + list(old[self.shape.keys:]), []
        keep = self.keep or self.rng.random()
        for i in range(self.shape.keys, len(new)):
            if self.rng.random() < keep:
                if i in self.shape.unsent() and self.rng.random() < 0.8:
                    unchanged.append(i)
            else:
                new[i] = value(self.rng, self.shape.kinds[i])
        return tuple(new), unchanged

    def land(self, op, ordinal, row, unchanged=()):
        sent = [None if i in unchanged else v for i, v in enumerate(row)]
        self.landed.append(Landed(op, position(self.lsn, ordinal), sent,
                                  [self.shape.names()[i] for i in unchanged] if unchanged else None))

    def step(self, ordinal):
        rng, keys = self.rng, self.shape.keys
        dice = rng.random()
        if dice < self.truncate_rate:
            self.rows.clear()
            self.block.clear()
            self.landed.append(Landed("T", position(self.lsn, ordinal), [None] * len(self.shape.kinds)))
        elif not self.rows or dice < 0.3:
            key = self.free_key()
            if key is None:
                return
            row = key + tuple(value(rng, kind) for kind in self.shape.kinds[keys:])
            self.rows[key], self.block[key] = row, rng.randrange(self.blocks)
            self.land("I", ordinal, row)
        elif dice < (0.35 if self.keep else 0.5):
            key = rng.choice(list(self.rows))
            del self.rows[key], self.block[key]
            self.land("D", ordinal, key + (None,) * (len(self.shape.kinds) - keys))
        else:
            key = rng.choice(list(self.rows))
            old = self.rows[key]
            new_key = self.free_key() if rng.random() < self.move_rate else None
            row, unchanged = self.changed(new_key or key, old)
            place = rng.randrange(self.blocks) if rng.random() < 0.5 else self.block[key]
            if new_key is None:
                self.land("U", ordinal, row, unchanged)
            else:
                del self.rows[key], self.block[key]
                self.land("D", ordinal, key + (None,) * (len(self.shape.kinds) - keys))
                self.land("I", ordinal + 1, row, unchanged)
            self.rows[row[:keys]], self.block[row[:keys]] = row, place

    def commit(self):
        """One transaction; the boundary behind it."""
        self.lsn += 8 * self.rng.choice([0, 1, 5, 40])
        for i in range(self.rng.choice([1, 1, 2, 6])):
            self.step(2 * (i + self.rng.choice([0, 0, 7])) if i == 0 else 2 * (i + 8))
        self.lsn += 8
        self.note()
        return self.lsn

    def expected(self, boundary):
        return sorted(self.truth[boundary].values(), key=repr)


class Bag:
    """A table without a key: equal rows are many. `deletes`: REPLICA IDENTITY FULL."""

    def __init__(self, shape, seed, deletes):
        self.shape, self.rng, self.deletes = shape, random.Random(seed), deletes
        self.rows, self.landed, self.lsn, self.truth = [], [], 0x1000, {}
        self.note()

    def note(self):
        self.truth[self.lsn] = list(self.rows)

    def commit(self):
        self.lsn += 8 * self.rng.choice([0, 1, 5, 40])
        for i in range(self.rng.choice([1, 2, 6])):
            dice = self.rng.random()
            if dice < 0.05:
                self.rows.clear()
                self.landed.append(Landed("T", position(self.lsn, 2 * i), [None] * len(self.shape.kinds)))
            elif self.deletes and self.rows and dice < 0.5:
                row = self.rows.pop(self.rng.randrange(len(self.rows)))
                self.landed.append(Landed("D", position(self.lsn, 2 * i), row))
            else:
                row = tuple(value(self.rng, kind) for kind in self.shape.kinds)
                if self.rows and self.rng.random() < 0.6:
                    row = self.rng.choice(self.rows)
                self.rows.append(row)
                self.landed.append(Landed("I", position(self.lsn, 2 * i), row))
        self.lsn += 8
        self.note()
        return self.lsn

    def expected(self, boundary):
        return sorted(self.truth[boundary], key=repr)
