"""Models that other programs of this user downloaded, where they are: nothing is copied or changed.

Ollama keeps a manifest for each name, `manifests/HOST/NAMESPACE/NAME/TAG`, which names its files by
their digests, `blobs/sha256-…`. LM Studio keeps `PUBLISHER/REPOSITORY/FILE.gguf`, and the cache of
Hugging Face `models--ORG--NAME/snapshots/COMMIT/`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from worker_runtime.model_files.errors import InvalidModelFile
from worker_runtime.model_files.folder_listing import Listings, look_at
from worker_runtime.model_files.foreign_files import read_at_most
from worker_runtime.model_files.hub_cache import hub_id, hub_snapshot
from worker_runtime.model_files.model_places import Place, gguf_places
from worker_runtime.model_files.odd_paths import printable

# The weights among the layers of a manifest.
WEIGHTS = "application/vnd.ollama.image.model"
LIBRARY, LATEST = "library", "latest"
MAX_MANIFEST_BYTES = 1 << 20
MAX_MODELS = 1000
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")


class _Layer(msgspec.Struct, rename="camel"):
    media_type: str
    digest: str


class _Manifest(msgspec.Struct):
    layers: list[_Layer]


Folders = Mapping[str, Sequence[Path]]


def ggufs_of_others(sources: Folders, listings: Listings) -> Iterator[Place]:
    """The GGUF models of LM Studio and Ollama.

    Args:
        sources: folders by the names of the programs.
    """
    for folder in sources.get("lmstudio", ()):
        yield from lm_studio_places(folder, listings)
    for folder in sources.get("ollama", ()):
        yield from ollama_places(folder, listings)


def snapshots_of_others(sources: Folders, listings: Listings) -> Iterator[tuple[str, Path]]:
    """Ids and folders of the latest snapshots in Hugging Face's cache."""
    for folder in sources.get("huggingface", ()):
        yield from hub_snapshots(folder, listings)


def lm_studio_places(root: Path, listings: Listings) -> Iterator[Place]:
    """The GGUF models below LM Studio's folder."""
    for publisher in _folders(root, listings):
        for repository in _folders(publisher, listings):
            yield from gguf_places(listings.of(repository))


def hub_snapshots(root: Path, listings: Listings) -> Iterator[tuple[str, Path]]:
    """Ids and folders of the latest snapshots in the cache of Hugging Face."""
    for folder in _folders(root, listings):
        if (id := hub_id(folder.name)) and (snapshot := hub_snapshot(folder, listings)):
            yield id, snapshot


def ollama_places(root: Path, listings: Listings) -> Iterator[Place]:
    """The models that Ollama's manifests name, with ids such as `qwen2.5:0.5b`. Names with the same
    weights are one model."""
    names: dict[str, list[str]] = {}
    for host in _folders(root / "manifests", listings):
        for namespace in _folders(host, listings):
            for name in _folders(namespace, listings):
                for manifest in listings.of(name):
                    weights = _weights(manifest.path) if manifest.is_file else ""
                    if weights and (weights in names or len(names) < MAX_MODELS):
                        id = _id(namespace.name, name.name, manifest.name)
                        names.setdefault(weights, []).append(id)
    for weights, (id, *others) in names.items():
        file = look_at(root / "blobs" / weights)
        yield Place(file.path, (file,), file.reason, own_id=id, aliases=tuple(others))


def _folders(folder: Path, listings: Listings) -> Iterator[Path]:
    return (entry.path for entry in listings.of(folder) if entry.is_folder)


def _weights(manifest: Path) -> str:
    """The name of the blob with the weights; empty if the manifest names none."""
    try:
        content = read_at_most(manifest, MAX_MANIFEST_BYTES)
        layers = msgspec.json.decode(content, type=_Manifest).layers
    except (InvalidModelFile, OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # It is no manifest, or Ollama is writing it.
        return ""
    digests = (_DIGEST.fullmatch(one.digest) for one in layers if one.media_type == WEIGHTS)
    return next((f"sha256-{digest[1]}" for digest in digests if digest), "")


def _id(namespace: str, name: str, tag: str) -> str:
    owned = name if namespace == LIBRARY else f"{namespace}/{name}"
    return printable(owned if tag == LATEST else f"{owned}:{tag}")
