"""Models that clients made from others: a name for a model with a system prompt and options.

They are kept in one small JSON file, which is read again when another process has changed it.
"""

import logging
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from common.atomic_file import replace_file
from common.error_texts import ErrorText
from common.errors import InvalidRequest, PermissionDenied
from common.model_ids import folded_id
from gateway.schemas.ollama.options import Options

MAX_MODELS = 256
MAX_MODEL_BYTES = 128 * 1024
MAX_FILE_BYTES = MAX_MODELS * MAX_MODEL_BYTES
LATEST = ":latest"

log = logging.getLogger(__name__)


class Example(BaseModel):
    """A message that stands before those of each conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str


class CustomModel(BaseModel):
    """
    Args:
        name: as the client wrote it, without the tag `latest`.
        model: the id of the model that it is made from.
        created_s: in seconds since the epoch.
    """

    name: Annotated[str, Field(min_length=1, max_length=256)]
    model: Annotated[str, Field(min_length=1, max_length=256)]
    created_s: float
    system: str = ""
    options: Options = Options()
    messages: list[Example] = []
    license: str = ""


_ALL = TypeAdapter(Annotated[list[CustomModel], Field(max_length=MAX_MODELS)])


class CustomModels:
    """Args:
    path: of the file; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_at: tuple[int, int] | None = None
        self._by_name: dict[str, CustomModel] = {}
        self._is_broken = False

    def find(self, name: str) -> CustomModel | None:
        self._read_again()
        return self._by_name.get(_key(name))

    def all(self) -> list[CustomModel]:
        self._read_again()
        return list(self._by_name.values())

    def put(self, model: CustomModel) -> None:
        """Keep the model, in place of one with the same name.

        Raises:
            InvalidRequest: it is too large, or there are too many.
            PermissionDenied: the file cannot be written.
        """
        if len(model.model_dump_json()) > MAX_MODEL_BYTES:
            raise InvalidRequest(
                ErrorText("custom_model_too_large", most_kib=MAX_MODEL_BYTES // 1024),
                param="system",
            )
        self._read_again()
        changed = self._by_name | {_key(model.name): model}
        if len(changed) > MAX_MODELS:
            raise InvalidRequest(
                ErrorText("too_many_custom_models", most=MAX_MODELS),
                param="model",
                suggestions=(ErrorText("delete_custom_model"),),
            )
        self._write(changed)

    def remove(self, name: str) -> bool:
        """Forget the model; False if there is none of that name.

        Raises:
            PermissionDenied: the file cannot be written.
        """
        self._read_again()
        changed = {key: model for key, model in self._by_name.items() if key != _key(name)}
        if len(changed) == len(self._by_name):
            return False
        self._write(changed)
        return True

    def _read_again(self) -> None:
        try:
            state = self._path.stat()
        except OSError:
            self._read_at, self._by_name, self._is_broken = None, {}, False
            return
        found_at = (state.st_mtime_ns, state.st_size)
        if found_at == self._read_at:
            return
        self._read_at = found_at
        try:
            if state.st_size > MAX_FILE_BYTES:
                raise ValueError(f"it has more than {MAX_FILE_BYTES} bytes")
            models = _ALL.validate_json(self._path.read_bytes())
        except (OSError, ValueError, ValidationError) as error:
            log.error("%s is not used, and not changed: %s", self._path, error)
            self._by_name, self._is_broken = {}, True
            return
        self._by_name, self._is_broken = {_key(model.name): model for model in models}, False

    def _write(self, models: dict[str, CustomModel]) -> None:
        if self._is_broken:
            raise PermissionDenied(
                ErrorText("custom_models_broken"), suggestions=(ErrorText("mend_custom_models"),)
            )
        content = _ALL.dump_json([*models.values()], indent=1, exclude_none=True)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(self._path, content)
        except OSError as error:
            log.error("%s cannot be written: %s", self._path, error)
            raise PermissionDenied(
                ErrorText("custom_models_unwritable"),
                suggestions=(ErrorText("set_custom_models_file"),),
            ) from None
        self._read_at = None


def without_tag(name: str) -> str:
    return name[: -len(LATEST)] if name.lower().endswith(LATEST) else name


def _key(name: str) -> str:
    return folded_id(without_tag(name))
