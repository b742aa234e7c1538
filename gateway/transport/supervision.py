"""What the supervisor, where there is one, tells of the stack's services: which run, and why others
do not. It writes a line to this process's stdin whenever that changes.
"""

import logging
import time
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

log = logging.getLogger(__name__)


class ServiceCondition(BaseModel):
    """As `cli.service.Condition`, which it is made from, describes it."""

    state: Literal["running", "restarting", "breaker_open", "given_up"]
    n_restarts: int
    reason: str
    next_start_in_s: float | None


class _Told(BaseModel):
    services: dict[str, ServiceCondition]


class Supervision:
    """The latest that was heard; nothing without a supervisor."""

    def __init__(self) -> None:
        self._services: dict[str, ServiceCondition] = {}
        self._heard_at_s = 0.0

    def hear(self, line: bytes) -> None:
        """Take what the supervisor wrote; called from the thread that reads it."""
        try:
            services = _Told.model_validate_json(line).services
        except ValidationError:
            log.warning("stdin has a line that no supervisor of ours wrote")
            return
        self._heard_at_s = time.monotonic()
        self._services = services

    def services(self) -> dict[str, dict[str, Any]]:
        """How each service is now, by name."""
        passed_s = time.monotonic() - self._heard_at_s
        found = {name: service.model_dump() for name, service in self._services.items()}
        for service in found.values():
            if service["next_start_in_s"] is not None:
                left_s = max(0.0, service["next_start_in_s"] - passed_s)
                service["next_start_in_s"] = round(left_s, 1)
        return found

    def warnings(self) -> list[str]:
        """What of it an operator should look at."""
        states = {service.state for service in self._services.values()}
        return ["service_keeps_crashing"] if states & {"breaker_open", "given_up"} else []
