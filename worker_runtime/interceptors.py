"""What happens around every RPC: token check, request id, errors as rich status, a log line.

Servicers only raise `ServingError`; here, and nowhere else, it becomes a gRPC status. Streaming
servicer methods are async generators. Health checks and reflection pass untouched.
"""

import asyncio
import hashlib
import hmac
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, NoReturn

import grpc
import grpc.aio

from protos.errors import AuthenticationFailed, BackendFailure, NotReady, ServingError
from protos.status import DETAILS_KEY, to_status
from worker_runtime.logs import clean_id, request_id

REQUEST_ID_KEY = "x-request-id"
TOKEN_KEY = "authorization"
# gRPC refuses more than 8 KiB of trailing metadata, of which the message takes its share twice.
MAX_MESSAGE_CHARS = 1024
MAX_DETAILS_BYTES = 4096
WATCH = "/WatchStatus"

log = logging.getLogger(__name__)


class OpenRpcs:
    """Counts RPCs that a drain waits for; refuses new ones once it has begun."""

    def __init__(self) -> None:
        self.draining = asyncio.Event()
        self._n_open = 0
        self._none_open = asyncio.Event()
        self._none_open.set()

    @contextmanager
    def counted(self) -> Iterator[None]:
        if self.draining.is_set():
            raise NotReady("the worker is shutting down", retry_after_s=5)
        self._n_open += 1
        self._none_open.clear()
        try:
            yield
        finally:
            self._n_open -= 1
            if not self._n_open:
                self._none_open.set()

    async def all_ended(self) -> None:
        await self._none_open.wait()


class RpcInterceptor(grpc.aio.ServerInterceptor):
    """
    Args:
        token: every RPC must carry it; empty: not checked.
    """

    def __init__(self, token: str, open_rpcs: OpenRpcs) -> None:
        self._token_digest = _digest(f"Bearer {token}") if token else None
        self._open_rpcs = open_rpcs
        # By method, as they are called.
        self._handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    async def intercept_service(
        self,
        continuation: Callable[
            [grpc.HandlerCallDetails], Awaitable["grpc.RpcMethodHandler[Any, Any] | None"]
        ],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "grpc.RpcMethodHandler[Any, Any] | None":
        method = handler_call_details.method
        if (known := self._handlers.get(method)) is not None:
            return known
        handler: Any = await continuation(handler_call_details)
        if handler is None or method.startswith("/grpc."):
            return handler  # type: ignore[no-any-return]
        made = self._handlers[method] = self._wrapped(method, handler)
        return made

    def _wrapped(self, method: str, handler: Any) -> "grpc.RpcMethodHandler[Any, Any]":
        codec = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(
                self._unary(method, handler.unary_unary), **codec
            )
        if handler.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(
                self._stream(method, handler.unary_stream), **codec
            )
        raise TypeError(f"{method}: streams of requests are not part of the contract")

    def _unary(self, method: str, serve: Callable[..., Awaitable[Any]]) -> Any:
        async def unary(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            rpc = _Rpc(method, context)
            try:
                with self._admitted(rpc):
                    reply = await serve(request, context)
            except BaseException as error:  # noqa: BLE001 - the RPC's outermost frame
                await rpc.fail(error)
            rpc.log("OK")
            return reply

        return unary

    def _stream(self, method: str, serve: Callable[..., Any]) -> Any:
        async def stream(
            request: Any, context: grpc.aio.ServicerContext[Any, Any]
        ) -> AsyncIterator[Any]:
            rpc = _Rpc(method, context)
            try:
                with self._admitted(rpc):
                    async with aclosing(serve(request, context)) as replies:
                        async for reply in replies:
                            yield reply
            except BaseException as error:  # noqa: BLE001 - the RPC's outermost frame
                await rpc.fail(error)
            rpc.log("OK")

        return stream

    @contextmanager
    def _admitted(self, rpc: "_Rpc") -> Iterator[None]:
        if self._token_digest is not None:
            sent = _digest(rpc.metadata(TOKEN_KEY))
            if not hmac.compare_digest(sent, self._token_digest):
                raise AuthenticationFailed("the worker's token is missing or wrong")
        if rpc.method.endswith(WATCH):
            # Watchers see a drain to its end; it does not wait for them.
            yield
            return
        with self._open_rpcs.counted():
            yield


class _Rpc:
    """One call: who it is for, and how it ends."""

    def __init__(self, method: str, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        self.method = method
        self._context = context
        self._metadata = {
            key: value for key, value in context.invocation_metadata() or () if value is not None
        }
        self._began_s = time.monotonic()
        request_id.set(clean_id(self.metadata(REQUEST_ID_KEY)))

    def metadata(self, key: str) -> str:
        value = self._metadata.get(key, "")
        return value if isinstance(value, str) else ""

    async def fail(self, error: BaseException) -> NoReturn:
        """End the call with `error` as its status."""
        if isinstance(error, ServingError):
            await self._abort(error)
        if isinstance(error, grpc.aio.AbortError):
            self.log("aborted")
            raise error
        if isinstance(error, GeneratorExit) or _is_cancelled(error):
            self.log("CANCELLED")
            raise error
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise error
        log.error("%s failed", self.method, exc_info=error)
        await self._abort(BackendFailure("the worker failed; its log has the reason"))

    async def _abort(self, error: ServingError) -> NoReturn:
        self.log(error.code)
        code = grpc.StatusCode[error.grpc_status]
        details, message = _details(error), error.message[:MAX_MESSAGE_CHARS]
        await self._context.abort(code, message, trailing_metadata=((DETAILS_KEY, details),))
        raise AssertionError("abort always raises")

    def log(self, outcome: str) -> None:
        # The gateway writes a line for each request; of those that went well one is enough.
        is_news = outcome != "OK" and not self.method.endswith(WATCH)
        level = logging.INFO if is_news else logging.DEBUG
        took_ms = (time.monotonic() - self._began_s) * 1000
        log.log(level, "rpc=%s outcome=%s ms=%.1f", self.method, outcome, took_ms)


def _is_cancelled(error: BaseException) -> bool:
    """Whether the call itself is cancelled: a stray CancelledError, let through, hangs clients."""
    task = asyncio.current_task()
    asked = task is not None and task.cancelling() > 0
    return isinstance(error, asyncio.CancelledError) and asked


def _details(error: ServingError) -> bytes:
    whole: bytes = to_status(error).SerializeToString()
    if len(whole) <= MAX_DETAILS_BYTES:
        return whole
    short = type(error)(
        error.message[:MAX_MESSAGE_CHARS], param=error.param, retry_after_s=error.retry_after_s
    )
    cut: bytes = to_status(short).SerializeToString()
    return cut


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
