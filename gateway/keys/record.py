"""One key as the key file has it: its rights and limits, and a salted hash of its secret.

A key reads `sk-y26-<id>-<secret>`. The id is no secret: it finds the record, so that a check costs
the same for one key and for a hundred thousand. The secret has 256 random bits, so a fast hash is
enough: nobody can guess through it, as one can with passwords.
"""

import hashlib
import hmac
import re
import secrets
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from common.model_ids import folded_id

PREFIX = "sk-y26-"
ID_LENGTH = 12
MAX_NAMES = 1000
LEAST_PRIORITY, MOST_PRIORITY = -10, 10
_KEY = re.compile(r"sk-y26-([a-z0-9]{12})-([A-Za-z0-9_-]{43})")
_ID_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789"

Amount = Annotated[int, Meta(ge=1, le=10**15)]
Name = Annotated[str, Meta(min_length=1, max_length=200)]


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a key may use of one kind of work; None: no limit. Days and months are those of UTC."""

    requests_per_minute: Amount | None = None
    tokens_per_minute: Amount | None = None
    tokens_per_day: Amount | None = None
    tokens_per_month: Amount | None = None


class Rights(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True
):
    """What a key may do.

    Args:
        alias: for people; part of metrics and reports.
        models: ids that it may use, and beginnings of ids as "qwen*"; None: all.
        endpoints: groups of `endpoints.py` that it may call; None: all but those of monitoring.
        chat: limits of all generating endpoints together.
        embeddings: limits of embeddings, reranking and scores.
        concurrent_requests: how many it may have in flight; None: MAX_IN_FLIGHT_PER_KEY.
        priority: -10 to 10; a key with a higher one gets a larger share when requests wait.
        expires_at: seconds since the epoch; None: never.
        admin: it may do everything, and manage keys.
    """

    alias: Annotated[str, Meta(max_length=64, pattern=r"^[\w .@-]*$")] = ""
    models: Annotated[tuple[Name, ...], Meta(max_length=MAX_NAMES)] | None = None
    endpoints: Annotated[tuple[Name, ...], Meta(max_length=MAX_NAMES)] | None = None
    chat: Limits = Limits()
    embeddings: Limits = Limits()
    concurrent_requests: Annotated[int, Meta(ge=1, le=10_000)] | None = None
    priority: Annotated[int, Meta(ge=LEAST_PRIORITY, le=MOST_PRIORITY)] = 0
    expires_at: Amount | None = None
    admin: bool = False

    def allows_model(self, model: str) -> bool:
        """Whether the key may use the model with this id."""
        if self.models is None or self.admin:
            return True
        asked = folded_id(model)
        return any(
            asked.startswith(folded_id(name[:-1]))
            if name.endswith("*")
            else asked == folded_id(name)
            for name in self.models
        )


class KeyRecord(Rights, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A line of the key file.

    Args:
        id: the part of the key that is no secret.
        salt: hex digits of 16 random bytes.
        hash: hex digits of the keyed BLAKE2b digest of the secret.
        created_at: seconds since the epoch.
    """

    id: Annotated[str, Meta(pattern=r"^[a-z0-9]{12,16}$")]
    salt: Annotated[str, Meta(pattern=r"^([0-9a-f]{32})?$")]
    hash: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
    created_at: Amount | None = None

    @property
    def client(self) -> str:
        """The name by which limits are counted, and which the log shows."""
        return f"key:{self.id}"

    @property
    def cache_salt(self) -> str:
        """Separates this key's prefix caches from those of others."""
        return self.hash[:32]

    def opens(self, secret: str) -> bool:
        """Whether `secret` is the key's; takes the same time for all that are not."""
        return hmac.compare_digest(bytes.fromhex(self.hash), digest(secret, self.salt))


class NewKey(NamedTuple):
    """`text` is shown once: only the record is stored."""

    text: str
    record: KeyRecord


def digest(secret: str, salt: str) -> bytes:
    """The keyed BLAKE2b digest of a secret."""
    return hashlib.blake2b(secret.encode(), digest_size=32, key=bytes.fromhex(salt)).digest()


def new_key(rights: Rights, created_at: int, id: str | None = None) -> NewKey:
    """A key with a new secret.

    Args:
        id: of a key whose secret is replaced; None: a new id.
    """
    id = id or "".join(secrets.choice(_ID_CHARACTERS) for _ in range(ID_LENGTH))
    secret, salt = secrets.token_urlsafe(32), secrets.token_hex(16)
    given = {name: getattr(rights, name) for name in Rights.__struct_fields__}
    record = KeyRecord(
        **given, id=id, salt=salt, hash=digest(secret, salt).hex(), created_at=created_at
    )
    return NewKey(f"{PREFIX}{id}-{secret}", record)


def split_key(key: str) -> tuple[str, str] | None:
    """The id and the secret of a key; None if it does not have the form of one."""
    found = _KEY.fullmatch(key)
    return (found[1], found[2]) if found else None


def plain_record(sha256: bytes) -> KeyRecord:
    """The record of a key from API_KEYS, or from a line with a bare digest: it has all rights."""
    text = sha256.hex()
    return KeyRecord(id=text[:16], salt="", hash=text, admin=True)


def monitoring_record(sha256: bytes) -> KeyRecord:
    """The record of MONITORING_API_KEY."""
    text = sha256.hex()
    return KeyRecord(
        id=text[:16], salt="", hash=text, alias="monitoring", endpoints=("monitoring",)
    )
