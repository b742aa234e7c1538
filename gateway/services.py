"""What a route needs beside its request: settings, workers and metrics; one object per app."""

from starlette.requests import Request

from gateway.custom_models import CustomModels
from gateway.metrics import Metrics
from gateway.middleware.body_budget import BodyBudget, fitting_bytes
from gateway.middleware.rate_limit import RateLimit
from gateway.model_names import ModelNames
from gateway.pool import Pool
from gateway.pool.calls import TimeLimits
from gateway.pool.new_models import NewModels
from gateway.pulls import Pulls
from gateway.settings import GatewaySettings
from gateway.stored_responses.history import StoredResponses
from gateway.stored_responses.sqlite_store import SqliteStore
from gateway.stored_responses.store import MemoryStore, ResponseStore
from gateway.translate.sampling import ChatDefaults
from gateway.transport.drain import Drain
from gateway.transport.sse import StreamLimits
from gateway.transport.supervision import Supervision


class Services:
    def __init__(self, settings: GatewaySettings, pool: Pool) -> None:
        self.settings = settings
        self.pool = pool
        self.body_budget = BodyBudget(
            settings.max_body_bytes_in_flight or fitting_bytes(settings.largest_body_bytes)
        )
        self.metrics = Metrics(pool, self.body_budget, detailed=settings.detailed_metrics)
        self.custom_models = CustomModels(settings.custom_models_file)
        self.model_names = ModelNames(
            settings.aliases, falls_back=settings.falls_back, custom=self._custom_base
        )
        self.new_models = NewModels(pool)
        self.pulls = Pulls(settings.max_pulls)
        self.responses = StoredResponses(_store(settings))
        self.drain = Drain()
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
            settings.request_timeout_s, settings.next_token_timeout_s, settings.stream_timeout_s
        )
        self.sse_limits = StreamLimits(
            settings.sse_comment_interval_s, settings.sse_progress_after_s
        )

    def _custom_base(self, name: str) -> str | None:
        made = self.custom_models.find(name)
        return None if made is None else made.model


def _store(settings: GatewaySettings) -> ResponseStore:
    if settings.responses_store_path is None:
        return MemoryStore(settings.responses_store_bytes)
    return SqliteStore(settings.responses_store_path, settings.responses_store_bytes)


def services_of(request: Request) -> Services:
    found = request.app.state.services
    assert isinstance(found, Services)
    return found
