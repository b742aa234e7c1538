"""The times of one generation, from the call to a worker to the end of the answer."""

import time
from collections.abc import Iterable

from gateway.measures.measures import KeyMeasures, Measures


class Generation:
    """
    Args:
        model: the id of the model that is asked for.
        key: of the client that asks.
        arrived_s: when the request arrived, by `time.perf_counter`.
    """

    __slots__ = (
        *(
            "_arrived_s",
            "_key",
            "_latest_s",
            "_measures",
            "_model",
            "_ready_s",
            "_waited_s",
            "_waits",
        ),
    )

    def __init__(self, measures: Measures, model: str, key: KeyMeasures, arrived_s: float) -> None:
        self._measures = measures
        self._key = key
        self._arrived_s = arrived_s
        # Since the first token; before it 0.
        self._latest_s = 0.0
        self._waits = True
        self._model = measures.models[model]
        self._model.n_waiting += 1
        self._ready_s = time.perf_counter()
        self._waited_s = 0.0
        measures.overhead.observe(self._ready_s - arrived_s)

    def dispatch(self) -> None:
        """Its turn has come: a worker is called."""
        self._waited_s = time.perf_counter() - self._ready_s

    def start(self, model: str, n_cached: int) -> None:
        """The worker has begun.

        Args:
            model: the id of the model that answers, which may not be the one that was asked for.
        """
        self._model.n_waiting -= 1
        self._model = self._measures.models[model]
        self._model.n_running += 1
        self._model.cached_tokens += n_cached
        self._waits = False

    def take(self, n_tokens: int) -> None:
        """Tokens have come, together."""
        now_s = time.perf_counter()
        if not self._latest_s:
            self._model.first_token.observe(now_s - self._arrived_s)
        elif n_tokens:
            self._model.between_tokens.observe((now_s - self._latest_s) / n_tokens, n_tokens)
        self._latest_s = now_s

    def finish(
        self, n_prompt: int, n_completion: int, times_s: tuple[float, float, float],
        reasons: Iterable[str],
    ) -> None:  # fmt: skip
        """The answer is whole.

        Args:
            times_s: in the worker's queue, of the prefill, and of the decoding.
            reasons: why each choice ended.
        """
        model, key = self._model, self._key
        model.whole.observe(time.perf_counter() - self._arrived_s)
        queue_s, prefill_s, decode_s = times_s
        model.queue.observe(self._waited_s + queue_s)
        model.prefill.observe(prefill_s)
        model.decode.observe(decode_s)
        model.prompt_tokens.observe(n_prompt)
        model.completion_tokens.observe(n_completion)
        model.ended_by.update(reasons)
        key.prompt_tokens += n_prompt
        key.completion_tokens += n_completion

    def end(self) -> None:
        """Nothing more comes, whatever the reason; in `finally`, and once."""
        if self._waits:
            self._model.n_waiting -= 1
        else:
            self._model.n_running -= 1
