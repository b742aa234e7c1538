"""The header x-ignored-parameters: names that clients may have made up, as a header takes them."""

import re
from collections.abc import Iterable

from gateway.errors import shorten

# Clients take 8 KiB of a header line.
MAX_NAMES = 64
# Neither spaces: a value may not begin or end with one.
_NOT_IN_NAMES = re.compile(r"[^!-~]")


def header_of_names(names: Iterable[str]) -> str:
    """The header's value; empty: there are no names."""
    found = sorted({_NOT_IN_NAMES.sub("?", shorten(name)) or "?" for name in names})
    return ", ".join(found[:MAX_NAMES])
