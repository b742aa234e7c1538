"""The configuration of a remote model, and what its engine process receives of it."""

from typing import Annotated
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

Seconds = Annotated[float, Meta(gt=0, le=86_400)]
NonEmptyText = Annotated[str, Meta(min_length=1, max_length=256)]


class RemoteModel(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[models]]` table."""

    id: NonEmptyText
    # The address up to and including "/v1".
    base_url: str
    # Serve requests that name no model; the first such model is used.
    default: bool = False
    # The name on the other server; empty: the id.
    model: str = ""
    # The API key: a file that contains it, or its name in REMOTE_API_KEYS.
    api_key_file: str = ""
    api_key_name: str = ""
    headers: dict[str, str] = {}
    # Context length in tokens, as reported to clients; 0: unknown.
    context_length: Annotated[int, Meta(ge=0, le=2**31)] = 0
    # The longest time without any data from the other server.
    timeout_s: Seconds = 300.0
    # Requests sent at the same time; further ones wait here.
    max_concurrent: Annotated[int, Meta(ge=1, le=1024)] = 8
    # Certificates of the authorities to trust instead of the public ones.
    ca_file: str = ""

    def __post_init__(self) -> None:
        url = urlsplit(self.base_url)
        if url.scheme not in ("http", "https") or not url.hostname or url.port == 0:
            raise ValueError("base_url must begin with http:// or https:// and name a host")
        if url.username or url.password or url.query or url.fragment:
            raise ValueError("base_url must not hold a key, a query or a fragment")
        if self.api_key_file and self.api_key_name:
            raise ValueError("only one of api_key_file and api_key_name can be set")


class RemoteSpec(Struct, kw_only=True):
    """What the engine process needs."""

    model: RemoteModel
    # From REMOTE_API_KEYS; a key in a file is read by the process that uses it.
    api_key: str = ""
    default_system_prompt: str = ""
    global_seed: int | None = None


spec_decoder: msgspec.msgpack.Decoder[RemoteSpec] = msgspec.msgpack.Decoder(RemoteSpec)
