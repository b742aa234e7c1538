"""Finds the chat models, on this machine and on other servers: the entries of the catalogue."""

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from chat_worker import headers
from chat_worker.facts import with_template
from chat_worker.family import Family
from chat_worker.load_specs import load_spec
from chat_worker.pipe_messages import spec_decoder
from chat_worker.places import GUIDE_ID, ChatPlaces
from chat_worker.plugins.models import plugin_entry
from chat_worker.remote.models import is_default, remote_entries
from chat_worker.settings import ChatSettings
from common.packages import version_of
from worker_runtime.catalog import ModelEntry, Scan, fingerprint
from worker_runtime.engine_process import protocol
from worker_runtime.libraries import marked_if_missing, missing_modules
from worker_runtime.lifecycle.load_options import refuse_context
from worker_runtime.model_files.default_model import default_model
from worker_runtime.model_files.folder_listing import Listings, look_at
from worker_runtime.model_files.folders import is_openvino_folder
from worker_runtime.model_files.foreign_files import real_path
from worker_runtime.model_files.gguf_files import gguf_id
from worker_runtime.model_files.header_cache import HeaderCache
from worker_runtime.model_files.model_places import Place, gguf_places
from worker_runtime.model_files.models_toml import ModelOptions, ModelsToml
from worker_runtime.model_files.odd_paths import printable
from worker_runtime.model_files.unique_ids import Notes, UniqueIds

ENGINE_MODULE = "chat_worker.engine_process"
PACKAGES = {
    "llama.cpp": "llama-cpp-python",
    "transformers": "transformers",
    "openvino": "openvino",
}


