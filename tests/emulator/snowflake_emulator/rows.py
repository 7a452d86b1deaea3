"""Rows of an append request: strict NDJSON, then one value at a time into its column's type, exactly."""

import base64
import binascii
import datetime
import decimal
import json
import re

from .errors import HttpError, RowError

NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\Z")
DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)\Z")
TIME = re.compile(r"(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?\Z")
TIMESTAMP = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[ T](\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?)(?: ?(Z|[+-]\d\d:?\d\d))?)?\Z")
WORDS = {"nan": "nan", "inf": "inf", "+inf": "inf", "-inf": "-inf", "infinity": "inf", "-infinity": "-inf"}
EXACT = decimal.Context(prec=200, rounding=decimal.ROUND_HALF_UP, Emin=-999999, Emax=999999)


class Object(dict):
    """A JSON object that remembers whether a key came twice."""

    repeated = None


def make_object(pairs):
    made = Object(pairs)
    if len(made) != len(pairs):
        seen = set()
        made.repeated = next(key for key, _ in pairs if key in seen or seen.add(key))
    return made


def refuse_constant(name):
    raise ValueError(f"{name} is not JSON")


DECODER = json.JSONDecoder(object_pairs_hook=make_object, parse_float=decimal.Decimal, parse_constant=refuse_constant)


def malformed(line, why):
    return HttpError(400, "ERR_INVALID_ROW_JSON", f"The request body is not valid NDJSON: line {line}: {why}")


def parse_lines(body):
    """The objects of an NDJSON body. Empty lines are passed over; everything else must be one object a line."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise malformed(body[:error.start].count(b"\n") + 1, "not UTF-8") from None
    if text and not text.endswith("\n"):
        raise malformed(text.count("\n") + 1, "no line feed at its end")
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip(" \t\r"):
            continue
        try:
            row = DECODER.decode(line)
            if "\\u" in line:
                json.dumps(row, ensure_ascii=False, default=str).encode("utf-8")
        except UnicodeEncodeError:
            raise malformed(number, "half of a surrogate pair") from None
        except ValueError as error:
            raise malformed(number, error) from None
        if not isinstance(row, Object):
            raise malformed(number, "not an object")
        if row.repeated is not None:
            raise malformed(number, f"the key {row.repeated!r} comes twice")
        found.append(row)
    if not found:
        raise malformed(1, "no rows")
    return found


def shown(value):
    text = value if isinstance(value, str) else variant_text(value)
    return text if len(text) <= 60 else text[:60] + "..."


def refuse(what, value):
    return RowError(f"{what} value '{shown(value)}' is not recognized")


def to_number(kind, value):
    if isinstance(value, bool) or not isinstance(value, (int, decimal.Decimal, str)):
        raise refuse("Numeric", value)
    text = str(value).strip()
    if not NUMBER.match(text):
        raise refuse("Numeric", value)
    number = EXACT.create_decimal(text)
    if number.adjusted() >= 38:
        raise RowError(f"Number out of representable range: type FIXED[SB16]({kind.precision},{kind.scale}), value {text[:60]}")
    number = number.quantize(decimal.Decimal(1).scaleb(-kind.scale), context=EXACT)
    if number.adjusted() >= kind.precision - kind.scale and number:
        raise RowError(f"Number out of representable range: type FIXED[SB16]({kind.precision},{kind.scale}), value {text[:60]}")
    return format(number, "f")


def to_float(_kind, value):
    if isinstance(value, bool) or not isinstance(value, (int, decimal.Decimal, str)):
        raise refuse("Numeric", value)
    text = str(value).strip()
    if text.lower() in WORDS and isinstance(value, str):
        return WORDS[text.lower()]
    if not NUMBER.match(text):
        raise refuse("Numeric", value)
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise refuse("Numeric", value)
    return repr(number)


def to_boolean(_kind, value):
    if isinstance(value, bool):
        return "true" if value else "false"
    word = str(value).lower() if isinstance(value, (str, int)) else ""
    if word in ("true", "t", "yes", "y", "on", "1"):
        return "true"
    if word in ("false", "f", "no", "n", "off", "0"):
        return "false"
    raise refuse("Boolean", value)


def to_text(kind, value):
    text = value if isinstance(value, str) else variant_text(value)
    if len(text) > kind.length:
        raise RowError(f"String '{shown(text)}' is too long and would be truncated")
    return text


def to_binary(kind, value, form):
    if not isinstance(value, str):
        raise refuse("Binary", value)
    try:
        raw = base64.b64decode(value, validate=True) if form == "BASE64" else bytes.fromhex(value)
    except (binascii.Error, ValueError):
        raise RowError(f"The following string is not a legal {form.lower()}-encoded value: '{shown(value)}'") from None
    if len(raw) > kind.length:
        raise RowError(f"Binary value of {len(raw)} bytes is too long and would be truncated")
    return raw.hex()


def to_date(_kind, value):
    found = DATE.match(value) if isinstance(value, str) else None
    if not found:
        raise refuse("Date", value)
    try:
        datetime.date(*map(int, found.groups()))
    except ValueError:
        raise refuse("Date", value) from None
    return value


def checked_time(text, kind):
    found = TIME.match(text)
    if not found or int(found[1]) > 23 or int(found[2]) > 59 or int(found[3] or 0) > 59:
        return None
    digits = (found[4] or "")[:kind.scale].rstrip("0")
    if len(digits) > 6:
        raise RowError(f"the emulator keeps microseconds only: '{text}'")
    return f"{found[1]}:{found[2]}:{found[3] or '00'}" + ("." + digits if digits else "")


def to_time(kind, value):
    text = checked_time(value, kind) if isinstance(value, str) else None
    if text is None:
        raise refuse("Time", value)
    return text


def to_timestamp(kind, value):
    found = TIMESTAMP.match(value) if isinstance(value, str) else None
    if not found:
        raise refuse("Timestamp", value)
    day = to_date(kind, found[1])
    time = checked_time(found[2] or "00:00:00", kind)
    zone = found[3]
    if time is None or (zone and kind.base == "TIMESTAMP_NTZ"):
        raise refuse("Timestamp", value)
    if kind.base == "TIMESTAMP_NTZ":
        return f"{day} {time}"
    if zone in (None, "Z"):
        return f"{day} {time}+00:00"
    if int(zone[1:3]) * 60 + int(zone[-2:]) > 14 * 60:
        raise refuse("Timestamp", value)
    return f"{day} {time}{zone[:3]}:{zone[-2:]}"


def variant_text(value):
    """JSON as VARIANT keeps it: keys sorted, numbers of up to 38 digits exact, others as doubles."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, (int, decimal.Decimal)):
        number = EXACT.create_decimal(value)
        exponent = number.as_tuple().exponent
        if len(number.as_tuple().digits) <= 38 and -37 <= exponent <= 0:
            text = format(number, "f")
            return text.rstrip("0").rstrip(".") if "." in text else text
        return repr(float(value))
    if isinstance(value, list):
        return "[" + ",".join(map(variant_text, value)) + "]"
    return "{" + ",".join(f"{json.dumps(key, ensure_ascii=False)}:{variant_text(value[key])}" for key in sorted(value)) + "}"


