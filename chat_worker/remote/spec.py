"""What is known of a remote model: its table in the configuration, and what its process gets."""

from typing import Annotated
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

Seconds = Annotated[float, Meta(gt=0, le=86_400)]
NonEmptyText = Annotated[str, Meta(min_length=1, max_length=256)]


class RemoteModel(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[models]]` table."""

    id: NonEmptyText
    # Up to and with "/v1".
    base_url: str
    # Serve requests that name no model; of several the first does.
    default: bool = False
    # The other server's name for it; empty: the id.
    model: str = ""
    # The key: a file that holds it, or its name in REMOTE_API_KEYS.
    api_key_file: str = ""
    api_key_name: str = ""
    headers: dict[str, str] = {}
    # Tokens, for those who ask how long it is; 0: not known.
    context_length: Annotated[int, Meta(ge=0, le=2**31)] = 0
    # Longest silence of the other server.
    timeout_s: Seconds = 300.0
    # Requests sent at the same time; more wait here.
    max_concurrent: Annotated[int, Meta(ge=1, le=1024)] = 8
    # Certificates of authorities to trust instead of the public ones.
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