class ChatModelScan:
    """Finds the models; headers of unchanged files are read once."""

    def __init__(self, settings: ChatSettings) -> None:
        self._settings = settings
        self._headers = HeaderCache(headers.read, headers.broken)
        self._notes = Notes()
        self._options = ModelsToml(settings.models_dir)
        self._places = ChatPlaces(settings, embeds=lambda place: self._headers.of(place).embeds)
        # The ids that the latest scan found, by path.
        self._ids: dict[Path, str] = {}
        self.default_id = ""

    def __call__(self) -> Scan:
        self._headers.begin_scan()
        self._notes.begin_scan()
        self._options.read()
        entries = {entry.id: entry for entry in self._plugin_model()}
        main_id = next(iter(entries), "")
        ids, listings = UniqueIds(self._prefers, self._notes), Listings()
        for place in () if entries else self._places.at(self._settings.model_path, listings):
            if self._chats(place):
                taken = ids.add(place)
                main_id = main_id or taken
        for place in self._places.library(listings):
            if self._chats(place):
                ids.add(place)
        for model_id, place in ids.items():
            entries.setdefault(model_id, self._entry(model_id, place))
        theirs = {model_id: place.aliases for model_id, place in ids.items()}
        self._ids = {entry.path: entry.id for entry in entries.values()}
        main_id = self._add_remote(entries) or main_id
        entries = {
            id: msgspec.structs.replace(
                entry, options=self._options.of(id).with_aliases(theirs.get(id, ()))
            )
            for id, entry in entries.items()
        }
        chosen = (main_id, default_model(self._settings.models_dir), GUIDE_ID)
        self.default_id = next((one for one in chosen if one in entries), "")
        return Scan(list(entries.values()), self.default_id, self._options.problem)

    def with_context(self, entry: ModelEntry, n_ctx: int) -> ModelEntry:
        """The model with another context for each request, up to the one that it was trained for.

        Raises:
            UnsupportedParameter: the context of remote models is not decided here.
        """
        if entry.backend not in PACKAGES:
            refuse_context(entry, n_ctx)
        n_ctx = min(n_ctx, entry.facts.trained_context or n_ctx)
        spec = spec_decoder.decode(entry.load_spec)
        if n_ctx == entry.context_length:
            return entry
        print_ = fingerprint(entry.path, n_ctx, 0, entry.backend, entry.fingerprint)
        return msgspec.structs.replace(
            entry,
            context_length=n_ctx,
            fingerprint=print_,
            load_spec=protocol.raw(msgspec.structs.replace(spec, n_ctx=n_ctx, fingerprint=print_)),
        )

    def near(self, entry: ModelEntry) -> list[ModelEntry]:
        """The models beside `entry` and in the models folder that can be loaded, except itself."""
        listings, ids = Listings(), self._ids
        beside = [
            *self._places.at(entry.path, listings),
            *gguf_places(listings.of(entry.path.parent)),
        ]
        places = {
            real_path(place.path): place for place in (*beside, *self._places.library(listings))
        }
        places.pop(real_path(entry.path), None)
        return [
            self._entry(ids.get(place.path) or place.wanted_id, place, own_backend(place))
            for place in places.values()
            if self._chats(place) and not self._headers.of(place).broken
        ]

    def on(self, entry: ModelEntry, backend: str) -> ModelEntry:
        """The same files, run by another backend; "": by the one that their format is for."""
        place = self._place_of(entry)
        return self._entry(entry.id, place, backend or own_backend(place))

    def family(self, entry: ModelEntry) -> Family:
        return self._said(entry).family

    def takes_q8_cache(self, entry: ModelEntry) -> bool:
        return self._said(entry).takes_q8_cache

    def _said(self, entry: ModelEntry) -> headers.Said:
        return self._headers.latest(entry.path) or self._headers.of(self._place_of(entry))

    def _place_of(self, entry: ModelEntry) -> Place:
        gone = Place(entry.path, reason="it is gone")
        return next(self._places.at(entry.path, Listings()), gone)

    def _plugin_model(self) -> Iterator[ModelEntry]:
        """The main model, if a third-party backend runs it."""
        path = self._settings.model_path
        if plugin := self._settings.plugin:
            model_id = printable(gguf_id(path) if os.path.isfile(path) else path.name)
            own = self._options.of(model_id)
            yield plugin_entry(path, load_spec(self._settings, own, model_id, plugin, path))

    def _add_remote(self, entries: dict[str, ModelEntry]) -> str:
        """Returns the id of the remote model that is the default; empty if there is none."""
        chosen_id = ""
        for remote in remote_entries(self._settings):
            if remote.id in entries:
                self._notes(f"the remote model {remote.id} is not taken: another has its name")
                continue
            entries[remote.id] = remote
            if is_default(remote):
                chosen_id = chosen_id or remote.id
        return chosen_id

    def _prefers(self, place: Place, other: Place) -> bool:
        """Of two formats of one model, prefers the one that can be used, then that of the
        configured backend, then the GGUF."""
        wanted = self._settings.backend or "llama.cpp"

        def rank(one: Place) -> tuple[bool, bool]:
            backend = self._backend(one)
            works = not self._headers.of(one).broken and not missing_modules(backend)
            return works, backend == wanted

        return rank(place) > rank(other)

    def _backend(self, place: Place) -> str:
        wants_openvino = self._settings.backend == "openvino" and not missing_modules("openvino")
        return "openvino" if wants_openvino else own_backend(place)

    def _chats(self, place: Place) -> bool:
        return self._headers.of(place).is_chat

    def _entry(self, model_id: str, place: Place, backend: str = "") -> ModelEntry:
        said, path = self._headers.of(place), place.path
        backend = backend or self._backend(place)
        size_bytes = sum(file.size_bytes for file in place.files if not file.name.endswith(".json"))
        options = self._options.of(model_id)
        own = options.chat_template
        # With other options a loaded model is another one.
        version = version_of(PACKAGES[backend]) + options.of_load + _state_of(options.lora)
        print_ = fingerprint(path, size_bytes, place.mtime_ns, backend, version)
        spec = load_spec(self._settings, options, model_id, backend, path)
        entry = ModelEntry(
            id=model_id,
            capability="chat",
            backend=backend,
            path=path,
            size_bytes=size_bytes,
            created_s=place.mtime_ns // 1_000_000_000,
            context_length=self._context(said.context_length, options),
            fingerprint=print_,
            load_spec=protocol.raw(msgspec.structs.replace(spec, fingerprint=print_)),
            engine_module=ENGINE_MODULE,
            broken=printable(said.broken),
            facts=with_template(said.facts, own) if own else said.facts,
        )
        return marked_if_missing(entry, backend)

    def _context(self, trained: int, options: ModelOptions) -> int:
        wanted = options.context or self._settings.request_tokens
        return min(wanted, trained) if trained else wanted


def own_backend(place: Place) -> str:
    """The backend that the format of a model is for."""
    if place.is_file:
        return "llama.cpp"
    return "openvino" if is_openvino_folder(place.path) else "transformers"


def _state_of(path: str | None) -> str:
    """Changes when the file does; empty: there is none."""
    if path is None:
        return ""
    state = look_at(Path(path))
    return f"{state.size_bytes} {state.mtime_ns}"
