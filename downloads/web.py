"""Asks other servers: which addresses may be asked, how much is read, and what failures mean."""

import ipaddress
import socket
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec

from common.error_texts import ErrorText
from common.errors import (
    DownloadFailed,
    InvalidRequest,
    ModelNotFound,
    PermissionDenied,
    RateLimited,
    ServingError,
)
from downloads.settings import DownloadSettings

CONNECT_S = 15.0
MAX_REDIRECTS = 5
MAX_JSON_BYTES = 16 << 20
# Read at a time.
PIECE_BYTES = 256 << 10
ATTEMPTS = 3
PAUSE_S = 0.5
RETRY_AFTER_S = 60.0
USER_AGENT = "y26hkx"


class Web:
    """The connections to hubs. It may be used by several threads at once."""

    def __init__(self, settings: DownloadSettings) -> None:
        named = (settings.hugging_face, settings.modelscope, settings.ollama)
        self._trusted = {_origin(address) for address in named}
        self._may_be_private = settings.private_addresses
        # A proxy looks names up itself.
        self._has_proxy = bool({"http", "https", "all"} & urllib.request.getproxies().keys())
        self.client = httpx.Client(
            timeout=httpx.Timeout(settings.stall_s, connect=CONNECT_S),
            follow_redirects=True,
            max_redirects=MAX_REDIRECTS,
            limits=httpx.Limits(max_connections=2 * settings.connections),
            headers={"user-agent": USER_AGENT, "accept-encoding": "identity"},
            event_hooks={"request": [self._check]},
        )

    def __enter__(self) -> "Web":
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    @contextmanager
    def stream(
        self, address: str, headers: Mapping[str, str], begin: int = 0, end: int | None = None
    ) -> Iterator[httpx.Response]:
        """The reply to a request for a file, or for its bytes from `begin` to `end`.

        Raises:
            ServingError: the server refuses, cannot be reached, or may not be asked.
            httpx.TransportError: the connection broke.
        """
        wanted = {"range": f"bytes={begin}-{end - 1}"} if end else {}
        try:
            with self.client.stream("GET", address, headers={**headers, **wanted}) as reply:
                if reply.status_code not in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
                    raise refusal(reply.status_code, address, reply.headers.get("retry-after"))
                yield reply
        except (httpx.TooManyRedirects, httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise DownloadFailed(
                ErrorText("hub_misdirects", host=_host(address)), param="model"
            ) from error

    def content(self, address: str, headers: Mapping[str, str], most_bytes: int) -> bytes:
        """A small file, whole. Raises ServingError."""
        try:
            with self.stream(address, headers) as reply:
                content = b""
                for piece in reply.iter_bytes():
                    content += piece
                    if len(content) > most_bytes:
                        raise nonsense(address)
                return content
        except httpx.TransportError as error:
            raise unreachable(address) from error

    def part(self, address: str, headers: Mapping[str, str], begin: int, end: int) -> bytes:
        """The bytes from `begin` to `end`, fewer if the file ends before. Raises ServingError.

        A server that knows no ranges sends the file from its beginning, which is skipped.
        """
        for attempt in range(ATTEMPTS):
            try:
                with self.stream(address, headers, begin, end) as reply:
                    skipped = 0 if reply.status_code == httpx.codes.PARTIAL_CONTENT else begin
                    content = bytearray()
                    for piece in reply.iter_bytes(PIECE_BYTES):
                        content += piece
                        if len(content) >= skipped + end - begin:
                            break
                    return bytes(content[skipped : skipped + end - begin])
            except httpx.TransportError as error:
                if attempt == ATTEMPTS - 1:
                    raise unreachable(address) from error
            except DownloadFailed:
                if attempt == ATTEMPTS - 1:
                    raise
            time.sleep(PAUSE_S * (attempt + 1))
        raise AssertionError("the loop returns or raises")

    def json(self, address: str, headers: Mapping[str, str]) -> Any:
        """The JSON of an API. Raises ServingError."""
        content = self.content(address, headers, MAX_JSON_BYTES)
        try:
            return msgspec.json.decode(content)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise nonsense(address) from error

    def _check(self, request: httpx.Request) -> None:
        """Refuse addresses within private networks: whoever may pull could look around there."""
        address = str(request.url)
        if self._may_be_private or _origin(address) in self._trusted:
            return
        if request.url.scheme != "https":
            raise InvalidRequest(
                ErrorText("pull_needs_https", host=request.url.host), param="model"
            )
        if not self._has_proxy and not _is_public(request.url.host, request.url.port or 443):
            raise InvalidRequest(
                ErrorText("pull_address_private", host=request.url.host),
                param="model",
                suggestions=(ErrorText("set_setting", setting="PULL_PRIVATE_ADDRESSES=1"),),
            )


def refusal(status: int, address: str, retry_after: str | None = None) -> ServingError:
    """What a status other than success means."""
    host = _host(address)
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        return PermissionDenied(
            ErrorText("hub_denies", host=host),
            param="model",
            suggestions=(ErrorText("accept_terms"), ErrorText("set_setting", setting="HF_TOKEN")),
        )
    if status == httpx.codes.NOT_FOUND:
        return ModelNotFound(ErrorText("hub_has_no_file", host=host), param="model")
    if status == httpx.codes.TOO_MANY_REQUESTS:
        wait_s = float(retry_after) if retry_after and retry_after.isdigit() else RETRY_AFTER_S
        return RateLimited(ErrorText("hub_is_busy", host=host), retry_after_s=wait_s)
    return DownloadFailed(ErrorText("hub_fails", host=host, status=status), retry_after_s=60)


def unreachable(address: str) -> DownloadFailed:
    return DownloadFailed(
        ErrorText("hub_unreachable", host=_host(address)),
        param="model",
        retry_after_s=60,
        suggestions=(ErrorText("check_network"),),
    )


def nonsense(address: str) -> DownloadFailed:
    return DownloadFailed(ErrorText("hub_answers_nonsense", host=_host(address)), param="model")


def _host(address: str) -> str:
    return urlsplit(address).hostname or "?"


def _origin(address: str) -> tuple[str, str, int | None]:
    parts = urlsplit(address)
    default = {"https": 443, "http": 80}.get(parts.scheme)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or default


def _is_public(host: str, port: int) -> bool:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        # The request itself will say that there is no such host.
        return True
    return all(ipaddress.ip_address(str(one[4][0]).partition("%")[0]).is_global for one in found)
