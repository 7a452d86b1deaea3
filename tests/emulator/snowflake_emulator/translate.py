"""Snowflake's SQL into DuckDB's: sqlglot does most of it; names, tables and what it gets wrong are done here."""

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from . import names
from .errors import EmulatorError, SqlError, compilation

QUERIES = (exp.Select, exp.SetOperation, exp.Subquery, exp.Values)
TEXT_TYPES = {exp.DataType.Type.VARCHAR, exp.DataType.Type.TEXT, exp.DataType.Type.CHAR, exp.DataType.Type.NCHAR,
              exp.DataType.Type.NVARCHAR}
VARIANT_TYPES = {exp.DataType.Type.VARIANT, exp.DataType.Type.OBJECT, exp.DataType.Type.ARRAY, exp.DataType.Type.STRUCT}
CONTEXT = {"CURRENT" + name.replace("_", ""): name
           for name in ("USER", "ROLE", "DATABASE", "SCHEMA", "WAREHOUSE", "VERSION", "ACCOUNT", "ACCOUNT_NAME",
                        "ORGANIZATION_NAME", "REGION", "SESSION")}
BINARY_TYPES = {exp.DataType.Type.BINARY, exp.DataType.Type.VARBINARY}


def parse(text):
    """The tree of exactly one statement."""
    try:
        trees = [tree for tree in sqlglot.parse(text, read="snowflake") if tree is not None]
    except SqlglotError as error:
        raise compilation("syntax error: " + str(error).split("\n")[0]) from None
    if len(trees) != 1:
        raise compilation(f"syntax error: {len(trees)} statements where one was expected.")
    if isinstance(trees[0], exp.Command):
        raise EmulatorError(f"statement {text[:200]}")
    return trees[0]


def call(name, *arguments):
    return exp.Anonymous(this=name, expressions=list(arguments))


def bind(tree, values):
    """Replaces `?` (in order, from '1' on) and `:name` by literals; `values` maps the name to a tree."""
    position = 0
    for node in list(tree.find_all(exp.Placeholder)):
        name = node.this
        if not name or name == "?":
            position += 1
            name = str(position)
        value = values.get(str(name).upper())
        if value is None:
            raise SqlError("002049", "42601", f"SQL compilation error: error line 1 at position 0\nBind variable :{name} not set.")
        node.replace(value.copy())
    return tree


def common_table_names(node):
    """Names of the WITH clauses that this table reference can see."""
    seen = set()
    while node is not None:
        clause = node.args.get("with_") or node.args.get("with")
        if clause is not None:
            seen |= {folded(one.args["alias"].this) for one in clause.expressions}
        node = node.parent
    return seen


def folded(identifier):
    """The name that an identifier of the tree means."""
    return identifier.this if identifier.args.get("quoted") else identifier.this.upper()


