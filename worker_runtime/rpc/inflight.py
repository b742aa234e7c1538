"""Counts open calls, and turns the error that ends a call into what its caller receives.

A call is an RPC, or one message of a stream that carries many calls.
"""

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import grpc.aio

from common.error_texts import ErrorText
from common.errors import BackendFailure, NotReady, ServingError
from common.tracing import Span, Tracer, current
from worker_runtime.rpc.logs import clean_id, request_id

LONG_LIVED = ("/WatchStatus", "/EmbedMany", "/GenerateMany", "/OpenDirectStream")

log = logging.getLogger(__name__)


class InflightRpcs:
    """Counts the RPCs that a drain waits for, and refuses new ones after the drain has begun."""

    def __init__(self) -> None:
        # Of those that are traced; None: none is.
        self.tracer: Tracer | None = None
        self.draining = asyncio.Event()
        self._n_open = 0
        self._none_open = asyncio.Event()
        self._none_open.set()

    @contextmanager
    def counted(self) -> Iterator[None]:
        if self.draining.is_set():
            raise NotReady(ErrorText("worker_stopping"), retry_after_s=5)
        self._n_open += 1
        self._none_open.clear()
        try:
            yield
        finally:
            self._n_open -= 1
            if not self._n_open:
                self._none_open.set()

    def begin(self, method: str, caller_id: str, headers: Mapping[str, str]) -> "Rpc":
        """The call that this task serves.

        Args:
            caller_id: the id of the request that it is part of.
            headers: those of W3C Trace Context, among others.
        """
        rpc = Rpc(method, caller_id)
        if self.tracer is not None and not rpc.is_long_lived:
            facts = {"rpc.system": "grpc", "y26hkx.request_id": clean_id(caller_id)}
            rpc.span = self.tracer.begin(method.removeprefix("/"), headers, facts)
            current.set(rpc.span)
        return rpc

    async def all_ended(self) -> None:
        await self._none_open.wait()


class Rpc:
    """One call on the task that serves it: its log line and its errors."""

    def __init__(self, method: str, caller_id: str) -> None:
        self.method = method
        self.span: Span | None = None
        self._began_s = time.monotonic()
        request_id.set(clean_id(caller_id))

    def problem(self, error: BaseException) -> ServingError:
        """The error that the caller receives for `error`, which is logged.

        Raises:
            BaseException: `error` itself, if it is the end of the call or of the process.
        """
        if isinstance(error, ServingError):
            self.log(error.code)
            return error
        if isinstance(error, grpc.aio.AbortError):
            self.log("aborted")
            raise error
        if isinstance(error, GeneratorExit) or _is_cancelled(error):
            self.log("CANCELLED")
            raise error
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise error
        log.error("%s failed", self.method, exc_info=error)
        problem = BackendFailure(ErrorText("worker_failed_logged"))
        self.log(problem.code)
        return problem

    @property
    def is_long_lived(self) -> bool:
        """Whether it lasts as long as its gateway, so that a drain must not wait for it."""
        return self.method.endswith(LONG_LIVED)

    def log(self, outcome: str) -> None:
        if self.span is not None:
            self.span.end("" if outcome == "OK" else outcome)
        # The gateway logs each request, so a successful RPC needs no second line.
        is_news = outcome != "OK" and not self.is_long_lived
        took_ms = (time.monotonic() - self._began_s) * 1000
        level = logging.INFO if is_news else logging.DEBUG
        log.log(level, "rpc=%s outcome=%s ms=%.1f", self.method, outcome, took_ms)


def _is_cancelled(error: BaseException) -> bool:
    """Whether the RPC itself was cancelled. Any other CancelledError must become an error, because
    a client would hang if it were passed on."""
    task = asyncio.current_task()
    asked = task is not None and task.cancelling() > 0
    return isinstance(error, asyncio.CancelledError) and asked
