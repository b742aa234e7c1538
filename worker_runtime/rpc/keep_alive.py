"""How long a request wants its model to stay loaded."""

import math
from typing import Literal, Protocol

from common.error_texts import ErrorText
from common.errors import InvalidRequest


class KeepAliveRequest(Protocol):
    """A message of the contract that has the optional field `keep_alive_s`."""

    @property
    def keep_alive_s(self) -> float: ...

    def HasField(self, field_name: Literal["keep_alive_s"]) -> bool: ...  # noqa: N802 - protobuf's


def keep_alive_of(request: KeepAliveRequest) -> float | None:
    """Seconds after the request; negative: until unloaded by hand; None: the request has none.

    Raises:
        InvalidRequest: they are no number, which would compare with no other time.
    """
    if not request.HasField("keep_alive_s"):
        return None
    if math.isnan(request.keep_alive_s):
        raise InvalidRequest(ErrorText("keep_alive_no_number"), param="keep_alive_s")
    return request.keep_alive_s
