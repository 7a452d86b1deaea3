"""Results of statements, in the texts of the SQL API."""

import dataclasses

from . import names
from .columns import Type, from_duckdb

TEXT = Type("VARCHAR", length=16_777_216)
NUMBER = Type("NUMBER", precision=19)
STATS = {"insert": "numRowsInserted", "update": "numRowsUpdated", "delete": "numRowsDeleted"}


@dataclasses.dataclass
class Result:
    columns: list                   # rowType entries
    rows: list                      # of lists of text or None
    stats: dict = dataclasses.field(default_factory=dict)

    @staticmethod
    def of(pairs, rows):
        """`pairs`: (name, type)."""
        return Result([kind.row_type(name) for name, kind in pairs], rows)

    @staticmethod
    def status(message):
        return Result.of([("status", TEXT)], [[message]])

    @staticmethod
    def table(columns, rows):
        """Texts, as SHOW and DESC give them."""
        return Result.of([(name, TEXT) for name in columns],
                         [[None if value is None else str(value) for value in row] for row in rows])

    @staticmethod
    def counts(pairs, **changed):
        result = Result.of([(name, NUMBER) for name, _ in pairs], [[str(count) for _, count in pairs]])
        result.stats = {name: changed.get(key, 0) for key, name in STATS.items()}
        result.stats["numDuplicateRowsUpdated"] = 0
        return result


def seconds(microseconds):
    """Seconds with nine decimals."""
    whole, rest = divmod(int(microseconds), 1_000_000)
    if whole < 0 and rest:
        whole, rest = whole + 1, 1_000_000 - rest
        return f"{'-' if whole == 0 else ''}{whole}.{rest:06d}000"
    return f"{whole}.{rest:06d}000"


def time_of_day(text):
    clock, _, fraction = text.partition(".")
    hours, minutes, rest = map(int, clock.split(":"))
    return f"{hours * 3600 + minutes * 60 + rest}.{fraction.ljust(9, '0')}"


def expression(name, kind):
    """How DuckDB is asked for a column, and what makes the answer the API's text."""
    column = names.quoted(name)
    if kind.base == "DATE":
        return f"CAST(CAST(datediff('day', DATE '1970-01-01', {column}) AS BIGINT) AS VARCHAR)", str
    if kind.base.startswith("TIMESTAMP"):
        # A zoned timestamp is kept as its instant; 1440 is the API's way to write UTC.
        zoned = kind.base == "TIMESTAMP_TZ"
        return f"CAST(epoch_us({column}) AS VARCHAR)", (lambda text: seconds(text) + " 1440") if zoned else seconds
    if kind.base == "TIME":
        return f"CAST({column} AS VARCHAR)", time_of_day
    if kind.base == "BINARY":
        return f"hex({column})", str
    if kind.base == "FLOAT":
        return f"CAST({column} AS VARCHAR)", lambda text: {"nan": "NaN", "inf": "inf", "-inf": "-inf"}.get(text, text)
    if kind.base in ("ARRAY", "OBJECT"):
        return f"CAST(to_json({column}) AS VARCHAR)", str
    return f"CAST({column} AS VARCHAR)", str


def fetch(cursor, sql):
    """Runs a query and returns its rows as texts."""
    described = cursor.execute("DESCRIBE " + sql).fetchall()
    kinds = [from_duckdb(row[1]) for row in described]
    labels = [f"c{at}" for at in range(len(kinds))]
    made = [expression(label, kind) for label, kind in zip(labels, kinds)]
    rows = cursor.execute(f"SELECT {', '.join(text for text, _ in made)} FROM ({sql}) AS r({', '.join(labels)})").fetchall()
    convert = [function for _, function in made]
    return Result.of([(names.decode(row[0]), kind) for row, kind in zip(described, kinds)],
                     [[None if value is None else to(value) for value, to in zip(row, convert)] for row in rows])


def rows_as_json(store, table, condition=""):
    """A table's rows as JSON objects, values as the SQL API writes them."""
    labels = [f"c{at}" for at in range(len(table.columns))]
    made = [expression(label, column.type) for label, column in zip(labels, table.columns)]
    cursor = store.cursor()
    rows = cursor.execute(f"SELECT {', '.join(text for text, _ in made)} FROM {table.stored} AS r({', '.join(labels)}) "
                          f"{condition}").fetchall()
    cursor.close()
    return [{column.name: None if value is None else to(value)
             for column, value, (_, to) in zip(table.columns, row, made)} for row in rows]


