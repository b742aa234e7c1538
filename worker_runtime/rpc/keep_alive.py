"""How long a request wants its model to stay loaded."""

from typing import Literal, Protocol


class KeepAliveRequest(Protocol):
    """A message of the contract that has the optional field `keep_alive_s`."""

    @property
    def keep_alive_s(self) -> float: ...

    def HasField(self, field_name: Literal["keep_alive_s"]) -> bool: ...  # noqa: N802 - protobuf's


def keep_alive_of(request: KeepAliveRequest) -> float | None:
    """Seconds after the request; negative: until unloaded by hand; None: the request has none."""
    return request.keep_alive_s if request.HasField("keep_alive_s") else None
