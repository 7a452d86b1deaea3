"""INSERT, UPDATE, DELETE and MERGE: carried out, counted, refused where Snowflake would not know what to do."""

from sqlglot import exp

from . import names
from .errors import SqlError
from .results import Result


def rights_of(tree):
    if isinstance(tree, exp.Insert):
        return {"INSERT"}
    if isinstance(tree, exp.Update):
        return {"UPDATE", "SELECT"}
    if isinstance(tree, exp.Delete):
        return {"DELETE", "SELECT"}
    kinds = {type(when.args["then"]).__name__ for when in tree.args["whens"].expressions}
    return {"SELECT"} | {"INSERT" if kind == "Insert" else "UPDATE" if kind == "Update" else "DELETE" for kind in kinds}


def carry_out(session, statement):
    tree, sql = statement.tree, statement.sql()
    if isinstance(tree, exp.Merge):
        refuse_ambiguous_merge(session, tree)
        actions = [row[0] for row in session.cursor.execute(sql + " RETURNING merge_action").fetchall()]
        clauses = {type(when.args["then"]).__name__ for when in tree.args["whens"].expressions}
        counts = [("inserted", "INSERT")] * ("Insert" in clauses) + [("updated", "UPDATE")] * ("Update" in clauses)
        counts += [("deleted", "DELETE")] * bool(clauses - {"Insert", "Update"})
        return Result.counts([(f"number of rows {label}", actions.count(action)) for label, action in counts],
                             **{action.lower(): actions.count(action) for _, action in counts})
    if isinstance(tree, exp.Update):
        refuse_ambiguous_update(session, tree)
    count = session.cursor.execute(sql).fetchall()[0][0]
    if isinstance(tree, exp.Insert):
        return Result.counts([("number of rows inserted", count)], insert=count)
    if isinstance(tree, exp.Delete):
        return Result.counts([("number of rows deleted", count)], delete=count)
    return Result.counts([("number of rows updated", count), ("number of multi-joined rows updated", 0)], update=count)


def refuse_ambiguous_merge(session, tree):
    """Several source rows for one target row: DuckDB would take any of them, Snowflake refuses."""
    conditions = [when.args.get("condition") for when in tree.args["whens"].expressions if when.args.get("matched")]
    if not conditions:
        return
    fires = " OR ".join("TRUE" if one is None else f"({one.sql('duckdb')})" for one in conditions)
    target = tree.this.alias or tree.this.name
    refuse_repeated(session, f"{tree.this.sql('duckdb')} JOIN {tree.args['using'].sql('duckdb')} "
                    f"ON {tree.args['on'].sql('duckdb')} WHERE {fires}", target)


def refuse_ambiguous_update(session, tree):
    source = tree.args.get("from_") or tree.args.get("from")
    if source is None or session.settings.multi_joined_updates:
        return
    where = tree.args.get("where")
    tables = ", ".join(one.sql("duckdb") for one in [source.this, *source.args.get("expressions", [])])
    refuse_repeated(session, f"{tree.this.sql('duckdb')}, {tables} {where.sql('duckdb') if where else ''}",
                    tree.this.alias or tree.this.name)


def refuse_repeated(session, source, target):
    found = session.cursor.execute(f"SELECT 1 FROM {source} GROUP BY {names.quoted(target)}.rowid HAVING count(*) > 1 "
                                   "LIMIT 1").fetchall()
    if found:
        raise SqlError("100090", "42P18", "Duplicate row detected during DML action")
