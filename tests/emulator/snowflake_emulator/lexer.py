"""SQL text into tokens: enough to split statements and to read those that the translator does not know."""

import dataclasses
import re

from .errors import syntax
from .names import fold

TOKEN = re.compile(r"""
    (?P<space>\s+|--[^\n]*|//[^\n]*|/\*.*?\*/)
  | (?P<dollar>\$\$.*?\$\$)
  | (?P<string>'(?:[^'\\]|\\.|'')*')
  | (?P<quoted>"(?:[^"]|"")*")
  | (?P<number>\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+)
  | (?P<word>[^\W\d][\w$]*)
  | (?P<sign>:=|=>|::|<>|!=|<=|>=|\|\||.)
""", re.X | re.S)
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "b": "\b", "f": "\f"}


@dataclasses.dataclass
class Token:
    kind: str
    text: str
    start: int
    end: int

    @property
    def word(self):
        return self.text.upper() if self.kind == "word" else ""


def tokenize(sql):
    found = []
    for match in TOKEN.finditer(sql):
        if match.lastgroup == "sign" and match.group() in ("'", '"'):
            raise syntax(sql[match.start():match.start() + 20])
        if match.lastgroup != "space":
            found.append(Token(match.lastgroup, match.group(), match.start(), match.end()))
    return found


def string_value(token):
    """What a string literal says."""
    if token.kind == "dollar":
        return token.text[2:-2]
    body = token.text[1:-1].replace("''", "'")
    return re.sub(r"\\(u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|.)", unescape, body, flags=re.S)


def unescape(match):
    text = match.group(1)
    if len(text) > 1:
        return chr(int(text[1:], 16))
    return ESCAPES.get(text, text)


def starts_block(tokens, at):
    """Whether a BEGIN is a scripting block; otherwise it begins a transaction."""
    following = tokens[at + 1] if at + 1 < len(tokens) else None
    return not (following is None or following.text == ";" or following.word in ("TRANSACTION", "WORK", "NAME"))


def split(sql):
    """[(text, offset)] of the statements between semicolons; a scripting block is one statement."""
    tokens = tokenize(sql)
    pieces, first, depth = [], None, 0
    for at, token in enumerate(tokens):
        if token.text == ";" and depth == 0:
            if first is not None:
                pieces.append((sql[first:token.start].rstrip(), first))
            first = None
            continue
        if first is None:
            first = token.start
        if token.word == "BEGIN" and starts_block(tokens, at):
            depth += 1
        elif token.word == "END" and depth and not (at + 1 < len(tokens) and tokens[at + 1].word == "IF"):
            depth -= 1
        elif token.word == "CASE" and depth:
            depth += 1
    if first is not None:
        pieces.append((sql[first:].rstrip(), first))
    return pieces


class Reader:
    """Reads the tokens of one statement from left to right."""

    def __init__(self, sql):
        self.sql = sql
        self.tokens = tokenize(sql)
        self.at = 0

    def peek(self, ahead=0):
        at = self.at + ahead
        return self.tokens[at] if at < len(self.tokens) else Token("end", "", len(self.sql), len(self.sql))

    def next(self):
        token = self.peek()
        self.at += 1
        return token

    @property
    def done(self):
        return self.at >= len(self.tokens)

    def accept(self, *words):
        """Takes these words or signs if they come next."""
        for ahead, word in enumerate(words):
            token = self.peek(ahead)
            if token.text != word and token.word != word:
                return False
        self.at += len(words)
        return True

    def expect(self, *words):
        if not self.accept(*words):
            raise syntax(self.peek().text or "<EOF>")

    def word(self):
        token = self.next()
        if token.kind != "word":
            raise syntax(token.text or "<EOF>")
        return token.word

    def identifier(self):
        token = self.next()
        if token.kind not in ("word", "quoted"):
            raise syntax(token.text or "<EOF>")
        return fold(token.text)

    def path(self):
        """A dotted name, as a list of its parts."""
        parts = [self.identifier()]
        while self.accept("."):
            parts.append(self.identifier())
        return parts

    def string(self):
        token = self.next()
        if token.kind not in ("string", "dollar"):
            raise syntax(token.text or "<EOF>")
        return string_value(token)

    def rest(self):
        """The text from here to the end."""
        text = self.sql[self.peek().start:].strip()
        self.at = len(self.tokens)
        return text

    def end(self):
        if not self.done:
            raise syntax(self.peek().text)

    def until(self, *stops):
        """The text up to one of these signs or words, outside of parentheses; the stop itself is not taken."""
        first, depth = self.peek(), 0
        last = first.start
        while not self.done:
            token = self.peek()
            if depth == 0 and (token.text in stops or token.word in stops):
                break
            depth += (token.text == "(") - (token.text == ")")
            last = token.end
            self.at += 1
        return self.sql[first.start:last]
