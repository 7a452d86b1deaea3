"""CREATE, ALTER and DROP of tables; the other kinds of objects are in objects.py."""

import dataclasses

from sqlglot import exp

from . import names, objects, translate
from .columns import Column, from_duckdb, may_widen, parse_type
from .errors import EmulatorError, SqlError, compilation, exists, syntax
from .privileges import path_text
from .results import Result
from .store import Table

CONSTRAINTS = ("PRIMARY", "UNIQUE", "FOREIGN", "CONSTRAINT")
PROPERTIES = {"DATA_RETENTION_TIME_IN_DAYS", "MAX_DATA_EXTENSION_TIME_IN_DAYS", "CHANGE_TRACKING", "ERROR_LOGGING",
              "ENABLE_SCHEMA_EVOLUTION", "COMMENT", "DEFAULT_DDL_COLLATION"}


def run(session, reader):
    """One statement that is neither a query nor DML nor transaction control."""
    for words, handler in ((("CREATE",), create), (("ALTER", "TABLE"), alter_table), (("DROP", "TABLE"), drop_table)):
        start = reader.at
        if reader.accept(*words):
            result = handler(session, reader)
            if result is not None:
                return result
            reader.at = start
    return objects.run(session, reader)


def create(session, reader):
    replace = reader.accept("OR", "REPLACE")
    if reader.peek().word in ("TEMP", "TEMPORARY", "LOCAL", "GLOBAL", "VOLATILE"):
        raise EmulatorError("temporary tables")
    transient = reader.accept("TRANSIENT")
    if not reader.accept("TABLE"):
        return None
    if_not_exists = reader.accept("IF", "NOT", "EXISTS")
    path = session.full_path(reader.path())
    session.privileges.check_usage(session.context.role, path)
    old = session.store.tables.get(path)
    if old is not None and if_not_exists:
        return Result.status(f"{path[2]} already exists, statement succeeded.")
    session.privileges.check(session.context.role, "CREATE TABLE", "SCHEMA", path[:2])
    if old is not None and not replace:
        raise exists(path_text(path))
    if old is not None:
        session.privileges.check(session.context.role, "OWNERSHIP", "TABLE", path)
    table = Table(*path, columns=[], owner=session.context.role, transient=transient,
                  created=session.settings.now_ms())
    source = None
    if reader.accept("LIKE"):
        table.columns = list(find(session, reader).columns)
    elif reader.accept("CLONE"):
        other = find(session, reader)
        table.columns, source = list(other.columns), f"SELECT * FROM {other.stored}"
    elif reader.peek().text == "(":
        read_columns(session, reader, table)
    while not reader.done and not reader.accept("AS"):
        read_property(reader, table)
    if not reader.done:
        statement = session.prepare(reader.rest(), None)
        source = statement.sql()
    make_table(session, table, old, source)
    return Result.status(f"Table {path[2]} successfully created.")


def make_table(session, table, old, source=None):
    session.start_writing()
    try:
        with session.store.change() as change:
            if old is not None:
                remove_table(session, change, old)
            if not table.columns and source is not None:
                described = session.guarded(lambda: change.run("DESCRIBE " + source).fetchall())
                table.columns = [Column(names.decode(row[0]), from_duckdb(row[1])) for row in described]
            if not table.columns:
                raise syntax("<EOF>")
            repeated = {column.name for column in table.columns if [c.name for c in table.columns].count(column.name) > 1}
            if repeated:
                raise compilation(f"duplicate column name '{sorted(repeated)[0]}'", "002025", "42S21")
            table.id = session.store.new_id()
            listed = ", ".join(definition(session, column) for column in table.columns)
            change.run(f"CREATE TABLE {table.stored} ({listed})")
            if source is not None:
                session.guarded(lambda: change.run(f"INSERT INTO {table.stored} {source}"))
            change.put("table", table.path, table)
    finally:
        session.rollback()


def definition(session, column):
    text = f"{names.stored_column(column.name)} {column.type.duckdb()}"
    if column.default is not None:
        text += f" DEFAULT {default_sql(session, column.default)}"
    return text + ("" if column.nullable else " NOT NULL")


def default_sql(session, text):
    tree = translate.parse("SELECT " + text)
    value = translate.Statement(tree, session).tree.expressions[0]
    return (value.this if isinstance(value, exp.Alias) else value).sql("duckdb")


def read_columns(session, reader, table):
    reader.expect("(")
    while True:
        if reader.peek().word in CONSTRAINTS:
            reader.until(",", ")")
        else:
            table.columns.append(read_column(session, reader))
        if not reader.accept(","):
            break
    reader.expect(")")


