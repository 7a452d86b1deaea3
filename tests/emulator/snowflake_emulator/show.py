"""SHOW, DESCRIBE and INFORMATION_SCHEMA: what the catalog says, as results."""

import datetime

from . import names
from .auth import fingerprint
from .errors import EmulatorError, SqlError, denied, missing, syntax
from .privileges import path_text
from .results import Result

PARAMETERS = {
    "QUOTED_IDENTIFIERS_IGNORE_CASE": ("false", "BOOLEAN"), "TIMEZONE": ("UTC", "STRING"),
    "TIMESTAMP_TYPE_MAPPING": ("TIMESTAMP_NTZ", "STRING"), "BINARY_INPUT_FORMAT": ("HEX", "STRING"),
    "BINARY_OUTPUT_FORMAT": ("HEX", "STRING"), "AUTOCOMMIT": ("true", "BOOLEAN"),
    "ERROR_ON_NONDETERMINISTIC_MERGE": ("true", "BOOLEAN"), "STATEMENT_TIMEOUT_IN_SECONDS": ("172800", "NUMBER"),
    "DATA_RETENTION_TIME_IN_DAYS": ("1", "NUMBER"),
}


def run(session, reader):
    if reader.accept("SHOW"):
        reader.accept("TERSE")
        return show(session, reader)
    reader.next()
    kind = reader.word()
    if kind == "TABLE":
        table = session.find_table(session.full_path(reader.path()))
        return Result.table(["name", "type", "kind", "null?", "default", "primary key", "unique key"], [
            [c.name, str(c.type), "COLUMN", "Y" if c.nullable else "N", c.default, "N", "N"] for c in table.columns])
    if kind == "USER":
        return describe_user(session, reader.identifier())
    if kind in ("TASK", "PIPE"):
        path = session.full_path(reader.path())
        return listing(session, kind, lambda key: key == path, path)
    raise syntax(kind)


def describe_user(session, name):
    user = session.store.users.get(name)
    if user is None:
        raise missing("User", name)
    if name != session.context.user and not session.privileges.has(session.context.role, "OWNERSHIP", "USER", name):
        raise denied("USER", name)
    rows = [["NAME", name], ["DEFAULT_ROLE", user.get("default_role")], ["DEFAULT_WAREHOUSE", user.get("default_warehouse")],
            ["DISABLED", str(user.get("disabled", False)).lower()]]
    for slot in ("RSA_PUBLIC_KEY", "RSA_PUBLIC_KEY_2"):
        body = user.get(slot.lower())
        rows.append([slot, body])
        rows.append([slot + "_FP", fingerprint(body) if body else None])
    return Result.table(["property", "value", "default", "description"],
                        [[name, "null" if value is None else value, "null", ""] for name, value in rows])


def show(session, reader):
    kind = reader.word()
    if kind == "USER" and reader.accept("PARAMETERS"):
        kind = "PARAMETERS"
    pattern, scope = None, ()
    while not reader.done:
        if reader.accept("LIKE"):
            pattern = names.like(reader.string())
        elif reader.accept("IN") or reader.accept("FOR"):
            scope = read_scope(session, reader)
            check_scope(session, scope)
        elif reader.accept("STARTS", "WITH") or reader.accept("LIMIT"):
            raise EmulatorError("SHOW ... STARTS WITH or LIMIT")
        elif reader.accept("ON") or reader.accept("TO") or reader.accept("OF"):
            return show_grants(session, reader)
        else:
            raise syntax(reader.peek().text)

    def wanted(key):
        path = key if isinstance(key, tuple) else (key,)
        return path[:len(scope)] == scope and (pattern is None or pattern.match(path[-1]))

    if kind == "PARAMETERS":
        ignore = "true" if session.settings.quoted_identifiers_ignore_case else "false"
        values = {**PARAMETERS, "QUOTED_IDENTIFIERS_IGNORE_CASE": (ignore, "BOOLEAN")}
        return Result.table(["key", "value", "default", "level", "description", "type"], [
            [name, value, PARAMETERS[name][0], "", "", sort] for name, (value, sort) in sorted(values.items()) if wanted(name)])
    if kind == "CHANNELS":
        return show_channels(session, wanted)
    if kind == "COLUMNS":
        return show_columns(session, scope, pattern)
    singular = {"TABLES": "TABLE", "SCHEMAS": "SCHEMA", "DATABASES": "DATABASE", "WAREHOUSES": "WAREHOUSE", "TASKS": "TASK",
                "PIPES": "PIPE", "USERS": "USER", "ROLES": "ROLE"}.get(kind)
    if singular is None:
        raise EmulatorError(f"SHOW {kind}")
    return listing(session, singular, wanted)


