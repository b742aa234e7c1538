"""The file of one prefix: a head with its tokens and a digest, then the slot's state.

Backends do not validate what they read, so the digest is checked before a state reaches one.
"""

import hashlib
import mmap
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO

import msgspec
from msgspec import Meta, Struct

from chat_worker.engine.prefixes import HeldPrefix, Prefix

MAGIC = b"Y26HKX-KV2"
LENGTH_BYTES = 4
MAX_HEAD_BYTES = 16 * 1024 * 1024
CHUNK_BYTES = 1 << 20


class InvalidPrefixFile(Exception):
    """The file is damaged, or was not written by this server."""


class _Head(Struct):
    salt: str
    tokens: list[Annotated[int, Meta(ge=0, lt=2**31)]]
    digest: bytes
    n_bytes: int


def head_of(prefix: HeldPrefix) -> bytes:
    """What the file begins with, before the state."""
    digest = _begin_digest(prefix)
    digest.update(prefix.state)
    head = _Head(prefix.salt, prefix.tokens, digest.digest(), prefix.state.nbytes)
    encoded = msgspec.msgpack.encode(head)
    return MAGIC + len(encoded).to_bytes(LENGTH_BYTES, "little") + encoded


def write(path: Path, head: bytes, state: memoryview) -> None:
    """Write a new file that only its owner may read.

    Raises:
        OSError: that failed; the file may be there in part.
    """
    path.touch(mode=0o600)
    with path.open("wb") as file:
        file.write(head)
        file.write(state)


def read_key(path: Path) -> tuple[str, list[int]]:
    """The salt and the tokens of a file, without its state.

    Raises:
        InvalidPrefixFile, OSError: the file cannot be used.
    """
    with path.open("rb") as file:
        head = _read_head(file)
    return head.salt, head.tokens


@contextmanager
def opened(path: Path, prefix: Prefix) -> Iterator[memoryview]:
    """The state in the file of `prefix`, which is valid inside the `with` block.

    Raises:
        InvalidPrefixFile, OSError: the file cannot be used, or is that of another prefix.
    """
    with path.open("rb") as file:
        head = _read_head(file)
        offset = file.tell()
        digest = _begin_digest(prefix)
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
        if digest.digest() != head.digest:
            raise InvalidPrefixFile
        # Mapped, so that a state takes no memory besides the slot that it goes to.
        with (
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
            memoryview(mapped) as whole,
            whole[offset:] as state,
        ):
            yield state


def _read_head(file: BinaryIO) -> _Head:
    n_fixed = len(MAGIC) + LENGTH_BYTES
    fixed = file.read(n_fixed)
    size = int.from_bytes(fixed[len(MAGIC) :], "little")
    if len(fixed) < n_fixed or not fixed.startswith(MAGIC) or size > MAX_HEAD_BYTES:
        raise InvalidPrefixFile
    try:
        head = msgspec.msgpack.decode(file.read(size), type=_Head)
    except msgspec.DecodeError as error:
        raise InvalidPrefixFile from error
    if head.n_bytes != file.seek(0, 2) - n_fixed - size or head.n_bytes <= 0:
        raise InvalidPrefixFile
    file.seek(n_fixed + size)
    return head


def _begin_digest(prefix: Prefix) -> "hashlib.blake2b":
    digest = hashlib.blake2b(prefix.salt.encode(), digest_size=16)
    digest.update(array("q", prefix.tokens))
    return digest
