"""Who may do what. A role is `open` (everything but what is denied it) or not (only what was granted or is its own)."""

from .errors import SqlError, denied, missing
from .names import show

CONTAINERS = {"TABLE": "SCHEMA", "PIPE": "SCHEMA", "TASK": "SCHEMA", "SCHEMA": "DATABASE"}


def path_text(path):
    return ".".join(map(show, path)) if isinstance(path, tuple) else show(path)


def entry(role, privilege, kind, path):
    return (role, privilege, kind, path_text(path) if path else "")


class Privileges:
    def __init__(self, store):
        self.store = store

    def owner_of(self, kind, path):
        found = self.store.kinds.get(kind.lower(), {}).get(path)
        return getattr(found, "owner", None) if kind == "TABLE" else (found or {}).get("owner")

    def has(self, role, privilege, kind, path):
        grants = self.store.grants
        if grants.get(entry(role, privilege, kind, path)) == "denied":
            return False
        if self.store.roles.get(role, {}).get("open"):
            return True
        if path and self.owner_of(kind, path) == role:
            return True
        wanted = [entry(role, word, kind, path) for word in (privilege, "ALL", "OWNERSHIP")]
        if isinstance(path, tuple):
            for depth in range(1, len(path)):
                container = ("", "DATABASE", "SCHEMA")[depth]
                owner = path[0] if depth == 1 else path[:depth]
                wanted += [entry(role, word, f"FUTURE {kind} IN {container}", owner) for word in (privilege, "ALL")]
        return any(grants.get(one) == "granted" for one in wanted)

    def sees(self, role, kind, path):
        """Whether the object shows up for the role at all: some privilege on it, and usage of what it is in."""
        words = ("USAGE", "SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "MONITOR", "OPERATE", "OWNERSHIP")
        return any(self.has(role, word, kind, path) for word in words)

    def check_usage(self, role, path):
        """The database and the schema that this object is in."""
        database = path[0]
        if database not in self.store.databases or not self.has(role, "USAGE", "DATABASE", database):
            raise missing("Database", path_text(database))
        schema = path[:2]
        if len(path) > 1 and (schema not in self.store.schemas or not self.has(role, "USAGE", "SCHEMA", schema)):
            raise missing("Schema", path_text(schema))

    def check(self, role, privilege, kind, path):
        if self.has(role, privilege, kind, path):
            return
        if kind == "WAREHOUSE":
            raise no_warehouse()
        if kind in ("TABLE", "PIPE", "TASK") and not self.sees(role, kind, path):
            raise missing("Object", path_text(path))
        raise denied(kind, path_text(path[-1] if isinstance(path, tuple) else path) if path else "ACCOUNT")

    def grant(self, role, privilege, kind, path):
        self.store.put("grant", entry(role, privilege, kind, path), "granted")

    def revoke(self, role, privilege, kind, path):
        self.store.remove("grant", entry(role, privilege, kind, path))

    def deny(self, role, privilege, kind, path):
        self.store.put("grant", entry(role, privilege, kind, path), "denied")


def no_warehouse():
    return SqlError("000606", "57P03", "No active warehouse selected in the current session.  Select an active warehouse "
                    "with the 'use warehouse' command.")
