"""An engine process that gives chat templates an hour, so that a cancellation alone ends one that
never does; with the argument `worker`, a chat worker that starts such processes."""

import sys

from msgspec import Raw

from chat_worker import pipe_messages as m
from chat_worker import preparation
from chat_worker.engine_process import ChatEngine
from chat_worker.text import render_limits
from worker_runtime.engine_process.host import host_engine

HOUR_S = 3600.0
AS_WORKER = "worker"


class PatientEngine(ChatEngine):
    def load(self, spec: Raw) -> m.Facts:
        """With the usual limit, as a load tries the template."""
        facts = super().load(spec)
        preparation.LIMIT_S = render_limits.LIMIT_CPU_S = HOUR_S
        return facts


def main() -> None:
    if AS_WORKER not in sys.argv:
        host_engine(PatientEngine)
        return
    from chat_worker import __main__, discovery

    discovery.ENGINE_MODULE = "tests.unit.chat_worker.patient_engine"
    __main__.main()


if __name__ == "__main__":
    main()
