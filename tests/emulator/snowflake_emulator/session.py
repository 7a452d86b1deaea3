"""One session: what one SQL API request, or one run of a task, does.

Transactions as Snowflake's: READ COMMITTED, DML takes the lock. Until its first change an explicit transaction reads what is
committed at each statement; from then on it holds the one writer's place and reads DuckDB's snapshot taken at that moment.
"""

import dataclasses
import re
import threading

import duckdb
from sqlglot import exp

from . import dml, scripting, show, statements, translate, words
from .errors import EmulatorError, SqlError, compilation, missing, syntax
from .lexer import Reader, starts_block
from .privileges import no_warehouse, path_text
from .results import Result, fetch

VERSION = "9.99.0"
DML = {"INSERT", "UPDATE", "DELETE", "MERGE", "TRUNCATE"}
QUERY = {"SELECT", "WITH", "VALUES", "("}


@dataclasses.dataclass
class Context:
    user: str
    role: str
    database: str | None = None
    schema: str | None = None
    warehouse: str | None = None


class Engine:
    """Makes sessions; what they share."""

    def __init__(self, emulator):
        self.store = emulator.store
        self.settings = emulator.settings
        self.privileges = emulator.privileges
        self.channels = emulator.channels
        self.emulator = emulator

    def session(self, context):
        return Session(self, context)


