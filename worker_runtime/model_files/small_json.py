"""Small JSON files beside a model's weights."""

from pathlib import Path
from typing import Any

import msgspec

from worker_runtime.model_files.errors import InvalidModelFile
from worker_runtime.model_files.foreign_files import read_at_most

MAX_CONFIG_BYTES = 4 * 1024 * 1024


def read_object(path: Path) -> dict[str, Any]:
    """A small file that should hold one JSON object.

    Raises:
        InvalidModelFile: it does not.
        OSError: it cannot be read.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise InvalidModelFile(f"{path.name} is not a JSON object")
    return value


def read_json(path: Path) -> Any:
    content = read_at_most(path, MAX_CONFIG_BYTES)
    try:
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidModelFile(f"{path.name} is not valid JSON") from error
