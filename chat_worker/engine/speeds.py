"""Measures how fast a runner computes a prompt and an answer."""

import time
from collections.abc import Callable
from typing import NamedTuple

from chat_worker.engine.runner import ModelRunner, ScheduledTokens, TruncateSlot
from chat_worker.engine.sampling import Sampler, SamplingParams
from chat_worker.engine.sequence import Sequence

N_PROMPT = 256
N_ANSWER = 16
ROUNDS = 3
# No further round begins after so many seconds.
ENOUGH_S = 5.0


class MeasuredSpeeds(NamedTuple):
    """Tokens per second of one request alone."""

    prompt: float
    answer: float


def measured_speeds(
    runner: ModelRunner, clock: Callable[[], float] = time.perf_counter
) -> MeasuredSpeeds:
    """The best of a few rounds, because other programs can only slow one down. The first round of
    several also makes what a library prepares when it computes for the first time.

    Raises:
        RunFailed: the runner cannot compute.
    """
    limits = runner.limits
    n_prompt = min(N_PROMPT, limits.n_batch, limits.n_ctx - N_ANSWER)
    tokens = [2 + i % (min(limits.n_vocab, 1000) - 2) for i in range(n_prompt + N_ANSWER)]
    sampler = Sampler(SamplingParams(), [])
    sequence = Sequence(call_id=0, choice=0, tokens=tokens, limit=len(tokens), sampler=sampler)

    def seconds(start: int, n_tokens: int) -> float:
        began_s = clock()
        runner.run([ScheduledTokens(sequence, 0, start, n_tokens, 1)])
        return clock() - began_s

    prompts: list[float] = []
    answers: list[float] = []
    began_s = clock()
    while len(prompts) < ROUNDS and (not prompts or clock() - began_s < ENOUGH_S):
        prompts.append(seconds(0, n_prompt))
        answers.append(sum(seconds(n_prompt + i, 1) for i in range(N_ANSWER)))
        runner.apply(TruncateSlot(0, 0))
    return MeasuredSpeeds(n_prompt / min(prompts), N_ANSWER / min(answers))
