"""Lists the files of a repository: Hugging Face, ModelScope, Ollama's registry, or one address."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import httpx

from common.error_texts import ErrorText
from common.errors import InvalidRequest, ModelNotFound
from downloads.hugging_face import list_hugging_face
from downloads.listing import MAX_FILES, Listing, RemoteFile
from downloads.settings import DownloadSettings
from downloads.source import Hub, Source
from downloads.web import Web, nonsense, unreachable

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
OLLAMA_WEIGHTS = "application/vnd.ollama.image.model"
OLLAMA_ADAPTER = "application/vnd.ollama.image.adapter"
SHA256 = "sha256:"


def list_files(source: Source, settings: DownloadSettings, web: Web) -> Listing:
    """Return the files of the source.

    Raises:
        ServingError: there is no such repository, or the hub cannot or does not say.
    """
    hubs: dict[Hub, Callable[[Source, DownloadSettings, Web], Listing]] = {
        "hugging_face": list_hugging_face,
        "modelscope": _list_modelscope,
        "ollama": _list_ollama,
        "url": _list_address,
    }
    return hubs[source.hub](source, settings, web)


def _list_modelscope(source: Source, settings: DownloadSettings, web: Web) -> Listing:
    """Source: `HubApi.get_model_files` of the package modelscope."""
    base, repository = settings.modelscope, quote(source.repository)
    listed = f"{base}/api/v1/models/{repository}/repo/files?Revision=master&Recursive=true"
    try:
        reply = web.json(listed, {})
    except ModelNotFound:
        raise _unknown(source) from None
    entries = _within(reply, "Data", "Files")
    if not isinstance(entries, list):
        raise nonsense(base)
    files = (
        RemoteFile(
            path=entry["Path"],
            size_bytes=entry["Size"],
            address=f"{base}/models/{repository}/resolve/master/{quote(entry['Path'])}",
            sha256=_sha256(entry.get("Sha256")),
        )
        for entry in _typed(entries[:MAX_FILES], {"Path": str, "Size": int})
        if entry.get("Type") != "tree"
    )
    return Listing(source.repository, tuple(files))


def _list_ollama(source: Source, settings: DownloadSettings, web: Web) -> Listing:
    """A model of the registry is one GGUF file; its template is in that file, too."""
    base = f"{settings.ollama}/v2/{source.repository}"
    try:
        manifest = web.json(f"{base}/manifests/{source.variant}", {"accept": MANIFEST})
    except ModelNotFound:
        raise _unknown(source) from None
    found = _within(manifest, "layers")
    layers = [
        layer
        for layer in _typed(found if isinstance(found, list) else [], {"digest": str, "size": int})
        if _sha256(layer["digest"].removeprefix(SHA256))
    ]
    if any(layer.get("mediaType") == OLLAMA_ADAPTER for layer in layers):
        raise InvalidRequest(ErrorText("pull_is_adapter", name=source.repository), param="model")
    weights = [layer for layer in layers if layer.get("mediaType") == OLLAMA_WEIGHTS]
    name = source.repository.rpartition("/")[2]
    stem = name if source.variant == "latest" else f"{name}-{source.variant}"
    files = (
        RemoteFile(
            path=f"{stem}.gguf",
            size_bytes=layer["size"],
            address=f"{base}/blobs/{layer['digest']}",
            sha256=layer["digest"].removeprefix(SHA256),
        )
        for layer in weights[:1]
    )
    return Listing(f"{source.repository}:{source.variant}", tuple(files))


def _list_address(source: Source, settings: DownloadSettings, web: Web) -> Listing:
    """Ask for one byte, because many servers answer that more truly than HEAD."""
    address = source.repository
    try:
        with web.stream(address, {}, 0, 1) as reply:
            total = reply.headers.get("content-range", "").rpartition("/")[2]
            if reply.status_code == httpx.codes.OK:
                total = reply.headers.get("content-length", "")
    except httpx.TransportError as error:
        raise unreachable(address) from error
    if not total.isdigit():
        raise nonsense(address)
    name = unquote(urlsplit(address).path.rpartition("/")[2])
    return Listing(name, (RemoteFile(name, int(total), address),))


def _unknown(source: Source) -> ModelNotFound:
    return ModelNotFound(ErrorText("hub_has_no_model", name=source.title), param="model")


def _within(reply: Any, *names: str) -> object:
    for name in names:
        reply = reply.get(name) if isinstance(reply, dict) else None
    return reply


def _typed(entries: list[Any], wanted: Mapping[str, type]) -> Iterator[dict[str, Any]]:
    for entry in entries:
        if isinstance(entry, dict) and all(
            isinstance(entry.get(name), kind) for name, kind in wanted.items()
        ):
            yield entry


def _sha256(text: object) -> str:
    is_digest = isinstance(text, str) and len(text) == 64 and text.isalnum()
    return str(text).lower() if is_digest else ""
