"""Where chat models are: at the main model's path, in the models folder and in those of other
programs; and the built-in guide."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from chat_worker.settings import ChatSettings
from worker_runtime.model_files.folder_listing import Listing, Listings
from worker_runtime.model_files.folders import (
    OPENVINO_FILES,
    is_causal_lm_folder,
    is_causal_reranker_folder,
)
from worker_runtime.model_files.model_places import (
    Place,
    gguf_places,
    may_be_model,
    place_of_file,
    unreadable,
)
from worker_runtime.model_files.other_programs import ggufs_of_others, snapshots_of_others

GUIDE_ID = "qwen2-y26hkx-guide"
# In a wheel, and in a checkout.
_PACKAGED, _CHECKED_OUT = (
    Path(__file__).parent / "built_in",
    Path(__file__).parents[1] / "models/guide",
)
GUIDE_FOLDER = _PACKAGED if _PACKAGED.is_dir() else _CHECKED_OUT
SUBFOLDERS = ("qwen", "guide")
EMBEDDING_FOLDER = "embedding"


class ChatPlaces:
    """
    Args:
        embeds: whether the model there makes vectors, as its files state.
    """

    def __init__(self, settings: ChatSettings, embeds: Callable[[Place], bool]) -> None:
        self._settings = settings
        self._embeds = embeds

    def at(self, path: Path, listings: Listings) -> Iterator[Place]:
        """The models at `path`: itself, or the GGUF files in a folder, best quantization first."""
        if os.path.isdir(path):
            return self._at_folder(path, listings)
        place = place_of_file(path, listings)
        return iter([] if place is None else [place])

    def library(self, listings: Listings) -> Iterator[Place]:
        """The models that are there besides the main one, each path once."""
        root = self._settings.models_dir
        found: set[Path] = set()
        within = map(listings.of, (root / name for name in SUBFOLDERS))
        # The root's listing states which of these folders cannot be read.
        for listing in (listings.of(root), *(one for one in within if not one.reason)):
            for place in self._in_folder(listing, listings):
                if place.path not in found:
                    found.add(place.path)
                    yield place
        for place in self._of_other_programs(listings):
            if place.path not in found:
                found.add(place.path)
                yield place
        if self._settings.builtin_models:
            for place in self._in_folder(listings.of(GUIDE_FOLDER), listings):
                yield msgspec.structs.replace(place, is_built_in=True)

    def _of_other_programs(self, listings: Listings) -> Iterator[Place]:
        """Without those that embed texts: no folder tells them apart as ours does."""
        sources = self._settings.source_folders
        places = list(ggufs_of_others(sources, listings))
        for id, snapshot in snapshots_of_others(sources, listings):
            for place in self._at_folder(snapshot, listings):
                own_id = "" if place.is_file else id
                places.append(msgspec.structs.replace(place, own_id=own_id))
        return (place for place in places if not self._embeds(place))

    def _in_folder(self, listing: Listing, listings: Listings) -> Iterator[Place]:
        """The models in a folder and in the folders within."""
        ggufs = {place.path: place for place in gguf_places(listing)}
        if cannot := unreadable(listing):
            yield cannot
        for entry in listing:
            # The models in this folder embed texts, even if their architecture could chat.
            if entry.name == EMBEDDING_FOLDER or not may_be_model(entry.name):
                continue
            if entry.path in ggufs:
                yield ggufs[entry.path]
            elif entry.is_folder:
                yield from self._at_folder(entry.path, listings)
            elif entry.may_be_folder and (cannot := unreadable(entry)):
                yield cannot

    def _at_folder(self, path: Path, listings: Listings) -> Iterator[Place]:
        listing = listings.of(path)
        if cannot := unreadable(listing):
            yield cannot
            return
        if is_causal_reranker_folder(path):
            return
        files = gguf_places(listing)
        wants_folder = self._settings.backend in ("transformers", "openvino")
        if is_causal_lm_folder(path) and (wants_folder or not files):
            weights = (".safetensors", ".json", *OPENVINO_FILES)
            yield Place(path, tuple(file for file in listing if file.name.endswith(weights)))
            return
        yield from sorted(files, key=lambda p: ("q4_k_m" not in p.path.name.lower(), p.path.name))
