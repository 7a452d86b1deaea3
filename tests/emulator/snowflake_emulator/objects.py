"""Databases, schemas, pipes, users, roles, warehouses, grants, and USE."""

import dataclasses

from . import ddl, names, task_sql
from .auth import check_public_key
from .errors import SqlError, compilation, denied, exists, missing, syntax
from .privileges import entry, path_text
from .results import Result

DONE = "Statement executed successfully."
KEY_SLOTS = ("RSA_PUBLIC_KEY", "RSA_PUBLIC_KEY_2")
PLURALS = {"TABLES": "TABLE", "SCHEMAS": "SCHEMA", "PIPES": "PIPE", "TASKS": "TASK"}


def comment(_session, reader):
    reader.rest()
    return Result.status(DONE)


def create(session, reader):
    replace = reader.accept("OR", "REPLACE")
    reader.accept("TRANSIENT")
    kind = reader.word()
    if kind == "TASK":
        return task_sql.create(session, reader, replace)
    if_not_exists = reader.accept("IF", "NOT", "EXISTS")
    parts = reader.path()
    if kind == "SCHEMA":
        return create_schema(session, session.full_path(parts, 2), if_not_exists)
    if kind == "PIPE":
        return create_pipe(session, reader, session.full_path(parts), if_not_exists, replace)
    name = parts[0]
    bodies = {"DATABASE": {"owner": session.context.role}, "ROLE": {"open": False}, "WAREHOUSE": {},
              "USER": {"roles": ["PUBLIC"]}}
    if kind not in bodies:
        raise syntax(kind)
    session.privileges.check(session.context.role, f"CREATE {kind}", "ACCOUNT", None)
    if name in session.store.kinds[kind.lower()]:
        if if_not_exists:
            return Result.status(f"{name} already exists, statement succeeded.")
        raise exists(name)
    body = bodies[kind]
    if kind == "USER":
        read_user(reader, body)
        if body.get("default_role"):
            body["default_role"] = body["default_role"].upper()
    session.store.put(kind.lower(), name, body)
    if kind == "DATABASE":
        session.store.make_schema(name, "PUBLIC", session.context.role)
    return Result.status(f"{kind.title()} {name} successfully created.")


def create_schema(session, path, if_not_exists):
    if path[0] not in session.store.databases:
        raise missing("Database", path_text(path[0]))
    session.privileges.check_usage(session.context.role, path[:1])
    # Also for one that is there already: IF NOT EXISTS does not spare the right.
    session.privileges.check(session.context.role, "CREATE SCHEMA", "DATABASE", path[0])
    if path in session.store.schemas:
        if if_not_exists:
            return Result.status(f"{path[1]} already exists, statement succeeded.")
        raise exists(path_text(path))
    session.store.make_schema(*path, session.context.role)
    return Result.status(f"Schema {path[1]} successfully created.")


def create_pipe(session, reader, path, if_not_exists, replace):
    """Only the form that matches keys to columns by name, from streamed rows."""
    session.privileges.check_usage(session.context.role, path)
    session.privileges.check(session.context.role, "CREATE PIPE", "SCHEMA", path[:2])
    if path in session.store.pipes and if_not_exists:
        return Result.status(f"{path[2]} already exists, statement succeeded.")
    if path in session.store.pipes and not replace:
        raise exists(path_text(path))
    reader.expect("AS", "COPY", "INTO")
    table = session.find_table(session.full_path(reader.path()))
    reader.expect("FROM", "TABLE", "(", "DATA_SOURCE", "(", "TYPE", "=>", "'STREAMING'", ")", ")")
    reader.expect("MATCH_BY_COLUMN_NAME", "=", "CASE_SENSITIVE")
    if reader.accept("CLUSTER_AT_INGEST_TIME", "="):
        reader.word()
    reader.end()
    for key in [key for key in session.engine.channels.channels if key[:3] == path]:
        session.engine.channels.forget(key)
    session.store.put("pipe", path, {"table": list(table.path), "owner": session.context.role})
    return Result.status(f"Pipe {path[2]} successfully created.")


