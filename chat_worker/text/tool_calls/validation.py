"""Whether arguments follow a tool's schema."""

import functools
import json
from typing import Any

from jsonschema.exceptions import SchemaError
from jsonschema.protocols import Validator
from jsonschema.validators import Draft202012Validator, extend
from referencing import Registry
from referencing.exceptions import Unresolvable

# A schema is a stranger's: its regular expressions could run for ever.
UNCHECKED = ("pattern", "patternProperties", "format", "propertyNames", "uniqueItems")
MAX_KEPT = 256


def follows(arguments: dict[str, Any], schema: dict[str, Any]) -> bool:
    """True also where the schema itself is none: then nothing can be asked of the arguments."""
    validator = _validator(json.dumps(schema))
    try:
        return validator is None or validator.is_valid(arguments)
    except (Unresolvable, RecursionError):
        return True


@functools.lru_cache(MAX_KEPT)
def _validator(schema: str) -> Validator | None:
    parsed = json.loads(schema)
    try:
        _Checks.check_schema(parsed)
    except SchemaError:
        return None
    # Without a registry of its own it would fetch references from the network.
    found: Validator = _Checks(parsed, registry=Registry())
    return found


_Checks: Any = extend(Draft202012Validator, dict.fromkeys(UNCHECKED, lambda *_: ()))  # type: ignore[no-untyped-call]
