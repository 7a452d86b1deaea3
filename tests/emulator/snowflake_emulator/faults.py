"""Scripted faults: rules that the next matching requests meet.

A rule: `match` {method, path, query, body: regular expressions, searched}, `skip` how many matches pass first, `times` how
many meet it (-1: all), and what happens:
  answer      {status, shape, code, message, headers, body}: this answer instead of the real one
  when        "before": the request is not carried out (default); "after": it is, and only the answer is lost or replaced
  drop        true: the connection is closed without an answer
  cut         n: the answer is cut after n bytes of its body, then the connection is closed
  delay       seconds before the request is looked at
  answer_delay   seconds between carrying it out and answering
  bytes_per_second   the answer's body trickles
  channel     "lose" | "take_over" | "stale": happens to the channel in the path, before the request is looked at
  reject_rows [n, ...]: rows of this append that are refused while the offset goes on
  revoke_tokens   true: every scoped token so far is expired
  hold        seconds that a statement goes on running, answered by 202 meanwhile
"""

import re
import threading

from .errors import HttpError
from .messages import Answer

KNOWN = {"match", "skip", "times", "answer", "when", "drop", "cut", "delay", "answer_delay", "bytes_per_second", "channel",
         "reject_rows", "revoke_tokens", "hold"}
MATCHED = {"method", "path", "query", "body"}


class Rule:
    def __init__(self, number, body):
        unknown = body.keys() - KNOWN
        unknown |= body.get("match", {}).keys() - MATCHED
        if unknown:
            raise ValueError(f"unknown in a rule: {', '.join(sorted(unknown))}")
        if body.get("when", "before") not in ("before", "after"):
            raise ValueError("when is before or after")
        if "answer" in body:
            make_answer(body["answer"])
        self.number = number
        self.body = body
        self.match = {name: re.compile(text) for name, text in body.get("match", {}).items()}
        self.skip = body.get("skip", 0)
        self.left = body.get("times", 1)
        self.met = 0

    def meets(self, request, target):
        seen = {"method": request.method, "path": request.path, "query": target.partition("?")[2]}
        for name, pattern in self.match.items():
            text = seen[name] if name in seen else request.body.decode("utf-8", "replace")
            if not pattern.search(text):
                return False
        if self.left == 0:
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        self.left -= 1 if self.left > 0 else 0
        self.met += 1
        return True

    def to_json(self):
        return {"id": self.number, "left": self.left, "met": self.met, **self.body}


def make_answer(body):
    """The scripted answer of a rule."""
    status = body["status"]
    headers = {name: str(value) for name, value in body.get("headers", {}).items()}
    if "body" in body:
        made = Answer.of_json(status, body["body"], headers)
        return made
    error = HttpError(status, body.get("code", "ERR_GENERAL_EXCEPTION_RETRY_REQUEST"),
                      body.get("message", "scripted"), headers)
    return Answer.of_error(error, body.get("shape", "code"))


class Faults:
    def __init__(self):
        self.lock = threading.Lock()
        self.rules = []
        self.next = 1

    def add(self, bodies):
        with self.lock:
            made = [Rule(self.next + at, body) for at, body in enumerate(bodies)]
            self.next += len(made)
            self.rules += made
            return [rule.number for rule in made]

    def clear(self):
        with self.lock:
            self.rules = []

    def of(self, request, target):
        """What the rules say about this request; the first rule that meets it wins."""
        with self.lock:
            for rule in self.rules:
                if rule.meets(request, target):
                    return rule.body
        return None

    def to_json(self):
        with self.lock:
            return [rule.to_json() for rule in self.rules]
