"""Records the result of a batch: in the cache's bookkeeping, prompt scores and new tokens."""

from chat_worker.engine.execution import Result
from chat_worker.engine.output_collector import OutputCollector
from chat_worker.engine.prompt_scoring import score_prompt
from chat_worker.engine.scheduler import Scheduler
from chat_worker.engine.token_selection import TokenSelection


def commit(
    result: Result, scheduler: Scheduler, selection: TokenSelection, outputs: OutputCollector
) -> None:
    """Record what was computed of each item: its prompt's scores, then its next tokens."""
    if result.rows is None:
        for item in result.items:
            selection.fail(item.sequence)
        return
    scheduler.commit(result.items, result.seconds)
    at = 0
    for item in result.items:
        own = result.rows[at : at + item.n_rows]
        at += item.n_rows
        if item.sequence.n_unscored:
            outputs.add(score_prompt(item, own))
        if item.completes:
            selection.choose(item, own[item.n_rows - 1 - len(item.guess) :])
