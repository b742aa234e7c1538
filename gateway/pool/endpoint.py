"""One worker address: its channel, whether it serves, and its latest status."""

import asyncio
import hashlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from common.loopback import is_loopback
from common.model_ids import folded_id
from common.rpc_limits import MAX_MESSAGE_BYTES, TOKEN_KEY
from common.settings import Certificates
from gateway.pool.chat_stream import ChatStub
from gateway.pool.conduct import Conduct
from gateway.pool.direct_streams import DirectStreams
from gateway.pool.embed_stream import EmbedStub
from gateway.pool.model_events import ModelEvent, events_between
from gateway.worker_targets import host_of
from protos.y26hkx.v1 import chat_pb2_grpc, embed_pb2_grpc, worker_pb2, worker_pb2_grpc

CHECK_INTERVAL_S = 3.0
CHECK_TIMEOUT_S = 5.0
STATUS_INTERVAL_S = 1.0
RETRY_S = 0.25
MOST_EVENTS = 100
CHANNEL_OPTIONS: list[tuple[str, int]] = [
    # A stopped worker is noticed within 15 s; with gRPC's defaults that takes a minute.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.enable_http_proxy", 0),
    # One connection per channel, so that two names for one address do not share a failure.
    ("grpc.use_local_subchannel_pool", 1),
]

log = logging.getLogger(__name__)


class Endpoint:
    """A worker to call: its stubs and its state.

    Args:
        address: its name in logs and in `/health/detailed`.
        target: the "host:port" of the settings that stands for it.
    """

    # Stubs of the services, or objects with the same methods.
    chat: Any
    embed: Any
    worker: Any

    def __init__(self, address: str, target: str = "") -> None:
        self.address = address
        # Where rendezvous hashing finds it: the same for all gateways.
        digest = hashlib.blake2b(address.encode(), digest_size=8).digest()
        self.place = int.from_bytes(digest, "big")
        self.target = target
        self.conduct = Conduct()
        self.serving = False
        self.status = worker_pb2.WorkerStatus()
        # The latest events of its models.
        self.events: deque[ModelEvent] = deque(maxlen=MOST_EVENTS)
        self._heard_s = 0.0
        # Of the models in the status: each call asks every worker for its model.
        self._folded_ids: frozenset[str] = frozenset()
        # Ids of those that need not be loaded first, by folded ids and "" for the default model.
        self._ready_ids: dict[str, str] = {}
        # What models.toml there says: ids by the models' other names, folded, and models by folded
        # ids that have sampling parameters of their own.
        self._aliases: dict[str, str] = {}
        self._sampling: dict[str, worker_pb2.SamplingDefaults] = {}
        # Calls of this gateway to this worker that have not ended.
        self.n_outstanding = 0
        # Calls of its conversations that went elsewhere, because it had too many.
        self.n_diverted = 0
        self.metadata: tuple[tuple[str, str], ...] = ()

    async def check(self) -> None:
        """Find out whether it serves now, as a call to it has just failed."""

    def hear(self, status: worker_pb2.WorkerStatus) -> None:
        """Store the latest status of the worker, and what happened since the last one."""
        self.events.extend(events_between(self.status, status))
        self.status, self._heard_s = status, time.monotonic()
        models = {folded_id(model.id): model for model in status.models}
        self._folded_ids = frozenset(models)
        self._aliases = {
            folded: model.id
            for model in status.models
            for folded in map(folded_id, model.aliases)
            # An id is never another model's alias.
            if folded not in models
        }
        self._sampling = {id: m.sampling for id, m in models.items() if m.HasField("sampling")}
        ready = [m for m in status.models if m.state == worker_pb2.MODEL_STATE_READY]
        names = ((name, m) for m in ready for name in (folded_id(m.id), *([""] * m.is_default)))
        self._ready_ids = {name: m.id for name, m in names}

    def hear_models(self, models: Iterable[worker_pb2.Model]) -> None:
        """Store newer data of the models; the rest of the status stays."""
        status = worker_pb2.WorkerStatus()
        status.CopyFrom(self.status)
        del status.models[:]
        status.models.extend(models)
        self.hear(status)

    def models(self) -> Iterator[worker_pb2.Model]:
        """Its models; times are advanced by the age of the status."""
        age_s = time.monotonic() - self._heard_s
        for reported in self.status.models:
            model = reported
            if reported.HasField("idle_s"):
                model = worker_pb2.Model()
                model.CopyFrom(reported)
                model.idle_s += age_s
                if model.HasField("expires_in_s"):
                    model.expires_in_s = max(model.expires_in_s - age_s, 0.0)
            yield model

    def has_ready(self, model: str) -> bool:
        """Whether the model is loaded; empty: the default model."""
        return self.ready_id(model) is not None

    def ready_id(self, model: str) -> str | None:
        """The id of the model, as the worker writes it, if it is loaded; empty: the default
        model."""
        return self._ready_ids.get(folded_id(model))

    def id_of(self, alias: str) -> str | None:
        """The id of the model that has this other name."""
        return self._aliases.get(folded_id(alias))

    def sampling_of(self, model: str) -> worker_pb2.SamplingDefaults | None:
        """How tokens of this model are chosen where a request does not say."""
        return self._sampling.get(folded_id(model))

    def lists(self, model: str) -> bool:
        return not model or folded_id(model) in self._folded_ids


