"""Keeps a process waiting for the next model while nothing is computed and nobody lacks memory.

Its memory counts as the worker's own and is free for loads here, which take the process over or end
it (`engine_process/launcher.py`).
"""

import logging
from collections.abc import Callable
from typing import Never

from worker_runtime.clock import Clock
from worker_runtime.engine_process.interface import Standby
from worker_runtime.memory.admission import MemoryAdmission

# What a process takes before it has a model, rounded up.
STANDBY_BYTES = 64 << 20
# How soon one is started after a load, and ended where memory is short.
LOOK_S = 3.0
# How soon one is tried again that the system did not start.
RETRY_S = 60.0

log = logging.getLogger(__name__)


async def keep_standby(
    standby: Standby, admission: MemoryAdmission, clock: Clock, is_busy: Callable[[], bool]
) -> Never:
    """Start and end the standby as memory allows; it ends with this.

    Args:
        is_busy: whether a request is served or waits, which a start would delay.
    """
    try:
        while True:
            if standby.standby_pid:
                if not admission.can_spare(0):
                    log.info("memory is short: the process that waits for a model is ended")
                    await standby.end_standby()
            elif not is_busy() and admission.can_spare(STANDBY_BYTES):
                try:
                    await standby.prepare_standby()
                except OSError as error:
                    log.warning("no process could be started that waits for a model: %s", error)
                    await clock.sleep(RETRY_S)
            await clock.sleep(LOOK_S)
    finally:
        await standby.end_standby()
