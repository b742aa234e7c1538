"""The remote models in the configuration, as entries of the catalogue.

An error in a table, or in the whole file, becomes an entry that is listed as broken with the
reason; the other models are served all the same.
"""

import hashlib
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from chat_worker.remote.spec import RemoteModel, RemoteSpec, spec_decoder
from chat_worker.settings import DEFAULT_REMOTE_MODELS, ChatSettings
from worker_runtime.catalog import ModelEntry
from worker_runtime.engine_process import protocol
from worker_runtime.model_files.foreign_files import read_at_most

BACKEND = "remote"
ENGINE_MODULE = "chat_worker.remote.engine_process"
MAX_FILE_BYTES = 1024 * 1024
MAX_MODELS = 1000


def remote_entries(settings: ChatSettings) -> Iterator[ModelEntry]:
    """One entry for each table of the file; none if there is no file and none is configured."""
    path = settings.remote_models
    if path == DEFAULT_REMOTE_MODELS and not os.path.exists(path):
        return
    try:
        tables, created_s = _read(path), int(path.stat().st_mtime)
    except (OSError, ValueError, msgspec.ValidationError) as error:
        yield _broken(path, path.stem, str(error))
        return
    for number, table in enumerate(tables, 1):
        try:
            model = msgspec.convert(table, RemoteModel)
            yield _entry(path, created_s, _beside(path, model), _key(model, settings), settings)
        except (ValueError, msgspec.ValidationError) as error:
            model_id = table.get("id")
            named = model_id if isinstance(model_id, str) and model_id else f"remote-{number}"
            yield _broken(path, named, str(error))


def is_default(entry: ModelEntry) -> bool:
    return not entry.broken and spec_decoder.decode(entry.load_spec).model.default


def _read(path: Path) -> list[dict[str, Any]]:
    document = tomllib.loads(read_at_most(path, MAX_FILE_BYTES).decode())
    if unknown := set(document) - {"models"}:
        raise ValueError(f"{path.name} may hold [[models]] tables only, not {sorted(unknown)[0]!r}")
    tables = msgspec.convert(document.get("models", []), list[dict[str, Any]])
    if len(tables) > MAX_MODELS:
        raise ValueError(f"{path.name} lists more than {MAX_MODELS} models")
    return tables


def _beside(path: Path, model: RemoteModel) -> RemoteModel:
    """Makes file names relative to the configuration file absolute."""
    named = {"api_key_file": model.api_key_file, "ca_file": model.ca_file}
    found = {field: str(path.resolve().parent / name) for field, name in named.items() if name}
    return msgspec.structs.replace(model, model=model.model or model.id, **found)


def _key(model: RemoteModel, settings: ChatSettings) -> str:
    if not model.api_key_name:
        return ""
    if model.api_key_name not in settings.remote_api_keys:
        raise ValueError(f"REMOTE_API_KEYS has no key named {model.api_key_name!r}")
    return settings.remote_api_keys[model.api_key_name].get_secret_value()


def _entry(
    path: Path, created_s: int, model: RemoteModel, key: str, settings: ChatSettings
) -> ModelEntry:
    spec = RemoteSpec(
        model=model,
        api_key=key,
        default_system_prompt=settings.default_system_prompt,
        global_seed=settings.global_seed,
    )
    # The digest covers the whole table: a changed time limit also requires a new process.
    digest = hashlib.sha256(msgspec.json.encode(model)).hexdigest()[:16]
    return ModelEntry(
        id=model.id,
        capability="chat",
        backend=BACKEND,
        path=path,
        size_bytes=0,
        created_s=created_s,
        context_length=model.context_length,
        fingerprint=f"fp_{digest}",
        load_spec=protocol.raw(spec),
        engine_module=ENGINE_MODULE,
    )


def _broken(path: Path, model_id: str, reason: str) -> ModelEntry:
    return ModelEntry(
        id=model_id,
        capability="chat",
        backend=BACKEND,
        path=path,
        size_bytes=0,
        created_s=0,
        context_length=0,
        fingerprint="",
        load_spec=msgspec.Raw(),
        engine_module=ENGINE_MODULE,
        broken=reason,
    )
