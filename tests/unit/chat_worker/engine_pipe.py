"""A real engine process on a real pipe, spoken to as the worker does."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from msgspec import Struct

from chat_worker import pipe_messages as m
from common.frames import frame_length
from worker_runtime.engine_process import protocol

EXIT_WITHIN_S = 20


class EnginePipe:
    """
    Args:
        module: the engine process to start.
        env: variables on top of this process's own.
    """

    def __init__(
        self, module: str = "chat_worker.engine_process", env: Mapping[str, str] | None = None
    ) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", module],
            env={**os.environ, **(env or {})},  # noqa: TID251 - the test is the outermost caller
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._n_calls = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()
        try:
            self.process.wait(EXIT_WITHIN_S)
        finally:
            self.process.kill()

    def load(self, path: Path, **changed: object) -> protocol.Loaded | protocol.LoadFailed:
        plain = {"backend": "llama.cpp", "path": str(path), "n_ctx": 512}
        return self.load_spec(m.LoadSpec(**(plain | changed)))  # type: ignore[arg-type]

    def load_spec(self, spec: Struct) -> protocol.Loaded | protocol.LoadFailed:
        self.send(protocol.Load(protocol.raw(spec)))
        for report in self.reports():
            if isinstance(report, protocol.Loaded | protocol.LoadFailed):
                return report
        raise AssertionError("the process ended without a report")

    def send(self, command: protocol.Command) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(protocol.frame(command))
        self.process.stdin.flush()

    def submit(self, body: Struct) -> int:
        self._n_calls += 1
        self.send(protocol.Submit(self._n_calls, protocol.raw(body)))
        return self._n_calls

    def reports(self) -> Iterator[protocol.Report]:
        """Every report until the process closes its pipe."""
        assert self.process.stdout is not None
        while len(head := self.process.stdout.read(4)) == 4:
            payload = self.process.stdout.read(frame_length(head))
            yield protocol.report_decoder.decode(payload)

    def answers(
        self, *call_ids: int
    ) -> dict[int, tuple[list[m.EngineEvent], protocol.PipeError | None]]:
        """What each of these calls got, once all have ended."""
        events: dict[int, list[m.EngineEvent]] = {call_id: [] for call_id in call_ids}
        ends: dict[int, protocol.PipeError | None] = {}
        for report in self.reports():
            match report:
                case protocol.Event(call_id, body) if call_id in events:
                    events[call_id].append(m.event_decoder.decode(body))
                case protocol.Ended(call_id, error) if call_id in events:
                    ends[call_id] = error
            if len(ends) == len(events):
                break
        return {call_id: (events[call_id], ends[call_id]) for call_id in ends}

    def ask(self, body: Struct) -> tuple[list[m.EngineEvent], protocol.PipeError | None]:
        call_id = self.submit(body)
        return self.answers(call_id)[call_id]
