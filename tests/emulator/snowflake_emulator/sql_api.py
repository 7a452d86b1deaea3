"""The SQL API: submit, poll, partitions, cancel."""

import dataclasses
import gzip
import json
import re
import threading
import traceback
import uuid

from . import bindings
from .errors import EmulatorError, HttpError, SqlError
from .lexer import Reader, split, starts_block
from .messages import Answer
from .privileges import no_warehouse
from .results import TEXT, Result
from .schemas import Schemas
from .session import Context

ROOT = "/api/v2/statements"
ONE = re.compile(ROOT + r"/([^/]+)(/cancel)?\Z")
AGENT = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+(/[!#$%&'*+.^_`|~0-9A-Za-z-]+)?(\s.*)?\Z")
ALONE = {"USE", "SET", "UNSET", "BEGIN", "COMMIT", "ROLLBACK", "START", "PUT", "GET"}
DAY = 86_400
KEPT = 20_000  # statements whose results can still be asked for


@dataclasses.dataclass
class Job:
    """One statement, or one request of several."""

    handle: str
    created_ms: int
    user: str
    body: dict
    nullable: bool
    thread: threading.Thread | None = None
    session: object = None
    result: Result | None = None
    error: SqlError | None = None
    failure: Exception | None = None   # of the emulator, not of the statement
    timed_out: bool = False
    done: threading.Event = dataclasses.field(default_factory=threading.Event)
    children: list = dataclasses.field(default_factory=list)

    def common(self, code, sql_state, message):
        return {"code": code, "sqlState": sql_state, "message": message, "statementHandle": self.handle,
                "createdOn": self.created_ms, "statementStatusUrl": f"{ROOT}/{self.handle}"}


class SqlApi:
    def __init__(self, emulator, openapi):
        self.emulator = emulator
        self.settings = emulator.settings
        self.schemas = Schemas(openapi)
        self.lock = threading.Lock()
        self.jobs = {}
        self.by_request = {}

    def handle(self, request):
        if request.path != ROOT and not request.path.startswith(ROOT + "/"):
            return None
        self.check_headers(request)
        user, role = self.emulator.auth.key_pair_user(request)
        problem = self.schemas.problem("query", request.query)
        if problem:
            raise HttpError(400, "390142", f"Incoming request does not contain a valid payload. ({problem})")
        if request.path == ROOT:
            if request.method != "POST":
                raise HttpError(405, "391901", f"{request.method} is not allowed here.")
            return self.submit(request, user, role)
        found = ONE.match(request.path)
        if not found or self.schemas.problem("handle", found[1]):
            raise HttpError(404, "391900", f"Nothing is at {request.path}.")
        job = self.jobs.get(found[1])
        if request.method != ("POST" if found[2] else "GET"):
            raise HttpError(405, "391901", f"{request.method} is not allowed here.")
        if job is None or job.user != user:
            lost = {"code": "000709", "sqlState": "02000", "message": f"Statement {found[1]} not found",
                    "statementHandle": found[1]}
            return self.checked(422, lost, cancel=bool(found[2]))
        return self.cancel(job) if found[2] else self.poll(job, request)

    @staticmethod
    def check_headers(request):
        accept = request.headers.get("accept", "")
        if not accept or not re.search(r"application/json|application/\*|\*/\*", accept):
            raise HttpError(400, "391902", "Unsupported Accept header null is specified.")
        if not AGENT.match(request.headers.get("user-agent", "")):
            raise HttpError(400, "391903", "User-Agent header is missing or is not of the form name/version.")
        kind = request.headers.get("content-type", "application/json").split(";")[0].strip()
        if request.method == "POST" and kind != "application/json":
            raise HttpError(415, "391904", f"Unsupported Content-Type {kind}.")

    def checked(self, status, body, headers=None, cancel=False):
        self.schemas.check_answer(status, body, cancel)
        return Answer.of_json(status, body, headers)

    # Submit

    def submit(self, request, user, role):
        try:
            body = json.loads(request.body)
        except ValueError:
            raise HttpError(400, "390142", "Incoming request does not contain a valid payload.") from None
        problem = self.schemas.problem("request", body)
        if problem:
            raise HttpError(400, "390142", f"Incoming request does not contain a valid payload. ({problem})")
        request_id = request.query.get("requestId")
        if request_id and request.query.get("retry") == "true":
            known = self.by_request.get((user, request_id))
            if known is not None and known.body != body:
                raise HttpError(400, "390142", "A retry must carry the same body as the request before.")
            if known is not None and (not known.done.is_set() or (known.error is None and known.failure is None)):
                return self.answer_when_done(known, request)
        context = self.context_for(user, role, body)
        job = Job(str(uuid.uuid4()), self.settings.now_ms(), user, body, request.query.get("nullable") != "false")
        hold = max((rule.get("hold", 0) for rule in request.scripted), default=0)
        with self.lock:
            self.jobs[job.handle] = job
            while len(self.jobs) > KEPT:
                self.jobs.pop(next(iter(self.jobs)))
            if request_id:
                self.by_request[(user, request_id)] = job
        job.session = self.emulator.engine.session(context)
        job.thread = threading.Thread(target=self.run, args=(job, hold), daemon=True)
        job.thread.start()
        return self.answer_when_done(job, request, at_once=hold > 0)

    def context_for(self, user, role, body):
        known = self.emulator.store.users[user]
        role = self.emulator.auth.role_for(user, body.get("role") or role)
        return Context(user, role, body.get("database") or known.get("default_database"), body.get("schema"),
                       body.get("warehouse") or known.get("default_warehouse"))

    def answer_when_done(self, job, request, at_once=False):
        if request.query.get("async") != "true" and not at_once:
            job.done.wait(self.settings.synchronous_seconds)
        return self.answer(job)

    # Running

    def run(self, job, hold):
        timer = None
        try:
            timeout = job.body.get("timeout") or 7 * DAY
            timer = threading.Timer(timeout, self.time_out, (job,))
            timer.daemon = True
            timer.start()
            if hold and job.session.cancelled.wait(hold):
                job.session.check_cancelled()
            job.result = self.execute(job)
        except SqlError as error:
            job.error = error
        except Exception as error:  # a job must end, and the bug be seen
            if not isinstance(error, EmulatorError):
                traceback.print_exc()
            job.failure = error
        finally:
            if timer:
                timer.cancel()
            job.session.close()
            job.done.set()

    def time_out(self, job):
        job.timed_out = True
        job.session.cancel()

    def execute(self, job):
        body = job.body
        parameters = {name.lower(): value for name, value in body.get("parameters", {}).items()}
        unsupported = [name for name in parameters if name.endswith("_output_format")]
        if unsupported or str(parameters.get("timezone", "UTC")).upper() != "UTC":
            raise EmulatorError(f"parameters {', '.join(unsupported) or 'timezone'}")
        count = str(parameters.get("multi_statement_count", "1"))
        if not count.isdigit():
            raise SqlError("000008", "0A000", f"Invalid multi_statement_count {count}.")
        pieces = split(body["statement"])
        if count != "0" and int(count) != len(pieces):
            raise SqlError("000008", "0A000", f"Actual statement count {len(pieces)} did not match the desired statement "
                           f"count {count}.")
        if count == "1":
            return self.execute_one(job, pieces[0][0])
        if body.get("bindings"):
            raise SqlError("391920", "0A000", "Bind variables are not supported in multi-statement requests.")
        if job.session.context.warehouse is None:
            raise no_warehouse()
        return self.execute_several(job, pieces)

    def execute_one(self, job, text):
        tokens = Reader(text).tokens
        block = bool(tokens) and tokens[0].word == "BEGIN" and starts_block(tokens, 0)
        if tokens and not block and (tokens[0].word in ALONE or [t.word for t in tokens[:2]] == ["ALTER", "SESSION"]):
            raise SqlError("391911", "0A000", f"{tokens[0].word} is not supported as the only statement of a request.")
        return job.session.run(text, bindings.literals(job.body.get("bindings", {})))

    def execute_several(self, job, pieces):
        for text, offset in pieces:
            child = Job(str(uuid.uuid4()), self.settings.now_ms(), job.user, {}, job.nullable)
            with self.lock:
                self.jobs[child.handle] = child
            job.children.append(child)
            try:
                child.result = job.session.run(text)
            except SqlError as error:
                child.error = error
                if error.code == "000604":
                    raise
                line = job.body["statement"].count("\n", 0, offset) + 1
                column = offset - (job.body["statement"].rfind("\n", 0, offset) + 1)
                raise SqlError("100132", "P0000", f"JavaScript execution error: Uncaught Execution of multiple statements "
                               f"failed on statement \"{text[:60]}\" (at line {line}, position {column}).\n"
                               f"{error.message}") from None
            finally:
                child.done.set()
        return Result.of([("multiple statement execution", TEXT)], [["Multiple statements executed successfully."]])

    # Answers

    def answer(self, job):
        if not job.done.is_set():
            return self.checked(202, job.common("333334", "00000", "Asynchronous execution in progress. Use provided query "
                                                "id to perform query monitoring and management."))
        if job.failure is not None:
            raise job.failure
        if job.error is not None:
            if job.error.code == "000604" and job.timed_out:
                return self.checked(408, job.common("000630", "57014", "Statement reached its statement or warehouse "
                                                    f"timeout of {job.body.get('timeout')} second(s) and was canceled."))
            return self.checked(422, job.common(job.error.code, job.error.sql_state, job.error.message))
        body = job.common("090001", "00000", "Statement executed successfully.")
        if job.children:
            body["statementHandles"] = [child.handle for child in job.children]
        partitions = self.partitions(job)
        sizes = [len(json.dumps(part)) for part in partitions]
        body["resultSetMetaData"] = {
            "numRows": len(job.result.rows), "format": "jsonv2", "rowType": job.result.columns,
            "partitionInfo": [{"rowCount": len(part), "uncompressedSize": size, **({"compressedSize": size} if at else {})}
                              for at, (part, size) in enumerate(zip(partitions, sizes))]}
        body["data"] = self.texts(job, partitions[0])
        if job.result.stats:
            body["stats"] = job.result.stats
        return self.checked(200, body, self.links(job, 0, len(partitions)))

    def partitions(self, job):
        size = self.settings.partition_rows
        rows = job.result.rows
        return [rows[at:at + size] for at in range(0, len(rows), size)] or [[]]

    @staticmethod
    def texts(job, rows):
        if job.nullable:
            return rows
        return [["null" if value is None else value for value in row] for row in rows]

    @staticmethod
    def links(job, at, count):
        wanted = [("first", 0), ("next", at + 1), ("prev", at - 1), ("last", count - 1)]
        return {"Link": ",".join(f'<{ROOT}/{job.handle}?requestId={uuid.uuid4()}&partition={number}>;rel="{name}"'
                                 for name, number in wanted if 0 <= number < count)}

    def poll(self, job, request):
        number = int(request.query.get("partition", "0"))
        if number == 0 or not job.done.is_set() or job.result is None:
            return self.answer(job)
        partitions = self.partitions(job)
        if number >= len(partitions):
            raise HttpError(400, "391910", f"Partition {number} does not exist.")
        body = {"data": self.texts(job, partitions[number])}
        self.schemas.check_answer(200, body)
        # Always compressed, whatever was accepted.
        return Answer(200, gzip.compress(json.dumps(body, ensure_ascii=False).encode()),
                      {"Content-Type": "application/json", "Content-Encoding": "gzip",
                       **self.links(job, number, len(partitions))})

    def cancel(self, job):
        if not job.done.is_set() and job.session is not None:
            job.session.cancel()
            job.done.wait(5)
        return self.checked(200, {**{k: v for k, v in job.common("000604", "57014", "SQL execution canceled").items()
                                     if k != "createdOn"}}, cancel=True)
