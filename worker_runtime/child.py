"""The worker's side of the pipe: starts an engine process, sends calls, hands out their events."""

from worker_runtime.launcher import EngineProcess, ExitReport, Launcher

__all__ = ["EngineProcess", "ExitReport", "Launcher"]
