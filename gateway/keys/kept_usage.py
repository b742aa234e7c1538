"""Where the use of keys is kept: in Redis, in a file, or for as long as the gateway runs."""

from pathlib import Path

from gateway.keys.ledger import FILE_SUFFIX, Ledger, SqliteLedger
from gateway.settings import GatewaySettings

REDIS = ("redis://", "rediss://")


def ledger_of(settings: GatewaySettings) -> Ledger:
    """The ledger that the settings ask for; nothing is opened yet."""
    storage = settings.rate_limit_storage.get_secret_value()
    if settings.has_keys and storage.startswith(REDIS):
        # Only those who use it have the client installed.
        from gateway.keys.redis_ledger import RedisLedger

        return RedisLedger(storage)
    return SqliteLedger(_file(settings))


def _file(settings: GatewaySettings) -> Path | None:
    if settings.usage_file is not None or settings.api_keys_file is None:
        return settings.usage_file
    beside = settings.api_keys_file
    return beside.with_name(beside.name + FILE_SUFFIX)
