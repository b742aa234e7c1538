"""Finds the record of a key: by its id, or by its digest, whatever the number of keys.

A changed file is read again at the next request. Neither a look-up by id nor one by SHA-256 digest
tells by its time how near a guess is: an id is no secret, and a digest's bits cannot be chosen.
"""

import hashlib
import hmac
import logging
import time
from collections.abc import Callable
from pathlib import Path

from common.error_texts import ErrorText
from common.errors import AuthenticationFailed
from common.settings import split_list
from gateway.keys.key_file import KeyFile
from gateway.keys.record import KeyRecord, digest, monitoring_record, plain_record, split_key
from gateway.settings import GatewaySettings

_NO_SALT = "00" * 16

log = logging.getLogger(__name__)


class Keys:
    """The valid API keys.

    Args:
        clock: returns the seconds since the epoch.
    """

    def __init__(self, settings: GatewaySettings, clock: Callable[[], float] = time.time) -> None:
        digests = (_sha256(key) for key in split_list(settings.api_keys.get_secret_value()))
        self._fixed = {digest: plain_record(digest) for digest in digests}
        if scraper := settings.monitoring_api_key.get_secret_value():
            self._fixed.setdefault(_sha256(scraper), monitoring_record(_sha256(scraper)))
        self.path = settings.api_keys_file
        self._clock = clock
        self._read: tuple[int, int, int] | None = None
        self._file = KeyFile()
        self.required = settings.has_keys

    def record_of(self, key: str) -> KeyRecord:
        """The record of a valid key.

        Raises:
            AuthenticationFailed: there is no such key, or it has expired.
        """
        file = self.file()
        parts = split_key(key)
        found = self._plain(file, key) if parts is None else _with_rights(file, *parts)
        if found is None:
            text = ErrorText("key_wrong") if key else ErrorText("key_needed")
            raise AuthenticationFailed(text, suggestions=(ErrorText("send_key"),))
        if found.expires_at is not None and found.expires_at <= self._clock():
            raise AuthenticationFailed(ErrorText("key_expired"))
        return found

    def of_client(self, client: str) -> KeyRecord | None:
        """The record of the valid key that is known by this name ("key:…")."""
        file = self.file()
        plain = (*self._fixed.values(), *file.plain.values())
        found = file.records.get(client.removeprefix("key:")) or next(
            (record for record in plain if record.client == client), None
        )
        is_over = found is not None and (found.expires_at or self._clock() + 1) <= self._clock()
        return None if is_over else found

    def file(self) -> KeyFile:
        """The key file as it is now; as it was if it cannot be read."""
        if self.path is None:
            return self._file
        try:
            now = _state_of(self.path)
            if now != self._read:
                self._file = KeyFile(self.path.read_text(encoding="utf-8"))
                self._read = now
                for mistake in self._file.mistakes:
                    log.error("the key file has a line that gives no key: %s", mistake)
        except (OSError, UnicodeDecodeError) as error:
            log.error("the key file cannot be read, its last known keys stay valid: %s", error)
        return self._file

    def alias(self, client: str) -> str:
        """What people call a client ("key:…"): its key's alias, else its name."""
        record = self._file.records.get(client.removeprefix("key:"))
        return record.alias or client if record is not None else client

    def _plain(self, file: KeyFile, key: str) -> KeyRecord | None:
        sha256 = _sha256(key)
        found = self._fixed.get(sha256) or file.plain.get(sha256)
        # What a table of digests finds is compared as a whole, in constant time.
        if found is None or not hmac.compare_digest(bytes.fromhex(found.hash), sha256):
            return None
        return found


def _with_rights(file: KeyFile, id: str, secret: str) -> KeyRecord | None:
    record = file.records.get(id)
    if record is None:
        # As long as for an id that exists.
        digest(secret, _NO_SALT)
        return None
    return record if record.opens(secret) else None


def _sha256(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _state_of(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino
