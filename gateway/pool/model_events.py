"""What happened to the models of a worker, as two of its reports differ.

A worker reports sums, so nothing is missed between two reports, however quick it was.
"""

import time
from collections.abc import Iterator
from typing import Literal, NamedTuple

from protos.y26hkx.v1 import worker_pb2

Happened = Literal["loaded", "unloaded", "load_failed", "crashed", "worker_started"]
_SUMS: tuple[tuple[str, Happened], ...] = (
    ("load_failures", "load_failed"),
    ("loads", "loaded"),
    ("crashes", "crashed"),
    ("unloads", "unloaded"),
)


class ModelEvent(NamedTuple):
    """
    Args:
        at_s: when it was heard of, in seconds since the epoch.
        model: its id; "" for an event of the worker itself.
        detail: the reason of a failure, or what the loaded model gave up to fit; may be empty.
        n_bytes: resident bytes of a loaded model, or those that an unload freed; 0: unknown.
        seconds: how long a load took; 0: no load.
    """

    at_s: float
    event: Happened
    model: str
    detail: str = ""
    n_bytes: int = 0
    seconds: float = 0.0


def events_between(
    before: worker_pb2.WorkerStatus, after: worker_pb2.WorkerStatus
) -> Iterator[ModelEvent]:
    """The events between two reports of a worker, in the order in which they are likely."""
    if not before.worker_id:
        return
    now_s = time.time()
    is_same = before.worker_id == after.worker_id
    if not is_same:
        yield ModelEvent(now_s, "worker_started", "")
    known = {model.id: model for model in before.models} if is_same else {}
    for model in after.models:
        earlier = known.get(model.id, worker_pb2.Model())
        for name, event in _SUMS:
            if getattr(model.counters, name) > getattr(earlier.counters, name):
                yield _described(now_s, event, earlier, model)


def _described(
    now_s: float, event: Happened, earlier: worker_pb2.Model, model: worker_pb2.Model
) -> ModelEvent:
    if event == "loaded":
        took_s = model.counters.load_seconds_sum - earlier.counters.load_seconds_sum
        reduced = "; ".join(model.reductions)
        return ModelEvent(now_s, event, model.id, reduced, model.resident_bytes, took_s)
    if event == "unloaded":
        return ModelEvent(now_s, event, model.id, n_bytes=model.freed_bytes)
    return ModelEvent(now_s, event, model.id, model.failure)
