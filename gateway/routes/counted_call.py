"""Tells limits and metrics of the events of one generation."""

import time

from gateway.keys.budgets import Lease
from gateway.measures.generation import Generation
from gateway.metrics import Metrics
from gateway.translate.reply_parts import FINISH_REASONS
from protos.y26hkx.v1 import chat_pb2


class CountedCall:
    """
    Args:
        lease: of the tokens that the client's key may use.
        times: of this generation.
        began_s: when its request began, by `time.perf_counter`.
    """

    def __init__(self, lease: Lease, times: Generation, metrics: Metrics, began_s: float) -> None:
        self._lease = lease
        self._times = times
        self._metrics = metrics
        self._began_s = began_s

    def see(self, event: chat_pb2.GenerateEvent) -> None:
        """Count an event; called for each, in order."""
        # The events of tokens are by far the most.
        if event.HasField("delta"):
            n_tokens = event.delta.n_tokens
            self._lease.completion_tokens += n_tokens
            self._times.take(n_tokens)
        elif event.HasField("started"):
            started = event.started
            self._lease.model = started.model.id
            self._lease.prompt_tokens = started.prompt_tokens
            self._times.start(started.model.id, started.cached_tokens)
        else:
            self._finish(event.finished)

    def _finish(self, finished: chat_pb2.Finished) -> None:
        usage, timings = finished.usage, finished.timings
        self._lease.completion_tokens = usage.completion_tokens
        self._metrics.count_tokens(usage)
        self._metrics.count_chat(time.perf_counter() - self._began_s)
        self._times.finish(
            usage.prompt_tokens,
            usage.completion_tokens,
            (timings.queue_s, timings.prefill_s, timings.decode_s),
            [FINISH_REASONS[choice.reason] for choice in finished.choices],
        )
