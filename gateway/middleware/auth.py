"""API keys: only digests are stored, and compared in constant time; a changed file is read again.

Access is denied by default: if keys are configured, every path but the two probes needs one.
"""

import hashlib
import hmac
import logging
import re
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from common.error_texts import ErrorText
from common.errors import AuthenticationFailed, InvalidRequest
from common.settings import split_list
from gateway.errors import error_response
from gateway.middleware.request_context import context_of, header
from gateway.settings import GatewaySettings

OPEN_PATHS = frozenset({"/health/live", "/health/ready"})
_DIGEST = re.compile(r"[0-9a-f]{64}")

log = logging.getLogger(__name__)


class Keys:
    """The valid API keys."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._fixed = [_digest(key) for key in split_list(settings.api_keys.get_secret_value())]
        self._file = settings.api_keys_file
        self._read_at = 0
        self._from_file: list[bytes] = []

    @property
    def required(self) -> bool:
        return bool(self._fixed) or self._file is not None

    def opens(self, key: str) -> bytes | None:
        """The digest of `key` if it is valid; all digests are compared in any case."""
        digest = _digest(key)
        found = None
        for known in [*self._fixed, *self._file_digests()]:
            if hmac.compare_digest(known, digest):
                found = digest
        return found

    def _file_digests(self) -> list[bytes]:
        if self._file is None:
            return []
        try:
            changed_at = self._file.stat().st_mtime_ns
            if changed_at != self._read_at:
                self._from_file = _read(self._file)
                self._read_at = changed_at
        except OSError as error:
            log.error("the key file cannot be read, its last known keys stay valid: %s", error)
        return self._from_file


class AuthMiddleware:
    def __init__(self, app: ASGIApp, keys: Keys) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                self._admit(scope)
            except (AuthenticationFailed, InvalidRequest) as error:
                context_of(scope).note_error(error)
                refusal = error_response(error, scope)
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _admit(self, scope: Scope) -> None:
        context = context_of(scope)
        context.client = f"address:{(scope.get('client') or ('unknown',))[0]}"
        if not self._keys.required:
            return
        digest = self._keys.opens(_offered(scope))
        if digest is not None:
            context.client = f"key:{digest.hex()[:16]}"
            context.cache_salt = digest.hex()[:32]
        elif scope["path"] not in OPEN_PATHS:
            raise AuthenticationFailed(
                ErrorText("key_needed"),
                suggestions=(ErrorText("send_key"),),
            )


def _offered(scope: Scope) -> str:
    names = [name for name, _ in scope["headers"]]
    for name in (b"authorization", b"x-api-key"):
        if names.count(name) > 1:
            raise InvalidRequest(ErrorText("header_repeated", name=name.decode()))
    authorization = header(scope, b"authorization") or ""
    kind, _, key = authorization.partition(" ")
    if kind.lower() == "bearer":
        return key.strip()
    return header(scope, b"x-api-key") or ""


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _read(path: Path) -> list[bytes]:
    words = (line.split() for line in path.read_text(encoding="utf-8").splitlines())
    first = [w[0].lower() for w in words if w and not w[0].startswith("#")]
    return [bytes.fromhex(word) for word in first if _DIGEST.fullmatch(word)]
