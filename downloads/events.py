"""What a download reports, each as one line of JSON."""

import msgspec

from downloads.plan import Plan


class Resolving(msgspec.Struct, frozen=True, tag_field="status", tag="resolving"):
    """The hub is asked what there is."""


class Planned(msgspec.Struct, frozen=True, tag_field="status", tag="planned"):
    plan: Plan


class Downloading(msgspec.Struct, frozen=True, tag_field="status", tag="downloading"):
    """
    Args:
        completed_bytes: those of earlier downloads included.
        bytes_per_s: of late.
    """

    model: str
    completed_bytes: int
    total_bytes: int
    bytes_per_s: int


class Verifying(msgspec.Struct, frozen=True, tag_field="status", tag="verifying"):
    model: str
    completed_bytes: int
    total_bytes: int


class Done(msgspec.Struct, frozen=True, tag_field="status", tag="done"):
    """
    Args:
        was_there: nothing had to be downloaded.
        is_default: it is now the model for requests that name none.
    """

    model: str
    target: str
    size_bytes: int
    seconds: float
    was_there: bool
    is_default: bool


Event = Resolving | Planned | Downloading | Verifying | Done
