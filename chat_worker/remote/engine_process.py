"""A model on another server, as an engine: `python -m chat_worker.remote.engine_process`.

The main thread reads the pipe; a second thread runs an event loop that holds the connections, with
one task for each call. It is a process like those of local models, so that loading, unloading,
queueing and crashes work alike for both; it holds no weights.
"""

import asyncio
import functools
import sys
import threading
import time
import traceback

from msgspec import Raw

from chat_worker import pipe_messages as m
from chat_worker.openai_request import generation
from chat_worker.remote.spec import RemoteSpec, spec_decoder
from chat_worker.remote.upstream import Upstream
from common.error_texts import ErrorText
from common.errors import BackendFailure, ServingError
from worker_runtime.engine_process.host import Outbox, host_engine


class RemoteEngine:
    """Implements `worker_runtime.engine_process.host.Engine`."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._loop = asyncio.new_event_loop()
        self._calls: _RemoteCalls | None = None

    def load(self, spec: Raw) -> m.Facts:
        wanted = spec_decoder.decode(spec)
        upstream = Upstream(wanted)
        threading.Thread(target=self._loop.run_forever, name="connections", daemon=True).start()
        asyncio.run_coroutine_threadsafe(upstream.check(), self._loop).result()
        self._calls = _RemoteCalls(upstream, wanted.model.max_concurrent, self._outbox)
        return _facts(wanted)

    def submit(self, call_id: int, body: Raw) -> None:
        assert self._calls is not None, "the worker loads before it submits"
        self._loop.call_soon_threadsafe(self._calls.begin, call_id, body)

    def cancel(self, call_id: int) -> None:
        if self._calls is not None:
            self._loop.call_soon_threadsafe(self._calls.cancel, call_id)

    def shed(self) -> None:
        """There is no cache to free."""

    def limit_caches(self, max_bytes: int) -> None:
        """There is no cache to limit."""

    def close(self) -> None:
        """The connections close when the process ends."""


class _RemoteCalls:
    """The open calls; everything runs on the event loop's thread."""

    def __init__(self, upstream: Upstream, most: int, outbox: Outbox) -> None:
        self._upstream = upstream
        self._outbox = outbox
        self._slots = asyncio.Semaphore(most)
        self._n_waiting = 0
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def begin(self, call_id: int, body: Raw) -> None:
        task = asyncio.create_task(self._answer(call_id, body), name=f"call {call_id}")
        self._tasks[call_id] = task
        task.add_done_callback(lambda _: self._tasks.pop(call_id))

    def cancel(self, call_id: int) -> None:
        if call_id in self._tasks:
            self._tasks[call_id].cancel()

    async def _answer(self, call_id: int, body: Raw) -> None:
        error: ServingError | None = None
        try:
            await self._forward(call_id, generation(m.request_decoder.decode(body), "remote"))
        except ServingError as raised:
            error = raised
        except OSError:
            return  # the pipe is closed: the process is about to end
        except Exception:  # noqa: BLE001 - a call's outermost frame: the others must continue
            traceback.print_exc(file=sys.stderr)
            error = BackendFailure(ErrorText("request_not_passed_on"))
        self._outbox.ended(call_id, error)

    async def _forward(self, call_id: int, request: m.Generate) -> None:
        emit = functools.partial(self._outbox.event, call_id)
        came_s = time.monotonic()
        if self._slots.locked():
            emit(m.Queued(self._n_waiting + 1))
        self._n_waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._n_waiting -= 1
        try:
            await self._upstream.generate(call_id, request, time.monotonic() - came_s, emit)
        finally:
            self._slots.release()


def _facts(spec: RemoteSpec) -> m.Facts:
    n_ctx = spec.model.context_length
    return m.Facts(
        backend="remote",
        n_ctx=n_ctx,
        n_ctx_train=n_ctx,
        n_vocab=0,
        n_parallel=spec.model.max_concurrent,
        n_cells=0,
        description=f"{spec.model.model} on another server",
    )


def main() -> None:
    host_engine(RemoteEngine)


if __name__ == "__main__":
    main()
