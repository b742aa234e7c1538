"""Models as the cache of Hugging Face keeps them: `models--org--name/snapshots/COMMIT/`."""

from pathlib import Path

from worker_runtime.model_files.errors import InvalidModelFile
from worker_runtime.model_files.folder_listing import Listings
from worker_runtime.model_files.foreign_files import read_at_most
from worker_runtime.model_files.odd_paths import printable

PREFIX = "models--"
MAX_REF_BYTES = 256


def hub_id(folder_name: str) -> str:
    """`org/name`; empty for folders of another kind."""
    if not folder_name.startswith(PREFIX):
        return ""
    return printable(folder_name.removeprefix(PREFIX).replace("--", "/", 1))


def hub_snapshot(folder: Path, listings: Listings) -> Path | None:
    """That which the main branch was at when it was fetched last, else any; None: there is none."""
    snapshots = [entry for entry in listings.of(folder / "snapshots") if entry.is_folder]
    try:
        latest = read_at_most(folder / "refs" / "main", MAX_REF_BYTES).decode("ascii", "replace")
    except (InvalidModelFile, OSError):
        latest = ""
    named = [entry.path for entry in snapshots if entry.name == latest.strip()]
    return next(iter([*named, *(entry.path for entry in snapshots)]), None)
