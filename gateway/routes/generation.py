"""What all generating routes have in common: a stream with its metrics, and response headers."""

import re
import secrets
import time
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from starlette.requests import Request

from gateway.errors import shorten
from gateway.generation_stream import GenerationStream
from gateway.middleware.request_context import context_of
from gateway.pool.calls import TimeLimits
from gateway.routes.embedder import check_chats
from gateway.schemas.base import ApiModel
from gateway.schemas.ignored import ignored_fields
from gateway.services import Services
from protos.y26hkx.v1 import chat_pb2

NOT_HEADER_TEXT = re.compile(r"[^ -~]")
MAX_REDUCED = 1000
# Clients take 8 KiB of a header line.
MAX_NAMES = 64


class CountedGeneration:
    """One API request that generates.

    Args:
        body: its parsed body, for the fields that have no effect.
        ignored: more fields without effect, from inside of others.
        names: this API's names of the fields that a worker may report as ignored.
    Raises:
        InvalidRequest: its model is an embedding model.
    """

    def __init__(
        self,
        request: Request,
        services: Services,
        body: ApiModel,
        limits: TimeLimits,
        ignored: Iterable[str] = (),
        names: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        check_chats(services, getattr(body, "model", None) or "")
        self._services = services
        self._began_s = time.perf_counter()
        self._names = names
        self._ignored = {*ignored_fields(body), *ignored}
        self.context = context_of(request.scope)
        self.generation = GenerationStream(
            services.pool.chat, self.context.request_id, limits, self._count
        )
        services.metrics.chat_requests.inc()

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Ignored parameters, trimmed input and reductions; known when the worker has started."""
        started = self.generation.started
        found = []
        unused = (self._names.get(name, name) for name in started.ignored)
        if ignored := header_of_names({*self._ignored, *unused}):
            found.append((b"x-ignored-parameters", ignored.encode("ascii")))
        if started.trimmed_tokens:
            found.append((b"x-trimmed-tokens", b"%d" % started.trimmed_tokens))
            found.append((b"x-trimmed-messages", b"%d" % started.trimmed_messages))
        if started.reductions:
            reduced = NOT_HEADER_TEXT.sub("?", "; ".join(started.reductions))
            found.append((b"x-y26hkx-reduced", reduced[:MAX_REDUCED].encode("ascii")))
        return found

    def header_dict(self) -> dict[str, str]:
        return {k.decode("latin-1"): v.decode("latin-1") for k, v in self.headers()}

    def _count(self, event: chat_pb2.GenerateEvent) -> None:
        if event.HasField("finished"):
            self._services.metrics.count_tokens(event.finished.usage)
            self._services.metrics.count_chat(time.perf_counter() - self._began_s)


def header_of_names(names: Iterable[str]) -> str:
    """Names of parameters, which clients may have made up, as a header can hold them."""
    found = sorted({NOT_HEADER_TEXT.sub("?", shorten(name)) for name in names})
    return ", ".join(found[:MAX_NAMES])


def new_id(prefix: str) -> str:
    return f"{prefix}-{secrets.token_hex(12)}"
