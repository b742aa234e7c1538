"""Errors as HTTP: the one place that knows statuses and the shape of the envelope."""

import math
from typing import Any

import orjson
from starlette.responses import Response

from protos import errors
from protos.errors import ServingError

MAX_ECHO = 200
# SDKs do not wait longer than this: they would try again at once, in vain.
LONGEST_RETRY_S = 120

# Nearest class on the way up wins.
_STATUS_AND_TYPE: dict[type[ServingError], tuple[int, str]] = {
    errors.RequestTooLarge: (413, "invalid_request_error"),
    errors.InvalidRequest: (400, "invalid_request_error"),
    errors.AuthenticationFailed: (401, "authentication_error"),
    errors.RateLimited: (429, "rate_limit_error"),
    errors.ModelNotFound: (404, "not_found_error"),
    errors.Overloaded: (429, "overloaded_error"),
    errors.BackendLoadFailed: (503, "resource"),
    errors.NotReady: (503, "server_error"),
    errors.WorkerLost: (503, "server_error"),
    errors.DeadlineExceeded: (504, "timeout_error"),
    errors.Cancelled: (499, "server_error"),
    errors.BackendFailure: (500, "server_error"),
    ServingError: (500, "server_error"),
}


def status_and_type(error: ServingError) -> tuple[int, str]:
    return next(_STATUS_AND_TYPE[t] for t in type(error).__mro__ if t in _STATUS_AND_TYPE)


def envelope(error: ServingError, request_id: str) -> dict[str, Any]:
    """The body of an error: OpenAI's four fields, the request's id, and the ways out."""
    body: dict[str, Any] = {
        "message": printable(error.message),
        "type": status_and_type(error)[1],
        "param": printable(error.param) if error.param is not None else None,
        "code": error.code,
        "request_id": request_id,
    }
    if error.suggestions:
        body["suggestions"] = [printable(text) for text in error.suggestions]
    body |= {k: printable(v) for k, v in error.metadata.items() if k not in body}
    return {"error": body}


def error_response(error: ServingError, request_id: str) -> Response:
    status, _ = status_and_type(error)
    headers = {}
    wait_s = math.inf if error.retry_after_s is None else error.retry_after_s
    if math.isfinite(wait_s):
        headers["retry-after"] = str(max(1, math.ceil(wait_s)))
    if wait_s > LONGEST_RETRY_S and (status == 429 or status >= 500):
        headers["x-should-retry"] = "false"
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    return json_response(envelope(error, request_id), status, headers)


def plain_error_response(
    status: int, code: str, message: str, request_id: str, headers: dict[str, str] | None = None
) -> Response:
    """An error of HTTP itself (404 of a path, 405), in the same shape."""
    body = {
        "message": message,
        "type": "invalid_request_error",
        "param": None,
        "code": code,
        "request_id": request_id,
    }
    return json_response({"error": body}, status, headers)


def json_response(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(body), status, headers, media_type="application/json")


def printable(text: str) -> str:
    """`text` as something that any JSON encoder takes: surrogates replaced, length capped."""
    safe = text.encode("utf-8", "replace").decode("utf-8")
    return safe if len(safe) <= 10 * MAX_ECHO else safe[: 10 * MAX_ECHO] + "…"


def shorten(text: str, n: int = 64) -> str:
    """What a client sent, short enough to be echoed."""
    return printable(text if len(text) <= n else text[:n] + "…")
