"""The conditions of the stack's services: which run, and why others do not.

The supervisor, if there is one, writes a line to this process's stdin whenever they change.
"""

import logging
import time
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

log = logging.getLogger(__name__)


class ServiceCondition(BaseModel):
    """See `cli.service.Condition`, from which it is made."""

    state: Literal["running", "restarting", "breaker_open", "given_up"]
    n_restarts: int
    reason: str
    next_start_in_s: float | None


class _Conditions(BaseModel):
    services: dict[str, ServiceCondition]


class Supervision:
    """The latest conditions; none without a supervisor."""

    def __init__(self) -> None:
        self._services: dict[str, ServiceCondition] = {}
        self._received_s = 0.0

    def hear(self, line: bytes) -> None:
        """Read a line of the supervisor; called from the thread that reads stdin."""
        try:
            services = _Conditions.model_validate_json(line).services
        except ValidationError:
            log.warning("stdin has a line that is not from the supervisor")
            return
        self._received_s = time.monotonic()
        self._services = services

    def services(self) -> dict[str, dict[str, Any]]:
        """The condition of each service now, by name."""
        passed_s = time.monotonic() - self._received_s
        found = {name: service.model_dump() for name, service in self._services.items()}
        for service in found.values():
            if service["next_start_in_s"] is not None:
                left_s = max(0.0, service["next_start_in_s"] - passed_s)
                service["next_start_in_s"] = round(left_s, 1)
        return found

    def warnings(self) -> list[str]:
        """Ids of conditions that an operator should look at."""
        states = {service.state for service in self._services.values()}
        return ["service_keeps_crashing"] if states & {"breaker_open", "given_up"} else []
