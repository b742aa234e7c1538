"""What all generating routes have in common: a stream with its metrics, and response headers."""

import re
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from types import MappingProxyType

from starlette.requests import Request

from common.tracing import step
from gateway.generation_stream import GenerationStream, OnEvent
from gateway.measures.by_label import OTHER
from gateway.measures.generation import Generation
from gateway.middleware.request_context import context_of, random_id
from gateway.pool.calls import TimeLimits
from gateway.routes.counted_call import CountedCall
from gateway.routes.embedder import check_chats
from gateway.routes.ignored_header import header_of_names
from gateway.routes.patience import patient
from gateway.routes.traced_calls import traced_generation
from gateway.schemas.base import ApiModel
from gateway.schemas.ignored import ignored_fields
from gateway.services import Services
from gateway.sharing.fair_queue import Ask, Turn
from gateway.translate.progress import queue_text
from gateway.translate.token_estimate import tokens_at_most
from protos.y26hkx.v1 import chat_pb2

NOT_HEADER_TEXT = re.compile(r"[^ -~]")
MAX_REDUCED = 1000
# Names of tiers whose requests may wait for all others.
BACKGROUND_TIERS = ("flex", "batch")


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
        stream = bool(getattr(body, "stream", False))
        self._limits = patient(limits, request.scope, stream=stream)
        self._turn: Turn | None = None
        self._began_s = time.perf_counter()
        self._names = names
        self._ignored = {*ignored_fields(body), *ignored}
        if services.keys.required:
            self._ignored.discard("service_tier")
        self.context = context_of(request.scope)
        if getattr(body, "service_tier", None) in BACKGROUND_TIERS:
            self.context.background = True
        self.generation = GenerationStream(
            services.pool.chat,
            self.context.request_id,
            self._limits,
            self._counted,
            services.guard_of(self.context),
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

    def waiting(self) -> str:
        """The text of a comment for a waiting client."""
        if self._turn is None or not self._turn.waits:
            return self.generation.waiting()
        position, wait_s = self._services.turns.position(self._turn)
        return queue_text(position, wait_s)

    @asynccontextmanager
    async def _counted(self, request: chat_pb2.GenerateRequest) -> AsyncIterator[OnEvent]:
        """One call, within the limits of the client's key, and in its turn."""
        n_tokens = tokens_at_most(request, self._services.chat_defaults.max_tokens)
        budgets, key = self._services.budgets, self.context.key
        lease, states = await budgets.reserve(key, "chat", request.model, n_tokens)
        self.context.limits += states
        metrics = self._services.metrics
        key_measures = metrics.measures.keys[self.context.key_label]
        model = self.generation.model or OTHER
        times = Generation(metrics.measures, model, key_measures, self.context.arrived_s)
        call = CountedCall(lease, times, metrics, self._began_s)
        try:
            async with self._turn_of(self._ask(model, n_tokens, request.n)) as turn:
                times.dispatch()
                with traced_generation(request, call.see) as see:
                    yield see
                turn.n_used = lease.prompt_tokens + lease.completion_tokens
        finally:
            times.end()
            lease.close()

    @asynccontextmanager
    async def _turn_of(self, ask: Ask) -> AsyncIterator[Turn]:
        async with AsyncExitStack() as stack:
            with step("queue"):
                turn = await stack.enter_async_context(self._services.turns.turn(ask, self._wait))
            yield turn

    def _ask(self, model: str, n_tokens: int, n_choices: int) -> Ask:
        key = self.context.key
        return Ask(
            model,
            self.context.client,
            n_tokens,
            max(1, n_choices),
            0 if key is None else key.priority,
            self.context.background,
            self._limits.first_s,
        )

    def _wait(self, turn: Turn) -> None:
        self._turn = turn


def new_id(prefix: str) -> str:
    """An id for a reply; like that of a request it is no secret."""
    return f"{prefix}-{random_id()}"