class Statement:
    """A parsed statement made ready for DuckDB. `tables` has (path, table) of what it reads, `target` what it changes."""

    def __init__(self, tree, session):
        self.tree = tree
        self.session = session
        self.target = None
        self.tables = []
        self.needs_warehouse = not isinstance(tree, QUERIES)
        if isinstance(tree, QUERIES):
            self.name_projections()
        target_node = tree.this if not isinstance(tree, QUERIES) else None
        if isinstance(target_node, exp.Schema):
            target_node = target_node.this
        for node in list(tree.find_all(exp.TableFromRows)):
            self.table_function(node)
        for node in list(tree.find_all(exp.Table)):
            self.resolve(node, node is target_node)
        for node in list(tree.find_all(exp.Values)):
            self.name_columns(node)
        for node in list(tree.find_all(exp.Identifier)):
            if not node.meta.get("stored"):
                node.set("this", names.encode(folded(node)))
                node.set("quoted", True)
        self.rewrite()

    def name_projections(self):
        """Snowflake calls an expression without a name by its text."""
        select = self.tree
        while isinstance(select, (exp.SetOperation, exp.Subquery)):
            select = select.this
        if not isinstance(select, exp.Select):
            return
        for node in list(select.expressions):
            if not isinstance(node, (exp.Alias, exp.Column, exp.Star)):
                alias = exp.to_identifier(node.sql("snowflake").upper(), quoted=True)
                node.replace(exp.alias_(node.copy(), alias))

    @staticmethod
    def name_columns(node):
        """VALUES in FROM has the columns COLUMN1, COLUMN2, ..."""
        alias = node.args.get("alias")
        if not isinstance(node.parent, (exp.From, exp.Join)) or (alias is not None and alias.args.get("columns")):
            return
        first = node.expressions[0]
        width = len(first.expressions) if isinstance(first, exp.Tuple) else 1
        name = alias.this.copy() if alias is not None and alias.this else exp.to_identifier("VALUES", quoted=True)
        node.set("alias", exp.TableAlias(this=name, columns=[
            exp.to_identifier(f"COLUMN{number}", quoted=True) for number in range(1, width + 1)]))

    def resolve(self, node, is_target):
        if not isinstance(node.this, exp.Identifier):
            return
        parts = [folded(part) for part in (node.args.get("catalog"), node.args.get("db"), node.this) if part]
        if len(parts) == 1 and not is_target and parts[0] in common_table_names(node):
            return
        path = self.session.full_path(parts)
        if path[1] == "INFORMATION_SCHEMA":
            self.information(node, path)
            return
        table = self.session.find_table(path)
        if is_target:
            self.target = table
        else:
            self.tables.append(table)
        self.needs_warehouse = True
        alias = node.args.get("alias")
        if alias is None and not is_target:
            node.set("alias", exp.TableAlias(this=exp.to_identifier(path[2], quoted=True)))
        node.set("catalog", None)
        node.set("db", stored_identifier(names.encode(path[0]) + "." + names.encode(path[1])))
        node.set("this", stored_identifier(names.encode(path[2])))

    def information(self, node, path):
        """INFORMATION_SCHEMA's views, filled with what the catalog says now."""
        self.put_rows(node, path[2], *self.session.information(path[0], path[2]))

    def table_function(self, node):
        """TABLE(INFORMATION_SCHEMA.TASK_HISTORY(...)), the only one there is."""
        function = node.this
        parts = [folded(one) for one in function.find_all(exp.Identifier) if isinstance(one.parent, exp.Dot)]
        while isinstance(function, exp.Dot):
            function = function.expression
        if not isinstance(function, exp.Anonymous) or "INFORMATION_SCHEMA" not in parts:
            raise EmulatorError(f"table function {node.sql('snowflake')}")
        database = self.session.full_path(sorted(parts, key="INFORMATION_SCHEMA".__eq__), 2)[0]
        wanted = {one.this.name.upper(): one.expression.name.upper() for one in function.expressions}
        columns, values = self.session.information(database, function.name.upper())
        if "TASK_NAME" in wanted:
            values = [row for row in values if row[0].upper() == wanted["TASK_NAME"].split(".")[-1].strip('"')]
        self.put_rows(node, function.name.upper(), columns, values)

    @staticmethod
    def put_rows(node, name, columns, values):
        listed = ", ".join(map(names.quoted, columns))
        rows = ", ".join("(" + ", ".join("NULL" if v is None else names.literal(v) for v in row) + ")" for row in values)
        empty = "(" + ", ".join("NULL::VARCHAR" for _ in columns) + ")"
        text = f"SELECT * FROM (VALUES {rows or empty}) AS v({listed})" + ("" if rows else " WHERE FALSE")
        made = sqlglot.parse_one(text, read="duckdb").subquery()
        alias = node.args.get("alias")
        made.set("alias", alias.copy() if alias else exp.TableAlias(this=exp.to_identifier(name, quoted=True)))
        node.replace(made)

    def rewrite(self):
        for node in list(self.tree.find_all(exp.Column)):
            node.set("db", None)
            node.set("catalog", None)
        for node in list(self.tree.find_all(exp.Update, exp.When)):
            update = node if isinstance(node, exp.Update) else node.args.get("then")
            if isinstance(update, exp.Update):
                for assignment in update.expressions:
                    if isinstance(assignment, exp.EQ) and isinstance(assignment.this, exp.Column):
                        assignment.this.set("table", None)
            elif isinstance(update, exp.Insert) and isinstance(update.this, exp.Tuple):
                for column in update.this.expressions:
                    column.set("table", None)
        # Children before parents: what replaces a node holds its children.
        for node in reversed(list(self.tree.dfs())):
            made = self.rewrite_node(node)
            if made is not node and node is self.tree:
                self.tree = made
            elif made is not node:
                node.replace(made)

    def rewrite_node(self, node):
        if isinstance(node, exp.Div):
            return call("_emulator.divide", node.this, node.expression)
        if isinstance(node, exp.Cast):
            return rewrite_cast(node)
        if isinstance(node, exp.ArrayContains):
            return call("_emulator.contains", node.this, node.expression)
        if isinstance(node, exp.ArrayRemove):
            return call("_emulator.without", node.this, node.expression)
        if isinstance(node, exp.ArrayAppend):
            return call("_emulator.append", node.this, node.expression)
        if isinstance(node, exp.ArraySize):
            return call("_emulator.size", node.this)
        if isinstance(node, exp.Bracket):
            return rewrite_element(node)
        if isinstance(node, exp.JSONObject):
            return call("json_object", *pairs_of(node))
        if isinstance(node, exp.Struct) and all(isinstance(one, exp.PropertyEQ) for one in node.expressions):
            pairs = [part for one in node.expressions for part in (one.this, variant(one.expression))]
            return call("json_merge_patch", exp.Literal.string("{}"), call("json_object", *pairs))
        if isinstance(node, exp.VarMap):
            keys, values = node.args["keys"].expressions, node.args["values"].expressions
            pairs = [part for key, value in zip(keys, values) for part in (key, variant(value))]
            return call("json_merge_patch", exp.Literal.string("{}"), call("json_object", *pairs))
        if isinstance(node, exp.ParseJSON):
            return exp.Cast(this=node.this, to=exp.DataType.build("JSON"))
        if isinstance(node, exp.CurrentTimestamp):
            return self.session.current_timestamp()
        if type(node).__name__.upper() in CONTEXT:
            return self.session.context_function(CONTEXT[type(node).__name__.upper()])
        if isinstance(node, exp.Anonymous) and isinstance(node.this, str):
            return self.rewrite_function(node)
        return node

    def rewrite_function(self, node):
        name = node.this.upper()
        if name.startswith("CURRENT_"):
            return self.session.context_function(name[len("CURRENT_"):])
        if name == "TO_VARIANT":
            return variant(node.expressions[0])
        if name in ("OBJECT_CONSTRUCT", "OBJECT_CONSTRUCT_KEEP_NULL"):
            pairs = [one if at % 2 == 0 else variant(one) for at, one in enumerate(node.expressions)]
            made = call("json_object", *pairs)
            return made if name.endswith("NULL") else call("json_merge_patch", exp.Literal.string("{}"), made)
        return node

    def sql(self):
        return self.tree.sql("duckdb", comments=False)


