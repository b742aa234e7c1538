"""The gateway's side of a classifier's process."""

import asyncio
import contextlib
import logging
import sys
import time

import orjson

from gateway.guard.policy import ClassifierRule
from gateway.settings import child_environment

# A model may be large.
START_S = 120.0
RETRY_AFTER_S = 10.0

log = logging.getLogger(__name__)


class ClassifierFailed(Exception):
    """The classifier crashed, was late, or cannot be started; the text says which."""


class ClassifierClient:
    """Starts the process with the first text, and again after it has died."""

    def __init__(self, rule: ClassifierRule) -> None:
        self.rule = rule
        self._lock = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._n_asked = 0
        self._not_before_s = 0.0

    async def highest(self, texts: list[str]) -> float:
        """The highest score of the texts.

        Raises:
            ClassifierFailed: it has none.
        """
        async with self._lock:
            process = await self._running()
            self._n_asked += 1
            found = await self._answer(
                process, {"id": self._n_asked, "texts": texts}, self.rule.timeout_s
            )
        scores = found.get("scores")
        if not isinstance(scores, list) or not scores:
            raise ClassifierFailed(str(found.get("failed", "it has no scores")))
        return float(max(scores))

    def end(self) -> None:
        """Kill the process; nobody waits for its death."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()

    async def close(self) -> None:
        """Kill the process, and wait until it is dead."""
        process = self._process
        self.end()
        if process is not None:
            await process.wait()

    async def _running(self) -> asyncio.subprocess.Process:
        if self._process is not None:
            return self._process
        if time.monotonic() < self._not_before_s:
            raise ClassifierFailed("it has failed lately")
        self._not_before_s = time.monotonic() + RETRY_AFTER_S
        self._process = process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "gateway.guard.classifier_process", self.rule.name),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=child_environment(),
        )
        self._n_asked = 0
        _send(process, self.rule.options)
        await self._answer(process, None, START_S)
        log.info("the classifier %s is loaded", self.rule.name)
        return process

    async def _answer(
        self, process: asyncio.subprocess.Process, asked: dict[str, object] | None, within_s: float
    ) -> dict[str, object]:
        """The answer to `asked`; answers to those whose clients have left come before it."""
        assert process.stdout is not None
        if asked is not None:
            _send(process, asked)
        try:
            async with asyncio.timeout(within_s):
                while line := await process.stdout.readline():
                    found: dict[str, object] = orjson.loads(line)
                    if found["id"] == self._n_asked:
                        return found
        except TimeoutError:
            self.end()
            raise ClassifierFailed(f"no answer within {within_s:g} s") from None
        except asyncio.CancelledError:
            # Half loaded, nobody would read that it is.
            if asked is None:
                self.end()
            raise
        self._process = None
        raise ClassifierFailed("its process has ended")


def _send(process: asyncio.subprocess.Process, message: object) -> None:
    assert process.stdin is not None
    # A process that has died shows by the end of what it writes.
    process.stdin.write(orjson.dumps(message) + b"\n")
