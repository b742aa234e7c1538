"""Facts for people that the `config.json` of a model's folder states."""

from pathlib import Path
from typing import Any, NamedTuple

from worker_runtime.model_files.errors import InvalidModelFile
from worker_runtime.model_files.odd_paths import printable
from worker_runtime.model_files.small_json import read_object

MAX_NAME = 64
# A header can claim more than 64 bits hold.
MOST_PARAMETERS = 1 << 62
PRECISIONS = {"float16": "F16", "bfloat16": "BF16", "float32": "F32"}


class ConfigFacts(NamedTuple):
    """Args:
    family: such as "qwen2"; empty if the file does not state it.
    precision: of the weights, such as "BF16"; empty if the file does not state it.
    """

    family: str
    precision: str


def config_facts(folder: Path) -> ConfigFacts:
    config = read_if_valid(folder / "config.json")
    precision = str(config.get("dtype", config.get("torch_dtype")))
    family = printable(str(config.get("model_type") or "")[:MAX_NAME])
    return ConfigFacts(family, PRECISIONS.get(precision, ""))


def read_if_valid(path: Path) -> dict[str, Any]:
    """The object in a small file; empty if there is none, which whoever needs it reports."""
    try:
        return read_object(path)
    except (InvalidModelFile, FileNotFoundError):
        return {}
