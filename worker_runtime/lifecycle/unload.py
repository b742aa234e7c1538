"""Ends a model's process and measures what that gives back."""

import logging
from collections.abc import Callable

import msgspec

from worker_runtime.engine_process.interface import EngineProcess
from worker_runtime.lifecycle.snapshot import ModelState
from worker_runtime.memory.probe import MemoryProbe

log = logging.getLogger(__name__)


class Freed(msgspec.Struct, frozen=True):
    # Resident bytes of the process before it ended; 0 if there was none.
    resident_bytes: int = 0
    # How much more the machine had available after than just before: others change that too.
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
    """Stop `engine`; returns what that gave back, measured.

    Args:
        at_once: kill it, do not ask.
        enter: told the state that the model is in.
    """
    enter(ModelState.UNLOADING)
    resident, before = engine.resident_bytes(), probe.machine().available_bytes
    if at_once:
        engine.kill()
    report = await engine.stop(grace_s)
    enter(ModelState.VERIFYING)
    regained = probe.machine().available_bytes - before
    log.info(
        "model %s is unloaded (%s): it held %d MiB, the machine has %+d MiB",
        model,
        report,
        resident >> 20,
        regained >> 20,
    )
    return Freed(resident, regained)
