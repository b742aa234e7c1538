"""The one tree of errors that a request can meet, from engine process to HTTP body.

    ServingError
    ├── InvalidRequest              INVALID_ARGUMENT     the request can never work as sent
    │   ├── ContextLengthExceeded   INVALID_ARGUMENT     too many tokens for the model
    │   ├── UnsupportedParameter    INVALID_ARGUMENT     unknown, or not offered here
    │   ├── RequestTooLarge         INVALID_ARGUMENT     more bytes than a request may have
    │   ├── UnsupportedEncoding     INVALID_ARGUMENT     a compressed body
    │   ├── ContentBlocked          INVALID_ARGUMENT     a rule of the guard refuses its text
    │   └── PreviousNotFound        INVALID_ARGUMENT     nothing is kept of what it goes on from
    ├── AuthenticationFailed        UNAUTHENTICATED      no key, or a wrong one
    ├── PermissionDenied            PERMISSION_DENIED    not from there, or not with this key
    ├── RateLimited                 RESOURCE_EXHAUSTED   this client sends too much
    │   └── QuotaExceeded           RESOURCE_EXHAUSTED   its key has used up its day or month
    ├── ModelNotFound               NOT_FOUND            no such model
    ├── BatchNotFound               NOT_FOUND            no such file or batch
    ├── KeyNotFound                 NOT_FOUND            no such key
    ├── ResponseNotFound            NOT_FOUND            no such response or conversation is kept
    ├── Overloaded                  RESOURCE_EXHAUSTED   the queue is full
    ├── ModelInUse                  ABORTED              requests use the model that is to go
    ├── DownloadFailed              UNAVAILABLE          a hub fails, or what it sent is wrong
    ├── DiskFull                    RESOURCE_EXHAUSTED   there is no room for a model
    ├── BackendLoadFailed           FAILED_PRECONDITION  the model could not be loaded
    ├── NotReady                    UNAVAILABLE          starting, draining, or no worker
    ├── WorkerLost                  UNAVAILABLE          the process died while it answered
    ├── DeadlineExceeded            DEADLINE_EXCEEDED    a time limit passed
    ├── Cancelled                   CANCELLED            the client left
    └── BackendFailure              INTERNAL             the backend broke; its text is not shown

An error's text is a message of the catalogue (`common/error_texts/`) with named fields. The error
is raised where its cause is known, crosses the pipe as `PipeError` and gRPC as `google.rpc.Status`
(`common/rpc_status.py`), and is rendered in one place (`gateway/errors.py`) in the client's
language.
"""

from collections.abc import Iterator
from typing import ClassVar


class ServingError(Exception):
    """A failure, with what the client can do about it.

    Args:
        message: an `ErrorText` of the catalogue, which can be translated; a plain `str` is a text
            from elsewhere. It never contains prompts, keys or error texts of native libraries.
        param: the request field at fault, as the client spelled it ("messages[0].role").
        retry_after_s: when the same request may succeed; None if waiting does not help.
        suggestions: what the user can do, the most promising first; like `message`, or a plain
            name.
        metadata: more facts for the response, such as {"needed_bytes": "…"}; short strings.
    """

    code: ClassVar[str] = "internal_error"
    grpc_status: ClassVar[str] = "INTERNAL"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: float | None = None,
        suggestions: tuple[str, ...] = (),
        metadata: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        self.suggestions = suggestions
        self.metadata = metadata or {}


class InvalidRequest(ServingError):
    code = "invalid_request"
    grpc_status = "INVALID_ARGUMENT"


class ContextLengthExceeded(InvalidRequest):
    code = "context_length_exceeded"


class UnsupportedParameter(InvalidRequest):
    code = "unsupported_parameter"


class RequestTooLarge(InvalidRequest):
    code = "request_too_large"


class UnsupportedEncoding(InvalidRequest):
    code = "unsupported_encoding"


class ContentBlocked(InvalidRequest):
    code = "content_filter"


class PreviousNotFound(InvalidRequest):
    code = "previous_response_not_found"


class AuthenticationFailed(ServingError):
    code = "invalid_api_key"
    grpc_status = "UNAUTHENTICATED"


class PermissionDenied(ServingError):
    code = "permission_denied"
    grpc_status = "PERMISSION_DENIED"


class RateLimited(ServingError):
    code = "rate_limit_exceeded"
    grpc_status = "RESOURCE_EXHAUSTED"


class QuotaExceeded(RateLimited):
    code = "insufficient_quota"


class ModelNotFound(ServingError):
    code = "model_not_found"
    grpc_status = "NOT_FOUND"


class KeyNotFound(ServingError):
    code = "key_not_found"
    grpc_status = "NOT_FOUND"


class BatchNotFound(ServingError):
    code = "batch_not_found"
    grpc_status = "NOT_FOUND"


class ResponseNotFound(ServingError):
    code = "response_not_found"
    grpc_status = "NOT_FOUND"


class Overloaded(ServingError):
    code = "overloaded"
    grpc_status = "RESOURCE_EXHAUSTED"


class ModelInUse(ServingError):
    code = "model_in_use"
    grpc_status = "ABORTED"


class DownloadFailed(ServingError):
    code = "download_failed"
    grpc_status = "UNAVAILABLE"


class DiskFull(ServingError):
    code = "disk_full"
    grpc_status = "RESOURCE_EXHAUSTED"


class BackendLoadFailed(ServingError):
    """The model could not be loaded; `metadata["backend"]` names the backend."""

    code = "BACKEND_LOAD_FAILED"
    grpc_status = "FAILED_PRECONDITION"


class NotReady(ServingError):
    code = "not_ready"
    grpc_status = "UNAVAILABLE"


class WorkerLost(ServingError):
    """The process that answered died: a model's engine process, or a whole worker.

    The code is older than the split into processes; clients know it.
    """

    code = "worker_lost"
    grpc_status = "UNAVAILABLE"


class DeadlineExceeded(ServingError):
    code = "timeout"
    grpc_status = "DEADLINE_EXCEEDED"


class Cancelled(ServingError):
    code = "cancelled"
    grpc_status = "CANCELLED"


class BackendFailure(ServingError):
    code = "backend_failure"
    grpc_status = "INTERNAL"


def error_types() -> Iterator[type[ServingError]]:
    """All concrete error classes below `ServingError`, parents first."""
    pending = list(ServingError.__subclasses__())
    while pending:
        error_type = pending.pop(0)
        yield error_type
        pending.extend(error_type.__subclasses__())


def error_type(code: str) -> type[ServingError]:
    """The class with this `code`; `BackendFailure` for an unknown code."""
    return next((t for t in error_types() if t.code == code), BackendFailure)
