"""Knows which environment variables are secrets, so that a process gets only those that it needs.

A process that runs native code, or uses the files of a model, must have no secret to reveal. The
module uses only the standard library, because all programs share it.
"""

import re
from collections.abc import Mapping, Set

_SECRET = re.compile(
    # RATE_LIMIT_STORAGE is an address that may hold a password. Names of secret files count, too.
    r"(TOKEN|SECRET|PASSWORD|API_?KEYS?|RATE_LIMIT_STORAGE|OTLP_HEADERS)(_FILE)?$",
    re.IGNORECASE,
)


def without_secrets(
    environment: Mapping[str, str], needed: Set[str] = frozenset()
) -> dict[str, str]:
    """Return `environment` without its secrets, except those whose upper-case name is `needed`."""
    return {
        name: value
        for name, value in environment.items()
        if name.upper().removesuffix("_FILE") in needed or not _SECRET.search(name)
    }
