"""Channels: opened, fenced, appended to, committed after a lag.

A channel takes one append at a time, chained by continuation tokens. What is accepted waits in `pending` for the commit
lag; then its rows and the channel's new offset token become visible in one DuckDB transaction. What waits is only in memory.
"""

import base64
import collections
import dataclasses
import hashlib
import json
import logging
import threading
import time

from . import names, rows
from .errors import HttpError, RowError

STALE = "STALE_CONTINUATION_TOKEN_SEQUENCER"
NO_CHANNEL = "ERR_CHANNEL_DOES_NOT_EXIST_OR_NOT_AUTHORIZED"
RATE_WINDOW = 0.95  # of a second: what was sent 10 times a second may arrive a little closer together
log = logging.getLogger("emulator.channels")


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


class Channels:
    def __init__(self, store, settings):
        self.store = store
        self.settings = settings
        # Taken after `store.ddl` where both are needed, never the other way round.
        self.changed = threading.Condition(threading.RLock())
        self.channels = {}
        self.stopped = False
        for key, body in store.kinds["channel"].items():
            self.channels[key] = Channel(key=key, **body)
        self.thread = threading.Thread(target=self.commit_for_ever, name="commit", daemon=True)
        self.thread.start()

    def stop(self):
        with self.changed:
            self.stopped = True
            self.changed.notify_all()
        self.thread.join()

    # What the endpoints do; `table` is the one behind the pipe as it is now.

    def open(self, key, table, discard, offset):
        with self.store.ddl, self.changed:
            channel = self.channels.get(key)
            if channel is not None and channel.table_id != table.id:
                channel = None
            if channel is not None and channel.pending:
                if not discard:
                    raise HttpError(409, "ERR_CHANNEL_HAS_UNCOMMITTED_DATA",
                                    f"Channel {key[3]} has uncommitted rows. Retry when they are committed.")
                channel.pending.clear()
            if channel is None:
                channel = Channel(key=key, table_id=table.id, created_ms=self.settings.now_ms())
                self.channels[key] = channel
            channel.client += 1
            channel.sequence = 0
            channel.open = True
            channel.altered = False
            channel.columns = list(table.columns)
            channel.last_append = ()
            if offset is not None:
                channel.committed = offset
            channel.last_offset = channel.committed
            self.store.put("channel", key, channel.kept())
            return {"next_continuation_token": channel.token(), "channel_status": channel.status()}

    def find(self, key, table):
        channel = self.channels.get(key)
        if channel is None or channel.table_id != table.id:
            raise HttpError(404, NO_CHANNEL, f"Channel {key[3]} does not exist or is not authorized.")
        return channel

    def limit_rate(self, channel):
        now = time.monotonic()
        recent = channel.recent
        while recent and recent[0] <= now - RATE_WINDOW:
            recent.popleft()
        if len(recent) >= self.settings.requests_per_second:
            raise HttpError(429, "ERR_CHANNEL_REQUEST_RATE_EXCEEDED",
                            f"More than {self.settings.requests_per_second} requests a second on one channel.",
                            {"Retry-After": "1"})
        recent.append(now)

    def append(self, key, table, request, body, rejected=()):
        """`request`: continuation, start, end, request_id. `rejected`: numbers of rows to refuse by script."""
        with self.changed:
            channel = self.find(key, table)
            self.limit_rate(channel)
            fingerprint = hashlib.sha256(body).hexdigest()
            if request["continuation"] != channel.token() or not channel.open:
                return self.answer_stale(channel, request, fingerprint)
            if channel.altered and self.settings.altered_table == "reopen":
                raise HttpError(409, "ERR_CHANNEL_MUST_BE_REOPENED", "The table was altered; reopen the channel.")
            columns = channel.columns
        parsed = rows.parse_lines(body)
        binary = "BASE64" if key[2] == f"{table.name}-STREAMING" else "HEX"
        values, errors, last_error = [], 0, None
        for number, row in enumerate(parsed):
            try:
                if number in rejected:
                    raise RowError("Numeric value 'scripted' is not recognized")
                values.append(rows.convert(row, columns, binary))
            except RowError as error:
                errors += 1
                last_error = str(error)
        known = {column.name for column in columns}
        with self.changed:
            if channel is not self.channels.get(key) or request["continuation"] != channel.token():
                return self.answer_stale(channel, request, fingerprint)
            for row in parsed:
                channel.unknown_keys.update(row.keys() - known)
            start, end = request["start"], request["end"]
            if start is not None and (end < start or (channel.last_offset is not None and start <= channel.last_offset)):
                channel.unordered += 1
            channel.last_offset = end if end is not None else channel.last_offset
            channel.pending.append(Batch(time.monotonic() + self.settings.commit_lag, end, values, columns, len(parsed),
                                         errors, last_error))
            before = channel.token()
            channel.sequence += 1
            channel.last_append = (before, request["request_id"], fingerprint, channel.token())
            self.changed.notify_all()
            return {"next_continuation_token": channel.token()}

    def answer_stale(self, channel, request, fingerprint):
        """A token that is not the next one: an accepted request sent again, an older one, or another owner's."""
        before = channel.last_append
        sent = (request["continuation"], request["request_id"], fingerprint)
        if self.settings.resend == "idempotent" and before[:3] == sent and channel.open:
            return {"next_continuation_token": before[3]}
        code = STALE
        try:
            owner = base64.urlsafe_b64decode(request["continuation"] + "==").decode().split(".")[0]
            if owner.isdigit() and int(owner) < channel.client:
                code = self.settings.superseded_code
        except ValueError:
            pass
        raise HttpError(400, code, f"The continuation token is not the next one of channel {channel.key[3]}.")

    def statuses(self, pipe_key, table, wanted):
        with self.changed:
            found = {}
            for name in wanted:
                channel = self.channels.get((*pipe_key, name))
                if channel is not None and channel.table_id == table.id:
                    found[name] = channel.status()
            return {"channel_statuses": found}

    def drop(self, key, table, discard):
        with self.store.ddl, self.changed:
            channel = self.find(key, table)
            if channel.pending and not discard:
                raise HttpError(409, "ERR_CHANNEL_HAS_UNCOMMITTED_DATA", f"Channel {key[3]} has uncommitted rows.")
            self.forget(key)
            return {}

    # What happens to them

    def forget(self, key):
        with self.store.ddl, self.changed:
            self.channels.pop(key, None)
            self.store.remove("channel", key)

    def table_gone(self, table_id):
        """Dropped, replaced, renamed or swapped: the channels into it are gone, with their tokens."""
        with self.store.ddl, self.changed:
            for key in [key for key, channel in self.channels.items() if channel.table_id == table_id]:
                self.forget(key)

    def table_altered(self, table_id):
        with self.changed:
            for channel in self.channels.values():
                channel.altered = channel.altered or channel.table_id == table_id

    def take_over(self, key):
        """Somebody else opens it: whoever has it now is fenced."""
        with self.changed:
            self.channels[key].client += 1
            self.channels[key].sequence = 0

    def make_stale(self, key):
        with self.changed:
            self.channels[key].sequence += 1

    def commit_now(self):
        """Everything accepted becomes committed, whatever the lag."""
        with self.changed:
            for channel in self.channels.values():
                for batch in channel.pending:
                    batch.due = 0.0
            self.changed.notify_all()
            self.changed.wait_for(lambda: self.stopped or not any(c.pending for c in self.channels.values()), 30.0)

    # Committing

    def commit_for_ever(self):
        while True:
            with self.changed:
                if self.stopped:
                    return
                due = [channel.pending[0].due for channel in self.channels.values() if channel.pending]
                now = time.monotonic()
                if not due or min(due) > now:
                    self.changed.wait(min(due) - now if due else None)
                    continue
            try:
                with self.store.ddl, self.changed:
                    for channel in list(self.channels.values()):
                        if channel.pending and channel.pending[0].due <= time.monotonic():
                            self.commit(channel)
                    self.changed.notify_all()
            except Exception:  # the thread must go on, and the log must say so
                log.exception("commit failed")
                time.sleep(0.1)

    def commit(self, channel):
        table = next((table for table in self.store.tables.values() if table.id == channel.table_id), None)
        if table is None:
            self.forget(channel.key)
            return
        before = channel.kept()
        batches = []
        while channel.pending and channel.pending[0].due <= time.monotonic():
            batches.append(channel.pending.popleft())
        for batch in batches:
            channel.parsed += batch.parsed
            channel.inserted += len(batch.values)
            channel.committed = batch.offset if batch.offset is not None else channel.committed
            if batch.errors:
                channel.errors += batch.errors
                channel.last_error = batch.last_error
                channel.last_error_offset = batch.offset
                channel.last_error_ms = self.settings.now_ms()
        try:
            with self.store.change() as change:
                if not self.settings.discard_rows:
                    for batch in batches:
                        insert(change, table, batch)
                change.put("channel", channel.key, channel.kept())
        except BaseException:
            for name, value in before.items():
                setattr(channel, name, value)
            channel.pending.extendleft(reversed(batches))
            raise


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
