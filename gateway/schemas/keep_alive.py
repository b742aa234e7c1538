"""`keep_alive`: how long a model stays loaded after a request, in the formats of Ollama."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from common.error_texts import ErrorText

MOST_S = 86400.0 * 365
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "": 1}
_PART = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)(ms|s|m|h)")
_WHOLE = re.compile(rf"-?(?:{_PART.pattern}){{1,4}}|-?[0-9]{{1,9}}(?:\.[0-9]{{1,3}})?")


def _seconds(value: Any) -> Any:
    """The seconds of `"5m"`, `"1h30m"` or `"300"`; values of other types are returned unchanged."""
    if not isinstance(value, str):
        return value
    if not _WHOLE.fullmatch(value):
        raise ValueError(ErrorText("keep_alive_wrong"))
    parts = _PART.findall(value) or [(value.lstrip("-"), "")]
    seconds = min(sum(float(number) * _SECONDS[unit] for number, unit in parts), MOST_S)
    return -seconds if value.startswith("-") else seconds


# In seconds; 0: unload after the request; negative: keep until it is unloaded by hand.
KeepAlive = Annotated[
    float,
    Field(ge=-MOST_S, le=MOST_S),
    BeforeValidator(_seconds),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string", "examples": ["5m"]}]}),
]
