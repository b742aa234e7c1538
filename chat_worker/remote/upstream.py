"""The HTTP client of the other server: checks once that it is there, then requests answers."""

import asyncio
import ssl
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import msgspec

from chat_worker import pipe_messages as m
from chat_worker.remote.failures import refused, unreachable
from chat_worker.remote.reply import RemoteReply
from chat_worker.remote.request import path_and_body
from chat_worker.remote.spec import RemoteSpec
from chat_worker.remote.sse import DataLines
from common.error_texts import ErrorText
from common.errors import BackendFailure, BackendLoadFailed

CHECK_S = 5.0
CONNECT_S = 5.0
# Less than the five seconds after which many servers close an idle connection.
KEEP_ALIVE_S = 2.0
MAX_ERROR_BYTES = 64 * 1024
MAX_KEY_BYTES = 16 * 1024


class Upstream:
    """One server.

    Raises:
        BackendLoadFailed: its key or its certificates cannot be read.
    """

    def __init__(self, spec: RemoteSpec) -> None:
        self._spec = spec
        self._says_no_usage = False
        self._client = httpx.AsyncClient(
            headers=_headers(spec),
            verify=_authorities(spec),
            timeout=httpx.Timeout(spec.model.timeout_s, connect=CONNECT_S),
            limits=httpx.Limits(keepalive_expiry=KEEP_ALIVE_S),
            follow_redirects=False,
            trust_env=False,
        )

    async def check(self) -> None:
        """Check that the server responds.

        Raises:
            BackendLoadFailed: it does not list its models within `CHECK_S`.
        """
        try:
            async with (
                asyncio.timeout(CHECK_S),
                self._client.stream("GET", self._url("/models")) as reply,
            ):
                status = reply.status_code
        except (TimeoutError, httpx.TransportError) as error:
            sys.stderr.write(f"{self._url('/models')}: {type(error).__name__}: {error}\n")
            raise load_failed(
                ErrorText("remote_not_answering"), ErrorText("check_base_url")
            ) from None
        if status in (401, 403):
            raise load_failed(ErrorText("remote_refuses_key_of_server"), ErrorText("check_key"))
        if status != httpx.codes.OK:
            why = ErrorText("remote_answers_status", status=status)
            raise load_failed(why, ErrorText("check_base_url_v1"))

    async def generate(
        self,
        call_id: int,
        request: m.Generate,
        queue_s: float,
        emit: Callable[[m.EngineEvent], None],
    ) -> None:
        """Send one request, and yield the events of the answer up to `Finished`.

        Cancelling closes the connection.

        Raises:
            ServingError: the other server refused the request, failed, or was lost.
        """
        path, body = path_and_body(request, self._spec)
        reply = RemoteReply(call_id, request.n, queue_s)
        sent = self._client.stream(
            "POST", self._url(path), content=msgspec.json.encode(body), headers=request.trace
        )
        try:
            async with sent as response:
                await _require_stream(response)
                lines = DataLines()
                async for chunk in response.aiter_raw():
                    for payload in lines.feed(chunk):
                        for event in reply.take(payload):
                            emit(event)
                    if reply.is_done:
                        break
        except httpx.TransportError as error:
            raise unreachable(error) from None
        emit(reply.finished())
        if not (reply.is_counted or self._says_no_usage):
            self._says_no_usage = True
            sys.stderr.write("the remote server does not count tokens: its usage is 0\n")

    def _url(self, path: str) -> str:
        return self._spec.model.base_url.rstrip("/") + path


def load_failed(why: ErrorText, suggestion: ErrorText) -> BackendLoadFailed:
    return BackendLoadFailed(
        ErrorText("remote_unusable", why=why),
        suggestions=(ErrorText("check_remote", what=suggestion), ErrorText("start_remote")),
        metadata={"backend": "remote"},
    )


async def _require_stream(response: httpx.Response) -> None:
    if response.status_code != httpx.codes.OK:
        raise refused(response.status_code, response.headers, await _beginning(response))
    if not response.headers.get("content-type", "").startswith("text/event-stream"):
        raise BackendFailure(ErrorText("remote_not_streaming"))


async def _beginning(response: httpx.Response) -> bytes:
    body = b""
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > MAX_ERROR_BYTES:
            break
    return body[:MAX_ERROR_BYTES]


def _headers(spec: RemoteSpec) -> dict[str, str]:
    headers = {
        "content-type": "application/json",
        # A small compressed reply could decompress to a huge one.
        "accept-encoding": "identity",
        **spec.model.headers,
    }
    if key := spec.api_key or _key_in_file(spec.model.api_key_file):
        headers["authorization"] = f"Bearer {key}"
    if not all(text.isascii() and text.isprintable() for text in headers.values()):
        raise load_failed(ErrorText("remote_header_not_ascii"), ErrorText("check_them"))
    return headers


def _key_in_file(path: str) -> str:
    if not path:
        return ""
    try:
        with Path(path).open(encoding="utf-8") as file:
            return file.read(MAX_KEY_BYTES).strip()
    except (OSError, UnicodeDecodeError) as error:
        sys.stderr.write(f"{path}: {type(error).__name__}\n")
        raise load_failed(ErrorText("remote_key_unreadable"), ErrorText("check_key_file")) from None


def _authorities(spec: RemoteSpec) -> ssl.SSLContext | bool:
    if not spec.model.ca_file:
        return True
    try:
        return ssl.create_default_context(cafile=spec.model.ca_file)
    except OSError as error:  # includes SSLError
        sys.stderr.write(f"{spec.model.ca_file}: {error}\n")
        raise load_failed(ErrorText("remote_ca_unreadable"), ErrorText("check_ca_file")) from None
