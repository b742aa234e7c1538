"""Machines that take the time that was measured, on a clock that only they advance.

They run our scheduler, or a queue in order (as llama-server has it: each step takes the next tokens
of all answers, and as many tokens of the prompts as its batch has room for), under agents that come
back as soon as they were answered.
"""

import heapq
import itertools
import math
from collections.abc import Sequence as Rows
from dataclasses import dataclass, field

from chat_worker.engine.runner import Limits, ScheduledTokens
from chat_worker.engine.scheduler import Scheduler
from chat_worker.engine.sequence import Sequence
from tests.unit.chat_worker.fake_runner import limits
from tests.unit.chat_worker.scheduling import sequence

N_BATCH = 2048


@dataclass(frozen=True)
class Machine:
    """Seconds of a model's steps on a machine.

    Args:
        fixed_s: of a step with a prompt: the weights are read.
        token_s: of each of its tokens.
        deeper_s: of each token for each token before it.
        answers_s: of a step with the next tokens of 1, 2, … sequences.
        splits: prompts and answers of a step are computed apart.
    """

    name: str
    fixed_s: float
    token_s: float
    deeper_s: float
    answers_s: tuple[float, ...]
    splits: bool = True

    def seconds(self, prompts: list[tuple[int, int]], n_answers: int) -> float:
        """Of a step with pieces of prompts, by their numbers of tokens and depths."""
        answers_s = self.answers_s[min(n_answers, len(self.answers_s)) - 1] if n_answers else 0.0
        if not prompts:
            return answers_s
        tokens_s = sum(n * (self.token_s + (depth + n / 2) * self.deeper_s) for n, depth in prompts)
        if self.splits:
            return self.fixed_s + tokens_s + answers_s
        return max(self.fixed_s, answers_s) + tokens_s + n_answers * self.token_s


def _ms(*figures: float) -> tuple[float, ...]:
    return tuple(figure / 1000 for figure in figures)


# The first two were measured with the 0.5B model of `run.py bench make-model` in Q4_K_M, on two
# cores of an AMD EPYC, with AVX-512 (Zen 5) and without (Zen 3); the first one's steps of more than
# four answers follow from its tokens/s at 8 and 16 clients. The others are made up: the third after
# a few figures of two cores of an Intel Xeon with AMX, the fourth after OpenVINO's on the same, the
# fifth as another processor without AVX-512, the sixth as a model of 7B. The last two compute a
# mixed step as one batch: a processor with an 8-bit cache in one pool, a GPU.
EPYC_ANSWERS_S = _ms(19, 40, 51, 55, 60, 65, 70, 74, 77, 81, 84, 87, 90, 94, 97, 100)
AVX2_ANSWERS_S = _ms(29, 54, 79, 80, 114, 123, 152, 169, 190, 192, 221, 227, 237, 243, 265, 267)
EPYC = Machine("EPYC", 0.02, 3.3e-3, 4.9e-7, EPYC_ANSWERS_S)
EPYC_WITH_AVX2 = Machine("EPYC with AVX2", 0.03, 8.3e-3, 1.2e-6, AVX2_ANSWERS_S)
MACHINES = (
    EPYC,
    EPYC_WITH_AVX2,
    Machine("Xeon with AMX", 0.06, 4.3e-3, 5e-7, (0.042, 0.06, 0.08, 0.09)),
    Machine("OpenVINO", 0.02, 1.2e-3, 3e-7, (0.027, 0.033, 0.04, 0.048)),
    Machine("AVX2", 0.05, 0.012, 1.2e-6, (0.045, 0.08, 0.11, 0.13)),
    Machine("7B", 0.5, 0.08, 4e-6, (0.4, 0.45, 0.5, 0.55)),
    Machine("one pool", 0.05, 4e-3, 6e-7, (0.045, 0.06, 0.07, 0.08), splits=False),
    Machine("GPU", 0.012, 1e-4, 1e-8, (0.012, 0.0125, 0.013, 0.0135), splits=False),
)


@dataclass
class Answer:
    """When a request came, and its tokens."""

    came_s: float
    n_prompt: int
    times_s: list[float] = field(default_factory=list)

    @property
    def first_s(self) -> float:
        return self.times_s[0] - self.came_s

    @property
    def gaps_s(self) -> list[float]:
        return [b - a for a, b in itertools.pairwise(self.times_s)]


@dataclass
class Measured:
    wall_s: float
    answers: list[Answer]
    # Of each step: tokens of prompts, answers, seconds.
    steps: list[tuple[int, int, float]]

    def first_s(self, share: float) -> float:
        return quantile([answer.first_s for answer in self.answers], share)

    def gap_s(self, share: float) -> float:
        return quantile([gap for answer in self.answers for gap in answer.gaps_s], share)


def quantile(figures: Rows[float], share: float) -> float:
    return sorted(figures)[max(math.ceil(share * len(figures)) - 1, 0)]


@dataclass(frozen=True)
class Turn:
    """One request of an agent: what is new in its prompt, and the length of its answer."""

    prompt: list[int]
    n_tokens: int


