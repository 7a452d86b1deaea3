"""What there is: databases, schemas, tables, pipes, tasks, users, roles; and the DuckDB database that holds the rows.

The catalog lives in memory and, in the same DuckDB transactions as the data it describes, in `_emulator.catalog`.
"""

import contextlib
import dataclasses
import json
import threading

import duckdb

from . import names
from .columns import Column, Type

MACROS = """
CREATE SCHEMA IF NOT EXISTS _emulator;
CREATE TABLE IF NOT EXISTS _emulator.catalog (kind VARCHAR, name VARCHAR, body VARCHAR, PRIMARY KEY (kind, name));
CREATE OR REPLACE MACRO _emulator.divide(a, b) AS
  CASE WHEN b = 0 THEN error('Division by zero') ELSE a / b END;
CREATE OR REPLACE MACRO _emulator.to_text(x) AS
  CASE typeof(x) WHEN 'JSON' THEN json_extract_string(CAST(x AS VARCHAR), '$')
  WHEN 'BLOB' THEN hex(CAST(CAST(x AS VARCHAR) AS BLOB)) ELSE CAST(x AS VARCHAR) END;
CREATE OR REPLACE MACRO _emulator.to_bytes(x) AS
  CASE typeof(x) WHEN 'BLOB' THEN CAST(CAST(x AS VARCHAR) AS BLOB) ELSE unhex(_emulator.to_text(x)) END;
CREATE OR REPLACE MACRO _emulator.to_variant(x) AS
  CASE WHEN x IS NULL THEN NULL
  WHEN typeof(x) = 'JSON' THEN CAST(CAST(x AS VARCHAR) AS JSON)
  WHEN typeof(x) IN ('BOOLEAN', 'TINYINT', 'SMALLINT', 'INTEGER', 'BIGINT') THEN CAST(CAST(x AS VARCHAR) AS JSON)
  WHEN typeof(x) LIKE '%]' THEN to_json(x)
  ELSE to_json(_emulator.to_text(x)) END;
CREATE OR REPLACE MACRO _emulator.contains(list, x) AS
  CASE WHEN list IS NULL OR x IS NULL THEN NULL
  ELSE list_contains(CAST(CAST(list AS JSON) AS VARCHAR[]), _emulator.to_text(x)) END;
CREATE OR REPLACE MACRO _emulator.without(list, x) AS
  to_json(list_filter(CAST(CAST(list AS JSON) AS JSON[]),
                      lambda e: CAST(e AS VARCHAR) <> CAST(_emulator.to_variant(x) AS VARCHAR)));
CREATE OR REPLACE MACRO _emulator.append(list, x) AS
  to_json(list_append(CAST(CAST(list AS JSON) AS JSON[]), _emulator.to_variant(x)));
CREATE OR REPLACE MACRO _emulator.size(list) AS json_array_length(CAST(list AS JSON));
"""


@dataclasses.dataclass
class Table:
    database: str
    schema: str
    name: str
    columns: list
    id: int = 0
    owner: str = ""
    transient: bool = False
    comment: str = ""
    created: int = 0
    properties: dict = dataclasses.field(default_factory=dict)

    @property
    def path(self):
        return (self.database, self.schema, self.name)

    @property
    def stored(self):
        return names.stored_table(*self.path)

    def column(self, name):
        return next((column for column in self.columns if column.name == name), None)

    def to_json(self):
        return dataclasses.asdict(self)

    @staticmethod
    def from_json(body):
        columns = [Column(c["name"], Type(**c["type"]), c["nullable"], c["default"]) for c in body.pop("columns")]
        return Table(columns=columns, **body)


def key_text(key):
    return json.dumps(key if isinstance(key, tuple) else [key])


