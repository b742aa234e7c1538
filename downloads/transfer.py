"""Downloads files in parts, several at a time, and goes on where connections break or stall."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import BinaryIO

import httpx

from common.error_texts import ErrorText
from common.errors import Cancelled, DownloadFailed, RateLimited, ServingError
from downloads.listing import RemoteFile
from downloads.staging import Files, Staging
from downloads.web import Web, unreachable

PART_BYTES = 16 << 20
PIECE_BYTES = 128 << 10
# Attempts in a row that bring next to nothing, after which the download fails.
MOST_FAILURES = 5
LONGEST_PAUSE_S = 30.0
# A connection that brings less than this while it could be called stalled is as good as dead.
LEAST_BYTES = 4096


def transfer(
    files: Files,
    staging: Staging,
    web: Web,
    headers: dict[str, str],
    *,
    connections: int,
    stall_s: float,
    on_bytes: Callable[[int], None],
) -> None:
    """Fetch what is missing of the files into the staging folder.

    Args:
        stall_s: seconds in which a connection has to bring something.
        on_bytes: called with the count of bytes that arrived, from several threads; a negative
            count is of bytes that have to come again.
    Raises:
        ServingError: a part could not be fetched; all that is complete stays.
        OSError: the disk does not take it.
    """
    stopping = threading.Event()
    parts = []
    for number, (file, _) in enumerate(files):
        path = staging.part(number)
        _make(path, file.size_bytes)
        for begin in range(0, file.size_bytes, PART_BYTES):
            if (number, begin) not in staging.done:
                part = _Part(file, path, begin, web, headers, stall_s, on_bytes, stopping)
                parts.append((number, part))

    def fetch(number: int, part: _Part) -> None:
        part.fetch()
        staging.note_done(number, part.begin)

    with ThreadPoolExecutor(connections, thread_name_prefix="pull") as pool:
        running = [pool.submit(fetch, number, part) for number, part in parts]
        try:
            ended, _ = wait(running, return_when=FIRST_EXCEPTION)
            for one in ended:
                one.result()
        finally:
            stopping.set()
            pool.shutdown(wait=False, cancel_futures=True)


class _Part:
    """Bytes of one file from `begin` on, with the place where its download has arrived."""

    def __init__(
        self,
        file: RemoteFile,
        path: Path,
        begin: int,
        web: Web,
        headers: dict[str, str],
        stall_s: float,
        on_bytes: Callable[[int], None],
        stopping: threading.Event,
    ) -> None:
        self._file = file
        self._path = path
        self.begin = begin
        self._end = min(begin + PART_BYTES, file.size_bytes)
        self._at = begin
        self._web = web
        self._headers = headers
        self._stall_s = stall_s
        self._on_bytes = on_bytes
        self._stopping = stopping

    def fetch(self) -> None:
        """Fetch the part, however many connections that takes."""
        n_failures = 0
        with self._path.open("r+b") as target:
            while self._at < self._end:
                before = self._at
                problem = self._attempt(target)
                if problem is None:
                    continue
                n_failures = 0 if self._at - before >= LEAST_BYTES else n_failures + 1
                if n_failures >= MOST_FAILURES:
                    raise problem
                pause_s = problem.retry_after_s if isinstance(problem, RateLimited) else None
                wait_s = min(pause_s or 0.1 * 4.0**n_failures, LONGEST_PAUSE_S, self._stall_s)
                if self._stopping.wait(wait_s):
                    raise problem

    def _attempt(self, target: BinaryIO) -> ServingError | None:
        """Go on with one more connection; returns why that ended before the part did."""
        address = self._file.address
        try:
            with self._web.stream(address, self._headers, self._at, self._end) as reply:
                self._require_range(reply)
                self._take(reply, target)
        except httpx.TransportError:
            return unreachable(address)
        except (DownloadFailed, RateLimited) as error:
            return error
        return None

    def _require_range(self, reply: httpx.Response) -> None:
        """Check that the reply has the bytes that were asked for, of the file that was listed."""
        if reply.status_code == httpx.codes.PARTIAL_CONTENT:
            _, _, said = reply.headers.get("content-range", "").partition(" ")
            begin, total = said.partition("-")[0], said.rpartition("/")[2]
            if (begin, total) == (str(self._at), str(self._file.size_bytes)):
                return
        elif self._knows_no_ranges(reply):
            return
        raise DownloadFailed(ErrorText("pull_file_changed", name=self._file.name), param="model")

    def _knows_no_ranges(self, reply: httpx.Response) -> bool:
        """Whether the reply is the whole file, which then is skipped up to this part."""
        return bool(reply.headers.get("content-length") == str(self._file.size_bytes))

    def _take(self, reply: httpx.Response, target: BinaryIO) -> None:
        is_part = reply.status_code == httpx.codes.PARTIAL_CONTENT
        position = self._at if is_part else 0
        target.seek(self._at)
        began_s, n_bytes = time.monotonic(), 0
        for piece in reply.iter_bytes(PIECE_BYTES):
            if self._stopping.is_set():
                raise Cancelled(ErrorText("pull_cancelled"))
            wanted = piece[max(self._at - position, 0) : self._end - position]
            position += len(piece)
            target.write(wanted)
            self._at += len(wanted)
            self._on_bytes(len(wanted))
            if self._at >= self._end:
                return
            n_bytes += len(piece)
            if time.monotonic() - began_s > self._stall_s:
                if n_bytes < LEAST_BYTES:
                    raise unreachable(self._file.address)
                began_s, n_bytes = time.monotonic(), 0


def _make(path: Path, size_bytes: int) -> None:
    """Make the file in its full length, or leave it as it is."""
    with path.open("ab") as file:
        if path.stat().st_size != size_bytes:
            file.truncate(size_bytes)
