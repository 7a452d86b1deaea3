"""Checks requests to, and answers of, the SQL API: against the rules beside this file and, if it is at hand, against
Snowflake's own OpenAPI document."""

import json
import pathlib

import jsonschema
import yaml

STATUS_SCHEMAS = {200: "ResultSet", 202: "QueryStatus", 408: "QueryStatus", 422: "QueryFailureStatus"}


def to_json_schema(node):
    """OpenAPI 3.0's dialect of JSON Schema into JSON Schema."""
    if isinstance(node, list):
        return [to_json_schema(one) for one in node]
    if not isinstance(node, dict):
        return node
    made = {key: to_json_schema(value) for key, value in node.items() if key not in ("nullable", "example")}
    # `nullable` is a keyword beside a type, but also the name of a field.
    if node.get("nullable") is True and isinstance(node.get("type"), str):
        made["type"] = [node["type"], "null"]
    elif "nullable" in node and isinstance(node["nullable"], dict):
        made["nullable"] = to_json_schema(node["nullable"])
    if node.get("type") == "string":
        made.pop("minItems", None)
    return made


class Schemas:
    def __init__(self, openapi=None):
        own = json.loads(pathlib.Path(__file__).with_name("sql_api_schema.json").read_text())
        self.validators = {name: [self.validator(schema)] for name, schema in own.items()}
        if openapi is not None:
            document = yaml.safe_load(pathlib.Path(openapi).read_text())
            for name, schema in document["components"]["schemas"].items():
                self.validators[name].append(self.validator(to_json_schema(schema)))
            post = document["paths"]["/api/v2/statements"]["post"]
            body = post["requestBody"]["content"]["application/json"]["schema"]
            self.validators["request"].append(self.validator(to_json_schema(body)))

    @staticmethod
    def validator(schema):
        return jsonschema.Draft7Validator(schema, format_checker=jsonschema.FormatChecker())

    def problem(self, name, value):
        """None, or the first thing that is wrong."""
        for validator in self.validators[name]:
            for error in validator.iter_errors(value):
                where = "/".join(map(str, error.absolute_path)) or "top level"
                return f"{where}: {error.message}"
        return None

    def check_answer(self, status, body, cancel=False):
        name = "CancelStatus" if cancel else STATUS_SCHEMAS.get(status)
        problem = self.problem(name, body) if name else None
        if problem:
            raise AssertionError(f"the emulator's own answer is wrong ({name}): {problem}")
