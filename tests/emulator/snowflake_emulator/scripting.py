"""Scripting blocks: BEGIN ... [EXCEPTION WHEN OTHER THEN ...] END, with variables, IF, RETURN and RAISE."""

from sqlglot import exp

from .errors import EmulatorError, SqlError, syntax
from .lexer import Reader, starts_block
from .results import TEXT, Result


class Return(Exception):
    def __init__(self, value):
        super().__init__()
        self.value = value


def run(session, text):
    block = Block(session, Reader(text))
    try:
        block.run()
        value = None
    except Return as returned:
        value = returned.value
    if session.in_transaction:
        # A block that began a transaction must end it.
        session.rollback()
        raise SqlError("090232", "22000", "Stored procedure execution error: Scoped transaction started in stored "
                       "procedure is incomplete and it was rolled back.")
    return Result.of([("anonymous block", TEXT)], [[value]])


class Block:
    def __init__(self, session, reader):
        self.session = session
        self.reader = reader
        self.variables = {}
        self.raised = None

    def run(self):
        if self.reader.accept("DECLARE"):
            while self.reader.peek().word != "BEGIN":
                self.declare()
        self.block()
        self.reader.accept(";")
        self.reader.end()

    def block(self):
        """From BEGIN to END; the position is after END, whatever was raised."""
        reader = self.reader
        reader.expect("BEGIN")
        body_end, handlers, end = self.find_ends()
        try:
            try:
                self.statements(body_end)
            finally:
                reader.at = end
        except SqlError as error:
            if handlers is None or error.code == "000604":
                raise
            before, self.raised = self.raised, error
            reader.at = handlers
            try:
                reader.expect("EXCEPTION", "WHEN", "OTHER", "THEN")
                self.statements(end - 1)
            finally:
                self.raised = before
                reader.at = end

    def find_ends(self):
        """Where the block's statements end, where EXCEPTION stands (or None), and what follows END."""
        tokens, depth, handlers = self.reader.tokens, 0, None
        at = self.reader.at
        while at < len(tokens):
            word = tokens[at].word
            if word == "BEGIN" and starts_block(tokens, at) or word in ("CASE", "IF") and self.opens(at):
                depth += 1
            elif word == "END" and depth == 0:
                return (handlers if handlers is not None else at), handlers, at + 1
            elif word == "END":
                depth -= 1
                at += 1 if at + 1 < len(tokens) and tokens[at + 1].word == "IF" else 0
            elif word == "EXCEPTION" and depth == 0:
                handlers = at
            at += 1
        raise syntax("<EOF>")

    def opens(self, at):
        """IF opens a block where a statement may begin; CASE always does."""
        if self.reader.tokens[at].word == "CASE":
            return True
        before = self.reader.tokens[at - 1]
        return before.text == ";" or before.word in ("BEGIN", "THEN", "ELSE")

    def statements(self, end):
        while self.reader.at < end:
            self.statement()

    def statement(self):
        reader, word = self.reader, self.reader.peek().word
        if word == "BEGIN" and starts_block(reader.tokens, reader.at):
            self.block()
        elif word == "LET":
            reader.next()
            self.declare()
            return
        elif word == "IF":
            self.conditional()
        elif word == "RAISE":
            reader.next()
            reader.expect(";")
            if self.raised is None:
                raise syntax("RAISE")
            raise self.raised
        elif word == "RETURN":
            reader.next()
            text = reader.until(";")
            raise Return(self.value(text) if text else None)
        elif word == "NULL":
            reader.next()
        elif reader.peek(1).text == ":=":
            name = reader.identifier()
            reader.expect(":=")
            if name not in self.variables:
                raise syntax(name)
            self.variables[name] = self.literal(reader.until(";"))
        elif word in ("FOR", "WHILE", "LOOP", "REPEAT", "OPEN", "FETCH", "CALL"):
            raise EmulatorError(f"{word} in a block")
        else:
            self.session.run(reader.until(";"), self.bound())
        reader.expect(";")

    def declare(self):
        reader = self.reader
        name = reader.identifier()
        if reader.peek().text not in (":=", ";") and reader.peek().word != "DEFAULT":
            reader.until(":=", "DEFAULT", ";")
        self.variables[name] = exp.Null()
        if reader.accept(":=") or reader.accept("DEFAULT"):
            self.variables[name] = self.literal(reader.until(";"))
        reader.expect(";")

    def conditional(self):
        reader = self.reader
        reader.expect("IF")
        taken = False
        while True:
            condition = reader.until("THEN")
            reader.expect("THEN")
            end = self.branch_end()
            if not taken and self.value(condition) == "true":
                taken = True
                self.statements(end)
            reader.at = end
            if reader.accept("ELSEIF"):
                continue
            if reader.accept("ELSE"):
                end = self.branch_end()
                if not taken:
                    self.statements(end)
                reader.at = end
            reader.expect("END", "IF")
            return

    def branch_end(self):
        tokens, depth, at = self.reader.tokens, 0, self.reader.at
        while at < len(tokens):
            word = tokens[at].word
            if depth == 0 and word in ("ELSEIF", "ELSE", "END"):
                return at
            if word == "BEGIN" and starts_block(tokens, at) or word in ("CASE", "IF") and self.opens(at):
                depth += 1
            elif word == "END":
                depth -= 1
                at += 1 if at + 1 < len(tokens) and tokens[at + 1].word == "IF" else 0
            at += 1
        raise syntax("<EOF>")

    # Expressions are asked of the engine, so they mean what they mean in SQL.

    def bound(self):
        return {**self.variables, "SQLROWCOUNT": exp.Literal.number(self.session.row_count)}

    def with_variables(self, text):
        """In expressions of the block itself, variables stand without a colon."""
        parts, last, reader = [], 0, Reader(text)
        known = self.bound()
        for at, token in enumerate(reader.tokens):
            before = reader.tokens[at - 1].text if at else ""
            after = reader.tokens[at + 1].text if at + 1 < len(reader.tokens) else ""
            if token.word in known and before not in (".", ":") and after not in (".", "("):
                parts.append(text[last:token.start] + ":" + token.text)
                last = token.end
        return "".join(parts) + text[last:]

    def value(self, text):
        result = self.session.query(f"SELECT {self.with_variables(text)}", self.bound())
        return result.rows[0][0]

    def literal(self, text):
        result = self.session.query(f"SELECT {self.with_variables(text)}", self.bound())
        value, kind = result.rows[0][0], result.columns[0]["type"]
        if value is None:
            return exp.Null()
        return exp.Literal.number(value) if kind == "fixed" else exp.Literal.string(value)
