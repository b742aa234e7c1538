"""llama-server's `timings`: how many tokens a reply took, and how fast they were."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from protos.y26hkx.v1 import chat_pb2

MS_PER_S = 1000


@dataclass
class _Counts:
    cached: int = 0
    prompt: int = 0
    predicted: int = 0
    prompt_s: float = 0.0
    predicted_s: float = 0.0


class ReplyTimings:
    """The counts and times of one reply, summed up over its calls.

    While a call runs, its times are those at which its events came here; the worker's own times
    replace them at its end.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._ended = _Counts()
        self._running = _Counts()
        self._began_s = clock()
        self._first_s: float | None = None

    def see(self, event: chat_pb2.GenerateEvent) -> None:
        """Count what an event says."""
        match event.WhichOneof("event"):
            case "started":
                started = event.started
                self._running = _Counts(
                    started.cached_tokens, started.prompt_tokens - started.cached_tokens
                )
                self._began_s, self._first_s = self._clock(), None
            case "delta":
                self._count(event.delta.n_tokens)
            case "finished":
                self._end(event.finished)

    def shown(self) -> dict[str, int | float]:
        """The object of this moment; the speed of what has taken no time yet is 0."""
        ended, running = self._ended, self._running
        n_prompt = ended.prompt + running.prompt
        n_predicted = ended.predicted + running.predicted
        return {
            "cache_n": ended.cached + running.cached,
            **_phase("prompt", n_prompt, ended.prompt_s + running.prompt_s),
            **_phase("predicted", n_predicted, ended.predicted_s + running.predicted_s),
        }

    def _count(self, n_tokens: int) -> None:
        now_s = self._clock()
        if self._first_s is None:
            self._first_s = now_s
            self._running.prompt_s = now_s - self._began_s
        self._running.predicted += n_tokens
        self._running.predicted_s = now_s - self._first_s

    def _end(self, finished: chat_pb2.Finished) -> None:
        usage, ended = finished.usage, self._ended
        ended.cached += usage.cached_tokens
        ended.prompt += usage.prompt_tokens - usage.cached_tokens
        ended.predicted += usage.completion_tokens
        ended.prompt_s += finished.timings.prefill_s
        ended.predicted_s += finished.timings.decode_s
        self._running = _Counts()


def _phase(name: str, n_tokens: int, seconds: float) -> dict[str, int | float]:
    return {
        f"{name}_n": n_tokens,
        f"{name}_ms": seconds * MS_PER_S,
        f"{name}_per_token_ms": seconds * MS_PER_S / n_tokens if n_tokens else 0.0,
        f"{name}_per_second": n_tokens / seconds if seconds else 0.0,
    }
