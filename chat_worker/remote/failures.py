"""Maps another server's errors and timeouts to errors for the client.

A client sees the other server's message only if it concerns its own request; all other messages may
contain keys, accounts and hosts, so they go to the log.
"""

import sys
from collections.abc import Mapping

import httpx
import msgspec
from msgspec import Struct

from common import errors
from common.error_texts import ErrorText
from common.errors import ServingError

MAX_MESSAGE = 300
MAX_RETRY_S = 3600.0
CONNECT_AGAIN_S = 5.0
# llama-server's error type for a prompt that is too long; its code is only the HTTP status.
TOO_LONG = "exceed_context_size_error"

_STATUSES: dict[int, tuple[type[ServingError], ErrorText]] = {
    401: (errors.BackendFailure, ErrorText("remote_refuses_key")),
    403: (errors.BackendFailure, ErrorText("remote_refuses_key")),
    404: (errors.ModelNotFound, ErrorText("remote_lacks_model")),
    408: (errors.DeadlineExceeded, ErrorText("remote_too_slow")),
    413: (errors.RequestTooLarge, ErrorText("remote_takes_less")),
    429: (errors.Overloaded, ErrorText("remote_full")),
    503: (errors.NotReady, ErrorText("remote_not_ready")),
    504: (errors.DeadlineExceeded, ErrorText("remote_too_slow")),
}
_PARAMS = {404: "model"}
_RETRY_S: dict[type[ServingError], float] = {
    errors.Overloaded: 1.0,
    errors.NotReady: CONNECT_AGAIN_S,
    errors.WorkerLost: 1.0,
}
# Errors of a stream that have the same meaning here; a refused key would look like the client's
# own.
_SAME_HERE = (errors.WorkerLost, errors.NotReady, errors.Overloaded, errors.DeadlineExceeded)


class UpstreamError(Struct):
    """The error object of OpenAI's API."""

    message: str = ""
    code: str | int | None = None
    param: str | None = None
    type: str | None = None


class _Envelope(Struct):
    error: UpstreamError | str | None = None
    message: str = ""


def refused(status: int, headers: Mapping[str, str], body: bytes) -> ServingError:
    """The error for a response with this HTTP status."""
    reported = _parsed_error(body)
    if status in (400, 422):
        return _invalid(reported)
    # Some servers repeat the key that they refuse.
    _log(f"answered {status}" if status in (401, 403) else f"answered {status}: {reported.message}")
    if 300 <= status < 400:
        return errors.BackendFailure(ErrorText("remote_redirects"))
    kind, message = _STATUSES.get(status, (errors.BackendFailure, ErrorText("remote_failed")))
    retry_s = _retry_s(headers) or _RETRY_S.get(kind)
    return kind(message, param=_PARAMS.get(status), retry_after_s=retry_s)


def failed_in_stream(reported: UpstreamError | str) -> ServingError:
    """The error for an error object in the middle of an answer."""
    reported = reported if isinstance(reported, UpstreamError) else UpstreamError(reported)
    if isinstance(reported.code, int):
        return refused(reported.code, {}, msgspec.json.encode({"error": reported}))
    _log(f"failed while it answered: {reported.message}")
    kind = errors.error_type(reported.code or "")
    if issubclass(kind, errors.InvalidRequest):
        return _invalid(reported)
    if kind not in _SAME_HERE:
        kind = errors.BackendFailure
    return kind(ErrorText("remote_failed_midway"), retry_after_s=_RETRY_S.get(kind))


def unreachable(error: httpx.TransportError) -> ServingError:
    """The error for a connection that failed, timed out or broke."""
    _log(f"{type(error).__name__}: {error}")
    match error:
        case httpx.ConnectError() | httpx.ConnectTimeout() | httpx.UnsupportedProtocol():
            return errors.NotReady(ErrorText("remote_unreachable"), retry_after_s=CONNECT_AGAIN_S)
        case httpx.TimeoutException():
            return errors.DeadlineExceeded(ErrorText("remote_silent"))
        case _:
            return errors.WorkerLost(ErrorText("remote_connection_broke"), retry_after_s=1)


def _invalid(reported: UpstreamError) -> ServingError:
    kind = (
        errors.error_type(reported.code)
        if isinstance(reported.code, str)
        else errors.InvalidRequest
    )
    if reported.type == TOO_LONG:
        kind = errors.ContextLengthExceeded
    if not issubclass(kind, errors.InvalidRequest):
        kind = errors.InvalidRequest
    why = _printable(reported.message) or "it does not state a reason"
    param = _printable(reported.param) if reported.param else None
    return kind(ErrorText("remote_refuses", detail=why), param=param)


def _parsed_error(body: bytes) -> UpstreamError:
    try:
        envelope = msgspec.json.decode(body, type=_Envelope)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return UpstreamError()
    if isinstance(envelope.error, UpstreamError):
        return envelope.error
    return UpstreamError(envelope.error or envelope.message)


def _retry_s(headers: Mapping[str, str]) -> float | None:
    try:
        wait_s = float(headers.get("retry-after", ""))
    except ValueError:  # it may also be a date
        return None
    return wait_s if 0 <= wait_s <= MAX_RETRY_S else None


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text[:MAX_MESSAGE])


def _log(what: str) -> None:
    sys.stderr.write(f"the remote server {_printable(what)}\n")
