"""Returns unused memory to the system: after start-up, and after caches were dropped."""

from common.freed_memory import return_freed_memory
from common.gc_tuning import freeze_startup_objects


def release_start_up_memory() -> None:
    """Free what only imports needed: some MB of a worker's 50."""
    freeze_startup_objects()
    return_freed_memory()