def read_scope(session, reader):
    """What IN names, as the beginning of a path."""
    word = reader.peek().word
    if word == "ACCOUNT":
        reader.next()
        return ()
    if word in ("DATABASE", "SCHEMA", "TABLE", "USER", "PIPE", "SESSION"):
        reader.next()
    if reader.done or word in ("USER", "SESSION"):
        if not reader.done:
            reader.path()
        return ()
    parts = reader.path()
    if word == "DATABASE":
        return tuple(parts)
    if word in ("TABLE", "PIPE"):
        return session.full_path(parts)
    return session.full_path(parts, 2)


def check_scope(session, scope):
    """SHOW ... IN something that is not there for the role is refused, in words of its own."""
    try:
        if scope:
            session.privileges.check_usage(session.context.role, scope)
    except SqlError:
        raise SqlError("002043", "02000", "SQL compilation error:\nObject does not exist, or operation cannot be performed."
                       ) from None


def listing(session, kind, wanted, expected=None):
    fields = {"TABLE": ["owner", "kind", "comment", "rows"], "TASK": ["owner", "warehouse", "schedule", "state", "definition"],
              "PIPE": ["owner", "definition"], "USER": ["default_role", "disabled"], "SCHEMA": ["owner"],
              "DATABASE": ["owner"], "WAREHOUSE": ["state", "size"], "ROLE": []}[kind]
    located = kind in ("TABLE", "TASK", "PIPE")
    rows = []
    for key, body in sorted(session.store.kinds[kind.lower()].items(), key=lambda item: item[0]):
        if not wanted(key) or not visible(session, kind, key):
            continue
        path = key if isinstance(key, tuple) else (key,)
        where = [path[0], path[1]] if located else [path[0]] if kind == "SCHEMA" else []
        rows.append(["2026-01-01 00:00:00.000 +0000", path[-1], *where, *(value_of(session, kind, body, f) for f in fields)])
    if expected is not None and not rows:
        raise missing(kind.title(), path_text(expected))
    where = ["database_name", "schema_name"] if located else ["database_name"] if kind == "SCHEMA" else []
    return Result.table(["created_on", "name", *where, *fields], rows)


def visible(session, kind, key):
    role, privileges = session.context.role, session.privileges
    if kind in ("USER", "ROLE"):
        return True
    if kind in ("DATABASE", "WAREHOUSE", "SCHEMA"):
        return privileges.has(role, "USAGE", kind, key)
    return privileges.has(role, "USAGE", "SCHEMA", key[:2]) and privileges.sees(role, kind, key)


def value_of(session, kind, body, field):
    if kind == "TABLE":
        if field == "kind":
            return "TRANSIENT" if body.transient else "TABLE"
        if field == "rows":
            return session.cursor.execute(f"SELECT count(*) FROM {body.stored}").fetchall()[0][0]
        return getattr(body, field)
    if kind == "WAREHOUSE":
        return {"state": "STARTED", "size": "X-Small"}[field]
    if kind == "PIPE" and field == "definition":
        return f"COPY INTO {path_text(tuple(body['table']))} FROM TABLE(DATA_SOURCE(TYPE => 'STREAMING'))"
    return body.get(field)


def show_channels(session, wanted):
    rows = []
    for key, channel in sorted(session.engine.channels.channels.items()):
        if wanted(key) and visible(session, "TABLE", (key[0], key[1], key[2].removesuffix("-STREAMING"))):
            rows.append([channel.created_ms, key[3], key[0], key[1], key[2], channel.client, channel.sequence,
                         channel.committed])
    return Result.table(["created_on", "name", "database_name", "schema_name", "pipe_name", "client_sequencer",
                         "row_sequencer", "offset_token"], rows)


