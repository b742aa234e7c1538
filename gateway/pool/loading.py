"""Loads a model on every worker that has it, and reports one progress."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

import grpc

from gateway.pool.call_errors import serving_error
from gateway.pool.endpoint import Endpoint
from protos.y26hkx.v1 import worker_pb2

Options = Callable[[Endpoint], dict[str, Any]]


async def load_everywhere(
    workers: Sequence[Endpoint], message: worker_pb2.LoadModelRequest, options: Options
) -> AsyncGenerator[worker_pb2.LoadProgress, None]:
    """The progress of the worker that is furthest behind; ends when all are ready.

    Args:
        options: metadata and timeout of a call to a worker.
    Raises:
        ServingError: the first failure, which ends the other loads.
    """
    latest = [worker_pb2.LoadProgress() for _ in workers]
    reported: worker_pb2.LoadProgress | None = None
    news: asyncio.Queue[worker_pb2.LoadProgress | None] = asyncio.Queue()

    async def follow(at: int, worker: Endpoint) -> None:
        nonlocal reported
        call = worker.worker.LoadModel(message, **options(worker))
        try:
            async for progress in call:
                latest[at] = progress
                last = min(latest, key=lambda p: (p.state, p.fraction))
                # Only after each worker has reported something.
                if last.state and last != reported:
                    reported = last
                    news.put_nowait(last)
        except grpc.aio.AioRpcError as error:
            raise serving_error(error) from None
        finally:
            call.cancel()

    async def follow_all() -> None:
        async with asyncio.TaskGroup() as tasks:
            for at, worker in enumerate(workers):
                tasks.create_task(follow(at, worker))

    following = asyncio.create_task(follow_all())
    following.add_done_callback(lambda _: news.put_nowait(None))
    try:
        while (progress := await news.get()) is not None:
            yield progress
        await following
    except ExceptionGroup as group:
        raise group.exceptions[0] from None
    finally:
        following.cancel()
        await asyncio.wait({following})