def to_semi_structured(kind, value):
    if kind.base == "ARRAY" and not isinstance(value, list):
        value = [value]
    if kind.base == "OBJECT" and not isinstance(value, dict):
        raise RowError(f"Failed to cast variant value {shown(value)} to OBJECT")
    return variant_text(value)


CONVERTERS = {"NUMBER": to_number, "FLOAT": to_float, "BOOLEAN": to_boolean, "VARCHAR": to_text, "DATE": to_date,
              "TIME": to_time, "TIMESTAMP_NTZ": to_timestamp, "TIMESTAMP_LTZ": to_timestamp,
              "TIMESTAMP_TZ": to_timestamp, "VARIANT": to_semi_structured, "OBJECT": to_semi_structured,
              "ARRAY": to_semi_structured}

MISSING = object()


def convert(row, columns, binary_form):
    """[text or None] in the order of `columns`, MISSING for a key that is not there; raises RowError."""
    made = []
    for column in columns:
        value = row.get(column.name, MISSING)
        if value is None or value is MISSING:
            if not column.nullable and (value is None or column.default is None):
                raise RowError(f"NULL result in a non-nullable column: {column.name}")
            made.append(value)
        elif column.type.base == "BINARY":
            made.append(to_binary(column.type, value, binary_form))
        else:
            try:
                made.append(CONVERTERS[column.type.base](column.type, value))
            except RowError as error:
                raise RowError(f"{error} (column {column.name})") from None
    return made
