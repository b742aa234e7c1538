"""The workers: where they are, which of them serve, which one gets a call, and the call itself."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from common.settings import Certificates
from gateway.pool.workers import Workers


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
