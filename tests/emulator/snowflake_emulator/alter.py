"""ALTER TABLE: columns, renames, swaps."""

import dataclasses

from . import names
from .columns import may_widen
from .ddl import definition, exclusively, read_column, read_property, read_type
from .errors import SqlError, compilation, exists, syntax
from .privileges import path_text
from .results import Result


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


