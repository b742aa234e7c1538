"""The one thread that uses the model: it takes waiting rows, runs them, and returns the vectors.

Whenever it is idle it takes what is queued at once; it never waits on a timer for more.
"""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

from common.freed_memory import return_freed_memory
from embed_worker.engine.pending_row import PendingRow
from embed_worker.engine.queue import Queue
from embed_worker.engine.runner import BatchFailed, EncoderRunner

log = logging.getLogger(__name__)


def run_engine(
    queue: Queue,
    runner: EncoderRunner,
    *,
    together: Callable[[], AbstractContextManager[None]] = nullcontext,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Run until the queue is closed and empty.

    Args:
        together: a context in which the calls that a batch completes are answered.
    """
    while (batch := queue.take()) is not None:
        if not batch:
            runner.shed()
            return_freed_memory()
            continue
        began_s = clock()
        _encode(queue, runner, batch, together)
        queue.ran(sum(entry.n_tokens for entry in batch), clock() - began_s)


def _encode(
    queue: Queue,
    runner: EncoderRunner,
    batch: Sequence[PendingRow],
    together: Callable[[], AbstractContextManager[None]],
) -> None:
    """Encode `batch`; if it fails, each text alone, so that only the texts at fault fail."""
    try:
        vectors = runner.encode([entry.row for entry in batch])
    except BatchFailed:
        if len(batch) == 1:
            log.exception("the model failed on a text of %d tokens", batch[0].n_tokens)
            queue.fail(batch[0])
            return
        log.warning("a batch of %d texts failed, trying one by one", len(batch), exc_info=True)
    else:
        width = len(vectors) // len(batch)
        with together():
            for position, entry in enumerate(batch):
                queue.finish(entry, vectors[position * width : (position + 1) * width])
        return
    for entry in batch:
        if not queue.abandon(entry):
            _encode(queue, runner, [entry], together)
