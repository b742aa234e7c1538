"""The steps of a generation in its engine process, which measures them and exports nothing."""

import time

from chat_worker.pipe_messages import Finished
from common import tracing
from worker_runtime.lifecycle.leases import Lease


def trace_engine(finished: Finished, lease: Lease) -> None:
    """Add the spans of a generation that has just ended to the trace of this task's call."""
    call = tracing.current.get()
    if call is None:
        return
    facts: dict[str, tracing.Value] = {
        "gen_ai.response.model": lease.entry.id,
        "process.pid": lease.engine.pid,
    }
    counts = {
        "queue": {},
        "prefill": {
            "gen_ai.usage.input_tokens": finished.prompt_tokens,
            "gen_ai.usage.cache_read.input_tokens": finished.cached_tokens,
        },
        "decode": {"gen_ai.usage.output_tokens": finished.completion_tokens},
    }
    times_s = (finished.queue_s, finished.prefill_s, finished.decode_s)
    began_s = time.time() - sum(times_s)
    for (name, counted), took_s in zip(counts.items(), times_s, strict=True):
        step = call.child(name, facts | counted, began_s=began_s)
        began_s += took_s
        step.end(at_s=began_s)
