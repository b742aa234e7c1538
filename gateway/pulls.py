"""Runs downloads and deletions, each in a process of its own: `python -m downloads`.

The gateway never imports that package: it needs the workers' estimates, and blocks while it reads.
"""

import asyncio
import base64
import binascii
import contextlib
import importlib.util
import sys
from collections.abc import AsyncGenerator
from typing import Any

import orjson
from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status

from common.error_texts import ErrorText
from common.errors import Cancelled, DownloadFailed, Overloaded, PermissionDenied, ServingError
from common.rpc_status import from_status
from gateway.settings import child_environment

# A plan of many variants is one line.
MAX_LINE_BYTES = 4 << 20
MAX_LISTED = 16
RETRY_AFTER_S = 60


class Pulls:
    """The downloads that run.

    Args:
        most: how many may run at once; 0: none, and no model is deleted.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._running: dict[str, asyncio.Event] = {}

    async def events(
        self, name: str, *, force: bool, plan_only: bool
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Download the model called `name`; yields what happens. Closing it ends the download.

        Raises:
            ServingError: with the reason why there is no such model now.
        """
        self.require_on()
        if name in self._running or len(self._running) >= self._most:
            raise Overloaded(
                ErrorText("too_many_pulls", n=len(self._running)),
                param="model",
                retry_after_s=RETRY_AFTER_S,
            )
        cancelled = self._running[name] = asyncio.Event()
        options = {"--force": force, "--plan-only": plan_only}
        chosen = [option for option, is_on in options.items() if is_on]
        try:
            async with contextlib.aclosing(_lines("pull", *chosen, "--", name)) as lines:
                async for line in _until(lines, cancelled):
                    yield line
        finally:
            del self._running[name]

    def require_on(self) -> None:
        """
        Raises:
            PermissionDenied: the models folder is not changed from here.
        """
        if not self._most or importlib.util.find_spec("downloads") is None:
            raise PermissionDenied(
                ErrorText("pulls_are_off"),
                suggestions=(ErrorText("pull_by_command"),),
            )

    def cancel(self, name: str) -> bool:
        """End the download called `name`; returns whether there is one."""
        if cancelled := self._running.get(name):
            cancelled.set()
        return cancelled is not None

    @property
    def names(self) -> list[str]:
        return list(self._running)[:MAX_LISTED]


async def remove(model: str) -> dict[str, Any]:
    """Delete a model's files; returns which.

    Raises:
        ServingError: they cannot be deleted.
    """
    last: dict[str, Any] = {}
    async with contextlib.aclosing(_lines("remove", "--", model)) as lines:
        async for line in lines:
            last = line
    return last


async def _until(
    lines: AsyncGenerator[dict[str, Any], None], cancelled: asyncio.Event
) -> AsyncGenerator[dict[str, Any], None]:
    """The lines, until the event is set.

    Raises:
        Cancelled: it was.
    """
    ending = asyncio.ensure_future(cancelled.wait())
    try:
        while True:
            reading = asyncio.ensure_future(anext(lines, None))
            try:
                await asyncio.wait({reading, ending}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not reading.done():
                    reading.cancel()
                    await asyncio.wait({reading})
            if cancelled.is_set():
                raise Cancelled(ErrorText("pull_cancelled"))
            line = reading.result()
            if line is None:
                return
            yield line
    finally:
        ending.cancel()


async def _lines(*arguments: str) -> AsyncGenerator[dict[str, Any], None]:
    """What `python -m downloads` writes. Closing this generator ends the process.

    Raises:
        ServingError: the process could not do it, or died.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "downloads", *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=child_environment(),
        limit=MAX_LINE_BYTES,
    )
    assert process.stdout is not None
    try:
        while line := await process.stdout.readline():
            found = orjson.loads(line)
            if found.get("status") == "failed":
                raise _failure(found["error"])
            yield found
        if await process.wait():
            # It was killed, or has a bug, of which the log has the traceback.
            raise DownloadFailed(ErrorText("pull_ended"), param="model")
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _failure(encoded: str) -> ServingError:
    try:
        error = from_status(Status.FromString(base64.b64decode(encoded)))
    except (binascii.Error, DecodeError):
        error = None
    return error or DownloadFailed(ErrorText("pull_ended"), param="model")
