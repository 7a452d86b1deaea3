"""Requests and answers, apart from how they travel."""

import json
import urllib.parse


class Request:
    def __init__(self, method, target, headers, body, peer):
        self.method = method
        self.raw_path, _, query = target.partition("?")
        self.path = urllib.parse.unquote(self.raw_path)
        self.query = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        self.headers = headers
        self.body = body
        self.peer = peer
        self.scripted = []     # actions of fault rules that the handler itself must look at

    @property
    def host_name(self):
        """The host that was asked, without the port."""
        host = self.headers.get("host", "")
        return host.rsplit(":", 1)[0] if not host.endswith("]") and ":" in host else host


class Answer:
    def __init__(self, status, body=b"", headers=None):
        self.status = status
        self.body = body
        self.headers = headers or {}

    @staticmethod
    def of_json(status, value, headers=None):
        return Answer(status, json.dumps(value, ensure_ascii=False).encode(),
                      {"Content-Type": "application/json", **(headers or {})})

    @staticmethod
    def of_error(error, shape="code"):
        """Every shape in which the service is known to say what went wrong."""
        headers = dict(error.headers)
        if shape == "code":
            return Answer.of_json(error.status, {"code": error.code, "message": error.message}, headers)
        if shape == "error_code":
            return Answer.of_json(error.status, {"error_code": error.code, "message": error.message}, headers)
        if shape == "status_code":
            number = int(error.code) if str(error.code).isdigit() else 4
            return Answer.of_json(error.status, {"status_code": number, "message": error.message}, headers)
        if shape == "string":
            return Answer.of_json(error.status, str(error.code), headers)
        if shape == "text":
            return Answer(error.status, error.message.encode(), {"Content-Type": "text/plain", **headers})
        if shape == "html":
            page = f"<html><head><title>{error.status}</title></head><body>{error.message}</body></html>"
            return Answer(error.status, page.encode(), {"Content-Type": "text/html", **headers})
        if shape == "empty":
            return Answer(error.status, b"", headers)
        raise ValueError(f"no such shape: {shape}")
