"""CREATE, ALTER and EXECUTE TASK."""

import re

from .errors import compilation, exists, missing, syntax
from .lexer import Reader
from .privileges import path_text
from .results import Result

INTERVAL = re.compile(r"\s*(\d+)\s*(SECONDS?|S|MINUTES?|M|HOURS?|H)\s*\Z", re.I)
SHORTEST = 10
PROPERTIES = {"WAREHOUSE", "SCHEDULE", "USER_TASK_MANAGED_INITIAL_WAREHOUSE_SIZE", "USER_TASK_TIMEOUT_MS", "COMMENT",
              "SUSPEND_TASK_AFTER_NUM_FAILURES", "ALLOW_OVERLAPPING_EXECUTION", "ERROR_INTEGRATION", "CONFIG",
              "TASK_AUTO_RETRY_ATTEMPTS", "SERVERLESS_TASK_MIN_STATEMENT_SIZE", "SERVERLESS_TASK_MAX_STATEMENT_SIZE"}
DONE = "Statement executed successfully."


def seconds_of(schedule):
    """How often a task runs; a cron line is taken as once a minute."""
    if schedule is None:
        return None
    if schedule.upper().startswith("USING CRON"):
        return 60
    found = INTERVAL.match(schedule)
    if not found:
        raise compilation(f"Invalid schedule '{schedule}'", "002003", "42601")
    seconds = int(found[1]) * {"S": 1, "M": 60, "H": 3600}[found[2][0].upper()]
    if seconds < SHORTEST:
        raise compilation(f"A schedule of less than {SHORTEST} seconds: '{schedule}'", "002003", "42601")
    return seconds


def find(session, path):
    session.privileges.check_usage(session.context.role, path)
    if path not in session.store.tasks:
        raise missing("Task", path_text(path))
    return session.store.tasks[path]


def read_properties(session, reader, task, stop):
    while not reader.done and reader.peek().word != stop:
        name = reader.word()
        if name == "WHEN":
            raise compilation("the emulator has no streams, so no WHEN")
        if name not in PROPERTIES:
            raise syntax(name)
        reader.expect("=")
        token = reader.next()
        if name == "WAREHOUSE":
            reader.at -= 1
            value = reader.identifier()
            if value not in session.store.warehouses:
                raise missing("Warehouse", value)
        else:
            value = token.text[1:-1] if token.kind == "string" else token.text
        task[name.lower()] = value
        reader.accept(",")
    seconds_of(task.get("schedule"))


def create(session, reader, replace):
    if_not_exists = reader.accept("IF", "NOT", "EXISTS")
    path = session.full_path(reader.path())
    session.privileges.check_usage(session.context.role, path)
    session.privileges.check(session.context.role, "CREATE TASK", "SCHEMA", path[:2])
    if path in session.store.tasks:
        if if_not_exists:
            return Result.status(f"{path[2]} already exists, statement succeeded.")
        if not replace:
            raise exists(path_text(path))
    task = {"owner": session.context.role, "state": "suspended", "definition": "", "failures": 0}
    read_properties(session, reader, task, "AS")
    reader.expect("AS")
    task["definition"] = checked_body(reader.rest())
    if "warehouse" in task:
        session.privileges.check(session.context.role, "USAGE", "WAREHOUSE", task["warehouse"])
    session.store.put("task", path, task)
    return Result.status(f"Task {path[2]} successfully created.")


def checked_body(text):
    if not Reader(text).tokens:
        raise syntax("<EOF>")
    return text


def alter(session, reader):
    if_exists = reader.accept("IF", "EXISTS")
    path = session.full_path(reader.path())
    if if_exists and path not in session.store.tasks:
        return Result.status(DONE)
    task = dict(find(session, path))
    if reader.accept("RESUME") or reader.accept("SUSPEND"):
        word = reader.tokens[reader.at - 1].word
        if not session.privileges.has(session.context.role, "OPERATE", "TASK", path):
            session.privileges.check(session.context.role, "OWNERSHIP", "TASK", path)
        if word == "RESUME":
            session.privileges.check(task["owner"], "EXECUTE TASK", "ACCOUNT", None)
            if "warehouse" not in task:
                session.privileges.check(task["owner"], "EXECUTE MANAGED TASK", "ACCOUNT", None)
            if task.get("schedule") is None:
                raise compilation(f"Task {path[2]} has no schedule.")
            task["failures"] = 0
        task["state"] = "started" if word == "RESUME" else "suspended"
    else:
        session.privileges.check(session.context.role, "OWNERSHIP", "TASK", path)
        if task["state"] == "started":
            raise compilation(f"Unable to update graph with root task {path_text(path)} since that root task is not "
                              "suspended.", "091421", "0A000")
        if reader.accept("MODIFY", "AS"):
            task["definition"] = checked_body(reader.rest())
        elif reader.accept("SET"):
            read_properties(session, reader, task, "")
        elif reader.accept("UNSET"):
            task.pop(reader.word().lower(), None)
        else:
            raise syntax(reader.peek().text or "<EOF>")
    reader.end()
    session.store.put("task", path, task)
    return Result.status(DONE)


def execute(session, reader):
    path = session.full_path(reader.path())
    reader.end()
    find(session, path)
    if not session.privileges.has(session.context.role, "OPERATE", "TASK", path):
        session.privileges.check(session.context.role, "OWNERSHIP", "TASK", path)
    session.engine.emulator.tasks.start(path)
    return Result.status(f"Task {path[2]} is scheduled to run immediately.")
