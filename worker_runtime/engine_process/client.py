"""The worker's end of the pipe to an engine process: sends calls and delivers their events.

One task per process reads the pipe and passes each report to its call. Another one copies the
process's stderr into the log. Both end with the process.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator

import msgspec

from common.cgroup import oom_kills
from common.error_texts import ErrorText
from common.errors import BackendFailure, ServingError, WorkerLost
from common.frames import FrameSplitter
from worker_runtime.engine_process import protocol
from worker_runtime.engine_process.inflight import InflightCalls
from worker_runtime.engine_process.interface import (
    EngineProcess,
    ExitReport,
    OnProgress,
    signal_name,
)
from worker_runtime.engine_process.stderr_tail import StderrTail
from worker_runtime.memory.probe import MemoryProbe

__all__ = ["EngineClient", "EngineProcess", "ExitReport"]

READ_BYTES = 64 * 1024
# How long a process may take to exit after it has closed its pipe.
EXIT_GRACE_S = 2.0
# A process that has calls, reports nothing and leaves MOST_UNANSWERED pings unanswered is ended.
PING_EVERY_S = 5.0
MOST_UNANSWERED = 6
# A process is also ended after it has reported an overdue thread this many times in a row.
MOST_OVERDUE = 2

log = logging.getLogger(__name__)


class EngineClient:
    """An engine process and the pipe to it. `EngineProcess` documents the methods for callers."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        name: str,
        probe: MemoryProbe,
        ping_every_s: float,
    ) -> None:
        self._process = process
        self._name = name
        self._probe = probe
        self._calls = InflightCalls()
        self._loading: asyncio.Future[msgspec.Raw] = asyncio.get_running_loop().create_future()
        # `load` awaits the future. If it was cancelled, nobody needs the error any more.
        self._loading.add_done_callback(lambda loading: loading.cancelled() or loading.exception())
        self._on_progress: OnProgress = lambda fraction, stage: None
        self._peak_resident_bytes = 0
        self._wanted = False
        self._ping_every_s = ping_every_s
        self._has_reported = False
        self._overdue = ""
        self._stderr_tail = StderrTail(name)
        self._oom_kills_before = oom_kills()
        self._exit: ExitReport | None = None
        # The task ends when the process ends; `stop` and `wait` await it.
        self._watching = asyncio.create_task(self._watch(), name=f"engine {name}")

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit(self) -> ExitReport | None:
        return self._exit

    async def call(self, body: msgspec.Struct) -> AsyncGenerator[msgspec.Raw, None]:
        async with contextlib.aclosing(self.call_batches(body)) as batches:
            async for batch in batches:
                for event in batch:
                    yield event

    async def call_batches(self, body: msgspec.Struct) -> AsyncGenerator[list[msgspec.Raw], None]:
        if self._exit is not None:
            raise self._lost()
        call_id, call = self._calls.open()
        try:
            await self._send(protocol.Submit(call_id, protocol.raw(body)))
            while events := await call.take():
                yield events
        finally:
            if self._calls.close(call_id):
                self._post(protocol.Cancel(call_id))

    async def unary(self, body: msgspec.Struct) -> msgspec.Raw:
        events = [event async for event in self.call(body)]
        if len(events) != 1:
            raise BackendFailure(ErrorText("engine_miscounted", n_events=len(events)))
        return events[0]

    async def load(self, spec: msgspec.Raw, on_progress: OnProgress) -> msgspec.Raw:
        self._on_progress = on_progress
        await self._send(protocol.Load(spec))
        facts = await asyncio.shield(self._loading)
        self.resident_bytes()
        return facts

    def shed(self) -> None:
        self._post(protocol.Shed())

    def limit_caches(self, max_bytes: int) -> None:
        self._post(protocol.LimitCaches(max_bytes))

    async def stop(self, grace_s: float) -> ExitReport:
        self._wanted = True
        self._post(protocol.Stop())
        for insist in (self._process.terminate, self._process.kill):
            try:
                return await asyncio.wait_for(self.wait(), grace_s)
            except TimeoutError:
                log.warning("engine %s did not exit in %.1f s: insisting", self._name, grace_s)
                with contextlib.suppress(ProcessLookupError):
                    insist()
        return await self.wait()

    def kill(self) -> None:
        self._wanted = True
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def wait(self) -> ExitReport:
        return await asyncio.shield(self._watching)

    def resident_bytes(self) -> int:
        if self._exit is not None:
            return 0
        now = self._probe.resident_bytes(self.pid)
        self._peak_resident_bytes = max(self._peak_resident_bytes, now)
        return now

    async def _send(self, command: protocol.Command) -> None:
        self._post(command)
        assert self._process.stdin is not None
        try:
            await self._process.stdin.drain()
        except ConnectionError:
            await self.wait()
            raise self._lost() from None

    def _post(self, command: protocol.Command) -> None:
        """Write without waiting. Only for small commands and where the caller must not wait."""
        assert self._process.stdin is not None
        if not self._process.stdin.is_closing():
            self._process.stdin.write(protocol.frame(command))

    async def _watch(self) -> ExitReport:
        assert self._process.stderr is not None
        relaying = asyncio.create_task(
            self._stderr_tail.relay(self._process.stderr), name=f"stderr of {self._name}"
        )
        guarding = asyncio.create_task(self._guard(), name=f"guard of {self._name}")
        try:
            await self._read_reports()
            guarding.cancel()
            await self._outlast(EXIT_GRACE_S)
            # Its last lines explain its end. A grandchild process may keep stderr open for ever.
            await asyncio.wait({relaying}, timeout=EXIT_GRACE_S)
        finally:
            guarding.cancel()
            relaying.cancel()
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            self._exit = await self._report_exit()
        return self._exit

    async def _guard(self) -> None:
        """Kill a process that is stopped, does not answer pings, or reports that a thread is
        stuck."""
        n_unanswered = n_overdue = 0
        while n_unanswered < MOST_UNANSWERED and n_overdue < MOST_OVERDUE:
            self._has_reported, self._overdue = False, ""
            if self._calls:
                self._post(protocol.Ping())
            await asyncio.sleep(self._ping_every_s)
            # Pings are counted, not seconds, because the whole machine may have slept.
            n_unanswered = n_unanswered + 1 if self._calls and not self._has_reported else 0
            n_overdue = n_overdue + 1 if self._overdue else 0
        why = f"is stuck ({self._overdue})" if self._overdue else "does not answer"
        log.warning("engine %s %s: ending it", self._name, why)
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def _read_reports(self) -> None:
        assert self._process.stdout is not None
        splitter = FrameSplitter()
        try:
            while chunk := await self._process.stdout.read(READ_BYTES):
                for payload in splitter.feed(chunk):
                    self._dispatch(protocol.report_decoder.decode(payload))
        except (ValueError, msgspec.MsgspecError):
            log.exception("invalid data on the pipe from engine %s: ending it", self._name)
            self._process.kill()

    def _dispatch(self, report: protocol.Report) -> None:
        self._has_reported = True
        match report:
            case protocol.Pong(overdue=overdue):
                self._overdue = overdue
            case protocol.Event():
                if not self._calls.event(report):
                    self._post(protocol.Cancel(report.id))
            case protocol.Ended():
                self._calls.ended(report)
            case protocol.Progress(fraction=fraction, stage=stage):
                self._on_progress(min(max(fraction, 0.0), 1.0), stage)
            case protocol.Loaded(facts=facts):
                if not self._loading.done():
                    self._loading.set_result(facts)
            case protocol.LoadFailed(error=error):
                if not self._loading.done():
                    self._loading.set_exception(error.error())

    async def _outlast(self, grace_s: float) -> None:
        """Wait for the exit of a process whose pipe is closed; kill it after `grace_s`."""
        try:
            await asyncio.wait_for(self._process.wait(), grace_s)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def _report_exit(self) -> ExitReport:
        code = await self._process.wait()
        report = ExitReport(
            code,
            signal_name(code),
            self._wanted,
            self._peak_resident_bytes,
            self._stderr_tail.lines,
            oom_kills() - self._oom_kills_before,
        )
        self._exit = report
        self._calls.all_ended(self._lost)
        if not self._loading.done():
            self._loading.set_exception(self._lost())
        if self._process.stdin is not None:
            self._process.stdin.close()
        return report

    def _lost(self) -> ServingError:
        id = "process_stopped" if self._wanted else "process_died"
        return WorkerLost(ErrorText(id, how=self._exit), retry_after_s=1)
