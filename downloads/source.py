"""Reads the name of a model to download: which hub, which repository, and what of it."""

import re
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from common.error_texts import ErrorText, echoed
from common.errors import InvalidRequest

Hub = Literal["hugging_face", "modelscope", "ollama", "url"]

MAX_NAME_CHARS = 512
HOSTS: dict[str, Hub] = {
    "hf.co": "hugging_face",
    "huggingface.co": "hugging_face",
    "modelscope.cn": "modelscope",
    "ollama.com": "ollama",
    "registry.ollama.ai": "ollama",
}
GGUF = ".gguf"
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
# What the addresses of pages and files have between a repository and a path in it.
_PAGES = ("resolve", "blob", "tree")


class Source(msgspec.Struct, frozen=True):
    """Where a model comes from.

    Args:
        repository: "org/name"; an address, if `hub` is "url".
        variant: the quantization, or Ollama's tag; empty if the name states none.
        file: the path of one file in the repository; empty if the name states none.
    """

    hub: Hub
    repository: str
    variant: str = ""
    file: str = ""

    @property
    def title(self) -> str:
        """The name without what was chosen of it, for messages."""
        return self.repository.rpartition("/")[2] if self.hub == "url" else self.repository


def parse(name: str) -> Source:
    """Return the source that `name` means.

    Raises:
        InvalidRequest: `name` is not in one of the forms.
    """
    name = name.strip()
    if len(name) > MAX_NAME_CHARS or not name.isprintable():
        raise _wrong(name)
    scheme, is_address, rest = name.rpartition("://")
    if is_address and scheme not in ("https", "http"):
        raise _wrong(name)
    host, _, path = rest.partition("/")
    hub = HOSTS.get(host.lower().removeprefix("www."))
    if hub is None and is_address:
        return _of_address(name)
    if hub == "ollama":
        return _of_ollama(name, path)
    return _of_repository(name, path if hub else rest, hub or "hugging_face")


def _of_address(name: str) -> Source:
    address = urlsplit(name)
    if not address.hostname or not address.path.lower().endswith(GGUF) or "@" in address.netloc:
        raise _wrong(name)
    return Source("url", name)


def _of_ollama(name: str, path: str) -> Source:
    repository, _, tag = path.partition(":")
    parts = repository.split("/")
    if len(parts) == 1:
        parts = ["library", *parts]
    if len(parts) != 2 or not _are_parts(*parts, tag or "latest"):
        raise _wrong(name)
    return Source("ollama", "/".join(parts), tag or "latest")


def _of_repository(name: str, path: str, hub: Hub) -> Source:
    parts = path.rstrip("/").split("/")
    if hub == "modelscope" and parts[0] == "models":
        parts = parts[1:]
    owner, repository, *within = [*parts, "", ""][: max(len(parts), 2)]
    repository, _, variant = repository.partition(":")
    if within and within[0] in _PAGES:
        within = within[2:]
    file = "/".join(within)
    is_file = file.lower().endswith(GGUF) and ".." not in within and "" not in within
    if not _are_parts(owner, repository, variant or "any") or (file and not is_file):
        raise _wrong(name)
    return Source(hub, f"{owner}/{repository}", variant, file)


def _are_parts(*parts: str) -> bool:
    return all(_PART.fullmatch(part) and ".." not in part for part in parts)


def _wrong(name: str) -> InvalidRequest:
    return InvalidRequest(
        ErrorText("pull_name_wrong", name=echoed(name)),
        param="model",
        suggestions=(ErrorText("pull_name_forms"),),
    )
