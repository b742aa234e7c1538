"""Opens direct streams to the models of a worker on this machine that get many small calls.

A call on such a stream saves the way through the worker, which a short text notices. Whatever is
unusual goes through the worker: calls that are traced, name a keep-alive time, or fail.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

import grpc

from common.tracing import TRACE_KEYS
from gateway.pool.direct_stream import IDLE_S, DirectStream
from protos.y26hkx.v1 import embed_pb2 as pb

# How soon streams are tried again after one could not be opened.
RETRY_S = 10.0
# A worker ends its RPC within milliseconds after the stream.
END_S = 1.0

log = logging.getLogger(__name__)


class DirectStreams:
    """
    Args:
        stub: the stub of `EmbedService` that gRPC generated.
        metadata: sent with each RPC.
        ready_id: the id of a loaded model by its name in a request; None: it is not loaded.
    """

    def __init__(
        self,
        stub: Any,
        metadata: Sequence[tuple[str, str]],
        ready_id: Callable[[str], str | None],
    ) -> None:
        self._stub = stub
        self._metadata = metadata
        self._ready_id = ready_id
        # By model id; None: it is being opened.
        self._streams: dict[str, DirectStream | None] = {}
        # When the worker last answered a small call, by model id.
        self._answered_s: dict[str, float] = {}
        self._wanted: asyncio.Queue[str] = asyncio.Queue()
        self._not_before_s = 0.0

    def find(
        self, request: pb.EmbedRequest, metadata: Sequence[tuple[str, str]]
    ) -> DirectStream | None:
        """The stream that takes this small call; None: it goes through the worker."""
        id = self._ready_id(request.model)
        stream = None if id is None else self._streams.get(id)
        if stream is None or not stream.is_open:
            return None
        if request.HasField("keep_alive_s"):
            # The model's use is to end with this call.
            stream.end()
            return None
        is_traced = any(key in TRACE_KEYS for key, _ in metadata)
        return None if is_traced else stream

    def note(self, request: pb.EmbedRequest) -> None:
        """The worker answered this small call. Calls that follow each other get a stream."""
        id = self._ready_id(request.model)
        if id is None or id in self._streams or request.HasField("keep_alive_s"):
            return
        now_s = asyncio.get_running_loop().time()
        before_s, self._answered_s[id] = self._answered_s.get(id, 0.0), now_s
        if now_s - before_s < IDLE_S and now_s >= self._not_before_s:
            self._streams[id] = None
            self._wanted.put_nowait(id)

    async def keep_open(self) -> None:
        """Open the streams that are wanted; until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                tasks.create_task(self._keep(await self._wanted.get()))

    async def _keep(self, id: str) -> None:
        """One stream from its beginning to its end."""
        request = pb.DirectStreamRequest(model=id)
        call = self._stub.OpenDirectStream(request, metadata=self._metadata)
        stream: DirectStream | None = None
        try:
            where = await call.read()
            if isinstance(where, pb.DirectStream):
                stream = self._streams[id] = await DirectStream.connected(where)
                await stream.closed.wait()
                # The worker ends the call when it has counted what the stream served; cancelled
                # now, the call would look like a failure to it.
                async with asyncio.timeout(END_S):
                    await call.read()
        except (grpc.aio.AioRpcError, OSError) as error:
            # An old worker has no such streams, and where addresses lie it cannot be reached.
            log.debug("no direct stream to %s: %s", id, error)
            self._not_before_s = asyncio.get_running_loop().time() + RETRY_S
        finally:
            del self._streams[id]
            call.cancel()
            if stream is not None:
                stream.break_off()
