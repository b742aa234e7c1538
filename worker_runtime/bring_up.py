"""Starts a process and loads a model into it; whatever goes wrong, no process is left behind."""

from collections.abc import Callable
from typing import Never

from common.errors import BackendLoadFailed, WorkerLost
from worker_runtime.catalog import ModelEntry
from worker_runtime.clock import Clock
from worker_runtime.engine_process.interface import Launcher, OnProgress
from worker_runtime.engine_process.load_errors import (
    completed,
    died_while_loading,
    load_failed,
    raised_while_loading,
)
from worker_runtime.ladder import Rung
from worker_runtime.leases import LoadedModel
from worker_runtime.policy import LifecyclePolicy
from worker_runtime.races import to_the_end


async def bring_up(
    rung: Rung,
    launcher: Launcher,
    policy: LifecyclePolicy,
    clock: Clock,
    on_progress: OnProgress,
    on_start: Callable[[int], None],
) -> LoadedModel:
    """`rung` loaded in a process of its own. Cancelling ends the process.

    Args:
        on_start: told the process's id before it takes memory.
    Raises:
        ServingError: why it could not be loaded, for the client.
    """
    entry = rung.entry
    try:
        engine = await launcher.start(entry)
    except OSError as error:
        raise raised_while_loading(entry.backend, error) from error
    smaller = f", loading smaller: {'; '.join(rung.reductions)}" if rung.reductions else ""

    def tell(fraction: float, stage: str) -> None:
        on_progress(fraction, stage + smaller)

    loaded: LoadedModel | None = None
    try:
        on_start(engine.pid)
        tell(0.0, "starting")
        facts = await engine.load(entry.load_spec, tell)
        loaded = LoadedModel(rung, engine, facts, clock, policy)
    except WorkerLost:
        raise died_while_loading(entry.backend, await engine.wait()) from None
    except BackendLoadFailed as error:
        raise completed(entry.backend, error) from None
    finally:
        if loaded is None and engine.exit is None:
            # Its memory stays booked until it is gone.
            await to_the_end(engine.stop(policy.stop_grace_s), on_cancel=engine.kill)
    return loaded


async def load_limit(
    entry: ModelEntry, policy: LifecyclePolicy, clock: Clock, left_s: float
) -> Never:
    """
    Args:
        left_s: of the time for a load.
    Raises:
        BackendLoadFailed: when it is over.
    """
    await clock.sleep(left_s)
    raise load_failed(entry.backend, f"it took longer than {policy.load_timeout_s:.0f} s")
