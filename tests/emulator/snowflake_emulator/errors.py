"""What is refused, and how it is said."""


class HttpError(Exception):
    """An answer other than success of the streaming endpoints: status, code, message."""

    def __init__(self, status, code, message, headers=None):
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers or {}


class SqlError(Exception):
    """A statement that failed, with Snowflake's numeric code and SQLSTATE."""

    def __init__(self, code, sql_state, message):
        super().__init__(message)
        self.code = code
        self.sql_state = sql_state
        self.message = message


class RowError(Exception):
    """One row that its table does not take: it is left out, counted, and the offset goes on."""


class EmulatorError(Exception):
    """Asked for something that the emulator does not know; never an answer of Snowflake's."""


def compilation(message, code="001003", sql_state="42000"):
    return SqlError(code, sql_state, "SQL compilation error:\n" + message)


def syntax(text):
    return compilation(f"syntax error line 1 at position 0 unexpected '{text}'.")


def missing(kind, name):
    return compilation(f"{kind} '{name}' does not exist or not authorized.", "002003", "42S02")


def exists(name):
    return compilation(f"Object '{name}' already exists.", "002002", "42710")


def denied(kind, name):
    return SqlError("003001", "42501",
                    f"SQL access control error:\nInsufficient privileges to operate on {kind.lower()} '{name}'.")
