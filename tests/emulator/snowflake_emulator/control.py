"""The control endpoint: JSON under /_control/, for loopback and the control token only."""

import hmac
import time
import urllib.parse

from . import results
from .auth import check_public_key
from .errors import EmulatorError, HttpError, SqlError
from .lexer import split
from .messages import Answer
from .session import Context
from .streaming import json_body

ADMIN = "ACCOUNTADMIN"


class Control:
    def __init__(self, emulator):
        self.emulator = emulator
        self.store = emulator.store
        if ADMIN not in self.store.roles:
            self.set_up({"roles": {ADMIN: {"open": True}, "PUBLIC": {"open": False}}, "warehouses": ["ADMIN_WH"]})

    def handle(self, request):
        if request.path != "/_control" and not request.path.startswith("/_control/"):
            return None
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if request.peer != "127.0.0.1" or not hmac.compare_digest(given, self.emulator.control_token):
            raise HttpError(403, "FORBIDDEN", "The control endpoint needs its token.")
        verb = request.path.removeprefix("/_control/").split("/")[0]
        handlers = {("GET", name): function for name, function in (
            ("state", self.state), ("requests", self.requests), ("rows", self.rows), ("faults", self.faults))}
        handlers |= {("POST", name): function for name, function in (
            ("setup", lambda asked: self.set_up(json_body(asked))), ("faults", self.add_faults),
            ("settings", self.set_settings), ("channels", self.change_channels), ("commit", self.commit),
            ("tasks", self.run_task), ("sql", self.sql), ("deny", self.deny), ("tokens", self.revoke_tokens))}
        handlers |= {("DELETE", "faults"): self.clear_faults, ("DELETE", "requests"): self.clear_requests}
        handler = handlers.get((request.method, verb))
        if handler is None:
            known = ", ".join(sorted(f"{method} {name}" for method, name in handlers))
            raise HttpError(404, "NOT_FOUND", f"Control knows: {known}")
        try:
            return Answer.of_json(200, handler(request))
        except SqlError as error:
            return Answer.of_json(422, {"code": error.code, "sqlState": error.sql_state, "message": error.message})
        except (ValueError, KeyError, TypeError, EmulatorError) as error:
            return Answer.of_json(400, {"code": "CONTROL", "message": f"{type(error).__name__}: {error}"})

    # What there is

    def set_up(self, body):
        """settings, roles, warehouses, users, schemas, statements: made, or changed where they are there."""
        unknown = body.keys() - {"settings", "roles", "warehouses", "users", "schemas", "statements"}
        if unknown:
            raise ValueError(f"unknown: {', '.join(sorted(unknown))}")
        self.emulator.settings.update(body.get("settings", {}))
        for name, role in body.get("roles", {}).items():
            self.store.put("role", name, {"open": bool(role.get("open", True))})
        for name in body.get("warehouses", []):
            self.store.put("warehouse", name, {})
        for name, user in body.get("users", {}).items():
            self.put_user(name, user)
        for database, schema in body.get("schemas", []):
            self.store.make_schema(database, schema, ADMIN)
        for text in body.get("statements", []):
            self.run_sql(text)
        return {}

    def put_user(self, name, user):
        known = {"rsa_public_key", "rsa_public_key_2", "default_role", "default_warehouse", "default_database", "roles",
                 "disabled"}
        if user.keys() - known:
            raise ValueError(f"unknown of a user: {', '.join(sorted(user.keys() - known))}")
        for slot in ("rsa_public_key", "rsa_public_key_2"):
            if user.get(slot):
                user[slot] = "".join(line for line in user[slot].split("\n") if "-----" not in line)
                if check_public_key(user[slot]):
                    raise ValueError(f"{slot} of {name} is no public key")
        self.store.put("user", name, {"roles": ["PUBLIC"], **self.store.users.get(name, {}), **user})

    def state(self, _request):
        tables = [{**table.to_json(), "columns": [[c.name, str(c.type), c.nullable] for c in table.columns]}
                  for table in list(self.store.tables.values())]
        return {"settings": self.emulator.settings.to_json(),
                "channels": [channel.to_json() for channel in list(self.emulator.channels.channels.values())],
                "tables": tables, "faults": self.emulator.faults.to_json(), "counts": self.emulator.log.counted(),
                "tasks": [{"path": list(path), **task} for path, task in list(self.store.tasks.items())],
                "task_history": list(self.emulator.tasks.history),
                "users": sorted(self.store.users), "roles": self.store.roles,
                "grants": [[*key, state] for key, state in list(self.store.grants.items())]}

    def rows(self, request):
        """GET rows/DB/SCHEMA/TABLE?order=COLUMN: names as they are, percent-encoded."""
        path = tuple(urllib.parse.unquote(part) for part in request.raw_path.split("/")[3:])
        # Not between a change of a table's shape or name and what the catalog says of it.
        with self.store.ddl:
            table = self.store.tables.get(path)
            if table is None:
                raise KeyError(".".join(path))
            order = ""
            if "order" in request.query:
                order = f"ORDER BY c{[column.name for column in table.columns].index(request.query['order'])}"
            return {"rows": results.rows_as_json(self.store, table, order)}

    def requests(self, request):
        since = int(request.query.get("since", "0"))
        return {"requests": self.emulator.log.since(since, request.query.get("path")),
                "counts": self.emulator.log.counted()}

    def clear_requests(self, _request):
        self.emulator.log.clear()
        return {}

    # What happens

    def faults(self, _request):
        return {"faults": self.emulator.faults.to_json()}

    def add_faults(self, request):
        return {"ids": self.emulator.faults.add(json_body(request)["faults"])}

    def clear_faults(self, _request):
        self.emulator.faults.clear()
        return {}

    def set_settings(self, request):
        self.emulator.settings.update(json_body(request))
        return self.emulator.settings.to_json()

    def change_channels(self, request):
        """{"action": lose | expire | take_over | stale, "name": a channel's name; absent: all of them}"""
        body = json_body(request)
        channels = self.emulator.channels
        action = {"lose": channels.forget, "expire": channels.forget, "take_over": channels.take_over,
                  "stale": channels.make_stale}[body["action"]]
        chosen = [key for key in list(channels.channels) if body.get("name") in (None, key[3])]
        for key in chosen:
            action(key)
        return {"channels": [list(key) for key in chosen]}

    def commit(self, _request):
        self.emulator.channels.commit_now()
        return {}

    def run_task(self, request):
        path = tuple(json_body(request)["task"])
        if path not in self.store.tasks:
            raise KeyError(".".join(path))
        return self.emulator.tasks.run_now(path)

    def deny(self, request):
        """{"role", "privilege", "kind", "path", "denied": true | false}: takes a right from an open role, or gives it back."""
        body = json_body(request)
        path = tuple(body["path"]) if isinstance(body.get("path"), list) else body.get("path")
        change = self.emulator.privileges.deny if body.get("denied", True) else self.emulator.privileges.revoke
        change(body["role"], body["privilege"], body["kind"], path)
        return {}

    def revoke_tokens(self, _request):
        time.sleep(0.001)
        self.emulator.auth.revoke_all()
        return {}

    def sql(self, request):
        """Runs statements as the account's administrator."""
        body = json_body(request)
        made = self.run_sql(body["statement"], body.get("database"), body.get("schema"))
        return {"columns": [column["name"] for column in made.columns], "rows": made.rows, "stats": made.stats}

    def run_sql(self, text, database=None, schema=None):
        session = self.emulator.engine.session(Context("ADMIN", ADMIN, database, schema, "ADMIN_WH"))
        try:
            made = None
            for statement, _ in split(text):
                made = session.run(statement)
            return made
        finally:
            session.close()