class Store:
    """Owns the DuckDB database. `writer` is held by the one transaction that changes tables, `ddl` while any change of a
    table's shape or a commit of streamed rows runs; in that order."""

    KINDS = ("database", "schema", "table", "pipe", "task", "user", "role", "warehouse", "grant", "channel", "setting")

    def __init__(self, path=None):
        # Nothing is ever fetched: what the package brings is all there is.
        self.root = duckdb.connect(path or ":memory:", config={
            "autoinstall_known_extensions": False, "autoload_known_extensions": False})
        self.root.execute("SET TimeZone = 'UTC'; SET preserve_insertion_order = true; SET threads = 2")
        self.root.execute(MACROS)
        self.writer = threading.Lock()
        self.ddl = threading.RLock()
        self.lock = threading.RLock()
        self.kinds = {kind: {} for kind in self.KINDS}
        self.next_id = 1
        for kind, name, body in self.root.execute("SELECT kind, name, body FROM _emulator.catalog").fetchall():
            key = json.loads(name)
            key = tuple(key) if len(key) > 1 else key[0]
            body = json.loads(body)
            self.kinds[kind][key] = Table.from_json(body) if kind == "table" else body
        self.next_id = 1 + max((table.id for table in self.kinds["table"].values()), default=0)

    def __getattr__(self, name):
        kinds = self.__dict__.get("kinds", {})
        singular = {"databases": "database", "schemas": "schema", "tables": "table", "pipes": "pipe", "tasks": "task",
                    "users": "user", "roles": "role", "warehouses": "warehouse", "grants": "grant"}.get(name)
        if singular is None:
            raise AttributeError(name)
        return kinds[singular]

    def cursor(self):
        cursor = self.root.cursor()
        cursor.execute("SET TimeZone = 'UTC'")
        return cursor

    @contextlib.contextmanager
    def change(self):
        """One DuckDB transaction for a change of the catalog and of what it describes."""
        with self.ddl:
            cursor = self.cursor()
            undo = []
            try:
                cursor.execute("BEGIN")
                yield Change(self, cursor, undo)
                cursor.execute("COMMIT")
            except BaseException:
                for kind, key, old in reversed(undo):
                    if old is None:
                        self.kinds[kind].pop(key, None)
                    else:
                        self.kinds[kind][key] = old
                with contextlib.suppress(duckdb.Error):
                    cursor.execute("ROLLBACK")
                raise
            finally:
                cursor.close()

    def put(self, kind, key, body):
        with self.change() as change:
            change.put(kind, key, body)

    def remove(self, kind, key):
        with self.change() as change:
            change.remove(kind, key)

    def new_id(self):
        with self.lock:
            self.next_id += 1
            return self.next_id - 1

    def make_schema(self, database, schema, owner=""):
        with self.change() as change:
            if database not in self.databases:
                change.put("database", database, {"owner": owner})
            if (database, schema) not in self.schemas:
                change.run(f"CREATE SCHEMA IF NOT EXISTS {names.stored_schema(database, schema)}")
                change.put("schema", (database, schema), {"owner": owner})

    def close(self):
        with self.ddl:
            self.root.close()


class Change:
    """What a `with store.change()` block may do."""

    def __init__(self, store, cursor, undo):
        self.store = store
        self.cursor = cursor
        self.undo = undo

    def run(self, sql, parameters=None):
        return self.cursor.execute(sql, parameters) if parameters is not None else self.cursor.execute(sql)

    def put(self, kind, key, body):
        self.undo.append((kind, key, self.store.kinds[kind].get(key)))
        self.run("INSERT OR REPLACE INTO _emulator.catalog VALUES (?, ?, ?)",
                 [kind, key_text(key), json.dumps(body.to_json() if isinstance(body, Table) else body)])
        self.store.kinds[kind][key] = body

    def remove(self, kind, key):
        self.undo.append((kind, key, self.store.kinds[kind].get(key)))
        self.run("DELETE FROM _emulator.catalog WHERE kind = ? AND name = ?", [kind, key_text(key)])
        self.store.kinds[kind].pop(key, None)
