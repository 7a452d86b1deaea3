"""HTTP/1.1 with keep-alive, in clear and over TLS; every request passes the faults and is kept in the log."""

import collections
import http.server
import logging
import socket
import socketserver
import sys
import threading
import time
import traceback

from .errors import HttpError
from .faults import make_answer
from .messages import Answer, Request
from .streaming import CHANNEL, ROWS, parts_of

LOGGED = 20_000
DRAINED = 64 << 20
HEADERS_KEPT = ("x-snowflake-authorization-token-type", "user-agent", "content-encoding", "content-type", "accept")
log = logging.getLogger("emulator.server")


class Log:
    """What was asked and answered, newest last; never a token."""

    def __init__(self):
        self.lock = threading.Lock()
        self.entries = collections.deque(maxlen=LOGGED)
        self.counts = collections.Counter()
        self.next = 1

    def add(self, entry):
        with self.lock:
            entry["number"] = self.next
            self.next += 1
            self.entries.append(entry)
            self.counts[f"{entry['method']} {entry['kind']} {entry['status']}"] += 1

    def clear(self):
        with self.lock:
            self.entries.clear()
            self.counts.clear()

    def since(self, number, path=None):
        with self.lock:
            return [entry for entry in self.entries if entry["number"] > number and (path is None or path in entry["path"])]

    def counted(self):
        with self.lock:
            return dict(self.counts)


def kind_of(path):
    """The endpoint, for counting."""
    for mark, kind in (("/_control", "control"), ("/rows", "rows"), (":bulk-channel-status", "status"),
                       (":pipe-info", "pipe-info"), ("/channels/", "channel"), ("/cancel", "cancel"),
                       ("/api/v2/statements", "statements"), ("/oauth/token", "token"), ("/hostname", "hostname"),
                       ("/telemetry", "telemetry")):
        if mark in path:
            return kind
    return "other"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "Emulator"
    sys_version = ""
    disable_nagle_algorithm = True
    wbufsize = -1
    timeout = 120

    def log_message(self, *_arguments):
        pass

    def read_body(self, limit):
        """The body, or HttpError(413) once it is larger than any endpoint takes."""
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            body = bytearray()
            while True:
                size = int(self.rfile.readline(1024).split(b";")[0], 16)
                body += self.rfile.read(size)
                self.rfile.readline(1024)
                if size == 0:
                    return bytes(body)
                if len(body) > limit:
                    self.close_connection = True
                    raise HttpError(413, "ERR_PAYLOAD_TOO_LARGE", f"The request body is larger than {limit} bytes.")
        length = int(self.headers.get("Content-Length", "0"))
        if length > limit:
            self.close_connection = True
            left = min(length, DRAINED)
            while left > 0:
                left -= len(self.rfile.read(min(left, 1 << 16)) or b" " * left)
            raise HttpError(413, "ERR_PAYLOAD_TOO_LARGE", f"The request body is larger than {limit} bytes.")
        body = self.rfile.read(length)
        if len(body) < length:
            # Half a body is no request: half the lines of one are valid NDJSON, too.
            raise ConnectionError("the client went away")
        return body

    def serve(self):
        emulator = self.server.emulator
        began = time.time()
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, b"", self.client_address[0])
        rule, error, answer = None, None, None
        try:
            limit = 64 << 20 if request.path.startswith("/_control") else max(emulator.settings.largest_body, 4 << 20)
            request.body = self.read_body(limit)
        except HttpError as refused:
            error = refused
        except ValueError:
            self.close_connection = True
            error = HttpError(400, "ERR_INVALID_REQUEST", "The request cannot be read.")
        if not request.path.startswith("/_control"):
            rule = emulator.faults.of(request, self.path)
        rule = rule or {}
        time.sleep(rule.get("delay", 0))
        self.before(emulator, request, rule)
        instead = "answer" in rule or rule.get("drop")
        if not instead or rule.get("when") == "after":
            answer = Answer.of_error(error) if error else emulator.answer(request)
            carried_out = answer.status
        else:
            carried_out = None
        if "answer" in rule:
            answer = make_answer(rule["answer"])
        time.sleep(rule.get("answer_delay", 0))
        status = 0 if rule.get("drop") else answer.status
        emulator.log.add({
            "time": began, "seconds": round(time.time() - began, 4), "method": request.method, "path": request.path,
            "kind": kind_of(request.path), "query": {k: v for k, v in request.query.items() if "token" not in k.lower()},
            "offsets": [request.query.get("startOffsetToken"), request.query.get("endOffsetToken")],
            "status": status, "carried_out": carried_out, "fault": bool(rule), "bytes": len(request.body),
            "answer_bytes": len(answer.body) if answer else 0, "tls": self.server.context is not None,
            "headers": {name: headers[name] for name in HEADERS_KEPT if name in headers}})
        if rule.get("drop"):
            self.hang_up()
        else:
            self.send(answer, rule)

    def before(self, emulator, request, rule):
        """What a rule does to the emulator before the request is looked at."""
        request.scripted = [rule] if rule else []
        if rule.get("revoke_tokens"):
            emulator.auth.revoke_all()
        found = ROWS.match(request.raw_path) or CHANNEL.match(request.raw_path)
        if "channel" in rule and found and parts_of(found) in emulator.channels.channels:
            {"lose": emulator.channels.forget, "take_over": emulator.channels.take_over,
             "stale": emulator.channels.make_stale}[rule["channel"]](parts_of(found))

    def send(self, answer, rule):
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if "cut" in rule:
            self.wfile.write(answer.body[:rule["cut"]])
            self.wfile.flush()
            self.hang_up()
        elif rule.get("bytes_per_second"):
            step = max(1, int(rule["bytes_per_second"] / 10))
            for at in range(0, len(answer.body), step):
                self.wfile.write(answer.body[at:at + step])
                self.wfile.flush()
                time.sleep(0.1)
        else:
            self.wfile.write(answer.body)
            self.wfile.flush()

    def hang_up(self):
        self.close_connection = True
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = serve


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, emulator, address, context=None):
        super().__init__(address, Handler)
        self.emulator = emulator
        self.context = context

    def server_bind(self):
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]

    def get_request(self):
        connection, address = super().get_request()
        if self.context is not None:
            # The handshake is done by the connection's own thread, at its first read.
            connection.settimeout(30)
            connection = self.context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def handle_error(self, _request, _address):
        kind, error = sys.exc_info()[:2]
        if not issubclass(kind, (OSError, ValueError)):
            traceback.print_exc()
        else:
            log.debug("connection ended: %s", error)

    def start(self):
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
        return self.server_port
