"""`ServingError` to and from `google.rpc.Status`, gRPC's form of detailed errors.

This is pure protobuf, without grpc: a worker attaches the bytes as the trailing metadata
`grpc-status-details-bin`, and a gateway reads them there. An error's text is in it twice: in
English for clients that know only google.rpc, and as ids and fields of the catalogue.
"""

import math

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, Help, RetryInfo
from google.rpc.status_pb2 import Status

from common.error_texts import ErrorText, known_text
from common.errors import ServingError, error_type
from protos.y26hkx.v1 import common_pb2

DETAILS_KEY = "grpc-status-details-bin"
DOMAIN = "y26hkx"


def to_status(error: ServingError) -> Status:
    """The status with all of `error`: ErrorInfo and, where set, RetryInfo, BadRequest, Help and
    ErrorTexts."""
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
    if any(isinstance(text, ErrorText) for text in (error.message, *error.suggestions)):
        texts = common_pb2.ErrorTexts(
            message=_to_text(error.message), suggestions=map(_to_text, error.suggestions)
        )
        status.details.add().Pack(texts)
    return status


def from_status(status: Status) -> ServingError | None:
    """The error that `to_status` wrote into `status`; None if it has no ErrorInfo of ours."""
    found: dict[type, Message] = {}
    for detail in status.details:
        for kind in (ErrorInfo, BadRequest, RetryInfo, Help, common_pb2.ErrorTexts):
            message = kind()
            if detail.Is(message.DESCRIPTOR):
                detail.Unpack(message)
                found[kind] = message
    info = found.get(ErrorInfo)
    if not isinstance(info, ErrorInfo) or info.domain != DOMAIN:
        return None
    bad, retry, help_ = found.get(BadRequest), found.get(RetryInfo), found.get(Help)
    links = help_.links if isinstance(help_, Help) else ()
    message, *suggestions = _from_texts(
        found.get(common_pb2.ErrorTexts), [status.message, *(link.description for link in links)]
    )
    return error_type(info.reason)(
        message,
        param=bad.field_violations[0].field if isinstance(bad, BadRequest) else None,
        retry_after_s=(
            retry.retry_delay.ToNanoseconds() / 1e9 if isinstance(retry, RetryInfo) else None
        ),
        suggestions=tuple(suggestions),
        metadata=dict(info.metadata),
    )


def _to_text(text: str) -> common_pb2.ErrorText:
    if not isinstance(text, ErrorText):
        return common_pb2.ErrorText(words=text)
    fields = {name: _to_text(value) for name, value in text.fields.items()}
    return common_pb2.ErrorText(id=text.id, fields=fields)


def _from_texts(texts: Message | None, english: list[str]) -> list[str]:
    """The texts for this English; the English itself where they are not from this catalogue."""
    if not isinstance(texts, common_pb2.ErrorTexts) or len(texts.suggestions) != len(english) - 1:
        return english
    sent = (texts.message, *texts.suggestions)
    return [_from_text(text) or plain for text, plain in zip(sent, english, strict=True)]


def _from_text(text: common_pb2.ErrorText) -> str | None:
    """The text; None if it is from another catalogue."""
    if not text.id:
        return text.words
    fields = {name: _from_text(value) for name, value in text.fields.items()}
    return None if None in fields.values() else known_text(text.id, fields)
