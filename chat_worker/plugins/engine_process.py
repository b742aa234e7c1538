"""A model run by a third-party backend: `python -m chat_worker.plugins.engine_process`.

The main thread reads the pipe; a second thread runs the calls one after the other.
"""

import functools
import queue
import sys
import threading
import time
import traceback

from msgspec import Raw

from chat_worker import pipe_messages as m
from chat_worker.openai_request import generation
from chat_worker.plugins.backend import ENTRY_POINT_GROUP, ChatBackend
from chat_worker.plugins.generation import PluginGeneration
from chat_worker.plugins.models import installed_backends
from common.error_texts import ErrorText
from common.errors import BackendFailure, BackendLoadFailed, ServingError
from worker_runtime.engine_process.host import Outbox, host_engine
from worker_runtime.model_files.odd_paths import path_of


class PluginEngine:
    """Implements `worker_runtime.engine_process.host.Engine`."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._calls: _PluginCalls | None = None

    def load(self, spec: Raw) -> m.Facts:
        wanted = m.spec_decoder.decode(spec)
        self._calls = _PluginCalls(_load(wanted), wanted, self._outbox)
        self._calls.start()
        return m.Facts(
            backend=wanted.backend,
            n_ctx=wanted.n_ctx,
            n_ctx_train=wanted.n_ctx,
            n_vocab=0,
            n_parallel=1,
            n_cells=0,
            description=f"{wanted.model_id} with the backend {wanted.backend}",
        )

    def submit(self, call_id: int, body: Raw) -> None:
        assert self._calls is not None, "the worker loads before it submits"
        self._calls.put(call_id, body)

    def cancel(self, call_id: int) -> None:
        if self._calls is not None:
            self._calls.cancel(call_id)

    def shed(self) -> None:
        """Nothing to do: a third-party backend manages its own caches."""

    def limit_caches(self, max_bytes: int) -> None:
        """As `shed`."""

    def close(self) -> None:
        """All memory is freed when the process ends."""


class _PluginCalls:
    """The waiting calls, and the thread that runs them."""

    def __init__(self, backend: ChatBackend, spec: m.LoadSpec, outbox: Outbox) -> None:
        self._backend = backend
        self._spec = spec
        self._outbox = outbox
        self._queue: queue.SimpleQueue[tuple[int, Raw, float]] = queue.SimpleQueue()
        # Calls that are not cancelled. The main thread adds and removes, the runner looks and
        # removes; single operations of a set are atomic.
        self._open: set[int] = set()
        self._has_told_of_counts = False
        self._runner = threading.Thread(target=self._run_all, name="calls", daemon=True)

    def start(self) -> None:
        self._runner.start()

    def put(self, call_id: int, body: Raw) -> None:
        if self._open:
            self._outbox.event(call_id, m.Queued(len(self._open)))
        self._open.add(call_id)
        self._queue.put((call_id, body, time.monotonic()))

    def cancel(self, call_id: int) -> None:
        self._open.discard(call_id)

    def _run_all(self) -> None:
        while True:
            call_id, body, came_s = self._queue.get()
            if call_id in self._open:
                error = self._run(call_id, body, came_s)
                self._open.discard(call_id)
                self._outbox.ended(call_id, error)

    def _run(self, call_id: int, body: Raw, came_s: float) -> ServingError | None:
        name = self._spec.backend
        emit = functools.partial(self._outbox.event, call_id)
        try:
            request = generation(m.request_decoder.decode(body), name)
            run = PluginGeneration(self._backend, self._spec, emit, lambda: call_id in self._open)
            counts = run.run(request, time.monotonic() - came_s)
        except ServingError as error:
            return error
        except Exception as error:  # noqa: BLE001 - third-party code: other calls must continue
            traceback.print_exc(file=sys.stderr)
            kind = type(error).__name__
            return BackendFailure(ErrorText("backend_failed", backend=name, kind=kind))
        if "completion_tokens" not in counts and not self._has_told_of_counts:
            self._has_told_of_counts = True
            sys.stderr.write(f"the backend {name!r} does not count tokens: its usage is 0\n")
        return None


def _load(spec: m.LoadSpec) -> ChatBackend:
    found = installed_backends().get(spec.backend)
    if found is None:
        raise BackendLoadFailed(
            ErrorText("backend_not_installed", backend=spec.backend),
            suggestions=(ErrorText("install_entry_point", group=ENTRY_POINT_GROUP),),
            metadata={"backend": spec.backend},
        )
    backend = found.load().load(
        str(path_of(spec.path)), model_id=spec.model_id, n_ctx=spec.n_ctx, n_threads=spec.n_threads
    )
    if not isinstance(backend, ChatBackend):
        raise BackendLoadFailed(
            ErrorText("backend_incomplete", backend=spec.backend),
            metadata={"backend": spec.backend},
        )
    return backend


def main() -> None:
    host_engine(PluginEngine)


if __name__ == "__main__":
    main()
