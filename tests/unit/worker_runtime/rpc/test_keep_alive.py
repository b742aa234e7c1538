"""How long a request may keep its model loaded."""

import math

import pytest

from common.errors import InvalidRequest
from protos.y26hkx.v1 import chat_pb2, embed_pb2
from worker_runtime.rpc.keep_alive import keep_alive_of


@pytest.mark.parametrize("request_type", [chat_pb2.GenerateRequest, embed_pb2.EmbedRequest])
def test_a_time_that_is_no_number_is_refused_whatever_the_call(request_type: type) -> None:
    assert keep_alive_of(request_type()) is None
    assert keep_alive_of(request_type(keep_alive_s=-1)) == -1
    assert keep_alive_of(request_type(keep_alive_s=math.inf)) == math.inf
    with pytest.raises(InvalidRequest, match="not a number"):
        keep_alive_of(request_type(keep_alive_s=math.nan))
