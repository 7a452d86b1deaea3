"""What DuckDB refuses, in Snowflake's words."""

import re

import duckdb

from . import names
from .errors import EmulatorError, SqlError, compilation


def in_snowflake_words(error):
    text = str(error)
    if "Division by zero" in text:
        return SqlError("100051", "22012", "Division by zero")
    found = re.search(r'Referenced (?:column|table) "([^"]*)" not found|does not have a column (?:with name|named) "([^"]*)"', text)
    if found:
        name = names.decode(next(group for group in found.groups() if group is not None))
        return compilation(f"error line 1 at position 0\ninvalid identifier '{names.show(name)}'", "000904", "42000")
    if isinstance(error, duckdb.ConstraintException) and "NOT NULL" in text:
        return SqlError("100072", "22000", "NULL result in a non-nullable column")
    if isinstance(error, duckdb.ConversionException):
        return SqlError("100038", "22018", "Numeric value or other text is not recognized: " + text.split("\n")[0])
    if isinstance(error, duckdb.OutOfRangeException):
        return SqlError("100046", "22003", "Number out of representable range")
    if isinstance(error, duckdb.BinderException):
        return compilation(text.split("\n")[0], "001044", "42P13")
    return EmulatorError(f"DuckDB says: {text}")
