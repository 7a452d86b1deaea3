"""Snowflake's column types: as text, as DuckDB's types, as the SQL API describes them."""

import dataclasses
import re

from .errors import compilation

TYPE = re.compile(r"\s*([A-Za-z_]+(?:\s+PRECISION|\s+VARYING)?)\s*(?:\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\))?\s*$", re.I)
DEFAULT_TEXT = 16_777_216
LARGEST_TEXT = 134_217_728
DEFAULT_BINARY = 8_388_608
LARGEST_BINARY = 67_108_864

NUMBERS = {"NUMBER", "DECIMAL", "NUMERIC", "DEC"}
INTEGERS = {"INT", "INTEGER", "BIGINT", "SMALLINT", "TINYINT", "BYTEINT"}
FLOATS = {"FLOAT", "FLOAT4", "FLOAT8", "DOUBLE", "DOUBLE PRECISION", "REAL"}
TEXTS = {"VARCHAR", "TEXT", "STRING", "NVARCHAR", "CHAR VARYING"}
TIMESTAMPS = {
    "TIMESTAMP": "TIMESTAMP_NTZ", "DATETIME": "TIMESTAMP_NTZ",
    "TIMESTAMP_NTZ": "TIMESTAMP_NTZ", "TIMESTAMPNTZ": "TIMESTAMP_NTZ",
    "TIMESTAMP_LTZ": "TIMESTAMP_LTZ", "TIMESTAMPLTZ": "TIMESTAMP_LTZ",
    "TIMESTAMP_TZ": "TIMESTAMP_TZ", "TIMESTAMPTZ": "TIMESTAMP_TZ",
}
SEMI_STRUCTURED = {"VARIANT", "OBJECT", "ARRAY"}


@dataclasses.dataclass(frozen=True)
class Type:
    """One Snowflake type. `length` is of texts and binaries, `precision` and `scale` of numbers and times."""

    base: str
    precision: int = 0
    scale: int = 0
    length: int = 0

    def __str__(self):
        if self.base == "NUMBER":
            return f"NUMBER({self.precision},{self.scale})"
        if self.base in ("VARCHAR", "BINARY"):
            return f"{self.base}({self.length})"
        if self.base == "TIME" or self.base.startswith("TIMESTAMP"):
            return f"{self.base}({self.scale})"
        return self.base

    def duckdb(self):
        if self.base == "NUMBER":
            return f"DECIMAL({self.precision},{self.scale})"
        return {"FLOAT": "DOUBLE", "VARCHAR": "VARCHAR", "BINARY": "BLOB", "TIMESTAMP_NTZ": "TIMESTAMP",
                "TIMESTAMP_LTZ": "TIMESTAMPTZ", "TIMESTAMP_TZ": "TIMESTAMPTZ", "VARIANT": "JSON", "OBJECT": "JSON",
                "ARRAY": "JSON"}.get(self.base, self.base)

    def row_type(self, name, nullable=True):
        api = {"NUMBER": "FIXED", "FLOAT": "REAL", "VARCHAR": "TEXT"}.get(self.base, self.base)
        return {"name": name, "type": api.lower(), "nullable": nullable, "precision": self.precision,
                "scale": self.scale, "length": self.length,
                "byteLength": min(self.length * 4, LARGEST_TEXT) if self.base == "VARCHAR" else self.length,
                "database": "", "schema": "", "table": "", "collation": None}


@dataclasses.dataclass
class Column:
    name: str
    type: Type
    nullable: bool = True
    default: str | None = None


def parse_type(text):
    """The type that this text names in a column definition."""
    found = TYPE.match(text)
    if not found:
        raise compilation(f"Unsupported data type '{text}'.", "002040", "42601")
    word = " ".join(found.group(1).upper().split())
    first = int(found.group(2)) if found.group(2) else None
    second = int(found.group(3)) if found.group(3) else None
    if word in NUMBERS:
        precision, scale = first if first is not None else 38, second or 0
        if not 1 <= precision <= 38 or not 0 <= scale <= min(precision, 37):
            raise compilation(f"Invalid scale or precision in '{text}'.", "002030", "42601")
        return Type("NUMBER", precision=precision, scale=scale)
    if word in INTEGERS:
        return Type("NUMBER", precision=38)
    if word in FLOATS:
        return Type("FLOAT")
    if word in TEXTS or word in ("CHAR", "CHARACTER", "NCHAR"):
        length = first if first is not None else (DEFAULT_TEXT if word in TEXTS else 1)
        if not 1 <= length <= LARGEST_TEXT:
            raise compilation(f"Invalid length in '{text}'.", "002030", "42601")
        return Type("VARCHAR", length=length)
    if word in ("BINARY", "VARBINARY"):
        length = first if first is not None else DEFAULT_BINARY
        if not 1 <= length <= LARGEST_BINARY:
            raise compilation(f"Invalid length in '{text}'.", "002030", "42601")
        return Type("BINARY", length=length)
    if word in TIMESTAMPS or word == "TIME":
        scale = first if first is not None else 9
        if not 0 <= scale <= 9:
            raise compilation(f"Invalid precision in '{text}'.", "002030", "42601")
        return Type(TIMESTAMPS.get(word, word), scale=scale)
    if word in ("BOOLEAN", "DATE") or word in SEMI_STRUCTURED:
        return Type(word)
    raise compilation(f"Unsupported data type '{text}'.", "002040", "42601")


def from_duckdb(text):
    """The Snowflake type of an expression that DuckDB gives this type."""
    text = str(text)
    if text.startswith("DECIMAL"):
        precision, scale = re.findall(r"\d+", text)
        return Type("NUMBER", precision=int(precision), scale=int(scale))
    if text in ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT",
                "UHUGEINT"):
        return Type("NUMBER", precision=38)
    if text in ("DOUBLE", "FLOAT"):
        return Type("FLOAT")
    if text in ("BOOLEAN", "DATE"):
        return Type(text)
    if text == "TIME":
        return Type("TIME", scale=9)
    if text.startswith("TIMESTAMP"):
        zoned = "ZONE" in text or text == "TIMESTAMPTZ"
        return Type("TIMESTAMP_TZ" if zoned else "TIMESTAMP_NTZ", scale=9)
    if text == "BLOB":
        return Type("BINARY", length=DEFAULT_BINARY)
    if text == "JSON":
        return Type("VARIANT")
    if text.endswith("[]"):
        return Type("ARRAY")
    if text.startswith("STRUCT") or text.startswith("MAP"):
        return Type("OBJECT")
    return Type("VARCHAR", length=DEFAULT_TEXT)


def may_widen(old, new):
    """Whether ALTER COLUMN ... SET DATA TYPE takes the change."""
    if old.base != new.base:
        return False
    if old.base == "NUMBER":
        return new.scale == old.scale and new.precision >= old.precision
    if old.base == "VARCHAR":
        return new.length >= old.length
    return old == new
