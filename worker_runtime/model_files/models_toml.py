"""Reads `models.toml` in the models folder: what single models do otherwise than the settings say.

A file that cannot be read or is wrong changes nothing: what it said before stays in force.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from common.model_ids import folded_id
from common.sampling_ranges import RANGES
from worker_runtime.model_files.errors import InvalidModelFile
from worker_runtime.model_files.foreign_files import open_regular, read_at_most, reason_of

FILE = "models.toml"
MAX_BYTES = 1 << 20
MAX_MODELS = 1000
MAX_TEMPLATE_BYTES = 1 << 20

_Text = Annotated[str, Meta(max_length=32_768)]
_Path = Annotated[str, Meta(max_length=4096, pattern=r"^[^\0]+$")]
_Alias = Annotated[str, Meta(min_length=1, max_length=256)]


class SamplingDefaults(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True
):
    """How tokens are chosen where a request does not say. The fields are those of requests, and of
    the contract's `SamplingDefaults`; `RANGES` holds for them."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = None

    def __post_init__(self) -> None:
        for name in SamplingDefaults.__struct_fields__:
            value, allowed = getattr(self, name), RANGES[name]
            if value is not None and not allowed.holds(value):
                raise ValueError(f"{name} must be between {allowed.low:g} and {allowed.high:g}")


class ModelOptions(SamplingDefaults, frozen=True, kw_only=True):
    """The options of one model; each that is not set is that of the settings.

    Args:
        aliases: other names that clients may use for it.
        pinned: it is loaded at the start and stays (PINNED_MODELS).
        priority: of idle models, those with the lowest are unloaded first.
        context: of one request in tokens (LLAMA_CTX).
        slots: requests at a time (MAX_CONCURRENT_REQUESTS).
        kv_type: of the KV cache (LLAMA_KV_TYPE).
        system_prompt: for conversations that have none (DEFAULT_SYSTEM_PROMPT).
        chat_template: a file with the Jinja template that renders its conversations; once the file
            is read, its text.
        lora: a GGUF file with an adapter for it, for llama.cpp.
        lora_scale: how much that adapter counts.
    """

    aliases: Annotated[tuple[_Alias, ...], Meta(max_length=32)] = ()
    pinned: bool = False
    priority: Annotated[int, Meta(ge=-100, le=100)] = 0
    context: Annotated[int, Meta(ge=256, le=1 << 24)] | None = None
    slots: Annotated[int, Meta(ge=1, le=128)] | None = None
    kv_type: Literal["f16", "q8_0"] | None = None
    system_prompt: _Text | None = None
    chat_template: _Path | None = None
    lora: _Path | None = None
    lora_scale: Annotated[float, Meta(ge=-10, le=10)] = 1.0

    def with_aliases(self, others: tuple[str, ...]) -> "ModelOptions":
        return replace(self, aliases=(*self.aliases, *others)) if others else self

    @property
    def of_load(self) -> str:
        """The options that a loaded model cannot take on, always written the same way; empty: none
        is set."""
        found = replace(self, aliases=(), pinned=False, priority=0, **_UNSET_SAMPLING)
        return msgspec.json.encode(found).decode() if found != NO_OPTIONS else ""


_UNSET_SAMPLING: dict[str, None] = dict.fromkeys(SamplingDefaults.__struct_fields__)
NO_OPTIONS = ModelOptions()


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    models: dict[str, ModelOptions] = {}


def read_models_toml(folder: Path) -> dict[str, ModelOptions]:
    """Return the options by the models' folded ids; none if there is no such file. Templates are
    read; the paths of adapters become absolute.

    Raises:
        InvalidModelFile: the file is wrong; the error says where.
        OSError: it, or a file that it names, cannot be read.
    """
    try:
        content = read_at_most(folder / FILE, MAX_BYTES)
    except FileNotFoundError:
        return {}
    document = parse(content)
    return {folded_id(id): _with_files(options, folder) for id, options in document.items()}


def parse(content: bytes) -> Mapping[str, ModelOptions]:
    """The options by the models' ids as they are written; files are not read.

    Raises:
        InvalidModelFile: the file is wrong; the error says where.
    """
    try:
        models = msgspec.toml.decode(content, type=_Document).models
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidModelFile(f"{FILE}: {error}") from error
    if len(models) > MAX_MODELS:
        raise InvalidModelFile(f"{FILE} names more than {MAX_MODELS} models")
    known: dict[str, str] = {}
    for id, options in models.items():
        for alias in options.aliases:
            if (other := known.setdefault(folded_id(alias), id)) != id:
                raise InvalidModelFile(f"{FILE}: {alias!r} is an alias of both {other} and {id}")
    return models


def _with_files(options: ModelOptions, folder: Path) -> ModelOptions:
    found = options
    if options.chat_template is not None:
        template = read_at_most(folder / options.chat_template, MAX_TEMPLATE_BYTES)
        found = replace(found, chat_template=template.decode("utf-8-sig", "replace"))
    if options.lora is not None:
        path = (folder / options.lora).absolute()
        open_regular(path)[0].close()
        found = replace(found, lora=str(path))
    return found


class ModelsToml:
    """The options in force: those of the latest file that was right."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._options: dict[str, ModelOptions] = {}
        # What is wrong with the file, as it was read last; empty: nothing.
        self.problem = ""

    def read(self) -> None:
        """Read the file again. Never raises."""
        self.problem = ""
        try:
            self._options = read_models_toml(self._folder)
        except InvalidModelFile as error:
            self.problem = str(error)
        except OSError as error:
            self.problem = f"{FILE}: {reason_of(error)}"

    def of(self, model_id: str) -> ModelOptions:
        return self._options.get(folded_id(model_id), NO_OPTIONS)
