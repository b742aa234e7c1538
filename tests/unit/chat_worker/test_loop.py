"""The loop with real threads over the fake runner."""

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from chat_worker.engine.loop import EngineLoop
from chat_worker.engine.outputs import (
    EngineOutput,
    QueuePosition,
    SampledToken,
    SequenceAdmitted,
    SequenceEnded,
    SequenceFailed,
)
from chat_worker.engine.runner import ScheduledTokens
from chat_worker.engine.sampling import ConstraintFailed, LogitsRow, Sampler, SamplingParams
from chat_worker.engine.sequence import Sequence
from tests.unit.chat_worker.fake_runner import FakeRunner, continuation, limits

WAIT_S = 20


def sequence(
    prompt: list[int], n_new: int = 4, call_id: int = 0, n_top: int | None = None
) -> Sequence:
    return Sequence(
        call_id=call_id,
        choice=0,
        tokens=list(prompt),
        limit=len(prompt) + n_new,
        sampler=Sampler(SamplingParams(temperature=0), prompt),
        n_top=n_top,
    )


class Observed:
    """A loop and what it reports."""

    def __init__(self, runner: FakeRunner) -> None:
        self.reports: queue.SimpleQueue[EngineOutput] = queue.SimpleQueue()
        self.died = threading.Event()
        self.loop = EngineLoop(runner, self._note, self.died.set)

    def _note(self, reports: list[EngineOutput]) -> None:
        for report in reports:
            self.reports.put(report)

    def until_ended(self, n_ends: int) -> list[EngineOutput]:
        seen: list[EngineOutput] = []
        while sum(isinstance(report, SequenceEnded | SequenceFailed) for report in seen) < n_ends:
            seen.append(self.reports.get(timeout=WAIT_S))
        return seen


@contextmanager
def running(runner: FakeRunner) -> Iterator[Observed]:
    observed = Observed(runner)
    observed.loop.start()
    try:
        yield observed
    finally:
        observed.loop.close(WAIT_S)


def tokens_of(reports: list[EngineOutput], one: Sequence) -> list[int]:
    return [r.token for r in reports if isinstance(r, SampledToken) and r.sequence is one]


def test_each_sequence_gets_its_tokens_in_order_and_one_end() -> None:
    several = [sequence([i, i + 1], n_new=5 + i) for i in range(6)]
    prompts = [list(one.tokens) for one in several]
    with running(FakeRunner()) as observed:
        observed.loop.begin(several)
        reports = observed.until_ended(6)
    for i, one in enumerate(several):
        assert tokens_of(reports, one) == continuation(prompts[i], 5 + i)
    ends = [report for report in reports if isinstance(report, SequenceEnded)]
    assert {report.reason for report in ends} == {"length"}


def test_an_end_token_ends_without_being_reported() -> None:
    one = sequence([1, 2, 3], n_new=10)
    expected = continuation([1, 2, 3], 3)
    one.end_tokens = frozenset({expected[2]})
    with running(FakeRunner()) as observed:
        observed.loop.begin([one])
        reports = observed.until_ended(1)
    assert tokens_of(reports, one) == expected[:2]
    assert reports[-1] == SequenceEnded(one, "stop")


def test_a_failing_sequence_fails_alone() -> None:
    poison, good = sequence([5, 5]), sequence([6, 6], n_new=6)
    runner = FakeRunner(fails=lambda items: any(item.sequence is poison for item in items))
    with running(runner) as observed:
        observed.loop.begin([good, poison])
        reports = observed.until_ended(2)
        after = sequence([5, 5])
        observed.loop.begin([after])
        reports_after = observed.until_ended(1)
    assert SequenceFailed(poison) in reports
    assert tokens_of(reports, good) == continuation([6, 6], 6)
    assert tokens_of(reports_after, after) == continuation([5, 5], 4)


class DeadEnd:
    """A constraint that cannot go on after two tokens."""

    is_complete = False

    def __init__(self) -> None:
        self._n_left = 2

    def mask(self, logits: LogitsRow) -> None:
        if not self._n_left:
            raise ConstraintFailed
        self._n_left -= 1

    def accept(self, token: int) -> None:
        pass


