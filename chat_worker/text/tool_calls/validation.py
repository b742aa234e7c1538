"""Checks whether the arguments of a call follow the tool's schema."""

import functools
import json
from typing import Any

from jsonschema.exceptions import SchemaError
from jsonschema.protocols import Validator
from jsonschema.validators import Draft202012Validator, extend
from referencing import Registry
from referencing.exceptions import Unresolvable

# Not checked, because a client's schema may hold regular expressions or sizes that take very long.
UNCHECKED = ("pattern", "patternProperties", "format", "propertyNames", "uniqueItems")
MAX_CACHED = 256


def follows(arguments: dict[str, Any], schema: dict[str, Any]) -> bool:
    """Whether the arguments follow `schema`; True also if the schema itself is not valid."""
    validator = _validator(json.dumps(schema))
    try:
        return validator is None or validator.is_valid(arguments)
    except (Unresolvable, RecursionError):
        return True


@functools.lru_cache(MAX_CACHED)
def _validator(schema: str) -> Validator | None:
    parsed = json.loads(schema)
    try:
        _Checks.check_schema(parsed)
    except SchemaError:
        return None
    # Without an explicit registry, the validator would fetch references from the network.
    found: Validator = _Checks(parsed, registry=Registry())
    return found


_Checks: Any = extend(Draft202012Validator, dict.fromkeys(UNCHECKED, lambda *_: ()))  # type: ignore[no-untyped-call]