def stored_identifier(text):
    made = exp.to_identifier(text, quoted=True)
    made.meta["stored"] = True
    return made


def variant(node):
    return call("_emulator.to_variant", node)


def pairs_of(node):
    pairs = []
    for one in node.expressions:
        pairs += [one.this, variant(one.expression)]
    return pairs


def rewrite_element(node):
    """An element of an array or an object; what they hold is JSON here."""
    index = node.expressions[0]
    if len(node.expressions) != 1 or not isinstance(index, exp.Literal):
        raise EmulatorError(f"element {node.sql('snowflake')}")
    path = f'$."{index.this}"' if index.is_string else f"$[{index.this}]"
    return call("json_extract", variant(node.this), exp.Literal.string(path))


def rewrite_cast(node):
    kind = node.to.this
    if kind in TEXT_TYPES:
        return call("_emulator.to_text", node.this)
    if kind in VARIANT_TYPES:
        return variant(node.this)
    if kind in BINARY_TYPES:
        return call("_emulator.to_bytes", node.this)
    inner = node.this
    while isinstance(inner, exp.Paren):
        inner = inner.this
    if isinstance(inner, exp.JSONExtract) or (isinstance(inner, exp.Anonymous) and inner.this == "json_extract"):
        node.set("this", call("_emulator.to_text", node.this))
    return node
