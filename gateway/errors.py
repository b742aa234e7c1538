"""Errors as HTTP: the one place that knows their statuses and the format of the envelope."""

import math
from collections.abc import Sequence
from typing import Any

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from common import errors
from common.error_texts import ErrorText
from common.errors import ServingError
from gateway.localize import ENGLISH, Language
from gateway.middleware.language import language_of
from gateway.middleware.request_context import context_of

MAX_ECHO = 200
# SDKs do not wait longer than this: they would retry at once, and fail again.
LONGEST_RETRY_S = 120

# The nearest class in the inheritance order counts.
_STATUS_AND_TYPE: dict[type[ServingError], tuple[int, str]] = {
    errors.RequestTooLarge: (413, "invalid_request_error"),
    errors.UnsupportedEncoding: (415, "invalid_request_error"),
    errors.InvalidRequest: (400, "invalid_request_error"),
    errors.AuthenticationFailed: (401, "authentication_error"),
    errors.PermissionDenied: (403, "permission_error"),
    errors.QuotaExceeded: (429, "insufficient_quota"),
    errors.RateLimited: (429, "rate_limit_error"),
    errors.ModelNotFound: (404, "not_found_error"),
    errors.BatchNotFound: (404, "not_found_error"),
    errors.KeyNotFound: (404, "not_found_error"),
    errors.ResponseNotFound: (404, "not_found_error"),
    errors.Overloaded: (429, "overloaded_error"),
    errors.ModelInUse: (409, "invalid_request_error"),
    errors.DownloadFailed: (502, "server_error"),
    errors.DiskFull: (507, "resource"),
    errors.BackendLoadFailed: (503, "resource"),
    errors.NotReady: (503, "server_error"),
    errors.WorkerLost: (503, "server_error"),
    errors.DeadlineExceeded: (504, "timeout_error"),
    errors.Cancelled: (499, "server_error"),
    errors.BackendFailure: (500, "server_error"),
    ServingError: (500, "server_error"),
}
_ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def status_and_type(error: ServingError) -> tuple[int, str]:
    """The HTTP status, and OpenAI's `type` of the error."""
    return _status_and_type(type(error))


def status_on(path: str, kind: type[ServingError]) -> int:
    """The status of an error of that kind on `path`."""
    if issubclass(kind, errors.Overloaded) and is_anthropic(path):
        return 529
    if issubclass(kind, errors.Overloaded) and is_ollama(path):
        return 503
    return _status_and_type(kind)[0]


def _status_and_type(kind: type[ServingError]) -> tuple[int, str]:
    return next(_STATUS_AND_TYPE[t] for t in kind.__mro__ if t in _STATUS_AND_TYPE)


def envelope(error: ServingError, request_id: str, language: Language = ENGLISH) -> dict[str, Any]:
    """The body of an error: OpenAI's four fields, the request's id, and suggestions."""
    body: dict[str, Any] = {
        "message": printable(language.message(error)),
        "type": status_and_type(error)[1],
        "param": printable(error.param) if error.param is not None else None,
        "code": error.code,
        "request_id": request_id,
    }
    if error.suggestions:
        body["suggestions"] = [printable(language.text(text)) for text in error.suggestions]
    body |= {k: _shown(k, v) for k, v in error.metadata.items() if k not in body}
    return {"error": body}


def _shown(name: str, value: str) -> str | int:
    """A field of an error: on the way here all are texts, but counts of tokens are numbers."""
    return int(value) if name.endswith("tokens") and value.isdecimal() else printable(value)


def error_body(error: ServingError, scope: Scope) -> dict[str, Any]:
    """The envelope, in the format of the API to which the path belongs."""
    body = envelope(error, context_of(scope).request_id, language_of(scope))
    return _in_form(body, _status(error, scope), scope)


def speaks_anthropic(scope: Scope) -> bool:
    """Whether the path belongs to Anthropic's API, with error bodies and statuses of its own."""
    return is_anthropic(scope["path"])


def is_anthropic(path: str) -> bool:
    return f"{path}/".startswith("/v1/messages/")


def is_ollama(path: str) -> bool:
    """Whether the path belongs to Ollama's API, where an error is one text."""
    return f"{path}/".startswith("/api/")


def id_headers(scope: Scope) -> list[tuple[bytes, bytes]]:
    """The request's id, under the header names of the API to which the path belongs."""
    request_id = context_of(scope).request_id.encode("ascii")
    names = (b"x-request-id", b"request-id") if speaks_anthropic(scope) else (b"x-request-id",)
    return [(name, request_id) for name in names]


def error_response(error: ServingError, scope: Scope) -> Response:
    status = _status(error, scope)
    headers = _language_headers(scope)
    wait_s = math.inf if error.retry_after_s is None else error.retry_after_s
    if math.isfinite(wait_s):
        headers["retry-after"] = str(max(1, math.ceil(wait_s)))
        # OpenAI's SDKs wait by this one, if it is there.
        headers["retry-after-ms"] = str(max(1, math.ceil(wait_s * 1000)))
    if wait_s > LONGEST_RETRY_S and (status == 429 or status >= 500):
        headers["x-should-retry"] = "false"
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    if status == 415:
        headers["accept-encoding"] = "identity"
    return json_response(error_body(error, scope), status, headers)


async def refuse(error: ServingError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request with an error, which its log line and the metrics then have."""
    context_of(scope).note_error(error)
    await error_response(error, scope)(scope, receive, send)


def plain_error_response(
    status: int,
    code: str,
    text: ErrorText,
    scope: Scope,
    headers: dict[str, str] | None = None,
    suggestions: Sequence[ErrorText] = (),
) -> Response:
    """An error of HTTP itself (404 of a path, 405), in the same format."""
    body: dict[str, Any] = {
        "message": language_of(scope).text(text),
        "type": "invalid_request_error",
        "param": None,
        "code": code,
        "request_id": context_of(scope).request_id,
    }
    if suggestions:
        body["suggestions"] = [language_of(scope).text(text) for text in suggestions]
    more = (headers or {}) | _language_headers(scope)
    return json_response(_in_form({"error": body}, status, scope), status, more)


def json_response(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(body), status, headers, media_type="application/json")


def _language_headers(scope: Scope) -> dict[str, str]:
    return {"content-language": language_of(scope).tag, "vary": "Accept-Language"}


def _status(error: ServingError, scope: Scope) -> int:
    return status_on(scope["path"], type(error))


def _in_form(body: dict[str, Any], status: int, scope: Scope) -> dict[str, Any]:
    """Our envelope, in the form of Anthropic or Ollama on their paths: its other fields stay."""
    if is_ollama(scope["path"]):
        inside = dict(body["error"])
        return {"error": inside.pop("message")} | inside
    if not speaks_anthropic(scope):
        return body
    error = dict(body["error"])
    request_id = error.pop("request_id")
    other = "api_error" if status >= 500 else "invalid_request_error"
    error["type"] = _ANTHROPIC_TYPES.get(status, other)
    if code := error.pop("error_code", None):
        # Anthropic's SDKs use this.
        error["details"] = {"error_code": code}
    return {"type": "error", "error": error, "request_id": request_id}


def printable(text: str) -> str:
    """`text` as any JSON encoder accepts it: surrogates replaced, length limited."""
    safe = text.encode("utf-8", "replace").decode("utf-8")
    return safe if len(safe) <= 10 * MAX_ECHO else safe[: 10 * MAX_ECHO] + "…"


def shorten(text: str, n: int = 64) -> str:
    """Text of a client, short enough to be part of a reply."""
    return printable(text if len(text) <= n else text[:n] + "…")
