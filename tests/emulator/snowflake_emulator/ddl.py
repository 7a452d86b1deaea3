"""CREATE and DROP of tables; ALTER TABLE is in alter.py, the other kinds of objects are in objects.py."""

from sqlglot import exp

from . import names, translate
from .columns import Column, from_duckdb, parse_type
from .errors import EmulatorError, compilation, exists, syntax
from .privileges import path_text
from .results import Result
from .store import Table

CONSTRAINTS = ("PRIMARY", "UNIQUE", "FOREIGN", "CONSTRAINT")
PROPERTIES = {"DATA_RETENTION_TIME_IN_DAYS", "MAX_DATA_EXTENSION_TIME_IN_DAYS", "CHANGE_TRACKING", "ERROR_LOGGING",
              "ENABLE_SCHEMA_EVOLUTION", "COMMENT", "DEFAULT_DDL_COLLATION"}


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
    # Also for one that is there already: IF NOT EXISTS does not spare the right.
    session.privileges.check(session.context.role, "CREATE TABLE", "SCHEMA", path[:2])
    if old is not None and if_not_exists:
        return Result.status(f"{path[2]} already exists, statement succeeded.")
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
