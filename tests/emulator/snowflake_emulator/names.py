"""Snowflake's case-sensitive names on DuckDB, which ignores case.

A name is stored in upper case; if that changes it, the positions of its lower-case letters follow as a bit mask after `~`.
`ORDERS` stays `ORDERS`, `orders` is `ORDERS~3F`, `Orders` is `ORDERS~3E`: different in Snowflake, different here.
"""

import re
import string

LOWER = set(string.ascii_lowercase)
UPPER = {ord(letter): letter.upper() for letter in LOWER}
UNQUOTED = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*$")


def encode(name):
    escaped = name.replace("%", "%25").replace("~", "%7E").replace(".", "%2E")
    mask = sum(1 << at for at, letter in enumerate(escaped) if letter in LOWER)
    upper = escaped.translate(UPPER)
    return f"{upper}~{mask:X}" if mask else upper


def decode(stored):
    upper, _, mask = stored.partition("~")
    if mask:
        bits = int(mask, 16)
        upper = "".join(letter.lower() if bits >> at & 1 else letter for at, letter in enumerate(upper))
    return upper.replace("%2E", ".").replace("%7E", "~").replace("%25", "%")


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


def literal(text):
    return "'" + str(text).replace("'", "''") + "'"


def stored_schema(database, schema):
    return quoted(encode(database) + "." + encode(schema))


def stored_table(database, schema, table):
    return stored_schema(database, schema) + "." + quoted(encode(table))


def stored_column(name):
    return quoted(encode(name))


def fold(text):
    """A name as written in SQL or in a path: unquoted ones fold to upper case."""
    if text.startswith('"') and text.endswith('"') and len(text) > 1:
        return text[1:-1].replace('""', '"')
    return text.upper()


def show(name):
    """A name as Snowflake writes it into messages."""
    return name if UNQUOTED.match(name) and name == name.upper() else quoted(name)


def like(pattern):
    """A compiled LIKE pattern, case-insensitive as in SHOW."""
    parts = []
    escaped = False
    for letter in pattern:
        if escaped:
            parts.append(re.escape(letter))
            escaped = False
        elif letter == "\\":
            escaped = True
        else:
            parts.append({"%": ".*", "_": "."}.get(letter, re.escape(letter)))
    return re.compile("".join(parts) + r"\Z", re.I | re.S)
