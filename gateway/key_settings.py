"""Who may call, as whom, how often, and what is written of it."""

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

from limits import parse
from pydantic import Field, SecretStr, field_validator

from common.loopback import UNIX
from common.settings import split_list
from gateway.limit_settings import LimitSettings
from gateway.middleware.rate_limit import shared_storage

NO_RATE = "none"
# Its last part is no number, as that of an address with a mistake in it would be.
IS_NAME = re.compile(r"(?=.{1,253}$)(?!(.*\.)?[0-9]+\.?$)[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?")

Network = IPv4Network | IPv6Network


def network_of(listed: str) -> Network | None:
    """The network or address that is written so; None for a name."""
    try:
        return ip_network(listed)
    except ValueError:
        return None


class KeySettings(LimitSettings):
    api_keys: SecretStr = Field(
        default=SecretStr(""),
        validation_alias="API_KEYS",
        description="Comma-separated API keys. Without keys and key file, clients need no key.",
    )
    api_keys_file: Path | None = Field(
        default=None,
        validation_alias="API_KEYS_FILE",
        description=(
            "File of keys: JSON Lines with rights and limits, which y26hkx key add writes, or "
            "SHA-256 hex digests, one per line. It is read again when it changes."
        ),
    )
    monitoring_api_key: SecretStr = Field(
        default=SecretStr(""),
        validation_alias="MONITORING_API_KEY",
        description="Key for a scraper: it may read metrics and health, and nothing else.",
    )
    usage_file: Path | None = Field(
        default=None,
        validation_alias="USAGE_FILE",
        description=(
            "SQLite file that keeps what keys have used; unset: beside API_KEYS_FILE, or in Redis "
            "where RATE_LIMIT_STORAGE names one."
        ),
    )
    audit_log: Path | None = Field(
        default=None,
        validation_alias="AUDIT_LOG",
        description=(
            "File to which each action of an admin (load, unload, keys) appends a line of JSON; "
            "unset: none."
        ),
    )
    trusted_proxies: str = Field(
        default="",
        validation_alias="TRUSTED_PROXIES",
        description=(
            "Comma-separated addresses, networks such as 10.0.0.0/8, and host names of proxies "
            "whose X-Forwarded-For says where a client is; unix: for one that uses GATEWAY_SOCKET."
        ),
    )
    rate_limit: str | None = Field(
        default=None,
        validation_alias="RATE_LIMIT",
        description=(
            'Requests per key or address and time window, such as "60/minute", or "none". Unset: '
            "none on loopback, 600/minute elsewhere."
        ),
    )
    rate_limit_storage: SecretStr = Field(
        default=SecretStr(""),
        validation_alias="RATE_LIMIT_STORAGE",
        description=(
            'Storage of counters that several gateways share, such as "redis://host:6379", perhaps '
            "with a password; empty: each counts alone."
        ),
    )
    max_in_flight_per_key: int | None = Field(
        default=None,
        ge=0,
        validation_alias="MAX_IN_FLIGHT_PER_KEY",
        description=(
            "Number of requests that one key may have in flight; 0: no limit. Unset: none on "
            "loopback, 8 elsewhere."
        ),
    )

    @field_validator("trusted_proxies")
    @classmethod
    def _are_proxies(cls, value: str) -> str:
        for proxy in split_list(value):
            if proxy != UNIX and network_of(proxy) is None and not IS_NAME.fullmatch(proxy):
                raise ValueError(f"{proxy} is no address, network or host name")
        return value

    @field_validator("rate_limit")
    @classmethod
    def _is_a_rate(cls, value: str | None) -> str | None:
        if value and value.lower() != NO_RATE:
            parse(value)
        return value

    @field_validator("rate_limit_storage")
    @classmethod
    def _can_be_shared(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value():
            shared_storage(value.get_secret_value())
        return value

    @property
    def has_keys(self) -> bool:
        return bool(split_list(self.api_keys.get_secret_value())) or self.api_keys_file is not None
