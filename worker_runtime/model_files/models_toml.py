"""Reads `models.toml` in the models folder: how single models are loaded, unlike the rest.

A file that cannot be read or is wrong changes nothing: what it said before stays in force, and the
log has the reason once.
"""

import logging
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from common.model_ids import folded_id
from worker_runtime.model_files.errors import InvalidModelFile
from worker_runtime.model_files.foreign_files import read_at_most, reason_of

FILE = "models.toml"
MAX_BYTES = 1 << 20
MAX_MODELS = 1000

log = logging.getLogger(__name__)


class ModelOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The options of one model; each that is not set is that of the settings.

    Args:
        context: of one request in tokens (LLAMA_CTX).
        slots: requests at a time (MAX_CONCURRENT_REQUESTS).
        kv_type: of the KV cache (LLAMA_KV_TYPE).
        system_prompt: for conversations that have none (DEFAULT_SYSTEM_PROMPT).
    """

    context: Annotated[int, msgspec.Meta(ge=256, le=1 << 24)] | None = None
    slots: Annotated[int, msgspec.Meta(ge=1, le=128)] | None = None
    kv_type: Literal["f16", "q8_0"] | None = None
    system_prompt: Annotated[str, msgspec.Meta(max_length=32_768)] | None = None

    @property
    def text(self) -> str:
        """The options that are set, always written the same way; empty: none is."""
        return msgspec.json.encode(self).decode() if self != NO_OPTIONS else ""


NO_OPTIONS = ModelOptions()


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    models: dict[str, ModelOptions] = {}


def read_models_toml(folder: Path) -> dict[str, ModelOptions]:
    """Return the options by the models' folded ids; none if there is no such file.

    Raises:
        InvalidModelFile: the file is wrong; the error says where.
        OSError: it cannot be read.
    """
    try:
        content = read_at_most(folder / FILE, MAX_BYTES)
    except FileNotFoundError:
        return {}
    try:
        document = msgspec.toml.decode(content, type=_Document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidModelFile(f"{FILE}: {error}") from error
    if len(document.models) > MAX_MODELS:
        raise InvalidModelFile(f"{FILE} names more than {MAX_MODELS} models")
    return {folded_id(model): options for model, options in document.models.items()}


class ModelsToml:
    """The options in force: those of the latest file that was right."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._options: dict[str, ModelOptions] = {}
        self._problem = ""

    def read(self) -> None:
        """Read the file again. Never raises."""
        problem = ""
        try:
            self._options = read_models_toml(self._folder)
        except InvalidModelFile as error:
            problem = str(error)
        except OSError as error:
            problem = reason_of(error)
        if problem and problem != self._problem:
            log.error("%s; what it said before stays in force", problem)
        self._problem = problem

    def of(self, model_id: str) -> ModelOptions:
        return self._options.get(folded_id(model_id), NO_OPTIONS)
