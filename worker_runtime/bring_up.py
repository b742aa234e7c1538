"""Starts a process and loads a model into it; whatever goes wrong, no process is left behind."""

from protos.errors import BackendLoadFailed, WorkerLost
from worker_runtime.catalog import ModelEntry
from worker_runtime.clock import Clock
from worker_runtime.launcher import EngineProcess, Launcher, OnProgress
from worker_runtime.leases import LoadedModel
from worker_runtime.load_failures import died_while_loading, explained, raised_while_loading
from worker_runtime.policy import LifecyclePolicy


async def bring_up(
    entry: ModelEntry,
    launcher: Launcher,
    policy: LifecyclePolicy,
    clock: Clock,
    on_progress: OnProgress,
) -> LoadedModel:
    """`entry` loaded in a process of its own. Cancelling ends the process.

    Raises:
        ServingError: why it could not be loaded, for the client.
    """
    try:
        engine = await launcher.start(entry)
    except OSError as error:
        raise raised_while_loading(entry.backend, error) from error
    on_progress(0.0, "starting")
    loaded: LoadedModel | None = None
    try:
        facts = await engine.load(entry.load_spec, on_progress)
        loaded = LoadedModel(entry, engine, facts, clock, policy.idle_timeout_s)
    except WorkerLost:
        raise died_while_loading(entry.backend, await engine.wait()) from None
    except BackendLoadFailed as error:
        raise explained(entry.backend, error) from None
    finally:
        if loaded is None:
            await _end(engine, policy.stop_grace_s)
    return loaded


async def _end(engine: EngineProcess, grace_s: float) -> None:
    if engine.exit is None:
        await engine.stop(grace_s)