def drop(session, reader):
    kind = reader.word()
    if_exists = reader.accept("IF", "EXISTS")
    parts = reader.path()
    depth = {"SCHEMA": 2, "TASK": 3, "PIPE": 3}.get(kind, 1)
    path = session.full_path(parts, depth) if depth > 1 else parts[0]
    known = session.store.kinds.get(kind.lower())
    if known is None or kind in ("CHANNEL", "GRANT", "SETTING"):
        raise syntax(kind)
    if path not in known:
        if if_exists:
            return Result.status("Drop statement executed successfully.")
        raise missing(kind.title(), path_text(path))
    if kind in ("USER", "ROLE", "WAREHOUSE"):
        session.privileges.check(session.context.role, f"CREATE {kind}", "ACCOUNT", None)
    else:
        session.privileges.check(session.context.role, "OWNERSHIP", kind, path)
    if kind in ("SCHEMA", "DATABASE"):
        within = path if isinstance(path, tuple) else (path,)
        drop_container(session, kind, path, within)
    else:
        session.store.remove(kind.lower(), path)
    return Result.status(f"{path_text(path)} successfully dropped.")


def drop_container(session, kind, path, within):
    def apply(change):
        for table in [t for t in session.store.tables.values() if t.path[:len(within)] == within]:
            ddl.remove_table(session, change, table)
        for other in ("task", "pipe"):
            for key in [key for key in session.store.kinds[other] if key[:len(within)] == within]:
                change.remove(other, key)
        for schema in [key for key in session.store.schemas if key[:len(within)] == within]:
            change.run(f"DROP SCHEMA {names.stored_schema(*schema)} CASCADE")
            change.remove("schema", schema)
        if kind == "DATABASE":
            change.remove("database", path)

    ddl.exclusively(session, apply)


# Users

def read_user(reader, body):
    while not reader.done:
        word = reader.word()
        reader.expect("=")
        token = reader.next()
        value = token.text[1:-1] if token.kind in ("string", "quoted") else token.text
        if word in KEY_SLOTS:
            why = check_public_key(value)
            if why:
                raise SqlError("394300", "22023", why)
            body[word.lower()] = "".join(value.split())
        elif word == "DISABLED":
            body["disabled"] = value.upper() == "TRUE"
        else:
            body[word.lower()] = value


def alter_user(session, reader):
    reader.accept("IF", "EXISTS")
    name = reader.identifier()
    own = name == session.context.user
    if name not in session.store.users:
        raise missing("User", name)
    body = dict(session.store.users[name])
    if reader.accept("SET"):
        slots = [token.word for token in reader.tokens[reader.at:] if token.word]
        allowed = own and set(slots) <= set(KEY_SLOTS) and session.privileges.has(
            session.context.role, "MODIFY PROGRAMMATIC AUTHENTICATION METHODS", "USER", name)
        if not allowed and not session.privileges.has(session.context.role, "OWNERSHIP", "USER", name):
            raise denied("USER", name)
        read_user(reader, body)
    elif reader.accept("UNSET"):
        if not session.privileges.has(session.context.role, "OWNERSHIP", "USER", name) and not (
                own and session.privileges.has(session.context.role, "MODIFY PROGRAMMATIC AUTHENTICATION METHODS", "USER",
                                               name)):
            raise denied("USER", name)
        while not reader.done:
            body.pop(reader.word().lower(), None)
            reader.accept(",")
    else:
        raise syntax(reader.peek().text or "<EOF>")
    session.store.put("user", name, body)
    return Result.status(DONE)


def alter_warehouse(session, reader):
    reader.accept("IF", "EXISTS")
    name = reader.identifier()
    if name not in session.store.warehouses:
        raise missing("Warehouse", name)
    reader.rest()
    return Result.status(DONE)


# Grants