class Tls(NamedTuple):
    certificates: Certificates
    # The configured host name; the channel connects to one of its addresses.
    name: str


def _channel(address: str, tls: Tls | None) -> grpc.aio.Channel:
    if tls is None:
        return grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
    authority, chain, key = tls.certificates
    credentials = grpc.ssl_channel_credentials(authority, key, chain)
    options = [*CHANNEL_OPTIONS, ("grpc.ssl_target_name_override", tls.name)]
    return grpc.aio.secure_channel(address, credentials, options=options)


class RemoteEndpoint(Endpoint):
    """A worker behind a socket.

    Args:
        address: "host:port".
        target: as above.
        token: sent with every call but health checks; empty: none.
        tls: certificates of this side, and the name that the worker has to prove; None: no TLS.
        on_serving: called when it begins to serve.
    """

    def __init__(
        self,
        address: str,
        target: str,
        token: str,
        tls: Tls | None = None,
        on_serving: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(address, target)
        self.channel = _channel(address, tls)
        self.worker = worker_pb2_grpc.WorkerServiceStub(self.channel)
        self._health: Any = health_pb2_grpc.HealthStub(self.channel)
        self._logged_reason = ""
        self._on_serving = on_serving
        self.metadata = ((TOKEN_KEY, f"Bearer {token}"),) if token else ()
        self.chat = ChatStub(chat_pb2_grpc.ChatServiceStub(self.channel), self.metadata)
        embed = embed_pb2_grpc.EmbedServiceStub(self.channel)
        self._direct: DirectStreams | None = None
        if is_loopback(host_of(address)):
            self._direct = DirectStreams(embed, self.metadata, self.ready_id)
        self.embed = EmbedStub(embed, self.metadata, self._direct)

    async def watch(self) -> None:
        """Keep `serving` and `status` up to date until cancelled; then close the channel."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._watch_health())
                tasks.create_task(self._check_alive())
                tasks.create_task(self._watch_status())
                tasks.create_task(self.chat.keep_open())
                tasks.create_task(self.embed.keep_open())
                if self._direct is not None:
                    tasks.create_task(self._direct.keep_open())
        finally:
            self._mark(False)
            await self.channel.close()

    def _mark(self, serving: bool) -> None:
        if serving != self.serving:
            log.info("worker %s is %s", self.address, "serving" if serving else "not serving")
            if serving:
                self.conduct.begin_anew()
        self.serving = serving
        if serving:
            self._logged_reason = ""
            self._on_serving()

    def _log_unreachable(self, reason: str) -> None:
        """Log each reason once: a wrong certificate would look like a worker that is starting."""
        if reason != self._logged_reason:
            log.info("worker %s cannot be reached: %s", self.address, reason)
            self._logged_reason = reason

    async def _watch_health(self) -> None:
        """Receive changes as soon as they happen."""
        while True:
            call = self._health.Watch(health_pb2.HealthCheckRequest())
            try:
                async for reply in call:
                    self._mark(reply.status == health_pb2.HealthCheckResponse.SERVING)
            except grpc.aio.AioRpcError as error:
                self._mark(False)
                self._log_unreachable(error.details() or error.code().name)
            finally:
                call.cancel()
            self._mark(False)
            await asyncio.sleep(RETRY_S)

    async def _check_alive(self) -> None:
        """Check regularly, because a stopped process sends no changes."""
        while True:
            await asyncio.sleep(CHECK_INTERVAL_S)
            await self.check()

    async def check(self) -> None:
        try:
            reply = await self._health.Check(
                health_pb2.HealthCheckRequest(), timeout=CHECK_TIMEOUT_S
            )
            self._mark(reply.status == health_pb2.HealthCheckResponse.SERVING)
        except grpc.aio.AioRpcError:
            self._mark(False)

    async def _watch_status(self) -> None:
        while True:
            call = self.worker.WatchStatus(
                worker_pb2.WatchStatusRequest(interval_s=STATUS_INTERVAL_S),
                metadata=self.metadata,
            )
            try:
                async for status in call:
                    self.hear(status)
            except grpc.aio.AioRpcError as error:
                if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
                    log.warning("worker %s: status: %s", self.address, error.code().name)
            finally:
                call.cancel()
            await asyncio.sleep(RETRY_S)
