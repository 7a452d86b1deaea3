"""The endpoints of Snowpipe Streaming: host name, token, pipe, channels, rows."""

import base64
import gzip
import json
import re
import urllib.parse
import zlib

import zstandard

from . import auth
from .errors import HttpError
from .messages import Answer
from .privileges import path_text

NO_PIPE = "ERR_PIPE_DOES_NOT_EXIST_OR_NOT_AUTHORIZED"
NO_TABLE = "ERR_TABLE_DOES_NOT_EXIST_NOT_AUTHORIZED"
PIPE = re.compile(r"/v2/streaming/databases/([^/]+)/schemas/([^/]+)/pipes/([^/]+?):(pipe-info|bulk-channel-status)\Z")
CHANNEL = re.compile(r"/v2/streaming/databases/([^/]+)/schemas/([^/]+)/pipes/([^/]+)/channels/([^/]+)\Z")
ROWS = re.compile(r"/v2/streaming/data/databases/([^/]+)/schemas/([^/]+)/pipes/([^/]+)/channels/([^/]+)/rows\Z")
LARGEST_UNPACKED = 256 << 20
# What pipe-info tells Snowflake's own client: to send rows in requests, never as files, and not to throttle itself.
CLIENT_PARAMETERS = {
    "max_client_lag_seconds": 1, "rowset_flush_threshold_kb": 4096, "max_buffered_kb_for_rowset_mode": 65000,
    "rowset_threshold_lookback_seconds": 60, "rowset_threshold_ewma_weight": 1, "target_file_size_compressed_mb": 64,
    "cpu_throttle_high_watermark_percent": 100, "cpu_throttle_low_watermark_percent": 99,
    "mem_throttle_high_watermark_percent": 100, "mem_throttle_low_watermark_percent": 99,
}


def parts_of(match):
    return tuple(urllib.parse.unquote(part) for part in match.groups())