def read_target(session, reader):
    """What is granted on: (kind, path)."""
    future = reader.accept("FUTURE")
    everything = reader.accept("ALL") if not future else False
    kind = reader.word()
    if kind == "ACCOUNT":
        return [("ACCOUNT", None)]
    if future or everything:
        kind = PLURALS.get(kind) or syntax_error(kind)
        reader.expect("IN")
        container = reader.word()
        depth = {"SCHEMA": 2, "DATABASE": 1}.get(container) or syntax_error(container)
        path = session.full_path(reader.path(), 2) if depth == 2 else reader.identifier()
        if future:
            return [(f"FUTURE {kind} IN {container}", path)]
        within = path if isinstance(path, tuple) else (path,)
        return [(kind, key) for key in session.store.kinds[kind.lower()] if key[:len(within)] == within]
    depth = {"TABLE": 3, "PIPE": 3, "TASK": 3, "SCHEMA": 2}.get(kind, 1)
    parts = reader.path()
    path = session.full_path(parts, depth) if depth > 1 else parts[0]
    if path not in session.store.kinds.get(kind.lower(), ()):
        raise missing(kind.title(), path_text(path))
    return [(kind, path)]


def syntax_error(word):
    raise syntax(word)


def read_privileges(reader):
    found = []
    while True:
        words = [reader.word()]
        while reader.peek().text not in (",",) and reader.peek().word != "ON":
            words.append(reader.word())
        text = " ".join(words)
        found.append("ALL" if text in ("ALL", "ALL PRIVILEGES") else text)
        if not reader.accept(","):
            return found


def grant(session, reader, take=False):
    if reader.accept("ROLE"):
        role = reader.identifier()
        if role not in session.store.roles:
            raise missing("Role", role)
        reader.expect("FROM" if take else "TO")
        if reader.accept("ROLE"):
            raise compilation("the emulator has no hierarchy of roles")
        reader.expect("USER")
        name = reader.identifier()
        if name not in session.store.users:
            raise missing("User", name)
        session.privileges.check(session.context.role, "MANAGE GRANTS", "ACCOUNT", None)
        body = dict(session.store.users[name])
        body["roles"] = [one for one in body.get("roles", []) if one != role] + ([] if take else [role])
        session.store.put("user", name, body)
        return Result.status(DONE)
    privileges = read_privileges(reader)
    reader.expect("ON")
    targets = read_target(session, reader)
    reader.expect("FROM" if take else "TO")
    reader.accept("ROLE")
    role = reader.identifier()
    if role not in session.store.roles:
        raise missing("Role", role)
    for kind, path in targets:
        if not session.privileges.has(session.context.role, "MANAGE GRANTS", "ACCOUNT", None):
            session.privileges.check(session.context.role, "OWNERSHIP", kind, path)
        for privilege in privileges:
            if take:
                if entry(role, privilege, kind, path) in session.store.grants:
                    session.privileges.revoke(role, privilege, kind, path)
            elif privilege == "OWNERSHIP" and path in session.store.kinds.get(kind.lower(), ()):
                hand_over(session, kind, path, role)
            else:
                session.privileges.grant(role, privilege, kind, path)
    return Result.status(DONE)


def hand_over(session, kind, path, role):
    """An object has one owner."""
    found = session.store.kinds[kind.lower()][path]
    changed = dataclasses.replace(found, owner=role) if kind == "TABLE" else {**found, "owner": role}
    session.store.put(kind.lower(), path, changed)


def revoke(session, reader):
    return grant(session, reader, take=True)


def use(session, reader):
    """Only within one request, as everything of a session."""
    kind = reader.word()
    if kind == "ROLE":
        session.context.role = session.engine.emulator.auth.role_for(session.context.user, reader.identifier())
    elif kind == "WAREHOUSE":
        session.context.warehouse = reader.identifier()
    elif kind == "SCHEMA":
        session.context.database, session.context.schema = session.full_path(reader.path(), 2)
    elif kind == "DATABASE":
        session.context.database, session.context.schema = reader.identifier(), "PUBLIC"
    else:
        raise syntax(kind)
    return Result.status(DONE)
