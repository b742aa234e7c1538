"""A Modelfile's instructions as the fields of a create request.

Format: https://docs.ollama.com/modelfile: one instruction a line, its value plain, in quotes, or
over several lines in three quotes.
"""

from collections.abc import Iterator
from typing import Any

import orjson

from common.error_texts import ErrorText
from common.errors import InvalidRequest, UnsupportedParameter

MARK = '"""'
# Options whose values are texts; the other ones are numbers or yes and no.
TEXTS = frozenset({"stop"})
MAX_INSTRUCTIONS = 1024


def fields_of(modelfile: str) -> dict[str, Any]:
    """The fields `from`, `system`, `template`, `parameters`, `messages` and `license`.

    Raises:
        InvalidRequest: a line is not an instruction, or a text does not end.
        UnsupportedParameter: an instruction that is not offered.
    """
    found: dict[str, Any] = {}
    for number, (instruction, value) in enumerate(_instructions(modelfile)):
        if number >= MAX_INSTRUCTIONS:
            raise InvalidRequest(
                ErrorText("too_many_entries", n=number + 1, most=MAX_INSTRUCTIONS),
                param="modelfile",
            )
        match instruction:
            case "FROM" | "SYSTEM" | "TEMPLATE":
                found[instruction.lower()] = value
            case "LICENSE":
                found.setdefault("license", []).append(value)
            case "PARAMETER":
                _add_parameter(found.setdefault("parameters", {}), value)
            case "MESSAGE":
                role, _, text = value.partition(" ")
                message = {"role": role, "content": _unquoted(text.strip())}
                found.setdefault("messages", []).append(message)
            case "REQUIRES":
                # Which version of Ollama the model needs says nothing here.
                continue
            case _:
                raise UnsupportedParameter(
                    ErrorText("instruction_unsupported", name=instruction), param="modelfile"
                )
    return found


def _instructions(modelfile: str) -> Iterator[tuple[str, str]]:
    lines = iter(modelfile.splitlines())
    for line in lines:
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        name, _, value = stripped.partition(" ")
        yield name.upper()[:32], _value(value.strip(), lines)


def _value(begun: str, lines: Iterator[str]) -> str:
    """The value that begins so, which may go on over the next lines."""
    if MARK not in begun:
        return _unquoted(begun)
    head, _, text = begun.partition(MARK)
    pieces = [text]
    while MARK not in pieces[-1]:
        following = next(lines, None)
        if following is None:
            raise InvalidRequest(ErrorText("modelfile_text_open"), param="modelfile")
        pieces.append(following)
    return head + "\n".join(pieces).partition(MARK)[0]


def _unquoted(text: str) -> str:
    is_quoted = len(text) > 1 and text[0] == text[-1] == '"'
    return text[1:-1] if is_quoted else text


def _add_parameter(parameters: dict[str, Any], value: str) -> None:
    name, _, written = value.partition(" ")
    text = _decoded(written.strip())
    if name in TEXTS:
        parameters.setdefault(name, []).append(text)
    else:
        parameters[name] = _number(text)


def _decoded(text: str) -> str:
    """A value without its quotes, and with what its escapes stand for."""
    try:
        found = orjson.loads(text) if text.startswith('"') else text
    except orjson.JSONDecodeError:
        return _unquoted(text)
    return str(found)


def _number(text: str) -> Any:
    """The number or truth value that is written so; else the text, which the options refuse."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text[:64])
        except ValueError:
            continue
    return text
