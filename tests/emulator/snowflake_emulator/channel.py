"""One channel: its counters and tokens, what waits in it, and how a batch gets into its table."""

import base64
import collections
import dataclasses
import json

from . import names, rows


@dataclasses.dataclass
class Batch:
    due: float
    offset: str | None
    values: list
    columns: list
    parsed: int
    errors: int
    last_error: str | None


@dataclasses.dataclass
class Channel:
    key: tuple                 # database, schema, pipe, channel
    table_id: int
    created_ms: int
    client: int = 0            # raised by every open
    sequence: int = 0          # raised by every append
    committed: str | None = None
    parsed: int = 0
    inserted: int = 0
    errors: int = 0
    last_error: str | None = None
    last_error_offset: str | None = None
    last_error_ms: int | None = None
    # Only in memory:
    columns: list = dataclasses.field(default_factory=list)
    open: bool = False
    altered: bool = False
    pending: collections.deque = dataclasses.field(default_factory=collections.deque)
    recent: collections.deque = dataclasses.field(default_factory=collections.deque)
    last_append: tuple = ()
    last_offset: str | None = None
    unordered: int = 0         # appends whose offsets do not follow the ones before
    unknown_keys: set = dataclasses.field(default_factory=set)

    KEPT = ("table_id", "created_ms", "client", "sequence", "committed", "parsed", "inserted", "errors", "last_error",
            "last_error_offset", "last_error_ms")

    def kept(self):
        return {name: getattr(self, name) for name in self.KEPT}

    def token(self):
        return base64.urlsafe_b64encode(f"{self.client}.{self.sequence}.{self.created_ms}".encode()).decode().rstrip("=")

    def status(self):
        database, schema, pipe, name = self.key
        return {"database_name": database, "schema_name": schema, "pipe_name": pipe, "channel_name": name,
                "channel_status_code": "SUCCESS", "last_committed_offset_token": self.committed,
                "created_on_ms": self.created_ms, "rows_inserted": self.inserted, "rows_parsed": self.parsed,
                "rows_error_count": self.errors, "last_error_offset_upper_bound": self.last_error_offset,
                "last_error_message": self.last_error, "last_error_timestamp_ms": self.last_error_ms,
                "snowflake_avg_processing_latency_ms": 0}

    def to_json(self):
        return {**self.status(), "open": self.open, "client_sequencer": self.client, "row_sequencer": self.sequence,
                "pending_batches": len(self.pending), "pending_rows": sum(batch.parsed for batch in self.pending),
                "last_accepted_offset_token": self.last_offset, "unordered_appends": self.unordered,
                "unknown_keys": sorted(self.unknown_keys)}


def insert(change, table, batch):
    """The rows of a batch, keys that were not there left to the column's default."""
    present = [at for at, column in enumerate(batch.columns) if table.column(column.name)]
    groups = {}
    for values in batch.values:
        given = tuple(at for at in present if values[at] is not rows.MISSING)
        groups.setdefault(given, []).append(values)
    for given, members in groups.items():
        if not given:
            change.run(f"INSERT INTO {table.stored} SELECT {', '.join('NULL' for _ in table.columns)} "
                       f"FROM range({len(members)})")
            continue
        targets = [names.stored_column(batch.columns[at].name) for at in given]
        sources = []
        for at in given:
            kind = table.column(batch.columns[at].name).type.duckdb()
            sources.append(f"unhex(c{at})" if kind == "BLOB" else f"CAST(c{at} AS {kind})")
        shape = "[{" + ",".join(f'"c{at}":"VARCHAR"' for at in given) + "}]"
        packed = json.dumps([{f"c{at}": values[at] for at in given} for values in members], ensure_ascii=False)
        change.run(f"INSERT INTO {table.stored} ({', '.join(targets)}) SELECT {', '.join(sources)} "
                   f"FROM (SELECT unnest(from_json(?, '{shape}'), recursive := true))", [packed])
