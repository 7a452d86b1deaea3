"""Channels: opened, fenced, appended to, committed after a lag.

A channel takes one append at a time, chained by continuation tokens. What is accepted waits in `pending` for the commit
lag; then its rows and the channel's new offset token become visible in one DuckDB transaction. What waits is only in memory.
"""

import base64
import hashlib
import logging
import threading
import time

from . import rows
from .channel import Batch, Channel, insert
from .errors import HttpError, RowError

STALE = "STALE_CONTINUATION_TOKEN_SEQUENCER"
NO_CHANNEL = "ERR_CHANNEL_DOES_NOT_EXIST_OR_NOT_AUTHORIZED"
RATE_WINDOW = 0.95  # of a second: what was sent 10 times a second may arrive a little closer together
log = logging.getLogger("emulator.channels")


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
