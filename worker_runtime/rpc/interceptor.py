"""Wraps every RPC: checks the token, sets the request id, turns errors into statuses, logs a line.

Servicers only raise `ServingError`; nowhere else does it become a gRPC status. Servicer methods
that stream are async generators. Health checks and reflection are not wrapped.
"""

import hashlib
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import Any, NoReturn

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from common.error_texts import ErrorText
from common.errors import AuthenticationFailed, InvalidRequest, ServingError
from common.gc_tuning import GarbageCounter
from common.rpc_limits import REQUEST_ID_KEY, TOKEN_KEY
from common.rpc_status import DETAILS_KEY, to_status
from worker_runtime.rpc.inflight import InflightRpcs, Rpc

# gRPC refuses more than 8 KiB of trailing metadata, in which the message stands twice.
MAX_MESSAGE_CHARS = 1024
MAX_DETAILS_BYTES = 4096


class _Malformed:
    """Stands in for a request whose bytes are no message of its type."""

    def ByteSize(self) -> int:  # noqa: N802 - a message's name
        return 0


class RpcInterceptor(grpc.aio.ServerInterceptor):
    """Wraps the handlers of this package's services.

    Args:
        token: the token that every RPC must carry; empty: not checked.
    """

    def __init__(self, token: str, inflight_rpcs: InflightRpcs) -> None:
        self._token_digest = _digest(f"Bearer {token}") if token else None
        self._inflight_rpcs = inflight_rpcs
        self._garbage_counter = GarbageCounter()
        # Wrapped handlers by method, added as the methods are called.
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
            "request_deserializer": _read_by(handler.request_deserializer),
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
        if handler.stream_stream is not None:
            return grpc.stream_stream_rpc_method_handler(
                self._both(method, handler.stream_stream), **codec
            )
        raise TypeError(f"{method}: a request stream with one reply is not in the contract")

    def _unary(self, method: str, serve: Callable[..., Awaitable[Any]]) -> Any:
        async def unary(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            self._garbage_counter.count(request.ByteSize())
            rpc, metadata = self._rpc(method, context)
            try:
                with self._admitted(rpc, metadata):
                    reply = await serve(_readable(request), context)
            except BaseException as error:  # noqa: BLE001 - the RPC's outermost frame
                await _fail(context, rpc.problem(error))
            rpc.log("OK")
            return reply

        return unary

    def _stream(self, method: str, serve: Callable[..., Any]) -> Any:
        async def stream(
            request: Any, context: grpc.aio.ServicerContext[Any, Any]
        ) -> AsyncIterator[Any]:
            self._garbage_counter.count(request.ByteSize())
            rpc, metadata = self._rpc(method, context)
            try:
                with self._admitted(rpc, metadata):
                    async with aclosing(serve(_readable(request), context)) as replies:
                        async for reply in replies:
                            yield reply
            except BaseException as error:  # noqa: BLE001 - the RPC's outermost frame
                await _fail(context, rpc.problem(error))
            rpc.log("OK")

        return stream

    def _both(self, method: str, serve: Callable[..., Awaitable[None]]) -> Any:
        """Wrap a method that streams requests and replies; the servicer writes to the context."""

        async def both(requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
            rpc, metadata = self._rpc(method, context)
            try:
                with self._admitted(rpc, metadata):
                    await serve(_all_readable(requests), context)
            except BaseException as error:  # noqa: BLE001 - the RPC's outermost frame
                await _fail(context, rpc.problem(error))

        return both

    def _rpc(
        self, method: str, context: grpc.aio.ServicerContext[Any, Any]
    ) -> tuple[Rpc, dict[str, str]]:
        metadata = {
            key: value
            for key, value in context.invocation_metadata() or ()
            if isinstance(value, str)
        }
        caller_id = metadata.get(REQUEST_ID_KEY, "")
        return self._inflight_rpcs.begin(method, caller_id, metadata), metadata

    @contextmanager
    def _admitted(self, rpc: Rpc, metadata: Mapping[str, str]) -> Iterator[None]:
        if self._token_digest is not None:
            sent = _digest(metadata.get(TOKEN_KEY, ""))
            if not hmac.compare_digest(sent, self._token_digest):
                raise AuthenticationFailed(ErrorText("worker_token_wrong"))
        if rpc.is_long_lived:
            yield
            return
        with self._inflight_rpcs.counted():
            yield


def _read_by(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """`deserialize` without its error, which gRPC would log with a traceback, before the token of
    the call is known."""

    def read(sent: bytes) -> Any:
        try:
            return deserialize(sent)
        except DecodeError:
            return _Malformed()

    return read


def _readable(request: Any) -> Any:
    if isinstance(request, _Malformed):
        raise InvalidRequest(ErrorText("rpc_malformed"))
    return request


async def _all_readable(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        yield _readable(request)


async def _fail(context: grpc.aio.ServicerContext[Any, Any], error: ServingError) -> NoReturn:
    """End the RPC with `error` as its status."""
    code = grpc.StatusCode[error.grpc_status]
    details, message = _details(error), error.message[:MAX_MESSAGE_CHARS]
    await context.abort(code, message, trailing_metadata=((DETAILS_KEY, details),))
    raise AssertionError("abort always raises")


def _details(error: ServingError) -> bytes:
    """The serialized `error`, shortened until it fits into a reply's trailing metadata."""
    details = b""
    for version in (error, _in_english(error), _in_short(error)):
        details = to_status(version).SerializeToString()
        if len(details) <= MAX_DETAILS_BYTES:
            break
    return details


def _in_english(error: ServingError) -> ServingError:
    return type(error)(
        str(error),
        param=error.param,
        retry_after_s=error.retry_after_s,
        suggestions=tuple(map(str, error.suggestions)),
        metadata=error.metadata,
    )


def _in_short(error: ServingError) -> ServingError:
    message = str(error)[:MAX_MESSAGE_CHARS]
    return type(error)(message, param=error.param, retry_after_s=error.retry_after_s)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
