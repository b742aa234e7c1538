"""Ends a model's process and measures the memory that this frees."""

import logging
from collections.abc import Callable

import msgspec

from worker_runtime.engine_process.interface import EngineProcess
from worker_runtime.lifecycle.snapshot import ModelState
from worker_runtime.memory.probe import MemoryProbe

log = logging.getLogger(__name__)


class Freed(msgspec.Struct, frozen=True):
    """The memory that an unload freed, measured in bytes."""

    # Resident bytes of the process before it ended; 0 if there was no process.
    resident_bytes: int = 0
    # Growth of the machine's available memory; other programs change that too.
    regained_bytes: int = 0
    # Requests that ran when it was asked for.
    n_running: int = 0


async def unload_engine(
    model: str,
    engine: EngineProcess,
    probe: MemoryProbe,
    grace_s: float,
    *,
    at_once: bool,
    enter: Callable[[ModelState], None],
) -> Freed:
    """Stop `engine` and return how much memory that freed.

    Args:
        at_once: kill the process instead of asking it to stop.
        enter: called with each state that the model enters.
    """
    enter(ModelState.UNLOADING)
    resident, before = engine.resident_bytes(), probe.machine().available_bytes
    if at_once:
        engine.kill()
    report = await engine.stop(grace_s)
    enter(ModelState.VERIFYING)
    regained = probe.machine().available_bytes - before
    log.info(
        "model %s is unloaded (%s): it held %d MiB, available memory changed by %+d MiB",
        model,
        report,
        resident >> 20,
        regained >> 20,
    )
    return Freed(resident, regained)