class Session:
    def __init__(self, engine, context):
        self.engine = engine
        self.store = engine.store
        self.settings = engine.settings
        self.privileges = engine.privileges
        self.context = context
        self.cursor = self.store.cursor()
        self.in_transaction = False
        self.writing = False
        self.cancelled = threading.Event()
        self.row_count = 0

    # Life

    def cancel(self):
        self.cancelled.set()
        self.cursor.interrupt()

    def close(self):
        """A session that ends with an open transaction rolls it back."""
        self.rollback()
        self.cursor.close()

    def begin(self):
        if not self.in_transaction:
            self.in_transaction = True
        return Result.status("Statement executed successfully.")

    def commit(self):
        if self.writing:
            try:
                self.guarded("COMMIT")
            finally:
                self.release()
        self.in_transaction = False
        return Result.status("Statement executed successfully.")

    def rollback(self):
        if self.writing:
            try:
                self.cursor.execute("ROLLBACK")
            except duckdb.Error:
                pass  # DuckDB has ended it already
            self.release()
        self.in_transaction = False
        return Result.status("Statement executed successfully.")

    def release(self):
        self.writing = False
        self.store.writer.release()

    def start_writing(self):
        """The place of the one writer, for the rest of the transaction."""
        if self.writing:
            return
        while not self.store.writer.acquire(timeout=0.05):
            self.check_cancelled()
        self.writing = True
        self.cursor.execute("BEGIN")

    def check_cancelled(self):
        if self.cancelled.is_set():
            raise SqlError("000604", "57014", "SQL execution canceled")

    # Statements

    def run(self, text, bindings=None):
        """Runs one statement; raises SqlError."""
        self.check_cancelled()
        reader = Reader(text)
        if reader.done:
            raise compilation("Empty SQL statement.", "000900", "42601")
        first = reader.peek()
        word = first.word or first.text
        if word in QUERY:
            return self.query(text, bindings)
        if word in DML:
            return self.change(text, word, bindings)
        if word == "BEGIN" and starts_block(reader.tokens, 0):
            raise syntax("BEGIN")
        if word == "BEGIN" or reader.accept("START", "TRANSACTION"):
            return self.begin()
        if word == "COMMIT":
            return self.commit()
        if word == "ROLLBACK":
            return self.rollback()
        if reader.accept("EXECUTE", "IMMEDIATE"):
            body = reader.string()
            reader.end()
            return self.execute_immediate(body)
        if word in ("SHOW", "DESC", "DESCRIBE"):
            return show.run(self, reader)
        # Everything else is DDL: it commits what is open and stands alone.
        self.commit()
        return statements.run(self, reader)

    def execute_immediate(self, body):
        self.need_warehouse()
        tokens = Reader(body).tokens
        if tokens and (tokens[0].word == "DECLARE" or (tokens[0].word == "BEGIN" and starts_block(tokens, 0))):
            return scripting.run(self, body)
        return self.run(body)

    def prepare(self, text, bindings):
        tree = translate.parse(text)
        translate.bind(tree, bindings or {})
        statement = translate.Statement(tree, self)
        for table in statement.tables:
            self.privileges.check(self.context.role, "SELECT", "TABLE", table.path)
        if statement.needs_warehouse:
            self.need_warehouse()
        return statement

    def query(self, text, bindings=None):
        statement = self.prepare(text, bindings)
        result = self.guarded(lambda: fetch(self.cursor, statement.sql()))
        self.row_count = len(result.rows)
        return result

    def change(self, text, word, bindings):
        """One INSERT, UPDATE, DELETE, MERGE or TRUNCATE."""
        if word == "TRUNCATE":
            found = re.sub(r"(?is)^\s*TRUNCATE\s+(TABLE\s+)?(IF\s+EXISTS\s+)?", "DELETE FROM ", text)
            statement = self.prepare(found, None)
            rights = {"TRUNCATE"}
        else:
            statement = self.prepare(text, bindings)
            rights = dml.rights_of(statement.tree)
        for right in sorted(rights):
            self.privileges.check(self.context.role, right, "TABLE", statement.target.path)
        self.start_writing()
        try:
            result = self.guarded(lambda: dml.carry_out(self, statement))
        except BaseException:
            if not self.in_transaction:
                self.rollback()
            raise
        if not self.in_transaction:
            self.commit()
        self.row_count = sum(result.stats.values())
        if word == "TRUNCATE":
            return Result.status("Statement executed successfully.")
        return result

    def guarded(self, action):
        """Runs on DuckDB, and says in Snowflake's words what it says."""
        try:
            return self.cursor.execute(action) if isinstance(action, str) else action()
        except duckdb.InterruptException:
            raise SqlError("000604", "57014", "SQL execution canceled") from None
        except duckdb.Error as error:
            raise words.in_snowflake_words(error) from None

    # Names

    def full_path(self, parts, depth=3):
        """A path of `depth` names, completed by the session's database and schema."""
        path = list(parts)
        if len(path) < depth and depth == 3 and len(path) == 1:
            if self.context.schema is None:
                raise SqlError("090105", "22000", "Cannot perform operation. This session does not have a current "
                               "schema. Call 'USE SCHEMA', or use a qualified name.")
            path.insert(0, self.context.schema)
        if len(path) < depth:
            if self.context.database is None:
                raise SqlError("090105", "22000", "Cannot perform operation. This session does not have a current "
                               "database. Call 'USE DATABASE', or use a qualified name.")
            path.insert(0, self.context.database)
        if len(path) != depth:
            raise syntax(".".join(parts))
        return tuple(path)

    def find_table(self, path):
        self.privileges.check_usage(self.context.role, path)
        table = self.store.tables.get(path)
        if table is None or not self.privileges.sees(self.context.role, "TABLE", path):
            raise missing("Object", path_text(path))
        return table

    def usable_warehouse(self):
        """The session's warehouse; None also for one that is not there, or not for this role."""
        warehouse = self.context.warehouse
        usable = warehouse in self.store.warehouses and self.privileges.has(
            self.context.role, "USAGE", "WAREHOUSE", warehouse)
        return warehouse if usable else None

    def need_warehouse(self):
        if self.usable_warehouse() is None:
            raise no_warehouse()

    def information(self, database, view):
        self.privileges.check_usage(self.context.role, (database,))
        return show.information(self, database, view)

    def current_timestamp(self):
        """By the emulator's clock, which a setting may put wrong."""
        skew = exp.Anonymous(this="to_microseconds", expressions=[exp.Literal.number(int(self.settings.clock_skew * 1e6))])
        return exp.Paren(this=exp.Add(this=exp.Anonymous(this="now"), expression=skew))

    def context_function(self, name):
        organization, _, account = self.settings.account.partition("-")
        value = {"USER": self.context.user, "ROLE": self.context.role, "DATABASE": self.context.database,
                 "SCHEMA": self.context.schema, "WAREHOUSE": self.usable_warehouse(), "VERSION": VERSION,
                 "ACCOUNT": self.settings.account, "ACCOUNT_NAME": account or organization,
                 "ORGANIZATION_NAME": organization, "REGION": "EMULATOR", "SESSION": "1",
                 "AVAILABLE_ROLES": None}.get(name, EmulatorError)
        if value is EmulatorError:
            if name == "TIMESTAMP":
                return self.current_timestamp()
            if name in ("DATE", "TIME"):
                return exp.Anonymous(this=f"current_{name.lower()}")
            raise EmulatorError(f"CURRENT_{name}()")
        return exp.Null() if value is None else exp.Literal.string(value)
