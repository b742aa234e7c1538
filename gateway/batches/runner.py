"""Runs batches, one after the other, while nobody else asks; goes on where it was after a restart.

What is done is told by the output and error files themselves: each answer is one line, which is
written before the next request is made in its place.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import msgspec
from starlette.types import ASGIApp

from common.errors import RequestTooLarge
from gateway.batches import lines
from gateway.batches.inside import Answer, ask
from gateway.batches.lines import Line
from gateway.batches.records import Batch, FileRecord, Mistake, Status
from gateway.batches.store import BatchStore, new_id
from gateway.idle_time import ForegroundRequests
from gateway.middleware.request_context import RequestContext

# So many requests of a batch are in flight, so that embeddings are computed together.
AT_ONCE = 4
SAVE_EVERY_S = 1.0
# While people have asked lately: one at a time, and after it a pause so many times as long.
GENTLE_PAUSES = 2.0
LONGEST_PAUSE_S = 5.0
# Answers of a server that is busy, starting or at a limit: the request is made again.
PASSING = (429, 503)
SHORTEST_WAIT_S, LONGEST_WAIT_S = 1.0, 10.0
# How often a batch that waits looks whether it was cancelled.
LOOK_EVERY_S = 1.0
SUCCESS = 200

# The context of a request of this client with this id; None: it may not ask any more.
MakeContext = Callable[[Batch, str], RequestContext | None]

log = logging.getLogger(__name__)


class BatchRunner:
    """
    Args:
        app: answers requests, below keys and limits.
        make_context: see above.
        longest_bytes: of a line.
    """

    def __init__(
        self,
        store: BatchStore,
        app: ASGIApp,
        foreground: ForegroundRequests,
        make_context: MakeContext,
        longest_bytes: int,
    ) -> None:
        self._store = store
        self._app = app
        self._foreground = foreground
        self._make_context = make_context
        self._longest_bytes = longest_bytes
        self._wake = asyncio.Event()
        self._gently = asyncio.Lock()
        self._saved_s = 0.0

    def wake(self) -> None:
        """A batch was added, or is to be cancelled."""
        self._wake.set()

    async def run(self) -> None:
        """Run batches until cancelled."""
        while True:
            self._wake.clear()
            batch = self._store.next_batch()
            if batch is None:
                await self._wake.wait()
                continue
            try:
                await self._run(batch)
            except (OSError, RequestTooLarge) as error:
                log.error("the batch %s fails: %s", batch.id, error)
                self._fail(batch, Mistake("storage_failed", str(error)))
            except Exception:
                # The outermost loop: the batches after this one must not wait for ever.
                log.exception("the batch %s fails", batch.id)
                self._fail(batch, Mistake("internal_error", "the gateway failed; see its log"))

    async def _run(self, batch: Batch) -> None:
        if batch.status == "validating" and not await self._validate(batch):
            return
        content = self._store.content
        outputs = content(batch.output_file_id), content(batch.error_file_id)
        answered, failed = [await asyncio.to_thread(lines.answered, path) for path in outputs]
        batch.counts.completed, batch.counts.failed = len(answered), len(failed)
        rest = lines.requests(content(batch.input_file_id), answered | failed)
        with outputs[0].open("ab") as output, outputs[1].open("ab") as errors:
            run = _Run(batch, rest, output, errors)
            try:
                async with asyncio.TaskGroup() as tasks:
                    for _ in range(AT_ONCE):
                        tasks.create_task(self._answer_all(run))
            except ExceptionGroup as group:
                raise group.exceptions[0] from None
            await asyncio.to_thread(self._write_rest, run)
        over: dict[Status, Status] = {"cancelling": "cancelled", "in_progress": "completed"}
        self._close(batch, "expired" if run.is_expired else over[batch.status])

    async def _validate(self, batch: Batch) -> bool:
        path = self._store.content(batch.input_file_id)
        checked = await asyncio.to_thread(lines.check, path, batch.endpoint, self._longest_bytes)
        batch.counts.total = checked.total
        if checked.mistakes:
            batch.mistakes = checked.mistakes
            self._close(batch, "failed")
            return False
        if batch.status != "cancelling":
            self._enter(batch, "in_progress")
        return True

    async def _answer_all(self, run: "_Run") -> None:
        """Make one request after the other, as long as there are any."""
        while (line := run.next()) is not None:
            await self._answer(run, line)
            self._save_sometimes(run.batch)

    async def _answer(self, run: "_Run", line: Line) -> None:
        batch = run.batch
        answer: Answer | None = None
        while answer is None or answer.status in PASSING:
            if answer is not None:
                wait_s = answer.retry_after_s or SHORTEST_WAIT_S
                await asyncio.sleep(min(max(wait_s, SHORTEST_WAIT_S), LONGEST_WAIT_S))
            await self._quiet(run)
            if run.is_over:
                run.unmade.append(line)
                return
            request_id = new_id("batch_req_")
            context = self._make_context(batch, request_id)
            if context is None:
                self._refuse(run, line)
                return
            answer = await self._asked(run, line, context)
        self._store.require_room(len(answer.body))
        is_success = answer.status == SUCCESS
        text = lines.answer_line(request_id, line, answer.status, request_id, answer.body)
        run.write(text, is_success=is_success)

    async def _asked(self, run: "_Run", line: Line, context: RequestContext) -> Answer:
        """The answer to one request, which leaves room for people who may ask again."""
        body = msgspec.json.encode(line.body)
        if not self._foreground.asked_lately:
            return await ask(self._app, line.url, body, context)
        async with self._gently:
            await self._quiet(run)
            began_s = time.monotonic()
            answer = await ask(self._app, line.url, body, context)
            took_s = time.monotonic() - began_s
            # So the machine is free most of the time, and most people find it so.
            await asyncio.sleep(min(GENTLE_PAUSES * took_s, LONGEST_PAUSE_S))
            return answer

    async def _quiet(self, run: "_Run") -> None:
        """Return when nobody else asks, or when no more requests are to be made."""
        while not run.is_over:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._foreground.quiet()
                    return

    def _refuse(self, run: "_Run", line: Line) -> None:
        message = "the key of this batch may not call this endpoint any more"
        text = lines.failure_line(new_id("batch_req_"), line, "permission_denied", message)
        run.write(text, is_success=False)

    def _write_rest(self, run: "_Run") -> None:
        """What an expired batch did not ask is an error; what a cancelled one did not is none."""
        if not run.is_expired:
            return
        message = "the batch's time was over before this request was made"
        for line in [*run.unmade, *run.rest]:
            text = lines.failure_line(new_id("batch_req_"), line, "batch_expired", message)
            run.write(text, is_success=False)

    def _save_sometimes(self, batch: Batch) -> None:
        if time.monotonic() - self._saved_s >= SAVE_EVERY_S:
            self._saved_s = time.monotonic()
            self._store.save(batch)

    def _enter(self, batch: Batch, status: Status) -> None:
        batch.status = status
        batch.times[f"{status}_at"] = int(time.time())
        self._store.save(batch)

    def _fail(self, batch: Batch, why: Mistake) -> None:
        batch.mistakes = [why]
        self._close(batch, "failed")

    def _close(self, batch: Batch, status: Status) -> None:
        """The batch is over: its answers become files."""
        for file_id, kind in (
            (batch.output_file_id, "output"),
            (batch.error_file_id, "error"),
        ):
            path = self._store.content(file_id)
            size = path.stat().st_size if path.exists() else 0
            if not size:
                path.unlink(missing_ok=True)
                continue
            self._store.add_written(
                FileRecord(
                    id=file_id,
                    owner=batch.owner,
                    filename=f"{batch.id}_{kind}.jsonl",
                    purpose="batch_output",
                    n_bytes=size,
                    created_at=int(time.time()),
                )
            )
        self._enter(batch, status)


class _Run:
    """A batch that runs: the requests that are left, and where its answers go."""

    def __init__(self, batch: Batch, rest: Iterator[Line], output: Any, errors: Any) -> None:
        self.batch = batch
        self.rest = rest
        self.unmade: list[Line] = []
        self._output = output
        self._errors = errors

    @property
    def is_expired(self) -> bool:
        return self.batch.status != "cancelling" and time.time() >= self.batch.expires_at

    @property
    def is_over(self) -> bool:
        """No more requests are to be made."""
        return self.batch.status == "cancelling" or self.is_expired

    def next(self) -> Line | None:
        return None if self.is_over else next(self.rest, None)

    def write(self, text: bytes, *, is_success: bool) -> None:
        """Write a line before it counts."""
        file = self._output if is_success else self._errors
        file.write(text)
        file.flush()
        counts = self.batch.counts
        if is_success:
            counts.completed += 1
        else:
            counts.failed += 1
