"""What a route needs beside its request: settings, workers and metrics; one object per app."""

from typing import TYPE_CHECKING

from starlette.requests import Request

from common.setting_origins import shown_settings
from common.settings import split_list
from common.tracing import Tracer
from gateway.batches.batches import Batches
from gateway.batches.records import Batch
from gateway.custom_models import CustomModels
from gateway.keys.budgets import Budgets
from gateway.keys.endpoints import may_call, need_of
from gateway.keys.kept_usage import ledger_of
from gateway.keys.store import Keys
from gateway.keys.sums import Sums
from gateway.metrics import Metrics
from gateway.middleware.body_budget import BodyBudget, fitting_bytes
from gateway.middleware.rate_limit import RateLimit
from gateway.middleware.request_context import RequestContext
from gateway.model_names import ModelNames
from gateway.pool import Pool
from gateway.pool.calls import TimeLimits
from gateway.pool.new_models import NewModels
from gateway.pulls import Pulls
from gateway.settings import GatewaySettings
from gateway.sharing.capacity import capacity_of
from gateway.sharing.fair_queue import FairQueue
from gateway.stored_responses.background import BackgroundResponses
from gateway.stored_responses.conversations import StoredConversations
from gateway.stored_responses.history import StoredResponses
from gateway.stored_responses.sqlite_store import SqliteStore
from gateway.stored_responses.store import MemoryStore, ResponseStore
from gateway.translate.sampling import ChatDefaults
from gateway.transport.drain import Drain
from gateway.transport.proxies import TrustedProxies
from gateway.transport.sse import StreamLimits
from gateway.transport.supervision import Supervision

if TYPE_CHECKING:
    # It needs a library that is there only where a guard is wanted.
    from gateway.guard.guard import Guard, RequestGuard


class Services:
    def __init__(self, settings: GatewaySettings, pool: Pool) -> None:
        self.settings = settings
        self.pool = pool
        self.tracer = Tracer.of(settings, "gateway")
        self.keys = Keys(settings)
        self.budgets = Budgets(Sums(ledger_of(settings)))
        self.body_budget = BodyBudget(
            settings.max_body_bytes_in_flight or fitting_bytes(settings.largest_body_bytes)
        )
        self.turns = FairQueue(self._capacity)
        self.metrics = Metrics(
            pool, self.body_budget, self.turns, detailed=settings.detailed_metrics
        )
        self._guard = _guard(settings, self.metrics)
        self.custom_models = CustomModels(settings.custom_models_file)
        self.model_names = ModelNames(
            settings.aliases,
            falls_back=settings.falls_back,
            of_workers=pool.id_of_alias,
            custom=self._custom_base,
        )
        self.new_models = NewModels(pool)
        self.pulls = Pulls(settings.max_pulls)
        store = _store(settings)
        self.responses = StoredResponses(store, settings.background_timeout_s)
        self.conversations = StoredConversations(store, self.responses)
        self.shown_settings = shown_settings(settings)
        self.drain = Drain()
        self.proxies = TrustedProxies(split_list(settings.trusted_proxies))
        self.background = BackgroundResponses(
            settings.max_background_responses, settings.most_at_once, self.drain
        )
        self.batches = Batches(
            settings.batches_path, settings.batches_bytes, settings.max_body_bytes
        )
        self.supervision = Supervision()
        rate = settings.rate
        storage = settings.rate_limit_storage.get_secret_value()
        self.rate_limit = RateLimit(rate, storage) if rate else None
        self.chat_defaults = ChatDefaults(
            settings.default_temperature, settings.default_top_p, settings.default_max_tokens
        )
        self.plain_limits = TimeLimits(
            settings.request_timeout_s, settings.next_token_timeout_s, settings.request_timeout_s
        )
        self.stream_limits = TimeLimits(
            settings.stream_first_token_s, settings.next_token_timeout_s, settings.stream_timeout_s
        )
        # Nobody waits for its first token.
        self.background_limits = TimeLimits(
            settings.background_timeout_s,
            settings.next_token_timeout_s,
            settings.background_timeout_s,
        )
        self.sse_limits = StreamLimits(
            settings.sse_comment_interval_s, settings.sse_progress_after_s
        )

    def guard_of(self, context: RequestContext) -> "RequestGuard | None":
        """What guards a request; None: nothing does."""
        return None if self._guard is None else self._guard.of(context)

    async def close(self) -> None:
        """Once no request runs any more."""
        if self._guard is not None:
            await self._guard.close()
        if self.rate_limit is not None:
            await self.rate_limit.close()
        self.responses.close()
        if self.tracer is not None:
            await self.tracer.close()

    def batch_context(self, batch: Batch, request_id: str) -> RequestContext | None:
        """The context of a request of a batch; None if its client may not make it any more."""
        need = need_of("POST", batch.endpoint)
        context = RequestContext(request_id, self.drain, self.metrics.count_error)
        context.kind, context.background = need.kind, True
        if not self.keys.required:
            return context
        key = self.keys.of_client(batch.owner)
        if key is None or not (key.admin or may_call(key.endpoints, need.group)):
            return None
        context.key, context.client, context.cache_salt = key, key.client, key.cache_salt
        return context

    def defaults_of(self, model: str | None) -> ChatDefaults:
        """What a request for this model means where it does not say; None: the default model."""
        of_model = self.pool.sampling_of(model or "")
        return self.chat_defaults if of_model is None else self.chat_defaults.with_model(of_model)

    def _capacity(self, model: str) -> int | None:
        # Without keys all clients are programs of one person.
        if not self.keys.required:
            return None
        return capacity_of(self.pool.chat, self.settings.worker_slots, model)

    def _custom_base(self, name: str) -> str | None:
        made = self.custom_models.find(name)
        return None if made is None else made.model


def _guard(settings: GatewaySettings, metrics: Metrics) -> "Guard | None":
    if settings.guard_policy is None:
        return None
    from gateway.guard.guard import Guard

    return Guard(settings.guard_policy, metrics.measures)


def _store(settings: GatewaySettings) -> ResponseStore:
    if settings.responses_store_path is None:
        return MemoryStore(settings.responses_store_bytes)
    return SqliteStore(settings.responses_store_path, settings.responses_store_bytes)


def services_of(request: Request) -> Services:
    found = request.app.state.services
    assert isinstance(found, Services)
    return found