def show_columns(session, scope, pattern):
    rows = []
    for path, table in sorted(session.store.tables.items()):
        if path[:len(scope)] == scope and visible(session, "TABLE", path):
            rows += [[table.name, table.schema, c.name, str(c.type), "true" if c.nullable else "NOT_NULL", c.default, "COLUMN",
                      table.database] for c in table.columns if pattern is None or pattern.match(c.name)]
    return Result.table(["table_name", "schema_name", "column_name", "data_type", "null?", "default", "kind",
                         "database_name"], rows)


def show_grants(session, reader):
    word = reader.tokens[reader.at - 1].word
    if word == "ON":
        kind = reader.word()
        path = () if kind == "ACCOUNT" else reader.path()
        depth = {"TABLE": 3, "PIPE": 3, "TASK": 3, "SCHEMA": 2}.get(kind, 1)
        name = path_text(session.full_path(path, depth) if depth > 1 else path[0]) if path else ""
        chosen = [key for key, state in session.store.grants.items()
                  if state == "granted" and key[2] == kind and key[3] == name]
    elif reader.accept("ROLE"):
        role = reader.identifier()
        chosen = [key for key, state in session.store.grants.items() if state == "granted" and key[0] == role]
    elif reader.accept("USER"):
        user = reader.identifier()
        return Result.table(["created_on", "role", "granted_to", "grantee_name", "granted_by"], [
            ["", role, "USER", user, ""] for role in session.store.users.get(user, {}).get("roles", [])])
    else:
        raise syntax(reader.peek().text)
    return Result.table(["created_on", "privilege", "granted_on", "name", "granted_to", "grantee_name"], [
        ["", key[1], key[2], key[3], "ROLE", key[0]] for key in sorted(chosen)])


def information(session, database, view):
    """(columns, rows) of one of INFORMATION_SCHEMA's views."""
    tables = [table for path, table in sorted(session.store.tables.items())
              if path[0] == database and visible(session, "TABLE", path)]
    if view == "TABLES":
        return ["TABLE_CATALOG", "TABLE_SCHEMA", "TABLE_NAME", "TABLE_OWNER", "TABLE_TYPE", "IS_TRANSIENT", "COMMENT"], [
            [t.database, t.schema, t.name, t.owner, "BASE TABLE", "YES" if t.transient else "NO", t.comment] for t in tables]
    if view == "COLUMNS":
        return ["TABLE_CATALOG", "TABLE_SCHEMA", "TABLE_NAME", "COLUMN_NAME", "ORDINAL_POSITION", "COLUMN_DEFAULT",
                "IS_NULLABLE", "DATA_TYPE", "CHARACTER_MAXIMUM_LENGTH", "NUMERIC_PRECISION", "NUMERIC_SCALE",
                "DATETIME_PRECISION"], [
            [t.database, t.schema, t.name, c.name, at, c.default, "YES" if c.nullable else "NO",
             "TEXT" if c.type.base == "VARCHAR" else c.type.base, c.type.length or None, c.type.precision or None,
             c.type.scale if c.type.base == "NUMBER" else None,
             c.type.scale if c.type.base.startswith("TIME") else None]
            for t in tables for at, c in enumerate(t.columns, 1)]
    if view == "SCHEMATA":
        return ["CATALOG_NAME", "SCHEMA_NAME", "SCHEMA_OWNER"], [
            [key[0], key[1], body.get("owner")] for key, body in sorted(session.store.schemas.items()) if key[0] == database]
    if view == "TASK_HISTORY":
        return ["NAME", "DATABASE_NAME", "SCHEMA_NAME", "STATE", "ERROR_CODE", "ERROR_MESSAGE", "QUERY_START_TIME",
                "COMPLETED_TIME"], [
            [run["task"][2], *run["task"][:2], run["state"], *error_of(run), moment(run["started"]),
             moment(run["started"] + run["seconds"])]
            for run in reversed(session.engine.emulator.tasks.history) if run["task"][0] == database]
    raise EmulatorError(f"INFORMATION_SCHEMA.{view}")


def error_of(run):
    code, _, message = (run["error"] or "").partition(": ")
    return [code or None, message or None]


def moment(seconds):
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).isoformat(" ")
