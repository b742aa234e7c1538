"""The workers that the settings name: "host:port", or "host:port@5%" for one with a share."""

from collections.abc import Sequence
from typing import NamedTuple

WHOLE = 100.0


class Target(NamedTuple):
    """Args:
    name: "host:port".
    percent: of the calls that it gets; None: the rest, together with the others without one.
    """

    name: str
    percent: float | None


def parse_targets(texts: Sequence[str]) -> list[Target]:
    """
    Raises:
        ValueError: a share is none, or all shares together are not the whole.
    """
    targets = [_parse(text) for text in texts]
    shares = [target.percent for target in targets if target.percent is not None]
    has_rest = len(shares) < len(targets)
    if sum(shares) > WHOLE or (shares and not has_rest and sum(shares) < WHOLE):
        raise ValueError(f"the shares of all workers are {sum(shares):g}% and not {WHOLE:g}%")
    return targets


def _parse(text: str) -> Target:
    name, mark, share = text.partition("@")
    if not mark:
        return Target(name, None)
    digits = share.removesuffix("%")
    if digits == share or not digits.replace(".", "", 1).isdecimal() or float(digits) > WHOLE:
        raise ValueError(f"{text}: a share is a part such as @5%")
    return Target(name, float(digits))


def host_of(target: str) -> str:
    """The name or address in "host:port"."""
    return target.rpartition(":")[0].strip("[]")
