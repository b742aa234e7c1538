"""`ServingError` to and from `google.rpc.Status`, the form in which gRPC carries rich errors.

Pure protobuf, no grpc import: a worker attaches the bytes as the trailing metadata
`grpc-status-details-bin`, a gateway reads them from there.
"""

import math

from google.protobuf.duration_pb2 import Duration
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, Help, RetryInfo
from google.rpc.status_pb2 import Status

from common.errors import ServingError, error_type

DETAILS_KEY = "grpc-status-details-bin"
DOMAIN = "y26hkx"


def to_status(error: ServingError) -> Status:
    """The status that says all of `error`: ErrorInfo, and where set RetryInfo, BadRequest, Help."""
    status = Status(code=Code.Value(error.grpc_status), message=error.message)
    info = ErrorInfo(reason=error.code, domain=DOMAIN, metadata=error.metadata)
    status.details.add().Pack(info)
    if error.param is not None:
        violation = BadRequest.FieldViolation(field=error.param, description=error.message)
        status.details.add().Pack(BadRequest(field_violations=[violation]))
    if error.retry_after_s is not None:
        delay = Duration()
        delay.FromNanoseconds(math.ceil(error.retry_after_s * 1e9))
        status.details.add().Pack(RetryInfo(retry_delay=delay))
    if error.suggestions:
        links = [Help.Link(description=text) for text in error.suggestions]
        status.details.add().Pack(Help(links=links))
    return status


def from_status(status: Status) -> ServingError | None:
    """The error that `to_status` wrote into `status`; None if it carries no ErrorInfo of ours."""
    found: dict[type, ErrorInfo | BadRequest | RetryInfo | Help] = {}
    for detail in status.details:
        for kind in (ErrorInfo, BadRequest, RetryInfo, Help):
            message = kind()
            if detail.Is(message.DESCRIPTOR):
                detail.Unpack(message)
                found[kind] = message
    info = found.get(ErrorInfo)
    if not isinstance(info, ErrorInfo) or info.domain != DOMAIN:
        return None
    bad, retry, suggestions = found.get(BadRequest), found.get(RetryInfo), found.get(Help)
    return error_type(info.reason)(
        status.message,
        param=bad.field_violations[0].field if isinstance(bad, BadRequest) else None,
        retry_after_s=(
            retry.retry_delay.ToNanoseconds() / 1e9 if isinstance(retry, RetryInfo) else None
        ),
        suggestions=(
            tuple(link.description for link in suggestions.links)
            if isinstance(suggestions, Help)
            else ()
        ),
        metadata=dict(info.metadata),
    )
