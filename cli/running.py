"""Remembers which process serves at an address, for `y26hkx stop`; the standard library alone."""

import contextlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cli.address import Address


@contextmanager
def recorded(folder: Path, address: Address) -> Iterator[None]:
    """Record this process while it serves. A folder that cannot be written is no reason to fail."""
    file = _file(folder, address)
    record = {"pid": os.getpid(), "at_s": time.time()}
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(record), "utf-8")
    try:
        yield
    finally:
        known = read_record(folder, address)
        if known is not None and known["pid"] == os.getpid():
            with contextlib.suppress(OSError):
                file.unlink()


def read_record(folder: Path, address: Address) -> dict[str, float] | None:
    """The record of the last process at that address; None if there is none."""
    try:
        record = json.loads(_file(folder, address).read_text("utf-8"))
        return {name: float(record[name]) for name in ("pid", "at_s")}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _file(folder: Path, address: Address) -> Path:
    return folder / f"serves-on-{address.name}.json"
