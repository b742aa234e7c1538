"""What the gateway knows of one request beside its body; made by the outermost middleware."""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from common.errors import ServingError
from gateway.transport.drain import Drain

SCOPE_KEY = "y26hkx"
# What these begin is counted, limited, and refused while draining.
API_PATHS = (
    "/v1/",
    "/v2/",
    "/chat/completions",
    "/completions",
    "/responses",
    "/models",
    "/embeddings",
    "/rerank",
    "/score",
    "/tokenize",
    "/detokenize",
    "/apply-template",
)
# No secrets, and asking the system for each costs as much as routing a request.
_ids = random.Random()
_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(slots=True)
class RequestContext:
    """Args:
    request_id: in every response, error and log line.
    on_error: called for each error that the client is told.
    client: "key:<digest prefix>" or "address:<ip>"; who limits are counted for.
    cache_salt: separates prefix caches of keys; empty without keys.
    error_language: tag of a language, or "auto": as the request asks.
    headers: added to the response, whatever it becomes.
    error_code: of the latest error that the client was told; empty: none.
    """

    request_id: str
    drain: Drain
    on_error: Callable[[ServingError], None]
    client: str = ""
    cache_salt: str = ""
    error_language: str = "auto"
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    error_code: str = ""

    def note_error(self, error: ServingError) -> None:
        """The client is told of it."""
        self.error_code = error.code
        self.on_error(error)


def new_request_id(offered: str | None) -> str:
    """The client's own id if it is harmless, else a fresh one."""
    if offered is not None and _SANE_ID.fullmatch(offered):
        return offered
    return f"req_{_ids.getrandbits(96):024x}"


def context_of(scope: Any) -> RequestContext:
    context = scope[SCOPE_KEY]
    assert isinstance(context, RequestContext)
    return context


def header(scope: Any, name: bytes) -> str | None:
    """The first header of that name (lower case), as latin-1 text."""
    return next((v.decode("latin-1") for k, v in scope["headers"] if k == name), None)
