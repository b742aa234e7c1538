"""What may lie in a folder beside models and must harm nobody."""

import os
import socket
import sys
from pathlib import Path

import pytest

from tests.made_models import gguf, lying

NOT_UTF8 = "not-\udcff-utf8.gguf"
posix_only = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows has neither pipes nor devices in folders"
)


def write(folder: Path, good: bytes = b"") -> dict[str, str]:
    """Fill `folder` with them; the ids of those that are to be listed, and a word of each reason;
    empty: it can be loaded.

    Args:
        good: a model that can be loaded; else one that can be listed.
    """
    good = good or gguf()
    os.mkfifo(folder / "pipe.gguf")
    with socket.socket(socket.AF_UNIX) as listening:
        # Such names are short: it is bound by a relative one.
        before = os.getcwd()
        os.chdir(folder)
        try:
            listening.bind("socket.gguf")
        finally:
            os.chdir(before)
    (folder / "device.gguf").symlink_to("/dev/zero")
    (folder / "dangling.gguf").symlink_to(folder / "nothing")
    (folder / "dangling").symlink_to(folder / "nothing")
    (folder / "loop.gguf").symlink_to(folder / "loop.gguf")
    (folder / "too-long").symlink_to("x" * 300)
    (folder / "huge.gguf").write_bytes(lying(block_count=1 << 30))
    (folder / "cut.gguf").write_bytes(good[: len(good) // 2])
    (folder / "nonsense.gguf").write_bytes(b"GGUF" + b"\xff" * 4096)
    (folder / "empty.gguf").touch()
    (folder / "folder.gguf").mkdir()
    (folder / NOT_UTF8).write_bytes(good)
    (folder / "lost+found").mkdir(mode=0)
    (folder / "locked").mkdir(mode=0)
    (folder / "locked.gguf").write_bytes(good)
    (folder / "locked.gguf").chmod(0)
    return {
        "pipe": "a pipe",
        "socket": "a socket",
        "device": "a device",
        "dangling": "missing",
        "loop": "could not be read",
        "too-long": "could not be read",
        "huge": "block_count",
        "cut": "truncated",
        "nonsense": "version",
        "empty": "truncated",
        "not-_xff-utf8": "",
    }