class Server:
    """What both kinds of server have: the requests, the clock and the measurements.

    Args:
        agents: the turns of each, one after the other, and when it begins.
    """

    def __init__(self, machine: Machine, agents: list[tuple[float, list[Turn]]]) -> None:
        self.machine = machine
        self.now_s = 0.0
        self.measured = Measured(0.0, [], [])
        self._turns = [iter(turns) for _, turns in agents]
        self._coming = [(begin_s, number) for number, (begin_s, _) in enumerate(agents)]
        heapq.heapify(self._coming)
        self._answers: dict[Sequence, tuple[Answer, int]] = {}
        self._history: dict[int, list[int]] = {number: [] for number in range(len(agents))}

    def arrived(self) -> list[Sequence]:
        """The requests that have come since the last call; waits for one if nothing is open."""
        if not self._answers and self._coming:
            self.now_s = max(self.now_s, self._coming[0][0])
        found = []
        while self._coming and self._coming[0][0] <= self.now_s:
            came_s, number = heapq.heappop(self._coming)
            turn = next(self._turns[number], None)
            if turn is None:
                continue
            made = sequence([*self._history[number], *turn.prompt], n_new=turn.n_tokens)
            self._answers[made] = Answer(came_s, made.n_prompt), number
            found.append(made)
        return found

    @property
    def is_busy(self) -> bool:
        return bool(self._answers or self._coming)

    def took(self, n_prompt_tokens: int, n_answers: int, seconds: float) -> None:
        self.now_s += seconds
        self.measured.steps.append((n_prompt_tokens, n_answers, seconds))
        self.measured.wall_s = self.now_s

    def answered(self, one: Sequence) -> bool:
        """The sequence has a new token; True if it was the last."""
        answer, number = self._answers[one]
        answer.times_s.append(self.now_s)
        one.tokens.append(len(one.tokens) % 61)
        if len(one.tokens) < one.limit:
            return False
        self.measured.answers.append(answer)
        del self._answers[one]
        self._history[number] = list(one.tokens)
        heapq.heappush(self._coming, (self.now_s, number))
        return True


def ours(
    machine: Machine,
    agents: list[tuple[float, list[Turn]]],
    bounds: Limits | None = None,
    answer_wait_s: float = 2.5,
) -> Measured:
    server = Server(machine, agents)
    scheduler = Scheduler(bounds or slots(splits=machine.splits), answer_wait_s)
    while server.is_busy:
        for one in server.arrived():
            scheduler.add(one)
        plan, admissions = scheduler.schedule()
        for admission in admissions:
            admission.sequence.n_cached = admission.n_cached
        if not plan.items:
            continue
        prompts = [item for item in plan.items if item.n_tokens > 1]
        pieces = [(item.n_tokens, item.start) for item in prompts]
        n_answers = len(plan.items) - len(prompts)
        seconds = machine.seconds(pieces, n_answers)
        server.took(sum(n for n, _ in pieces), n_answers, seconds)
        scheduler.commit(plan.items, seconds)
        _tell(server, scheduler, plan.items)
    return server.measured


def _tell(server: Server, scheduler: Scheduler, items: list[ScheduledTokens]) -> None:
    for item in items:
        if item.completes and server.answered(item.sequence):
            scheduler.remove(item.sequence)


def in_order(
    machine: Machine, agents: list[tuple[float, list[Turn]]], n_slots: int = 4
) -> Measured:
    """Each slot keeps its conversation, and shares nothing with others."""
    server = Server(machine, agents)
    waiting: list[Sequence] = []
    running: list[Sequence] = []
    cached: dict[tuple[int, ...], int] = {}
    while server.is_busy:
        waiting += server.arrived()
        while waiting and len(running) < n_slots:
            running.append(waiting.pop(0))
            running[-1].n_computed = _known(running[-1], cached)
        answering = [one for one in running if one.n_pending == 1]
        room = N_BATCH - len(answering)
        pieces: list[tuple[Sequence, int]] = []
        for one in running:
            share = min(one.n_pending, room) if one.n_pending > 1 else 0
            if share:
                pieces.append((one, share))
                room -= share
        seconds = machine.seconds([(n, one.n_computed) for one, n in pieces], len(answering))
        server.took(N_BATCH - len(answering) - room, len(answering), seconds)
        for one, share in [*pieces, *((one, 1) for one in answering)]:
            one.n_computed += share
            if not one.n_pending and server.answered(one):
                running.remove(one)
                cached[tuple(one.tokens[:32])] = len(one.tokens) - 1
    return server.measured


def _known(one: Sequence, cached: dict[tuple[int, ...], int]) -> int:
    """A conversation that came back finds its own tokens."""
    return min(cached.get(tuple(one.tokens[:32]), 0), len(one.tokens) - 1)


def slots(**changed: int | bool) -> Limits:
    """Four sequences at once, and prefixes of all agents are kept."""
    bounds: dict[str, int | bool] = {
        "n_parallel": 4,
        "n_slots": 24,
        "n_cells": 24 * 16384,
        "n_ctx": 16384,
        "n_batch": N_BATCH,
        "n_rows": 64,
    }
    return limits(**(bounds | changed))