def json_body(request):
    """The object of a JSON body; an absent body is an empty one."""
    if not request.body:
        return {}
    try:
        body = json.loads(request.body)
    except ValueError as error:
        raise HttpError(400, "ERR_INVALID_REQUEST_BODY", f"The request body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise HttpError(400, "ERR_INVALID_REQUEST_BODY", "The request body is not an object.")
    return body


def field(body, name, kind, default=None):
    value = body.get(name, default)
    if value is not default and type(value) is not kind:
        raise HttpError(400, "ERR_INVALID_REQUEST_BODY", f"{name} must be a {kind.__name__}.")
    return value


def unpack(request, largest):
    """The rows' bytes. The limit is on what came over the wire."""
    if len(request.body) > largest:
        raise HttpError(413, "ERR_PAYLOAD_TOO_LARGE", f"The request body is larger than {largest} bytes.")
    coding = request.headers.get("content-encoding", "identity").lower()
    try:
        if coding == "zstd":
            reader = zstandard.ZstdDecompressor().stream_reader(request.body, read_across_frames=True)
            raw = reader.read(LARGEST_UNPACKED + 1)
        elif coding == "gzip":
            raw = gzip.decompress(request.body)
        elif coding == "identity":
            raw = request.body
        else:
            raise HttpError(415, "ERR_UNSUPPORTED_CONTENT_ENCODING", f"Content-Encoding {coding} is not supported.")
    except (zstandard.ZstdError, OSError, EOFError, zlib.error) as error:
        raise HttpError(400, "ERR_INVALID_REQUEST_BODY", f"The {coding} body cannot be read: {error}") from None
    declared = request.headers.get("x-snowflake-uncompressed-content-length")
    if declared is not None and declared != str(len(raw)):
        raise HttpError(400, "ERR_INVALID_REQUEST_BODY",
                        f"x-snowflake-uncompressed-content-length is {declared}, the body has {len(raw)} bytes.")
    return raw


class Streaming:
    def __init__(self, emulator):
        self.store = emulator.store
        self.auth = emulator.auth
        self.settings = emulator.settings
        self.privileges = emulator.privileges
        self.channels = emulator.channels

    def handle(self, request):
        """The answer, or None if the path is not of the streaming endpoints."""
        if request.path == "/v2/streaming/hostname":
            return self.only(request, "GET", self.hostname)
        if request.path == "/oauth/token":
            return self.only(request, "POST", self.token)
        if request.path == "/telemetry/send/sessionless":
            return Answer.of_json(200, {"data": "Log Received", "code": None, "message": None, "success": True})
        found = ROWS.match(request.raw_path)
        if found:
            return self.only(request, "POST", lambda asked: self.append(asked, parts_of(found)))
        found = CHANNEL.match(request.raw_path)
        if found:
            verbs = {"PUT": self.open, "DELETE": self.drop}
            if request.method not in verbs:
                raise HttpError(405, "ERR_METHOD_NOT_ALLOWED", f"{request.method} is not allowed here.")
            return verbs[request.method](request, parts_of(found))
        found = PIPE.match(request.raw_path)
        if found:
            *pipe, verb = parts_of(found)
            handler = self.pipe_info if verb == "pipe-info" else self.bulk_status
            return self.only(request, "POST", lambda asked: handler(asked, tuple(pipe)))
        return None

    @staticmethod
    def only(request, method, handler):
        if request.method != method:
            raise HttpError(405, "ERR_METHOD_NOT_ALLOWED", f"{request.method} is not allowed here.")
        return handler(request)

    # Account host

    def hostname(self, request):
        self.auth.key_pair_user(request)
        host = self.settings.ingest_host or request.host_name
        if self.settings.hostname_answer == "json":
            return Answer.of_json(200, {"hostname": host})
        return Answer(200, host.encode(), {"Content-Type": "text/plain"})

    def token(self, request):
        user, role = self.auth.key_pair_user(request)
        if request.headers.get("content-type", "").split(";")[0] != "application/x-www-form-urlencoded":
            raise HttpError(415, "ERR_UNSUPPORTED_MEDIA_TYPE", "A form is needed here.")
        form = urllib.parse.parse_qs(request.body.decode("ascii", "replace"), keep_blank_values=True)
        if form.get("grant_type") != [auth.GRANT]:
            raise HttpError(400, "unsupported_grant_type", "grant_type must be the JWT bearer grant.")
        host, _, rest = form.get("scope", [""])[0].partition(" ")
        if host != (self.settings.ingest_host or request.host_name):
            raise HttpError(400, "invalid_scope", "scope must begin with the ingest host.")
        if rest:
            role = rest.removeprefix("session:role:")
        token = self.auth.issue(user, self.auth.role_for(user, role), host)
        if self.settings.token_answer == "json":
            return Answer.of_json(200, {"token": token})
        return Answer(200, token.encode(), {"Content-Type": "text/plain"})

    # Ingest host

    def table_of(self, request, pipe_key):
        """The table behind a pipe, if the token's role may insert into it."""
        user, role = self.auth.scoped_user(request)
        if user not in self.store.users or self.store.users[user].get("disabled"):
            raise HttpError(401, "390303", "Invalid OAuth access token.")
        database, schema, pipe = pipe_key
        custom = self.store.pipes.get(pipe_key)
        if custom is not None:
            path = tuple(custom["table"])
        elif pipe.endswith("-STREAMING"):
            path = (database, schema, pipe.removesuffix("-STREAMING"))
        else:
            raise HttpError(404, NO_PIPE, f"Pipe {path_text(pipe_key)} does not exist or is not authorized.")
        may = self.privileges.has
        usage = may(role, "USAGE", "DATABASE", database) and may(role, "USAGE", "SCHEMA", (database, schema))
        table = self.store.tables.get(path)
        if table is None or not usage or not may(role, "INSERT", "TABLE", path):
            raise HttpError(404, NO_TABLE, f"Table {path_text(path)} does not exist or is not authorized.")
        if custom is not None and not may(role, "OPERATE", "PIPE", pipe_key):
            raise HttpError(404, NO_PIPE, f"Pipe {path_text(pipe_key)} does not exist or is not authorized.")
        return table

    def pipe_info(self, request, pipe_key):
        self.table_of(request, pipe_key)
        location = {"location_type": "S3", "location": "emulator/stage/", "region": "us-west-2",
                    "use_s3_regional_url": False, "bucket_name": "emulator", "path_prefix": "stage/",
                    "expiry_time_ms": self.settings.now_ms() + 3_600_000,
                    "creds": {"AWS_KEY_ID": "none", "AWS_SECRET_KEY": "none", "AWS_TOKEN": "none"},
                    "parameters": CLIENT_PARAMETERS}
        return Answer.of_json(200, {
            "rowset_stage_location": location, "durable_stage_location": location,
            "encryption_info": {"pipe_key": base64.b64encode(bytes(32)).decode(), "pipe_key_id": 1, "diversifier": "0"}})

    def open(self, request, key):
        table = self.table_of(request, key[:3])
        body = json_body(request)
        discard = not field(body, "fail_on_uncommitted_rows", bool, False)
        offset = field(body, "offset_token", str)
        return Answer.of_json(200, self.channels.open(key, table, discard, offset))

    def drop(self, request, key):
        table = self.table_of(request, key[:3])
        discard = not field(json_body(request), "fail_on_uncommitted_rows", bool, False)
        return Answer.of_json(200, self.channels.drop(key, table, discard))

    def bulk_status(self, request, pipe_key):
        table = self.table_of(request, pipe_key)
        wanted = field(json_body(request), "channel_names", list, [])
        if not all(isinstance(name, str) for name in wanted):
            raise HttpError(400, "ERR_INVALID_REQUEST_BODY", "channel_names must be texts.")
        if len(wanted) > self.settings.channels_per_status:
            raise HttpError(400, "ERR_GET_CHANNEL_STATUS_BATCH_TOO_MANY_CHANNELS",
                            f"More than {self.settings.channels_per_status} channels.")
        return Answer.of_json(200, self.channels.statuses(pipe_key, table, wanted))

    def append(self, request, key):
        table = self.table_of(request, key[:3])
        if request.headers.get("content-type", "").split(";")[0] != "application/x-ndjson":
            raise HttpError(415, "ERR_UNSUPPORTED_MEDIA_TYPE", "Rows come as application/x-ndjson.")
        raw = unpack(request, self.settings.largest_body)
        query = request.query
        single = query.get("offsetToken")
        asked = {"continuation": query.get("continuationToken", ""), "request_id": query.get("requestId"),
                 "start": query.get("startOffsetToken", single) or None, "end": query.get("endOffsetToken", single) or None}
        if (asked["start"] is None) != (asked["end"] is None):
            raise HttpError(400, "ERR_INVALID_REQUEST_PARAMETERS", "startOffsetToken and endOffsetToken come together.")
        rejected = {number for rule in request.scripted for number in rule.get("reject_rows", [])}
        return Answer.of_json(200, self.channels.append(key, table, asked, raw, rejected))
