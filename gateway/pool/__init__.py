"""The workers: where they are, which of them serve, which one gets a call, and the call itself."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from common.settings import Certificates
from gateway.pool.workers import Workers
from protos.y26hkx.v1 import worker_pb2


class Pool:
    """The chat and the embedding workers of one gateway."""

    def __init__(
        self,
        chat: list[str],
        embed: list[str],
        token: str,
        certificates: Certificates | None = None,
        wait_s: float = 0.0,
        slow_factor: float = 0.0,
    ) -> None:
        self.chat = Workers(chat, token, certificates, wait_s, slow_factor)
        self.embed = Workers(embed, token, certificates, wait_s, slow_factor)

    def id_of_alias(self, alias: str) -> str | None:
        """The id of the model that a serving worker knows by this other name."""
        found = (endpoint.id_of(alias) for endpoint in (*self.chat.serving, *self.embed.serving))
        return next((id for id in found if id is not None), None)

    def sampling_of(self, model: str) -> worker_pb2.SamplingDefaults | None:
        """How tokens of a chat model are chosen where a request does not say; None: as the gateway
        chooses. "" is the default model."""
        model = model or self.chat.known_id("")
        found = (endpoint.sampling_of(model) for endpoint in self.chat.serving)
        return next((one for one in found if one is not None), None)

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Watch all workers; their channels are closed at the end."""
        async with asyncio.TaskGroup() as tasks:
            watchers = [tasks.create_task(w.watch()) for w in (self.chat, self.embed)]
            try:
                yield
            finally:
                for watcher in watchers:
                    watcher.cancel()
