"""Bind variables of the SQL API: always texts, read by their type."""

import datetime
import decimal
import re

from sqlglot import exp

from .errors import SqlError

EPOCH = datetime.datetime(1970, 1, 1)


def literals(given):
    """Name → tree of the literal."""
    return {name: literal(body["type"], body["value"]) for name, body in given.items()}


def cast(text, kind):
    return exp.cast(exp.Literal.string(text), kind)


def moment(nanoseconds, zone=""):
    whole, rest = divmod(int(nanoseconds), 1_000_000_000)
    if rest % 1000:
        raise ValueError("the emulator keeps microseconds only")
    return (EPOCH + datetime.timedelta(seconds=whole, microseconds=rest // 1000)).isoformat(" ") + zone


def literal(kind, value):
    if value is None:
        return exp.Null()
    try:
        return MAKERS[kind](value)
    except (ValueError, decimal.InvalidOperation, OverflowError):
        raise SqlError("100037", "22018", f"{kind} value '{value}' is not recognized") from None


def number(value):
    if not re.match(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\Z", value):
        raise ValueError(value)
    fraction = len(value.partition(".")[2])
    return cast(value, f"DECIMAL(38, {fraction})" if "e" not in value.lower() else "DOUBLE")


def binary(value):
    return exp.Anonymous(this="unhex", expressions=[exp.Literal.string(bytes.fromhex(value).hex())])


MAKERS = {
    "FIXED": number,
    "DECFLOAT": number,
    "REAL": lambda value: cast(str(float(value)), "DOUBLE"),
    "TEXT": exp.Literal.string,
    "BOOLEAN": lambda value: exp.Boolean(this={"true": True, "false": False}.get(value.lower(), None) if value.lower() in (
        "true", "false") else int(value) != 0),
    "BINARY": binary,
    "DATE": lambda value: cast((EPOCH + datetime.timedelta(milliseconds=int(value))).date().isoformat(), "DATE"),
    "TIME": lambda value: cast(moment(value).partition(" ")[2], "TIME"),
    "TIMESTAMP_NTZ": lambda value: cast(moment(value), "TIMESTAMP"),
    "TIMESTAMP_LTZ": lambda value: cast(moment(value, "+00:00"), "TIMESTAMPTZ"),
    "TIMESTAMP_TZ": lambda value: cast(moment(value.split(" ")[0], "+00:00"), "TIMESTAMPTZ"),
}
