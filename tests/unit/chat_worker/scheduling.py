"""Drives a scheduler step by step, without threads or a model."""

from collections.abc import Callable

from chat_worker.engine.disk_prefix_cache import DiskPrefixCache
from chat_worker.engine.prefix_cache import PrefixCache
from chat_worker.engine.prefix_offload import KeepingRunner, PrefixOffload
from chat_worker.engine.runner import Limits, ScheduledTokens
from chat_worker.engine.sampling import Sampler, SamplingParams
from chat_worker.engine.scheduler import Scheduler
from chat_worker.engine.sequence import Sequence
from tests.unit.chat_worker.fake_runner import FakeRunner, FakeStates

GREEDY = SamplingParams(temperature=0)


def sequence(prompt: list[int], n_new: int = 4, salt: str = "", call_id: int = 0) -> Sequence:
    return Sequence(
        call_id=call_id,
        choice=0,
        tokens=list(prompt),
        limit=len(prompt) + n_new,
        sampler=Sampler(GREEDY, prompt),
        salt=salt,
    )


class Driver:
    """Runs a scheduler as the loop does, with time that stands still.

    Args:
        max_bytes: of the prefix cache in memory.
        disk: of the prefix cache.
    """

    def __init__(
        self,
        bounds: Limits | None = None,
        *,
        max_bytes: int = 0,
        disk: DiskPrefixCache | None = None,
        clock: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.runner = FakeRunner(bounds)
        self.scheduler = Scheduler(self.runner.limits)
        self.states = FakeStates(self.runner)
        whole = not self.runner.limits.can_truncate
        self.prefixes = PrefixCache(self.states, disk, whole=whole, clock=clock)
        self.prefixes.limit(max_bytes)
        self.keeping = KeepingRunner(self.runner, self.prefixes)
        self.offload = PrefixOffload(self.prefixes, self.scheduler, self.keeping)
        self.scheduler.bring_back = self.offload.bring_back

    def step(self) -> None:
        plan, admissions = self.scheduler.schedule()
        for admission in admissions:
            admission.sequence.n_cached = admission.n_cached
        for op in plan.ops:
            self.keeping.apply(op)
        if not plan.items:
            return
        rows = iter(self.runner.run(plan.items))
        self.scheduler.commit(plan.items, 0.1)
        for item in plan.items:
            own = [next(rows) for _ in range(item.n_rows)]
            if item.completes:
                item.sequence.tokens.append(item.sequence.sampler.pick(own[-1]))
                if len(item.sequence.tokens) >= item.sequence.limit:
                    self.scheduler.remove(item.sequence)

    def run(self, *sequences: Sequence, most: int = 2000) -> None:
        for one in sequences:
            self.scheduler.add(one)
        for _ in range(most):
            if self.scheduler.is_idle:
                break
            self.step()
        assert self.scheduler.is_idle, "every sequence ends"
        self.scheduler.slots.check_integrity(self.runner.length)


def learn_speed(scheduler: Scheduler, token_s: float, answer_s: float = 0.0) -> None:
    """Let it find that a token of a prompt takes so long, and a step with answers."""
    for n_tokens in (16, 32, 64, 128, 256, 512):
        warm_up = sequence([7] * 600)
        scheduler.add(warm_up)
        scheduler.schedule()
        piece = ScheduledTokens.of(warm_up, n_tokens)
        scheduler.commit([piece], n_tokens * token_s)
        scheduler.forget(warm_up)
    if answer_s:
        scheduler.add(warm_up := sequence([7]))
        plan, _ = scheduler.schedule()
        scheduler.commit([item for item in plan.items if item.sequence is warm_up], answer_s)
        scheduler.forget(warm_up)


def output(one: Sequence) -> list[int]:
    return one.tokens[one.n_prompt :]
