"""Where the use of keys is kept: in Redis, in a file, or for as long as the gateway runs."""

import logging
import sqlite3
from pathlib import Path

from gateway.keys.ledger import FILE_SUFFIX, Ledger, SqliteLedger
from gateway.settings import GatewaySettings

REDIS = ("redis://", "rediss://")

log = logging.getLogger(__name__)


def ledger_of(settings: GatewaySettings) -> Ledger:
    """The ledger that the settings ask for."""
    storage = settings.rate_limit_storage.get_secret_value()
    if settings.has_keys and storage.startswith(REDIS):
        # Only those who use it have the client installed.
        from gateway.keys.redis_ledger import RedisLedger

        return RedisLedger(storage)
    path = _file(settings)
    try:
        return SqliteLedger(path)
    except (OSError, sqlite3.Error) as error:
        log.error("what keys use is counted anew at each start: %s: %s", path, error)
        return SqliteLedger(None)


def _file(settings: GatewaySettings) -> Path | None:
    if settings.usage_file is not None or settings.api_keys_file is None:
        return settings.usage_file
    beside = settings.api_keys_file
    return beside.with_name(beside.name + FILE_SUFFIX)
