"""The worker's part in a direct stream: it begins and ends it, and counts what it served."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncGenerator

from common.direct_stream import SECRET_BYTES
from common.errors import ServingError
from embed_worker import pipe_messages as m
from embed_worker.translate import served_model
from protos.y26hkx.v1 import embed_pb2 as pb
from worker_runtime.aio import first_of
from worker_runtime.lifecycle.leases import Lease


async def serve_direct_stream(
    lease: Lease, draining: asyncio.Event, max_inputs: int
) -> AsyncGenerator[pb.DirectStream, None]:
    """Let the leased model's process serve one stream; yields where, and returns at its end.

    Args:
        draining: set when the worker takes no more calls.
        max_inputs: the most inputs of one call.
    Raises:
        ServingError: the process serves too many streams, or died.
    """
    secret = secrets.token_bytes(SECRET_BYTES)
    served = served_model(lease).SerializeToString()
    listen = m.Listen(secret=secret, served_model=served, max_inputs=max_inputs)
    ending = asyncio.create_task(_end_when_due(lease, draining, secret))
    try:
        async with contextlib.aclosing(lease.engine.call(listen)) as events:
            async for event in events:
                match m.stream_decoder.decode(event):
                    case m.Listening(port=port):
                        yield pb.DirectStream(port=port, secret=secret)
                    case m.Served() as served_calls:
                        _count(lease, served_calls)
    finally:
        ending.cancel()


async def _end_when_due(lease: Lease, draining: asyncio.Event, secret: bytes) -> None:
    await first_of(lease.ending.wait(), draining.wait())
    # If the process died, the stream itself says so.
    with contextlib.suppress(ServingError):
        async for _ in lease.engine.call(m.StopListening(secret)):
            pass


def _count(lease: Lease, served: m.Served) -> None:
    lease.count_calls(served.n_calls)
    lease.count_tokens(prompt=served.n_tokens, cached=served.n_cached_tokens)
    lease.count_caches(served.caches)
