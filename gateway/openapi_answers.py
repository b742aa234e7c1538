"""Describes the errors that each route may answer with: each status, its form and its causes.

An error has the status that `gateway/errors.py` gives it. Which errors a route can meet follows
from its path, its method and its input.
"""

from collections.abc import Iterator
from typing import Any

from common import errors
from common.errors import ServingError, error_types
from gateway.errors import is_anthropic, is_ollama, status_on
from gateway.middleware.request_context import API_PATHS

MODELS = ("/v1/models/", "/api/delete")
ERROR, ANTHROPIC_ERROR, OLLAMA_ERROR = "Error", "AnthropicError", "OllamaError"
# Of one event and of one line, as OpenAPI 3.2 and FastAPI describe streams.
_EVENT = {
    "type": "object",
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
    "required": ["data"],
}
STREAM = {"text/event-stream": {"itemSchema": _EVENT}}
LINES = {"application/x-ndjson": {"itemSchema": {"type": "object"}}}

# Errors that any route can meet: wrong headers, keys, hosts or web pages, and bugs.
_OF_ALL = {
    errors.InvalidRequest,
    errors.RequestTooLarge,
    errors.UnsupportedEncoding,
    errors.AuthenticationFailed,
    errors.PermissionDenied,
    errors.BackendFailure,
}
_OF_THE_API = {errors.RateLimited, errors.QuotaExceeded, errors.NotReady}
_OF_WORKERS = set(error_types()) - {errors.ModelNotFound}
# Errors before a route is known: too many connections, or a request that does not arrive.
_OF_CONNECTIONS = ((503, errors.Overloaded.code), (408, "request_timeout"))

_TEXT = {"type": "string"}
_FIELDS: dict[str, Any] = {
    "type": _TEXT | {"description": "The kind of error, as the API names it."},
    "message": _TEXT | {"description": "For people, in the language that Content-Language says."},
    "param": {"type": ["string", "null"], "description": "The field at fault."},
    "code": {"type": ["string", "null"], "description": "For programs, in no language."},
    "suggestions": {"type": "array", "items": _TEXT, "description": "What may help."},
}


def error_schemas() -> dict[str, Any]:
    """Return the schemas of error bodies, by the names that the answers refer to."""
    ours = _FIELDS | {"request_id": _TEXT}
    return {
        ERROR: _object({"error": _object(ours, [*_FIELDS][:4])}, ["error"]),
        ANTHROPIC_ERROR: _object(
            {
                "type": {"const": "error"},
                "error": _object(_FIELDS, ["type", "message"]),
                "request_id": _TEXT,
            },
            ["type", "error", "request_id"],
        ),
        OLLAMA_ERROR: _object(
            {name: schema for name, schema in ours.items() if name != "message"}
            | {"error": _FIELDS["message"]},
            ["error"],
        ),
    }


def error_answers(path: str, method: str, operation: dict[str, Any]) -> dict[str, Any]:
    """Return the error answers of an operation, by status."""
    codes: dict[int, set[str]] = {}
    for status, code in _found(path, method, operation):
        codes.setdefault(status, set()).add(code)
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{_schema_of(path)}"}}}
    return {
        str(status): {
            "description": ", ".join(sorted(found)),
            "headers": _headers(status),
            "content": content,
        }
        for status, found in sorted(codes.items())
    }


def _schema_of(path: str) -> str:
    if is_anthropic(path):
        return ANTHROPIC_ERROR
    return OLLAMA_ERROR if is_ollama(path) else ERROR


def _found(path: str, method: str, operation: dict[str, Any]) -> Iterator[tuple[int, str]]:
    kinds: set[type[ServingError]] = set(_OF_ALL)
    if path.startswith(API_PATHS):
        kinds |= _OF_THE_API
    # To delete a model, workers unload it first.
    if method == "post" or (method == "delete" and path.startswith(MODELS)):
        kinds |= _OF_WORKERS
    if "requestBody" in operation or "parameters" in operation:
        kinds |= {errors.ModelNotFound, errors.KeyNotFound, errors.BatchNotFound}
    yield from ((status_on(path, kind), kind.code) for kind in kinds)
    yield from _OF_CONNECTIONS


def _headers(status: int) -> dict[str, Any]:
    names = ["x-request-id"]
    if status in (429, 503, 529):
        names += ["retry-after", "retry-after-ms"]
    if status == 401:
        names.append("www-authenticate")
    if status == 415:
        names.append("accept-encoding")
    return {name: {"schema": _TEXT} for name in names}


def _object(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required}
