"""Translates failures of workers into errors for clients; text of libraries is not passed on."""

import logging
from typing import Any

import grpc
from google.rpc.status_pb2 import Status

from common import errors
from common.error_texts import ErrorText
from common.errors import ServingError
from common.rpc_status import DETAILS_KEY, from_status

log = logging.getLogger(__name__)


def serving_error(error: grpc.aio.AioRpcError) -> ServingError:
    """The error of an RPC that failed."""
    return error_of(error.code(), error.trailing_metadata())


def error_of(code: grpc.StatusCode, metadata: Any) -> ServingError:
    """The error of an RPC that ended with `code` and the trailing `metadata`."""
    for key, value in metadata or ():
        if key == DETAILS_KEY and (error := error_in_status(value)) is not None:
            return error
    match code:
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return too_slow()
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return errors.Overloaded(ErrorText("worker_overloaded"), retry_after_s=1)
        case (
            grpc.StatusCode.UNAVAILABLE
            | grpc.StatusCode.CANCELLED
            # So gRPC calls a stream that a server which ends has reset, sometimes; what fails in
            # a worker has our own details.
            | grpc.StatusCode.INTERNAL
        ):
            return errors.WorkerLost(ErrorText("worker_lost"), retry_after_s=2)
        case grpc.StatusCode.UNIMPLEMENTED:
            return errors.UnsupportedParameter(ErrorText("worker_lacks_method"))
    return errors.BackendFailure(ErrorText("worker_failed"))


def too_slow() -> errors.DeadlineExceeded:
    """The error of a request for which there was no more time."""
    suggestions = (ErrorText("raise_time_limits"),)
    return errors.DeadlineExceeded(ErrorText("request_too_slow"), suggestions=suggestions)


def error_in_status(status: bytes) -> ServingError | None:
    """The error in a serialized `google.rpc.Status` of a worker; None: it is not one of ours."""
    found = from_status(Status.FromString(status))
    if isinstance(found, errors.AuthenticationFailed):
        # A worker that refuses the gateway's token says nothing about the client's key.
        log.error("a worker refuses the gateway's token: WORKER_TOKEN differs between them")
        return errors.BackendFailure(ErrorText("worker_failed"))
    return found
