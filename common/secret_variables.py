"""Which environment variables are secrets: a process is given those that it needs, no others.

What runs native code, or anything of a model's files, must have nothing to tell. Standard library
only: all share it.
"""

import re
from collections.abc import Mapping, Set

_SECRET = re.compile(
    # An address, which may hold a password, is named. Files with secrets are secrets, too.
    r"(TOKEN|SECRET|PASSWORD|API_?KEYS?|RATE_LIMIT_STORAGE)(_FILE)?$",
    re.IGNORECASE,
)


def without_secrets(
    environment: Mapping[str, str], needed: Set[str] = frozenset()
) -> dict[str, str]:
    """`environment` without its secrets but those `needed`, by their upper-case names."""
    return {
        name: value
        for name, value in environment.items()
        if name.upper().removesuffix("_FILE") in needed or not _SECRET.search(name)
    }