def read_column(session, reader):
    column = Column(reader.identifier(), read_type(reader))
    while reader.peek().text not in (",", ")", ""):
        if reader.accept("NOT", "NULL"):
            column.nullable = False
        elif reader.accept("NULL") or reader.accept("UNIQUE") or reader.accept("PRIMARY", "KEY"):
            pass
        elif reader.accept("DEFAULT"):
            column.default = reader.until(",", ")", "NOT", "COMMENT", "PRIMARY", "UNIQUE")
            default_sql(session, column.default)
        elif reader.accept("COMMENT") or reader.accept("COLLATE"):
            reader.string()
        elif reader.accept("CONSTRAINT"):
            reader.identifier()
        else:
            raise syntax(reader.peek().text)
    return column


def read_type(reader):
    first = reader.next()
    if first.kind != "word":
        raise syntax(first.text or "<EOF>")
    last = first
    if reader.peek().word in ("PRECISION", "VARYING"):
        last = reader.next()
    if reader.accept("("):
        reader.until(")")
        last = reader.peek()
        reader.expect(")")
    return parse_type(reader.sql[first.start:last.end])


def read_property(reader, table):
    if reader.accept("CLUSTER", "BY"):
        reader.expect("(")
        reader.until(")")
        reader.expect(")")
        return
    name = reader.word()
    if name not in PROPERTIES:
        raise syntax(name)
    reader.expect("=")
    token = reader.next()
    table.properties[name] = token.text
    if name == "COMMENT":
        table.comment = token.text[1:-1]


def find(session, reader):
    path = session.full_path(reader.path())
    table = session.find_table(path)
    session.privileges.check(session.context.role, "SELECT", "TABLE", path)
    return table


def remove_table(session, change, table):
    change.run(f"DROP TABLE {table.stored}")
    change.remove("table", table.path)
    session.engine.channels.table_gone(table.id)
    for key, pipe in list(session.store.pipes.items()):
        if tuple(pipe["table"]) == table.path:
            change.remove("pipe", key)


def drop_table(session, reader):
    if_exists = reader.accept("IF", "EXISTS")
    path = session.full_path(reader.path())
    table = session.store.tables.get(path)
    if table is None and if_exists:
        return Result.status(f"Drop statement executed successfully ({path[2]} already dropped).")
    table = session.find_table(path)
    session.privileges.check(session.context.role, "OWNERSHIP", "TABLE", path)
    exclusively(session, lambda change: remove_table(session, change, table))
    return Result.status(f"{path[2]} successfully dropped.")


def exclusively(session, action):
    """A change of the catalog while nobody else changes rows."""
    session.start_writing()
    try:
        with session.store.change() as change:
            return session.guarded(lambda: action(change))
    finally:
        session.rollback()


def alter_table(session, reader):
    if_exists = reader.accept("IF", "EXISTS")
    path = session.full_path(reader.path())
    if if_exists and path not in session.store.tables:
        return Result.status("Statement executed successfully.")
    table = session.find_table(path)
    session.privileges.check(session.context.role, "OWNERSHIP", "TABLE", path)
    if reader.accept("RENAME", "TO"):
        return rename_table(session, table, session.full_path(reader.path()))
    if reader.accept("SWAP", "WITH"):
        return swap(session, table, session.find_table(session.full_path(reader.path())))
    new = dataclasses.replace(table, columns=[dataclasses.replace(column) for column in table.columns],
                              properties=dict(table.properties))
    actions = read_actions(session, reader, new)
    reader.end()

    def apply(change):
        for sql in actions:
            change.run(sql)
        change.put("table", table.path, new)
        if actions:
            session.engine.channels.table_altered(table.id)

    exclusively(session, apply)
    return Result.status("Statement executed successfully.")


def read_actions(session, reader, table):
    """The DuckDB statements of an ALTER TABLE; `table` becomes what it will be."""
    start = f"ALTER TABLE {table.stored} "
    if reader.accept("ADD"):
        reader.accept("COLUMN")
        return add_columns(session, reader, table, start)
    if reader.accept("DROP", "NOT", "NULL"):
        raise syntax("NOT")
    if reader.accept("DROP"):
        reader.accept("COLUMN")
        return drop_columns(reader, table, start)
    if reader.accept("RENAME", "COLUMN"):
        old, _, new = reader.identifier(), reader.expect("TO"), reader.identifier()
        column = existing(table, old)
        if table.column(new):
            raise compilation(f"column '{new}' already exists", "002025", "42S21")
        column.name = new
        return [start + f"RENAME COLUMN {names.stored_column(old)} TO {names.stored_column(new)}"]
    if reader.accept("ALTER") or reader.accept("MODIFY"):
        return alter_columns(reader, table, start)
    if reader.accept("SET"):
        while not reader.done:
            read_property(reader, table)
            reader.accept(",")
        return []
    if reader.accept("UNSET"):
        table.properties.pop(reader.word(), None)
        return []
    if reader.accept("CLUSTER", "BY") or reader.accept("SUSPEND", "RECLUSTER"):
        reader.rest()
        return []
    raise syntax(reader.peek().text or "<EOF>")