def test_a_grammar_that_leads_nowhere_fails_its_own_sequence_only() -> None:
    lost, good = sequence([5, 5], n_new=6), sequence([6, 6], n_new=6)
    lost.sampler = Sampler(SamplingParams(temperature=0), [5, 5], constraint=DeadEnd())
    with running(FakeRunner()) as observed:
        observed.loop.begin([good, lost])
        reports = observed.until_ended(2)
        assert not observed.died.is_set()
    assert SequenceFailed(lost, by_constraint=True) in reports
    assert tokens_of(reports, good) == continuation([6, 6], 6)


def test_a_step_that_fails_once_fails_nobody() -> None:
    failed: list[int] = []

    def fails_once(items: list[ScheduledTokens]) -> bool:
        if len(items) > 1 and not failed:
            failed.append(1)
            return True
        return False

    several = [sequence([i]) for i in range(3)]
    with running(FakeRunner(fails=fails_once)) as observed:
        observed.loop.begin(several)
        reports = observed.until_ended(3)
    assert failed
    for i, one in enumerate(several):
        assert tokens_of(reports, one) == continuation([i], 4)


def test_a_dying_loop_tells() -> None:
    def breaks(items: list[ScheduledTokens]) -> None:
        raise ValueError("unexpected")

    with running(FakeRunner(before_run=breaks)) as observed:
        observed.loop.begin([sequence([1])])
        assert observed.died.wait(WAIT_S)


def test_an_ended_sequence_is_computed_no_further_than_the_step_it_was_in() -> None:
    one, other = sequence([1], n_new=200), sequence([2], n_new=200)
    in_step, go_on = threading.Event(), threading.Event()

    def pause(items: list[ScheduledTokens]) -> None:
        if one.n_generated == 3:
            in_step.set()
            assert go_on.wait(WAIT_S)

    runner = FakeRunner(before_run=pause)
    with running(runner) as observed:
        observed.loop.begin([one, other])
        assert in_step.wait(WAIT_S)
        observed.loop.end([one])
        go_on.set()
        observed.until_ended(1)
    assert one.n_generated <= 4
    assert other.n_generated == 200


def test_those_who_wait_are_told_their_place_and_when_it_changes() -> None:
    several = [sequence([i] * 3, n_new=5 + 5 * i) for i in range(4)]
    with running(FakeRunner(limits(n_parallel=1))) as observed:
        observed.loop.begin(several)
        reports = observed.until_ended(4)
    last = several[3]
    places = [r.position for r in reports if isinstance(r, QueuePosition) and r.sequence is last]
    assert places == [3, 2, 1]
    assert sum(isinstance(report, SequenceAdmitted) for report in reports) == 4


def test_an_idle_loop_runs_nothing_and_closing_frees_the_runner() -> None:
    runner = FakeRunner()
    with running(runner) as observed:
        observed.loop.begin([sequence([1])])
        observed.until_ended(1)
        n_steps = len(runner.steps)
    assert len(runner.steps) == n_steps
    assert runner.is_closed


def test_what_slots_hold_is_shed_once_nothing_runs_and_computed_anew() -> None:
    runner = FakeRunner()
    first, second = sequence([1, 2, 3], n_new=30), sequence([1, 2, 3])
    with running(runner) as observed:
        observed.loop.begin([first])
        observed.loop.shed()
        observed.until_ended(1)
        observed.loop.begin([second])
        observed.until_ended(1)
    assert second.n_cached == 0
    assert runner.n_sheds == 1


def test_a_sequence_that_comes_before_it_happens_keeps_the_cache() -> None:
    first, second = sequence([1, 2, 3]), sequence([1, 2, 3])

    def come_in_the_middle(items: list[ScheduledTokens]) -> None:
        if len(runner.steps) == 1:
            observed.loop.shed()
            observed.loop.begin([second])

    runner = FakeRunner(before_run=come_in_the_middle)
    with running(runner) as observed:
        observed.loop.begin([first])
        observed.until_ended(2)
    assert runner.n_sheds == 0


def test_prompt_tokens_are_scored_once_each_even_in_chunks() -> None:
    from chat_worker.engine.outputs import PromptScored

    prompt = [i % 50 for i in range(100)]
    one = sequence(prompt, n_new=1, n_top=2)
    one.score_prompt = True
    one.__post_init__()
    with running(FakeRunner(limits(n_rows=16))) as observed:
        observed.loop.begin([one])
        reports = observed.until_ended(1)
    scored = [s for r in reports if isinstance(r, PromptScored) for s in r.scores]
    assert [s.token for s in scored] == prompt[1:]
    assert all(len(s.top) == 2 for s in scored)
