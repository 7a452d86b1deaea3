"""Which module carries out a statement that is neither a query nor DML nor transaction control."""

from . import alter, ddl, objects, task_sql
from .errors import syntax

HANDLERS = (
    (("CREATE",), ddl.create),
    (("CREATE",), objects.create),
    (("ALTER", "TABLE"), alter.alter_table),
    (("ALTER", "USER"), objects.alter_user),
    (("ALTER", "TASK"), task_sql.alter),
    (("ALTER", "WAREHOUSE"), objects.alter_warehouse),
    (("DROP", "TABLE"), ddl.drop_table),
    (("DROP",), objects.drop),
    (("GRANT",), objects.grant),
    (("REVOKE",), objects.revoke),
    (("USE",), objects.use),
    (("EXECUTE", "TASK"), task_sql.execute),
    (("COMMENT",), objects.comment),
)


def run(session, reader):
    for words, handler in HANDLERS:
        start = reader.at
        if reader.accept(*words):
            result = handler(session, reader)
            if result is not None:
                return result
            reader.at = start
    raise syntax(reader.peek().text)
