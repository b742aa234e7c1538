"""The one thread that uses the model. Each iteration has these steps:

    drain commands → reap cancelled → schedule → run → commit → emit

The thread blocks on its inbox while there is nothing to do. If it dies, it calls `on_death`, so
that all waiting callers are informed.
"""

import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable

from chat_worker.engine.commands import (
    AddSequences,
    Close,
    Command,
    EndSequences,
    LimitCache,
    ShedCache,
)
from chat_worker.engine.commit import commit
from chat_worker.engine.execution import Execution, Result
from chat_worker.engine.kept_costs import KeptCosts
from chat_worker.engine.output_collector import OutputCollector
from chat_worker.engine.outputs import EngineOutput
from chat_worker.engine.prefix_cache import PrefixCache
from chat_worker.engine.prefix_offload import KeepingRunner, PrefixOffload
from chat_worker.engine.runner import ModelRunner, Plan
from chat_worker.engine.scheduler import Scheduler
from chat_worker.engine.sequence import Sequence
from chat_worker.engine.token_selection import TokenSelection
from chat_worker.engine.turns import ANSWER_WAIT_S

# An engine process must end within five seconds.
PUT_AWAY_WITHIN_S = 3.0


class EngineLoop:
    """Runs sequences until it is closed. Public methods may be called from any thread.

    Args:
        emit: receives the outputs of each step; called on the loop's thread, must not block.
        on_death: called on the loop's thread if an unexpected error ends it.
        prefixes: what slots lose, for later sequences.
        kept_costs: where the measured costs of steps outlive the process; None: nowhere.
        answer_wait_s: the longest wait of answers for the prompts of other requests.
    """

    def __init__(
        self,
        runner: ModelRunner,
        emit: Callable[[list[EngineOutput]], None],
        on_death: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
        prefixes: PrefixCache | None = None,
        kept_costs: KeptCosts | None = None,
        answer_wait_s: float = ANSWER_WAIT_S,
    ) -> None:
        self._prefixes = prefixes or PrefixCache(None)
        self._runner = KeepingRunner(runner, self._prefixes)
        self._on_death = on_death
        self._clock = clock
        self._kept_costs = kept_costs
        known = kept_costs.read() if kept_costs else None
        self._scheduler = Scheduler(runner.limits, answer_wait_s, known)
        self._offload = PrefixOffload(self._prefixes, self._scheduler, self._runner)
        self._scheduler.bring_back = self._offload.bring_back
        self._execution = Execution(self._runner, self._scheduler, clock)
        self._outputs = OutputCollector(emit, clock)
        self._selection = TokenSelection(self._scheduler, self._outputs, clock)
        self._inbox: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self._cancelled: list[Sequence] = []
        self._is_to_shed = False
        self._is_closing = False
        self._thread = threading.Thread(target=self._main, name="engine", daemon=True)

    # Methods for every thread.

    def start(self) -> None:
        self._thread.start()

    def begin(self, sequences: list[Sequence]) -> None:
        now = self._clock()
        for sequence in sequences:
            sequence.submitted_s = now
        self._inbox.put(AddSequences(sequences))

    def end(self, sequences: list[Sequence]) -> None:
        self._inbox.put(EndSequences(sequences))

    def shed(self) -> None:
        self._inbox.put(ShedCache())

    def limit_cache(self, max_bytes: int) -> None:
        self._inbox.put(LimitCache(max_bytes))

    def close(self, timeout_s: float) -> None:
        """Stop after the current step and free the model."""
        self._inbox.put(Close())
        self._thread.join(timeout_s)

    # Methods for the loop's own thread.

    def _main(self) -> None:
        try:
            while self._drain():
                self._reap()
                plan = self._schedule()
                for result in self._execution.run(plan):
                    self._commit(result)
                self._outputs.emit()
            self._keep_costs()
            until_s = self._clock() + PUT_AWAY_WITHIN_S
            self._offload.put_away(lambda: self._clock() < until_s)
            self._runner.close()
        except Exception:  # noqa: BLE001 - the thread's outermost loop: callers must be informed
            traceback.print_exc(file=sys.stderr)
            self._on_death()

    def _drain(self) -> bool:
        """Take all commands; block for one while idle. Returns False if the loop is to close."""
        if self._scheduler.is_idle:
            self._rest()
            self._obey(self._inbox.get())
        while not self._inbox.empty():
            self._obey(self._inbox.get_nowait())
        return not self._is_closing

    def _obey(self, command: Command) -> None:
        match command:
            case AddSequences(sequences):
                self._is_to_shed = False
                for sequence in sequences:
                    self._scheduler.add(sequence)
            case EndSequences(sequences):
                self._cancelled += sequences
            case ShedCache():
                self._is_to_shed = True
            case LimitCache(max_bytes):
                self._prefixes.limit(max_bytes)
            case Close():
                self._is_closing = True

    def _rest(self) -> None:
        """Bring everything in order before the loop becomes idle."""
        for op in self._scheduler.pending_ops():
            self._runner.apply(op)
        if self._is_to_shed:
            # What arrives goes first; only new sequences cancel it.
            self._is_to_shed = not self._offload.shed(self._inbox.empty)
        self._scheduler.slots.check_integrity(self._runner.length)

    def _keep_costs(self) -> None:
        measured = self._scheduler.costs.measured
        if self._kept_costs is not None and (measured.steps or measured.answers):
            self._kept_costs.write(measured)

    def _reap(self) -> None:
        """Remove cancelled sequences before any time is spent on them."""
        for sequence in self._cancelled:
            self._scheduler.remove(sequence)
        self._cancelled.clear()

    def _schedule(self) -> Plan:
        plan, admissions = self._scheduler.schedule()
        self._outputs.admitted(admissions)
        self._outputs.waiting(self._scheduler.waiting)
        # Emitted at once, because the next computation may take long.
        self._outputs.emit()
        return plan

    def _commit(self, result: Result) -> None:
        self._prefixes.learn(sum(item.size for item in result.items), result.seconds)
        commit(result, self._scheduler, self._selection, self._outputs)
