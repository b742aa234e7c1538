"""The main model as an entry of the catalog, if a third-party backend runs it."""

from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from chat_worker.pipe_messages import LoadSpec
from chat_worker.plugins.backend import ENTRY_POINT_GROUP
from worker_runtime.catalog import ModelEntry, fingerprint
from worker_runtime.engine_process import protocol
from worker_runtime.model_files.folder_listing import list_folder, look_at

ENGINE_MODULE = "chat_worker.plugins.engine_process"


def installed_backends() -> dict[str, EntryPoint]:
    """The backends that installed packages register, by name; none of them is imported."""
    return {found.name: found for found in entry_points(group=ENTRY_POINT_GROUP)}


def plugin_entry(path: Path, spec: LoadSpec) -> ModelEntry:
    """The entry for `path`, which only the backend can read: only its size and age are used."""
    here = look_at(path)
    files = [here] if here.is_file else [file for file in list_folder(path) if file.is_file]
    size_bytes = sum(file.size_bytes for file in files)
    mtime_ns = max((file.mtime_ns for file in files), default=0)
    found = installed_backends().get(spec.backend)
    version = found.dist.version if found is not None and found.dist is not None else ""
    return ModelEntry(
        id=spec.model_id,
        capability="chat",
        backend=spec.backend,
        path=path,
        size_bytes=size_bytes,
        created_s=mtime_ns // 1_000_000_000,
        context_length=spec.n_ctx,
        fingerprint=fingerprint(path, size_bytes, mtime_ns, spec.backend, version),
        load_spec=protocol.raw(spec),
        engine_module=ENGINE_MODULE,
    )
