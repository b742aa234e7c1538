"""What a call to a worker failed with, told for clients."""

import grpc
import pytest

from common.error_texts import ErrorText
from common.errors import BackendFailure, ServingError, WorkerLost
from common.rpc_status import DETAILS_KEY, to_status
from gateway.pool.call_errors import error_of

FAILURE = BackendFailure(ErrorText("worker_failed"))
DETAILS = ((DETAILS_KEY, to_status(FAILURE).SerializeToString()),)


@pytest.mark.parametrize(
    ("code", "metadata", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, None, WorkerLost),
        (grpc.StatusCode.CANCELLED, (), WorkerLost),
        # A worker that ended reset the stream: other workers are asked.
        (grpc.StatusCode.INTERNAL, (), WorkerLost),
        (grpc.StatusCode.INTERNAL, DETAILS, BackendFailure),
        (grpc.StatusCode.UNKNOWN, (), BackendFailure),
    ],
)
def test_a_worker_that_is_gone_is_told_from_one_that_failed(
    code: grpc.StatusCode, metadata: object, kind: type[ServingError]
) -> None:
    assert type(error_of(code, metadata)) is kind
