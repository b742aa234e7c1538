"""References within a JSON schema."""

from typing import Any


def target_of(reference: Any, root: dict[str, Any]) -> dict[str, Any] | None:
    """The schema to which a reference such as `#/$defs/Point` leads; None for any other value."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    found: Any = root
    for step in filter(None, reference.removeprefix("#").split("/")):
        key = step.replace("~1", "/").replace("~0", "~")
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else None