def add_columns(session, reader, table, start):
    if_not_exists = reader.accept("IF", "NOT", "EXISTS")
    actions = []
    while True:
        column = read_column(session, reader)
        if if_not_exists and (column.default is not None):
            raise compilation("ADD COLUMN IF NOT EXISTS cannot be combined with DEFAULT", "000002", "0A000")
        if table.column(column.name) is None:
            table.columns.append(column)
            text = definition(session, dataclasses.replace(column, nullable=True))
            actions.append(start + "ADD COLUMN " + text)
            if not column.nullable:
                actions.append(start + f"ALTER COLUMN {names.stored_column(column.name)} SET NOT NULL")
        elif not if_not_exists:
            raise compilation(f"column '{column.name}' already exists", "002025", "42S21")
        if not reader.accept(","):
            return actions
        reader.accept("COLUMN")


def drop_columns(reader, table, start):
    if_exists = reader.accept("IF", "EXISTS")
    actions = []
    while True:
        name = reader.identifier()
        if table.column(name) is None:
            if not if_exists:
                existing(table, name)
        elif len(table.columns) == 1:
            raise compilation("Cannot drop the last column of a table.", "000002", "0A000")
        else:
            table.columns.remove(table.column(name))
            actions.append(start + f"DROP COLUMN {names.stored_column(name)}")
        if not reader.accept(","):
            return actions


def alter_columns(reader, table, start):
    reader.accept("COLUMN")
    column = existing(table, reader.identifier())
    start += f"ALTER COLUMN {names.stored_column(column.name)} "
    if reader.accept("DROP", "NOT", "NULL"):
        column.nullable = True
        return [start + "DROP NOT NULL"]
    if reader.accept("SET", "NOT", "NULL"):
        column.nullable = False
        return [start + "SET NOT NULL"]
    if reader.accept("DROP", "DEFAULT"):
        column.default = None
        return [start + "DROP DEFAULT"]
    if reader.accept("SET", "DATA", "TYPE") or reader.accept("TYPE"):
        new = read_type(reader)
        if not may_widen(column.type, new):
            raise SqlError("000002", "0A000", f"SQL compilation error: cannot change column {column.name} from type "
                           f"{column.type} to {new}")
        column.type = new
        return [start + f"SET DATA TYPE {new.duckdb()}"]
    raise syntax(reader.peek().text or "<EOF>")


def existing(table, name):
    column = table.column(name)
    if column is None:
        raise compilation(f"column '{names.show(name)}' does not exist", "000904", "42000")
    return column


def move(change, table, path):
    """The table under another name. DuckDB cannot change a table's schema, so it is copied."""
    moved = dataclasses.replace(table, database=path[0], schema=path[1], name=path[2])
    if path[:2] == table.path[:2]:
        change.run(f"ALTER TABLE {table.stored} RENAME TO {names.quoted(names.encode(path[2]))}")
    else:
        change.run(f"CREATE TABLE {moved.stored} AS SELECT * FROM {table.stored}")
        for column in moved.columns:
            if not column.nullable:
                change.run(f"ALTER TABLE {moved.stored} ALTER COLUMN {names.stored_column(column.name)} SET NOT NULL")
        change.run(f"DROP TABLE {table.stored}")
    change.remove("table", table.path)
    change.put("table", path, moved)
    return moved


def rename_table(session, table, path):
    if path in session.store.tables:
        raise exists(path_text(path))
    session.privileges.check_usage(session.context.role, path)
    session.privileges.check(session.context.role, "CREATE TABLE", "SCHEMA", path[:2])

    def apply(change):
        move(change, table, path)
        session.engine.channels.table_gone(table.id)

    exclusively(session, apply)
    return Result.status("Statement executed successfully.")


def swap(session, table, other):
    """Both change names at once. Their channels are gone: what a pipe follows then is not documented."""
    session.privileges.check(session.context.role, "OWNERSHIP", "TABLE", other.path)

    def apply(change):
        between = move(change, table, (*table.path[:2], table.name + "~SWAP"))
        move(change, other, table.path)
        move(change, between, other.path)
        for one in (table, other):
            session.engine.channels.table_gone(one.id)

    exclusively(session, apply)
    return Result.status("Statement executed successfully.")


