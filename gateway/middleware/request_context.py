"""What the gateway knows about a request beside its body; the outermost middleware creates it."""

import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from common.errors import ServingError
from gateway.keys.endpoints import Kind
from gateway.keys.record import KeyRecord
from gateway.middleware.limit_headers import LimitState
from gateway.transport.drain import Drain

SCOPE_KEY = "y26hkx"
# Requests of paths that begin with these are counted, limited, and refused while draining.
API_PATHS = (
    "/v1/",
    "/v2/",
    "/api/",
    "/infill",
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
# Ids are no secrets; random bytes of the system would cost as much as routing a request.
_ids = random.Random()
_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(slots=True)
class RequestContext:
    """
    Args:
        request_id: part of every response, error and log line.
        on_error: called for each error that is sent to the client.
        client: "key:<digest prefix>" or "address:<ip>", by which limits are counted.
        cache_salt: separates the prefix caches of keys; empty without keys.
        key: of the client; None where no key is needed.
        kind: of work, by whose limits it is counted; None: it computes nothing.
        limits: those of the client after this request, for the headers of the response.
        error_language: tag of a language, or "auto": as the request accepts.
        headers: added to any response.
        acted_on: what an action for admins is about, for the audit log.
        background: whether it may wait for all others.
        arrived_s: when the request arrived, by `time.perf_counter`.
        error_code: of the latest error that was sent to the client; empty: none.
        trace_id: of its trace; empty: it is in none.
    """

    request_id: str
    drain: Drain
    on_error: Callable[[ServingError], None]
    client: str = ""
    cache_salt: str = ""
    key: KeyRecord | None = None
    kind: Kind | None = None
    limits: list[LimitState] = field(default_factory=list)
    error_language: str = "auto"
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    background: bool = False
    acted_on: dict[str, str] = field(default_factory=dict)
    error_code: str = ""
    trace_id: str = ""
    arrived_s: float = field(default_factory=time.perf_counter)

    @property
    def key_label(self) -> str:
        """The client's key in metrics; empty where no key is needed."""
        return "" if self.key is None else self.key.alias or self.key.id

    def note_error(self, error: ServingError) -> None:
        """Record an error that is sent to the client."""
        self.error_code = error.code
        self.on_error(error)


def new_request_id(offered: str | None) -> str:
    """The client's own id if it is valid, else a new one."""
    if offered is not None and _SANE_ID.fullmatch(offered):
        return offered
    return f"req_{random_id()}"


def random_id() -> str:
    """The part of an id that makes it differ from others."""
    return f"{_ids.getrandbits(96):024x}"


def context_of(scope: Any) -> RequestContext:
    context = scope[SCOPE_KEY]
    assert isinstance(context, RequestContext)
    return context


def header(scope: Any, name: bytes) -> str | None:
    """The first header of that name (lower case), as latin-1 text."""
    return next((v.decode("latin-1") for k, v in scope["headers"] if k == name), None)
